"""Random crop."""

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import uniform_integers
from cifar_models.config.augmentation import AugmentationConfig


def random_crop(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Crop the images of a batch with the recipe's `crop_padding`."""
    return batch._replace(images=apply_random_crop(batch.images, key, config.crop_padding))


def apply_random_crop(images: tf.Tensor, key: tf.Tensor, padding: int) -> tf.Tensor:
    """Shift each image by up to `padding` pixels in both directions, filling by reflection.

    Args:
        images: Images (B, H, W, C) of any dtype.
        key: Random key, int32 (2,).
        padding: Largest shift P, pixels; below H and W.

    Returns:
        Images of the same shape and dtype.
    """
    batch, height, width, _ = images.shape
    offsets = uniform_integers((batch, 2), key, 2 * padding + 1)  # (B, 2)
    frame = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(images, frame, "REFLECT")  # (B, H + 2P, W + 2P, C)
    rows = offsets[:, :1] + tf.range(height)  # (B, H)
    columns = offsets[:, 1:] + tf.range(width)  # (B, W)
    padded = tf.gather(padded, rows, axis=1, batch_dims=1)  # (B, H, W + 2P, C)
    return tf.gather(padded, columns, axis=2, batch_dims=1)  # (B, H, W, C)
