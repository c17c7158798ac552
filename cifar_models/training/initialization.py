"""Initial weights that depend on more than one variable: whitening and mimetic attention."""

import math

import keras
import numpy as np
import tensorflow as tf

from cifar_models.config.model_presets import ModelConfig
from cifar_models.data.splits import evenly_spaced
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.initializers import apply_mimetic_init
from cifar_models.layers.whitening import WhiteningConvolution


def initialize_network(network: keras.Model, recipe: ModelConfig, images: np.ndarray) -> None:
    """Sets the weights of a new network that no initialiser of a single one can.

    Args:
        network: as `build_network` built it.
        recipe: the model table.
        images: the training images, uint8 (N, H, W, C).
    """
    adapt(network, images)
    if getattr(recipe, "mimetic_init", False):
        for layer in network.layers:
            if isinstance(layer, TransformerEncoderBlock):
                apply_mimetic_init(layer.attention)


MAX_NUMBERS = 10_000_000  # in the patches that whitening is fitted to; 867 images of 32 pixels


def adapt(network: keras.Model, images: np.ndarray) -> None:
    """Fits the whitening of a network, where it has one, to training images uint8 (N, H, W, C)."""
    for layer in network.layers:
        if isinstance(layer, WhiteningConvolution):
            most = 2 * MAX_NUMBERS // math.prod(layer.output.shape[1:])
            chosen = evenly_spaced(len(images), max(1, most))
            before = keras.Model(network.input, layer.input)
            with tf.device("CPU"):  # a GPU would have to load kernels for this alone
                layer.adapt(np.asarray(before(images[chosen])))
