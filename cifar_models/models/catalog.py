"""The construction of the network that a `model` table describes."""

from pkgutil import resolve_name

import keras

from cifar_models.config.architectures import ARCHITECTURES, ModelConfig


def build_network(
    config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build a network from images, uint8 (B, H, W, C), to logits, float32 (B, K).

    Args:
        config: The `model` table, of an architecture in ARCHITECTURES.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Raises:
        ValueError: ARCHITECTURES has several builders, or none, for the class of the table.
    """
    cls = type(config)
    builders = {each.builder for each in ARCHITECTURES.values() if type(each.config) is cls}
    if len(builders) != 1:
        raise ValueError(
            f"ARCHITECTURES has {len(builders)} builders for {cls.__name__}; it needs exactly one, "
            "so give each builder a class of its own"
        )
    return resolve_name(builders.pop())(config, image_shape, num_classes)
