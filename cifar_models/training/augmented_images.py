"""Augmented training images for TensorBoard."""

import numpy as np
import tensorflow as tf

from cifar_models.data.pipeline import make_training_indices
from cifar_models.data.splits import Split
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.trainer import Trainer

MAX_MOSAICS = 4  # one at the start of each quarter of the run
IMAGES_IN_MOSAIC = 16  # the first ones of a batch


def log_augmented_images(trainer: Trainer, train: Split, tensorboard: TensorBoardLog) -> None:
    """Log the augmented first batch of each quarter of a run.

    A batch and its augmentation are functions of (seed, step), so all of them can be computed
    before training begins, and are not part of its time.

    Args:
        trainer: The trainer, which augments.
        train: The training images.
        tensorboard: Writer of the events.
    """
    training = trainer.recipe.training
    for epoch in sorted({n * training.epochs // MAX_MOSAICS for n in range(MAX_MOSAICS)}):
        step = epoch * trainer.steps_per_epoch
        batch = make_training_indices(
            len(train), training.batch_size, int(trainer.seed), step, step + 1
        )
        indices, flip_mask = next(iter(batch))
        images = tf.constant(train.images_at(indices.numpy()))
        labels = tf.constant(train.labels[indices])
        with tf.device("CPU"):  # a GPU would load every operation only for this
            images, _ = trainer.augmented(images, labels, flip_mask, tf.constant(step, tf.int32))
        tensorboard.images("augmented", step, mosaic(images[:IMAGES_IN_MOSAIC].numpy())[np.newaxis])


def mosaic(images: np.ndarray) -> np.ndarray:
    """Lay up to 16 images side by side, four in a row: (N, H, W, C) → (4 (H + 1), 4 (W + 1), C)."""
    missing = IMAGES_IN_MOSAIC - len(images)
    tiles = np.pad(images, ((0, missing), (0, 1), (0, 1), (0, 0)), constant_values=128)
    _, height, width, channels = tiles.shape
    rows = tiles.reshape(4, 4, height, width, channels).transpose(0, 2, 1, 3, 4)
    return rows.reshape(4 * height, 4 * width, channels)
