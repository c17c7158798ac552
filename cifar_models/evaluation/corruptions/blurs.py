"""Four blurs of CIFAR-10-C (arXiv:1903.12261), each image drawing its own.

Images are float32 (N, H, W, C), 0 to 255. Constants that are lengths are pixels of an image of 32
pixels, and are scaled with the shorter side of another.
"""

import numpy as np
from scipy import ndimage

PUBLISHED_SIZE = 32  # pixels


def scale_of(pixels: np.ndarray) -> float:
    """How many pixels of these images are one of CIFAR-10's."""
    return min(pixels.shape[1:3]) / PUBLISHED_SIZE


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Cuts fractions off as the published images do; 199.9999 is a 200 that float32 missed."""
    return (np.clip(pixels, 0, 255) + 1e-3).astype(np.uint8)


def defocus_blur(
    pixels: np.ndarray, radius: float, softness: float, rng: np.random.Generator
) -> np.ndarray:
    """Averages over a disk whose rim is softened by a Gaussian, in pixels."""
    radius, softness = radius * scale_of(pixels), softness * scale_of(pixels)
    reach = 1 if radius <= 8 else 2  # of the softening, pixels
    side = np.arange(-int(radius) - reach, int(radius) + reach + 1)
    disk = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float32)
    disk = ndimage.gaussian_filter(disk / disk.sum(), softness, mode="constant", radius=reach)
    return ndimage.convolve(pixels, disk[None, :, :, None], mode="mirror")


def glass_blur(
    pixels: np.ndarray, deviation: float, most: int, rounds: int, rng: np.random.Generator
) -> np.ndarray:
    """Between two Gaussian blurs each pixel takes the value of one up to `most` up and left of it.

    The paper speaks of swapping them. The published images were made by code whose swap writes
    through a view, so that one of the two values is copied; that is what stands here. In images
    so large that `most` is above 1, the other pixel lies up to `most` - 1 down and right too, and
    always gives the value that it had before the round.
    """
    deviation *= scale_of(pixels)
    most = max(1, round(most * scale_of(pixels)))
    count, height, width, _ = pixels.shape
    rows, columns = np.arange(most + 1, height - most + 1), np.arange(most + 1, width - most + 1)
    blurred = to_uint8(_gaussian(pixels, deviation))
    for _ in range(rounds):
        shift = rng.integers(-most, most, (2, count, len(rows), len(columns)))
        taken = blurred[
            np.arange(count)[:, None, None],
            rows[:, None] + shift[0],
            columns + shift[1],
        ]
        blurred[:, rows[:, None], columns] = taken
    return _gaussian(blurred.astype(np.float32), deviation)


def _gaussian(pixels: np.ndarray, deviation: float) -> np.ndarray:
    return ndimage.gaussian_filter(pixels, (0, deviation, deviation, 0), mode="nearest")


def motion_blur(
    pixels: np.ndarray, radius: float, deviation: float, rng: np.random.Generator
) -> np.ndarray:
    """Smears along a direction within 45 degrees of the horizontal."""
    return smear(pixels, radius, deviation, rng.uniform(-45, 45, len(pixels)))


def smear(pixels: np.ndarray, radius: float, deviation: float, degrees: np.ndarray) -> np.ndarray:
    """ImageMagick's motion blur: one half of a Gaussian along a line of whole pixels.

    Args:
        pixels: float32 (N, H, W, C).
        radius: half the length of the line, pixels of an image of 32.
        deviation: of the Gaussian, likewise.
        degrees: (N,), clockwise from the right.
    """
    count, height, width, _ = pixels.shape
    radius, deviation = radius * scale_of(pixels), deviation * scale_of(pixels)
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    weights = (weights / weights.sum()).astype(np.float32)
    angle = np.radians(degrees)[:, None]
    down = np.ceil(steps * np.sin(angle) - 0.5).astype(int)  # (N, steps)
    right = np.ceil(steps * np.cos(angle) - 0.5).astype(int)
    image = np.arange(count)[:, None, None]
    smeared = np.zeros_like(pixels)
    for step, weight in enumerate(weights):
        rows = np.clip(np.arange(height) + down[:, step, None], 0, height - 1)  # (N, H)
        columns = np.clip(np.arange(width) + right[:, step, None], 0, width - 1)  # (N, W)
        smeared += weight * pixels[image, rows[:, :, None], columns[:, None, :]]
    return smeared


def zoom_blur(pixels: np.ndarray, end: float, rng: np.random.Generator) -> np.ndarray:
    """Averages the image, twice, and its enlargements in steps of 0.01 from 1 up to `end`."""
    factors = np.arange(1, end, 0.01)
    planes = np.ascontiguousarray(np.moveaxis(pixels, 3, 1))  # (N, C, H, W)
    total = planes.copy()
    for factor in factors:
        total += _enlarged_planes(planes, factor)
    return np.moveaxis(total / (len(factors) + 1), 1, 3)


def enlarge(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Enlarges the middle of each image to the size of the whole, bilinearly; factor from 1."""
    return np.moveaxis(_enlarged_planes(np.moveaxis(pixels, 3, 1), factor), 1, 3)


def _enlarged_planes(planes: np.ndarray, factor: float) -> np.ndarray:
    rows, columns = (_enlarging_matrix(size, factor) for size in planes.shape[2:])
    return rows @ (planes @ columns.T)


def _enlarging_matrix(size: int, factor: float) -> np.ndarray:
    """Returns which pixels a line of the enlarged image is made of: float32 (size, size).

    The crop is a whole number of pixels, and its first and last lie on those of the enlarged crop,
    whose excess is cut off: as SciPy's `zoom` does it.
    """
    cropped = int(np.ceil(size / factor))
    enlarged = max(round(cropped * factor), size)
    stretch = (cropped - 1) / max(enlarged - 1, 1)
    position = (np.arange(size) + (enlarged - size) // 2) * stretch  # in the crop
    low = np.minimum(position.astype(int), max(cropped - 2, 0))
    line, first = np.arange(size), low + (size - cropped) // 2
    matrix = np.zeros((size, size), np.float32)
    matrix[line, first] += 1 - (position - low)
    matrix[line, np.minimum(first + 1, size - 1)] += position - low
    return matrix
