"""The size of what the layers of a network compute, known before any of it is allocated."""

import math

import keras
import tensorflow as tf

from cifar_models.layers.encoder_block import TransformerEncoderBlock

# Memory that one predicted image takes at the same time, divided by the largest output of a layer:
# the growth of memory on a CPU was 4.5 (resnet18) and 4.9 (cnn-best) times that, and 0.54 (vit) and
# 0.56 (hybrid) times all arrays of an encoder block.
OUTPUTS_HELD = 5.0
ENCODER_HELD = 0.6


def output_bytes(layer: keras.layers.Layer) -> int:
    """Return the bytes of the arrays that a layer computes for one image."""
    try:
        outputs = keras.tree.flatten(layer.output)
    except (AttributeError, ValueError):  # it is called several times
        return 0
    sizes = [math.prod(size or 1 for size in output.shape[1:]) for output in outputs]
    if isinstance(layer, TransformerEncoderBlock):
        _, length, hidden_dim = layer.output.shape
        # Norms, query, key, value, mean of values, projections, sums; the MLP and its GELU; the
        # scores, before and after softmax and dropout.
        tokens = length * (12 * hidden_dim + 5 * layer.mlp_dim)
        sizes = [tokens + 3 * layer.num_heads * length**2]
    return tf.as_dtype(outputs[0].dtype).size * sum(sizes)


def prediction_bytes(network: keras.Model) -> float:
    """Return an estimate of the bytes that the prediction of one image takes at the same time.

    Args:
        network: The network, a functional one. One within it, as in test-time augmentation, counts
            for one view.
    """
    return max(
        (
            prediction_bytes(layer)
            if isinstance(layer, keras.Model)
            else output_bytes(layer)
            * (ENCODER_HELD if isinstance(layer, TransformerEncoderBlock) else OUTPUTS_HELD)
        )
        for layer in network.layers
    )
