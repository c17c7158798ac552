"""Boxes as masks."""

import tensorflow as tf

from cifar_models.augmentation.stateless_random import uniform


def random_box(sides: tf.Tensor, key: tf.Tensor, batch: int, height: int, width: int) -> tf.Tensor:
    """Return a mask for each image, of one box whose centre is uniform over the image.

    Args:
        sides: Height and width of the boxes, as fractions of those of the image, float32 (B, 2).
        key: Random key, int32 (2,).
        batch: Batch size B.
        height: Height H of the images, pixels.
        width: Width W of the images, pixels.

    Returns:
        Masks, bool (B, H, W, 1), True inside the box. Parts outside the image are cut off.
    """
    centre = uniform((batch, 2), key)
    top_left, bottom_right = centre - sides / 2, centre + sides / 2  # (B, 2)
    y = (tf.range(height, dtype=tf.float32) + 0.5) / height  # pixel centres, in (0, 1)
    x = (tf.range(width, dtype=tf.float32) + 0.5) / width
    in_rows = (y >= top_left[:, :1]) & (y < bottom_right[:, :1])  # (B, H)
    in_columns = (x >= top_left[:, 1:]) & (x < bottom_right[:, 1:])  # (B, W)
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]


def box_mask(corner: tf.Tensor, sides: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return a mask for each image, of one box of whole pixels.

    Args:
        corner: Top row and left column of the boxes, pixels, int32 (B, 2).
        sides: Height and width of the boxes, pixels, int32 (B, 2).
        height: Height H of the images, pixels.
        width: Width W of the images, pixels.

    Returns:
        Masks, bool (B, H, W, 1), True inside the box.
    """
    rows = tf.range(height) - corner[:, :1]  # (B, H), counted from the top of the box
    columns = tf.range(width) - corner[:, 1:]  # (B, W)
    in_rows = (rows >= 0) & (rows < sides[:, :1])
    in_columns = (columns >= 0) & (columns < sides[:, 1:])
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
