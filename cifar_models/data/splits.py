"""Splits of a data set: labelled images that are addressed by index, disjoint and stratified."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from cifar_models.data.file_paths import FilePaths
from cifar_models.runtime.signals import obey_stop

CHUNK_BYTES = 64 * 10**6  # of images that are read at once


class Split(Protocol):
    """Labelled images that are addressed by index, wherever their pixels are stored."""

    @property
    def labels(self) -> np.ndarray:
        """Labels, int64 (N,), 0 to K - 1."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and 1 or 3 channels."""

    @property
    def files(self) -> FilePaths | None:
        """Paths of their N files, or None if they have no files of their own."""

    def __len__(self) -> int:
        """Return the number of images, N."""

    def images_at(self, indices: np.ndarray | slice) -> np.ndarray:
        """Return images, uint8 (B, H, W, C), in the order of the indices (B,)."""

    def subset(self, indices: np.ndarray) -> "Split":
        """Return the split of the images at the indices."""


@dataclass(frozen=True)
class ArraySplit:
    """A split in memory.

    Attributes:
        images: Images, uint8 (N, H, W, C), 1 or 3 channels.
        labels: Labels, int64 (N,), 0 to K - 1.
        files: Paths of their N files. None: they have no files of their own.
    """

    images: np.ndarray
    labels: np.ndarray
    files: FilePaths | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def images_at(self, indices: np.ndarray | slice) -> np.ndarray:
        return self.images[indices]

    def subset(self, indices: np.ndarray) -> "ArraySplit":
        files = None if self.files is None else self.files.subset(indices)
        return ArraySplit(self.images[indices], self.labels[indices], files)


@dataclass(frozen=True)
class Splits:
    """The splits of one run. Validation is held out of the data set's train split."""

    train: Split
    validation: Split
    test: Split


def chunks(split: Split) -> Iterator[np.ndarray]:
    """Yield the images of a split in order, uint8 (B, H, W, C), up to CHUNK_BYTES at a time."""
    size = max(1, CHUNK_BYTES // int(np.prod(split.image_shape)))
    for first in range(0, len(split), size):
        obey_stop()
        yield split.images_at(slice(first, first + size))


@dataclass(frozen=True)
class JoinedSplit:
    """The images of several splits, one after the other.

    Attributes:
        parts: The splits. Their images have one shape.
    """

    parts: tuple[Split, ...]

    @cached_property
    def labels(self) -> np.ndarray:
        return np.concatenate([part.labels for part in self.parts])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.parts[0].image_shape

    @property
    def files(self) -> FilePaths | None:
        files = [part.files for part in self.parts if part.files is not None]
        are_known = len(files) == len(self.parts)
        return FilePaths.of(itertools.chain.from_iterable(files)) if are_known else None

    def __len__(self) -> int:
        return len(self.labels)

    def images_at(self, indices: np.ndarray | slice) -> np.ndarray:
        chosen = np.arange(len(self))[indices]
        images = np.empty((len(chosen), *self.image_shape), np.uint8)
        first = 0
        for part in self.parts:
            is_inside = (first <= chosen) & (chosen < first + len(part))
            images[is_inside] = part.images_at(chosen[is_inside] - first)
            first += len(part)
        return images

    def subset(self, indices: np.ndarray) -> Split:
        return ArraySplit(
            self.images_at(indices),
            self.labels[indices],
            None if self.files is None else self.files.subset(indices),
        )


def bytes_in_memory(split: Split) -> int:
    """Return the size of the images of a split that are in memory, in bytes."""
    return num_bytes(split) if isinstance(split, ArraySplit) else 0


def num_bytes(split: Split) -> int:
    """Return the size of the images of a split, in bytes."""
    return len(split) * int(np.prod(split.image_shape))


def evenly_spaced(count: int, maximum: int) -> np.ndarray:
    """Return indices that are spread evenly over a split.

    An image folder is sorted by class, so its first images all belong to one class.

    Args:
        count: Number of images in the split.
        maximum: Maximum number of indices.

    Returns:
        Indices in ascending order, int64 (M,), 0 to count - 1.
    """
    return np.linspace(0, count - 1, min(count, maximum)).astype(int)


def hold_out_validation(train: Split, test: Split, fraction: float, seed: int) -> Splits:
    """Hold a stratified validation split out of train, and leave test as it is.

    Args:
        train: The data set's train split.
        test: The data set's test split.
        fraction: Fraction of train that is held out, in [0, 1). 0 gives an empty split.
        seed: Seed of the choice.

    Raises:
        ClassTooSmall: A class has a single image.
    """
    if not fraction:
        return Splits(train=train, validation=train.subset(np.array([], int)), test=test)
    kept, held_out = stratified_indices(train.labels, fraction, seed)
    return Splits(train=train.subset(kept), validation=train.subset(held_out), test=test)


def subsample_train(splits: Splits, fraction: float, seed: int) -> Splits:
    """Keep the same fraction of the training images of each class, and at least one of each.

    The subsets are nested: a larger fraction keeps every image that a smaller one keeps.

    Args:
        splits: The splits, before subsampling.
        fraction: Fraction of the training images to keep, in (0, 1].
        seed: Seed of the choice.
    """
    if fraction == 1:
        return splits
    labels = splits.train.labels
    rng = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        kept.append(of_class[: max(1, round(fraction * len(of_class)))])
    train = splits.train.subset(np.sort(np.concatenate(kept)))
    return Splits(train, splits.validation, splits.test)


class ClassTooSmall(Exception):
    """A class has a single image, which cannot be in both groups of a split.

    Args:
        label: The class.
    """

    def __init__(self, label: int):
        super().__init__(f"class {label} has a single image")
        self.label = label


def stratified_indices(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices 0 to N - 1 into two groups, with the same fraction of every class.

    Each group has at least one image of every class.

    Args:
        labels: Labels, int64 (N,).
        fraction: Fraction of the second group, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Two sorted index arrays; the second one holds `fraction` of each class.

    Raises:
        ClassTooSmall: A class has a single image.
    """
    from sklearn.model_selection import train_test_split

    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ClassTooSmall(int(classes[counts.argmin()]))
    num_held_out = int(np.ceil(fraction * len(labels)))
    if min(num_held_out, len(labels) - num_held_out) >= len(classes):
        rest, held_out = train_test_split(
            np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels
        )
        if all(len(np.unique(labels[group])) == len(classes) for group in (rest, held_out)):
            return np.sort(rest), np.sort(held_out)
    rng = np.random.default_rng(seed)
    is_held_out = np.zeros(len(labels), bool)
    for label, count in zip(classes, counts, strict=True):
        number = min(max(1, round(fraction * count)), count - 1)
        is_held_out[rng.permutation(np.flatnonzero(labels == label))[:number]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
