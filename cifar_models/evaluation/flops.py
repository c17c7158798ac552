"""Number of floating-point operations of a forward pass, and of training."""

import math

import keras
from keras import layers

from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.tokens import ClassToken, PositionEmbedding, SequencePooling

# Cost of a training step in forward passes. By convention, the gradients cost two.
TRAINING_PASSES = 3
# These layers only copy or add the arrays that they learn.
WITHOUT_MATRIX_PRODUCTS = (ClassToken, PositionEmbedding)


def flops_per_image(network: keras.Model) -> int:
    """Return the floating-point operations of one forward pass of one image.

    A multiplication and an addition count as two. Convolutions, matrix products and attention
    count, as is common in the literature. Normalization, activations, additions and pooling are
    about two percent and do not count; a layer without learned arrays of two or more axes is
    taken to be one of these.

    Args:
        network: Built functional network.

    Raises:
        ValueError: A layer has a learned array of two or more axes, and this module has no rule
            for its type.
    """
    return 2 * sum(_multiply_adds(layer) for layer in network.layers)


def training_flops(flops_per_image: int, images: float) -> float:
    """Return the floating-point operations of training steps.

    Args:
        flops_per_image: Operations of one forward pass of one image.
        images: Number of images in the steps; images per second give operations per second.
    """
    return TRAINING_PASSES * flops_per_image * images


def _multiply_adds(layer: keras.layers.Layer) -> int:
    if isinstance(layer, layers.Conv2D):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Dense):
        return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, TransformerEncoderBlock):
        _, length, hidden_dim = layer.output.shape
        projections = 4 * length * hidden_dim**2  # query, key, value and output
        attention = 2 * length**2 * hidden_dim  # scores and weighted mean
        mlp = 2 * length * hidden_dim * layer.mlp_dim
        return projections + attention + mlp
    if isinstance(layer, SequencePooling):
        _, length, hidden_dim = layer.input.shape
        return 2 * length * hidden_dim  # scores and weighted mean
    has_matrix = any(len(weight.shape) > 1 for weight in layer.weights)
    if has_matrix and not isinstance(layer, WITHOUT_MATRIX_PRODUCTS):
        raise ValueError(
            f"cannot count the FLOPs of layer {layer.name}: "
            f"add a rule for {type(layer).__name__} to evaluation/flops.py"
        )
    return 0
