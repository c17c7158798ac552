"""The stack of encoder blocks that both transformers share."""

import keras
from keras import layers

from cifar_models.config.model_presets import CCTConfig, ViTConfig
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.stochastic_depth import depth_rates


def encoder(
    x: keras.KerasTensor,
    recipe: ViTConfig | CCTConfig,
    attention_bias: bool = True,
) -> keras.KerasTensor:
    """Embedding dropout → encoder blocks → layer norm: (B, N, D) → (B, N, D)."""
    if recipe.dropout_rate:
        x = layers.Dropout(recipe.dropout_rate, name="embedding_dropout")(x)
    rates = depth_rates(recipe.stochastic_depth_rate, recipe.num_layers)
    for number, depth_rate in enumerate(rates, start=1):
        x = TransformerEncoderBlock(
            recipe.num_heads,
            recipe.mlp_dim,
            recipe.dropout_rate,
            recipe.attention_dropout_rate,
            depth_rate,
            attention_bias,
            name=f"encoder{number}",
        )(x)
    return layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
