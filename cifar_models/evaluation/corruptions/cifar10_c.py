"""The fifteen corruptions of CIFAR-10-C: Hendrycks and Dietterich 2019, arXiv:1903.12261.

The constants are those of the code that made the published images of 32 pixels. For images of
another size every length in pixels is scaled with the shorter side, so that in images of 8 pixels
the finest blurs change nothing. An image is not the published one: the random numbers are others,
frost is made by a rule instead of photographs (weather.py), and OpenCV rounded the affine map of
elastic_transform to 1/32 pixel, which this does not.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from cifar_models.evaluation.corruptions import blurs, weather
from cifar_models.evaluation.corruptions.blurs import to_uint8

IMAGES_AT_ONCE = 50  # the random numbers go with them: another number makes other images


def corrupt(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupts each image in its own way, the same for the same name, severity, seed and place.

    Args:
        images: uint8 (N, H, W, C), C = 1 or 3.
        name: one of CORRUPTIONS.
        severity: 1 to 5.
        seed: from 0.

    Returns:
        uint8 (N, H, W, C); the first of them are the same whatever N is.
    """
    function, constants = _TABLE[name]
    corrupted = np.empty_like(images)
    for begin in range(0, len(images), IMAGES_AT_ONCE):
        rng = np.random.default_rng([seed, CORRUPTIONS.index(name), severity, begin])
        part = images[begin : begin + IMAGES_AT_ONCE]
        full = np.resize(part, (IMAGES_AT_ONCE, *images.shape[1:]))  # N must not matter
        pixels = function(full.astype(np.float32), *constants[severity - 1], rng)
        corrupted[begin : begin + IMAGES_AT_ONCE] = to_uint8(pixels[: len(part)])
    return corrupted


def _gaussian_noise(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return pixels + 255 * deviation * rng.standard_normal(pixels.shape, np.float32)


def _shot_noise(pixels: np.ndarray, photons: int, rng: np.random.Generator) -> np.ndarray:
    """Counts photons, of which white has so many on average."""
    return rng.poisson(pixels * (photons / 255)) * 255 / photons


def _impulse_noise(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Makes a share of all values, each channel for itself, black or white."""
    is_hit = rng.random(pixels.shape, np.float32) < share
    return np.where(is_hit, 255 * rng.integers(0, 2, pixels.shape, np.uint8), pixels)


def _contrast(pixels: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    return (pixels - mean) * kept + mean


def _pixelate(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Shrinks the sides to a share of themselves and enlarges them again, by boxes."""
    height, width = pixels.shape[1:3]
    small = max(int(width * share), 1), max(int(height * share), 1)

    def change(image: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return image.resize(small, box).resize((width, height), box)

    return _by_pillow(pixels, change)


def _jpeg_compression(pixels: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(pixels, change)


def _by_pillow(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    flat = pixels.astype(np.uint8)
    flat = flat[..., 0] if pixels.shape[3] == 1 else flat  # as Pillow wants grey
    changed = [np.asarray(change(Image.fromarray(image))) for image in flat]
    return np.stack(changed).reshape(pixels.shape)


def _elastic_transform(
    pixels: np.ndarray, strength: float, deviation: float, jitter: float, rng: np.random.Generator
) -> np.ndarray:
    """Moves three points to find an affine map, then each pixel by a smooth random field.

    Strength and deviation of the field, and the jitter of the points, are parts of the size.
    """
    count, height, width, _ = pixels.shape
    size = min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    arm = max(size // 3, 1)
    points = np.array([width // 2, height // 2]) + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + rng.uniform(-jitter * size, jitter * size, (count, 3, 2))
    moved = np.concatenate([moved, np.ones((count, 3, 1))], axis=2)
    back = np.linalg.solve(moved, np.broadcast_to(points, (count, 3, 2)))  # (N, 3, 2)
    source = np.stack([x, y, np.ones_like(x)], axis=2).reshape(-1, 3) @ back.astype(np.float32)
    source = source.reshape(count, height, width, 2)
    warped = _sample(pixels, source[..., 1], source[..., 0], edge_twice=False)

    noise = rng.uniform(-1, 1, (2 * count, height, width)).astype(np.float32)
    field = ndimage.gaussian_filter(noise, (0, *[deviation * size] * 2), truncate=3)
    right, down = np.split(field * (strength * size), 2)
    return _sample(warped, y + down, x + right, edge_twice=True)


def _sample(pixels: np.ndarray, y: np.ndarray, x: np.ndarray, edge_twice: bool) -> np.ndarray:
    """Looks images up at rows and columns (N, H, W), bilinearly, mirrored outside."""
    height, width = pixels.shape[1:3]
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[..., None], (x - left)[..., None]
    image = np.arange(len(pixels))[:, None, None]

    def corner(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return pixels[
            image, _mirrored(row, height, edge_twice), _mirrored(column, width, edge_twice)
        ]

    upper = (1 - right) * corner(top, left) + right * corner(top, left + 1)
    lower = (1 - right) * corner(top + 1, left) + right * corner(top + 1, left + 1)
    return (1 - down) * upper + down * lower


def _mirrored(index: np.ndarray, size: int, edge_twice: bool) -> np.ndarray:
    """Leads an index back inside, past an edge that is passed once or twice."""
    period = 2 * size if edge_twice else max(2 * size - 2, 1)
    index = index % period
    return np.minimum(index, period - edge_twice - index)


# Name → function and, by severity, its constants.
_TABLE: dict[str, tuple[Callable[..., np.ndarray], list[tuple[float, ...]]]] = {
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
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
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
