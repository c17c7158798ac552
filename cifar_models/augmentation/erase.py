"""Cutout and random erasing."""

import numpy as np
import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.boxes import random_box
from cifar_models.augmentation.stateless_random import split_key, uniform, uniform_integers
from cifar_models.config.augmentation import AugmentationConfig

# Ranges of random erasing in the paper.
ERASED_AREA = (0.02, 1 / 3)  # as a fraction of the image
ERASED_ASPECT_RATIO = (0.3, 3.3)  # height / width
BLANK = 128  # mid-grey, which the networks scale to 0


def cutout(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Blank a square of `cutout_size` pixels in each image of a batch."""
    return batch._replace(images=apply_cutout(batch.images, key, config.cutout_size))


def random_erasing(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Erase a rectangle of each image of a batch with probability `random_erasing`."""
    return batch._replace(images=apply_random_erasing(batch.images, key, config.random_erasing))


def apply_cutout(images: tf.Tensor, key: tf.Tensor, size: int) -> tf.Tensor:
    """Blank a random square that lies completely inside each image.

    Args:
        images: Images (B, H, W, C) of any dtype.
        key: Random key, int32 (2,).
        size: Side of the square, pixels; below H and W.

    Returns:
        Images of the same shape and dtype.

    Source: DeVries and Taylor (2017), arXiv:1708.04552, whose squares may extend beyond the image.
    """
    batch, height, width, _ = images.shape
    y_key, x_key = split_key(key, 2)
    top = uniform_integers((batch, 1), y_key, height - size + 1)
    left = uniform_integers((batch, 1), x_key, width - size + 1)
    rows, columns = tf.range(height) - top, tf.range(width) - left  # (B, H), (B, W)
    in_rows, in_columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
    return tf.where(inside, tf.cast(BLANK, images.dtype), images)


def apply_random_erasing(images: tf.Tensor, key: tf.Tensor, probability: float) -> tf.Tensor:
    """Fill a rectangle of each image with uniform noise.

    The area and the logarithm of the aspect ratio are uniform, as in the paper. A rectangle that
    extends beyond the image is cut off, where the paper draws another one.

    Args:
        images: Images, uint8 (B, H, W, C).
        key: Random key, int32 (2,).
        probability: Probability that an image is changed, in [0, 1].

    Returns:
        Images, uint8 (B, H, W, C).

    Source: Zhong et al. (2017), arXiv:1708.04896.
    """
    batch, height, width, channels = images.shape
    shape_key, place_key, noise_key, apply_key = split_key(key, 4)
    shape = uniform((batch, 2), shape_key)
    area = ERASED_AREA[0] + shape[:, 0] * (ERASED_AREA[1] - ERASED_AREA[0])
    low, high = np.log(ERASED_ASPECT_RATIO)
    stretch = tf.exp(0.5 * (low + shape[:, 1] * (high - low)))  # square root of the aspect ratio
    sides = tf.sqrt(area)[:, None] * tf.stack([stretch, 1 / stretch], axis=1)  # (B, 2), fractions
    inside = random_box(sides, place_key, batch, height, width)  # (B, H, W, 1)
    erased = uniform((batch, 1, 1, 1), apply_key) < probability
    noise = uniform_integers((batch, height, width, channels), noise_key, 256)
    return tf.where(inside & erased, tf.cast(noise, images.dtype), images)
