"""Many finished runs become one comparison: means with intervals, paired tests, words, warnings."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_models.errors import RequestError
from cifar_models.evaluation.review import objections
from cifar_models.evaluation.statistics import (
    CONFIDENCE,
    Difference,
    Interval,
    compare_accuracy,
    holm,
    mean_interval,
)
from cifar_models.fingerprints import decisive_values
from cifar_models.recipe import Recipe
from cifar_models.recipe_file import read_recipe
from cifar_models.run_folder import RunFolder

SCORES = {  # of metrics.json → how a page calls it
    "accuracy": "accuracy",
    "loss": "loss",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "roc_auc_macro": "ROC AUC",
    "expected_calibration_error": "calibration error",
}
COSTS = {
    "parameters": "parameters",
    "flops_per_image": "FLOPs/image",
    "train_seconds": "training s",
    "images_per_second": "training images/s",
}


@dataclass(frozen=True)
class Run:
    path: Path
    recipe: Recipe
    dataset: dict
    metrics: dict
    environment: dict
    history: list[dict[str, float]]
    labels: np.ndarray  # int64 (N,)
    probabilities: np.ndarray  # float32 (N, K)

    @property
    def correct(self) -> np.ndarray:
        """bool (N,)"""
        return self.probabilities.argmax(axis=1) == self.labels


@dataclass(frozen=True)
class Model:
    """One recipe, in as many runs as there are seeds."""

    name: str
    runs: tuple[Run, ...]

    def correct(self) -> np.ndarray:
        """bool (S, N)"""
        return np.stack([run.correct for run in self.runs])

    def score(self, key: str) -> Interval | None:
        """Over the runs; None where one of them has no such number."""
        values = [run.metrics.get(key) for run in self.runs]
        return None if None in values else mean_interval(np.array(values, np.float64))

    @property
    def accuracy(self) -> Interval:
        return mean_interval(self.correct().mean(axis=1))

    def mean(self, key: str) -> float:
        """Of a number that every run has."""
        return float(np.mean([run.metrics[key] for run in self.runs]))

    def class_accuracy(self) -> np.ndarray:
        """The part of each class that is recognised, mean over the runs: (K,)."""
        rows = [[row["recall"] for row in run.metrics["per_class"].values()] for run in self.runs]
        return np.mean(rows, axis=0)


@dataclass(frozen=True)
class Pair:
    better: str  # by its mean, not necessarily beyond chance
    worse: str
    difference: Difference  # of the better one over the worse one
    p_value: float  # adjusted for the number of pairs

    def is_certain(self) -> bool:
        return self.p_value < 1 - CONFIDENCE

    def in_words(self) -> str:
        """What the test carries, and no more; differences in percentage points."""
        of = self.difference
        size = f"{100 * of.difference:.1f} points [{100 * of.low:.1f}, {100 * of.high:.1f}]"
        about = "" if min(of.runs) > 1 else " These are single runs: another seed may change it."
        if self.is_certain():
            return f"{self.better} is better than {self.worse} by {size}.{about}"
        return (
            f"These runs cannot tell {self.better} and {self.worse} apart: {size}. A difference of "
            f"{100 * of.detectable:.1f} points would have been found four times out of five.{about}"
        )


@dataclass(frozen=True)
class Comparison:
    models: tuple[Model, ...]  # the highest mean accuracy first
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...]

    @property
    def dataset(self) -> dict:
        return self.models[0].runs[0].dataset


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads finished runs; a folder that is none stands for those below it.

    Raises:
        RequestError: no finished run there, or one that cannot be compared: without predictions,
            with probabilities that are no numbers, or labels outside the classes.
    """
    folders: list[Path] = []
    for path in paths:
        below = sorted(found.parent for found in path.rglob("metrics.json"))
        is_run = (path / "recipe.toml").is_file()
        if not is_run and not below:
            raise RequestError(f"{path}: holds no finished run")
        folders += [path] if is_run else below
    return [_read_run(path) for path in dict.fromkeys(folders)]


