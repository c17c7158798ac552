"""The layer that predicts the feature map of a teacher from the tokens of a transformer."""

import math

import keras
import numpy as np
from keras import ops

from cifar_models.layers.serialization import PACKAGE

TEACHER_PROJECTION = "teacher_projection"  # name of the layer in a trainer


def resizing_matrix(size: int, new_size: int) -> np.ndarray:
    """Return the matrix (new_size, size) of a linear resizing that antialiases.

    Source: Pillow's "bilinear" filter, which is also that of jax.image.resize.
    """
    scale = size / new_size
    distances = (np.arange(new_size)[:, None] + 0.5) * scale - (np.arange(size) + 0.5)
    weights = np.maximum(0, 1 - np.abs(distances) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


@keras.saving.register_keras_serializable(PACKAGE)
class FeatureProjection(keras.layers.Layer):
    """Linear projection of tokens, and resizing of their grid: (B, N, D) → (B, h, w, channels).

    It has no bias. The tokens form a square grid. A class token in front of them is dropped.

    Args:
        height: Height of the feature map.
        width: Width of the feature map.
        channels: Channels of the feature map.

    Raises:
        ValueError: N is neither a square nor a square plus 1.
    """

    def __init__(self, height: int, width: int, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width
        self.channels = channels

    def build(self, input_shape):
        num_tokens = input_shape[1]
        if math.isqrt(num_tokens) ** 2 not in (num_tokens, num_tokens - 1):
            raise ValueError(f"{num_tokens} tokens are not a square grid of patches")
        self.dense = keras.layers.Dense(
            self.channels, use_bias=False, dtype=self.dtype_policy, name="dense"
        )
        self.dense.build(input_shape)
        super().build(input_shape)

    def call(self, tokens):
        side = math.isqrt(tokens.shape[1])
        x = self.dense(tokens[:, tokens.shape[1] - side**2 :])  # (B, N, channels)
        x = ops.reshape(x, (-1, side, side, self.channels))
        # XLA cannot compile TensorFlow's own antialiased resizing.
        rows, columns = (
            ops.convert_to_tensor(resizing_matrix(side, size), x.dtype)
            for size in (self.height, self.width)
        )
        return ops.einsum("hi,wj,bijc->bhwc", rows, columns, x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
        }
