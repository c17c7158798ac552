"""Runs that train for a time: the schedule over time, the end, and resuming."""

import csv
import math
from pathlib import Path

import keras
import pytest

from cifar_models.cli.main import main
from cifar_models.config.training import TrainingConfig
from cifar_models.optimizers.schedules import TimedSchedule
from cifar_models.storage.records import RunMetrics
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN, run_until_killed


def budget_of(seconds: float, *options: str) -> list[str]:
    """Return the arguments of a run of a tiny CNN for this training time."""
    values = ["training.epochs=0", f"training.budget_seconds={seconds}", *options]
    return [*TINY_CNN, *(word for value in values for word in ("--set", value))]


def history(run: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((run / "history.csv").read_text().splitlines())
    return [{key: float(value) for key, value in row.items()} for row in rows]


@pytest.mark.slow
def test_a_run_ends_when_its_time_is_spent_and_its_rate_falls_with_the_time(
    tmp_path, without_figures
):
    run = tmp_path / "run"
    assert main([*budget_of(3, "training.warmup_fraction=0"), "--run", str(run)]) == 0
    metrics = RunFolder(run).read(RunMetrics)
    rows = history(run)
    assert 3 <= metrics.train_seconds <= 4.5
    assert metrics.epochs == len(rows) > 2
    assert metrics.steps == rows[-1]["step"]
    rates, seconds = ([row[key] for row in rows] for key in ("learning_rate", "seconds"))
    assert rates == sorted(rates, reverse=True)
    # The rate of a cosine, at the time that had passed at the end of an epoch in the middle.
    middle = len(rows) // 2
    passed = sum(seconds[: middle + 1]) - metrics.compile_seconds
    peak = rates[0] / (0.5 + 0.5 * math.cos(math.pi * (seconds[0] - metrics.compile_seconds) / 3))
    assert rates[middle] == pytest.approx(
        peak * (0.5 + 0.5 * math.cos(math.pi * passed / 3)), abs=0.15 * peak
    )
    assert rates[-1] < 0.05 * peak


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_is_that_of_the_finished_fraction(schedule):
    fraction = keras.Variable(0.0, trainable=False)
    config = TrainingConfig(schedule=schedule, peak_learning_rate=0.5, warmup_fraction=0.2)
    rate = TimedSchedule(config, fraction)
    falls = {
        "cosine": lambda x: 0.5 + 0.5 * math.cos(math.pi * x),
        "linear": lambda x: 1 - x,
    }
    for finished in (0.0, 0.1, 0.2, 0.5, 0.75, 1.0):
        fraction.assign(finished)
        expected = finished / 0.2 if finished < 0.2 else falls[schedule]((finished - 0.2) / 0.8)
        assert float(rate(10**6)) == pytest.approx(0.5 * expected, abs=1e-5)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_time_that_is_left(tmp_path, capsys):
    run = tmp_path / "run"
    arguments = budget_of(4, "runtime.checkpoint_seconds=0")
    run_until_killed(30, [*arguments, "--run", str(run)])
    assert main(["resume", str(run)]) == 0
    output = capsys.readouterr().out
    assert "resuming after step 3" in output or "resuming after step 2" in output
    metrics = RunFolder(run).read(RunMetrics)
    assert 4 <= metrics.train_seconds <= 6
    assert history(run)[-1]["learning_rate"] < 0.05 * max(
        row["learning_rate"] for row in history(run)
    )
    assert main(["resume", str(run)]) == 0  # finished
    assert "finished already" in capsys.readouterr().out


def test_a_budget_shorter_than_two_steps_is_refused_in_one_line(tmp_path, capsys):
    assert main([*budget_of(1e-6), "--run", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: training.budget_seconds = 1e-06 is shorter than two training")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["training.epochs=3", "training.budget_seconds=60"], "set epochs to 0"),
        (["training.epochs=0"], "unless budget_seconds is set"),
        (
            ["training.epochs=0", "training.budget_seconds=60", "training.lookahead_steps=5"],
            "training.lookahead_steps = 5 must be 0 with budget_seconds",
        ),
        (
            ["training.epochs=0", "training.budget_seconds=60", "runtime.deterministic=true"],
            "runtime.deterministic must be false with training.budget_seconds",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, message, tmp_path, capsys):
    words = [word for option in options for word in ("--set", option)]
    assert main(["train", "digits-cnn", *words, "--run", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
