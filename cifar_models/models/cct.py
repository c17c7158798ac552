"""The Compact Convolutional Transformer."""

import keras
from keras import layers

from cifar_models.config.model_presets import CCTConfig
from cifar_models.layers.tokens import PositionEmbedding, SequencePooling
from cifar_models.models.common import classifier, image_input
from cifar_models.models.encoder import encoder

FIRST_CONV_FILTERS = 64  # of every tokenizer convolution but the last


def build_cct(
    recipe: CCTConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds convolutional tokens + positions → encoder blocks → sequence pooling → classifier.

    Hassani et al. 2021, arXiv:2104.05704, figure 2. Attention has no biases, which keeps
    CCT-7/3x1 at the published 3.76 million parameters.

    Args:
        recipe: the model table.
        image_shape: (H, W, C) of the data.
        num_classes: K.

    Returns:
        A network of uint8 images (B, H, W, C) → float32 logits (B, K).
    """
    images, x = image_input(image_shape, recipe.image_size)  # (B, 32, 32, C)
    for number in range(1, recipe.conv_layers + 1):
        is_last = number == recipe.conv_layers
        x = layers.Conv2D(
            recipe.hidden_dim if is_last else FIRST_CONV_FILTERS,
            recipe.conv_kernel_size,
            padding="same",
            use_bias=False,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"tokenizer{number}_conv",
        )(x)
        x = layers.MaxPooling2D(3, 2, padding="same", name=f"tokenizer{number}_pool")(x)
    x = layers.Reshape((-1, recipe.hidden_dim), name="tokens")(x)  # (B, N, D)
    x = PositionEmbedding(stddev=0.2, sinusoidal=recipe.mimetic_init, name="positions")(x)
    x = encoder(x, recipe, attention_bias=False)  # (B, N, D)
    x = SequencePooling(name="sequence_pooling")(x)  # (B, D)
    logits = classifier(
        x, num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02)
    )
    return keras.Model(images, logits, name="cct")
