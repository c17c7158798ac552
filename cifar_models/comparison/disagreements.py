"""The images on which the models of a comparison disagree most."""

from dataclasses import dataclass, field

import numpy as np

from cifar_models.comparison.comparison import Comparison
from cifar_models.data.dataset import data_sha256
from cifar_models.data.load import load_dataset
from cifar_models.data.splits import Split
from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.pages import png_base64
from cifar_models.run.load import FinishedRun

MAX_DISAGREEMENTS = 24  # images in the report
MAX_EXPLAINED = 12  # of them, if the models explain them


@dataclass(frozen=True)
class Disagreement:
    """An image to which the models give different probabilities of its true class.

    Attributes:
        png: The image, in base64.
        true_class: Name of its class.
        probabilities: Model name → mean probability of the true class.
        maps: Model name → a picture of what speaks for the true class, PNG in base64.
    """

    png: str
    true_class: str
    probabilities: dict[str, float]
    maps: dict[str, str] = field(default_factory=dict)


def largest_disagreements(comparison: Comparison, explain: bool) -> list[Disagreement]:
    """Return the images on which the models' probabilities of the true class differ most.

    The list is empty if there is only one model, or if the data are not on this machine.

    Args:
        comparison: The comparison.
        explain: Whether to explain the first ones, with the first run of each model.

    Raises:
        RequestError: They cannot be explained, because there is only one model, or the data or the
            file of a model are missing, or the images are not square.
    """
    first = comparison.models[0].runs[0]
    if len(comparison.models) == 1:
        if explain:
            raise RequestError("--explain: needs runs of at least two recipes")
        return []
    try:
        split = _measured_split(first)
    except (RequestError, RunError) as error:
        if explain:
            raise RequestError(f"--explain: needs the images: {error}") from None
        return []
    rows = np.arange(len(first.labels))
    probabilities = {
        model.name: np.mean([run.probabilities[rows, run.labels] for run in model.runs], axis=0)
        for model in comparison.models
    }  # model → (N,)
    ranges = np.ptp(list(probabilities.values()), axis=0)
    chosen = np.argsort(-ranges, kind="stable")[:MAX_DISAGREEMENTS]
    images, labels = split.images_at(chosen), first.labels[chosen]
    maps = _draw_maps(comparison, images, labels) if explain else [{} for _ in chosen]
    return [
        Disagreement(
            png=png_base64(image),
            true_class=first.dataset.class_names[label],
            probabilities={name: float(row[index]) for name, row in probabilities.items()},
            maps=of_models,
        )
        for index, image, label, of_models in zip(chosen, images, labels, maps, strict=True)
    ]


def _measured_split(run: FinishedRun) -> Split:
    """Return the images on which a run was measured.

    Raises:
        RequestError: The data have changed since training.
        RunError: The data cannot be loaded.
    """
    dataset = load_dataset(run.recipe, may_download=False)
    splits = dataset.splits(run.recipe.data, run.recipe.runtime.seed)
    split = splits.validation if run.metrics.split == "validation" else splits.test
    is_same = data_sha256(dataset) == run.dataset.sha256
    if not (is_same and np.array_equal(split.labels, run.labels)):
        raise RequestError(f"{run.path}: its data have changed since training")
    return split


def _draw_maps(
    comparison: Comparison, images: np.ndarray, labels: np.ndarray
) -> list[dict[str, str]]:
    """Return model name → map, PNG in base64, of each image; of the last ones, nothing.

    Args:
        comparison: The comparison.
        images: Images, uint8 (N, H, W, C).
        labels: Labels, int64 (N,).
    """
    # Networks are only needed here. A report without maps does not import TensorFlow.
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    import_tensorflow()
    from cifar_models.explain.run_maps import maps_of_run

    maps: list[dict[str, str]] = [{} for _ in images]
    for model in comparison.models:
        pictures = maps_of_run(model.runs[0], images[:MAX_EXPLAINED], labels[:MAX_EXPLAINED])
        for of_models, picture in zip(maps, pictures, strict=False):
            of_models[model.name] = png_base64(picture)
    return maps
