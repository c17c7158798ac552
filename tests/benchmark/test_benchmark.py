"""What a run costs to serve, and how fast a recipe trains; the speed of this machine is no part."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifar_models.benchmark import serving_cost
from cifar_models.benchmark import training_speed as benchmark
from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.runtime.device import Runtime
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training import fit

# The real thing but for the seconds of each batch size.
SHORTLY = """
import sys
from cifar_models.benchmark import serving_cost
serving_cost.MIN_SECONDS = 0.1
sys.exit(serving_cost.main())
"""
RUNTIME = Runtime("a laptop", "float32", False, True, resident_bytes=0, steps_per_execution=1)
PEAK = (
    "from cifar_models.benchmark.isolated_process import peak_of_process; print(peak_of_process())"
)


def found_of(recipe_name: str) -> dict:
    """What might have been measured of a recipe."""
    return {
        **{"recipe": recipe_name, "device": "a laptop", "precision": "float32", "batch": 64},
        **{"compile_seconds": 3.25, "feeding": 800_000.4, "constant_batch": 2000.0, "real": 1600.0},
        **{"real_to_constant": 0.8, "without_network": 64000.0},
        **{"training_flops": 50e9, "matrix_product_flops": 100e9},
        **{"utilisation": 0.5, "memory_of": "process", "peak_memory_bytes": 900_000_000},
        "memory_before_bytes": 700_000_000,
    }


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A finished run to write into."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_a_run_is_measured_and_recorded(run, monkeypatch, capsys):
    monkeypatch.setattr(serving_cost, "MEASURE", [sys.executable, "-c", SHORTLY])
    assert main(["benchmark", str(run)]) == 0
    first_column = (line.partition(" ")[0] for line in capsys.readouterr().out.splitlines())
    assert str(run) in "".join(first_column)  # a long path is folded
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

    def configure_for_run(folder, recipe):
        seen.append(recipe.runtime.deterministic)
        return dataclasses.replace(RUNTIME, deterministic=False)

    monkeypatch.setattr(serving_cost, "configure_for_run", configure_for_run)
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
    monkeypatch.setattr(benchmark, "run_isolated", lambda command, name: found_of(name))
    assert main(["benchmark", str(run), "digits-vit", str(other), "digits-cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    of_runs = [line for line in lines if line.startswith(str(run))]
    assert len(of_runs) == 2
    for text in ("1.00, 2.00", "30.00, 40.00", "4,267", "900.0 MB, 700.0 MB", "108.7 kB"):
        assert text in of_runs[0]
    assert any(line.split() == ["recipe", "digits-vit", "digits-cnn"] for line in lines)
    for row in (
        "utilisation 50.0% 50.0%",
        "one step, ms 40 40",  # 64 images at 1,600 a second
        "floor: no network, ms 1 1",
        "ceiling: matrix product, GFLOP/s 100.0 100.0",
    ):
        assert row in (" ".join(line.split()) for line in lines)


def test_a_step_costs_three_forward_passes():
    assert benchmark.training_flops(flops_per_image=10**6, images_per_second=500.0) == 1.5e9


def test_the_ceiling_is_that_of_the_fastest_call(monkeypatch):
    now, seconds = 0.0, iter([1000.0, 8.0, 4.0, 5.0, *100 * [6.0]])  # the first one warms up

    def multiply():
        nonlocal now
        now += next(seconds)

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now)
    # An entry of the product of two 10x10 matrices takes ten multiplications and ten additions.
    assert benchmark.product_flops(10, 3, multiply) == 3 * 100 * 20 / 4.0


def test_a_recipe_is_measured(monkeypatch):
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    monkeypatch.setattr(benchmark, "ROUND_SECONDS", 0.1)
    monkeypatch.setattr(benchmark, "FEEDING_STEPS", 3)
    monkeypatch.setattr(benchmark, "PRODUCT_SIZE", {"gpu": 64, "process": 64})
    networks, averages, make_trainer = [], [], fit.make_trainer

    def noted(network, recipe, runtime, steps_per_epoch, average, resident):
        networks.append(network)
        averages.append(average)
        return make_trainer(network, recipe, runtime, steps_per_epoch, average, resident)

    monkeypatch.setattr(fit, "make_trainer", noted)
    options = ["runtime.steps_per_execution=3", "training.ema_decay=0.9"]
    recipe = read_recipe("digits-cnn", options)
    found = benchmark.measure_training(recipe)
    forward = 2 * 64 * (9 * 32 + 9 * 32 * 32 + 9 * 32 * 32)  # the stem and the first block
    forward += 2 * 16 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) + 2 * 64 * 10
    assert found["training_flops"] == pytest.approx(3 * forward * found["real"])
    assert found["utilisation"] == found["training_flops"] / found["matrix_product_flops"]
    assert found["real_to_constant"] == found["real"] / found["constant_batch"]
    assert found["peak_memory_bytes"] >= found["memory_before_bytes"] > 0
    network, of_the_floor = networks
    assert [average and average.count_params() for average in averages] == [
        network.count_params(), None,
    ]  # fmt: skip
    assert of_the_floor.input_shape == network.input_shape
    assert of_the_floor.output_shape == network.output_shape
    assert flops_per_image(of_the_floor) < flops_per_image(network) / 1000
    assert found["without_network"] > 0
    assert found["feeding"] > 0 and found["compile_seconds"] > 0
    assert set(found) == set(found_of("digits-cnn")) and found["batch"] == 64


def test_a_recipe_reaches_its_process_as_it_is(monkeypatch, capsys):
    program = (
        "import json, sys; from cifar_models.config.recipe_file import read_recipe;"
        "recipe = read_recipe(sys.argv[1]);"
        "print(json.dumps([recipe.name, recipe.data.dataset, recipe.training.batch_size]))"
    )
    monkeypatch.setattr(benchmark, "MEASURE", [sys.executable, "-c", program])
    recipe = read_recipe("digits-vit", ["data.dataset=folder:/x", "training.batch_size=7"])
    assert benchmark.benchmarks([recipe]) == [["digits-vit", "folder:/x", 7]]


def test_a_recipe_whose_data_are_missing_is_one_line(tmp_path, capsys):
    assert main(["benchmark", "digits-cnn", "--dataset", f"folder:{tmp_path / 'none'}"]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "none") in error and error.count("\n") == 1


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


def test_what_overrides_cannot_change_or_the_data_cannot_bear_is_refused(run, capsys):
    assert main(["benchmark", str(run), "--set", "training.batch_size=7"]) == 2
    assert (
        "is a finished run, of which --set, --dataset and --data-dir can" in capsys.readouterr().err
    )
    assert main(["benchmark", str(run), "--dataset", "digits"]) == 2
    assert "is a finished run" in capsys.readouterr().err
    assert main(["benchmark", "cnn-strong", "--dataset", "digits"]) == 2
    assert "augmentation.cutout_size = 12 is not below the 8 pixels" in capsys.readouterr().err
