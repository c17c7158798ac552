"""The cost of a run in each runtime. No test depends on the speed of the machine."""

import json
import subprocess
import sys

import numpy as np
import pytest

from cifar_models.benchmark import runtime_cost, serving_cost
from cifar_models.cli import cost_tables
from cifar_models.cli.main import main
from cifar_models.errors import RunError
from cifar_models.run.load import load_run
from cifar_models.serving.export import export
from cifar_models.storage.cost_records import RuntimeCosts
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import read_metrics, refusal

# The real measurement, with less time for each batch size.
SHORT = """
import sys
from cifar_models.benchmark import runtime_cost, serving_cost
serving_cost.MIN_SECONDS, serving_cost.MIN_CALLS = 0.05, 3
sys.exit(runtime_cost.main())
"""


@pytest.mark.slow
def test_every_runtime_is_measured_in_a_process_of_its_own(run_copy, monkeypatch, capsys):
    monkeypatch.setattr(runtime_cost, "MEASURE", ["-c", SHORT])
    monkeypatch.setattr(serving_cost, "measure_serving_costs", lambda paths: {})
    monkeypatch.setattr("cifar_models.cli.cost_tables.print_serving_costs", lambda costs: None)
    names = ["keras", "saved_model", "onnx", "litert-int8"]
    options = [option for name in names for option in ("--runtime", name)]
    assert main(["benchmark", str(run_copy), *options]) == 0
    output = capsys.readouterr().out
    costs = RunFolder(run_copy).read(RuntimeCosts).runtimes
    assert list(costs) == names and all(name in output for name in names)
    accuracy = read_metrics(run_copy)["accuracy"]
    for name, cost in costs.items():
        assert list(cost.latency_ms) == ["1", "8", "128"]
        assert all(0 < each.p50 <= each.p95 <= each.p99 for each in cost.latency_ms.values())
        assert cost.peak_memory_bytes > cost.memory_before_bytes > 0
        assert cost.accuracy == pytest.approx(accuracy, abs=0.06 if "int8" in name else 1e-9)
    assert costs["litert-int8"].model_bytes < costs["onnx"].model_bytes
    # onnxruntime needs neither TensorFlow's time nor its memory.
    assert costs["onnx"].peak_memory_bytes < costs["keras"].peak_memory_bytes


def test_the_numbers_come_from_the_timed_calls(finished_run, tmp_path, monkeypatch):
    folder = export(finished_run, tmp_path / "onnx", "onnx").path
    shapes, seconds = [], iter([np.full(4, 0.002), np.full(4, 0.004), np.array([0.5, 1, 4])])

    def time_calls(call):
        shapes.append(call().shape)
        return next(seconds)

    monkeypatch.setattr(runtime_cost, "time_calls", time_calls)
    cost = runtime_cost.measure_runtime(load_run(finished_run), str(folder))
    assert shapes == [(1, 10), (8, 10), (128, 10)]
    assert cost.latency_ms["1"].p50 == pytest.approx(2)
    assert cost.latency_ms["128"].p50 == pytest.approx(1000)
    assert cost.images_per_second == pytest.approx(128)
    assert cost.model_bytes == (folder / "model.onnx").stat().st_size
    assert cost.accuracy == read_metrics(finished_run)["accuracy"]


def test_a_runtime_without_tensorflow_is_measured_without_it(finished_run, tmp_path):
    folder = export(finished_run, tmp_path / "onnx", "onnx").path
    program = (
        "import sys; from cifar_models.benchmark.runtime_cost import open_runtime; "
        "from cifar_models.run.load import load_run; "
        "open_runtime(load_run(sys.argv[1]), sys.argv[2]); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, str(finished_run), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_runtime_that_fails_is_left_out(run_copy, monkeypatch, capsys):
    def fail(run, name, scratch):
        raise RunError(f"{name} does not work")

    monkeypatch.setattr(runtime_cost, "export_run", fail)
    monkeypatch.setattr(runtime_cost, "measure_isolated", lambda *arguments: COST)
    costs = runtime_cost.measure_runtimes([run_copy], ["keras", "onnx"])
    assert list(costs[run_copy].runtimes) == ["keras"]
    with pytest.raises(RunError, match="could be measured in none of onnx"):
        runtime_cost.measure_runtimes([run_copy], ["onnx"])
    monkeypatch.setattr(runtime_cost, "export_run", lambda run, name, scratch: "")
    costs = runtime_cost.measure_runtimes([run_copy], ["onnx"])
    assert list(costs[run_copy].runtimes) == ["onnx"]
    recorded = json.loads((run_copy / "runtimes.json").read_text())["runtimes"]
    assert list(recorded) == ["keras", "onnx"]  # earlier results are kept


def test_a_requested_runtime_that_fails_is_a_failure(run_copy, monkeypatch, capsys):
    def fail(run, name, scratch):
        raise RunError(f"{name} does not work")

    monkeypatch.setattr(runtime_cost, "export_run", fail)
    monkeypatch.setattr(runtime_cost, "measure_isolated", lambda *arguments: COST)
    monkeypatch.setattr(serving_cost, "measure_serving_costs", lambda runs: {})
    monkeypatch.setattr(cost_tables, "print_serving_costs", lambda costs: None)
    command = ["benchmark", str(run_copy), "--runtime", "keras", "--runtime", "saved_model"]
    assert main(command) == 1
    assert "could not be measured in saved_model" in capsys.readouterr().err


COST = runtime_cost.RuntimeCost(
    latency_ms={"1": serving_cost.latency_of(np.ones(3))},
    images_per_second=1.0,
    startup_seconds=1.0,
    peak_memory_bytes=2,
    memory_before_bytes=1,
    model_bytes=1,
    device="a laptop",
    precision="float32",
    accuracy=None,
)


def test_names_are_checked_before_anything_is_measured(finished_run, capsys):
    error = refusal(capsys, "benchmark", finished_run, "--runtime", "core_ml")
    assert "--runtime core_ml: must be one of keras, saved_model" in error
    error = refusal(capsys, "benchmark", "digits-cnn", "--runtime", "keras")
    assert "applies to run folders, and digits-cnn is a recipe" in error
    assert runtime_cost.check_runtimes(["keras", "keras"]) == ["keras"]
    assert not any("int8" in name for name in runtime_cost.check_runtimes([]))
