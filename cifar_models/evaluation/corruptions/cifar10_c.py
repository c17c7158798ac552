"""The fifteen corruptions of CIFAR-10-C, as functions of an image, a severity and a seed.

The constants are those of the code that made the published images of 32 pixels. For images of
another size, every length in pixels is scaled with the shorter side; in images of 8 pixels, the
weakest blurs therefore change nothing.

The corrupted images differ from the published ones in three ways: other random numbers are drawn,
frost is generated instead of photographed (weather.py), and elastic_transform does not round its
affine map to 1/32 pixel, as OpenCV did.

Source: Hendrycks and Dietterich (2019), arXiv:1903.12261.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from cifar_models.evaluation.corruptions import blurs, weather
from cifar_models.evaluation.corruptions.blurs import to_uint8
from cifar_models.evaluation.corruptions.weather import Flakes

CORRUPTION_BATCH = 50  # images per random generator; another number changes the images


def corrupt(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupt images with random numbers that depend only on the arguments and the position.

    Args:
        images: Images, uint8 (N, H, W, C), values 0 to 255; C is 1 or 3.
        name: Name of the corruption, one of CORRUPTIONS.
        severity: Severity, 1 to 5.
        seed: Seed of the random numbers, at least 0.

    Returns:
        Corrupted images, uint8 (N, H, W, C). The first n images are the same for every N >= n.
    """
    function, constants = _TABLE[name]
    corrupted = np.empty_like(images)
    for begin in range(0, len(images), CORRUPTION_BATCH):
        rng = np.random.default_rng([seed, CORRUPTIONS.index(name), severity, begin])
        batch = images[begin : begin + CORRUPTION_BATCH]
        # A full batch draws the same random numbers for every N.
        full_batch = np.resize(batch, (CORRUPTION_BATCH, *images.shape[1:]))
        pixels = function(full_batch.astype(np.float32), *constants[severity - 1], rng)
        corrupted[begin : begin + CORRUPTION_BATCH] = to_uint8(pixels[: len(batch)])
    return corrupted


