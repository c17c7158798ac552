"""A plain Vision Transformer."""

import keras
from keras import layers

from cifar_models.config.model_presets import ViTConfig
from cifar_models.layers.patches import PatchExtraction
from cifar_models.layers.tokens import ClassToken, PositionEmbedding
from cifar_models.models.common import classifier, image_input
from cifar_models.models.encoder import encoder


def build_vit(
    recipe: ViTConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Builds patches → linear embedding + positions → encoder blocks → pooling → classifier.

    Dosovitskiy et al. 2020, arXiv:2010.11929, figure 1, and the initialisers of its authors' code.

    Args:
        recipe: the model table.
        image_shape: (H, W, C) of the data.
        num_classes: K.

    Returns:
        A network of uint8 images (B, H, W, C) → float32 logits (B, K).
    """
    images, x = image_input(image_shape, recipe.image_size)  # (B, 32, 32, C)
    x = PatchExtraction(recipe.patch_size, name="patches")(x)  # (B, N, P * P * C)
    x = layers.Dense(
        recipe.hidden_dim,
        kernel_initializer="lecun_normal",  # keeps the pixels' scale, whatever the patch
        name="patch_embedding",
    )(x)  # (B, N, D)
    if recipe.pooling == "token":
        x = ClassToken(name="class_token")(x)  # (B, 1 + N, D)
    x = PositionEmbedding(stddev=1.0, sinusoidal=recipe.mimetic_init, name="positions")(x)
    x = encoder(x, recipe)  # (B, N, D)
    pool = layers.GlobalAveragePooling1D(name="pool")
    x = x[:, 0] if recipe.pooling == "token" else pool(x)  # (B, D)
    logits = classifier(
        x, num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02)
    )
    return keras.Model(images, logits, name="vit")
