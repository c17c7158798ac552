"""Measures a finished run once more, on its own data or on other data of the same classes."""

import dataclasses
from pathlib import Path

from cifar_models.data.datasets import load_dataset
from cifar_models.errors import RequestError
from cifar_models.recipe_file import read_recipe
from cifar_models.run import configure_as_trained
from cifar_models.run_folder import RunFolder
from cifar_models.runtime import import_tensorflow


def evaluate(
    path: Path,
    dataset_name: str | None = None,
    data_dir: str | None = None,
    split: str = "test",
) -> dict:
    """Predicts a split with a run's model and measures the answers.

    The network computes in the precision of its training, so that on the machine of the training
    the figures are those that the run recorded, to the last bit. Predictions that are missing in
    the run folder are written.

    Args:
        path: of a finished run.
        dataset_name: another data set than the run's own.
        data_dir: where TFDS keeps it.
        split: "train", "validation" or "test"; the first two as the run cut them.

    Returns:
        What `evaluation.metrics.classification_metrics` returns, with the names of
        data set and split.

    Raises:
        RequestError: no finished run, or data of other classes or another image shape.
        RunError: the data cannot be had.
    """
    folder = RunFolder.open(path)
    recipe = read_recipe(str(folder.recipe_path))
    data = dataclasses.replace(
        recipe.data,
        dataset=dataset_name or recipe.data.dataset,
        data_dir=data_dir or recipe.data.data_dir,
    )
    dataset, trained_on = load_dataset(data), folder.read_dataset()
    for what, ours, theirs in (
        ("classes", list(dataset.class_names), trained_on["class_names"]),
        ("image shape", list(dataset.test.images.shape[1:]), trained_on["image_shape"]),
    ):
        if ours != theirs:
            raise RequestError(f"{path}: was trained on {what} {theirs}; {dataset.name} has {ours}")

    import_tensorflow()
    from cifar_models.evaluation.metrics import classification_metrics
    from cifar_models.evaluation.predictions import predict_split
    from cifar_models.models.restore import restore_network

    configure_as_trained(folder, recipe)
    network = restore_network(folder)
    splits = dataset.splits(recipe.data, recipe.runtime.seed)
    predictions = predict_split(network, getattr(splits, split), dataset.class_names)
    if dataset_name is None and split == "test" and not folder.predictions_path.exists():
        folder.write_predictions(
            predictions.labels, predictions.probabilities, predictions.class_names
        )
    return {
        "dataset": dataset.name,
        "split": split,
        "images": len(predictions.labels),
        **classification_metrics(
            predictions.labels, predictions.probabilities, predictions.class_names
        ),
    }
