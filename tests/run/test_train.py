"""The files of a run, the saved weights, and the test split, which a trial never predicts."""

import dataclasses
import json
import tomllib
from datetime import datetime
from pathlib import Path
from time import perf_counter

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_models.cli import commands as cli
from cifar_models.cli.main import main
from cifar_models.config.recipe import DataConfig
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
from cifar_models.data.splits import ArraySplit
from cifar_models.run import record
from cifar_models.run import train as run_module
from cifar_models.runtime.process_clock import PROCESS_START
from cifar_models.storage.records import DatasetInfo
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog
from tests.conftest import (
    TIMINGS,
    TINY_CNN,
    Killed,
    as_overrides,
    read_history,
    read_metrics,
    refusal,
    write_noise_images,
)

PROMISED_METRICS = {
    "accuracy",
    "loss",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "roc_auc_macro",
    "expected_calibration_error",
    "per_class",
    "parameters",
    "flops_per_image",
    "train_seconds",
    "compile_seconds",
    "images_per_second",
    "epochs",
    "seed",
    "dataset",
    "device",
    "initialisation_seconds",
    "prediction_seconds",
    "process_seconds",
}


def test_the_run_folder_is_complete(finished_run):
    for name in (
        "recipe.toml",
        "environment.json",
        "dataset.json",
        "hashes.npz",
        "history.csv",
        "metrics.json",
        "predictions.npz",
        "model.keras",
        "tensorboard",
        "log.txt",
    ):
        assert (finished_run / name).exists(), name
    metrics = read_metrics(finished_run)
    assert set(metrics) >= PROMISED_METRICS
    parts = ("initialisation_seconds", "train_seconds", "prediction_seconds")
    assert all(metrics[part] > 0 for part in parts)
    assert sum(metrics[part] for part in parts) < metrics["process_seconds"]
    assert metrics["process_seconds"] < perf_counter() - PROCESS_START
    assert not list(finished_run.rglob(".partial*"))


def test_the_history_has_one_row_per_epoch(finished_run):
    rows = read_history(finished_run)
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert [int(row["step"]) for row in rows] == [20, 40]  # 1,293 images in batches of 64
    assert all(0 <= float(row["validation_accuracy"]) <= 1 for row in rows)


def test_the_environment_names_versions_and_device(finished_run):
    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["packages"]["keras"] == keras.__version__
    assert environment["command"].startswith("python -m cifar_models")
    assert environment["device"]


def test_the_saved_model_gives_the_recorded_predictions(finished_run):
    network = keras.models.load_model(finished_run / "model.keras")
    images = load_dataset(read_recipe("digits-cnn")).test.images
    probabilities = keras.ops.softmax(network.predict(images, verbose=0))
    with np.load(finished_run / "predictions.npz") as file:
        np.testing.assert_allclose(probabilities, file["probabilities"], atol=1e-6)


def test_evaluate_repeats_the_recorded_metrics(finished_run, capsys):
    assert main(["evaluate", str(finished_run)]) == 0
    accuracy = read_metrics(finished_run)["accuracy"]
    assert f"{accuracy:.6f}" in capsys.readouterr().out


def test_evaluate_refuses_data_of_other_classes(finished_run, tmp_path, capsys):
    folder = write_noise_images(tmp_path, ("cat", "dog"), 5)
    error = refusal(capsys, "evaluate", finished_run, "--dataset", f"folder:{folder}")
    assert "class cat, dog is not one of the trained classes, 0, 1, 2" in error


