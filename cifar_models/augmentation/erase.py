"""Cutout and random erasing."""

import numpy as np
import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.boxes import box_mask
from cifar_models.augmentation.stateless_random import split_key, uniform, uniform_integers
from cifar_models.config.augmentation import AugmentationConfig

# Random erasing: ranges of a try, and tries until the rectangle fits into the image.
ERASED_AREA = (0.02, 1 / 3)  # as a fraction of the image
ERASED_ASPECT_RATIO = (0.3, 3.3)  # height / width
ERASING_TRIES = 10
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
    corner = tf.concat([top, left], axis=1)  # (B, 2)
    inside = box_mask(corner, tf.fill((batch, 2), size), height, width)
    return tf.where(inside, tf.cast(BLANK, images.dtype), images)


def apply_random_erasing(images: tf.Tensor, key: tf.Tensor, probability: float) -> tf.Tensor:
    """Fill a rectangle of each image with uniform noise.

    A try draws the area and the logarithm of the aspect ratio uniformly, and rounds both sides to
    pixels. The first of ten tries that is smaller than the image on both sides is erased, at a
    uniform place inside the image. If none of them is, the image stays as it is.

    Args:
        images: Images, uint8 (B, H, W, C).
        key: Random key, int32 (2,).
        probability: Probability that an image is changed, in [0, 1].

    Returns:
        Images, uint8 (B, H, W, C).

    Source: Zhong et al. (2017), arXiv:1708.04896, in the form of torchvision and timm. The paper's
    algorithm 1 draws the place within a try, so that large rectangles rarely fit.
    """
    batch, height, width, channels = images.shape
    shape_key, place_key, noise_key, apply_key = split_key(key, 4)
    sides, fits = _first_fitting_sides(uniform((batch, ERASING_TRIES, 2), shape_key), height, width)
    places = tf.constant([height, width]) - sides + 1  # number of possible corners
    corner = tf.cast(uniform((batch, 2), place_key) * tf.cast(places, tf.float32), tf.int32)
    inside = box_mask(corner, sides, height, width)  # (B, H, W, 1)
    erased = (uniform((batch, 1, 1, 1), apply_key) < probability) & fits[:, None, None, None]
    noise = uniform_integers((batch, height, width, channels), noise_key, 256)
    return tf.where(inside & erased, tf.cast(noise, images.dtype), images)


def _first_fitting_sides(
    numbers: tf.Tensor, height: int, width: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the sides of the first rectangle that fits, and whether there is one.

    Args:
        numbers: Uniform numbers in [0, 1), float32 (B, tries, 2), for area and aspect ratio.
        height: Height H of the images, pixels.
        width: Width W of the images, pixels.

    Returns:
        Height and width, pixels, int32 (B, 2), and whether they fit, bool (B,).
    """
    low, high = ERASED_AREA
    area = height * width * (low + numbers[..., 0] * (high - low))
    low, high = np.log(ERASED_ASPECT_RATIO)
    aspect = tf.exp(low + numbers[..., 1] * (high - low))
    sides = tf.sqrt(tf.stack([area * aspect, area / aspect], axis=-1))  # (B, tries, 2)
    sides = tf.cast(tf.round(sides), tf.int32)
    fits = tf.reduce_all(sides < [height, width], axis=-1)  # (B, tries)
    first = tf.argmax(fits, axis=1, output_type=tf.int32)
    return tf.gather(sides, first, axis=1, batch_dims=1), tf.reduce_any(fits, axis=1)
