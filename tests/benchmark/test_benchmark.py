"""Serving cost and training speed. No test depends on the speed of the machine."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cifar_models.benchmark import matrix_products, runtime_cost, serving_cost, training_speed
from cifar_models.benchmark.training_speed import TrainingSpeed
from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.evaluation.flops import flops_per_image, training_flops
from cifar_models.run import load
from cifar_models.run.load import load_run
from cifar_models.runtime.device import Runtime
from cifar_models.storage.cost_records import Latency, ServingCost
from cifar_models.storage.records import Environment
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training import fit
from tests.conftest import refusal

# The real measurement, with less time for each batch size.
SHORT = """
import sys
from cifar_models.benchmark import serving_cost
serving_cost.MIN_SECONDS = 0.1
sys.exit(serving_cost.main())
"""
RUNTIME = Runtime(
    device="a laptop",
    devices=("CPU:0",),
    precision="float32",
    xla=False,
    onednn=False,
    deterministic=True,
    resident_bytes=0,
    steps_per_execution=1,
)
PEAK = (
    "from cifar_models.benchmark.isolated_process import peak_of_process; print(peak_of_process())"
)


def speed_of(recipe_name: str) -> TrainingSpeed:
    """Return a plausible training speed."""
    return TrainingSpeed(
        recipe=recipe_name,
        device="a laptop",
        precision="float32",
        batch_size=64,
        compile_seconds=3.25,
        input_images_per_second=800_000.4,
        constant_images_per_second=2000.0,
        images_per_second=1600.0,
        real_to_constant=0.8,
        minimal_images_per_second=64000.0,
        flops_per_second=50e9,
        max_flops_per_second=100e9,
        utilization=0.5,
        memory_of="process",
        peak_memory_bytes=900_000_000,
        memory_before_bytes=700_000_000,
    )


@pytest.mark.slow
def test_a_run_is_measured_and_recorded(run_copy, monkeypatch, capsys):
    monkeypatch.setattr(serving_cost, "MEASURE", ["-c", SHORT])
    monkeypatch.setattr(runtime_cost, "measure_runtimes", lambda paths, names: {})
    assert main(["benchmark", str(run_copy)]) == 0
    first_column = (line.partition(" ")[0] for line in capsys.readouterr().out.splitlines())
    assert str(run_copy) in "".join(first_column)  # a long path is folded
    cost = json.loads((run_copy / "cost.json").read_text())
    assert cost == dataclasses.asdict(RunFolder(run_copy).read(ServingCost))
    assert set(cost["latency_ms"]) == {"1", "128"}
    for latency in cost["latency_ms"].values():
        assert 0 < latency["p50"] <= latency["p95"]
    assert cost["images_per_second"] > 0
    assert cost["memory_of"] in ("process", "gpu")
    assert cost["peak_memory_bytes"] >= max(1, cost["memory_before_bytes"])
    assert cost["model_bytes"] == (run_copy / "model.keras").stat().st_size
    environment = RunFolder(run_copy).read(Environment)
    assert cost["device"] == environment.device
    assert cost["precision"] == environment.precision


def test_latency_and_throughput_come_from_the_timed_calls(run_copy, monkeypatch):
    outputs, seconds = [], iter([np.arange(1, 102) / 1000, np.array([0.25, 0.25, 0.5, 1.0])])

    def time_calls(call):
        outputs.append(call())
        return next(seconds)

    monkeypatch.setattr(serving_cost, "time_calls", time_calls)
    cost = serving_cost.measure_serving_cost(load_run(run_copy))
    assert cost.latency_ms["1"].p50 == pytest.approx(51.0)
    assert cost.latency_ms["1"].p95 == pytest.approx(96.0)
    assert cost.latency_ms["128"].p50 == pytest.approx(375.0)
    assert cost.images_per_second == pytest.approx(4 * 128 / 2.0)
    assert [probabilities.shape for probabilities in outputs] == [(1, 10), (128, 10)]
    for probabilities in outputs:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_network_computes_in_the_precision_of_the_training(
    run_copy, monkeypatch, float32_policy
):
    folder = RunFolder(run_copy)
    folder.write(dataclasses.replace(folder.read(Environment), precision="mixed_bfloat16"))
    monkeypatch.setattr(serving_cost, "time_calls", lambda call: np.ones(1))
    assert serving_cost.measure_serving_cost(load_run(run_copy)).precision == "mixed_bfloat16"


def test_a_deterministic_run_is_not_measured_deterministically(run_copy, monkeypatch):
    folder = RunFolder(run_copy)
    recipe = read_recipe(str(folder.recipe_path), ["runtime.deterministic=true"])
    folder.write_recipe(recipe_toml(recipe))
    seen = []

    def configure_for_run(folder, recipe):
        seen.append(recipe.runtime.deterministic)
        return dataclasses.replace(RUNTIME, deterministic=False)

    monkeypatch.setattr(load, "configure_for_run", configure_for_run)
    monkeypatch.setattr(serving_cost, "time_calls", lambda call: np.ones(1))
    serving_cost.measure_serving_cost(load_run(run_copy))
    assert seen == [False]


@pytest.mark.parametrize(("seconds_a_call", "calls"), [(1.0, 50), (1 / 64, 3 * 64)])
def test_enough_calls_are_timed_after_the_warm_up(seconds_a_call, calls, monkeypatch):
    now, made = 0.0, 0

    def call():
        nonlocal now, made
        made += 1
        now += 1000.0 if made <= serving_cost.WARM_UP_CALLS else seconds_a_call

    monkeypatch.setattr(serving_cost, "perf_counter", lambda: now)
    np.testing.assert_array_equal(serving_cost.time_calls(call), np.full(calls, seconds_a_call))


def test_peak_memory_does_not_include_the_parent_process():
    ours = np.ones(400_000_000, np.uint8)
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True)
    assert 0 < int(result.stdout) < ours.nbytes


def test_the_measuring_process_reports_a_wrong_request_in_one_line(tmp_path):
    command = [sys.executable, *serving_cost.MEASURE, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{tmp_path}: not a run folder" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("import sys; print('model.keras: damaged', file=sys.stderr); sys.exit(2)", 2, "damaged"),
        ("raise MemoryError('far too large')", 1, "cannot be measured: MemoryError: far too"),
        ("import os; os.kill(os.getpid(), 9)", 1, "SIGKILL ended the process"),
    ],
)
def test_a_failed_process_is_one_line(program, status, message, run_copy, monkeypatch, capsys):
    monkeypatch.setattr(serving_cost, "MEASURE", ["-c", program])
    assert main(["benchmark", str(run_copy)]) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert RunFolder(run_copy).read_if_there(ServingCost) is None


def test_runs_and_recipes_in_one_command(run_copy, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(run_copy, tmp_path / "run2")
    cost = ServingCost(
        latency_ms={"1": Latency(p50=1.0, p95=2.0), "128": Latency(p50=30.0, p95=40.0)},
        images_per_second=4266.7,
        memory_of="process",
        peak_memory_bytes=900_000_000,
        memory_before_bytes=700_000_000,
        model_bytes=108_713,
        device="a laptop",
        precision="float32",
    )
    monkeypatch.setattr(serving_cost, "_measure_and_record", lambda folder: cost)
    monkeypatch.setattr(runtime_cost, "measure_runtimes", lambda paths, names: {})
    monkeypatch.setattr(
        training_speed, "measure_isolated", lambda kind, arguments, name: speed_of(name)
    )
    assert main(["benchmark", str(run_copy), "digits-vit", str(other), "digits-cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(str(run_copy))]
    assert len(rows) == 2
    for text in ("1.00, 2.00", "30.00, 40.00", "4,267", "900.0 MB, 700.0 MB", "108.7 kB"):
        assert text in rows[0]
    assert any(line.split() == ["recipe", "digits-vit", "digits-cnn"] for line in lines)
    for row in (
        "utilization 50.0% 50.0%",
        "step, ms 40 40",  # 64 images at 1,600 images/s
        "step with a minimal network, ms 1 1",
        "matrix product, GFLOP/s 100.0 100.0",
    ):
        assert row in (" ".join(line.split()) for line in lines)


def test_a_step_costs_three_forward_passes():
    assert training_flops(flops_per_image=10**6, images=500.0) == 1.5e9


def test_the_fastest_call_gives_the_maximum_flops(monkeypatch):
    now, seconds = 0.0, iter([1000.0, 8.0, 4.0, 5.0, *100 * [6.0]])  # the first call is the warm-up

    def multiply():
        nonlocal now
        now += next(seconds)

    monkeypatch.setattr(matrix_products.time, "perf_counter", lambda: now)
    # Each entry of the product of two 10x10 matrices takes ten multiplications and ten additions.
    assert matrix_products.product_flops(10, 3, multiply) == 3 * 100 * 20 / 4.0


@pytest.mark.slow
def test_every_field_of_a_training_speed_is_measured(monkeypatch):
    monkeypatch.setattr(training_speed, "ROUNDS", 1)
    monkeypatch.setattr(training_speed, "ROUND_SECONDS", 0.1)
    monkeypatch.setattr(training_speed, "INPUT_BYTES", 1)
    monkeypatch.setattr(matrix_products, "PRODUCT_SIZE", {"gpu": 64, "cpu": 64})
    networks, averages, make_trainer = [], [], fit.make_trainer

    def recording(network, recipe, runtime, steps_per_epoch, average, resident):
        networks.append(network)
        averages.append(average)
        return make_trainer(network, recipe, runtime, steps_per_epoch, average, resident)

    monkeypatch.setattr(fit, "make_trainer", recording)
    options = ["runtime.steps_per_execution=3", "training.ema_decay=0.9"]
    recipe = read_recipe("digits-cnn", options)
    speed = training_speed.measure_training_speed(recipe)
    forward = 2 * 64 * (9 * 32 + 9 * 32 * 32 + 9 * 32 * 32)  # the stem and the first block
    forward += 2 * 16 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) + 2 * 64 * 10
    assert speed.flops_per_second == pytest.approx(3 * forward * speed.images_per_second)
    assert speed.utilization == speed.flops_per_second / speed.max_flops_per_second
    assert speed.real_to_constant == speed.images_per_second / speed.constant_images_per_second
    assert speed.peak_memory_bytes >= speed.memory_before_bytes > 0
    network, minimal = networks
    counts = [average and average.count_params() for average in averages]
    assert counts == [network.count_params(), None]
    assert minimal.input_shape == network.input_shape
    assert minimal.output_shape == network.output_shape
    assert flops_per_image(minimal) < flops_per_image(network) / 1000
    assert speed.minimal_images_per_second > 0
    assert speed.input_images_per_second > 0 and speed.compile_seconds > 0
    assert speed.recipe == "digits-cnn" and speed.batch_size == 64


@pytest.mark.slow
def test_a_recipe_is_passed_to_its_process_unchanged(monkeypatch, capsys):
    program = """
