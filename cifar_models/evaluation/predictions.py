"""A network's answers for a whole split."""

from dataclasses import dataclass

import keras
import numpy as np

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

    size, num_images = _batch_size(split), len(split.labels)
    logits = [
        network.predict_on_batch(_filled(split.images[first : first + size], size))
        for first in range(0, num_images, size)
    ]
    probabilities = softmax(np.concatenate(logits)[:num_images].astype(np.float64), axis=1)
    return Predictions(split.labels, probabilities.astype(np.float32), class_names)


def compile_predictions(network: keras.Model, split: Split) -> None:
    """Traces and compiles what `predict_split` calls, on black images, so that it can be timed."""
    network.predict_on_batch(_filled(split.images[:0], _batch_size(split)))


def _batch_size(split: Split) -> int:
    """Of the batches of predictions, the last one too."""
    return min(PREDICTION_BATCH, len(split.labels))


def _filled(images: np.ndarray, size: int) -> np.ndarray:
    """Adds black images: (N, H, W, C) → (size, H, W, C)."""
    return np.pad(images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0)))
