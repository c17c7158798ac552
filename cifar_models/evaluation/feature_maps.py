"""The features that a trained CNN has of the images of a split."""

import keras
import numpy as np
from keras import ops

from cifar_models.data.splits import Split
from cifar_models.evaluation.predictions import outputs_in_batches

MAX_STANDARDIZED = 4096  # images at once


def feature_map(network: keras.Model) -> keras.KerasTensor:
    """Return the output of the last layer of a CNN whose output is a map: (B, h, w, c).

    Args:
        network: The network, a functional one.
    """
    return [layer.output for layer in network.layers if len(layer.output.shape) == 4][-1]


def compute_feature_maps(network: keras.Model, split: Split) -> np.ndarray:
    """Return the features of every image and of its mirror image, float16 (N, 2, h, w, c).

    They are standardized: the mean over images and positions is 0 and the standard deviation is 1
    for every channel, so that all channels have the same weight.

    Args:
        network: A trained CNN from images, uint8 (B, H, W, C), without test-time augmentation.
        split: N images.
    """
    extract = keras.Model(network.input, feature_map(network))
    images = keras.Input(network.input_shape[1:], dtype="uint8")
    pair = ops.stack([extract(images), extract(ops.flip(images, axis=2))], axis=1)
    batches = outputs_in_batches(keras.Model(images, pair), split)
    maps = np.concatenate([batch.astype(np.float16) for batch in batches])
    mean, deviation = _mean_and_deviation(maps)
    for first in range(0, len(maps), MAX_STANDARDIZED):
        chunk = slice(first, first + MAX_STANDARDIZED)
        maps[chunk] = (maps[chunk] - mean) / deviation
    return maps


def _mean_and_deviation(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, float32 (c,)."""
    sums, squares = np.zeros(maps.shape[-1]), np.zeros(maps.shape[-1])
    for first in range(0, len(maps), MAX_STANDARDIZED):
        chunk = maps[first : first + MAX_STANDARDIZED].astype(np.float64)
        sums += chunk.sum(axis=(0, 1, 2, 3))
        squares += (chunk**2).sum(axis=(0, 1, 2, 3))
    count = maps.size / maps.shape[-1]
    mean = sums / count
    variance = np.maximum(squares / count - mean**2, 0)
    # A channel that is always 0 stays 0.
    deviation = np.where(variance > 1e-12, np.sqrt(variance), 1)
    return mean.astype(np.float32), deviation.astype(np.float32)
