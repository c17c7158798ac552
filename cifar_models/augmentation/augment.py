"""Augmentation of a batch: stateless functions of (images, random key), inside the train step.

Keys are int32 (2,) as TensorFlow's `stateless_*` functions take them. Nothing here draws from a
hidden state, and everything compiles under XLA: crops are gathers, choices are masks.
"""

import numpy as np
import tensorflow as tf
from scipy import stats

from cifar_models.augmentation.rand_augment import apply_rand_augment
from cifar_models.augmentation.stateless_random import split_key, uniform, uniform_integers
from cifar_models.config.recipe import AugmentationConfig

ERASED_AREA = (0.02, 1 / 3)  # of the image; random erasing's defaults, arXiv:1708.04896
ERASED_ASPECT_RATIO = (0.3, 3.3)
BETA_QUANTILES = 1025
BLANK = 128  # grey


def augment_batch(
    recipe: AugmentationConfig,
    images: tf.Tensor,
    targets: tf.Tensor,
    key: tf.Tensor,
    progress: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies what the recipe switches on, in the order in which the recipe lists it.

    Args:
        recipe: which augmentations, and how strong.
        images: uint8 (B, H, W, C).
        targets: float32 (B, K), rows summing to 1.
        key: int32 (2,), the random numbers of this step.
        progress: float32 scalar, the part of all steps that is done, 0 to 1.

    Returns:
        images uint8 (B, H, W, C) and targets float32 (B, K).
    """
    crop, flip, rand_augment, erase, mix, cutout = split_key(key, 6)
    if recipe.crop_padding:
        images = apply_random_crop(images, crop, recipe.crop_padding)
    if recipe.horizontal_flip:
        images = apply_horizontal_flip(images, flip)
    if recipe.cutout_size:
        images = apply_cutout(images, cutout, recipe.cutout_size)
    if recipe.rand_augment_layers:
        images = apply_rand_augment(
            images, rand_augment, recipe.rand_augment_layers, recipe.rand_augment_magnitude
        )
    if recipe.random_erasing:
        images = apply_random_erasing(images, erase, recipe.random_erasing)
    if recipe.mixup_alpha or recipe.cutmix_alpha:
        probability = tf.where(progress < recipe.mix_until_fraction, recipe.mix_probability, 0.0)
        images, targets = apply_mix(
            images, targets, mix, recipe.mixup_alpha, recipe.cutmix_alpha, probability
        )
    return images, targets


def apply_random_crop(images: tf.Tensor, key: tf.Tensor, padding: int) -> tf.Tensor:
    """Shifts each image by up to `padding` pixels both ways, filling by reflection.

    (B, H, W, C) → (B, H, W, C); padding must be below H and W.
    """
    batch, height, width, _ = images.shape
    offsets = uniform_integers((batch, 2), key, 2 * padding + 1)  # (B, 2)
    frame = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(images, frame, "REFLECT")  # (B, H + 2P, W + 2P, C)
    rows = offsets[:, :1] + tf.range(height)  # (B, H)
    columns = offsets[:, 1:] + tf.range(width)  # (B, W)
    padded = tf.gather(padded, rows, axis=1, batch_dims=1)  # (B, H, W + 2P, C)
    return tf.gather(padded, columns, axis=2, batch_dims=1)  # (B, H, W, C)


def apply_horizontal_flip(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Mirrors each image left to right with probability one half: (B, H, W, C) → the same."""
    flipped = uniform((images.shape[0], 1, 1, 1), key) < 0.5
    return tf.where(flipped, tf.reverse(images, [2]), images)


def apply_cutout(images: tf.Tensor, key: tf.Tensor, size: int) -> tf.Tensor:
    """Blanks a square of each image, whole and anywhere in it: (B, H, W, C) → the same.

    DeVries & Taylor 2017, arXiv:1708.04552, with the square inside the image; size in pixels,
    below H and W. Blank is mid-grey, which the networks scale to 0.
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
    """Fills a rectangle of each image with noise (Zhong et al. 2017): (B, H, W, C) → the same.

    Area and log aspect ratio are uniform, as in the paper; a side that would be longer than the
    image is cut to it instead of being drawn again.
    """
    batch, height, width, channels = images.shape
    shape_key, place_key, noise_key, apply_key = split_key(key, 4)
    shape = uniform((batch, 2), shape_key)
    area = ERASED_AREA[0] + shape[:, 0] * (ERASED_AREA[1] - ERASED_AREA[0])
    low, high = np.log(ERASED_ASPECT_RATIO)
    stretch = tf.exp(0.5 * (low + shape[:, 1] * (high - low)))  # square root of the aspect ratio
    sides = tf.sqrt(area)[:, None] * tf.stack([stretch, 1 / stretch], axis=1)  # (B, 2), of 1
    inside = random_box(sides, place_key, batch, height, width)  # (B, H, W, 1)
    erased = uniform((batch, 1, 1, 1), apply_key) < probability
    noise = uniform_integers((batch, height, width, channels), noise_key, 256)
    return tf.where(inside & erased, tf.cast(noise, images.dtype), images)


def apply_mix(
    images: tf.Tensor,
    targets: tf.Tensor,
    key: tf.Tensor,
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: tf.Tensor | float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899), drawn for each image.

    Each image is mixed with the one opposite it in the batch, which is in random order already.
    Both are the same sum under a mask: MixUp's is one weight, CutMix's is 0 inside a box.
    Targets mix by the share of the picture that is left.

    Args:
        images: uint8 (B, H, W, C).
        targets: float32 (B, K).
        key: int32 (2,).
        mixup_alpha, cutmix_alpha: of Beta(alpha, alpha); 0 switches one off.
        probability: that an image is mixed at all, 0 to 1.
    """
    batch, height, width, _ = images.shape
    which, mixup_key, cutmix_key, place_key, apply_key = split_key(key, 5)
    mixup_share = 1.0 if mixup_alpha and not cutmix_alpha else 0.5 if mixup_alpha else 0.0
    kept_mixup = random_beta(mixup_key, batch, mixup_alpha or 1.0)  # (B,)
    kept_cutmix = random_beta(cutmix_key, batch, cutmix_alpha or 1.0)
    sides = tf.repeat(tf.sqrt(1 - kept_cutmix)[:, None], 2, axis=1)  # (B, 2)
    box = random_box(sides, place_key, batch, height, width)  # (B, H, W, 1)
    is_mixup = uniform((batch, 1, 1, 1), which) < mixup_share
    mask = tf.where(is_mixup, kept_mixup[:, None, None, None], 1 - tf.cast(box, tf.float32))
    mixed = uniform((batch, 1, 1, 1), apply_key) < probability
    mask = tf.where(mixed, mask, 1.0)  # (B, H, W, 1)
    own, other = tf.cast(images, tf.float32), tf.cast(images[::-1], tf.float32)
    blended = tf.cast(tf.round(mask * own + (1 - mask) * other), images.dtype)
    share = tf.reduce_mean(mask, axis=[1, 2])  # (B, 1), exact also where the box was cut
    return blended, share * targets + (1 - share) * targets[::-1]


def random_box(sides: tf.Tensor, key: tf.Tensor, batch: int, height: int, width: int) -> tf.Tensor:
    """Returns a mask, bool (B, H, W, 1), of one box an image, its centre uniform in the image.

    Sides are (B, 2), height and width as parts of the image's; what sticks out is cut off.
    """
    centre = uniform((batch, 2), key)
    top_left, bottom_right = centre - sides / 2, centre + sides / 2  # (B, 2)
    y = (tf.range(height, dtype=tf.float32) + 0.5) / height  # pixel centres, of 1
    x = (tf.range(width, dtype=tf.float32) + 0.5) / width
    in_rows = (y >= top_left[:, :1]) & (y < bottom_right[:, :1])  # (B, H)
    in_columns = (x >= top_left[:, 1:]) & (x < bottom_right[:, 1:])  # (B, W)
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]


def random_beta(key: tf.Tensor, batch: int, alpha: float) -> tf.Tensor:
    """Draws Beta(alpha, alpha) for each image, float32 (B,), through a table of its quantiles.

    TensorFlow's gamma sampler does not compile under XLA; reading the inverse distribution
    function at a uniform number does.
    """
    quantiles = stats.beta.ppf(np.linspace(0, 1, BETA_QUANTILES), alpha, alpha).astype(np.float32)
    position = uniform((batch,), key) * (BETA_QUANTILES - 1)
    below = tf.cast(tf.floor(position), tf.int32)
    low, high = tf.gather(quantiles, below), tf.gather(quantiles, below + 1)
    return low + (position - tf.floor(position)) * (high - low)
