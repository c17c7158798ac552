"""Predictions of a network on a whole split."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from cifar_models.data.splits import Split
from cifar_models.models.activations import prediction_bytes
from cifar_models.runtime.signals import obey_stop

PREDICTION_BATCH = 512  # images, unless they take more memory than the next constant
MAX_BATCH_BYTES = 3.1e9  # what 512 images of 32 pixels take in the largest network of the recipes


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model on one split.

    Attributes:
        labels: Labels, int64 (N,), 0 to K - 1.
        probabilities: Predicted probabilities, float32 (N, K), rows summing to 1.
        class_names: Names of the K classes.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]


def predict_split(network: keras.Model, split: Split, class_names: tuple[str, ...]) -> Predictions:
    """Run the network once over every image of a split, in order.

    The last batch is padded with black images, whose predictions are dropped. A batch of another
    size would be traced again, and compiled again under XLA. Large images are predicted in smaller
    batches, so that a run whose training fits in memory can also be measured.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        split: N images.
        class_names: Names of the K classes.
    """
    logits = np.concatenate(list(outputs_in_batches(network, split)))
    return Predictions(split.labels, _softmax(logits), class_names)


def probabilities_of(network: keras.Model, images: np.ndarray, size: int) -> np.ndarray:
    """Return the probabilities of a batch of images, float32 (B, K).

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        images: Images, uint8 (B, H, W, C).
        size: Size to which the batch is padded, at least B, so that no other size is compiled.
    """
    return _softmax(network.predict_on_batch(_padded(images, size))[: len(images)])


def predict_images(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of images, float32 (N, K), in batches that fit in memory.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        images: At least one image, uint8 (N, H, W, C).
    """
    size = batch_size_for(network, len(images))
    starts = range(0, len(images), size)
    return np.concatenate(
        [probabilities_of(network, images[first : first + size], size) for first in starts]
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return softmax(logits.astype(np.float64), axis=1).astype(np.float32)


def outputs_in_batches(network: keras.Model, split: Split) -> Iterator[np.ndarray]:
    """Yield the outputs of a network for every image of a split, in order, batch by batch.

    Args:
        network: uint8 images (B, H, W, C) → one output (B, ...).
        split: N images.
    """
    size = batch_size_for(network, len(split))
    for first in range(0, len(split), size):
        images = split.images_at(slice(first, first + size))
        yield network.predict_on_batch(_padded(images, size))[: len(images)]
        obey_stop()


def compile_predictions(network: keras.Model, split: Split) -> None:
    """Trace and compile the prediction of a batch, so that `predict_split` can be timed."""
    network.predict_on_batch(
        _padded(split.images_at(slice(0)), batch_size_for(network, len(split)))
    )
    obey_stop()


def batch_size_for(network: keras.Model, num_images: int) -> int:
    """Return the size of the batches in which a number of images is predicted."""
    fitting = int(MAX_BATCH_BYTES / prediction_bytes(network))
    return max(1, min(PREDICTION_BATCH, fitting, num_images))


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    """Add black images: (N, H, W, C) → (size, H, W, C)."""
    return np.pad(images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0)))
