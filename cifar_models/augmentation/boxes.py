"""Random boxes as masks."""

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
