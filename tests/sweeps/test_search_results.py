"""The figures and tables of a search, for trials whose accuracies follow a known rule."""

import csv
import io

import numpy as np
import pytest

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import read_recipe
from cifar_models.sweeps.search_figures import draw_importances, draw_parallel, draw_slices
from cifar_models.sweeps.search_results import (
    TrialRow,
    as_numbers,
    importances,
    predictions_around,
    trials_csv,
)
from tests.conftest import TINY_CNN_TOML

SPACE = """
[search]
"training.peak_learning_rate" = { low = 1e-3, high = 1.0, scale = "log" }
"training.batch_size" = { choices = [16, 32, 64] }
"training.optimizer" = { choices = ["sgd", "adamw"] }
"training.momentum" = { low = 0.5, high = 0.9, when = { "training.optimizer" = ["sgd"] } }
"""


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    path = tmp_path / "small.toml"
    path.write_text(TINY_CNN_TOML + SPACE)
    return read_recipe(str(path))


@pytest.fixture
def rows() -> list[TrialRow]:
    """Trials whose accuracy is 0.9 minus 0.1 for each factor of 10 from a learning rate of 0.1."""
    random = np.random.default_rng(0)
    found = []
    for number in range(1, 61):
        rate = float(10 ** random.uniform(-3, 0))
        optimizer = str(random.choice(["sgd", "adamw"]))
        values: dict[str, object] = {
            "training.peak_learning_rate": rate,
            "training.batch_size": int(random.choice([16, 32, 64])),
            "training.optimizer": optimizer,
        }
        if optimizer == "sgd":
            values["training.momentum"] = float(random.uniform(0.5, 0.9))
        accuracy = 0.9 - 0.1 * abs(np.log10(rate) + 1)
        found.append(row(number, values, accuracy))
    return found


def row(number: int, values: dict[str, object], accuracy: float | None, problem="") -> TrialRow:
    return TrialRow(
        number=number,
        values=values,
        accuracy=accuracy,
        epochs=3,
        seconds=2.5,
        is_finished=accuracy is not None,
        problem=problem,
    )


def test_numbers_are_logarithms_and_positions_of_choices(recipe, rows):
    trials = [row(1, {"training.peak_learning_rate": 0.01, "training.batch_size": 64}, 0.5)]
    assert as_numbers(trials, "training.peak_learning_rate", recipe).tolist() == [-2.0]
    assert as_numbers(trials, "training.batch_size", recipe).tolist() == [2.0]
    assert np.isnan(as_numbers(trials, "training.momentum", recipe)).all()


def test_only_the_key_that_decides_is_important(recipe, rows):
    found, r2 = importances(rows, recipe)
    assert found[0].key == "training.peak_learning_rate"
    assert r2 > 0.8
    assert found[0].mean > 1 and found[0].mean > 10 * max(each.mean for each in found[1:])


def test_accuracies_of_pure_chance_are_not_explained(recipe, rows):
    random = np.random.default_rng(1)
    noise = [row(each.number, each.values, float(random.uniform())) for each in rows]
    _, r2 = importances(noise, recipe)
    assert r2 < 0.1


def test_predictions_around_the_best_follow_the_rule(recipe, rows):
    best = max(rows, key=lambda each: each.accuracy)
    curves = predictions_around(best, rows, recipe)
    assert ("training.momentum" in curves) == ("training.momentum" in best.values)
    numbers, accuracies = curves["training.peak_learning_rate"]
    assert np.abs(accuracies - (0.9 - 0.1 * np.abs(numbers + 1))).max() < 0.03
    numbers, accuracies = curves["training.batch_size"]
    assert numbers.tolist() == [0, 1, 2] and np.ptp(accuracies) < 0.02


def test_figures_are_drawn_with_failed_trials_among_them(recipe, rows):
    rows = [*rows, row(61, {"training.batch_size": 16}, None, "loss is nan")]
    best = max(rows[:-1], key=lambda each: each.accuracy)
    for svg in (
        draw_slices(rows, recipe, best, predictions_around(best, rows, recipe)),
        draw_parallel(rows, recipe),
        draw_importances(importances(rows, recipe)[0]),
    ):
        assert svg.lstrip().startswith("<svg") and svg.count("<path") > 10


def test_the_table_has_every_trial(recipe, rows):
    rows = [*rows, row(61, {"training.batch_size": 16}, None, "a,b")]
    table = list(csv.DictReader(io.StringIO(trials_csv(rows, recipe))))
    assert len(table) == 61
    assert float(table[0]["accuracy"]) == rows[0].accuracy
    assert (
        float(table[0]["training.peak_learning_rate"])
        == rows[0].values["training.peak_learning_rate"]
    )
    assert table[-1]["accuracy"] == "" and table[-1]["problem"] == "a,b"
    assert table[-1]["training.momentum"] == ""
