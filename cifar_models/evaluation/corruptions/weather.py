"""Four kinds of weather of CIFAR-10-C (arXiv:1903.12261), each image drawing its own.

Images are float32 (N, H, W, C), 0 to 255. Lengths are scaled as in blurs.py.
"""

import numpy as np

from cifar_models.evaluation.corruptions.blurs import enlarge, scale_of, smear

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R 601

# The published photographs of frost at a fifth of their size, as they are overlaid: mean colour,
# standard deviation of the photographs' brightness, and mean deviation within 32x32 pixels.
FROST_COLOUR = np.array([146, 167, 179], np.float32)
FROST_BETWEEN, FROST_WITHIN = 36.0, 15.0


def snow(
    pixels: np.ndarray,
    mean: float,
    deviation: float,
    flake: float,
    threshold: float,
    radius: float,
    smear_deviation: float,
    kept: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Whitens the image and adds smeared flakes, once as they are and once upside down.

    Args:
        pixels: float32 (N, H, W, C).
        mean, deviation: of the noise that flakes are made of, 1 is white.
        flake: side of a grain of that noise, pixels.
        threshold: below it, no flake.
        radius, smear_deviation: of the smear, pixels.
        kept: share of the image that is not whitened.
        rng: draws noise and directions.
    """
    count, height, width, _ = pixels.shape
    noise = rng.normal(mean, deviation, (count, height, width, 1)).astype(np.float32)
    noise = enlarge(noise, max(1.0, flake * scale_of(pixels)))
    flakes = 255 * np.clip(np.where(noise < threshold, 0, noise), 0, 1)
    flakes = smear(flakes, radius, smear_deviation, rng.uniform(-135, -45, (count,)))
    grey = pixels if pixels.shape[3] == 1 else (pixels @ LUMA)[..., None]
    whitened = kept * pixels + (1 - kept) * np.maximum(pixels, 1.5 * grey + 127.5)
    return whitened + flakes + flakes[:, ::-1, ::-1]


def frost(pixels: np.ndarray, kept: float, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Adds a sheet of frost to a weakened image.

    The published images take crops of five photographs of frost, which are not part of this
    project. Here a sheet is a fractal (`plasma` of decay 2) with the mean
    colour of the photographs and their deviations between and within crops; it has no crystals.
    """
    count, height, width, channels = pixels.shape
    sheet = plasma(count, height, width, 2.0, rng)
    sheet -= sheet.mean(axis=(1, 2), keepdims=True)
    sheet *= FROST_WITHIN / np.maximum(sheet.std(axis=(1, 2), keepdims=True), 1e-6)
    colour = FROST_COLOUR if channels == 3 else FROST_COLOUR @ LUMA
    brightness = rng.normal(0, FROST_BETWEEN, (count, 1, 1, 1)).astype(np.float32)
    return kept * pixels + strength * np.clip(sheet + brightness + colour, 0, 255)


def fog(pixels: np.ndarray, strength: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Adds a fractal, and darkens the sum so far that its brightest can be no brighter."""
    count, height, width, _ = pixels.shape
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    foggy = pixels + 255 * strength * plasma(count, height, width, decay, rng)
    return foggy * brightest / (brightest + 255 * strength)


def plasma(
    count: int, height: int, width: int, decay: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws heights by the diamond-square algorithm on a torus: float32 (N, H, W, 1), 0 to 1.

    Each halving of the distance between points divides the noise by the square of `decay`, which
    is how the published fog does it. The torus' side is a power of two, of which a corner is used.
    """
    distance = size = 2 ** int(np.ceil(np.log2(max(height, width, 2))))
    heights = np.zeros((count, size, size))
    spread = 100.0**2
    while distance > 1:
        half = distance // 2

        def middle(first: np.ndarray, second: np.ndarray, spread: float = spread) -> np.ndarray:
            return (first + second) / 4 + rng.uniform(-spread, spread, first.shape)

        corners = heights[:, ::distance, ::distance]
        below = corners + np.roll(corners, -1, axis=1)
        right = corners + np.roll(corners, -1, axis=2)
        centres = middle(below, np.roll(below, -1, axis=2))
        heights[:, half::distance, half::distance] = centres
        heights[:, ::distance, half::distance] = middle(
            right, centres + np.roll(centres, 1, axis=1)
        )
        heights[:, half::distance, ::distance] = middle(
            below, centres + np.roll(centres, 1, axis=2)
        )
        distance, spread = half, spread / decay**2
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights[:, :height, :width, None].astype(np.float32)


def brightness(pixels: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    """Raises the value of HSV, 1 being white, and leaves hue and saturation."""
    value = pixels.max(axis=3, keepdims=True)
    raised = np.minimum(value + 255 * added, 255)
    return np.where(value > 0, pixels * (raised / np.maximum(value, 1)), raised)
