"""A convolutional network for short training schedules (airbench)."""

import keras
from keras import KerasTensor, layers

from cifar_models.config.model_tables import AirbenchConfig, ConvolutionalStagesConfig
from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.gelu import GELU
from cifar_models.layers.initializers import PartialIdentity
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.whitening import WhiteningConvolution
from cifar_models.models.common import classifier, image_input


def build_airbench(
    config: AirbenchConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build whitening → stages of convolutions → global max pooling → classifier → scale.

    Convolutions use identity initialization. Batch normalization has shifts, but no scales.

    Args:
        config: Hyperparameters of the model.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Returns:
        A network from images, uint8 (B, H, W, C), to logits, float32 (B, K). Fit its whitening to
        images before training.

    Source: Jordan (2024), arXiv:2404.00498, section 3 and listing 1. Three convolutions per stage
    and their shortcut are those of its network for 96 % accuracy.
    """
    images, x = image_input(image_shape, config.image_size)  # (B, 32, 32, C)
    x = convolutional_stages(x, config)  # (B, 3, 3, filters)
    x = layers.GlobalMaxPooling2D(name="pool")(x)  # (B, filters)
    x = classifier(
        x,
        num_classes,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
    )  # (B, K)
    logits = layers.Rescaling(config.logit_scale, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="airbench")


def convolutional_stages(x: KerasTensor, config: ConvolutionalStagesConfig) -> KerasTensor:
    """Apply whitening → GELU → stages: (B, 32, 32, C) → (B, 15, 15, filters), then 7, then 3."""
    x = WhiteningConvolution(config.whitening_size, name="whitening")(x)  # (B, 31, 31, 8 * C)
    x = _gelu(x, "whitening")
    for number, filters in enumerate(config.stage_filters, start=1):
        x = _stage(x, filters, config, f"stage{number}")
    return x


def _stage(
    x: KerasTensor, filters: int, config: ConvolutionalStagesConfig, name: str
) -> KerasTensor:
    """Apply conv → max pooling → norm → GELU, then one or two of conv → norm → GELU.

    With three convolutions, a shortcut skips the last two. The stage halves the image.
    """
    momentum = config.norm_momentum
    x = _convolution(x, filters, f"{name}_conv1")
    x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)  # (B, H / 2, W / 2, filters)
    x = _gelu(_normalization(x, momentum, f"{name}_conv1"), f"{name}_conv1")
    branch = _convolution(x, filters, f"{name}_conv2")
    branch = _normalization(branch, momentum, f"{name}_conv2")
    if config.stage_convolutions == 3:
        branch = _convolution(_gelu(branch, f"{name}_conv2"), filters, f"{name}_conv3")
        branch = _normalization(branch, momentum, f"{name}_conv3")
        branch = layers.Add(name=f"{name}_add")([x, branch])
    return _gelu(branch, name)


def _convolution(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    return MirroredGradientConv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=PartialIdentity(),
        name=name,
    )(x)


def _normalization(x: KerasTensor, momentum: float, name: str) -> KerasTensor:
    return FusedBatchNormalization(
        momentum=momentum, epsilon=1e-5, scale=False, name=f"{name}_norm"
    )(x)


def _gelu(x: KerasTensor, name: str) -> KerasTensor:
    return GELU(name=f"{name}_gelu")(x)
