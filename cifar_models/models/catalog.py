"""A model table becomes a network."""

from collections.abc import Callable

import keras

from cifar_models.config.model_presets import (
    AirbenchConfig,
    CCTConfig,
    ModelConfig,
    ResidualCNNConfig,
    ViTConfig,
)
from cifar_models.models.airbench import build_airbench
from cifar_models.models.cct import build_cct
from cifar_models.models.residual_cnn import build_residual_cnn
from cifar_models.models.vit import build_vit

BUILDERS: dict[type, Callable[..., keras.Model]] = {
    ResidualCNNConfig: build_residual_cnn,
    AirbenchConfig: build_airbench,
    ViTConfig: build_vit,
    CCTConfig: build_cct,
}


def build_network(
    recipe: ModelConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds uint8 images (B, H, W, C) → float32 logits (B, K), as the recipe's table says."""
    return BUILDERS[type(recipe)](recipe, image_shape, num_classes)
