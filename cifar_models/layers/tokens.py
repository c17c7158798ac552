"""Layers for token sequences: position embeddings, class token and attention pooling."""

import keras
from keras import ops

from cifar_models.layers.initializers import SinusoidalPositions
from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector to each place of the sequence: (B, N, D) → (B, N, D).

    Args:
        stddev: of the normal distribution that the vectors start from.
        sinusoidal: whether they start from `SinusoidalPositions` instead.
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
    """Puts one learned token before the sequence: (B, N, D) → (B, 1 + N, D)."""

    def build(self, input_shape):
        self.token = self.add_weight(
            name="class_token",
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        super().build(input_shape)

    def call(self, sequence):
        shape = (ops.shape(sequence)[0], 1, sequence.shape[-1])
        token = ops.cast(ops.broadcast_to(self.token, shape), sequence.dtype)
        return ops.concatenate([token, sequence], axis=1)


@keras.saving.register_keras_serializable(PACKAGE)
class SequencePooling(keras.layers.Layer):
    """A mean over the sequence, weighted by learned attention: (B, N, D) → (B, D).

    Hassani et al. 2021, arXiv:2104.05704, section 3.3.
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
        return ops.squeeze(ops.matmul(ops.transpose(weights, (0, 2, 1)), sequence), axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])
