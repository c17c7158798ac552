"""The images and targets of one training step, which augmentations change."""

from typing import NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
    """A batch in the train step.

    Attributes:
        images: Images, uint8 (B, H, W, C).
        targets: Target probabilities, float32 (B, K), rows summing to 1.
        progress: Fraction of all steps that are done, float32 scalar in [0, 1].
    """

    images: tf.Tensor
    targets: tf.Tensor
    progress: tf.Tensor