def _read_run(path: Path) -> Run:
    folder = RunFolder.open(path)
    labels, probabilities = folder.read_predictions()
    dataset = folder.read_dataset()
    bad_rows = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(bad_rows):
        raise RequestError(
            f"{folder.predictions_path}: row {bad_rows[0]} holds a probability that is not finite; "
            "train the run again"
        )
    strange = np.flatnonzero((labels < 0) | (labels >= len(dataset["class_names"])))
    if len(strange):
        raise RequestError(
            f"{folder.predictions_path}: row {strange[0]} has label {labels[strange[0]]}, outside "
            f"the {len(dataset['class_names'])} classes"
        )
    return Run(
        path=path,
        recipe=read_recipe(str(folder.recipe_path)),
        dataset=dataset,
        metrics=folder.read_metrics(),
        environment=folder.read_environment(),
        history=folder.read_history(),
        labels=labels,
        probabilities=probabilities,
    )


def compare(runs: Sequence[Run]) -> Comparison:
    """Groups runs by recipe, and tests every pair of models on the same test images.

    Raises:
        RequestError: the runs are of other data, classes or test images than the first.
    """
    for run in runs[1:]:
        _refuse_other_data(runs[0], run)
    models = sorted(_models(runs), key=lambda model: -model.accuracy.mean)
    couples = list(itertools.combinations(models, 2))
    differences = [compare_accuracy(worse.correct(), better.correct()) for better, worse in couples]
    p_values = holm([difference.p_value for difference in differences])
    pairs = tuple(
        Pair(better.name, worse.name, difference, p_value)
        for (better, worse), difference, p_value in zip(couples, differences, p_values, strict=True)
    )
    return Comparison(tuple(models), pairs, tuple(objections(models)))


def _models(runs: Iterable[Run]) -> list[Model]:
    """One model for each recipe; where two share a name, what sets them apart is added to it."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        values = decisive_values(run.recipe)
        groups[repr({key: value for key, value in values.items() if key != "runtime.seed"})].append(
            run
        )
    same_name: dict[str, list[list[Run]]] = defaultdict(list)
    for group in groups.values():
        _refuse_same_seed(group)
        same_name[group[0].recipe.name].append(sorted(group, key=lambda r: r.recipe.runtime.seed))
    return [
        Model(name + _distinction(group, alike), tuple(group))
        for name, alike in same_name.items()
        for group in alike
    ]


def _distinction(group: list[Run], alike: list[list[Run]]) -> str:
    values = [decisive_values(other[0].recipe) for other in alike]
    own = decisive_values(group[0].recipe)
    keys = [
        key
        for key in own
        if key != "runtime.seed" and len({repr(other.get(key)) for other in values}) > 1
    ]
    return f" ({', '.join(f'{key}={own[key]}' for key in keys)})" if keys else ""


def _refuse_same_seed(group: list[Run]) -> None:
    seen: dict[int, Path] = {}
    for run in group:
        seed = run.recipe.runtime.seed
        if seed in seen:
            raise RequestError(
                f"{run.path}: is the same recipe and seed ({seed}) as {seen[seed]}; a run counts "
                "once: leave one out"
            )
        seen[seed] = run.path


def _refuse_other_data(first: Run, other: Run) -> None:
    for what, key in (("classes", "class_names"), ("data (SHA-256)", "sha256")):
        ours, theirs = first.dataset.get(key), other.dataset.get(key)
        if ours != theirs:
            raise RequestError(
                f"{other.path}: has {what} {theirs}; {first.path} has {ours}: not comparable"
            )
    ours, theirs = first.metrics["split"], other.metrics["split"]
    if ours != theirs:
        raise RequestError(
            f"{other.path}: is measured on the {theirs} split, {first.path} on the {ours} split"
        )
    if not np.array_equal(first.labels, other.labels):
        raise RequestError(f"{other.path}: answers to other images than {first.path}")
