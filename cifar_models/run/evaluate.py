"""Evaluation of a finished run on its own data, or on other data of the same classes."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.errors import RequestError
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.storage.records import ClassificationMetrics

if TYPE_CHECKING:
    from cifar_models.evaluation.predictions import Predictions

logger = logging.getLogger("cifar_models")

# Another processor rounds differently, which may change a few predictions.
MAX_CHANGED_FRACTION = 0.001  # of the images
MAX_LOSS_DIFFERENCE = 0.01  # nats


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a finished run on one split of one data set.

    Attributes:
        dataset: Name of the data set.
        split: "train", "validation" or "test".
        images: Number of images in the split.
        metrics: Metrics of the predictions.
    """

    dataset: str
    split: str
    images: int
    metrics: ClassificationMetrics


def evaluate(
    path: Path | str,
    dataset_name: str | None = None,
    data_dir: str | None = None,
    split: str = "test",
) -> Evaluation:
    """Predict a split with the model of a run, and return the metrics.

    On the machine that trained the run, they equal the recorded metrics to the last bit. If the run
    folder lacks the predictions that its metrics are from, they are written.

    Args:
        path: Path of a finished run.
        dataset_name: Name of a data set, from which nothing is written. None: the run's own, which
            must be the data of training.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        split: "train", "validation" or "test". The first two hold the same images as in training.

    Raises:
        RequestError: The run is not finished or has no such split; its own data have changed; or
            the other data have other classes or another image shape.
        RunError: The data cannot be loaded.
    """
    run = load_run(path)
    if dataset_name is None:
        dataset, splits = run.load_measured_data(data_dir)
    else:
        dataset = run.load_dataset(dataset_name, data_dir)
        splits = dataset.splits(run.recipe.data, run.recipe.runtime.seed)
    evaluated = getattr(splits, split)
    if not len(evaluated):
        raise RequestError(
            f"{path}: has no {split} split; its data.validation_fraction is 0; choose test or train"
        )
    network = run.network
    from cifar_models.evaluation.metrics import classification_metrics
    from cifar_models.evaluation.predictions import predict_split

    predictions = predict_split(network, evaluated, dataset.class_names)
    metrics = classification_metrics(
        predictions.labels, predictions.probabilities, predictions.class_names
    )
    is_recorded = dataset_name is None and split == run.metrics.split
    if is_recorded and not run.folder.predictions_path.exists():
        _write_missing(run, predictions, metrics)
    return Evaluation(dataset.name, split, len(evaluated), metrics)


def _write_missing(
    run: FinishedRun, predictions: "Predictions", metrics: ClassificationMetrics
) -> None:
    """Write predictions.npz, unless metrics.json is from other predictions."""
    recorded, images = run.metrics, len(predictions.labels)
    changed_images = round(abs(metrics.accuracy - recorded.accuracy) * images)
    if (
        changed_images > max(1, MAX_CHANGED_FRACTION * images)
        or abs(metrics.loss - recorded.loss) > MAX_LOSS_DIFFERENCE
    ):
        logger.warning(
            "%s: is not written, because the accuracy is %.4f and the loss %.4f, and metrics.json "
            "has %.4f and %.4f",
            run.folder.predictions_path,
            metrics.accuracy,
            metrics.loss,
            recorded.accuracy,
            recorded.loss,
        )
        return
    run.folder.write_predictions(
        predictions.labels, predictions.probabilities, predictions.class_names
    )
