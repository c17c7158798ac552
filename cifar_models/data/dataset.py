"""A data set: its splits, its class names and the description that a run folder keeps."""

import hashlib
import logging
from array import array
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from cifar_models.config.paths import FOLDER
from cifar_models.config.recipe import DataConfig
from cifar_models.data.duplicates import image_hashes, near_duplicates
from cifar_models.data.splits import (
    ClassTooSmall,
    Split,
    Splits,
    chunks,
    hold_out_validation,
    subsample_train,
)
from cifar_models.errors import RequestError
from cifar_models.runtime.text import printable
from cifar_models.storage.records import DatasetInfo

logger = logging.getLogger("cifar_models")

MAX_LISTED_CHARACTERS = 2_000_000  # of the unusable files in dataset.json
MAX_IMBALANCE = 10  # images of the largest class for each image of the smallest one


@dataclass
class Findings:
    """What was found in the files of a folder.

    Attributes:
        sizes: Width and height of each image in its file in turn, pixels.
        unusable: "PATH: reason" of each file that cannot be used as an image.
        remarks: What is worth a look → the paths of the images that have it.
    """

    sizes: array = field(default_factory=lambda: array("I"))
    unusable: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Dataset:
    """A data set with the train and test split of its source.

    Attributes:
        name: Name as a recipe gives it.
        train: Training images.
        test: Test images.
        class_names: Names of the K classes, in the order of the labels.
        validation: The validation split of the source, or None if it has none.
        is_test_held_out: Whether the source has no test split, so that a part of its images is one.
        findings: What was found in its files, if it has files.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    validation: Split | None = None
    is_test_held_out: bool = False
    findings: Findings = field(default_factory=Findings)

    def splits(self, config: DataConfig, seed: int) -> Splits:
        """Hold out the validation images, and subsample the rest of the training images.

        If the source has a validation split, nothing is held out.

        Args:
            config: The `data` table, with both fractions.
            seed: Seed of the choice.

        Raises:
            RequestError: A class is too small to have images in both train and validation.
        """
        if self.validation is not None:
            splits = Splits(self.train, self.validation, self.test)
            return subsample_train(splits, config.train_fraction, seed)
        try:
            splits = hold_out_validation(self.train, self.test, config.validation_fraction, seed)
        except ClassTooSmall as error:
            raise RequestError(
                f"dataset {self.name}: class {self.class_names[error.label]} has a single training "
                "image, too few for training and validation; add images of it, remove it, or set "
                "data.validation_fraction=0 and training.keep=last"
            ) from None
        return subsample_train(splits, config.train_fraction, seed)


def describe(
    dataset: Dataset, splits: Splits, train_hashes: np.ndarray | None = None
) -> DatasetInfo:
    """Return the content of dataset.json.

    Args:
        dataset: The data set.
        splits: Its splits for the run.
        train_hashes: `image_hashes` of the training images, if they have been computed.
    """
    if train_hashes is None:
        train_hashes = image_hashes(splits.train)
    return DatasetInfo(
        name=dataset.name,
        image_shape=dataset.train.image_shape,
        class_names=list(dataset.class_names),
        train_images=len(splits.train),
        validation_images=len(splits.validation),
        test_images=len(splits.test),
        test_images_in_train=int(np.isin(image_hashes(splits.test), train_hashes).sum()),
        sha256=data_sha256(dataset),
        unusable_files=_listed(dataset.findings.unusable),
    )


def _listed(remarks: list[str]) -> list[str]:
    """Return remarks about files, and the number of those for which a file has no space."""
    sizes = np.cumsum([len(remark) for remark in remarks])
    count = int(np.searchsorted(sizes, MAX_LISTED_CHARACTERS, "right"))
    more = [f"and {len(remarks) - count} more"] if count < len(remarks) else []
    return [*remarks[:count], *more]


def changes_since(info: DatasetInfo, dataset: Dataset, splits: Splits) -> list[str]:
    """Return one phrase for each way in which data differ from those of a run.

    Args:
        info: Description of the run's data.
        dataset: A data set.
        splits: Its splits for this run.
    """
    changes = []
    for name in ("train", "validation", "test"):
        then, now = getattr(info, f"{name}_images"), len(getattr(splits, name))
        if then != now:
            changes.append(f"{then:,} {name} images are now {now:,}")
    if (sha256 := data_sha256(dataset)) != info.sha256:
        changes.append(
            f"the SHA-256 of the data began with {info.sha256[:12]} and begins with {sha256[:12]}"
        )
    return changes


def is_skewed(counts: np.ndarray) -> bool:
    """Return whether the classes differ so much in size that accuracy hides the small ones.

    Args:
        counts: Number of images of each class, (K,).
    """
    return counts.max() > MAX_IMBALANCE * counts.min()


def warn_of_odd_data(info: DatasetInfo, splits: Splits) -> None:
    """Log what makes results on these data look better or worse than they are.

    Args:
        info: Description of the data.
        splits: The splits of the run.
    """
    if info.test_images_in_train:
        logger.warning(
            "%d of the %d test images are also training images; the test accuracy will be too high",
            info.test_images_in_train,
            info.test_images,
        )
    similar = near_duplicates(splits.train, splits.test) if info.name.startswith(FOLDER) else []
    if len(similar) > info.test_images_in_train:
        logger.warning(
            "%d of the %d test images look like a training image; see which with: check %s",
            len(similar),
            info.test_images,
            info.name,
        )
    counts = np.bincount(splits.train.labels, minlength=len(info.class_names))
    if is_skewed(counts):
        logger.warning(
            "class %s has %d training images and class %s has %d; accuracy hides how well the "
            "small classes do, so look at recall_macro and at the metrics of each class; "
            "training.class_weights=balanced gives all classes the same weight",
            printable(info.class_names[counts.argmax()]),
            counts.max(),
            printable(info.class_names[counts.argmin()]),
            counts.min(),
        )


def data_sha256(dataset: Dataset) -> str:
    """Return the hash of all images and labels of a data set."""
    digest = hashlib.sha256()
    splits = (dataset.train, dataset.validation, dataset.test)
    for split in (split for split in splits if split is not None):
        for images in chunks(split):
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
