"""A name becomes images, labels and class names: TFDS, an image folder, or the bundled digits."""

import difflib
import hashlib
import logging
import socket
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from cifar_models.data.splits import (
    Split,
    Splits,
    smaller_train,
    split_off_validation,
    stratified_indices,
)
from cifar_models.errors import RequestError, RunError
from cifar_models.recipe import DataRecipe
from cifar_models.runtime import import_tensorflow

# What `list datasets` names; any other image classification set of TFDS with a train and a test
# split works too.
NAMED_DATASETS = {
    "cifar10": "60,000 colour photographs of 32x32 pixels, 10 classes (TFDS)",
    "cifar100": "60,000 colour photographs of 32x32 pixels, 100 classes (TFDS)",
    "svhn_cropped": "99,289 house numbers of 32x32 pixels, 10 classes (TFDS)",
    "fashion_mnist": "70,000 grey clothes of 28x28 pixels, 10 classes (TFDS)",
    "digits": "1,797 grey digits of 8x8 pixels, 10 classes (bundled with scikit-learn)",
    "folder:PATH": "your own images: PATH/CLASS/*, or PATH/train/CLASS/* and PATH/test/CLASS/*",
}


@dataclass(frozen=True)
class Dataset:
    """A whole data set in memory, as its makers split it."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]  # K

    def splits(self, recipe: DataRecipe, seed: int) -> Splits:
        """Cuts validation out of train, and keeps the part of the rest that the recipe wants."""
        whole = split_off_validation(self.train, self.test, recipe.validation_fraction, seed)
        return smaller_train(whole, recipe.train_fraction, seed)


def load_dataset(recipe: DataRecipe, may_download: bool = True) -> Dataset:
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


def load_dataset_of_run(recipe: DataRecipe, data_dir: str | None) -> Dataset:
    """Loads what a run was trained on, from `data_dir` or where its recipe says.

    The folder may be a stranger's, so nothing is downloaded to a place that its recipe alone names.

    Raises:
        RequestError, RunError: as `load_dataset`.
    """
    asked = replace(recipe, data_dir=data_dir or recipe.data_dir)
    return load_dataset(asked, may_download=bool(data_dir) or not recipe.data_dir)


def describe(dataset: Dataset, splits: Splits) -> dict:
    """Returns what a run folder says of its data; the fingerprint covers images and labels."""
    digest = hashlib.sha256()
    for array in (
        dataset.train.images,
        dataset.train.labels,
        dataset.test.images,
        dataset.test.labels,
    ):
        digest.update(np.ascontiguousarray(array).data)
    return {
        "name": dataset.name,
        "image_shape": list(dataset.train.images.shape[1:]),
        "class_names": list(dataset.class_names),
        "train_images": len(splits.train.labels),
        "validation_images": len(splits.validation.labels),
        "test_images": len(splits.test.labels),
        "test_images_in_train": _shared(splits.train.images, splits.test.images),
        "sha256": digest.hexdigest(),
    }


def _shared(train: np.ndarray, test: np.ndarray) -> int:
    """How many test images are training images too, pixel by pixel."""

    def digest(image: np.ndarray) -> bytes:
        return hashlib.blake2b(image.tobytes(), digest_size=16).digest()

    known = {digest(image) for image in train}
    return sum(digest(image) in known for image in test)


def _load_digits() -> Dataset:
    """scikit-learn's scans; a fifth is the test split, the same one for every run."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = stratified_indices(labels, fraction=0.2, seed=0)
    names = tuple(str(name) for name in digits.target_names)
    whole = Split(images, labels)
    return Dataset("digits", whole.part(train), whole.part(test), names)


def _load_tfds(name: str, data_dir: str, may_download: bool) -> Dataset:
    import_tensorflow()
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of what is merely absent
    known = tfds.list_builders()
    if name.partition("/")[0] not in known:
        names = [*NAMED_DATASETS, *known]
        nearest = difflib.get_close_matches(name, names, n=1)
        if Path(name).is_dir():
            nearest = [f"folder:{name}"]
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise RequestError(
            f"dataset {name!r}: neither digits, folder:PATH nor a TensorFlow Datasets name{hint}"
        )
    builder = _tfds_builder(tfds, name, data_dir)
    if not builder.is_prepared():
        if not may_download:
            raise RunError(
                f"dataset {name}: not in {builder.data_path}; say with --data-dir where it is"
            )
        try:
            _check_reachable({urlsplit(url).hostname for url in builder.url_infos})
            builder.download_and_prepare()
        except Exception as error:  # any of TFDS', the network's or the disk's
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise RunError(
                f"dataset {name}: not in {builder.data_path} and not to be downloaded ({reason}). "
                f"Copy a prepared {name} folder into {Path(builder.data_path).parents[1]}, name "
                "the folder that holds one with DATA_DIR=, or train on the bundled DATASET=digits"
            ) from None
    features, splits = builder.info.features, builder.info.splits
    if "image" not in features or "label" not in features or not {"train", "test"} <= set(splits):
        raise RequestError(
            f"dataset {name}: not one image and one label each, in a train and a test split; "
            "export it to folders and use folder:PATH"
        )
    if None in features["image"].shape or features["image"].np_dtype != np.uint8:
        raise RequestError(
            f"dataset {name}: its images differ in size; export them and use folder:PATH"
        )

    def read(part: str) -> Split:
        content = tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1))
        return Split(content["image"], content["label"].astype(np.int64))

    return Dataset(name, read("train"), read("test"), tuple(features["label"].names))


def _tfds_builder(tfds, name: str, data_dir: str):
    """Makes the builder that TFDS itself has under this name.

    `tfds.builder` would rather trust the files of a prepared data set, where they name a version or
    a configuration that it does not know, and import the module that they name.
    """
    name, _, config = name.partition("/")
    builder_class = tfds.builder_cls(name)
    if config and config not in builder_class.builder_configs:
        configs = ", ".join(builder_class.builder_configs) or "none"
        raise RequestError(f"dataset {name}/{config}: no such configuration; it has {configs}")
    return builder_class(data_dir=data_dir or None, config=config or None)


def _check_reachable(hosts: Iterable[str | None]) -> None:
    """Raises OSError where a host has no address: TFDS itself would retry for many minutes."""
    if urllib.request.getproxies():
        return  # the proxy knows the addresses
    for host in hosts:
        if host:
            try:
                socket.getaddrinfo(host, 443)
            except OSError as error:
                raise ConnectionError(f"no network: {host}: {error.strerror}") from None


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
