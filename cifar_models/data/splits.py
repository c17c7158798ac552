"""Splits of a data set: labelled images that are addressed by index, disjoint and stratified."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cifar_models.config.keys import MAX_WHOLE_NUMBER
from cifar_models.config.recipe import Recipe
from cifar_models.errors import RequestError


class Split(Protocol):
    """Labelled images that are addressed by index, wherever their pixels are stored."""

    @property
    def labels(self) -> np.ndarray:
        """Labels, int64 (N,), 0 to K - 1."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and 1 or 3 channels."""

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
    """

    images: np.ndarray
    labels: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def images_at(self, indices: np.ndarray | slice) -> np.ndarray:
        return self.images[indices]

    def subset(self, indices: np.ndarray) -> "ArraySplit":
        return ArraySplit(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """The splits of one run. Validation is held out of the data set's train split."""

    train: Split
    validation: Split
    test: Split


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
        RequestError: A class is too small to have images in both train and validation.
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


def stratified_indices(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices 0 to N - 1 into two groups, with the same fraction of every class.

    Args:
        labels: Labels, int64 (N,).
        fraction: Fraction of the second group, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Two sorted index arrays; the second one holds `fraction` of each class.

    Raises:
        RequestError: A class is too small to have images in both groups.
    """
    from sklearn.model_selection import train_test_split

    try:
        rest, held_out = train_test_split(
            np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise RequestError(
            f"{len(labels)} images are too few to split off {fraction:g} of every class "
            f"({error}); add images or change data.validation_fraction"
        ) from None
    return np.sort(rest), np.sort(held_out)


def check_fits(recipe: Recipe, train: Split) -> None:
    """Raise RequestError if the batches, steps, crops or cutouts of a recipe do not fit images."""
    size = min(train.image_shape[:2])
    if recipe.training.batch_size > len(train):
        raise RequestError(
            f"{recipe.name}: training.batch_size = {recipe.training.batch_size} is more than the "
            f"{len(train)} training images of {recipe.data.dataset}; choose at most {len(train)}"
        )
    steps = recipe.training.epochs * (len(train) // recipe.training.batch_size)
    if steps > MAX_WHOLE_NUMBER:
        raise RequestError(
            f"{recipe.name}: training.epochs = {recipe.training.epochs} are {steps:,} steps, more "
            f"than {MAX_WHOLE_NUMBER:,}; lower it"
        )
    for key in ("crop_padding", "cutout_size"):
        if getattr(recipe.augmentation, key) >= size:
            raise RequestError(
                f"{recipe.name}: augmentation.{key} = {getattr(recipe.augmentation, key)} must "
                f"be below {size}, the side of the images of {recipe.data.dataset} in pixels"
            )
