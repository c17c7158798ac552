"""Images to sequences of patches, and what a sequence needs: positions, a class token, pooling."""

import keras
from keras import ops

from cifar_models.layers.serialization import PACKAGE


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
