"""Images that occur twice: with equal pixels, or as near duplicates, such as a JPEG saved again."""

import hashlib
from collections.abc import Iterator

import numpy as np

from cifar_models.data.splits import Split, chunks
from cifar_models.runtime.signals import obey_stop

HASH_ROWS, HASH_COLUMNS = 8, 8  # comparisons of neighbours; a hash has 64 bits
MAX_HASH_DISTANCE = 8  # different bits
MAX_DIFFERENCE = 0.25  # mean over all pixels, of the mean deviation from the mean colour
MAX_PAIRS = 10**9  # of hashes that are compared; about 10 s
PAIRS_PER_BLOCK = 10**7


def pixel_digests(split: Split) -> Iterator[bytes]:
    """Yield a hash of the pixels of each image."""
    for images in chunks(split):
        for image in images:
            yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def equal_images(train: Split, test: Split) -> np.ndarray:
    """Return which test images equal a training image pixel by pixel, bool (N,)."""
    known = set(pixel_digests(train))
    return np.array([digest in known for digest in pixel_digests(test)], bool)


def perceptual_hashes(split: Split) -> np.ndarray:
    """Return a hash of each image that hardly changes when it is saved again, uint64 (N,).

    The image is averaged to 8 rows of 9 grey pixels. A bit says whether a pixel is brighter than
    its left neighbour ("dHash").

    Args:
        split: Images of at least 9x9 pixels.

    Source: Krawetz (2013), "Kind of Like That", hackerfactor.com/blog.
    """
    height, width, _ = split.image_shape
    rows = np.linspace(0, height, HASH_ROWS, endpoint=False).astype(int)
    columns = np.linspace(0, width, HASH_COLUMNS + 1, endpoint=False).astype(int)
    hashes = [np.empty(0, np.uint64)]
    for images in chunks(split):
        grey = images.mean(axis=3)  # (B, H, W)
        sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2)
        means = sums / np.diff(columns, append=width)  # of equal rows, so their number cancels
        bits = np.diff(means, axis=2).reshape(len(images), -1) > 0
        hashes.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
    return np.concatenate(hashes)


def near_duplicates(train: Split, test: Split) -> list[tuple[int, int]]:
    """Return (test index, training index) of test images that look like a training image.

    Their perceptual hashes differ in at most MAX_HASH_DISTANCE bits, and their pixels by at most
    MAX_DIFFERENCE of the contrast of the test image. Nothing is searched in images of less than 9
    pixels, or if there are more than MAX_PAIRS pairs.

    Args:
        train: The training images.
        test: The test images, of the same shape.
    """
    too_small = min(train.image_shape[:2]) <= HASH_COLUMNS
    if too_small or not len(train) or not 0 < len(train) * len(test) <= MAX_PAIRS:
        return []
    known, hashes = perceptual_hashes(train), perceptual_hashes(test)
    found = []
    block = max(1, PAIRS_PER_BLOCK // len(train))
    for first in range(0, len(test), block):
        obey_stop()
        distances = np.bitwise_count(hashes[first : first + block, None] ^ known)  # (block, N)
        for row in np.flatnonzero((distances <= MAX_HASH_DISTANCE).any(axis=1)):
            candidates = np.flatnonzero(distances[row] <= MAX_HASH_DISTANCE)
            image = test.images_at(np.array([first + row])).astype(np.float32)
            differences = np.abs(train.images_at(candidates) - image).mean(axis=(1, 2, 3))
            contrast = np.abs(image - image.mean(axis=(1, 2), keepdims=True)).mean()
            if differences.min() <= MAX_DIFFERENCE * contrast:
                found.append((int(first + row), int(candidates[differences.argmin()])))
    return found
