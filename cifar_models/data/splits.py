"""Train, validation and test: disjoint and stratified."""

from dataclasses import dataclass

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.errors import RequestError


@dataclass(frozen=True)
class Split:
    images: np.ndarray  # uint8 (N, height, width, channels), 1 or 3 channels
    labels: np.ndarray  # int64 (N,), 0 to K - 1

    def subset(self, indices: np.ndarray) -> "Split":
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """Validation is cut out of the data set's train split; test is the data set's own."""

    train: Split
    validation: Split
    test: Split


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Returns at most so many of the indices 0 … count - 1, the first and the last among them.

    Images may lie in the order of their classes, as those of a folder do: the first ones would be
    of one class.
    """
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def hold_out_validation(train: Split, test: Split, fraction: float, seed: int) -> Splits:
    """Cuts a stratified validation split out of train; test is left as it is.

    A fraction of 0 leaves the validation split empty.

    Raises:
        RequestError: a class is too small to be in both train and validation.
    """
    if not fraction:
        return Splits(train=train, validation=train.subset(np.array([], int)), test=test)
    kept, held_out = stratified_indices(train.labels, fraction, seed)
    return Splits(train=train.subset(kept), validation=train.subset(held_out), test=test)


def subsample_train(splits: Splits, fraction: float, seed: int) -> Splits:
    """Keeps a part of the training images, the same part of each class and at least one image.

    What a smaller fraction keeps, a larger one keeps too.
    """
    if fraction == 1:
        return splits
    labels = splits.train.labels
    rng = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        kept.append(of_class[: max(1, round(fraction * len(of_class)))])
    return Splits(
        splits.train.subset(np.sort(np.concatenate(kept))), splits.validation, splits.test
    )


def stratified_indices(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits 0 … N-1 into two sorted index arrays, the second holding `fraction` of each class.

    Raises:
        RequestError: a class is too small to be in both.
    """
    from sklearn.model_selection import train_test_split

    try:
        rest, held_out = train_test_split(
            np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise RequestError(
            f"{len(labels)} images cannot give every class its part of a {fraction:g} split "
            f"({error}); add images or change data.validation_fraction"
        ) from None
    return np.sort(rest), np.sort(held_out)


def check_fits(recipe: Recipe, train: Split) -> None:
    """Raises RequestError where the recipe asks for more than the data has."""
    num_images, size = len(train.labels), min(train.images.shape[1:3])
    if recipe.training.batch_size > num_images:
        raise RequestError(
            f"{recipe.name}: training.batch_size = {recipe.training.batch_size} is more than the "
            f"{num_images} training images of {recipe.data.dataset}; choose at most {num_images}"
        )
    for key in ("crop_padding", "cutout_size"):
        if getattr(recipe.augmentation, key) >= size:
            raise RequestError(
                f"{recipe.name}: augmentation.{key} = {getattr(recipe.augmentation, key)} is not "
                f"below the {size} pixels of {recipe.data.dataset}'s images"
            )
