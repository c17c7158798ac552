"""Evaluation of a finished run on its own data, or on other data of the same classes."""

from dataclasses import dataclass
from pathlib import Path

from cifar_models.errors import RequestError
from cifar_models.run.load import load_run
from cifar_models.storage.records import ClassificationMetrics


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
    folder lacks its predictions, they are written.

    Args:
        path: Path of a finished run.
        dataset_name: Name of another data set. None: the run's own.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        split: "train", "validation" or "test". The first two hold the same images as in training.

    Raises:
        RequestError: The run is not finished or has no such split, or the data has other classes
            or another image shape.
        RunError: The data cannot be loaded.
    """
    run = load_run(path)
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
    if dataset_name is None and split == "test" and not run.folder.predictions_path.exists():
        run.folder.write_predictions(
            predictions.labels, predictions.probabilities, predictions.class_names
        )
    metrics = classification_metrics(
        predictions.labels, predictions.probabilities, predictions.class_names
    )
    return Evaluation(dataset.name, split, len(evaluated), metrics)
