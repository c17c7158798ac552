"""Test-time augmentation: a network's mean answer to several views of an image."""

import keras
from keras import layers, ops

from cifar_models.layers.patches import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class ShiftedView(keras.layers.Layer):
    """Shifts images by whole pixels, filling by reflection, may mirror them; same shape.

    Args:
        shift: pixels down and right; negative is up and left.
        mirrored: left to right, after the shift.
    """

    def __init__(self, shift: int, mirrored: bool, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift
        self.mirrored = mirrored

    def call(self, images):
        height, width = images.shape[1:3]
        x, border, start = images, abs(self.shift), abs(self.shift) - self.shift
        if border:
            x = ops.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), "reflect")
            x = x[:, start : start + height, start : start + width]
        return ops.flip(x, axis=2) if self.mirrored else x

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, images.dtype)

    def get_config(self):
        return {**super().get_config(), "shift": self.shift, "mirrored": self.mirrored}


def with_views(network: keras.Model, views: int) -> keras.Model:
    """Returns a network with the same weights that answers with the mean logits of several views.

    Two views are the image and its mirror image. Six add both, shifted by a pixel up and left and
    by one down and right, at half the weight: Jordan 2024, arXiv:2404.00498, section 3.5.

    Args:
        network: uint8 (B, H, W, C) → float32 logits (B, K).
        views: 1 (the network itself), 2 or 6.
    """
    if views == 1:
        return network

    def mean(outputs, name):
        return layers.Average(dtype="float32", name=name)(outputs)

    def mirrored_mean(shift: int, name: str):
        return mean(
            [
                network(
                    ShiftedView(shift, mirrored, dtype="uint8", name=f"{name}_{mirrored}")(images)
                )
                for mirrored in (False, True)
            ],
            name,
        )

    images = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    logits = mirrored_mean(0, "centred")
    if views == 6:
        shifted = [mirrored_mean(-1, "up_left"), mirrored_mean(1, "down_right")]
        logits = mean([logits, mean(shifted, "shifted")], "views")
    return keras.Model(images, logits, name=f"{network.name}_views")
