"""MixUp and CutMix."""

import numpy as np
import tensorflow as tf
from scipy import stats

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.boxes import random_box
from cifar_models.augmentation.stateless_random import split_key, uniform
from cifar_models.config.augmentation import AugmentationConfig

BETA_QUANTILES = 1025  # size of the table from which Beta numbers are drawn


def mix(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Mix the images and targets of a batch, until `mix_until_fraction` of the run is done."""
    is_on = batch.progress < config.mix_until_fraction
    probability = tf.where(is_on, config.mix_probability, 0.0)
    images, targets = apply_mix(
        batch.images, batch.targets, key, config.mixup_alpha, config.cutmix_alpha, probability
    )
    return batch._replace(images=images, targets=targets)


def apply_mix(
    images: tf.Tensor,
    targets: tf.Tensor,
    key: tf.Tensor,
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: tf.Tensor | float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image with another one of the batch, by MixUp or CutMix.

    Image i is mixed with image B - 1 - i, because the batch is in random order already. Both
    methods are weighted sums of two images. The weight of the first image is constant in MixUp; in
    CutMix, it is 0 inside a box and 1 outside. Targets are mixed by the mean of these weights.

    Args:
        images: Images, uint8 (B, H, W, C).
        targets: Target probabilities, float32 (B, K).
        key: Random key, int32 (2,).
        mixup_alpha: Parameter of MixUp's Beta(alpha, alpha); 0: no MixUp.
        cutmix_alpha: The same for CutMix. If both are on, each image uses one of them at random.
        probability: Probability that an image is mixed, in [0, 1].

    Returns:
        Images, uint8 (B, H, W, C), and targets, float32 (B, K).

    Source: Zhang et al. (2017), arXiv:1710.09412; Yun et al. (2019), arXiv:1905.04899.
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
    share = tf.reduce_mean(mask, axis=[1, 2])  # (B, 1), exact even if the box is cut off
    return blended, share * targets + (1 - share) * targets[::-1]


def random_beta(key: tf.Tensor, batch: int, alpha: float) -> tf.Tensor:
    """Draw a Beta(alpha, alpha) number for each image from a table of quantiles.

    TensorFlow's gamma sampler does not compile under XLA, but inverse transform sampling does.

    Args:
        key: Random key, int32 (2,).
        batch: Batch size B.
        alpha: Both parameters of the distribution, above 0.

    Returns:
        Random numbers, float32 (B,), in [0, 1].
    """
    quantiles = stats.beta.ppf(np.linspace(0, 1, BETA_QUANTILES), alpha, alpha).astype(np.float32)
    position = uniform((batch,), key) * (BETA_QUANTILES - 1)
    below = tf.cast(tf.floor(position), tf.int32)
    low, high = tf.gather(quantiles, below), tf.gather(quantiles, below + 1)
    return low + (position - tf.floor(position)) * (high - low)
