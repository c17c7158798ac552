"""Weight initializers that Keras does not provide."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from cifar_models.layers.serialization import PACKAGE

# Scales of (noise, identity) in the products of attention kernels; the paper's for small ViTs.
QUERY_KEY_SCALES = (0.7, 0.7)
VALUE_OUTPUT_SCALES = (0.4, -0.4)


def apply_mimetic_init(attention: keras.layers.MultiHeadAttention) -> None:
    """Set the kernels of self-attention so that their products resemble those of trained models.

    In each head, query @ key.T is the best approximation of 0.7 Z + 0.7 I that the rank of the
    head allows, so tokens attend to similar tokens. Over all heads, value @ output equals
    0.4 Z - 0.4 I. Z is Gaussian noise of variance 1 / D.

    Args:
        attention: Built self-attention layer of sequences (B, N, D).

    Source: Trockman and Kolter (2023), arXiv:2305.09828, section 3.
    """
    hidden_dim, num_heads, head_dim = attention.query_dense.kernel.shape
    heads = [_factors_of_mimetic_product(hidden_dim, *QUERY_KEY_SCALES) for _ in range(num_heads)]
    query = np.stack([left for left, _ in heads], axis=1)  # (D, heads, D)
    key = np.stack([right for _, right in heads], axis=1)  # (D, heads, D)
    value, output = _factors_of_mimetic_product(hidden_dim, *VALUE_OUTPUT_SCALES)  # (D, D)
    attention.query_dense.kernel.assign(query[..., :head_dim])
    attention.key_dense.kernel.assign(key[..., :head_dim])
    attention.value_dense.kernel.assign(value.reshape(hidden_dim, num_heads, head_dim))
    attention.output_dense.kernel.assign(output.T.reshape(num_heads, head_dim, hidden_dim))


def _factors_of_mimetic_product(
    width: int, noise_scale: float, identity_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (left, right), both (D, D), with left @ right.T = noise_scale Z + identity_scale I.

    Columns are in descending order of their singular values.
    """
    noise = np.asarray(keras.initializers.RandomNormal(stddev=width**-0.5)((width, width)))
    left, singular_values, right = np.linalg.svd(
        noise_scale * noise + identity_scale * np.eye(width)
    )
    return left * np.sqrt(singular_values), right.T * np.sqrt(singular_values)


@keras.saving.register_keras_serializable(PACKAGE)
class PartialIdentity(keras.initializers.Initializer):
    """Identity ("Dirac") initialization of convolution kernels (P, Q, C, F).

    Filter i copies channel i for i < min(C, F). The remaining filters are uniform within
    1 / sqrt(fan-in).

    Args:
        seed: Seed of the uniform filters; None draws one from Keras' global generator.

    Source: Zagoruyko and Komodakis (2017), arXiv:1706.00388; applied to a subset of the filters as
    in Jordan (2024), arXiv:2404.00498, section 3.
    """

    def __init__(self, seed: int | None = None):
        self.seed = seed
        self._uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed)

    def __call__(self, shape, dtype=None):
        """Return a kernel of the given shape (P, Q, C, F)."""
        height, width, channels, filters = shape
        identity = np.zeros(shape, np.float32)
        copied = np.arange(min(channels, filters))
        identity[height // 2, width // 2, copied, copied] = 1
        is_identity = np.arange(filters) < channels  # (F,)
        return tf.where(is_identity, tf.cast(identity, dtype), self._uniform(shape, dtype))

    def get_config(self):
        return {"seed": self.seed}


class SinusoidalPositions(keras.initializers.Initializer):
    """Two-dimensional sinusoidal position embeddings (N, D) of a square grid of patches.

    D / 4 frequencies fall from 1 to almost 1 / 10,000 radians per patch. Each gives a sine and a
    cosine of the row, and a sine and a cosine of the column. If N is one more than a square, the
    first vector belongs to a class token and is zero. D must be divisible by 4.

    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.5, applied to rows and columns.
    """

    def __call__(self, shape, dtype=None):
        """Return embeddings of the given shape (N, D)."""
        num_tokens, width = shape
        side = math.isqrt(num_tokens)
        row, column = np.divmod(np.arange(side**2), side)
        frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
        angles = [position[:, None] * frequencies for position in (row, column)]  # (N, D / 4)
        waves = [function(angle) for angle in angles for function in (np.sin, np.cos)]
        patches = np.concatenate(waves, axis=1)  # (side * side, D)
        embeddings = np.pad(patches, [[num_tokens - side**2, 0], [0, 0]])  # (N, D)
        return ops.convert_to_tensor(embeddings, dtype)
