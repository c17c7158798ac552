"""The `model` table of a recipe: one class for each family of architectures.

The order of the keys is that in the recipe.toml of a run folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cifar_models.config.keys import BELOW_ONE, DEPTH, NOT_NEGATIVE, POSITIVE, SIZE, key

# Documentation of keys that several architectures have.
HIDDEN_DIM = "Dimension of a token embedding."
NUM_LAYERS = "Number of encoder blocks."
NUM_HEADS = "Attention heads; must divide hidden_dim."
MLP_DIM = "Units of the hidden layer of each MLP."
MIMETIC_INIT = "Initialize attention and position embeddings to resemble trained ones."
DROPOUT = "Dropout after embedding, attention and MLP."
ATTENTION_DROPOUT = "Dropout of the attention weights."
STOCHASTIC_DEPTH = "Drop probability of the last block; rises linearly from 0 at the first."


@dataclass(frozen=True)
class ModelConfig:
    """Base of the `model` tables. The keys of an architecture are the fields of its subclass."""

    image_size: int = key(32, "Input size, pixels; other images are resized to it.", SIZE)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for values that do not fit each other."""
        yield from ()


@dataclass(frozen=True)
class ResidualCNNConfig(ModelConfig):
    """Residual network of basic blocks. Source: He et al. (2015), arXiv:1512.03385."""

    stem_filters: int = key(32, "Filters of the first convolution.", SIZE)
    stem_kernel_size: int = key(5, "Kernel size of the first convolution, pixels.", SIZE)
    stem_strides: int = key(2, "Stride of the first convolution, pixels.", SIZE)
    stem_pool_size: int = key(1, "Max pooling after the stem, pixels; 1: none.", SIZE)
    stage_filters: tuple[int, ...] = key(
        (32, 64, 128),
        "Filters of each stage; every stage except the first halves the image.",
        SIZE,
    )
    stage_blocks: tuple[int, ...] = key((1, 1, 1), "Residual blocks of each stage.", DEPTH)
    pre_activation: bool = key(False, "Normalize and activate before each convolution.")
    padding: str = key(
        "symmetric",
        'Border of convolutions with a stride: equal on all sides, or Keras\' "same".',
        choices=("symmetric", "same"),
    )
    l1: float = key(0.0, "L1 factor of the kernel regularizer, added to the loss.", NOT_NEGATIVE)
    l2: float = key(2.5e-4, "L2 factor of the kernel regularizer, added to the loss.", NOT_NEGATIVE)
    dropout_rate: float = key(0.0, "Dropout before the classifier.", BELOW_ONE)
    stochastic_depth_rate: float = key(0.0, STOCHASTIC_DEPTH, BELOW_ONE)

    def problems(self) -> Iterator[tuple[str, str]]:
        if len(self.stage_filters) != len(self.stage_blocks):
            number = len(self.stage_filters)
            yield "stage_blocks", f"must have one entry for each of the {number} stage_filters"
        if not DEPTH.allow(sum(self.stage_blocks)):
            yield "stage_blocks", f"must have a sum of at most {DEPTH.maximum}"


@dataclass(frozen=True)
class ConvolutionalStagesConfig(ModelConfig):
    """Whitening and convolutional stages of airbench. Source: Jordan (2024), arXiv:2404.00498."""

    whitening_size: int = key(2, "Size of the fixed whitening kernel, pixels.", SIZE)
    stage_filters: tuple[int, ...] = key(
        (64, 256, 256), "Filters of each stage; every stage halves the image.", SIZE
    )
    stage_convolutions: int = key(
        2, "Convolutions of a stage; with 3, a shortcut skips the last two.", choices=(2, 3)
    )
    norm_momentum: float = key(0.6, "Momentum of the moving averages of batch norm.", BELOW_ONE)

    def problems(self) -> Iterator[tuple[str, str]]:
        number = len(self.stage_filters)
        possible = max(self.image_size - self.whitening_size + 1, 1).bit_length() - 1
        if number > possible:
            yield (
                "stage_filters",
                f"halve the image {number} times; {self.image_size} pixels allow {possible}",
            )


@dataclass(frozen=True)
class AirbenchConfig(ConvolutionalStagesConfig):
    """Network for short schedules ("airbench"). Source: Jordan (2024), arXiv:2404.00498."""

    logit_scale: float = key(1 / 9, "Factor on the logits.", POSITIVE)


