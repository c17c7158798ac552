"""A network's answers for a whole split."""

from dataclasses import dataclass

import keras
import numpy as np

from cifar_models.data.pipeline import make_ordered_batches
from cifar_models.data.splits import Split

PREDICTION_BATCH = 512  # images


@dataclass(frozen=True)
class Predictions:
    labels: np.ndarray  # int64 (N,), 0 to K - 1
    probabilities: np.ndarray  # float32 (N, K), rows summing to 1
    class_names: tuple[str, ...]  # K


def predict_split(network: keras.Model, split: Split, class_names: tuple[str, ...]) -> Predictions:
    """Runs the network once over every image of the split, in order."""
    from scipy.special import softmax

    images_only = make_ordered_batches(split, PREDICTION_BATCH).map(lambda images, labels: images)
    logits = network.predict(images_only, verbose=0)
    probabilities = softmax(logits.astype(np.float64), axis=1).astype(np.float32)
    return Predictions(split.labels, probabilities, class_names)
