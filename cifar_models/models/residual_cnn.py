"""A residual network for small images."""

import keras
from keras import layers

from cifar_models.config.model_presets import ResidualCNNConfig
from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.stochastic_depth import StochasticDepth, depth_rates
from cifar_models.models.common import classifier, image_input


def build_residual_cnn(
    recipe: ResidualCNNConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds stem → stages of basic blocks → mean over the image → classifier.

    He et al. 2015, arXiv:1512.03385, figure 2 left and section 4.2, with batch norm after each
    convolution and a projection wherever the shape changes. With pre-activation, norm and ReLU
    come first, as in He et al. 2016, arXiv:1603.05027, and wide residual networks. Kernels start
    by He's rule and are regularised by L1L2(l1, l2).

    Args:
        recipe: the model table.
        image_shape: (H, W, C) of the data.
        num_classes: K.

    Returns:
        A network of uint8 images (B, H, W, C) → float32 logits (B, K).
    """

    def convolution(x, filters: int, kernel_size: int, strides: int, name: str):
        return MirroredGradientConv2D(
            filters,
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L1L2(recipe.l1, recipe.l2),
            name=name,
        )(x)

    def normalization(x, name: str):
        return FusedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)

    def normalized_convolution(x, filters: int, kernel_size: int, strides: int, name: str):
        return normalization(convolution(x, filters, kernel_size, strides, name), name)

    def relu(x, name: str):
        return layers.ReLU(name=f"{name}_relu")(x)

    def add(x, branch, depth_rate: float, name: str):
        if depth_rate:
            branch = StochasticDepth(depth_rate, name=f"{name}_stochastic_depth")(branch)
        return layers.Add(name=f"{name}_add")([x, branch])

    def basic_block(x, filters: int, strides: int, depth_rate: float, name: str):
        branch = normalized_convolution(x, filters, 3, strides, f"{name}_conv1")
        branch = relu(branch, f"{name}_conv1")
        branch = normalized_convolution(branch, filters, 3, 1, f"{name}_conv2")
        if strides > 1 or x.shape[-1] != filters:
            x = normalized_convolution(x, filters, 1, strides, f"{name}_shortcut")
        return relu(add(x, branch, depth_rate, name), name)

    def pre_activation_block(x, filters: int, strides: int, depth_rate: float, name: str):
        active = relu(normalization(x, name), name)
        branch = convolution(active, filters, 3, strides, f"{name}_conv1")
        branch = relu(normalization(branch, f"{name}_conv1"), f"{name}_conv1")
        branch = convolution(branch, filters, 3, 1, f"{name}_conv2")
        if strides > 1 or x.shape[-1] != filters:
            x = convolution(active, filters, 1, strides, f"{name}_shortcut")
        return add(x, branch, depth_rate, name)

    images, x = image_input(image_shape, recipe.image_size)  # (B, 32, 32, C)
    stem = (recipe.stem_filters, recipe.stem_kernel_size, recipe.stem_strides, "stem")
    # (B, 32 / strides, 32 / strides, stem_filters)
    x = (
        convolution(x, *stem)
        if recipe.pre_activation
        else relu(normalized_convolution(x, *stem), "stem")
    )
    block_of = pre_activation_block if recipe.pre_activation else basic_block
    rates = iter(depth_rates(recipe.stochastic_depth_rate, sum(recipe.stage_blocks)))
    stages = zip(recipe.stage_filters, recipe.stage_blocks, strict=True)
    for stage, (filters, num_blocks) in enumerate(stages, start=1):
        for block in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = block_of(x, filters, strides, next(rates), f"stage{stage}_block{block}")
    if recipe.pre_activation:
        x = relu(normalization(x, "last"), "last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)  # (B, filters)
    logits = classifier(
        x,
        num_classes,
        recipe.dropout_rate,
        kernel_regularizer=keras.regularizers.L1L2(recipe.l1, recipe.l2),
    )
    return keras.Model(images, logits, name="residual_cnn")