@dataclass(frozen=True)
class ViTConfig(ModelConfig):
    """Plain Vision Transformer. Source: Dosovitskiy et al. (2020), arXiv:2010.11929."""

    patch_size: int = key(4, "Patch size, pixels; must divide image_size.", SIZE)
    hidden_dim: int = key(192, HIDDEN_DIM, SIZE)
    num_layers: int = key(9, NUM_LAYERS, DEPTH)
    num_heads: int = key(3, NUM_HEADS, SIZE)
    mlp_dim: int = key(384, MLP_DIM, SIZE)
    mimetic_init: bool = key(False, MIMETIC_INIT)
    pooling: str = key(
        "mean", "Mean over the patches, or a learned class token.", choices=("mean", "token")
    )
    dropout_rate: float = key(0.0, DROPOUT, BELOW_ONE)
    attention_dropout_rate: float = key(0.0, ATTENTION_DROPOUT, BELOW_ONE)
    stochastic_depth_rate: float = key(0.1, STOCHASTIC_DEPTH, BELOW_ONE)

    @property
    def num_tokens(self) -> int:
        """Number of patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def fewer_tokens(self) -> str:
        """What to change for fewer tokens."""
        return f"raise model.patch_size ({self.patch_size})"

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.image_size % self.patch_size:
            divisors = _divisors(self.image_size)
            yield (
                "patch_size",
                f"does not divide the image of {self.image_size} pixels; choose one of {divisors}",
            )
        yield from _transformer_problems(self)


@dataclass(frozen=True)
class CCTConfig(ModelConfig):
    """Compact Convolutional Transformer. Source: Hassani et al. (2021), arXiv:2104.05704."""

    conv_layers: int = key(2, "Tokenizer convolutions; each halves the image.", DEPTH)
    conv_kernel_size: int = key(3, "Kernel size of the tokenizer, pixels.", SIZE)
    hidden_dim: int = key(128, HIDDEN_DIM, SIZE)
    num_layers: int = key(2, NUM_LAYERS, DEPTH)
    num_heads: int = key(2, NUM_HEADS, SIZE)
    mlp_dim: int = key(128, MLP_DIM, SIZE)
    as_published: bool = key(
        True, "Blocks and padding of the authors' code; false: those of earlier versions."
    )
    mimetic_init: bool = key(False, MIMETIC_INIT)
    dropout_rate: float = key(0.0, DROPOUT, BELOW_ONE)
    attention_dropout_rate: float = key(0.1, ATTENTION_DROPOUT, BELOW_ONE)
    stochastic_depth_rate: float = key(0.1, STOCHASTIC_DEPTH, BELOW_ONE)

    @property
    def num_tokens(self) -> int:
        """Number of tokens of an image: each layer of the tokenizer halves its side."""
        side = self.image_size
        for _ in range(self.conv_layers):
            side = -(-side // 2)
        return side**2

    @property
    def fewer_tokens(self) -> str:
        """What to change for fewer tokens."""
        return f"raise model.conv_layers ({self.conv_layers})"

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.image_size < 2**self.conv_layers:
            yield (
                "conv_layers",
                f"halve the image {self.conv_layers} times; {self.image_size} pixels are too few",
            )
        yield from _transformer_problems(self)


@dataclass(frozen=True)
class ConvViTConfig(ConvolutionalStagesConfig):
    """Convolutional stages, then encoder blocks, as in CoAtNet. Source: arXiv:2106.04803."""

    stage_filters: tuple[int, ...] = key(
        (32, 128), "Filters of each stage; the last one is the dimension of a token.", SIZE
    )
    num_layers: int = key(3, NUM_LAYERS, DEPTH)
    num_heads: int = key(4, NUM_HEADS, SIZE)
    mlp_dim: int = key(256, MLP_DIM, SIZE)
    mimetic_init: bool = key(False, MIMETIC_INIT)
    dropout_rate: float = key(0.0, DROPOUT, BELOW_ONE)
    attention_dropout_rate: float = key(0.0, ATTENTION_DROPOUT, BELOW_ONE)
    stochastic_depth_rate: float = key(0.0, STOCHASTIC_DEPTH, BELOW_ONE)

    @property
    def hidden_dim(self) -> int:
        """Dimension of a token embedding."""
        return self.stage_filters[-1]

    @property
    def num_tokens(self) -> int:
        """Number of tokens of an image: whitening takes a row, and each stage halves the side."""
        return ((self.image_size - 1) // 2 ** len(self.stage_filters)) ** 2

    @property
    def fewer_tokens(self) -> str:
        """What to change for fewer tokens."""
        return f"add a stage to model.stage_filters ({list(self.stage_filters)})"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        yield from _transformer_problems(self, "token dimension")


# The architectures that end in a transformer encoder.
TransformerConfig = ViTConfig | CCTConfig | ConvViTConfig


def _transformer_problems(
    config: TransformerConfig, width: str = "hidden_dim"
) -> Iterator[tuple[str, str]]:
    if config.hidden_dim % config.num_heads:
        divisors = _divisors(config.hidden_dim)
        yield (
            "num_heads",
            f"does not divide {width} {config.hidden_dim}; choose one of {divisors}",
        )
    if config.mimetic_init and config.hidden_dim % 4:
        yield "mimetic_init", f"needs a {width} that is divisible by 4"


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
