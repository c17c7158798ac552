"""Metrics against direct calls of scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cifar_models.evaluation.metrics import (
    classification_metrics,
    confusion_matrix,
    expected_calibration_error,
)
from cifar_models.storage.records import ClassMetrics
from tests.conftest import read_metrics


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    logits = rng.normal(size=(500, 4)) + 1.5 * np.eye(4)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_metrics_of_a_run_agree_with_scikit_learn_on_its_predictions(finished_run):
    metrics = read_metrics(finished_run)
    with np.load(finished_run / "predictions.npz") as file:
        labels, probabilities, names = file["labels"], file["probabilities"], file["class_names"]
    assert labels.shape == (360,) and probabilities.shape == (360, 10)
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "loss": sk.log_loss(labels, probabilities),
        "precision_macro": sk.precision_score(labels, predicted, average="macro", zero_division=0),
        "recall_macro": sk.recall_score(labels, predicted, average="macro"),
        "f1_macro": sk.f1_score(labels, predicted, average="macro"),
        "roc_auc_macro": sk.roc_auc_score(labels, probabilities, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name
    recalls = sk.recall_score(labels, predicted, average=None)
    for name, recall in zip(names, recalls, strict=True):
        assert metrics["per_class"][str(name)]["recall"] == pytest.approx(recall, abs=1e-6)


def test_calibration_error_by_hand():
    # Two of three are correct at confidence 0.9, and one of two at 0.6; the gaps are weighted.
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 1, 1, 0])
    expected = 3 / 5 * abs(0.9 - 2 / 3) + 2 / 5 * abs(0.6 - 1 / 2)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_calibration_error_by_its_definition(predictions):
    labels, probabilities = predictions
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            gap = abs((predicted == labels)[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_two_classes(predictions):
    labels, probabilities = predictions
    labels = labels % 2
    probabilities = np.stack([probabilities[:, ::2].sum(1), probabilities[:, 1::2].sum(1)], axis=1)
    metrics = classification_metrics(labels, probabilities, ("even", "odd"))
    expected = sk.roc_auc_score(labels, probabilities[:, 1])
    assert metrics.roc_auc_macro == pytest.approx(expected)


def test_a_class_that_is_never_predicted_counts_as_zero():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    metrics = classification_metrics(np.array([0, 1, 2]), probabilities, ("a", "b", "c"))
    assert metrics.per_class["c"] == ClassMetrics(precision=0, recall=0, f1=0, images=1)
    assert metrics.precision_macro == pytest.approx((0.5 + 1 + 0) / 3)


def test_a_class_without_images_has_no_roc_auc():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    metrics = classification_metrics(np.array([0, 1, 1]), probabilities, ("a", "b", "c"))
    assert metrics.roc_auc_macro is None
    assert metrics.accuracy == pytest.approx(2 / 3)


def test_rows_of_the_confusion_matrix_are_true_classes():
    probabilities = np.eye(3)[[1, 1, 2, 0]]
    matrix = confusion_matrix(np.array([0, 1, 2, 0]), probabilities)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
