"""Every figure that a run reports, against numpy, and against a process that knows only the folder.

The batches are made small and uneven here, so that a wrong weight of the last one would show.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.stats import rankdata

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
from cifar_models.data.pipeline import epoch_order
from cifar_models.data.splits import ArraySplit
from cifar_models.errors import RunError
from cifar_models.evaluation import predictions
from cifar_models.run.load import load_run
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN, as_overrides

BEST = [*TINY_CNN, "training.epochs=4", "training.keep=best", "training.peak_learning_rate=0.4"]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def metrics_by_hand(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """The definitions, written out: labels (N,), logits (N, K)."""
    log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, auc = [], [], [], []
    for k in range(logits.shape[1]):
        is_k, said_k = labels == k, predicted == k
        hits = (is_k & said_k).sum()
        precision.append(hits / max(said_k.sum(), 1))
        recall.append(hits / is_k.sum())
        f1.append(2 * hits / (is_k.sum() + said_k.sum()))
        ranks = rankdata(probabilities[:, k])  # Mann and Whitney's U
        below = ranks[is_k].sum() - is_k.sum() * (is_k.sum() + 1) / 2
        auc.append(below / (is_k.sum() * (~is_k).sum()))
    confidence, error = probabilities.max(axis=1), 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            gap = (predicted == labels)[inside].mean() - confidence[inside].mean()
            error += inside.mean() * abs(gap)
    return {
        "accuracy": (predicted == labels).mean(),
        "loss": -log_probabilities[np.arange(len(labels)), labels].mean(),
        "precision_macro": np.mean(precision),
        "recall_macro": np.mean(recall),
        "f1_macro": np.mean(f1),
        "roc_auc_macro": np.mean(auc),
        "expected_calibration_error": error,
    }


def one_batch(network: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(network(images, training=False))


def history_of(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def noise_images(root: Path) -> str:
    """A folder of grey noise, brighter by class: three classes of 57 images of 9x7 pixels."""
    rng = np.random.default_rng(0)
    for brightness, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir(parents=True)
        for number in range(57):
            pixels = rng.integers(60 * brightness, 60 * brightness + 130, (9, 7, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return f"folder:{root}"


@pytest.mark.parametrize("pipeline", ["digits", "folder"])
def test_what_a_run_measures_is_what_numpy_measures(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 50)
    dataset = "digits" if pipeline == "digits" else noise_images(tmp_path / "images")
    arguments = as_overrides([*BEST, "training.batch_size=31"])
    run = tmp_path / "run"
    assert main([*arguments, "--dataset", dataset, "--run", str(run)]) == 0
    recipe = read_recipe(str(run / "recipe.toml"))
    splits = load_dataset(recipe.data).splits(recipe.data, recipe.runtime.seed)
    assert len(splits.test.labels) % 50 and len(splits.validation.labels) % 50
    network = keras.models.load_model(run / "model.keras")

    recorded = json.loads((run / "metrics.json").read_text())
    expected = metrics_by_hand(splits.test.labels, one_batch(network, splits.test.images))
    for name, value in expected.items():
        assert recorded[name] == pytest.approx(value, rel=1e-6, abs=1e-7), name

    best = history_of(run)[recorded["best_epoch"] - 1]
    expected = metrics_by_hand(
        splits.validation.labels, one_batch(network, splits.validation.images)
    )
    assert best["validation_accuracy"] == pytest.approx(expected["accuracy"], rel=1e-6)
    assert best["validation_loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_what_training_reports_is_what_numpy_measures(tmp_path):
    """With a rate of next to nothing the weights stay, and an epoch's means can be made again."""
    arguments = as_overrides(
        [
            *("train", "digits-vit", "training.epochs=2", "training.keep=last"),
            *("model.hidden_dim=16", "model.num_layers=1", "model.num_heads=2"),
            *("training.peak_learning_rate=1e-20", "training.weight_decay=0.0"),
            *("augmentation.crop_padding=0", "training.batch_size=100"),
        ]
    )
    run = tmp_path / "run"
    assert main([*arguments, "--run", str(run)]) == 0
    recipe = read_recipe(str(run / "recipe.toml"))
    splits = load_dataset(recipe.data).splits(recipe.data, recipe.runtime.seed)
    network = keras.models.load_model(run / "model.keras")
    for epoch, row in enumerate(history_of(run)):
        order = epoch_order(np.int64(epoch), len(splits.train.labels), seed=0).numpy()
        used = splits.train.subset(order[: len(order) // 100 * 100])
        log_probabilities = log_softmax(one_batch(network, used.images))
        smooth = 0.9 * np.eye(10)[used.labels] + 0.01  # the recipe's label_smoothing is 0.1
        loss = -(smooth * log_probabilities).sum(axis=1).mean()
        accuracy = (log_probabilities.argmax(axis=1) == used.labels).mean()
        assert row["step"] == (epoch + 1) * (len(order) // 100)
        assert row["train_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["train_accuracy"] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.parametrize("images", [1, 49, 50, 51, 100, 101, 149])
def test_a_prediction_for_every_image_in_order(images, monkeypatch):
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 50)
    inputs = keras.Input((2, 2, 1), dtype="uint8")
    pixel = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs))[:, :2]
    split = ArraySplit(
        np.random.default_rng(images).integers(0, 5, (images, 2, 2, 1), np.uint8),
        np.zeros(images, np.int64),
    )
    answers = predictions.predict_split(keras.Model(inputs, pixel), split, ("a", "b"))
    expected = np.exp(log_softmax(split.images.reshape(images, 4)[:, :2]))
    np.testing.assert_allclose(answers.probabilities, expected, rtol=1e-6)


class CountsTraces(keras.layers.Layer):
    """Passes on what it gets; Python runs it when a function is traced, not when one is called."""

    traces = 0

    def call(self, inputs):
        self.traces += 1
        return inputs


def test_every_prediction_of_a_network_is_one_shape(monkeypatch):
    """Under XLA each shape is compiled for itself."""
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 50)
    counter = CountsTraces()
    inputs = keras.Input((2, 2, 1), dtype="uint8")
    x = counter(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs)))
    network = keras.Model(inputs, x)
    counter.traces = 0
    for images in (149, 50, 51, 149):
        split = ArraySplit(np.zeros((images, 2, 2, 1), np.uint8), np.zeros(images, np.int64))
        predictions.compile_predictions(network, split)
        assert counter.traces == 1  # so the time of what follows has no tracing in it
        answers = predictions.predict_split(network, split, ("a", "b", "c", "d"))
        assert answers.probabilities.shape == (images, 4)
    assert counter.traces == 1


