"""A network for short schedules, most of which is there from the first step."""

import keras
from keras import layers

from cifar_models.config.model_presets import AirbenchConfig
from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.initializers import PartialIdentity
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.whitening import WhiteningConvolution
from cifar_models.models.common import classifier, image_input


def build_airbench(
    recipe: AirbenchConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds whitening → stages of convolutions → maximum over the image → classifier.

    Jordan 2024, arXiv:2404.00498, section 3 and listing 1, with the shortcut of its 96 % network
    where a stage has three convolutions. Kernels begin as the identity, batch norm has shifts but
    no scales.

    Args:
        recipe: the model table.
        image_shape: (H, W, C) of the data.
        num_classes: K.

    Returns:
        A network of uint8 images (B, H, W, C) → float32 logits (B, K); `adapt` comes next.
    """

    def convolution(x, filters: int, name: str):
        return MirroredGradientConv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=PartialIdentity(),
            name=name,
        )(x)

    def normalization(x, name: str):
        return FusedBatchNormalization(
            momentum=recipe.norm_momentum, epsilon=1e-5, scale=False, name=f"{name}_norm"
        )(x)

    def gelu(x, name: str):
        return layers.Activation("gelu", name=f"{name}_gelu")(x)

    def stage(x, filters: int, name: str):
        x = convolution(x, filters, f"{name}_conv1")
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        x = gelu(normalization(x, f"{name}_conv1"), f"{name}_conv1")
        branch = normalization(convolution(x, filters, f"{name}_conv2"), f"{name}_conv2")
        if recipe.stage_convolutions == 3:
            branch = convolution(gelu(branch, f"{name}_conv2"), filters, f"{name}_conv3")
            branch = normalization(branch, f"{name}_conv3")
            branch = layers.Add(name=f"{name}_add")([x, branch])
        return gelu(branch, name)

    images, x = image_input(image_shape, recipe.image_size)  # (B, 32, 32, C)
    x = WhiteningConvolution(recipe.whitening_size, name="whitening")(x)  # (B, 31, 31, 8 C)
    x = gelu(x, "whitening")
    for number, filters in enumerate(recipe.stage_filters, start=1):
        x = stage(x, filters, f"stage{number}")  # (B, 15, 15, filters), 7, 3
    x = layers.GlobalMaxPooling2D(name="pool")(x)  # (B, filters)
    x = classifier(
        x,
        num_classes,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
    )
    logits = layers.Rescaling(recipe.logit_scale, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="airbench")
