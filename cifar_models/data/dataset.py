"""A data set in memory and its description."""

import hashlib
from dataclasses import dataclass

import numpy as np

from cifar_models.config.recipe import DataConfig
from cifar_models.data.splits import Split, Splits, hold_out_validation, subsample_train

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

    def splits(self, recipe: DataConfig, seed: int) -> Splits:
        """Cuts validation out of train, and keeps the part of the rest that the recipe wants."""
        whole = hold_out_validation(self.train, self.test, recipe.validation_fraction, seed)
        return subsample_train(whole, recipe.train_fraction, seed)


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
