"""The four blurs of CIFAR-10-C; random numbers are drawn per image.

Images are float32 (N, H, W, C), values 0 to 255. Lengths are in pixels of an image of 32 pixels,
and are scaled with the shorter side of larger or smaller images.

Source: Hendrycks and Dietterich (2019), arXiv:1903.12261, and the code of its authors.
"""

import numpy as np
from scipy import ndimage

PUBLISHED_SIZE = 32  # side of the published images, in pixels


def scale_of(pixels: np.ndarray) -> float:
    """Return the shorter side of images (N, H, W, C) relative to that of the published images."""
    return min(pixels.shape[1:3]) / PUBLISHED_SIZE


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Clip to 0 … 255 and truncate to uint8, as the published images are.

    Values within 0.001 below an integer are rounding errors of float32, and become that integer.
    """
    return (np.clip(pixels, 0, 255) + 1e-3).astype(np.uint8)


def defocus_blur(
    pixels: np.ndarray, radius: float, softness: float, rng: np.random.Generator
) -> np.ndarray:
    """Convolve images with a disk whose edge is smoothed by a Gaussian.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        radius: Radius of the disk in pixels.
        softness: Standard deviation of the Gaussian in pixels.
        rng: Unused; every corruption has this argument.

    Returns:
        Blurred images, float32 (N, H, W, C).
    """
    radius, softness = radius * scale_of(pixels), softness * scale_of(pixels)
    reach = 1 if radius <= 8 else 2  # radius of the Gaussian's kernel in pixels
    side = np.arange(-int(radius) - reach, int(radius) + reach + 1)
    disk = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float32)
    disk = ndimage.gaussian_filter(disk / disk.sum(), softness, mode="constant", radius=reach)
    return ndimage.convolve(pixels, disk[None, :, :, None], mode="mirror")


def glass_blur(
    pixels: np.ndarray,
    deviation: float,
    max_shift: int,
    rounds: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Copy each pixel from a random neighbor, between two Gaussian blurs.

    The paper describes a swap of the two pixels. In the code that made the published images, the
    swap writes through a NumPy view, so one of the two values is copied; this function does the
    same. Where max_shift is above 1 after scaling, the neighbor may also lie up to max_shift - 1
    pixels down and right, and its value is always the one before the round.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        deviation: Standard deviation of both blurs in pixels.
        max_shift: Largest distance of the neighbor up and left, in pixels.
        rounds: Number of times that every pixel is copied.
        rng: Source of the neighbors.

    Returns:
        Blurred images, float32 (N, H, W, C).
    """
    deviation *= scale_of(pixels)
    max_shift = max(1, round(max_shift * scale_of(pixels)))
    count, height, width, _ = pixels.shape
    rows = np.arange(max_shift + 1, height - max_shift + 1)
    columns = np.arange(max_shift + 1, width - max_shift + 1)
    image = np.arange(count)[:, None, None]
    blurred = to_uint8(_gaussian_blur(pixels, deviation))
    for _ in range(rounds):
        shift = rng.integers(-max_shift, max_shift, (2, count, len(rows), len(columns)))
        neighbors = blurred[image, rows[:, None] + shift[0], columns + shift[1]]
        blurred[:, rows[:, None], columns] = neighbors
    return _gaussian_blur(blurred.astype(np.float32), deviation)


def _gaussian_blur(pixels: np.ndarray, deviation: float) -> np.ndarray:
    return ndimage.gaussian_filter(pixels, (0, deviation, deviation, 0), mode="nearest")


def motion_blur(
    pixels: np.ndarray, radius: float, deviation: float, rng: np.random.Generator
) -> np.ndarray:
    """Smear each image along a random direction within 45 degrees of the horizontal.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        radius: Half the length of the smear in pixels.
        deviation: Standard deviation of the smear in pixels.
        rng: Source of the directions.

    Returns:
        Blurred images, float32 (N, H, W, C).
    """
    return smear(pixels, radius, deviation, rng.uniform(-45, 45, len(pixels)))


def smear(pixels: np.ndarray, radius: float, deviation: float, degrees: np.ndarray) -> np.ndarray:
    """Average pixels along a line, with weights of one half of a Gaussian.

    Args:
        pixels: Images, float32 (N, H, W, C).
        radius: Half the length of the line, in pixels of an image of 32 pixels.
        deviation: Standard deviation of the Gaussian, in the same unit.
        degrees: Direction of the line per image (N,), in degrees clockwise from the right.

    Returns:
        Smeared images, float32 (N, H, W, C).

    Source: ImageMagick's motion blur, which the published images use.
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


def zoom_blur(pixels: np.ndarray, max_factor: float, rng: np.random.Generator) -> np.ndarray:
    """Average each image with its enlargements by 1, 1.01, 1.02, … below max_factor.

    Args:
        pixels: Images, float32 (N, H, W, C), values 0 to 255.
        max_factor: Upper limit of the enlargement, above 1.
        rng: Unused; every corruption has this argument.

    Returns:
        Blurred images, float32 (N, H, W, C).
    """
    factors = np.arange(1, max_factor, 0.01)
    planes = np.ascontiguousarray(np.moveaxis(pixels, 3, 1))  # (N, C, H, W)
    total = planes.copy()
    for factor in factors:
        total += _enlarge_planes(planes, factor)
    return np.moveaxis(total / (len(factors) + 1), 1, 3)


def enlarge(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the center of each image to the size of the whole image, bilinearly.

    Args:
        pixels: Images, float32 (N, H, W, C).
        factor: Enlargement, at least 1.

    Returns:
        Enlarged images, float32 (N, H, W, C).
    """
    return np.moveaxis(_enlarge_planes(np.moveaxis(pixels, 3, 1), factor), 1, 3)


def _enlarge_planes(planes: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the center of planes (N, C, H, W)."""
    rows, columns = (_enlargement_matrix(size, factor) for size in planes.shape[2:])
    return rows @ (planes @ columns.T)


def _enlargement_matrix(size: int, factor: float) -> np.ndarray:
    """Return the matrix, float32 (size, size), that enlarges the center of a line of pixels.

    As in `scipy.ndimage.zoom`, the crop is a whole number of pixels, its first and last pixels
    map to the ends of the enlarged crop, and excess pixels are removed on both sides.
    """
    cropped = int(np.ceil(size / factor))
    enlarged = max(round(cropped * factor), size)
    stretch = (cropped - 1) / max(enlarged - 1, 1)
    position = (np.arange(size) + (enlarged - size) // 2) * stretch  # within the crop
    low = np.minimum(position.astype(int), max(cropped - 2, 0))
    line, first = np.arange(size), low + (size - cropped) // 2
    matrix = np.zeros((size, size), np.float32)
    matrix[line, first] += 1 - (position - low)
    matrix[line, np.minimum(first + 1, size - 1)] += position - low
    return matrix
