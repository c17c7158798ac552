"""The content of robustness.json equals metrics.json and computations with Keras and by hand."""

import json
import shutil
import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
from cifar_models.evaluation.corruptions.cifar10_c import CORRUPTIONS, corrupt
from cifar_models.evaluation.metrics import entropy, roc_auc_between
from cifar_models.run.robustness import SEED, _noise, _shuffled
from cifar_models.storage.records import Robustness, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import refusal


@pytest.fixture(scope="module")
def measured(finished_run, tmp_path_factory) -> Path:
    """Return a copy of the finished run with its robustness on all 360 test images."""
    run = tmp_path_factory.mktemp("robustness") / "run"
    shutil.copytree(finished_run, run)
    assert main(["evaluate", str(run), "--corruptions"]) == 0
    return run


def test_the_clean_accuracy_is_that_of_the_metrics(measured):
    report = RunFolder(measured).read(Robustness)
    assert report.images == 360
    assert report.clean_accuracy == RunFolder(measured).read(RunMetrics).accuracy


def test_every_corruption_has_five_accuracies_and_their_mean_is_recorded(measured):
    report = RunFolder(measured).read(Robustness)
    assert tuple(report.accuracy) == CORRUPTIONS
    numbers = np.array(list(report.accuracy.values()))
    assert numbers.shape == (15, 5) and (numbers >= 0).all() and (numbers <= 1).all()
    assert report.mean_corrupted_accuracy == pytest.approx(numbers.mean())


@pytest.mark.parametrize(("name", "severity"), [("contrast", 2), ("impulse_noise", 5)])
def test_an_accuracy_equals_that_of_keras(name, severity, measured):
    test = load_dataset(read_recipe(str(measured / "recipe.toml"))).test
    network = keras.models.load_model(measured / "model.keras")
    logits = np.asarray(network(corrupt(test.images, name, severity, seed=0), training=False))
    expected = (logits.argmax(axis=1) == test.labels).mean()
    report = json.loads((measured / "robustness.json").read_text())
    assert report["accuracy"][name][severity - 1] == pytest.approx(expected)


def test_the_entropies_equal_those_of_keras(measured):
    report = RunFolder(measured).read(Robustness)
    edges = np.array(report.entropy["bins"])
    np.testing.assert_allclose(edges, np.linspace(0, np.log(10), 21))
    images = load_dataset(read_recipe(str(measured / "recipe.toml"))).test.images
    network = keras.models.load_model(measured / "model.keras")
    entropies = {}
    inputs = {"test": images, "noise": _noise(images), "shuffled": _shuffled(images)}
    for name, pixels in inputs.items():
        log = np.asarray(keras.ops.log_softmax(network(pixels, training=False)), np.float64)
        entropies[name] = -(np.exp(log) * log).sum(axis=1)
        assert sum(report.entropy[name]) == 360
        expected, _ = np.histogram(entropies[name], edges)
        # An entropy at the edge of a bin may be counted on either side.
        assert np.abs(expected - report.entropy[name]).sum() <= 2
    for name, area in report.roc_auc.items():
        is_above = entropies[name][:, None] > entropies["test"]
        assert area == pytest.approx(is_above.mean(), abs=1e-3)
    assert set(report.roc_auc) == {"noise", "shuffled"}


def test_a_subset_of_the_images_is_spread_over_the_test_split(run_copy, capsys):
    run = run_copy
    assert main(["evaluate", str(run), "--corruptions", "--images", "30"]) == 0
    printed, report = capsys.readouterr().out, RunFolder(run).read(Robustness)
    assert report.images == sum(report.entropy["test"]) == 30
    with np.load(run / "predictions.npz") as file:
        hits = file["probabilities"].argmax(axis=1) == file["labels"]
    assert report.clean_accuracy == pytest.approx(hits[np.arange(30) * 359 // 29].mean())
    row = [line for line in printed.splitlines() if line.startswith("contrast ")]
    assert row[0].split()[1:] == [f"{value:.2%}" for value in report.accuracy["contrast"]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--images", "5"], "--images needs --corruptions; add it"),
        (["--corruptions", "--split", "train"], "leave out --dataset and --split"),
        (["--corruptions", "--dataset", "cifar10"], "leave out --dataset and --split"),
        (["--corruptions", "--images", "0"], "--images 0: must be at least 1"),
    ],
)
def test_wrong_options_are_refused(options, reason, finished_run, capsys):
    assert reason in refusal(capsys, "evaluate", finished_run, *options)
    assert not (finished_run / "robustness.json").exists()


def test_shuffling_keeps_the_pixels_and_orders_each_image_differently(images):
    copies = np.repeat(images[:1], 4, axis=0)
    shuffled = _shuffled(copies)
    for image in shuffled:
        assert sorted(map(tuple, image.reshape(-1, 3))) == sorted(
            map(tuple, copies[0].reshape(-1, 3))
        )
    assert not np.array_equal(shuffled[0], shuffled[1])


def test_entropy_and_roc_auc_by_hand():
    probabilities = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(entropy(probabilities), [0, np.log(2), np.log(4)])
    # Three of the six pairs are in order, and one is a tie.
    assert roc_auc_between(np.array([1, 3, 4]), np.array([2, 4])) == pytest.approx(3.5 / 6)


def test_pixels_are_shuffled_in_the_memory_of_the_images():
    images = np.random.default_rng(1).integers(0, 256, (40, 64, 64, 3), np.uint8)
    order = np.random.default_rng(SEED).permuted(np.tile(np.arange(64**2), (40, 1)), axis=1)
    expected = [
        image.reshape(-1, 3)[row].reshape(64, 64, 3)
        for image, row in zip(images, order, strict=True)
    ]
    tracemalloc.start()
    shuffled = _shuffled(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(shuffled, expected)
    assert peak < 1.5 * images.nbytes  # the order of all pixels has 2.7 times as many