@pytest.mark.parametrize("xla", ["on", "off"])
def test_predictions_are_compiled_as_the_runtime_says(xla, finished_run, tmp_path, monkeypatch):
    """Else --no-xla would spare the training alone where XLA does not work."""
    tf.config.experimental.enable_op_determinism()  # an earlier run's; Keras refuses XLA with it
    run = shutil.copytree(finished_run, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace('xla = "auto"', f'xla = "{xla}"'))
    assert load_run(run).network.jit_compile == (xla == "on")

    compiled = []

    def predict_split(network, *arguments):
        compiled.append(network.jit_compile)
        raise RunError("seen enough")

    monkeypatch.setattr("cifar_models.run.prepare.predict_split", predict_split)
    arguments = [*TINY_CNN, "--set", f"runtime.xla={xla}", "--run", str(tmp_path / "new")]
    assert main(arguments) == 1 and compiled == [xla == "on"]


FRESH = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from cifar_models.run.evaluate import evaluate
measured = {run: {split: asdict(evaluate(Path(run), split=split).metrics)
                  for split in ("validation", "test")} for run in sys.argv[1:]}
print(json.dumps(measured))
"""
SLOW = [
    pytest.param(option, marks=pytest.mark.slow)
    for option in (
        "runtime.precision=mixed_float16",
        "runtime.precision=mixed_bfloat16",
        "runtime.xla=on",
    )
]


@pytest.mark.parametrize("option", ["runtime.precision=float32", *SLOW])
def test_best_is_best_to_the_last_bit(option, tmp_path, float32_policy):
    """A fresh process that loads the folder's model finds exactly the figures that were logged."""
    runs = []
    for ema_decay in (0.0, 0.8):
        runs.append(tmp_path / f"ema-{ema_decay}")
        options = [option, f"training.ema_decay={ema_decay}"]
        assert main([*as_overrides([*BEST, *options]), "--run", str(runs[-1])]) == 0
    result = subprocess.run(
        [sys.executable, "-c", FRESH, *map(str, runs)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    fresh = json.loads(result.stdout.splitlines()[-1])
    for run in runs:
        recorded = json.loads((run / "metrics.json").read_text())
        history = RunFolder(run).read_history()
        for name in ("accuracy", "loss", "f1_macro", "roc_auc_macro", "per_class"):
            assert fresh[str(run)]["test"][name] == recorded[name]
        accuracies = [row["validation_accuracy"] for row in history]
        assert recorded["best_epoch"] == 1 + int(np.argmax(accuracies))
        best = history[recorded["best_epoch"] - 1]
        assert fresh[str(run)]["validation"]["accuracy"] == max(accuracies)
        assert fresh[str(run)]["validation"]["loss"] == best["validation_loss"]
