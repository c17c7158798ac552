"""A hybrid for short training schedules: convolutional stages, then transformer encoder blocks."""

import keras
from keras import layers

from cifar_models.config.model_tables import ConvViTConfig
from cifar_models.layers.tokens import PositionEmbedding
from cifar_models.models.airbench import convolutional_stages
from cifar_models.models.common import classifier, image_input
from cifar_models.models.encoder import transformer_encoder


def build_conv_vit(
    config: ConvViTConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build airbench's whitening and stages → tokens + positions → encoder blocks → classifier.

    Every position of the last stage is a token, whose dimension D is the number of its filters.
    The mean of the encoded tokens is classified.

    Args:
        config: Hyperparameters of the model.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Returns:
        A network from images, uint8 (B, H, W, C), to logits, float32 (B, K). Fit its whitening to
        images before training.

    Source: Dai et al. (2021), arXiv:2106.04803 (CoAtNet), for convolutions in the first stages and
    attention in the last ones; Jordan (2024), arXiv:2404.00498, for the convolutional stages.
    """
    images, x = image_input(image_shape, config.image_size)  # (B, S, S, C)
    x = convolutional_stages(x, config)  # (B, 7, 7, D) of 32 pixels and two stages
    x = layers.Reshape((-1, x.shape[-1]), name="tokens")(x)  # (B, N, D)
    x = PositionEmbedding(stddev=0.2, sinusoidal=config.mimetic_init, name="positions")(x)
    x = transformer_encoder(x, config)  # (B, N, D)
    x = layers.GlobalAveragePooling1D(name="pool")(x)  # (B, D)
    logits = classifier(
        x, num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02)
    )  # (B, K)
    return keras.Model(images, logits, name="conv_vit")
