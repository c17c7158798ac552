"""The metrics that a run reports equal NumPy's, and those of a new process that loads the run.

Batches are small and the last one is incomplete, so that a wrong weight of it would be noticed.
"""

import json
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
from tests.conftest import TINY_CNN, as_overrides, read_history, read_metrics

BEST = [*TINY_CNN, "training.epochs=4", "training.keep=best", "training.peak_learning_rate=0.4"]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities, float64, from logits (N, K)."""
    logits = logits.astype(np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def numpy_metrics(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return the metrics of labels (N,) and logits (N, K) by their definitions."""
    log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, auc = [], [], [], []
    for k in range(logits.shape[1]):
        is_k, is_predicted_k = labels == k, predicted == k
        hits = (is_k & is_predicted_k).sum()
        precision.append(hits / max(is_predicted_k.sum(), 1))
        recall.append(hits / is_k.sum())
        f1.append(2 * hits / (is_k.sum() + is_predicted_k.sum()))
        ranks = rankdata(probabilities[:, k])  # the area is the Mann-Whitney U, normalized
        u = ranks[is_k].sum() - is_k.sum() * (is_k.sum() + 1) / 2
        auc.append(u / (is_k.sum() * (~is_k).sum()))
    confidence, error = probabilities.max(axis=1), 0.0
    for number in range(15):
        in_bin = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if in_bin.any():
            gap = (predicted == labels)[in_bin].mean() - confidence[in_bin].mean()
            error += in_bin.mean() * abs(gap)
    return {
        "accuracy": (predicted == labels).mean(),
        "loss": -log_probabilities[np.arange(len(labels)), labels].mean(),
        "precision_macro": np.mean(precision),
        "recall_macro": np.mean(recall),
        "f1_macro": np.mean(f1),
        "roc_auc_macro": np.mean(auc),
        "expected_calibration_error": error,
    }


