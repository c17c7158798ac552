"""Evaluation of a finished run on its own data, or on other data of the same classes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cifar_models.config.paths import FOLDER, absolute_dataset, user_path
from cifar_models.config.recipe_file import with_values
from cifar_models.data.dataset import Dataset, changes_since, data_sha256
from cifar_models.data.folder_layout import ALL, SPLITS
from cifar_models.data.image_folder import load_labelled_folder
from cifar_models.data.splits import JoinedSplit, Split, Splits
from cifar_models.errors import RequestError
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.run.seen_images import warn_of_seen_images
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
        split: "train", "validation", "test" or "all".
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
            must be the data of training. A folder may lack some of the classes.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        split: "train", "validation", "test" or "all". The first two hold the same images as in
            training. Of another folder without splits, all images are predicted.

    Raises:
        RequestError: The run is not finished, or the data have no such split; its own data have
            changed; or the other data have other classes or another image shape.
        RunError: The data cannot be loaded.
    """
    run = load_run(path)
    if dataset_name is None:
        dataset, splits = run.load_measured_data(data_dir)
        chosen = NamedSplit(dataset.name, split, _part(_by_name(splits), split, dataset.name))
    else:
        chosen = _load_other_data(run, dataset_name, data_dir, split)
    network = run.network
    from cifar_models.evaluation.metrics import classification_metrics
    from cifar_models.evaluation.predictions import predict_split

    predictions = predict_split(network, chosen.images, tuple(run.dataset.class_names))
    metrics = classification_metrics(
        predictions.labels, predictions.probabilities, predictions.class_names
    )
    is_recorded = dataset_name is None and split == run.metrics.split
    if is_recorded and not run.folder.predictions_path.exists():
        _write_missing(run, predictions, metrics)
    return Evaluation(chosen.dataset, chosen.split, len(chosen.images), metrics)


class NamedSplit(NamedTuple):
    """A split with its name.

    Attributes:
        dataset: Name of its data set.
        split: Its own name, as in `Evaluation`.
        images: The split.
    """

    dataset: str
    split: str
    images: Split


def _load_other_data(run: FinishedRun, name: str, data_dir: str | None, split: str) -> NamedSplit:
    """Load a split of a data set that a user names, and say what it is to the run."""
    recipe = with_values(run.recipe, {"data.dataset": absolute_dataset(name)})
    is_own = _is_same(recipe.data.dataset, run.recipe.data.dataset)
    if name.startswith(FOLDER):
        info = run.dataset
        dataset = load_labelled_folder(recipe, tuple(info.class_names), info.image_shape)
    else:
        dataset = run.load_dataset(name, data_dir)
    is_moved = not is_own and data_sha256(dataset) == run.dataset.sha256
    if not (is_own or is_moved):
        other = _split_of_other_data(dataset, split)
        warn_of_seen_images(run, other.images)
        return other
    splits = dataset.splits(recipe.data, recipe.runtime.seed)
    part = _part(_by_name(splits), split, name)
    if is_own and (changes := changes_since(run.dataset, dataset, splits)):
        logger.warning(
            "the data of %s have changed since training: %s", run.path, "; ".join(changes)
        )
        if split in ("validation", "test"):
            warn_of_seen_images(run, part)
    return NamedSplit(name, split, part)


def _is_same(dataset: str, other: str) -> bool:
    """Return whether two names are of the same data set, or of the same folder."""
    if dataset == other:
        return True
    if not (dataset.startswith(FOLDER) and other.startswith(FOLDER)):
        return False
    paths = [user_path(each.removeprefix(FOLDER)) for each in (dataset, other)]
    try:
        return paths[0].samefile(paths[1])
    except OSError:  # one of them does not exist
        return False


def _split_of_other_data(dataset: Dataset, split: str) -> NamedSplit:
    """Return a split of data that have nothing to do with training.

    Images that are held out as a test split belong to train again, or to all images if the test
    split is asked for.
    """
    parts = _by_name(dataset)
    if dataset.is_test_held_out:
        held_out = [parts.pop(name) for name in ("train", "test") if name in parts]
        if held_out:
            parts = {"train": JoinedSplit(tuple(held_out)), **parts}
        split = ALL if split == "test" else split
    return NamedSplit(dataset.name, split, _part(parts, split, dataset.name))


def _by_name(data: Dataset | Splits) -> dict[str, Split]:
    """Return "train", "validation" and "test" → split, for those that have images."""
    parts = {name: getattr(data, name) for name in SPLITS}
    return {name: part for name, part in parts.items() if part is not None and len(part)}


def _part(parts: Mapping[str, Split], split: str, dataset: str) -> Split:
    """Return one of the splits, or all of them joined."""
    if not parts:
        raise RequestError(f"{dataset}: holds no images of the run's classes; check the folder")
    if split == ALL:
        return JoinedSplit(tuple(parts.values()))
    if split not in parts:
        raise RequestError(
            f"{dataset}: has no {split} split; choose {', '.join([*parts, ALL])} (--split)"
        )
    return parts[split]


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
