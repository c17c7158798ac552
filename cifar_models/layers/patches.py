"""Extraction of patches from images."""

import keras
from keras import ops

from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class PatchExtraction(keras.layers.Layer):
    """Non-overlapping square patches of images: (B, H, W, C) → (B, N, P * P * C).

    N = H / P * W / P. Patches are in row-major order, and so are the pixels inside each patch.

    Args:
        patch_size: Side P of a patch in pixels; divides H and W.

    Raises:
        ValueError: patch_size does not divide the height or the width.

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, section 3.1.
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
        return ops.reshape(x, (-1, rows * columns, size * size * channels))  # (B, N, P * P * C)

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}
