"""Layers for token sequences: position embeddings, class token and attention pooling."""

import keras
from keras import ops

from cifar_models.layers.initializers import SinusoidalPositions
from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class PositionEmbedding(keras.layers.Layer):
    """Learned position embeddings, added to a sequence: (B, N, D) → (B, N, D).

    Args:
        stddev: Standard deviation of the truncated normal initialization.
        sinusoidal: Whether `SinusoidalPositions` initializes the embeddings instead.

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, equation 1.
    """

    def __init__(self, stddev: float = 0.02, sinusoidal: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.stddev = stddev
        self.sinusoidal = sinusoidal

    def build(self, input_shape):
        normal = keras.initializers.TruncatedNormal(stddev=self.stddev)
        self.embedding = self.add_weight(
            name="position_embedding",
            shape=input_shape[1:],
            initializer=SinusoidalPositions() if self.sinusoidal else normal,
        )
        super().build(input_shape)

    def call(self, sequence):
        return sequence + self.embedding

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev, "sinusoidal": self.sinusoidal}


@keras.saving.register_keras_serializable(PACKAGE)
class ClassToken(keras.layers.Layer):
    """A learned class token, prepended to a sequence: (B, N, D) → (B, 1 + N, D).

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, equation 1.
    """

    def build(self, input_shape):
        self.token = self.add_weight(
            name="class_token",
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        super().build(input_shape)

    def call(self, sequence):
        shape = (ops.shape(sequence)[0], 1, sequence.shape[-1])
        token = ops.cast(ops.broadcast_to(self.token, shape), sequence.dtype)  # (B, 1, D)
        return ops.concatenate([token, sequence], axis=1)


@keras.saving.register_keras_serializable(PACKAGE)
class SequencePooling(keras.layers.Layer):
    """Mean of the tokens, weighted by learned attention scores: (B, N, D) → (B, D).

    Source: Hassani et al. (2021), arXiv:2104.05704, section 3.3.
    """

    def build(self, input_shape):
        self.score = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name="score",
        )
        self.score.build(input_shape)
        super().build(input_shape)

    def call(self, sequence):
        weights = ops.softmax(self.score(sequence), axis=1)  # (B, N, 1)
        pooled = ops.matmul(ops.transpose(weights, (0, 2, 1)), sequence)  # (B, 1, D)
        return ops.squeeze(pooled, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])
