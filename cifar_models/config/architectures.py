"""The architectures: the `model` table of a recipe, and the presets that it can name.

To add one, write its builder in a file of its own, and add its configuration and a line of
ARCHITECTURES here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cifar_models.config.keys import AT_LEAST_ONE, BELOW_ONE, NOT_NEGATIVE, POSITIVE, Bounds, key


@dataclass(frozen=True)
class ModelConfig:
    """Base of the `model` tables. The keys of an architecture are the fields of its subclass."""

    image_size: int = key(32, "Input size, pixels; other images are resized to it.", AT_LEAST_ONE)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for values that do not fit each other."""
        yield from ()


@dataclass(frozen=True)
class ResidualCNNConfig(ModelConfig):
    """Residual network of basic blocks. Source: He et al. (2015), arXiv:1512.03385."""

    stem_filters: int = key(32, "Filters of the first convolution.", AT_LEAST_ONE)
    stem_kernel_size: int = key(5, "Kernel size of the first convolution, pixels.", AT_LEAST_ONE)
    stem_strides: int = key(2, "Stride of the first convolution, pixels.", AT_LEAST_ONE)
    stage_filters: tuple[int, ...] = key(
        (32, 64, 128),
        "Filters of each stage; every stage except the first halves the image.",
        AT_LEAST_ONE,
    )
    stage_blocks: tuple[int, ...] = key((1, 1, 1), "Residual blocks of each stage.", AT_LEAST_ONE)
    pre_activation: bool = key(False, "Normalize and activate before each convolution.")
    l1: float = key(0.0, "L1 factor of the kernel regularizer, added to the loss.", NOT_NEGATIVE)
    l2: float = key(2.5e-4, "L2 factor of the kernel regularizer, added to the loss.", NOT_NEGATIVE)
    dropout_rate: float = key(0.0, "Dropout before the classifier.", BELOW_ONE)
    stochastic_depth_rate: float = key(
        0.0, "Drop probability of the last block; rises linearly from 0 at the first.", BELOW_ONE
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if len(self.stage_filters) != len(self.stage_blocks) or not self.stage_filters:
            number = len(self.stage_filters)
            yield "stage_blocks", f"must have one entry for each of the {number} stage_filters"


@dataclass(frozen=True)
class AirbenchConfig(ModelConfig):
    """Network for short schedules ("airbench"). Source: Jordan (2024), arXiv:2404.00498."""

    whitening_size: int = key(2, "Size of the fixed whitening kernel, pixels.", AT_LEAST_ONE)
    stage_filters: tuple[int, ...] = key(
        (64, 256, 256), "Filters of each stage; every stage halves the image.", AT_LEAST_ONE
    )
    stage_convolutions: int = key(
        2, "Convolutions of a stage, 2 or 3; of 3, the last two have a shortcut.", Bounds(2, 3)
    )
    norm_momentum: float = key(0.6, "Momentum of the averages of batch norm.", BELOW_ONE)
    logit_scale: float = key(1 / 9, "Factor on the logits.", POSITIVE)

    def problems(self) -> Iterator[tuple[str, str]]:
        number = len(self.stage_filters)
        possible = max(self.image_size - self.whitening_size + 1, 1).bit_length() - 1
        if not number:
            yield "stage_filters", "must hold positive integers"
        if number > possible:
            yield (
                "stage_filters",
                f"halve the image {number} times; {self.image_size} pixels allow {possible}",
            )


@dataclass(frozen=True)
class TransformerConfig(ModelConfig):
    """What every transformer shares."""

    hidden_dim: int = key(192, "Width of a token.", AT_LEAST_ONE)
    num_layers: int = key(9, "Encoder blocks.", AT_LEAST_ONE)
    num_heads: int = key(3, "Attention heads; must divide hidden_dim.", AT_LEAST_ONE)
    mlp_dim: int = key(384, "Width of the hidden layer of each MLP.", AT_LEAST_ONE)
    mimetic_init: bool = key(False, "Initialize attention and positions like trained ones.")
    dropout_rate: float = key(0.0, "Dropout after embedding, attention and MLP.", BELOW_ONE)
    attention_dropout_rate: float = key(0.0, "Dropout of the attention weights.", BELOW_ONE)
    stochastic_depth_rate: float = key(
        0.1, "Drop probability of the last block; rises linearly from 0 at the first.", BELOW_ONE
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.hidden_dim % self.num_heads:
            divisors = _divisors(self.hidden_dim)
            yield (
                "num_heads",
                f"does not divide hidden_dim {self.hidden_dim}; choose one of {divisors}",
            )
        if self.mimetic_init and self.hidden_dim % 4:
            yield "mimetic_init", "needs a hidden_dim that 4 divides"


@dataclass(frozen=True)
class ViTConfig(TransformerConfig):
    """Plain Vision Transformer. Source: Dosovitskiy et al. (2020), arXiv:2010.11929."""

    patch_size: int = key(4, "Patch size, pixels; must divide image_size.", AT_LEAST_ONE)
    pooling: str = key(
        "mean", "Mean over the patches, or a learned class token.", choices=("mean", "token")
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.image_size % self.patch_size:
            divisors = _divisors(self.image_size)
            yield (
                "patch_size",
                f"does not divide the image of {self.image_size} pixels; choose one of {divisors}",
            )
        yield from super().problems()


@dataclass(frozen=True)
class CCTConfig(TransformerConfig):
    """Compact Convolutional Transformer. Source: Hassani et al. (2021), arXiv:2104.05704."""

    hidden_dim: int = key(128, "Width of a token.", AT_LEAST_ONE)
    num_layers: int = key(2, "Encoder blocks.", AT_LEAST_ONE)
    num_heads: int = key(2, "Attention heads; must divide hidden_dim.", AT_LEAST_ONE)
    mlp_dim: int = key(128, "Width of the hidden layer of each MLP.", AT_LEAST_ONE)
    attention_dropout_rate: float = key(0.1, "Dropout of the attention weights.", BELOW_ONE)
    conv_layers: int = key(2, "Tokenizer convolutions; each halves the image.", AT_LEAST_ONE)
    conv_kernel_size: int = key(3, "Kernel size of the tokenizer, pixels.", AT_LEAST_ONE)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.image_size < 2**self.conv_layers:
            yield (
                "conv_layers",
                f"halve the image {self.conv_layers} times; {self.image_size} pixels are too few",
            )
        yield from super().problems()


@dataclass(frozen=True)
class Architecture:
    """An entry of ARCHITECTURES.

    Attributes:
        config: The `model` table that a recipe starts from.
        builder: "module:function" of a function (config, image_shape, num_classes) →
            keras.Model, which is imported when a network is built.
        description: One line for `list models`.
    """

    config: ModelConfig
    builder: str
    description: str


RESIDUAL_CNN = "cifar_models.models.residual_cnn:build_residual_cnn"
AIRBENCH = "cifar_models.models.airbench:build_airbench"
VIT = "cifar_models.models.vit:build_vit"
CCT = "cifar_models.models.cct:build_cct"

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
        "ResNet-18 with a 3x3 stem of stride 1 and no pooling, for 32 pixels",
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
        AirbenchConfig(), AIRBENCH, "airbench94: whitened patches, two convolutions a stage"
    ),
    "airbench96": Architecture(
        AirbenchConfig(stage_filters=(128, 384, 512), stage_convolutions=3, norm_momentum=0.9),
        AIRBENCH,
        "airbench96: wider, three convolutions a stage",
    ),
    "vit": Architecture(ViTConfig(), VIT, "plain ViT: patches of 4 pixels, 192 wide, 9 blocks"),
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
    ),
    "cct2_3x2": Architecture(CCTConfig(), CCT, "CCT-2/3x2 of the paper's table 2"),
    "cct7_3x1": Architecture(
        CCTConfig(conv_layers=1, hidden_dim=256, num_layers=7, num_heads=4, mlp_dim=512),
        CCT,
        "CCT-7/3x1 of the paper's table 2",
    ),
}


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
