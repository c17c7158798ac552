"""The Compact Convolutional Transformer (CCT)."""

import keras
from keras import layers

from cifar_models.config.model_tables import CCTConfig
from cifar_models.layers.encoder_block import CCTEncoderBlock
from cifar_models.layers.tokens import PositionEmbedding, SequencePooling
from cifar_models.models.common import classifier, image_input
from cifar_models.models.encoder import transformer_encoder

TOKENIZER_FILTERS = 64  # of every convolution of the tokenizer except the last, which has D


def build_cct(
    config: CCTConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build convolutional tokenizer + positions → encoder blocks → sequence pooling → classifier.

    With `as_published`, weights of the authors' code give the authors' logits. Without it, the
    blocks are those of ViT without biases in attention, and max pooling pads an even image only at
    the bottom and at the right.

    Args:
        config: Hyperparameters of the model.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Returns:
        A network from images, uint8 (B, H, W, C), to logits, float32 (B, K).

    Source: Hassani et al. (2021), arXiv:2104.05704, figure 2, and the authors' code,
    github.com/SHI-Labs/Compact-Transformers.
    """
    images, x = image_input(image_shape, config.image_size)  # (B, S, S, C)
    x = _tokenizer(x, config)  # (B, N, D)
    x = PositionEmbedding(stddev=0.2, sinusoidal=config.mimetic_init, name="positions")(x)
    if config.as_published:
        x = transformer_encoder(x, config, CCTEncoderBlock)  # (B, N, D)
    else:
        x = transformer_encoder(x, config, attention_bias=False)
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
        if config.as_published:  # after a ReLU, zeros do not change a maximum
            x = layers.ZeroPadding2D(1, name=f"tokenizer{number}_padding")(x)
        padding = "valid" if config.as_published else "same"
        x = layers.MaxPooling2D(3, 2, padding=padding, name=f"tokenizer{number}_pool")(x)
    return layers.Reshape((-1, config.hidden_dim), name="tokens")(x)
