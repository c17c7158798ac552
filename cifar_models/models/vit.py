"""The Vision Transformer (ViT)."""

import keras
from keras import layers

from cifar_models.config.model_tables import ViTConfig
from cifar_models.layers.patches import PatchExtraction
from cifar_models.layers.tokens import ClassToken, PositionEmbedding
from cifar_models.models.common import classifier, image_input
from cifar_models.models.encoder import transformer_encoder


def build_vit(
    config: ViTConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build patches → linear embedding + positions → encoder blocks → pooling → classifier.

    The class token is optional; without it, the encoded patches are averaged. Initializers are
    those of the authors' code.

    Args:
        config: Hyperparameters of the model.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Returns:
        A network from images, uint8 (B, H, W, C), to logits, float32 (B, K).

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, figure 1.
    """
    images, x = image_input(image_shape, config.image_size)  # (B, S, S, C)
    x = PatchExtraction(config.patch_size, name="patches")(x)  # (B, N, P * P * C)
    x = layers.Dense(
        config.hidden_dim,
        kernel_initializer="lecun_normal",  # keeps the scale of the pixels for every patch size
        name="patch_embedding",
    )(x)  # (B, N, D)
    if config.pooling == "token":
        x = ClassToken(name="class_token")(x)  # (B, 1 + N, D)
    x = PositionEmbedding(stddev=1.0, sinusoidal=config.mimetic_init, name="positions")(x)
    x = transformer_encoder(x, config)  # (B, N, D) or (B, 1 + N, D)
    average = layers.GlobalAveragePooling1D(name="pool")
    x = x[:, 0] if config.pooling == "token" else average(x)  # (B, D)
    logits = classifier(
        x, num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02)
    )  # (B, K)
    return keras.Model(images, logits, name="vit")
