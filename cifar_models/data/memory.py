"""The memory that a data set takes, known before its first image is read."""

import math

from cifar_models.config.recipe import DataConfig
from cifar_models.runtime.memory import in_words, is_for_training, refuse_if_too_large

TENSOR_COPIES = 2  # of the training split, while TensorFlow reads batches from it


def refuse_data_that_does_not_fit(
    config: DataConfig, train: int, test: int, image_shape: tuple[int, int, int], fix: str
) -> None:
    """Raise RequestError if less memory is left than the images of a data set will take.

    Args:
        config: The recipe's `data` table.
        train: Number of images in the train split of the data set.
        test: Number of images in its test split.
        image_shape: Height and width in pixels, and 1 or 3 channels.
        fix: What to change.
    """
    height, width, _ = image_shape
    image_bytes, count = math.prod(image_shape), train + test
    what = f"{config.dataset}: {count:,} images of {height}x{width} pixels"
    if is_for_training():
        what += f" ({in_words(count * image_bytes)}) and the copies of them for training"
        count += training_copies(config, train)
    refuse_if_too_large(count * image_bytes, what, fix)


def training_copies(config: DataConfig, train: int) -> int:
    """Return how many copies of images a training run holds in memory, besides the data set.

    The training and the validation split are copies of parts of the data set's train split, unless
    the former is all of it. TensorFlow holds the training split twice more (measured).

    Args:
        config: The recipe's `data` table.
        train: Number of images in the train split of the data set.
    """
    validation = round(config.validation_fraction * train)
    kept = round(config.train_fraction * (train - validation))
    return TENSOR_COPIES * kept + (kept + validation if kept < train else 0)