def _gaussian_noise(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return pixels + 255 * deviation * rng.standard_normal(pixels.shape, np.float32)


def _shot_noise(pixels: np.ndarray, photons: int, rng: np.random.Generator) -> np.ndarray:
    """Replace values by Poisson counts of photons, of which white has `photons` on average."""
    return rng.poisson(pixels * (photons / 255)) * 255 / photons


def _impulse_noise(pixels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Set a random fraction of the values of all channels to 0 or 255."""
    is_hit = rng.random(pixels.shape, np.float32) < fraction
    return np.where(is_hit, 255 * rng.integers(0, 2, pixels.shape, np.uint8), pixels)


def _contrast(pixels: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Scale the deviations from the mean of each channel by `kept`."""
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    return (pixels - mean) * kept + mean


def _pixelate(pixels: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink the sides of images by a factor and enlarge them again, with box filters."""
    height, width = pixels.shape[1:3]
    small = max(int(width * factor), 1), max(int(height * factor), 1)

    def transform(image: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return image.resize(small, box).resize((width, height), box)

    return _apply_with_pillow(pixels, transform)


def _jpeg_compression(pixels: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Encode images as JPEG of the given quality, 1 to 95, and decode them."""

    def transform(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _apply_with_pillow(pixels, transform)


def _apply_with_pillow(
    pixels: np.ndarray, transform: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    images = pixels.astype(np.uint8)
    images = images[..., 0] if pixels.shape[3] == 1 else images  # Pillow's format of gray images
    transformed = [np.asarray(transform(Image.fromarray(image))) for image in images]
    return np.stack(transformed).reshape(pixels.shape)


def _elastic_transform(
    pixels: np.ndarray, strength: float, deviation: float, jitter: float, rng: np.random.Generator
) -> np.ndarray:
    """Warp images by a random affine map, then by a smooth random displacement field.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        strength: Scale of the displacements, relative to the shorter side.
        deviation: Standard deviation of the Gaussian that smooths them, in the same unit.
        jitter: Largest shift of the three points that define the affine map, in the same unit.
        rng: Source of the shifts and displacements.

    Returns:
        Warped images, (N, H, W, C).
    """
    count, height, width, _ = pixels.shape
    size = min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    arm = max(size // 3, 1)
    points = np.array([width // 2, height // 2]) + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + rng.uniform(-jitter * size, jitter * size, (count, 3, 2))
    moved = np.concatenate([moved, np.ones((count, 3, 1))], axis=2)
    inverse = np.linalg.solve(moved, np.broadcast_to(points, (count, 3, 2)))  # (N, 3, 2)
    grid = np.stack([x, y, np.ones_like(x)], axis=2).reshape(-1, 3)  # (H * W, 3)
    source = (grid @ inverse.astype(np.float32)).reshape(count, height, width, 2)
    warped = _sample(pixels, source[..., 1], source[..., 0], repeat_edge=False)

    noise = rng.uniform(-1, 1, (2 * count, height, width)).astype(np.float32)
    sigma = deviation * size
    field = ndimage.gaussian_filter(noise, (0, sigma, sigma), truncate=3)
    right, down = np.split(field * (strength * size), 2)
    return _sample(warped, y + down, x + right, repeat_edge=True)


def _sample(pixels: np.ndarray, y: np.ndarray, x: np.ndarray, repeat_edge: bool) -> np.ndarray:
    """Sample images (N, H, W, C) bilinearly at rows and columns (N, H, W), reflected outside."""
    height, width = pixels.shape[1:3]
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[..., None], (x - left)[..., None]
    image = np.arange(len(pixels))[:, None, None]

    def corner(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        row = _reflect_index(row, height, repeat_edge)
        return pixels[image, row, _reflect_index(column, width, repeat_edge)]

    upper = (1 - right) * corner(top, left) + right * corner(top, left + 1)
    lower = (1 - right) * corner(top + 1, left) + right * corner(top + 1, left + 1)
    return (1 - down) * upper + down * lower


def _reflect_index(index: np.ndarray, size: int, repeat_edge: bool) -> np.ndarray:
    """Reflect indices into 0 … size - 1; the pixel at the edge counts twice if repeat_edge."""
    period = 2 * size if repeat_edge else max(2 * size - 2, 1)
    index = index % period
    return np.minimum(index, period - repeat_edge - index)


# Name → function and its constants for severity 1 to 5.
_TABLE: dict[str, tuple[Callable[..., np.ndarray], list[tuple]]] = {
    "gaussian_noise": (_gaussian_noise, [(0.04,), (0.06,), (0.08,), (0.09,), (0.10,)]),
    "shot_noise": (_shot_noise, [(500,), (250,), (100,), (75,), (50,)]),
    "impulse_noise": (_impulse_noise, [(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)]),
    "defocus_blur": (
        blurs.defocus_blur,
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    ),
    "glass_blur": (
        blurs.glass_blur,
        [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    ),
    "motion_blur": (blurs.motion_blur, [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)]),
    "zoom_blur": (blurs.zoom_blur, [(1.06,), (1.11,), (1.16,), (1.21,), (1.26,)]),
    "snow": (
        weather.snow,
        [
            (Flakes(0.1, 0.2, 1, 0.6, 8, 3), 0.95),
            (Flakes(0.1, 0.2, 1, 0.5, 10, 4), 0.9),
            (Flakes(0.15, 0.3, 1.75, 0.55, 10, 4), 0.9),
            (Flakes(0.25, 0.3, 2.25, 0.6, 12, 6), 0.85),
            (Flakes(0.3, 0.3, 1.25, 0.65, 14, 12), 0.8),
        ],
    ),
    "frost": (weather.frost, [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]),
    "fog": (weather.fog, [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)]),
    "brightness": (weather.brightness, [(0.05,), (0.1,), (0.15,), (0.2,), (0.3,)]),
    "contrast": (_contrast, [(0.75,), (0.5,), (0.4,), (0.3,), (0.15,)]),
    "elastic_transform": (
        _elastic_transform,
        [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    ),
    "pixelate": (_pixelate, [(0.95,), (0.9,), (0.85,), (0.75,), (0.65,)]),
    "jpeg_compression": (_jpeg_compression, [(80,), (65,), (58,), (50,), (40,)]),
}

CORRUPTIONS = tuple(_TABLE)