import sys
from cifar_models.benchmark.isolated_process import print_record
from cifar_models.config.recipe_file import read_recipe
from tests.benchmark.test_benchmark import speed_of
recipe = read_recipe(sys.argv[1])
name = f"{recipe.name} {recipe.data.dataset} {recipe.training.batch_size}"
sys.exit(print_record(lambda: speed_of(name)))
"""
    monkeypatch.setattr(training_speed, "MEASURE", ["-c", program])
    recipe = read_recipe("digits-vit", ["data.dataset=folder:/x", "training.batch_size=7"])
    expected = [speed_of("digits-vit folder:/x 7")]
    assert training_speed.measure_training_speeds([recipe]) == expected


def test_missing_data_is_reported_in_one_line(tmp_path, capsys):
    missing = tmp_path / "none"
    error = refusal(capsys, "benchmark", "digits-cnn", "--dataset", f"folder:{missing}")
    assert str(missing) in error


@pytest.mark.parametrize("wrong", ["a folder", "a name"])
def test_a_wrong_request_is_refused_before_anything_is_measured(
    wrong, run_copy, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(serving_cost, "_measure_and_record", lambda folder: pytest.fail("measured"))
    (tmp_path / "empty").mkdir()
    subject = str(tmp_path / "empty") if wrong == "a folder" else "digits-cmn"
    error = refusal(capsys, "benchmark", run_copy, subject)
    assert ("not a run folder" if wrong == "a folder" else "digits-cnn") in error


def test_overrides_that_do_not_apply_or_do_not_fit_are_refused(run_copy, capsys):
    message = "is a run folder; --set, --dataset and --data-dir apply to recipes only"
    for option in (["--set", "training.batch_size=7"], ["--dataset", "digits"]):
        assert message in refusal(capsys, "benchmark", run_copy, *option)
    error = refusal(capsys, "benchmark", "cnn-strong", "--dataset", "digits")
    assert "augmentation.cutout_size = 12 must be below 8" in error
