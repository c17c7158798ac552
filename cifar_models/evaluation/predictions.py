"""A network's answers for a whole split."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from cifar_models.data.pipeline import make_ordered_batches
from cifar_models.data.splits import Split

PREDICTION_BATCH = 512  # images


@dataclass(frozen=True)
class Predictions:
    labels: np.ndarray  # int64 (N,), 0 to K - 1
    probabilities: np.ndarray  # float32 (N, K), rows summing to 1
    class_names: tuple[str, ...]  # K


def predict_split(network: keras.Model, split: Split, class_names: tuple[str, ...]) -> Predictions:
    """Runs the network once over every image of the split, in order.

    The last batch is filled up with black images, whose answers are cut off: a batch of another
    size would be traced, and under XLA compiled, for itself.
    """
    from scipy.special import softmax

    num_images = len(split.labels)
    shape = _batch_shape(split)

    def filled(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        missing = shape[0] - tf.shape(images)[0]
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        return tf.ensure_shape(images, shape)

    batches = make_ordered_batches(split, shape[0]).map(filled)
    logits = network.predict(batches, verbose=0)[:num_images]
    probabilities = softmax(logits.astype(np.float64), axis=1).astype(np.float32)
    return Predictions(split.labels, probabilities, class_names)


def compile_predictions(network: keras.Model, split: Split) -> None:
    """Traces and compiles what `predict_split` calls, on black images, so that it can be timed."""
    black = tf.zeros(_batch_shape(split), tf.uint8)
    network.predict(tf.data.Dataset.from_tensors(black), verbose=0)


def _batch_shape(split: Split) -> tuple[int, ...]:
    """(B, H, W, C) of the batches of predictions, the last one too."""
    return (min(PREDICTION_BATCH, len(split.labels)), *split.images.shape[1:])
