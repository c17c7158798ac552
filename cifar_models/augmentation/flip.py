"""Random horizontal flip."""

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import uniform
from cifar_models.config.augmentation import AugmentationConfig


def horizontal_flip(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Apply `apply_horizontal_flip`."""
    return batch._replace(images=apply_horizontal_flip(batch.images, key))


def apply_horizontal_flip(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Flip each image left to right with probability 1/2: (B, H, W, C) → the same shape."""
    flipped = uniform((images.shape[0], 1, 1, 1), key) < 0.5
    return tf.where(flipped, tf.reverse(images, [2]), images)
