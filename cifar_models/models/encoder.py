"""The stack of transformer encoder blocks that ViT and CCT share."""

import keras
from keras import layers

from cifar_models.config.model_tables import TransformerConfig
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.stochastic_depth import depth_rates

LAST_NORM = "norm"  # name of the layer whose outputs are the encoded tokens


def transformer_encoder(
    x: keras.KerasTensor,
    config: TransformerConfig,
    block: type[TransformerEncoderBlock] = TransformerEncoderBlock,
    attention_bias: bool = True,
) -> keras.KerasTensor:
    """Apply embedding dropout → L encoder blocks → layer norm: (B, N, D) → (B, N, D).

    The stochastic depth rate rises linearly from the first block to the last.

    Args:
        x: Token embeddings (B, N, D).
        config: Hyperparameters of the transformer.
        block: Class of the encoder blocks.
        attention_bias: Whether the four projections of attention have biases; a CCTEncoderBlock
            decides by itself.

    Returns:
        Encoded tokens (B, N, D).

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, equations 1 to 4.
    """
    if config.dropout_rate:
        x = layers.Dropout(config.dropout_rate, name="embedding_dropout")(x)
    rates = depth_rates(config.stochastic_depth_rate, config.num_layers)
    for number, depth_rate in enumerate(rates, start=1):
        x = block(
            num_heads=config.num_heads,
            mlp_dim=config.mlp_dim,
            dropout_rate=config.dropout_rate,
            attention_dropout_rate=config.attention_dropout_rate,
            stochastic_depth_rate=depth_rate,
            attention_bias=attention_bias,
            name=f"encoder{number}",
        )(x)  # (B, N, D)
    return layers.LayerNormalization(epsilon=block.norm_epsilon, name=LAST_NORM)(x)
