"""Images to sequences of patches, and what a sequence needs: positions, a class token, pooling."""

import math

import keras
import numpy as np
from keras import ops

PACKAGE = "cifar_models"


@keras.saving.register_keras_serializable(PACKAGE)
class PatchExtraction(keras.layers.Layer):
    """Cuts images into square patches: (B, H, W, C) → (B, H/P * W/P, P * P * C).

    Patches run row by row, and so do the pixels inside one. Dosovitskiy et al. 2020, section 3.1.

    Args:
        patch_size: P, pixels; divides H and W.

    Raises:
        ValueError: the patch does not divide the image.
    """

    def __init__(self, patch_size: int, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def build(self, input_shape):
        for side, pixels in zip(("height", "width"), input_shape[1:3], strict=True):
            if pixels % self.patch_size:
                raise ValueError(
                    f"patch_size {self.patch_size} does not divide the image's {side} {pixels}"
                )
        super().build(input_shape)

    def call(self, images):
        _, height, width, channels = images.shape
        size = self.patch_size
        rows, columns = height // size, width // size
        x = ops.reshape(images, (-1, rows, size, columns, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, rows, columns, P, P, C)
        return ops.reshape(x, (-1, rows * columns, size * size * channels))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


@keras.saving.register_keras_serializable(PACKAGE)
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector to each place of the sequence: (B, N, D) → (B, N, D).

    Args:
        stddev: of the normal distribution that the vectors start from.
        waves: whether they start from `Waves` instead.
    """

    def __init__(self, stddev: float = 0.02, waves: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.stddev = stddev
        self.waves = waves

    def build(self, input_shape):
        normal = keras.initializers.TruncatedNormal(stddev=self.stddev)
        self.embedding = self.add_weight(
            name="position_embedding",
            shape=input_shape[1:],
            initializer=Waves() if self.waves else normal,
        )
        super().build(input_shape)

    def call(self, sequence):
        return sequence + self.embedding

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev, "waves": self.waves}


class Waves(keras.initializers.Initializer):
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
        waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        vectors = np.pad(np.concatenate(waves, axis=1), [[places - side**2, 0], [0, 0]])
        return ops.convert_to_tensor(vectors, dtype)


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
