"""The transformer encoder blocks of ViT and of CCT."""

import keras
from keras import ops

from cifar_models.layers.gelu import GELU
from cifar_models.layers.serialization import PACKAGE
from cifar_models.layers.stochastic_depth import StochasticDepth


@keras.saving.register_keras_serializable(PACKAGE)
class TransformerEncoderBlock(keras.layers.Layer):
    """Pre-norm transformer encoder block: (B, N, D) → (B, N, D).

    x = x + attention(norm(x)), then x = x + MLP(norm(x)).

    Kernels use Glorot initialization, as in the authors' code. A normal distribution with a
    standard deviation of 0.02, the custom for wide models, keeps the attention of narrow models
    uniform for many epochs (experiments/LOG.md).

    Args:
        num_heads: Number of attention heads; divides D.
        mlp_dim: Units of the hidden layer of the MLP.
        dropout_rate: Dropout after attention and after each layer of the MLP, in [0, 1).
        attention_dropout_rate: Dropout of the attention weights, in [0, 1).
        stochastic_depth_rate: Probability that a sample skips a residual branch, in [0, 1).
        attention_bias: Whether the query, key, value and output projections have biases.

    Raises:
        ValueError: num_heads does not divide D.

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, figure 1.
    """

    norm_epsilon = 1e-6
    approximate_gelu = True

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        stochastic_depth_rate: float = 0.0,
        attention_bias: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.stochastic_depth_rate = stochastic_depth_rate
        self.attention_bias = attention_bias

    def build(self, input_shape):
        hidden_dim = input_shape[-1]
        if hidden_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide hidden_dim {hidden_dim}")
        dtype = self.dtype_policy

        def dense(units: int, name: str) -> keras.layers.Dense:
            return keras.layers.Dense(units, dtype=dtype, name=name)

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(
                epsilon=self.norm_epsilon, dtype=dtype, name=name
            )

        self.attention_norm = norm("attention_norm")
        self.attention = keras.layers.MultiHeadAttention(
            num_heads=self.num_heads,
            key_dim=hidden_dim // self.num_heads,
            dropout=self.attention_dropout_rate,
            use_bias=self.attention_bias,
            dtype=dtype,
            name="attention",
        )
        self.mlp_norm = norm("mlp_norm")
        self.mlp_in = dense(self.mlp_dim, "mlp_in")
        self.mlp_out = dense(hidden_dim, "mlp_out")
        self.gelu = GELU(self.approximate_gelu, dtype=dtype)
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=dtype)
        self.stochastic_depth = StochasticDepth(self.stochastic_depth_rate, dtype=dtype)
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp_in.build(input_shape)
        self.gelu.build((*input_shape[:-1], self.mlp_dim))
        self.mlp_out.build((*input_shape[:-1], self.mlp_dim))
        self.dropout.build(input_shape)
        self.stochastic_depth.build(input_shape)
        super().build(input_shape)

    def call(self, sequence, training=False):
        x = self.self_attention(self.attention_norm(sequence), training)  # (B, N, D)
        return self.after_attention(sequence, x, training)

    def after_attention(self, sequence, attended, training=False):
        """Return the output of the block from its input and the output of the attention."""
        x = self.dropout(attended, training=training)
        sequence = sequence + self.stochastic_depth(x, training=training)
        x = self.mlp_in(self.mlp_norm(sequence))  # (B, N, mlp_dim)
        x = self.gelu(x, training=training)
        x = self.mlp_out(self.dropout(x, training=training))  # (B, N, D)
        x = self.dropout(x, training=training)
        return sequence + self.stochastic_depth(x, training=training)

    def self_attention(self, sequence, training=False):
        """Return what the layer `attention` returns, with one product for query, key and value.

        Keras computes three products, and transposes around each of them. On a CPU, that took a
        sixth of a small ViT's training step (experiments/LOG.md).

        Args:
            sequence: Normalized tokens (B, N, D).
            training: Whether to drop attention weights.

        Returns:
            Attended tokens (B, N, D).
        """
        if self.attention_dropout_rate:
            return self.attention(sequence, sequence, training=training)
        _, length, width = sequence.shape
        head_dim = width // self.num_heads
        layer = self.attention
        projections = (layer.query_dense, layer.key_dense, layer.value_dense)
        kernels = [ops.reshape(each.kernel, (width, width)) for each in projections]  # (D, D) each
        x = ops.reshape(sequence, (-1, width))  # (B N, D)
        x = ops.matmul(x, ops.concatenate(kernels, axis=1))  # (B N, 3 D)
        if self.attention_bias:
            x += ops.concatenate([ops.reshape(each.bias, (width,)) for each in projections])
        x = ops.reshape(x, (-1, length, 3, self.num_heads, head_dim))
        x = ops.transpose(x, (2, 0, 3, 1, 4))  # (3, B, heads, N, D / heads)
        query, key, value = ops.unstack(x)
        key = ops.transpose(key, (0, 1, 3, 2))  # (B, heads, D / heads, N)
        scores = ops.matmul(query * head_dim**-0.5, key)  # (B, heads, N, N)
        x = ops.matmul(ops.softmax(scores), value)  # (B, heads, N, D / heads)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, width))  # (B N, D)
        x = ops.matmul(x, ops.reshape(layer.output_dense.kernel, (width, width)))
        if self.attention_bias:
            x += layer.output_dense.bias
        return ops.reshape(x, (-1, length, width))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "stochastic_depth_rate": self.stochastic_depth_rate,
            "attention_bias": self.attention_bias,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class CCTEncoderBlock(TransformerEncoderBlock):
    """Encoder block of the authors' code of CCT: (B, N, D) → (B, N, D).

    x = norm(x + attention(norm(x))), then x = x + MLP(x): the second residual connection starts
    behind the second norm. Query, key and value have no biases, but the output projection has one.
    The GELU is exact, and epsilon is 1e-5.

    Args:
        num_heads: Number of attention heads; divides D.
        mlp_dim: Units of the hidden layer of the MLP.
        **options: The other arguments of TransformerEncoderBlock.

    Source: github.com/SHI-Labs/Compact-Transformers, src/utils/transformers.py, of Hassani et al.
    (2021), arXiv:2104.05704.
    """

    norm_epsilon = 1e-5
    approximate_gelu = False

    def __init__(self, num_heads: int, mlp_dim: int, **options):
        super().__init__(num_heads, mlp_dim, **{**options, "attention_bias": False})

    def build(self, input_shape):
        self.output_bias = self.add_weight(
            name="output_bias", shape=input_shape[-1:], initializer="zeros"
        )
        super().build(input_shape)

    def after_attention(self, sequence, attended, training=False):
        bias = keras.ops.cast(self.output_bias, attended.dtype)
        x = self.dropout(attended + bias, training=training)
        sequence = self.mlp_norm(sequence + self.stochastic_depth(x, training=training))
        x = self.mlp_in(sequence)  # (B, N, mlp_dim)
        x = self.gelu(x, training=training)
        x = self.mlp_out(self.dropout(x, training=training))  # (B, N, D)
        x = self.dropout(x, training=training)
        return sequence + self.stochastic_depth(x, training=training)
