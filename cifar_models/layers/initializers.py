"""Weight initializers that Keras lacks."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from cifar_models.layers.serialization import PACKAGE

# How much noise and how much identity mimetic attention begins with, as the paper's small ViTs.
SIMILARITY = (0.7, 0.7)


OUTPUT = (0.4, -0.4)


def apply_mimetic_init(attention: keras.layers.MultiHeadAttention) -> None:
    """Sets the kernels of an attention layer to products that resemble those of trained ones.

    In each head, query times key transposed is the nearest to 0.7 Z + 0.7 I that the head's width
    allows: a token looks at its like. Over all heads, value times output is 0.4 Z - 0.4 I. Z is
    normal noise of variance 1 / D. Trockman & Kolter 2023, arXiv:2305.09828, section 3.

    Args:
        attention: a built layer of a sequence (B, N, D) to itself.
    """
    hidden_dim, num_heads, head_dim = attention.query_dense.kernel.shape
    heads = [_factors(hidden_dim, *SIMILARITY) for _ in range(num_heads)]
    query, key = (np.stack([head[side] for head in heads], axis=1) for side in (0, 1))  # (D, H, D)
    value, output = _factors(hidden_dim, *OUTPUT)
    attention.query_dense.kernel.assign(query[..., :head_dim])
    attention.key_dense.kernel.assign(key[..., :head_dim])
    attention.value_dense.kernel.assign(value.reshape(hidden_dim, num_heads, head_dim))
    attention.output_dense.kernel.assign(output.T.reshape(num_heads, head_dim, hidden_dim))


def _factors(width: int, noise: float, identity: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns left and right (D, D) with left @ right.T = noise Z + identity I, strongest first."""
    normal = keras.initializers.RandomNormal(stddev=width**-0.5)((width, width))
    left, strengths, right = np.linalg.svd(noise * np.asarray(normal) + identity * np.eye(width))
    return left * np.sqrt(strengths), right.T * np.sqrt(strengths)


@keras.saving.register_keras_serializable(PACKAGE)
class PartialIdentity(keras.initializers.Initializer):
    """Kernels that begin as the identity: filter i hands on channel i, for as many as there are.

    The other filters are uniform within 1 / sqrt(fan-in). Zagoruyko & Komodakis 2017,
    arXiv:1706.00388 ("Dirac"), of a part of the filters: Jordan 2024, arXiv:2404.00498, section 3.

    Args:
        seed: of the uniform filters.
    """

    def __init__(self, seed: int | None = None):
        self.seed = seed
        self._others = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed)

    def __call__(self, shape, dtype=None):
        """Returns a kernel (P, Q, C, F)."""
        height, width, channels, filters = shape
        identity = np.zeros(shape, np.float32)
        handed_on = np.arange(min(channels, filters))
        identity[height // 2, width // 2, handed_on, handed_on] = 1
        is_identity = np.arange(filters) < channels
        return tf.where(is_identity, tf.cast(identity, dtype), self._others(shape, dtype))

    def get_config(self):
        return {"seed": self.seed}


class SinusoidalPositions(keras.initializers.Initializer):
    """Sines and cosines of row and column: (N, D), N the patches of a square image, D in fours.

    Of D / 4 frequencies, from 1 down to nearly 1 / 10,000 radians a patch: Vaswani et al. 2017,
    arXiv:1706.03762, section 3.5, once for the rows and once for the columns. A class token, first,
    is given zeros.
    """

    def __call__(self, shape, dtype=None):
        places, width = shape
        side = math.isqrt(places)
        row, column = np.divmod(np.arange(side**2), side)
        frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
        angles = [place[:, None] * frequencies for place in (row, column)]  # (N, D / 4)
        sinusoidal = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        vectors = np.pad(np.concatenate(sinusoidal, axis=1), [[places - side**2, 0], [0, 0]])
        return ops.convert_to_tensor(vectors, dtype)
