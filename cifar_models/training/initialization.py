"""Initial weights that depend on more than one variable: whitening and mimetic attention."""

import math

import keras
import numpy as np
import tensorflow as tf

from cifar_models.config.architectures import ModelConfig
from cifar_models.data.splits import Split, evenly_spaced
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.initializers import apply_mimetic_init
from cifar_models.layers.whitening import WhiteningConvolution

MAX_PATCH_VALUES = 10_000_000  # for the fit of whitening: 867 images of 32 pixels


def initialize_network(network: keras.Model, config: ModelConfig, train: Split) -> None:
    """Set the weights that no initializer of a single variable can set.

    Args:
        network: Network from `build_network`.
        config: The recipe's `model` table.
        train: Training images.
    """
    fit_whitening(network, train)
    if getattr(config, "mimetic_init", False):
        for layer in network.layers:
            if isinstance(layer, TransformerEncoderBlock):
                apply_mimetic_init(layer.attention)


def fit_whitening(network: keras.Model, train: Split) -> None:
    """Fit the whitening layers of a network, if it has any, to training images."""
    for layer in network.layers:
        if isinstance(layer, WhiteningConvolution):
            maximum = 2 * MAX_PATCH_VALUES // math.prod(layer.output.shape[1:])
            images = train.images_at(evenly_spaced(len(train), max(1, maximum)))
            inputs_of_layer = keras.Model(network.input, layer.input)
            with tf.device("CPU"):  # a GPU would load kernels only for this
                layer.adapt(np.asarray(inputs_of_layer(images)))
