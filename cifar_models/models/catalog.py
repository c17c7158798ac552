"""A model table becomes a network."""

from collections.abc import Callable

import keras
import numpy as np

from cifar_models.architectures import (
    CompactConvolutionalTransformer,
    FastCNN,
    ModelRecipe,
    ResidualCNN,
    VisionTransformer,
)
from cifar_models.layers.attention import TransformerEncoderBlock, start_mimetically
from cifar_models.models.fast_cnn import adapt, build_fast_cnn
from cifar_models.models.hybrid import build_hybrid
from cifar_models.models.residual_cnn import build_residual_cnn
from cifar_models.models.vit import build_vit

BUILDERS: dict[type, Callable[..., keras.Model]] = {
    ResidualCNN: build_residual_cnn,
    FastCNN: build_fast_cnn,
    VisionTransformer: build_vit,
    CompactConvolutionalTransformer: build_hybrid,
}


def build_network(
    recipe: ModelRecipe, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds uint8 images (B, H, W, C) → float32 logits (B, K), as the recipe's table says."""
    return BUILDERS[type(recipe)](recipe, image_shape, num_classes)


def start(network: keras.Model, recipe: ModelRecipe, images: np.ndarray) -> None:
    """Sets the weights of a new network that no initialiser of a single one can.

    Args:
        network: as `build_network` built it.
        recipe: the model table.
        images: the training images, uint8 (N, H, W, C).
    """
    adapt(network, images)
    if getattr(recipe, "mimetic_start", False):
        for layer in network.layers:
            if isinstance(layer, TransformerEncoderBlock):
                start_mimetically(layer.attention)
