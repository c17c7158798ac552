"""What the trials of a search have found, read from its folder."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables
from cifar_models.config.search import SearchChoices
from cifar_models.evaluation.validation_accuracy import accuracy_after
from cifar_models.storage.records import Failure, RunMetrics
from cifar_models.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

MIN_TRIALS = 10  # for importances
FOLDS, REPEATS, TREES = 5, 10, 200
GRID = 40  # values of a key for which the accuracy is predicted
MISSING = -1e6  # value of a key whose condition does not hold; a tree can split it off


@dataclass(frozen=True)
class TrialRow:
    """A trial of a search.

    Attributes:
        number: Its number.
        values: Searched key → value. A key whose condition does not hold is missing.
        accuracy: Validation accuracy, of the epochs so far if it was given up. None: it has failed.
        epochs: Number of trained epochs.
        seconds: Duration of the training.
        is_finished: Whether it was trained to its end.
        problem: Why it has failed, or "".
    """

    number: int
    values: dict[str, object]
    accuracy: float | None
    epochs: int
    seconds: float
    is_finished: bool
    problem: str


@dataclass(frozen=True)
class Importance:
    """How much the accuracy of trials depends on a key.

    Attributes:
        key: The searched key.
        mean: Fall of the R² of a random forest if the values of the key are shuffled.
        deviation: Standard deviation of the fall over folds and shuffles.
    """

    key: str
    mean: float
    deviation: float


def read_rows(out: Path, recipe: Recipe) -> list[TrialRow]:
    """Return a row for each trial that has begun or failed, in the order of their numbers.

    Args:
        out: Folder of the search.
        recipe: Recipe with a `search` table.
    """
    rows = []
    for path in sorted((out / "trials").iterdir()):
        folder = RunFolder(path)
        failure = folder.read_if_there(Failure)
        if not (folder.has_begun() or failure):
            continue
        epochs = folder.num_epochs()
        accuracy = None
        if folder.is_finished():
            accuracy = folder.read(RunMetrics).accuracy
        elif epochs and not failure:
            accuracy = accuracy_after(folder, epochs)
        rows.append(
            TrialRow(
                number=int(path.name),
                values=_searched_values(folder.read_recipe(), recipe),
                accuracy=accuracy,
                epochs=epochs,
                seconds=sum(row["seconds"] for row in folder.read_history()) if epochs else 0.0,
                is_finished=folder.is_finished(),
                problem=failure.reason if failure else "",
            )
        )
    return rows


def _searched_values(trial: Recipe, recipe: Recipe) -> dict[str, object]:
    tables, values = recipe_tables(trial), {}
    for key, entry in recipe.search.items():
        table, _, field = key.partition(".")
        conditions = entry.when.items()
        parents = {other: other.partition(".") for other, _ in conditions}
        if all(tables[parents[o][0]][parents[o][2]] in choices for o, choices in conditions):
            values[key] = tables[table][field]
    return values


def as_numbers(rows: Sequence[TrialRow], key: str, recipe: Recipe) -> np.ndarray:
    """Return the values of a key, float64 (N,), evenly spread over its range.

    A number on a log scale becomes its logarithm, a choice its position, and a missing value NaN.

    Args:
        rows: The N trials.
        key: The searched key.
        recipe: Recipe with a `search` table.
    """
    entry = recipe.search[key]
    numbers = []
    for row in rows:
        value = row.values.get(key)
        if value is None:
            numbers.append(np.nan)
        elif isinstance(entry, SearchChoices):
            same = [_plain(each) == _plain(value) for each in entry.choices]
            numbers.append(float(same.index(True)))
        else:
            assert isinstance(value, int | float)
            numbers.append(math.log10(value) if entry.scale == "log" else float(value))
    return np.array(numbers, np.float64)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def importances(rows: Sequence[TrialRow], recipe: Recipe) -> tuple[list[Importance], float]:
    """Return the importance of each key, the largest first, and how well they explain the accuracy.

    A random forest learns the accuracy of finished trials from their values. The importance of a
    key is the fall of its R² on held-out trials if the values of that key are shuffled.

    Args:
        rows: Trials, of which at least MIN_TRIALS are finished.
        recipe: Recipe with a `search` table.

    Returns:
        The importances, and the mean R² on held-out trials: 1 at best, at most 0 if the values do
        not explain the accuracy.

    Source: Breiman (2001), "Random forests", section 10.
    """
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    values, accuracy = _as_table(rows, recipe)
    falls, scores = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(values):
        forest = _fitted_forest(values[train], accuracy[train])
        scores.append(forest.score(values[test], accuracy[test]))
        found = permutation_importance(
            forest, values[test], accuracy[test], n_repeats=REPEATS, random_state=0
        )
        falls.append(found.importances)  # (keys, REPEATS)
    joined = np.concatenate(falls, axis=1)
    result = [
        Importance(key, float(row.mean()), float(row.std(ddof=1)))
        for key, row in zip(recipe.search, joined, strict=True)
    ]
    return sorted(result, key=lambda each: -each.mean), float(np.mean(scores))


def predictions_around(
    best: TrialRow, rows: Sequence[TrialRow], recipe: Recipe
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what a random forest predicts if one value of the best trial is changed.

    Args:
        best: The best trial.
        rows: Trials, of which at least MIN_TRIALS are finished.
        recipe: Recipe with a `search` table.

    Returns:
        Searched key → (numbers as in `as_numbers`, float64 (G,); accuracies, float64 (G,)). Keys
        whose condition the best trial does not fulfil are missing.
    """
    values, accuracy = _as_table(rows, recipe)
    forest = _fitted_forest(values, accuracy)
    place = np.nan_to_num(
        [as_numbers([best], key, recipe)[0] for key in recipe.search], nan=MISSING
    )
    curves = {}
    for column, key in enumerate(recipe.search):
        if key not in best.values:
            continue
        known = values[:, column][values[:, column] != MISSING]
        if isinstance(recipe.search[key], SearchChoices):
            grid = np.unique(known)
        else:
            grid = np.linspace(known.min(), known.max(), GRID)
        changed = np.repeat(place[None], len(grid), axis=0)
        changed[:, column] = grid
        curves[key] = grid, forest.predict(changed)
    return curves


def _as_table(rows: Sequence[TrialRow], recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return values (N, keys) and accuracies (N,) of the N finished trials, float64."""
    finished = [row for row in rows if row.is_finished]
    values = np.stack([as_numbers(finished, key, recipe) for key in recipe.search], axis=1)
    accuracy = np.array([row.accuracy for row in finished], np.float64)
    return np.nan_to_num(values, nan=MISSING), accuracy


def _fitted_forest(values: np.ndarray, accuracy: np.ndarray) -> "RandomForestRegressor":
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(TREES, random_state=0).fit(values, accuracy)


def trials_csv(rows: Sequence[TrialRow], recipe: Recipe) -> str:
    """Return the trials as CSV, with full precision."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(
        ["trial", "accuracy", "finished", "epochs", "seconds", *recipe.search, "problem"]
    )
    for row in rows:
        accuracy = "" if row.accuracy is None else row.accuracy
        values = [row.values.get(key, "") for key in recipe.search]
        writer.writerow(
            [row.number, accuracy, row.is_finished, row.epochs, row.seconds, *values, row.problem]
        )
    return content.getvalue()
