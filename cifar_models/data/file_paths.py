"""Paths of many files in little memory."""

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True, eq=False)
class FilePaths(Sequence[str]):
    """Paths of N files, all in one object of bytes.

    A million paths of 47 characters take 55 MB, and 104 MB as a list of texts.

    Attributes:
        joined: All paths, encoded as for the file system, without anything between them.
        starts: First byte of each path, unsigned (N,).
        ends: The byte after each path, unsigned (N,).
    """

    joined: bytes
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, paths: Iterable[str]) -> "FilePaths":
        joined, limits = bytearray(), array("Q", [0])
        for path in paths:
            joined += os.fsencode(path)
            limits.append(len(joined))
        numbers = np.array(limits, np.min_scalar_type(len(joined)))
        return cls(bytes(joined), numbers[:-1], numbers[1:])

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "FilePaths": ...
    def __getitem__(self, index: int | slice) -> "str | FilePaths":
        if isinstance(index, slice):
            return self.subset(index)
        return os.fsdecode(self.joined[self.starts[index] : self.ends[index]])

    def subset(self, indices: np.ndarray | slice) -> "FilePaths":
        """Return the paths at the indices, int64 (M,)."""
        return FilePaths(self.joined, self.starts[indices], self.ends[indices])
