"""What a network costs: parameters and floating-point operations."""

import math

import keras
from keras import layers

from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.tokens import SequencePooling


def flops_per_image(network: keras.Model) -> int:
    """Counts the operations of one forward pass; a multiplication and an addition are two.

    As the field counts: convolutions, matrix products and attention; norms, activations,
    additions and pooling, a percent or two of them, are left out.

    Raises:
        ValueError: a layer with a kernel that this function does not know.
    """
    return 2 * sum(_multiply_adds(layer) for layer in network.layers)


def _multiply_adds(layer: keras.layers.Layer) -> int:
    if isinstance(layer, layers.Conv2D):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Dense):
        return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, TransformerEncoderBlock):
        _, length, hidden_dim = layer.output.shape
        projections = 4 * length * hidden_dim**2
        attention = 2 * length**2 * hidden_dim
        return projections + attention + 2 * length * hidden_dim * layer.mlp_dim
    if isinstance(layer, SequencePooling):
        _, length, hidden_dim = layer.input.shape
        return 2 * length * hidden_dim
    if any(weight.name == "kernel" for weight in layer.weights):
        raise ValueError(f"layer {layer.name} ({type(layer).__name__}) has no rule for its FLOPs")
    return 0
