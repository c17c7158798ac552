"""Random horizontal flip."""

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import uniform
from cifar_models.config.augmentation import AugmentationConfig


def horizontal_flip(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Flip each image of a batch with probability 1/2."""
    return batch._replace(images=apply_horizontal_flip(batch.images, key))


def apply_horizontal_flip(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Flip each image left to right with probability 1/2.

    Args:
        images: Images (B, H, W, C) of any dtype.
        key: Random key, int32 (2,).

    Returns:
        Images of the same shape and dtype.
    """
    flipped = uniform((images.shape[0], 1, 1, 1), key) < 0.5
    return tf.where(flipped, tf.reverse(images, [2]), images)
