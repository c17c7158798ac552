"""Handwritten digits that are bundled with scikit-learn, so that nothing is downloaded."""

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.data.dataset import Dataset
from cifar_models.data.splits import ArraySplit, stratified_indices

TEST_FRACTION = 0.2


def load_digits(recipe: Recipe, may_download: bool) -> Dataset:
    """Load 1,797 grey images of 8x8 pixels. The test split is the same for every run.

    Args:
        recipe: The recipe.
        may_download: Unused.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = stratified_indices(labels, TEST_FRACTION, seed=0)
    whole = ArraySplit(images, labels)
    names = tuple(str(name) for name in digits.target_names)
    return Dataset(recipe.data.dataset, whole.subset(train), whole.subset(test), names)
