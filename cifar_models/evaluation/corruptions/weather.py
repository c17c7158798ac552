"""Four weather corruptions of CIFAR-10-C; random numbers are drawn per image.

Images are float32 (N, H, W, C), values 0 to 255. Lengths are scaled as in blurs.py.

Source: Hendrycks and Dietterich (2019), arXiv:1903.12261, and the code of its authors.
"""

from dataclasses import dataclass

import numpy as np

from cifar_models.data.grey import LUMA
from cifar_models.evaluation.corruptions.blurs import enlarge, scale_of, smear

GREY_WEIGHTS = np.array(LUMA, np.float32)  # of red, green and blue

# Statistics of the published photographs of frost at a fifth of their size, values 0 to 255.
FROST_RGB = np.array([146, 167, 179], np.float32)  # mean red, green and blue
FROST_DEVIATION_BETWEEN = 36.0  # standard deviation of brightness between photographs
FROST_DEVIATION_WITHIN = 15.0  # mean standard deviation within 32x32 pixels


@dataclass(frozen=True)
class Flakes:
    """Constants of snowflakes, which are bright grains of noise, smeared downwards."""

    mean: float  # of the noise; 1 is white
    deviation: float  # standard deviation of the noise; 1 is white
    size: float  # side of a grain of the noise in pixels
    threshold: float  # noise below this value becomes 0
    smear_radius: float  # pixels
    smear_deviation: float  # pixels


def snow(pixels: np.ndarray, flakes: Flakes, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Whiten images, then add snowflakes, once upright and once rotated by 180 degrees.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        flakes: Constants of the snowflakes.
        kept: Weight of the original image against its whitened copy, in [0, 1].
        rng: Source of the noise and of the directions of the smear.

    Returns:
        Corrupted images, float32 (N, H, W, C); values above 255 are possible.
    """
    count, height, width, _ = pixels.shape
    noise = rng.normal(flakes.mean, flakes.deviation, (count, height, width, 1))
    noise = enlarge(noise.astype(np.float32), max(1.0, flakes.size * scale_of(pixels)))
    layer = 255 * np.clip(np.where(noise < flakes.threshold, 0, noise), 0, 1)
    degrees = rng.uniform(-135, -45, (count,))
    layer = smear(layer, flakes.smear_radius, flakes.smear_deviation, degrees)  # (N, H, W, 1)
    gray = pixels if pixels.shape[3] == 1 else (pixels @ GREY_WEIGHTS)[..., None]
    whitened = kept * pixels + (1 - kept) * np.maximum(pixels, 1.5 * gray + 127.5)
    return whitened + layer + layer[:, ::-1, ::-1]


def frost(pixels: np.ndarray, kept: float, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add a layer of frost to weakened images.

    The published images overlay crops of five photographs of frost, which this project does not
    contain. Here a fractal (`plasma` with decay 2) has the mean color of the photographs, and
    their standard deviations between and within crops. It shows no crystals.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        kept: Weight of the image, in [0, 1].
        strength: Weight of the frost, in [0, 1].
        rng: Source of the frost.

    Returns:
        Corrupted images, float32 (N, H, W, C); values above 255 are possible.
    """
    count, height, width, channels = pixels.shape
    texture = plasma(count, height, width, 2.0, rng)
    texture -= texture.mean(axis=(1, 2), keepdims=True)
    texture *= FROST_DEVIATION_WITHIN / np.maximum(texture.std(axis=(1, 2), keepdims=True), 1e-6)
    color = FROST_RGB if channels == 3 else FROST_RGB @ GREY_WEIGHTS
    brightness = rng.normal(0, FROST_DEVIATION_BETWEEN, (count, 1, 1, 1)).astype(np.float32)
    return kept * pixels + strength * np.clip(texture + brightness + color, 0, 255)


def fog(pixels: np.ndarray, strength: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Add a fractal to images, then scale each image so that no value exceeds its old maximum.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        strength: Weight of the fractal; 1 adds up to 255.
        decay: Roughness of the fractal, as in `plasma`.
        rng: Source of the fractal.

    Returns:
        Corrupted images, float32 (N, H, W, C).
    """
    count, height, width, _ = pixels.shape
    maximum = pixels.max(axis=(1, 2, 3), keepdims=True)
    foggy = pixels + 255 * strength * plasma(count, height, width, decay, rng)
    return foggy * maximum / (maximum + 255 * strength)


def plasma(
    count: int, height: int, width: int, decay: float, rng: np.random.Generator
) -> np.ndarray:
    """Generate fractal height maps with the diamond-square algorithm on a torus.

    The side of the torus is a power of two; the height maps are its upper left corner. Each time
    the distance between points halves, the noise is divided by the square of decay, as in the
    code of the published fog.

    Args:
        count: Number of height maps N.
        height: Height H in pixels.
        width: Width W in pixels.
        decay: Roughness, above 1; larger values are smoother.
        rng: Source of the noise.

    Returns:
        Height maps, float32 (N, H, W, 1), values 0 to 1.
    """
    distance = size = 2 ** int(np.ceil(np.log2(max(height, width, 2))))
    heights = np.zeros((count, size, size))
    spread = 100.0**2
    while distance > 1:
        half = distance // 2

        def midpoint(first: np.ndarray, second: np.ndarray, spread: float = spread) -> np.ndarray:
            return (first + second) / 4 + rng.uniform(-spread, spread, first.shape)

        corners = heights[:, ::distance, ::distance]
        below = corners + np.roll(corners, -1, axis=1)
        right = corners + np.roll(corners, -1, axis=2)
        centres = midpoint(below, np.roll(below, -1, axis=2))
        heights[:, half::distance, half::distance] = centres
        heights[:, ::distance, half::distance] = midpoint(
            right, centres + np.roll(centres, 1, axis=1)
        )
        heights[:, half::distance, ::distance] = midpoint(
            below, centres + np.roll(centres, 1, axis=2)
        )
        distance, spread = half, spread / decay**2
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights[:, :height, :width, None].astype(np.float32)


def brightness(pixels: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    """Raise the value channel of HSV; hue and saturation stay the same.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        added: Increase of the value; 1 is white.
        rng: Unused; every corruption has this argument.

    Returns:
        Brighter images, float32 (N, H, W, C).
    """
    value = pixels.max(axis=3, keepdims=True)
    raised = np.minimum(value + 255 * added, 255)
    return np.where(value > 0, pixels * (raised / np.maximum(value, 1)), raised)