def test_the_figures_are_drawn(finished_run):
    for name in ("curves", "confusion_matrix", "first_layer", "sample_predictions"):
        with Image.open(finished_run / "plots" / f"{name}.png") as image:
            assert min(image.size) > 150
            below_the_title = np.asarray(image.convert("L"))[image.height // 5 :]
            assert (below_the_title < 200).mean() > 0.01
            assert len(np.unique(below_the_title)) > 20


def read_events(path: Path) -> EventAccumulator:
    return EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()


def test_tensorboard_events_have_the_global_step(finished_run):
    for split in ("train", "validation"):
        log = read_events(finished_run / "tensorboard" / split)
        for tag in ("loss", "accuracy"):
            assert [event.step for event in log.Tensors(tag)] == [20, 40]
    log = read_events(finished_run / "tensorboard" / "train")
    assert {"learning_rate", "images_per_second"} <= set(log.Tags()["tensors"])
    log = read_events(finished_run / "tensorboard")
    assert {"augmented", "confusion_matrix", "first_layer", "final/test_accuracy"} <= set(
        log.Tags()["tensors"]
    )
    assert "_hparams_/session_start_info" in log.summary_metadata


@pytest.mark.slow
def test_the_resolved_recipe_runs_again_to_the_same_bytes(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    for arguments in (
        [*TINY_CNN, "--deterministic", "--run", str(first)],
        ["train", str(first / "recipe.toml"), "--run", str(again)],
    ):
        assert main(arguments) == 0
    assert tomllib.loads((first / "recipe.toml").read_text())["runtime"]["deterministic"] is True
    assert (first / "recipe.toml").read_bytes() == (again / "recipe.toml").read_bytes()
    for name in ("labels", "probabilities"):
        with (
            np.load(first / "predictions.npz") as one,
            np.load(again / "predictions.npz") as other,
        ):
            np.testing.assert_array_equal(one[name], other[name])
    one, other = read_metrics(first), read_metrics(again)
    assert {k: one[k] for k in one.keys() - set(TIMINGS)} == {
        k: other[k] for k in other.keys() - set(TIMINGS)
    }
    weights = [keras.models.load_model(run / "model.keras").get_weights() for run in (first, again)]
    for left, right in zip(*weights, strict=True):
        np.testing.assert_array_equal(left, right)


class UnreadableImages(np.ndarray):
    """Images that can be hashed; any other use of their pixels fails the test."""

    def __array__(self, *arguments, **options):
        raise AssertionError("the test split was predicted")

    def __getitem__(self, item):
        raise AssertionError("the test split was predicted")


def test_a_trial_of_a_search_never_predicts_the_test_split(monkeypatch, tmp_path):
    digits = load_dataset(read_recipe("digits-cnn"))
    test = ArraySplit(digits.test.images.view(UnreadableImages), digits.test.labels)
    dataset = dataclasses.replace(digits, test=test)
    monkeypatch.setattr(run_module, "load_dataset", lambda recipe: dataset)
    info = DatasetInfo(
        name="digits",
        image_shape=(8, 8, 1),
        class_names=list(digits.class_names),
        train_images=1,
        validation_images=1,
        test_images=1,
        sha256="",
    )
    monkeypatch.setattr(run_module, "describe", lambda *arguments: info)
    recipe = read_recipe("digits-cnn", ["training.epochs=1", "model.stage_filters=[4, 4]"])
    metrics = run_module.train(recipe, tmp_path / "trial", evaluation_split="validation")
    assert metrics.split == "validation"
    with pytest.raises(AssertionError, match="the test split was predicted"):
        run_module.train(recipe, tmp_path / "run", evaluation_split="test")


@pytest.mark.slow
def test_the_weights_of_the_best_epoch_are_saved(tmp_path):
    """The accuracy falls later, because the learning rate becomes too high."""
    arguments = as_overrides(
        [
            *TINY_CNN,
            "training.epochs=6",
            "training.keep=best",
            "training.peak_learning_rate=3.0",
            "training.warmup_fraction=0.9",
        ]
    )
    assert main([*arguments, "--run", str(tmp_path / "run")]) == 0
    metrics = read_metrics(tmp_path / "run")
    accuracies = [float(row["validation_accuracy"]) for row in read_history(tmp_path / "run")]
    assert metrics["best_epoch"] == 1 + int(np.argmax(accuracies))
    network = keras.models.load_model(tmp_path / "run" / "model.keras")
    dataset = load_dataset(read_recipe("digits-cnn"))
    splits = dataset.splits(DataConfig(validation_fraction=0.1), seed=0)
    predicted = network.predict(splits.validation.images, verbose=0).argmax(axis=1)
    assert (predicted == splits.validation.labels).mean() == pytest.approx(
        max(accuracies), abs=1e-6
    )


@pytest.mark.slow
def test_training_stops_early_without_improvement(tmp_path):
    arguments = as_overrides(
        [
            *TINY_CNN,
            "training.epochs=12",
            "training.early_stopping_epochs=2",
            "training.peak_learning_rate=1e-9",
        ]
    )
    assert main([*arguments, "--run", str(tmp_path / "run")]) == 0
    metrics = read_metrics(tmp_path / "run")
    assert metrics["epochs"] < 12
    assert metrics["epochs"] == metrics["best_epoch"] + 2


def test_a_diverging_run_fails_and_names_the_step(tmp_path, capsys):
    arguments = [*TINY_CNN, "--set", "training.peak_learning_rate=1e30"]
    assert main([*arguments, "--run", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "at step" in error and "lower training.peak_learning_rate" in error
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert "Divergence" in (tmp_path / "run" / "log.txt").read_text()


def test_mimetic_initialization_is_applied_before_training(tmp_path, without_figures):
    arguments = as_overrides(
        [
            "train",
            "digits-vit",
            "model.mimetic_init=true",
            "model.num_layers=1",
            "data.train_fraction=0.1",
            "training.epochs=1",
            "training.peak_learning_rate=1e-9",
        ]
    )
    assert main([*arguments, "--run", str(tmp_path / "run")]) == 0
    network = keras.models.load_model(tmp_path / "run" / "model.keras")
    attention = network.get_layer("encoder1").attention
    value, output = attention.value_dense.kernel, attention.output_dense.kernel
    product = np.einsum("dhk,hke->de", value, output)
    assert np.diag(product).mean() == pytest.approx(-0.4, abs=0.03)


def test_dollar_signs_in_class_names_do_not_break_the_figures(tmp_path):
    """Matplotlib would read the text between two dollar signs as a formula."""
    names = ("from_$10_to_$20", "from_$20_to_$50")
    folder = write_noise_images(tmp_path / "images", names, 20)
    run = tmp_path / "run"
    arguments = [*TINY_CNN, "--dataset", f"folder:{folder}"]
    assert main([*arguments, "--set", "training.batch_size=8", "--run", str(run)]) == 0
    assert set(read_metrics(run)["per_class"]) == set(names)
    assert len(list((run / "plots").glob("*.png"))) == 4
    assert "skipped" not in (run / "log.txt").read_text()


def test_an_error_in_a_figure_costs_no_metrics(tmp_path, monkeypatch):
    def fail(network):
        raise ValueError("this network has no first layer")

    monkeypatch.setattr("cifar_models.evaluation.figures.first_layer_kernels", fail)
    run = tmp_path / "run"
    assert main([*TINY_CNN, "--run", str(run)]) == 0
    assert read_metrics(run)["epochs"] == 2
    assert "figure first_layer: skipped: ValueError: this network" in (run / "log.txt").read_text()
    assert {path.stem for path in (run / "plots").glob("*.png")} == {
        "confusion_matrix",
        "curves",
        "sample_predictions",
    }


@pytest.mark.parametrize(
    "name", ["write_fingerprints", pytest.param("write_recipe", marks=pytest.mark.slow)]
)
def test_a_run_that_was_killed_before_training_begins_again(
    name, tmp_path, monkeypatch, without_figures
):
    def die(*arguments):
        raise Killed

    command = [*TINY_CNN, "--set", "training.epochs=1", "--run", str(tmp_path / "run")]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, name, die)
        main(command)
    assert (tmp_path / "run").is_dir() and not (tmp_path / "run" / "fingerprints.json").exists()
    assert main(command) == 0


def test_a_folder_with_a_recipe_of_the_user_is_refused(tmp_path, capsys):
    (tmp_path / "recipe.toml").touch()
    assert f"{tmp_path}: holds another run" in refusal(capsys, *TINY_CNN, "--run", tmp_path)


def test_nothing_after_the_metrics_can_fail_a_run(tmp_path, monkeypatch):
    def fail(*arguments):
        raise ImportError("no font is installed")

    monkeypatch.setattr(record, "draw_figures", fail)
    monkeypatch.setattr(record, "record_in_tensorboard", fail)
    run = tmp_path / "run"
    assert main([*TINY_CNN, "--set", "training.epochs=1", "--run", str(run)]) == 0
    assert RunFolder(run).is_finished()
    assert "figures: skipped: ImportError: no font is installed" in (run / "log.txt").read_text()


def test_events_that_cannot_be_closed_are_logged(tmp_path, caplog):
    class Writer:
        def close(self) -> None:
            raise OSError("No space left on device")

    log = TensorBoardLog(tmp_path)
    log._writers = {"train": Writer(), "validation": Writer()}
    log.close()
    for split in ("train", "validation"):
        assert f"{tmp_path / split}: cannot be closed: No space left on device" in caplog.text


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    class Noon(datetime):
        @classmethod
        def now(cls):
            return cls(2024, 1, 1, 12)

    monkeypatch.setattr(cli, "datetime", Noon)
    monkeypatch.setattr(
        run_module, "train", lambda recipe, path, **options: (path / "log.txt").touch()
    )
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert main(["train", "digits-cnn"]) == 0
    paths = sorted(path.name for path in (tmp_path / "runs").iterdir())
    first = "20240101-120000-digits-cnn-digits-seed0"
    assert paths == [first, f"{first}-2", f"{first}-3"]


def test_a_wrong_request_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refusal(capsys, "train", "digits-cnn", "--dataset", f"folder:{tmp_path / 'nothing'}")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").mkdir()  # the user's own
    refusal(capsys, "train", "digits-cnn", "--dataset", f"folder:{tmp_path / 'nothing'}")
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


@pytest.mark.slow
def test_what_is_said_about_the_data_is_in_the_log(tmp_path):
    images = write_noise_images(tmp_path / "images", ("cat", "dog"), 20)
    (images / "cat" / "bad.png").write_bytes(b"")
    options = ["--dataset", f"folder:{images}", "--set", "data.bad_files=skip"]
    run = tmp_path / "run"
    assert main([*TINY_CNN, *options, "--set", "training.epochs=1", "--run", str(run)]) == 0
    log = (run / "log.txt").read_text()
    for line in ("1 unusable image files are left out", "40 images of 2 classes", "batches of"):
        assert log.count(line) == 1, line
