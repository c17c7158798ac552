"""Images in one file on the disk, of equal size and without compression, read by their number."""

import itertools
import os
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cifar_models.data.file_paths import FilePaths


@dataclass(frozen=True)
class PixelFile:
    """A file of images. Number n begins at byte n * H * W * C.

    It is read by `pread` and not mapped into memory, so the memory of the process does not grow
    with the file.

    Attributes:
        path: Path of the file.
        image_shape: Height and width in pixels, and channels.
    """

    path: Path
    image_shape: tuple[int, int, int]

    @property
    def image_bytes(self) -> int:
        return int(np.prod(self.image_shape))

    @cached_property
    def _descriptor(self) -> int:
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def open(self) -> None:
        """Open the file now, so that it can be read after another one has taken its place."""
        assert self._descriptor >= 0

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return images, uint8 (B, H, W, C), in the order of their numbers, int64 (B,).

        Raises:
            OSError: The file is too short, or cannot be read.
        """
        images = np.empty((len(numbers), *self.image_shape), np.uint8)
        if not len(numbers):
            return images
        # Neighbours in the file are read at once.
        starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers) != 1) + 1, [len(numbers)]])
        for first, end in itertools.pairwise(starts):
            target = images[first:end].reshape(-1).data
            offset = int(numbers[first]) * self.image_bytes
            while target:
                count = os.preadv(self._descriptor, [target], offset)
                if not count:
                    raise OSError(f"{self.path}: ends before image {int(numbers[end - 1])}")
                target, offset = target[count:], offset + count
        return images


@dataclass(frozen=True)
class DiskSplit:
    """A split whose pixels are on the disk.

    Attributes:
        pixels: The file of the images.
        numbers: Numbers of the images in the file, int64 (N,).
        labels: Labels, int64 (N,), 0 to K - 1.
        files: Paths of their N source files, if they have any.
    """

    pixels: PixelFile
    numbers: np.ndarray
    labels: np.ndarray
    files: FilePaths | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.pixels.image_shape

    def __len__(self) -> int:
        return len(self.labels)

    def images_at(self, indices: np.ndarray | slice) -> np.ndarray:
        return self.pixels.read(self.numbers[indices])

    def subset(self, indices: np.ndarray) -> "DiskSplit":
        files = None if self.files is None else self.files.subset(indices)
        return DiskSplit(self.pixels, self.numbers[indices], self.labels[indices], files)
