"""What the cache of prepared images knows of each file of a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cifar_models.data.image_file import status_of


class Entry(NamedTuple):
    """What the index of the cache knows of a file.

    Attributes:
        bytes: Size of the file. This and the next three are those of `status_of`.
        inode: Number of the file in its file system.
        modified: Time of the last change of its content, nanoseconds.
        changed: Time of the last change of its metadata, nanoseconds.
        number: Number of its image in the file of pixels.
        checksum: CRC-32 of the pixels.
        width: Width of the image in its file, pixels.
        height: Height of the image in its file, pixels.
        remarks: What is worth a look, a line each.
    """

    bytes: int
    inode: int
    modified: int
    changed: int
    number: int
    checksum: int
    width: int
    height: int
    remarks: str


class KnownFiles:
    """The files of a split whose prepared images are known.

    Args:
        count: Number of files N.
    """

    def __init__(self, count: int):
        self.numbers = np.full(count, -1)  # of the images in the file of pixels, int64 (N,)
        self.sizes = np.zeros((count, 2), np.int64)  # width and height in the files, pixels
        self.remarks: dict[int, str] = {}  # index of a file → what is worth a look, a line each

    def missing(self) -> np.ndarray:
        """Return the indices of the files that are not known, int64 (M,)."""
        return np.flatnonzero(self.numbers < 0)

    def add(self, index: int, entry: Entry) -> None:
        """Add a file."""
        self.numbers[index] = entry.number
        self.sizes[index] = entry.width, entry.height
        if entry.remarks:
            self.remarks[index] = entry.remarks


def signed(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return numbers of up to 64 bits as SQLite can store them, which has no unsigned ones."""
    return tuple((number + 2**63) % 2**64 - 2**63 for number in numbers)


def is_unchanged(path: str, entry: Entry) -> bool:
    """Return whether a file is as it was when it was read."""
    try:
        return entry[:4] == signed(status_of(Path(path).stat()))
    except OSError:
        return False
