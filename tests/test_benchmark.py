"""What a run costs to serve; no test here relies on how fast this machine is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifar_models import serving_cost
from cifar_models.cli import main
from cifar_models.recipe_file import read_recipe, recipe_toml
from cifar_models.run_folder import RunFolder
from cifar_models.runtime import Runtime

# The real thing but for the seconds of each batch size.
SHORTLY = """
import sys
from cifar_models import serving_cost
serving_cost.LEAST_SECONDS = 0.1
sys.exit(serving_cost.main())
"""
PEAK = "from cifar_models.serving_cost import peak_of_process; print(peak_of_process())"


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A finished run to write into."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_a_run_is_measured_and_recorded(run, monkeypatch, capsys):
    monkeypatch.setattr(serving_cost, "MEASURE", [sys.executable, "-c", SHORTLY])
    assert main(["benchmark", str(run)]) == 0
    assert str(run) in capsys.readouterr().out
    cost = json.loads((run / "cost.json").read_text())
    assert cost == RunFolder(run).read_cost()
    assert set(cost["latency_ms"]) == {"1", "128"}
    for latency in cost["latency_ms"].values():
        assert 0 < latency["p50"] <= latency["p95"]
    assert cost["images_per_second"] > 0
    assert cost["memory_of"] in ("process", "gpu")
    assert cost["peak_memory_bytes"] >= max(1, cost["memory_before_bytes"])
    assert cost["model_bytes"] == (run / "model.keras").stat().st_size
    environment = RunFolder(run).read_environment()
    assert cost["device"] == environment["device"]
    assert cost["precision"] == environment["precision"]


def test_the_figures_are_those_of_the_timed_calls(run, monkeypatch):
    answers, seconds = [], iter([np.arange(1, 102) / 1000, np.array([0.25, 0.25, 0.5, 1.0])])

    def time_calls(call):
        answers.append(call())
        return next(seconds)

    monkeypatch.setattr(serving_cost, "time_calls", time_calls)
    cost = serving_cost.measure_serving(RunFolder(run))
    assert cost["latency_ms"]["1"] == pytest.approx({"p50": 51.0, "p95": 96.0})
    assert cost["latency_ms"]["128"]["p50"] == pytest.approx(375.0)
    assert cost["images_per_second"] == pytest.approx(4 * 128 / 2.0)
    assert [answer.shape for answer in answers] == [(1, 10), (128, 10)]
    for answer in answers:
        np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-5)


def test_the_network_computes_in_the_precision_of_the_training(run, monkeypatch, float32_policy):
    folder = RunFolder(run)
    folder.write_environment({**folder.read_environment(), "precision": "mixed_bfloat16"})
    monkeypatch.setattr(serving_cost, "time_calls", lambda call: np.ones(1))
    assert serving_cost.measure_serving(folder)["precision"] == "mixed_bfloat16"


def test_a_run_that_insisted_on_the_same_bits_is_served_as_any_other(run, monkeypatch):
    folder = RunFolder(run)
    recipe = read_recipe(str(folder.recipe_path), ["runtime.deterministic=true"])
    folder.write_recipe(recipe_toml(recipe))
    seen = []

    def configure_as_trained(folder, recipe):
        seen.append(recipe.runtime.deterministic)
        return Runtime("a laptop", "float32", xla=False, deterministic=False)

    monkeypatch.setattr(serving_cost, "configure_as_trained", configure_as_trained)
    monkeypatch.setattr(serving_cost, "time_calls", lambda call: np.ones(1))
    serving_cost.measure_serving(folder)
    assert seen == [False]


@pytest.mark.parametrize(("seconds_a_call", "calls"), [(1.0, 50), (1 / 64, 3 * 64)])
def test_enough_calls_and_none_that_warm_up(seconds_a_call, calls, monkeypatch):
    now, made = 0.0, 0

    def call():
        nonlocal now, made
        made += 1
        now += 1000.0 if made <= serving_cost.WARM_UP_CALLS else seconds_a_call

    monkeypatch.setattr(serving_cost, "perf_counter", lambda: now)
    np.testing.assert_array_equal(serving_cost.time_calls(call), np.full(calls, seconds_a_call))


def test_the_memory_of_whoever_started_the_process_does_not_count():
    ours = np.ones(400_000_000, np.uint8)
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True)
    assert 0 < int(result.stdout) < ours.nbytes


def test_the_process_that_measures_answers_by_its_name(tmp_path):
    command = [*serving_cost.MEASURE, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert str(tmp_path / "recipe.toml") in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("import sys; print('model.keras: damaged', file=sys.stderr); sys.exit(2)", 2, "damaged"),
        ("raise MemoryError('far too large')", 1, "cannot be measured: MemoryError: far too"),
        ("import os; os.kill(os.getpid(), 9)", 1, "SIGKILL ended the process"),
    ],
)
def test_a_process_that_fails_is_one_line(program, status, message, run, monkeypatch, capsys):
    monkeypatch.setattr(serving_cost, "MEASURE", [sys.executable, "-c", program])
    assert main(["benchmark", str(run)]) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert RunFolder(run).read_cost() is None


def test_runs_and_recipes_together(run, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(run, tmp_path / "run2")
    cost = {
        "latency_ms": {"1": {"p50": 1.0, "p95": 2.0}, "128": {"p50": 30.0, "p95": 40.0}},
        "images_per_second": 4266.7,
        "peak_memory_bytes": 900_000_000,
        "memory_before_bytes": 700_000_000,
        "model_bytes": 108_713,
        "device": "a laptop",
        "precision": "float32",
    }
    monkeypatch.setattr(serving_cost, "_serving_cost", lambda folder: cost)
    monkeypatch.setattr("cifar_models.benchmark.benchmark", lambda recipe: {"recipe": recipe.name})
    assert main(["benchmark", str(run), "digits-vit", str(other), "digits-cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    of_runs = [line for line in lines if line.startswith(str(run))]
    assert len(of_runs) == 2
    for text in ("1.00, 2.00", "30.00, 40.00", "4,267", "900.0 MB, 700.0 MB", "108.7 kB"):
        assert text in of_runs[0]
    assert [line.strip() for line in lines[-3:]] == ["recipe", "digits-vit", "digits-cnn"]


@pytest.mark.parametrize("wrong", ["a folder", "a name"])
def test_a_wrong_request_is_refused_before_anything_is_measured(
    wrong, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(serving_cost, "_serving_cost", lambda folder: pytest.fail("measured"))
    (tmp_path / "empty").mkdir()
    subject = str(tmp_path / "empty") if wrong == "a folder" else "digits-cmn"
    assert main(["benchmark", str(run), subject]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert ("not a run folder" if wrong == "a folder" else "digits-cnn") in error
