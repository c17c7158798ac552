"""Residual networks for small images: ResNet and wide residual networks."""

import keras
from keras import KerasTensor, layers

from cifar_models.config.model_tables import ResidualCNNConfig
from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.stochastic_depth import StochasticDepth, depth_rates
from cifar_models.models.common import classifier, image_input


def build_residual_cnn(
    config: ResidualCNNConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build stem → stages of residual blocks → global average pooling → classifier.

    Max pooling may follow the stem, as in the paper's networks for large images. Every stage except
    the first halves the image in its first block. Kernels use He initialization and are regularized
    by L1L2(l1, l2). A convolution of stride 2 pads both sides by the same number of pixels, as the
    authors' code and torchvision do.

    Args:
        config: Hyperparameters of the model.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Returns:
        A network from images, uint8 (B, H, W, C), to logits, float32 (B, K).

    Source: He et al. (2015), arXiv:1512.03385, section 4.2; with pre-activation, Zagoruyko and
    Komodakis (2016), arXiv:1605.07146, table 1.
    """
    images, x = image_input(image_shape, config.image_size)  # (B, S, S, C)
    x = _convolution(
        x, config.stem_filters, config.stem_kernel_size, config.stem_strides, config, "stem"
    )  # (B, S / strides, S / strides, stem_filters)
    if not config.pre_activation:
        x = _normalization(x, "stem")
    if config.stem_pool_size > 1:
        # Before the ReLU, which commutes with the maximum and then has fewer pixels to compute.
        size = config.stem_pool_size
        x = layers.MaxPooling2D(size, padding="same", name="stem_pool")(
            x
        )  # (B, H / size, W / size, C)
    if not config.pre_activation:
        x = _relu(x, "stem")
    block = _pre_activation_block if config.pre_activation else _basic_block
    rates = iter(depth_rates(config.stochastic_depth_rate, sum(config.stage_blocks)))
    stages = zip(config.stage_filters, config.stage_blocks, strict=True)
    for stage, (filters, num_blocks) in enumerate(stages, start=1):
        for number in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            x = block(x, filters, strides, next(rates), config, f"stage{stage}_block{number}")
    if config.pre_activation:
        x = _relu(_normalization(x, "last"), "last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)  # (B, filters)
    logits = classifier(
        x, num_classes, config.dropout_rate, kernel_regularizer=_regularizer(config)
    )  # (B, K)
    return keras.Model(images, logits, name="residual_cnn")


def _basic_block(
    x: KerasTensor,
    filters: int,
    strides: int,
    depth_rate: float,
    config: ResidualCNNConfig,
    name: str,
) -> KerasTensor:
    """Apply conv → norm → ReLU → conv → norm, add the shortcut, then ReLU.

    Source: He et al. (2015), arXiv:1512.03385, figure 2.
    """
    branch = _convolution(x, filters, 3, strides, config, f"{name}_conv1")
    branch = _relu(_normalization(branch, f"{name}_conv1"), f"{name}_conv1")
    branch = _convolution(branch, filters, 3, 1, config, f"{name}_conv2")
    branch = _normalization(branch, f"{name}_conv2")
    if strides > 1 or x.shape[-1] != filters:
        x = _convolution(x, filters, 1, strides, config, f"{name}_shortcut")
        x = _normalization(x, f"{name}_shortcut")
    return _relu(_add(x, branch, depth_rate, name), name)


def _pre_activation_block(
    x: KerasTensor,
    filters: int,
    strides: int,
    depth_rate: float,
    config: ResidualCNNConfig,
    name: str,
) -> KerasTensor:
    """Apply norm → ReLU → conv → norm → ReLU → conv, then add the shortcut.

    Source: He et al. (2016), arXiv:1603.05027, figure 4e.
    """
    activated = _relu(_normalization(x, name), name)
    branch = _convolution(activated, filters, 3, strides, config, f"{name}_conv1")
    branch = _relu(_normalization(branch, f"{name}_conv1"), f"{name}_conv1")
    branch = _convolution(branch, filters, 3, 1, config, f"{name}_conv2")
    if strides > 1 or x.shape[-1] != filters:
        x = _convolution(activated, filters, 1, strides, config, f"{name}_shortcut")
    return _add(x, branch, depth_rate, name)


def _convolution(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    strides: int,
    config: ResidualCNNConfig,
    name: str,
) -> KerasTensor:
    padding = "same"
    if strides > 1 and config.padding == "symmetric":
        # Keras' "same" pads an even image only at the bottom and at the right.
        before, after = (kernel_size - 1) // 2, kernel_size // 2
        if kernel_size > 1:
            border = ((before, after), (before, after))
            x = layers.ZeroPadding2D(border, name=f"{name}_padding")(x)
        padding = "valid"
    return MirroredGradientConv2D(
        filters,
        kernel_size,
        strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=_regularizer(config),
        name=name,
    )(x)


def _regularizer(config: ResidualCNNConfig) -> keras.regularizers.Regularizer:
    return keras.regularizers.L1L2(config.l1, config.l2)


def _normalization(x: KerasTensor, name: str) -> KerasTensor:
    return FusedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def _relu(x: KerasTensor, name: str) -> KerasTensor:
    return layers.ReLU(name=f"{name}_relu")(x)


def _add(x: KerasTensor, branch: KerasTensor, depth_rate: float, name: str) -> KerasTensor:
    if depth_rate:
        branch = StochasticDepth(depth_rate, name=f"{name}_stochastic_depth")(branch)
    return layers.Add(name=f"{name}_add")([x, branch])
