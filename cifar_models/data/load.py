"""A name becomes images, labels and class names: TFDS, an image folder, or the bundled digits."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar_models.config.recipe import DataConfig
from cifar_models.data.dataset import Dataset
from cifar_models.data.splits import Split, stratified_indices
from cifar_models.data.tfds import _load_tfds
from cifar_models.errors import RequestError


def load_dataset(recipe: DataConfig, may_download: bool = True) -> Dataset:
    """Loads a data set by name; TFDS downloads and checks it the first time.

    Args:
        recipe: what to load, and from where.
        may_download: else only what is on this machine is read.

    Raises:
        RequestError: no such data set, or not one of images in at least two filled classes.
        RunError: it is not on this machine and cannot, or may not, be downloaded.
    """
    if recipe.dataset == "digits":
        dataset = _load_digits()
    elif recipe.dataset.startswith("folder:"):
        from cifar_models.data.image_folder import load_image_folder

        folder = Path(recipe.dataset.removeprefix("folder:")).expanduser()
        dataset = Dataset(recipe.dataset, *load_image_folder(folder, recipe.folder_image_size))
    else:
        dataset = _load_tfds(recipe.dataset, recipe.data_dir, may_download)
    _check_classes(dataset)
    return dataset


def load_dataset_of_run(recipe: DataConfig, data_dir: str | None) -> Dataset:
    """Loads what a run was trained on, from `data_dir` or where its recipe says.

    The folder may be a stranger's, so nothing is downloaded to a place that its recipe alone names.

    Raises:
        RequestError, RunError: as `load_dataset`.
    """
    asked = replace(recipe, data_dir=data_dir or recipe.data_dir)
    return load_dataset(asked, may_download=bool(data_dir) or not recipe.data_dir)


def _load_digits() -> Dataset:
    """scikit-learn's scans; a fifth is the test split, the same one for every run."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = stratified_indices(labels, fraction=0.2, seed=0)
    names = tuple(str(name) for name in digits.target_names)
    whole = Split(images, labels)
    return Dataset("digits", whole.subset(train), whole.subset(test), names)


def _check_classes(dataset: Dataset) -> None:
    if len(dataset.class_names) < 2:
        raise RequestError(
            f"dataset {dataset.name}: has the single class {dataset.class_names[0]!r}; "
            "a classifier needs at least two"
        )
    for part, labels in (("train", dataset.train.labels), ("test", dataset.test.labels)):
        counts = np.bincount(labels, minlength=len(dataset.class_names))
        empty = [dataset.class_names[i] for i in np.flatnonzero(counts == 0)]
        if empty:
            raise RequestError(
                f"dataset {dataset.name}: no {part} image of class {', '.join(empty)}; "
                "add some or remove the class"
            )
