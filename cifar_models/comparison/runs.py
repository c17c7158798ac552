"""The runs of a comparison, read and found comparable."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.config.run_identity import identifying_values
from cifar_models.errors import RequestError
from cifar_models.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    path: Path
    recipe: Recipe
    dataset: dict
    metrics: dict  # metrics.json, and what was measured later
    environment: dict
    robustness: dict | None  # where it was measured
    history: list[dict[str, float]]
    labels: np.ndarray  # int64 (N,)
    probabilities: np.ndarray  # float32 (N, K)

    @property
    def correct(self) -> np.ndarray:
        """bool (N,)"""
        return self.probabilities.argmax(axis=1) == self.labels


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
        recipe=folder.read_recipe(),
        dataset=dataset,
        metrics={**folder.read_metrics(), **_measured_later(folder)},
        environment=folder.read_environment(),
        robustness=folder.read_robustness(),
        history=folder.read_history(),
        labels=labels,
        probabilities=probabilities,
    )


def _measured_later(folder: RunFolder) -> dict[str, float]:
    """What `benchmark` and `evaluate --corruptions` measured of a run, flat."""
    robustness, cost = folder.read_robustness(), folder.read_cost()
    measured = {}
    if robustness is not None:
        measured["mean_corrupted_accuracy"] = robustness["mean_corrupted_accuracy"]
    if cost is None:
        return measured
    return {
        **measured,
        **{
            f"latency_{batch}_{part}": milliseconds
            for batch, parts in cost["latency_ms"].items()
            for part, milliseconds in parts.items()
        },
        "peak_memory_megabytes": cost["peak_memory_bytes"] / 1e6,
        "model_megabytes": cost["model_bytes"] / 1e6,
    }


class OfARecipe(Protocol):
    """A run, however much of it was read."""

    @property
    def path(self) -> Path: ...

    @property
    def recipe(self) -> Recipe: ...


AnyRun = TypeVar("AnyRun", bound=OfARecipe)


def by_recipe(runs: Sequence[AnyRun]) -> dict[str, list[AnyRun]]:
    """Groups runs of which only the seed and the part of the training images differ.

    The data are the same for all of them, whatever their path was.

    Returns:
        Name → runs, the smallest part first, and by their seed; where recipes share a name, what
        sets them apart is added to it.

    Raises:
        RequestError: two runs of one recipe have one part and one seed.
    """
    recipes = [identifying_values(run.recipe) for run in runs]
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for values in recipes:
        for key in ("runtime.seed", "data.train_fraction", "data.dataset"):
            del values[key]
        for key, value in values.items():
            found[values["name"]][key].add(repr(value))
    groups: dict[str, list[AnyRun]] = defaultdict(list)
    for run, values in zip(runs, recipes, strict=True):
        alike = found[values["name"]]
        apart = ", ".join(f"{key}={value}" for key, value in values.items() if len(alike[key]) > 1)
        groups[values["name"] + (f" ({apart})" if apart else "")].append(run)
    for group in groups.values():
        _refuse_twice(group)
        group.sort(key=_part_and_seed)
    return dict(groups)


def _part_and_seed(run: OfARecipe) -> tuple[float, int]:
    return run.recipe.data.train_fraction, run.recipe.runtime.seed


def _refuse_twice(group: Iterable[OfARecipe]) -> None:
    seen: dict[tuple[float, int], Path] = {}
    for run in group:
        other = seen.setdefault(_part_and_seed(run), run.path)
        if other != run.path:
            raise RequestError(
                f"{run.path}: is the same recipe and seed ({run.recipe.runtime.seed}) as {other}; "
                "a run counts once: leave one out"
            )


def refuse_other_data(first: Run, other: Run) -> None:
    """Raises RequestError, and shows the difference, where the test images are not the same."""
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
