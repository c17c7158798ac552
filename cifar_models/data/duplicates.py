"""Images that occur twice: with equal pixels, or as near duplicates, such as a JPEG saved again."""

import hashlib
import logging
from collections.abc import Iterator

import numpy as np

from cifar_models.data.splits import Split, chunks
from cifar_models.runtime.signals import obey_stop

logger = logging.getLogger("cifar_models")

HASH_ROWS, HASH_COLUMNS = 8, 8  # comparisons of neighbours; a hash has 64 bits
MAX_HASH_DISTANCE = 8  # different bits
MAX_DIFFERENCE = 0.25  # mean over all pixels, of the mean deviation from the mean colour
MAX_PAIRS = 10**9  # of hashes that are compared; about 10 s
PAIRS_PER_BLOCK = 10**7
MAX_CANDIDATES = 256  # training images whose pixels are compared with those of a test image


def pixel_digests(split: Split) -> Iterator[bytes]:
    """Yield a hash of the pixels of each image."""
    for images in chunks(split):
        for image in images:
            yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def image_hashes(split: Split) -> np.ndarray:
    """Return a hash of the pixels of each image, uint64 (N,)."""
    digests = [digest[:8] for digest in pixel_digests(split)]
    return np.frombuffer(b"".join(digests), np.uint64)


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
        grey = images.sum(axis=3, dtype=np.uint16)  # (B, H, W)
        sums = np.add.reduceat(grey, rows, axis=1, dtype=np.uint32)
        sums = np.add.reduceat(sums, columns, axis=2, dtype=np.uint64)
        means = sums / np.diff(columns, append=width)  # of equal rows, so their number cancels
        bits = np.diff(means, axis=2).reshape(len(images), -1) > 0
        hashes.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
    return np.concatenate(hashes)


def near_duplicates(train: Split, test: Split) -> list[tuple[int, int]]:
    """Return (test index, training index) of test images that look like a training image.

    Their perceptual hashes differ in at most MAX_HASH_DISTANCE bits, and their pixels by at most
    MAX_DIFFERENCE of the contrast of the test image. Nothing is searched in images of less than 9
    pixels, for a test image of one colour, or if there are more than MAX_PAIRS pairs.

    Args:
        train: The training images.
        test: The test images, of the same shape.
    """
    too_small = min(train.image_shape[:2]) <= HASH_COLUMNS
    if too_small or not len(train) or not len(test):
        return []
    if len(train) * len(test) > MAX_PAIRS:
        logger.info(
            "test images that look like a training image are not searched among so many images"
        )
        return []
    known, hashes = perceptual_hashes(train), perceptual_hashes(test)
    found = []
    block = max(1, PAIRS_PER_BLOCK // len(train))
    for first in range(0, len(test), block):
        obey_stop()
        distances = np.bitwise_count(hashes[first : first + block, None] ^ known)  # (block, N)
        for row in np.flatnonzero((distances <= MAX_HASH_DISTANCE).any(axis=1)):
            nearest = np.argsort(distances[row], kind="stable")[:MAX_CANDIDATES]
            candidates = nearest[distances[row, nearest] <= MAX_HASH_DISTANCE]
            image = test.images_at(np.array([first + row]))[0]
            # One by one, so that a single one of them is in memory.
            differences = [
                _difference(train.images_at(np.array([index]))[0], image) for index in candidates
            ]
            contrast = _difference(image, image.mean(axis=(0, 1)))
            if contrast and min(differences) <= MAX_DIFFERENCE * contrast:
                found.append((int(first + row), int(candidates[np.argmin(differences)])))
    return found


def _difference(image: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of two images, 0 to 255."""
    return float(np.abs(image.astype(np.float32) - other).mean())
