"""The features that a trained CNN has of the images of a split."""

import math

import keras
import numpy as np
from keras import ops

from cifar_models.data.splits import Split
from cifar_models.evaluation.predictions import outputs_in_batches

CHUNK = 4096  # images that are standardized at once


def feature_map(network: keras.Model) -> keras.KerasTensor:
    """Return the output of the last layer of a CNN whose output is a map: (B, h, w, c).

    Args:
        network: The network, a functional one.
    """
    return [layer.output for layer in network.layers if len(layer.output.shape) == 4][-1]


def feature_bytes(network: keras.Model) -> int:
    """Return the size of the features of one image and its mirror image, as float16."""
    return 2 * math.prod(feature_map(network).shape[1:]) * np.dtype(np.float16).itemsize


def compute_feature_maps(network: keras.Model, split: Split) -> np.ndarray:
    """Return the features of every image and of its mirror image, float16 (N, 2, h, w, c).

    They are standardized: the mean over images and positions is 0 and the standard deviation is 1
    for every channel, so that all channels have the same weight.

    Args:
        network: A trained CNN from images, uint8 (B, H, W, C), without test-time augmentation.
        split: N images.
    """
    from sklearn.preprocessing import StandardScaler

    extract = keras.Model(network.input, feature_map(network))
    images = keras.Input(network.input_shape[1:], dtype="uint8")
    pair = ops.stack([extract(images), extract(ops.flip(images, axis=2))], axis=1)
    batches = outputs_in_batches(keras.Model(images, pair), split)
    maps = np.concatenate([batch.astype(np.float16) for batch in batches])
    scaler = StandardScaler()  # a channel that is always 0 stays 0
    chunks = [slice(first, first + CHUNK) for first in range(0, len(maps), CHUNK)]
    for chunk in chunks:
        scaler.partial_fit(_rows(maps[chunk]))
    for chunk in chunks:
        maps[chunk] = scaler.transform(_rows(maps[chunk])).reshape(maps[chunk].shape)
    return maps


def _rows(maps: np.ndarray) -> np.ndarray:
    """Return features (N, 2, h, w, c) with a row for each position, float32 (2 N h w, c)."""
    return maps.reshape(-1, maps.shape[-1]).astype(np.float32)
