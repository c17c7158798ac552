"""Test-time augmentation (TTA): the mean prediction over several views of each image."""

import keras
from keras import ops

from cifar_models.layers.serialization import PACKAGE

# Number of views → (shift in pixels down and right, flip left to right, weight) of each view.
# A negative shift moves the image up and left. The weights sum to 1.
TTA_VIEWS = {
    2: [(0, False, 1 / 2), (0, True, 1 / 2)],
    6: [
        (0, False, 1 / 4),
        (0, True, 1 / 4),
        (-1, False, 1 / 8),
        (-1, True, 1 / 8),
        (1, False, 1 / 8),
        (1, True, 1 / 8),
    ],
}


def with_test_time_augmentation(network: keras.Model, views: int) -> keras.Model:
    """Return a network with the same weights that predicts the mean logits of several TTA views.

    Two views are the image and its flipped copy. Six views add both, shifted by one pixel up and
    left and by one pixel down and right, at half the weight. All views pass through the network as
    one batch, so that it is compiled once.

    Args:
        network: Network from images, uint8 (B, H, W, C), to logits, float32 (B, K).
        views: Number of views V: 1 (returns the network itself), 2 or 6.

    Returns:
        A network with the same input and output shapes.

    Source: Jordan (2024), arXiv:2404.00498, section 3.5.
    """
    if views == 1:
        return network
    images = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    x = AugmentedViews(views, dtype="uint8", name="views")(images)  # (V * B, H, W, C)
    x = network(x)  # (V * B, K)
    logits = MeanOfViews(views, dtype="float32", name="mean_of_views")(x)  # (B, K)
    return keras.Model(images, logits, name=f"{network.name}_views")


def without_test_time_augmentation(network: keras.Model) -> keras.Model:
    """Return the network that `with_test_time_augmentation` was given."""
    return next((layer for layer in network.layers if isinstance(layer, keras.Model)), network)


def shift_and_flip(images, shift: int, flipped: bool):
    """Shift images by whole pixels, filling by reflection, and optionally flip them.

    Args:
        images: Images (B, H, W, C).
        shift: Pixels down and right; negative moves up and left.
        flipped: Whether to flip the images left to right.

    Returns:
        Images (B, H, W, C), of the same dtype.
    """
    height, width = images.shape[1:3]
    x, border, start = images, abs(shift), abs(shift) - shift
    if border:
        x = ops.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), "reflect")
        x = x[:, start : start + height, start : start + width]
    return ops.flip(x, axis=2) if flipped else x


class _LayerOfViews(keras.layers.Layer):
    """Base of the layers that need only the number of views.

    Args:
        views: Number of views V, a key of TTA_VIEWS.
    """

    def __init__(self, views: int, **kwargs):
        super().__init__(**kwargs)
        self.views = views

    def get_config(self):
        return {**super().get_config(), "views": self.views}


@keras.saving.register_keras_serializable(PACKAGE)
class AugmentedViews(_LayerOfViews):
    """All views of a batch of images, view by view: (B, H, W, C) → (V * B, H, W, C)."""

    def call(self, images):
        views = TTA_VIEWS[self.views]
        return ops.concatenate([shift_and_flip(images, shift, flip) for shift, flip, _ in views])

    def compute_output_spec(self, images):
        batch = images.shape[0]
        batch = None if batch is None else batch * self.views
        return keras.KerasTensor((batch, *images.shape[1:]), images.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class MeanOfViews(_LayerOfViews):
    """Weighted mean of the logits of `AugmentedViews`: (V * B, K) → (B, K)."""

    def call(self, logits):
        weights = [weight for _, _, weight in TTA_VIEWS[self.views]]
        weights = ops.convert_to_tensor(weights, logits.dtype)  # (V,)
        logits = ops.reshape(logits, (self.views, -1, logits.shape[-1]))  # (V, B, K)
        return ops.sum(weights[:, None, None] * logits, axis=0)
