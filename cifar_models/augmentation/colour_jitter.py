"""Colour jitter: random brightness, contrast, saturation and hue, as in torchvision.

They are applied in this order, where torchvision's order is random.
"""

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.rand_augment import grey
from cifar_models.augmentation.stateless_random import split_key, uniform
from cifar_models.config.augmentation import AugmentationConfig


def colour_jitter(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Change the colours of a batch with the recipe's `jitter_*` keys."""
    images = apply_colour_jitter(
        batch.images,
        key,
        (config.jitter_brightness, config.jitter_contrast, config.jitter_saturation),
        config.jitter_hue,
    )
    return batch._replace(images=images)


def apply_colour_jitter(
    images: tf.Tensor, key: tf.Tensor, strengths: tuple[float, float, float], hue: float
) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of each image by random amounts.

    Args:
        images: Images, uint8 (B, H, W, C), C = 1 or 3.
        key: Random key, int32 (2,).
        strengths: Strengths s of brightness, contrast and saturation: each image has a factor of
            its own, uniform from max(0, 1 - s) to 1 + s.
        hue: The hue is shifted by up to this fraction of the colour circle, in [0, 0.5].

    Returns:
        Images, uint8 (B, H, W, C).
    """
    batch, channels = images.shape[0], images.shape[3]
    keys = split_key(key, 4)
    pixels = tf.cast(images, tf.float32)
    references = (tf.zeros_like, _mean_grey, grey)
    for strength, own_key, reference_of in zip(strengths, keys[:3], references, strict=True):
        if strength and not (channels == 1 and reference_of is grey):
            low, high = max(0.0, 1 - strength), 1 + strength
            factor = low + (high - low) * uniform((batch, 1, 1, 1), own_key)
            reference = reference_of(pixels)
            pixels = tf.clip_by_value(reference + factor * (pixels - reference), 0.0, 255.0)
    if hue and channels == 3:
        shift = hue * (2 * uniform((batch, 1, 1), keys[3]) - 1)
        hsv = tf.image.rgb_to_hsv(pixels / 255)
        turned = tf.math.floormod(hsv[..., 0] + shift, 1.0)
        pixels = 255 * tf.image.hsv_to_rgb(tf.stack([turned, hsv[..., 1], hsv[..., 2]], axis=-1))
    return tf.cast(tf.round(pixels), images.dtype)


def _mean_grey(pixels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(grey(pixels), axis=[1, 2], keepdims=True)
