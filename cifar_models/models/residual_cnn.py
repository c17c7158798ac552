"""A residual network for small images."""

import keras
from keras import layers

from cifar_models.architectures import ResidualCNN
from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.stochastic_depth import StochasticDepth, depth_rates
from cifar_models.models.ends import classifier, image_input


def build_residual_cnn(
    recipe: ResidualCNN, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds stem → stages of basic blocks → mean over the image → classifier.

    He et al. 2015, arXiv:1512.03385, figure 2 left and section 4.2, with batch norm after each
    convolution and a projection wherever the shape changes. Kernels start by He's rule and are
    regularised by L1L2(l1, l2).

    Args:
        recipe: the model table.
        image_shape: (H, W, C) of the data.
        num_classes: K.

    Returns:
        A network of uint8 images (B, H, W, C) → float32 logits (B, K).
    """

    def convolution(x, filters: int, kernel_size: int, strides: int, name: str):
        x = MirroredGradientConv2D(
            filters,
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L1L2(recipe.l1, recipe.l2),
            name=name,
        )(x)
        return FusedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)

    def basic_block(x, filters: int, strides: int, depth_rate: float, name: str):
        branch = convolution(x, filters, 3, strides, f"{name}_conv1")
        branch = layers.ReLU(name=f"{name}_conv1_relu")(branch)
        branch = convolution(branch, filters, 3, 1, f"{name}_conv2")
        if depth_rate:
            branch = StochasticDepth(depth_rate, name=f"{name}_stochastic_depth")(branch)
        if strides > 1 or x.shape[-1] != filters:
            x = convolution(x, filters, 1, strides, f"{name}_shortcut")
        return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, branch]))

    images, x = image_input(image_shape, recipe.image_size)  # (B, 32, 32, C)
    x = convolution(x, recipe.stem_filters, recipe.stem_kernel_size, recipe.stem_strides, "stem")
    x = layers.ReLU(name="stem_relu")(x)  # (B, 32 / strides, 32 / strides, stem_filters)
    rates = iter(depth_rates(recipe.stochastic_depth_rate, sum(recipe.stage_blocks)))
    stages = zip(recipe.stage_filters, recipe.stage_blocks, strict=True)
    for stage, (filters, num_blocks) in enumerate(stages, start=1):
        for block in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = basic_block(x, filters, strides, next(rates), f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)  # (B, filters)
    logits = classifier(
        x,
        num_classes,
        recipe.dropout_rate,
        kernel_regularizer=keras.regularizers.L1L2(recipe.l1, recipe.l2),
    )
    return keras.Model(images, logits, name="residual_cnn")
