"""The runs of a comparison: reading, checking and grouping them by recipe."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cifar_models.config.run_identity import identifying_values
from cifar_models.errors import RequestError
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.storage.safe_open import find_files


def read_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """Read finished runs, each once.

    Args:
        paths: Run folders, or folders that contain run folders at any depth.

    Raises:
        RequestError: A path holds no finished run.
    """
    folders: list[Path] = []
    for path in paths:
        below = [found.parent for found in find_files(path, "metrics.json")]
        is_run = (path / "recipe.toml").is_file()
        if not is_run and not below:
            raise RequestError(
                f"{path}: holds no finished run; give a run folder, or one that contains some"
            )
        folders += [path] if is_run else below
    runs = [load_run(path) for path in dict.fromkeys(folders)]
    for run in runs:
        numbers = len(run.metrics.per_class), len(run.dataset.class_names)
        if numbers[0] != numbers[1]:
            raise RequestError(
                f"{run.path}: metrics.json has {numbers[0]} classes, and dataset.json {numbers[1]}"
            )
    return runs


def by_recipe(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Group the runs that differ only in the seed and in the fraction of the training images.

    The path of the data is ignored, because all runs of a comparison use the same data. Of a
    teacher, the recipe counts.

    Args:
        runs: Runs on the same data.

    Returns:
        Recipe name → runs, sorted by fraction and then by seed. If several recipes share a name,
        the values in which they differ are appended to it.

    Raises:
        RequestError: Two runs of one recipe have the same fraction and the same seed.
    """
    recipes = [identifying_values(run.recipe) for run in runs]
    values_of: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run, recipe in zip(runs, recipes, strict=True):
        recipe["training.teacher"] = run.metrics.teacher
        for key in ("runtime.seed", "data.train_fraction", "data.dataset"):
            del recipe[key]
        for key, value in recipe.items():
            values_of[recipe["name"]][key].add(repr(value))
    groups: dict[str, list[FinishedRun]] = defaultdict(list)
    for run, recipe in zip(runs, recipes, strict=True):
        name = recipe["name"]
        differing = ", ".join(
            f"{key}={value}" for key, value in recipe.items() if len(values_of[name][key]) > 1
        )
        groups[f"{name} ({differing})" if differing else name].append(run)
    for group in groups.values():
        _refuse_duplicates(group)
        group.sort(key=_fraction_and_seed)
    return dict(groups)


def _fraction_and_seed(run: FinishedRun) -> tuple[float, int]:
    return run.recipe.data.train_fraction, run.recipe.runtime.seed


def _refuse_duplicates(group: Iterable[FinishedRun]) -> None:
    """Raise RequestError if two runs have the same fraction and the same seed."""
    seen: dict[tuple[float, int], Path] = {}
    for run in group:
        other = seen.setdefault(_fraction_and_seed(run), run.path)
        if other != run.path:
            raise RequestError(
                f"{run.path}: has the same recipe and seed ({run.recipe.runtime.seed}) as {other}; "
                "leave one of them out"
            )


def refuse_different_data(first: FinishedRun, other: FinishedRun) -> None:
    """Raise RequestError if two runs were not evaluated on the same images of the same data."""
    for what, key in (("classes", "class_names"), ("data (SHA-256)", "sha256")):
        expected, found = getattr(first.dataset, key), getattr(other.dataset, key)
        if found != expected:
            raise RequestError(
                f"{other.path}: has {what} {found}; {first.path} has {expected}; compare runs on "
                "the same data"
            )
    if other.metrics.split != first.metrics.split:
        raise RequestError(
            f"{other.path}: was evaluated on the {other.metrics.split} split; {first.path} on the "
            f"{first.metrics.split} split; compare runs of one split"
        )
    if not np.array_equal(first.labels, other.labels):
        raise RequestError(
            f"{other.path}: was evaluated on other images than {first.path}; compare runs on the "
            "same images"
        )
