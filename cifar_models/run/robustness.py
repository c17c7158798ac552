"""Robustness of a finished run to corrupted images and out-of-distribution inputs."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cifar_models.errors import RequestError
from cifar_models.run.load import load_run
from cifar_models.storage.records import Robustness

logger = logging.getLogger("cifar_models")

SEVERITIES = (1, 2, 3, 4, 5)
ENTROPY_BINS = 20
SEED = 0  # of the corruptions: the same images for every run


def measure_robustness(
    path: Path | str, data_dir: str | None = None, max_images: int | None = None
) -> Robustness:
    """Measure the accuracy of a run under every corruption, and its entropy on two kinds of noise.

    The out-of-distribution inputs are images of uniform noise, and the test images with their
    pixels shuffled. The result is written to robustness.json in the run folder.

    Args:
        path: Path of a finished run.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        max_images: Number of test images, spread evenly over the split. None: all of them.

    Raises:
        RequestError: The run is not finished, its data have changed, or max_images is below 1.
        RunError: The data cannot be loaded, or the file cannot be written.
    """
    if max_images is not None and max_images < 1:
        raise RequestError(f"--images {max_images}: must be at least 1")
    run = load_run(path)
    test = run.load_measured_data(data_dir)[1].test
    network = run.network
    from cifar_models.data.splits import ArraySplit, evenly_spaced
    from cifar_models.evaluation.metrics import accuracy_and_loss, entropy, roc_auc_between
    from cifar_models.evaluation.predictions import predict_split

    chosen = evenly_spaced(len(test), max_images or len(test))
    images, labels = test.images_at(chosen), test.labels[chosen]

    def predict(inputs: np.ndarray) -> np.ndarray:
        split = ArraySplit(inputs, labels)
        return predict_split(network, split, tuple(run.dataset.class_names)).probabilities

    def accuracy(inputs: np.ndarray) -> float:
        return accuracy_and_loss(labels, predict(inputs))[0]

    clean_accuracy = accuracy(images)
    logger.info("accuracy on %d uncorrupted test images: %.4f", len(labels), clean_accuracy)
    accuracies = _accuracy_by_corruption(images, accuracy)
    inputs = {"test": images, "noise": _noise(images), "shuffled": _shuffled(images)}
    entropies = {name: entropy(predict(each)) for name, each in inputs.items()}
    report = Robustness(
        images=len(labels),
        clean_accuracy=clean_accuracy,
        accuracy=accuracies,
        mean_corrupted_accuracy=float(np.mean(list(accuracies.values()))),
        entropy=_histograms(entropies, len(run.dataset.class_names)),
        roc_auc={
            name: roc_auc_between(entropies["test"], entropies[name])
            for name in ("noise", "shuffled")
        },
    )
    run.folder.write(report)
    return report


def _accuracy_by_corruption(
    images: np.ndarray, accuracy: Callable[[np.ndarray], float]
) -> dict[str, list[float]]:
    """Return the accuracy under every corruption by severity, and log it."""
    from cifar_models.evaluation.corruptions.cifar10_c import CORRUPTIONS, corrupt

    accuracies: dict[str, list[float]] = {}
    for name in CORRUPTIONS:
        accuracies[name] = [
            accuracy(corrupt(images, name, severity, SEED)) for severity in SEVERITIES
        ]
        logger.info("%s: %s", name, ", ".join(f"{value:.4f}" for value in accuracies[name]))
    return accuracies


def _histograms(entropies: dict[str, np.ndarray], num_classes: int) -> dict[str, list]:
    """Count the entropies (N,) of each kind of input in bins from 0 to log K nats."""
    edges = np.linspace(0, np.log(num_classes), ENTROPY_BINS + 1)
    counts = {
        # Rounding may push a value out of the range.
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
        for name, values in entropies.items()
    }
    return {**counts, "bins": edges.tolist()}


def _noise(images: np.ndarray) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, 256, images.shape, np.uint8)


def _shuffled(images: np.ndarray) -> np.ndarray:
    """Shuffle the pixels of each image independently, and keep their channels together."""
    _, height, width, channels = images.shape
    rng, shuffled = np.random.default_rng(SEED), np.empty_like(images)
    for index, image in enumerate(images):  # the order of all pixels would take 8 bytes for each
        order = rng.permuted(np.arange(height * width))
        shuffled[index] = image.reshape(-1, channels)[order].reshape(image.shape)
    return shuffled
