"""Random resized crop (arXiv:1409.4842), as torchvision draws it."""

import math

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import uniform
from cifar_models.config.augmentation import AugmentationConfig

TRIES = 10  # until a rectangle fits; after the last one, the whole image is taken
MAX_RATIO = 4 / 3  # of width and height; the smallest ratio is its inverse


def resized_crop(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Crop the images of a batch with the recipe's `resized_crop_min_area`."""
    images = apply_resized_crop(batch.images, key, config.resized_crop_min_area)
    return batch._replace(images=images)


def apply_resized_crop(images: tf.Tensor, key: tf.Tensor, min_area: float) -> tf.Tensor:
    """Cut a random rectangle out of each image, and resize it to the size of the image.

    Args:
        images: Images, uint8 (B, H, W, C).
        key: Random key, int32 (2,).
        min_area: Smallest area of a rectangle, as a fraction of the image, in (0, 1].

    Returns:
        Images, uint8 (B, H, W, C).
    """
    batch, height, width, _ = images.shape
    top, left, box_height, box_width = tf.unstack(
        crop_boxes(batch, (height, width), key, min_area), axis=1
    )
    rows, row_weights = _samples(top, box_height, height)
    columns, column_weights = _samples(left, box_width, width)
    pixels = tf.cast(images, tf.float32)
    pixels = _interpolated(pixels, rows, row_weights, axis=1)
    pixels = _interpolated(pixels, columns, column_weights, axis=2)
    return tf.cast(tf.round(pixels), images.dtype)


def crop_boxes(batch: int, size: tuple[int, int], key: tf.Tensor, min_area: float) -> tf.Tensor:
    """Draw rectangles: top, left, height and width, int32 (B, 4), pixels.

    The area is uniform and the ratio of the sides uniform on a logarithmic scale. A rectangle that
    is larger than the image is drawn again.

    Args:
        batch: Number of rectangles B.
        size: Height and width of the images, pixels.
        key: Random key, int32 (2,).
        min_area: As for `apply_resized_crop`.
    """
    height, width = size
    numbers = uniform((batch, TRIES, 4), key)  # (B, T, 4)
    area = height * width * (min_area + (1 - min_area) * numbers[..., 0])
    ratio = tf.exp(math.log(MAX_RATIO) * (2 * numbers[..., 1] - 1))
    sides = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], axis=2)))  # (B, T, 2)
    fits = tf.reduce_all((sides >= 1) & (sides <= [float(height), float(width)]), axis=2)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1, output_type=tf.int32)  # (B,)
    chosen = tf.gather(sides, first, axis=1, batch_dims=1)  # (B, 2)
    whole = tf.constant([float(height), float(width)])
    chosen = tf.where(tf.reduce_any(fits, axis=1)[:, None], chosen, whole)
    place = tf.gather(numbers[..., 2:], first, axis=1, batch_dims=1)  # (B, 2)
    corner = tf.floor(place * (whole - chosen + 1))
    return tf.cast(tf.concat([corner, chosen], axis=1), tf.int32)


def _samples(start: tf.Tensor, length: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where each pixel of the result lies in the rectangle.

    Args:
        start: First row or column of the rectangle, int32 (B,).
        length: Its height or width, int32 (B,).
        size: Height or width of the result S, pixels.

    Returns:
        The two neighbouring rows or columns, int32 (B, S, 2), and the weight of the second one,
        float32 (B, S).
    """
    offsets = (tf.range(size, dtype=tf.float32) + 0.5) / size  # (S,), 0 to 1
    last = tf.cast(length, tf.float32)[:, None] - 1
    position = tf.clip_by_value(offsets * (last + 1) - 0.5, 0.0, last)  # (B, S)
    low = tf.floor(position)
    neighbours = tf.cast(tf.stack([low, tf.minimum(low + 1, last)], axis=2), tf.int32)
    return neighbours + start[:, None, None], position - low


def _interpolated(
    pixels: tf.Tensor, neighbours: tf.Tensor, weights: tf.Tensor, axis: int
) -> tf.Tensor:
    """Interpolate between neighbours along an axis, 1 or 2: (B, H, W, C) → (B, H, W, C)."""
    low, high = (tf.gather(pixels, neighbours[..., i], axis=axis, batch_dims=1) for i in (0, 1))
    shape = (-1, weights.shape[1], 1, 1) if axis == 1 else (-1, 1, weights.shape[1], 1)
    return low + tf.reshape(weights, shape) * (high - low)
