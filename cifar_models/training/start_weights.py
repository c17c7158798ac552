"""Weights of a trained network as the start of another one, which may have other classes."""

import logging
import math

import keras
import numpy as np
import tensorflow as tf

from cifar_models.errors import RequestError
from cifar_models.layers.tokens import PositionEmbedding

logger = logging.getLogger("cifar_models")

HEAD = "classifier"  # layer of every network that knows the classes


def copy_weights(source: keras.Model, network: keras.Model, has_same_classes: bool) -> list[str]:
    """Copy the weights of layers that have the same name and shapes, and say which are new.

    Position embeddings of another number of tokens are interpolated as images. The classifier is
    copied only if the classes are the same.

    Args:
        source: The trained network.
        network: The network that starts from it.
        has_same_classes: Whether the logits of both mean the same classes.

    Returns:
        The names of the layers that are new.

    Raises:
        RequestError: No layer has a counterpart.
    """
    sources = {layer.name: layer.get_weights() for layer in source.layers}
    copied, new = [], []
    for layer in network.layers:
        if not layer.weights:
            continue
        weights = sources.get(layer.name, [])
        if isinstance(layer, PositionEmbedding) and weights:
            weights = [interpolated_positions(weights[0], layer.embedding.shape[0])]
        fits = [weight.shape for weight in weights] == [tuple(w.shape) for w in layer.weights]
        if fits and (has_same_classes or layer.name != HEAD):
            layer.set_weights(weights)
            copied.append(layer.name)
        else:
            new.append(layer.name)
    if not set(copied) - {HEAD}:
        raise RequestError(
            "no layer of the earlier run has the name and the shapes of a layer of this network; "
            "give both the same model table"
        )
    logger.info(
        "%d layers start from the earlier run; new layers: %s",
        len(copied),
        ", ".join(new) or "none",
    )
    return new


def interpolated_positions(embedding: np.ndarray, num_tokens: int) -> np.ndarray:
    """Resize the position embeddings of a square grid: (N, D) → (M, D), float32.

    Embeddings that are no square grid, such as with a class token, are returned as they are.

    Args:
        embedding: Embeddings of N tokens.
        num_tokens: Number of tokens M.

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, section 3.2.
    """
    side, new_side = math.isqrt(len(embedding)), math.isqrt(num_tokens)
    if len(embedding) == num_tokens or side**2 != len(embedding) or new_side**2 != num_tokens:
        return embedding
    grid = embedding.reshape(1, side, side, -1)
    resized = tf.image.resize(grid, (new_side, new_side), "bicubic", antialias=True).numpy()
    return resized.reshape(num_tokens, -1).astype(embedding.dtype)


def freeze_body(network: keras.Model) -> None:
    """Make every layer except the classifier untrainable. Norm layers keep their statistics."""
    for layer in network.layers:
        layer.trainable = layer.name == HEAD


def body_variables(network: keras.Model) -> list[keras.Variable]:
    """Return the trainable variables of every layer except the classifier."""
    return [
        variable
        for layer in network.layers
        if layer.name != HEAD
        for variable in layer.trainable_variables
    ]
