"""The model tables of a recipe, and the named presets; no TensorFlow.

A recipe's `[model]` names a preset as its `architecture`; the table's other keys override it.
`models/catalog.py` maps each of the three dataclasses to the function that builds its network.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ResidualCNNConfig:
    """A residual network of basic blocks: He et al. 2015, arXiv:1512.03385, for small images."""

    image_size: int = 32  # pixels; images of another size are resized inside the network
    stem_filters: int = 32
    stem_kernel_size: int = 5  # pixels
    stem_strides: int = 2
    stage_filters: tuple[int, ...] = (32, 64, 128)  # every stage but the first halves the image
    stage_blocks: tuple[int, ...] = (1, 1, 1)
    pre_activation: bool = False  # norm and ReLU before each convolution instead of after it
    l1: float = 0.0  # kernel_regularizer = L1L2(l1, l2), added to the loss
    l2: float = 2.5e-4
    dropout_rate: float = 0.0  # before the classifier
    stochastic_depth_rate: float = 0.0  # of the last block; rises linearly from the first

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        if len(self.stage_filters) != len(self.stage_blocks) or not self.stage_filters:
            yield (
                "stage_blocks",
                (f"must have one entry for each of the {len(self.stage_filters)} stage_filters"),
            )
        for key in ("stage_filters", "stage_blocks"):
            if any(value < 1 for value in getattr(self, key)):
                yield key, "must hold positive integers"
        yield from _not_positive(
            self, "image_size", "stem_filters", "stem_kernel_size", "stem_strides"
        )
        yield from _negative(self, "l1", "l2")
        yield from _not_a_rate(self, "dropout_rate", "stochastic_depth_rate")


@dataclass(frozen=True)
class AirbenchConfig:
    """A network for short schedules: Jordan 2024, arXiv:2404.00498 ("airbench")."""

    image_size: int = 32  # pixels; images of another size are resized inside the network
    whitening_size: int = 2  # pixels; the first kernel's, fitted to the data and fixed
    stage_filters: tuple[int, ...] = (64, 256, 256)  # every stage halves the image
    stage_convolutions: int = 2  # 3: the last two beside a shortcut
    norm_momentum: float = 0.6  # of batch norm's averages
    logit_scale: float = 1 / 9

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        yield from _not_positive(self, "image_size", "whitening_size")
        if not self.stage_filters or any(filters < 1 for filters in self.stage_filters):
            yield "stage_filters", "must hold positive integers"
        most = max(self.image_size - self.whitening_size + 1, 1).bit_length() - 1
        if len(self.stage_filters) > most:
            yield (
                "stage_filters",
                f"halve the image {len(self.stage_filters)} times; {self.image_size} pixels "
                f"bear {most}",
            )
        if self.stage_convolutions not in (2, 3):
            yield "stage_convolutions", "must be 2 or 3"
        if self.logit_scale <= 0:
            yield "logit_scale", "must be above 0"
        yield from _not_a_rate(self, "norm_momentum")


@dataclass(frozen=True)
class ViTConfig:
    """A plain Vision Transformer: Dosovitskiy et al. 2020, arXiv:2010.11929."""

    image_size: int = 32  # pixels; images of another size are resized inside the network
    patch_size: int = 4  # pixels
    hidden_dim: int = 192
    num_layers: int = 9
    num_heads: int = 3
    mlp_dim: int = 384
    mimetic_init: bool = False  # attention and positions begin like trained ones
    pooling: str = "mean"  # "mean" over the patches, or a learned class "token"
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.1  # of the last block; rises linearly from the first

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        yield from _not_positive(self, "image_size", "patch_size", "num_layers", "mlp_dim")
        if self.patch_size > 0 and self.image_size % self.patch_size:
            yield (
                "patch_size",
                (
                    f"does not divide the image of {self.image_size} pixels; "
                    f"choose one of {_divisors(self.image_size)}"
                ),
            )
        if self.pooling not in ("mean", "token"):
            yield "pooling", 'must be "mean" or "token"'
        yield from _transformer_problems(self)


@dataclass(frozen=True)
class CCTConfig:
    """Convolutional tokens, a transformer, attention pooling: Hassani et al., arXiv:2104.05704."""

    image_size: int = 32  # pixels; images of another size are resized inside the network
    conv_layers: int = 2  # each halves the image
    conv_kernel_size: int = 3  # pixels
    hidden_dim: int = 128
    num_layers: int = 2
    num_heads: int = 2
    mlp_dim: int = 128
    mimetic_init: bool = False  # attention and positions begin like trained ones
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.1
    stochastic_depth_rate: float = 0.1  # of the last block; rises linearly from the first

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        yield from _not_positive(
            self, "image_size", "conv_layers", "conv_kernel_size", "num_layers", "mlp_dim"
        )
        if self.conv_layers > 0 and self.image_size < 2**self.conv_layers:
            yield (
                "conv_layers",
                (f"halve the image {self.conv_layers} times; {self.image_size} pixels are too few"),
            )
        yield from _transformer_problems(self)


ModelConfig = ResidualCNNConfig | AirbenchConfig | ViTConfig | CCTConfig

PRESETS: dict[str, ModelConfig] = {
    "residual_cnn": ResidualCNNConfig(),
    # The network of kuangliu/pytorch-cifar: a 3x3 stem of stride 1, no pooling.
    "resnet18": ResidualCNNConfig(
        stem_filters=64,
        stem_kernel_size=3,
        stem_strides=1,
        stage_filters=(64, 128, 256, 512),
        stage_blocks=(2, 2, 2, 2),
    ),
    # Zagoruyko & Komodakis 2016, arXiv:1605.07146: 28 layers, 10 times as wide as ResNet's 16.
    "wide_resnet28_10": ResidualCNNConfig(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stage_filters=(160, 320, 640),
        stage_blocks=(4, 4, 4),
        pre_activation=True,
    ),
    # airbench94 and airbench96.
    "airbench94": AirbenchConfig(),
    "airbench96": AirbenchConfig(
        stage_filters=(128, 384, 512), stage_convolutions=3, norm_momentum=0.9
    ),
    "vit": ViTConfig(),
    # The notebook that this project began with: images enlarged to 128 pixels.
    "vit_notebook": ViTConfig(
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
    # CCT-2/3x2 and CCT-7/3x1 of the paper's table 2.
    "cct2_3x2": CCTConfig(),
    "cct7_3x1": CCTConfig(conv_layers=1, hidden_dim=256, num_layers=7, num_heads=4, mlp_dim=512),
}


def _transformer_problems(table) -> Iterator[tuple[str, str]]:
    yield from _not_positive(table, "hidden_dim", "num_heads")
    if table.num_heads > 0 and table.hidden_dim % table.num_heads:
        yield (
            "num_heads",
            (
                f"does not divide hidden_dim {table.hidden_dim}; "
                f"choose one of {_divisors(table.hidden_dim)}"
            ),
        )
    if table.mimetic_init and table.hidden_dim % 4:
        yield "mimetic_init", "needs a hidden_dim that 4 divides"
    yield from _not_a_rate(table, "dropout_rate", "attention_dropout_rate", "stochastic_depth_rate")


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)


def _not_positive(table, *keys: str) -> Iterator[tuple[str, str]]:
    for key in keys:
        if getattr(table, key) < 1:
            yield key, "must be at least 1"


def _negative(table, *keys: str) -> Iterator[tuple[str, str]]:
    for key in keys:
        if getattr(table, key) < 0:
            yield key, "must not be negative"


def _not_a_rate(table, *keys: str) -> Iterator[tuple[str, str]]:
    for key in keys:
        if not 0 <= getattr(table, key) < 1:
            yield key, "must be at least 0 and below 1"
