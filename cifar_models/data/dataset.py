"""A data set: its splits, its class names and the description that a run folder keeps."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cifar_models.config.recipe import DataConfig
from cifar_models.data.splits import Split, Splits, hold_out_validation, subsample_train
from cifar_models.errors import RequestError
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.records import DatasetInfo

IMAGES_PER_CHUNK = 4096  # hashed at once


@dataclass(frozen=True)
class Dataset:
    """A data set with the train and test split of its source.

    Attributes:
        name: Name as a recipe gives it.
        train: Training images.
        test: Test images.
        class_names: Names of the K classes, in the order of the labels.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]

    def splits(self, config: DataConfig, seed: int) -> Splits:
        """Hold out the validation images, and subsample the rest of the training images.

        Args:
            config: The `data` table, with both fractions.
            seed: Seed of the choice.

        Raises:
            RequestError: A class is too small to have images in both train and validation.
        """
        splits = hold_out_validation(self.train, self.test, config.validation_fraction, seed)
        return subsample_train(splits, config.train_fraction, seed)


def describe(dataset: Dataset, splits: Splits) -> DatasetInfo:
    """Return the content of dataset.json."""
    return DatasetInfo(
        name=dataset.name,
        image_shape=dataset.train.image_shape,
        class_names=list(dataset.class_names),
        train_images=len(splits.train),
        validation_images=len(splits.validation),
        test_images=len(splits.test),
        test_images_in_train=_count_shared(splits.train, splits.test),
        sha256=data_sha256(dataset),
    )


def data_sha256(dataset: Dataset) -> str:
    """Return the hash of all images and labels of a data set."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for images in _chunks(split):
            digest.update(np.ascontiguousarray(images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()


def check_classes(dataset: Dataset) -> None:
    """Raise RequestError if there are fewer than two classes, or a class lacks images."""
    if len(dataset.class_names) < 2:
        raise RequestError(
            f"dataset {dataset.name}: has the single class {dataset.class_names[0]!r}; "
            "a classifier needs at least two"
        )
    for split, labels in (("train", dataset.train.labels), ("test", dataset.test.labels)):
        counts = np.bincount(labels, minlength=len(dataset.class_names))
        empty = [dataset.class_names[i] for i in np.flatnonzero(counts == 0)]
        if empty:
            raise RequestError(
                f"dataset {dataset.name}: no {split} image of class {', '.join(empty)}; "
                "add some or remove the class"
            )


def _chunks(split: Split) -> Iterator[np.ndarray]:
    for first in range(0, len(split), IMAGES_PER_CHUNK):
        obey_stop()
        yield split.images_at(slice(first, first + IMAGES_PER_CHUNK))


def _count_shared(train: Split, test: Split) -> int:
    """Count the test images that equal a training image pixel by pixel."""

    def digests(split: Split) -> Iterator[bytes]:
        for images in _chunks(split):
            for image in images:
                yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()

    known = set(digests(train))
    return sum(digest in known for digest in digests(test))
