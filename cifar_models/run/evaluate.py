"""Measures a finished run once more, on its own data or on other data of the same classes."""

from pathlib import Path

from cifar_models.errors import RequestError
from cifar_models.run.load import load_run


def evaluate(
    path: Path,
    dataset_name: str | None = None,
    data_dir: str | None = None,
    split: str = "test",
) -> dict:
    """Predicts a split with a run's model and measures the answers.

    On the machine of the training the figures are those that the run recorded, to the last bit.
    Predictions that are missing in the run folder are written.

    Args:
        path: of a finished run.
        dataset_name: another data set than the run's own.
        data_dir: where TFDS keeps it.
        split: "train", "validation" or "test"; the first two as the run cut them.

    Returns:
        What `evaluation.metrics.classification_metrics` returns, with the names of
        data set and split.

    Raises:
        RequestError: no finished run, no such split in it, or data of other classes or another
            image shape.
        RunError: the data cannot be had.
    """
    run = load_run(path, dataset_name, data_dir)
    from cifar_models.evaluation.metrics import classification_metrics
    from cifar_models.evaluation.predictions import predict_split

    splits = run.dataset.splits(run.recipe.data, run.recipe.runtime.seed)
    if not len(getattr(splits, split).labels):
        raise RequestError(f"{path}: has no {split} split; its data.validation_fraction is 0")
    predictions = predict_split(run.network, getattr(splits, split), run.dataset.class_names)
    if dataset_name is None and split == "test" and not run.folder.predictions_path.exists():
        run.folder.write_predictions(
            predictions.labels, predictions.probabilities, predictions.class_names
        )
    return {
        "dataset": run.dataset.name,
        "split": split,
        "images": len(predictions.labels),
        **classification_metrics(
            predictions.labels, predictions.probabilities, predictions.class_names
        ),
    }
