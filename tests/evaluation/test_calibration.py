"""Temperature scaling against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from cifar_models.data.load import load_dataset
from cifar_models.evaluation.calibration import (
    MIN_TEMPERATURE,
    at_temperature,
    fit_temperature,
    scale_temperature,
)
from cifar_models.evaluation.predictions import Predictions, predict_split
from cifar_models.run.load import load_run
from cifar_models.storage.records import RunMetrics


class _Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its logits."""

    def fit(self, logits, labels):
        self.classes_ = np.unique(labels)
        return self

    def decision_function(self, logits):
        return logits

    def predict(self, logits):
        return self.classes_[logits.argmax(axis=1)]


def _labels_and_logits(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return labels that are drawn from the probabilities of logits, and these logits, scaled."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    labels = np.array([rng.choice(5, p=row) for row in _softmax(logits)])
    return labels, logits * scale


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_scikit_learn_and_of_the_data(scale):
    labels, logits = _labels_and_logits(scale)
    probabilities = _softmax(logits)
    temperature = fit_temperature(labels, probabilities)
    assert temperature == pytest.approx(scale, rel=0.05)  # it undoes the scale
    frozen = FrozenEstimator(_Logits().fit(logits, labels))
    theirs = CalibratedClassifierCV(frozen, method="temperature", ensemble=False)
    expected = theirs.fit(logits, labels).predict_proba(logits)
    np.testing.assert_allclose(at_temperature(probabilities, temperature), expected, atol=1e-4)


def test_probabilities_at_a_temperature_by_hand():
    # 0.8 and 0.2 have a ratio of 4. At temperature 2 it is 4 ** (1 / 2) = 2.
    np.testing.assert_allclose(at_temperature(np.array([[0.8, 0.2]]), 2), [[2 / 3, 1 / 3]])
    certain = np.array([[1.0, 0.0]], np.float32)  # float32 rounds a small probability to 0
    assert at_temperature(certain, 2)[0, 0] == pytest.approx(1)


def test_without_mistakes_there_is_no_temperature():
    labels = np.array([0, 1, 1])
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    assert fit_temperature(labels, probabilities) is None
    predictions = Predictions(labels, probabilities, ("a", "b"))
    assert scale_temperature(predictions, predictions) is None
    assert scale_temperature(None, predictions) is None


def test_the_temperature_has_a_lower_limit():
    """One mistake by a hair among a thousand images, which are all nearly undecided."""
    probabilities = np.tile([0.51, 0.49], (1000, 1))
    probabilities[0] = [0.4999999, 0.5000001]
    temperature = fit_temperature(np.zeros(1000, int), probabilities)
    assert temperature == pytest.approx(MIN_TEMPERATURE, rel=0.01)


def test_a_run_fits_it_on_its_validation_images(finished_run):
    run = load_run(finished_run)
    scaling = run.folder.read(RunMetrics).temperature_scaling
    dataset = load_dataset(run.recipe)
    validation = dataset.splits(run.recipe.data, run.recipe.runtime.seed).validation
    predicted = predict_split(run.network, validation, tuple(run.class_names))
    assert scaling is not None and scaling.validation_images == len(validation)
    expected = fit_temperature(validation.labels, predicted.probabilities)
    assert scaling.temperature == pytest.approx(expected, rel=1e-4)
    scaled = at_temperature(run.probabilities, scaling.temperature)
    assert scaling.loss == pytest.approx(log_loss(run.labels, scaled))
