"""The estimate of the time left, against a clock that the test moves."""

import logging
from types import SimpleNamespace

import pytest

from cifar_models.config.recipe_file import read_recipe
from cifar_models.runtime.text import duration_in_words
from cifar_models.training.progress import Progress
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.training.time_budget import TimeBudget
from cifar_models.training.time_left import TimeLeft


def messages(monkeypatch, caplog, recipe: str, device: str, step_seconds: float) -> list[str]:
    """Take 20 of 1,000 steps, the first of which compiles for 30 s; return the log."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    context = SimpleNamespace(recipe=read_recipe(recipe), runtime=SimpleNamespace(device=device))
    progress = Progress()
    callback = TimeLeft(context, progress, 1000, TimeBudget(0, progress, Stopwatch(progress)))
    with caplog.at_level(logging.INFO, "cifar_models"):
        for step in range(1, 21):
            clock[0] += 30.0 if step == 1 else step_seconds
            progress.step = step
            callback.on_train_batch_end(0)
    return [record.getMessage() for record in caplog.records]


def test_it_is_said_once_without_the_compilation(monkeypatch, caplog):
    # Steps of 2 s: after the third step, 4 s have been timed and 997 steps are left.
    assert messages(monkeypatch, caplog, "cnn", "CPU: x", 2.0) == ["about 33 min to go"]


def test_nothing_is_said_of_a_run_that_ends_at_once(monkeypatch, caplog):
    assert messages(monkeypatch, caplog, "cnn", "CPU: x", 0.1) == []


@pytest.mark.parametrize(
    ("recipe", "fitting"),
    [("vit", "vit-laptop"), ("resnet18", "cnn-laptop"), ("hybrid", "hybrid-laptop")],
)
def test_a_cpu_that_takes_hours_is_warned_of_once(recipe, fitting, monkeypatch, caplog):
    estimate, warning = messages(monkeypatch, caplog, recipe, "CPU: x", 10.0)
    assert estimate == "about 2.8 h to go"
    assert recipe in warning and f"the recipe {fitting} is for a CPU" in warning


def test_a_gpu_and_a_laptop_recipe_are_not_warned_of(monkeypatch, caplog):
    assert len(messages(monkeypatch, caplog, "vit", "NVIDIA H100", 10.0)) == 1
    caplog.clear()
    assert len(messages(monkeypatch, caplog, "vit-laptop", "CPU: x", 10.0)) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (7.4, "7 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5969, "99 min"),
        (5971, "1.7 h"),
        (200_000, "2.3 days"),
    ],
)
def test_a_duration_is_given_in_the_unit_that_fits(seconds, words):
    assert duration_in_words(seconds) == words