def logits_of(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the logits of all images, computed in one batch."""
    return np.asarray(network(images, training=False))


def history_of(run: Path) -> list[dict[str, float]]:
    """Return the rows of history.csv as numbers."""
    return [{key: float(value) for key, value in row.items()} for row in read_history(run)]


def write_images_by_brightness(root: Path) -> str:
    """Write three classes of noise that differ in brightness, 57 images of 9x7 pixels each.

    Returns:
        The name of the data set, `folder:PATH`.
    """
    rng = np.random.default_rng(0)
    for brightness, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir(parents=True)
        for number in range(57):
            pixels = rng.integers(60 * brightness, 60 * brightness + 130, (9, 7, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return f"folder:{root}"


@pytest.mark.parametrize("pipeline", ["digits", pytest.param("folder", marks=pytest.mark.slow)])
def test_metrics_after_training_equal_those_of_numpy(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 50)
    dataset = "digits" if pipeline == "digits" else write_images_by_brightness(tmp_path / "images")
    arguments = as_overrides([*BEST, "training.batch_size=31"])
    run = tmp_path / "run"
    assert main([*arguments, "--dataset", dataset, "--run", str(run)]) == 0
    recipe = read_recipe(str(run / "recipe.toml"))
    splits = load_dataset(recipe).splits(recipe.data, recipe.runtime.seed)
    assert len(splits.test.labels) % 50 and len(splits.validation.labels) % 50
    network = keras.models.load_model(run / "model.keras")

    recorded = read_metrics(run)
    expected = numpy_metrics(splits.test.labels, logits_of(network, splits.test.images))
    for name, value in expected.items():
        assert recorded[name] == pytest.approx(value, rel=1e-6, abs=1e-7), name

    best = history_of(run)[recorded["best_epoch"] - 1]
    expected = numpy_metrics(splits.validation.labels, logits_of(network, splits.validation.images))
    assert best["validation_accuracy"] == pytest.approx(expected["accuracy"], rel=1e-6)
    assert best["validation_loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_metrics_during_training_equal_those_of_numpy(tmp_path):
    """The learning rate is so small that the weights stay the same during an epoch."""
    arguments = as_overrides(
        [
            "train",
            "digits-vit",
            "training.epochs=2",
            "training.keep=last",
            "model.hidden_dim=16",
            "model.num_layers=1",
            "model.num_heads=2",
            "training.peak_learning_rate=1e-20",
            "training.weight_decay=0.0",
            "augmentation.crop_padding=0",
            "training.batch_size=100",
        ]
    )
    run = tmp_path / "run"
    assert main([*arguments, "--run", str(run)]) == 0
    recipe = read_recipe(str(run / "recipe.toml"))
    splits = load_dataset(recipe).splits(recipe.data, recipe.runtime.seed)
    network = keras.models.load_model(run / "model.keras")
    for epoch, row in enumerate(history_of(run)):
        order = epoch_order(np.int64(epoch), len(splits.train.labels), seed=0).numpy()
        used = splits.train.subset(order[: len(order) // 100 * 100])
        log_probabilities = log_softmax(logits_of(network, used.images))
        smooth = 0.9 * np.eye(10)[used.labels] + 0.01  # the recipe's label_smoothing is 0.1
        loss = -(smooth * log_probabilities).sum(axis=1).mean()
        accuracy = (log_probabilities.argmax(axis=1) == used.labels).mean()
        assert row["step"] == (epoch + 1) * (len(order) // 100)
        assert row["train_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["train_accuracy"] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.parametrize("images", [1, 49, 50, 51, 100, 101, 149])
def test_every_image_is_predicted_in_order(images, monkeypatch):
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 50)
    inputs = keras.Input((2, 2, 1), dtype="uint8")
    pixel = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs))[:, :2]
    split = ArraySplit(
        np.random.default_rng(images).integers(0, 5, (images, 2, 2, 1), np.uint8),
        np.zeros(images, np.int64),
    )
    predicted = predictions.predict_split(keras.Model(inputs, pixel), split, ("a", "b"))
    expected = np.exp(log_softmax(split.images.reshape(images, 4)[:, :2]))
    np.testing.assert_allclose(predicted.probabilities, expected, rtol=1e-6)


class CountsTraces(keras.layers.Layer):
    """Identity that counts traces: Python code runs when a function is traced, not when called."""

    traces = 0

    def call(self, inputs):
        self.traces += 1
        return inputs


def test_all_predictions_of_a_network_have_one_batch_shape(monkeypatch):
    """XLA compiles every shape separately."""
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 50)
    counter = CountsTraces()
    inputs = keras.Input((2, 2, 1), dtype="uint8")
    x = counter(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs)))
    network = keras.Model(inputs, x)
    counter.traces = 0
    for images in (149, 50, 51, 149):
        split = ArraySplit(np.zeros((images, 2, 2, 1), np.uint8), np.zeros(images, np.int64))
        predictions.compile_predictions(network, split)
        assert counter.traces == 1  # so the measured time of predictions contains no tracing
        predicted = predictions.predict_split(network, split, ("a", "b", "c", "d"))
        assert predicted.probabilities.shape == (images, 4)
    assert counter.traces == 1


@pytest.mark.parametrize("xla", ["on", "off"])
@pytest.mark.slow
def test_predictions_are_compiled_as_the_recipe_says(xla, run_copy, tmp_path, monkeypatch):
    """Otherwise --no-xla would not help where XLA does not work."""
    # An earlier deterministic run leaves this on, and Keras refuses XLA with it.
    tf.config.experimental.enable_op_determinism()
    run = run_copy
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace('xla = "auto"', f'xla = "{xla}"'))
    assert load_run(run).network.jit_compile == (xla == "on")

    compiled = []

    def predict_split(network, *arguments):
        compiled.append(network.jit_compile)
        raise RunError("stopped by the test")

    monkeypatch.setattr("cifar_models.run.prepare.predict_split", predict_split)
    arguments = [*TINY_CNN, "--set", f"runtime.xla={xla}", "--run", str(tmp_path / "new")]
    assert main(arguments) == 1 and compiled == [xla == "on"]


EVALUATE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from cifar_models.run.evaluate import evaluate
print(json.dumps({split: asdict(evaluate(Path(sys.argv[1]), split=split).metrics)
                  for split in ("validation", "test")}))
"""
SLOW = [
    pytest.param(option, ema_decay, marks=pytest.mark.slow)
    for option, ema_decay in (
        ("runtime.precision=float32", 0.0),
        ("runtime.precision=mixed_float16", 0.0),
        ("runtime.precision=mixed_float16", 0.8),
        ("runtime.precision=mixed_bfloat16", 0.0),
        ("runtime.precision=mixed_bfloat16", 0.8),
        ("runtime.xla=on", 0.0),
        ("runtime.xla=on", 0.8),
    )
]


@pytest.mark.parametrize(("option", "ema_decay"), [("runtime.precision=float32", 0.8), *SLOW])
def test_a_new_process_measures_the_recorded_metrics_to_the_last_bit(
    option, ema_decay, tmp_path, float32_policy
):
    """The saved weights are those of the epoch with the best validation accuracy."""
    run = tmp_path / "run"
    options = [option, f"training.ema_decay={ema_decay}"]
    assert main([*as_overrides([*BEST, *options]), "--run", str(run)]) == 0
    result = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(run)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout.splitlines()[-1])
    recorded, history = read_metrics(run), RunFolder(run).read_history()
    for name in ("accuracy", "loss", "f1_macro", "roc_auc_macro", "per_class"):
        assert measured["test"][name] == recorded[name]
    accuracies = [row["validation_accuracy"] for row in history]
    assert recorded["best_epoch"] == 1 + int(np.argmax(accuracies))
    best = history[recorded["best_epoch"] - 1]
    assert measured["validation"]["accuracy"] == max(accuracies)
    assert measured["validation"]["loss"] == best["validation_loss"]
