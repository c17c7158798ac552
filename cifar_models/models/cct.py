"""The Compact Convolutional Transformer (CCT)."""

import keras
from keras import layers

from cifar_models.config.model_tables import CCTConfig
from cifar_models.layers.tokens import PositionEmbedding, SequencePooling
from cifar_models.models.common import classifier, image_input
from cifar_models.models.encoder import transformer_encoder

TOKENIZER_FILTERS = 64  # of every convolution of the tokenizer except the last, which has D


def build_cct(
    config: CCTConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build convolutional tokenizer + positions → encoder blocks → sequence pooling → classifier.

    Attention has no biases, as in the authors' code: CCT-7/3x1 then has the published 3.76 million
    parameters.

    Args:
        config: Hyperparameters of the model.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Returns:
        A network from images, uint8 (B, H, W, C), to logits, float32 (B, K).

    Source: Hassani et al. (2021), arXiv:2104.05704, figure 2.
    """
    images, x = image_input(image_shape, config.image_size)  # (B, S, S, C)
    x = _tokenizer(x, config)  # (B, N, D)
    x = PositionEmbedding(stddev=0.2, sinusoidal=config.mimetic_init, name="positions")(x)
    x = transformer_encoder(x, config, attention_bias=False)  # (B, N, D)
    x = SequencePooling(name="sequence_pooling")(x)  # (B, D)
    logits = classifier(
        x, num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02)
    )  # (B, K)
    return keras.Model(images, logits, name="cct")


def _tokenizer(x: keras.KerasTensor, config: CCTConfig) -> keras.KerasTensor:
    """Apply convolution → ReLU → max pooling per layer: (B, S, S, C) → (B, N, D)."""
    for number in range(1, config.conv_layers + 1):
        is_last = number == config.conv_layers
        x = layers.Conv2D(
            config.hidden_dim if is_last else TOKENIZER_FILTERS,
            config.conv_kernel_size,
            padding="same",
            use_bias=False,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"tokenizer{number}_conv",
        )(x)
        x = layers.MaxPooling2D(3, 2, padding="same", name=f"tokenizer{number}_pool")(x)
    return layers.Reshape((-1, config.hidden_dim), name="tokens")(x)
