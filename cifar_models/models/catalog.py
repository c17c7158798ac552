"""A model table becomes a network."""

from collections.abc import Callable

import keras

from cifar_models.config.model_presets import (
    CompactConvolutionalTransformer,
    FastCNN,
    ModelRecipe,
    ResidualCNN,
    VisionTransformer,
)
from cifar_models.models.cct import build_hybrid
from cifar_models.models.fast_cnn import build_fast_cnn
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
