"""How a finished run's model bears corrupted images, and how sure it is of what is no image."""

import logging
from pathlib import Path

import numpy as np

from cifar_models.errors import RequestError
from cifar_models.run.load import load_run

logger = logging.getLogger("cifar_models")

SEVERITIES = (1, 2, 3, 4, 5)
ENTROPY_BINS = 20
SEED = 0  # of the corruptions, the same for every run, so that runs meet the same images


def measure_robustness(
    path: Path, data_dir: str | None = None, max_images: int | None = None
) -> dict:
    """Predicts a run's test images under every corruption, and two kinds of noise.

    Out of distribution are images of uniform noise, and the test images with their pixels in
    random order, each in its own. The entropy is that of the predicted distribution, in nats.

    Args:
        path: of a finished run.
        data_dir: where TFDS keeps its data.
        max_images: only so many test images, spread over all of them; None means all.

    Returns:
        What it writes to the run folder: images; clean_accuracy; accuracy: corruption → one number
        for each severity; mean_corrupted_accuracy, the mean of all those; entropy: test, noise,
        shuffled → images in each of 20 bins, and bins → their 21 edges, 0 to log K; roc_auc:
        noise, shuffled → how well the entropy tells them from test images.

    Raises:
        RequestError: no finished run, its data has changed in kind, or there are no images to take.
        RunError: the data cannot be had, or the file cannot be written.
    """
    if max_images is not None and max_images < 1:
        raise RequestError(f"--images {max_images}: must be at least 1")
    run = load_run(path, data_dir=data_dir)
    from cifar_models.data.splits import Split, evenly_spaced
    from cifar_models.evaluation.corruptions.cifar10_c import CORRUPTIONS, corrupt
    from cifar_models.evaluation.metrics import accuracy_and_loss, entropy, roc_auc_between
    from cifar_models.evaluation.predictions import predict_split

    test = run.dataset.test
    chosen = evenly_spaced(len(test.labels), max_images or len(test.labels))
    images, labels = test.images[chosen], test.labels[chosen]

    def predict(shown: np.ndarray) -> np.ndarray:
        split = Split(shown, labels)
        return predict_split(run.network, split, run.dataset.class_names).probabilities

    def accuracy(probabilities: np.ndarray) -> float:
        return accuracy_and_loss(labels, probabilities)[0]

    answers = {"test": predict(images)}
    clean_accuracy = accuracy(answers["test"])
    logger.info("%d test images: %.4f", len(labels), clean_accuracy)
    accuracies: dict[str, list[float]] = {}
    for name in CORRUPTIONS:
        accuracies[name] = [
            accuracy(predict(corrupt(images, name, severity, SEED))) for severity in SEVERITIES
        ]
        logger.info("%s: %s", name, ", ".join(f"{value:.4f}" for value in accuracies[name]))

    answers |= {"noise": predict(_noise(images)), "shuffled": predict(_shuffled(images))}
    entropies = {name: entropy(probabilities) for name, probabilities in answers.items()}
    edges = np.linspace(0, np.log(len(run.dataset.class_names)), ENTROPY_BINS + 1)
    report = {
        "images": len(labels),
        "clean_accuracy": clean_accuracy,
        "accuracy": accuracies,
        "mean_corrupted_accuracy": float(np.mean(list(accuracies.values()))),
        "entropy": {
            **{name: _histogram(values, edges) for name, values in entropies.items()},
            "bins": edges.tolist(),
        },
        "roc_auc": {
            name: roc_auc_between(entropies["test"], entropies[name])
            for name in ("noise", "shuffled")
        },
    }
    run.folder.write_robustness(report)
    return report


def _histogram(entropies: np.ndarray, edges: np.ndarray) -> list[int]:
    inside = np.clip(entropies, edges[0], edges[-1])  # rounding may lead out
    return np.histogram(inside, edges)[0].tolist()


def _noise(images: np.ndarray) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, 256, images.shape, np.uint8)


def _shuffled(images: np.ndarray) -> np.ndarray:
    """Puts the pixels of each image, channels together, into an order of its own."""
    count, height, width, channels = images.shape
    order = np.tile(np.arange(height * width), (count, 1))
    order = np.random.default_rng(SEED).permuted(order, axis=1)
    flat = images.reshape(count, height * width, channels)
    return np.take_along_axis(flat, order[..., None], axis=1).reshape(images.shape)
