"""Figures of a run: many classes, and names that the font cannot show."""

import os
import warnings

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from cifar_models.data.splits import ArraySplit
from cifar_models.evaluation import figures
from cifar_models.evaluation.metrics import confusion_matrix, most_confused_classes
from cifar_models.evaluation.predictions import Predictions

ODD_NAMES = ("$x^$", os.fsdecode(b"caf\xe9"), "\u732b", "\U0001f408 cat", "two\nlines", "x" * 250)


def predictions_of(class_names: tuple[str, ...], images: int) -> Predictions:
    """Return random predictions, of which about half are right."""
    rng = np.random.default_rng(0)
    num_classes = len(class_names)
    labels = np.arange(images) % num_classes
    scores = rng.random((images, num_classes), np.float32)
    is_right = rng.random(images) < 0.5
    scores[np.flatnonzero(is_right), labels[is_right]] += 1
    return Predictions(labels, scores / scores.sum(axis=1, keepdims=True), class_names)


@pytest.fixture
def tick_labels(monkeypatch) -> dict[str, list[str]]:
    """Return the labels of the axes that are drawn in the test."""
    seen: dict[str, list[str]] = {}
    for axis in ("x", "y"):
        real = getattr(Axes, f"set_{axis}ticks")

        def set_ticks(self, ticks, labels=None, *, axis=axis, real=real, **options):
            seen[axis] = list(labels or [])
            return real(self, ticks, labels, **options)

        monkeypatch.setattr(Axes, f"set_{axis}ticks", set_ticks)
    return seen


def test_names_that_cannot_be_shown_are_given_as_numbers(tmp_path, tick_labels, caplog):
    predictions = predictions_of(ODD_NAMES, 60)
    images = np.zeros((60, 8, 8, 3), np.uint8)
    with warnings.catch_warnings(), caplog.at_level("INFO", "cifar_models"):
        warnings.simplefilter("error")  # such as "Glyph missing from font"
        figures.draw_confusion_matrix(predictions, "\u732b on $x^$", tmp_path / "matrix.png")
        split = ArraySplit(images, predictions.labels)
        figures.draw_sample_predictions(split, predictions, tmp_path / "samples.png")
    shown = ["$x^$", "class 1", "class 2", "class 3", "class 4", "x" * 23 + "\u2026"]
    assert tick_labels == {"x": shown, "y": shown}
    assert "figure confusion matrix: names that the font cannot show: 4" in caplog.text
    assert "figure sample predictions: names that the font cannot show: " in caplog.text
    for name in ("matrix.png", "samples.png"):
        assert Image.open(tmp_path / name).size[0] > 300


@pytest.mark.slow
def test_five_thousand_classes_draw_those_with_the_most_mistakes(tmp_path, tick_labels, caplog):
    names = tuple(f"class {number}" for number in range(5000))
    labels = np.arange(5000)
    predicted = labels.copy()
    predicted[:150] = np.roll(labels[:150], 1)  # the first 150 classes are mistaken for each other
    predicted[:60] = 7  # and the first 60 for one of them
    probabilities = np.zeros((5000, 5000), np.float32)
    probabilities[labels, predicted] = 1
    with caplog.at_level("INFO", "cifar_models"):
        figures.draw_confusion_matrix(
            Predictions(labels, probabilities, names), "title", tmp_path / "matrix.png"
        )
    shown = tick_labels["x"]
    assert len(shown) == 100 and "class 7" in shown
    assert all(int(name.removeprefix("class ")) < 150 for name in shown)
    assert "the 100 of 5,000 classes with the most mistakes" in caplog.text
    assert "of 149 mistakes are among them" in caplog.text  # image 7 is predicted right


def test_the_most_confused_classes_by_hand():
    labels = np.array([0, 0, 1, 2, 3, 3])
    predicted = np.array([0, 2, 1, 2, 2, 3])  # 0 for 2, and 3 for 2
    probabilities = np.eye(4)[predicted]
    assert most_confused_classes(labels, probabilities, 1).tolist() == [2]
    assert most_confused_classes(labels, probabilities, 3).tolist() == [0, 2, 3]
    assert most_confused_classes(labels, probabilities, 9).tolist() == [0, 1, 2, 3]
    matrix = confusion_matrix(labels, probabilities, np.array([0, 2]))
    assert matrix.tolist() == [[1, 1], [0, 1]]
    nothing = confusion_matrix(np.array([0, 1]), np.eye(4)[[0, 1]], np.array([2, 3]))
    assert nothing.tolist() == [[0, 0], [0, 0]]
