"""Pictures for TensorBoard of what the network sees in training."""

import numpy as np
import tensorflow as tf

from cifar_models.data.pipeline import make_training_indices
from cifar_models.data.splits import Split
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.trainer import Trainer

PICTURES = 4  # one a quarter
SHOWN = 16  # images of a batch


def log_augmented_images(
    trainer: Trainer, train: Split, batch_size: int, epochs: int, tensorboard: TensorBoardLog
) -> None:
    """Shows the first batch of each quarter of a run as its step will augment it.

    A batch and its augmentation are functions of (seed, step): all of them can be shown before
    the clock of the training starts, and none takes time from a run of seconds.
    """
    for epoch in sorted({number * epochs // PICTURES for number in range(PICTURES)}):
        step = epoch * trainer.steps_per_epoch
        where = len(train.labels), batch_size, int(trainer.seed), step, step + 1
        indices, flip_mask = next(iter(make_training_indices(*where)))
        images, labels = tf.constant(train.images[indices]), tf.constant(train.labels[indices])
        with tf.device("CPU"):  # each operation of it would be loaded onto a GPU for this alone
            images, _ = trainer.augmented(images, labels, flip_mask, tf.constant(step, tf.int32))
        picture = mosaic(images[:SHOWN].numpy())
        tensorboard.images("augmented", step, picture[np.newaxis])


def mosaic(images: np.ndarray) -> np.ndarray:
    """Lays up to 16 images side by side, four a row: (N, H, W, C) → (4 (H + 1), 4 (W + 1), C)."""
    missing = SHOWN - len(images)
    tiles = np.pad(images, ((0, missing), (0, 1), (0, 1), (0, 0)), constant_values=128)
    _, height, width, channels = tiles.shape
    rows = tiles.reshape(4, 4, height, width, channels).transpose(0, 2, 1, 3, 4)
    return rows.reshape(4 * height, 4 * width, channels)
