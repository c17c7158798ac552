"""The architectures: presets of the `model` table that a recipe can name.

To add one, write its builder in a file of its own, and add its configuration to model_tables.py
and a line of ARCHITECTURES here.
"""

from dataclasses import dataclass

from cifar_models.config.model_tables import (
    AirbenchConfig,
    CCTConfig,
    ConvViTConfig,
    ModelConfig,
    ResidualCNNConfig,
    ViTConfig,
)


@dataclass(frozen=True)
class Architecture:
    """An entry of ARCHITECTURES.

    Attributes:
        config: The `model` table that a recipe starts from.
        builder: "module:function" of a function (config, image_shape, num_classes) →
            keras.Model, which is imported when a network is built.
        description: One line for `list models` and docs/recipe_keys.md.
        laptop_recipe: Recipe of the same family that trains on a CPU.
    """

    config: ModelConfig
    builder: str
    description: str
    laptop_recipe: str = "cnn-laptop"


RESIDUAL_CNN = "cifar_models.models.residual_cnn:build_residual_cnn"
AIRBENCH = "cifar_models.models.airbench:build_airbench"
VIT = "cifar_models.models.vit:build_vit"
CCT = "cifar_models.models.cct:build_cct"
CONV_VIT = "cifar_models.models.conv_vit:build_conv_vit"

ARCHITECTURES = {
    "residual_cnn": Architecture(
        ResidualCNNConfig(),
        RESIDUAL_CNN,
        "three basic blocks behind a 5x5 stem of stride 2; trains on a laptop",
    ),
    "resnet18": Architecture(
        ResidualCNNConfig(
            stem_filters=64,
            stem_kernel_size=3,
            stem_strides=1,
            stage_filters=(64, 128, 256, 512),
            stage_blocks=(2, 2, 2, 2),
        ),
        RESIDUAL_CNN,
        "torchvision's ResNet-18 with a 3x3 stem of stride 1 and no pooling, for 32 pixels",
    ),
    "wide_resnet28_10": Architecture(
        ResidualCNNConfig(
            stem_filters=16,
            stem_kernel_size=3,
            stem_strides=1,
            stage_filters=(160, 320, 640),
            stage_blocks=(4, 4, 4),
            pre_activation=True,
        ),
        RESIDUAL_CNN,
        "WRN-28-10: 28 layers, 10 times as wide as ResNet's 16 filters (arXiv:1605.07146)",
    ),
    "airbench94": Architecture(
        AirbenchConfig(), AIRBENCH, "airbench94: patch whitening, three stages of two convolutions"
    ),
    "airbench96": Architecture(
        AirbenchConfig(stage_filters=(128, 384, 512), stage_convolutions=3, norm_momentum=0.9),
        AIRBENCH,
        "airbench96: wider, three convolutions per stage",
    ),
    "vit": Architecture(
        ViTConfig(), VIT, "plain ViT: patches of 4 pixels, 192 wide, 9 blocks", "vit-laptop"
    ),
    "vit_notebook": Architecture(
        ViTConfig(
            image_size=128,
            patch_size=16,
            hidden_dim=768,
            num_layers=6,
            num_heads=12,
            mlp_dim=3072,
            pooling="token",
            dropout_rate=0.1,
            attention_dropout_rate=0.1,
            stochastic_depth_rate=0.0,
        ),
        VIT,
        "plain ViT on images enlarged to 128 pixels: patches of 16, 768 wide, 6 blocks",
        "vit-laptop",
    ),
    "cct2_3x2": Architecture(
        CCTConfig(),
        CCT,
        "CCT-2/3x2 (arXiv:2104.05704), as in the authors' code",
        "hybrid-laptop",
    ),
    "cct7_3x1": Architecture(
        CCTConfig(conv_layers=1, hidden_dim=256, num_layers=7, num_heads=4, mlp_dim=512),
        CCT,
        "CCT-7/3x1 (arXiv:2104.05704), as in the authors' code",
        "hybrid-laptop",
    ),
    "conv_vit": Architecture(
        ConvViTConfig(),
        CONV_VIT,
        "two stages of airbench, then three encoder blocks; trains on a laptop",
        "hybrid-laptop",
    ),
}
