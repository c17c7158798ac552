"""Test-time augmentation: a network's mean answer to several views of an image."""

import keras
from keras import ops

from cifar_models.layers.serialization import PACKAGE

# Shift in pixels down and right (negative: up and left), whether mirrored, weight in the mean.
VIEWS = {
    2: ((0, False, 1 / 2), (0, True, 1 / 2)),
    6: (
        *((0, False, 1 / 4), (0, True, 1 / 4)),
        *((-1, False, 1 / 8), (-1, True, 1 / 8)),
        *((1, False, 1 / 8), (1, True, 1 / 8)),
    ),
}


class _OfViews(keras.layers.Layer):
    """What is a function of the number of views alone.

    Args:
        views: V, 2 or 6.
    """

    def __init__(self, views: int, **kwargs):
        super().__init__(**kwargs)
        self.views = views

    def get_config(self):
        return {**super().get_config(), "views": self.views}


@keras.saving.register_keras_serializable(PACKAGE)
class AugmentedViews(_OfViews):
    """Several views of each image in one batch, view by view: (B, H, W, C) → (V B, H, W, C)."""

    def call(self, images):
        views = [shifted(images, shift, mirrored) for shift, mirrored, _ in VIEWS[self.views]]
        return ops.concatenate(views)

    def compute_output_spec(self, images):
        return keras.KerasTensor((None, *images.shape[1:]), images.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class MeanOfViews(_OfViews):
    """The weighted mean of the answers to `AugmentedViews`: (V B, K) → (B, K)."""

    def call(self, logits):
        weights = ops.convert_to_tensor([weight for *_, weight in VIEWS[self.views]], logits.dtype)
        logits = ops.reshape(logits, (self.views, -1, logits.shape[-1]))  # (V, B, K)
        return ops.sum(weights[:, None, None] * logits, axis=0)


def shifted(images, shift: int, mirrored: bool):
    """Shifts images by whole pixels, filling by reflection, and may mirror them; same shape."""
    height, width = images.shape[1:3]
    x, border, start = images, abs(shift), abs(shift) - shift
    if border:
        x = ops.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), "reflect")
        x = x[:, start : start + height, start : start + width]
    return ops.flip(x, axis=2) if mirrored else x


def with_test_time_augmentation(network: keras.Model, views: int) -> keras.Model:
    """Returns a network with the same weights that answers with the mean logits of several views.

    Two views are the image and its mirror image. Six add both, shifted by a pixel up and left and
    by one down and right, at half the weight: Jordan 2024, arXiv:2404.00498, section 3.5. All of
    them go through the network as one batch, so that it is compiled once.

    Args:
        network: uint8 (B, H, W, C) → float32 logits (B, K).
        views: 1 (the network itself), 2 or 6.
    """
    if views == 1:
        return network
    images = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    x = AugmentedViews(views, dtype="uint8", name="views")(images)  # (V B, H, W, C)
    logits = MeanOfViews(views, dtype="float32", name="mean_of_views")(network(x))  # (B, K)
    return keras.Model(images, logits, name=f"{network.name}_views")
