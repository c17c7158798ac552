"""Temperature scaling of predicted probabilities (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cifar_models.evaluation.metrics import accuracy_and_loss, expected_calibration_error
from cifar_models.evaluation.predictions import Predictions
from cifar_models.storage.records import TemperatureScaling

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def scale_temperature(
    validation: Predictions | None, evaluated: Predictions
) -> TemperatureScaling | None:
    """Fit a temperature on the validation split, and measure its effect on another split.

    Args:
        validation: Predictions of the validation split. None: there is none.
        evaluated: Predictions of the other split by the same network.

    Returns:
        The temperature and its effect, or None if there is nothing to fit it on.
    """
    if validation is None:
        return None
    temperature = fit_temperature(validation.labels, validation.probabilities)
    if temperature is None:
        return None
    labels = evaluated.labels
    probabilities = at_temperature(evaluated.probabilities, temperature)
    return TemperatureScaling(
        temperature=temperature,
        validation_images=len(validation.labels),
        loss=accuracy_and_loss(labels, probabilities)[1],
        expected_calibration_error=expected_calibration_error(labels, probabilities),
    )


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the temperature with the least cross entropy, 0.05 to 20.

    The logits are divided by it, which leaves the order of the classes as it is. A temperature
    above 1 makes predictions less confident.

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K), rows summing to 1.

    Returns:
        The temperature, or None if no image is misclassified: the cross entropy would then fall
        without end as the temperature falls.
    """
    if (probabilities.argmax(axis=1) == labels).all():
        return None
    logits, rows = _logits(probabilities), np.arange(len(labels))

    def cross_entropy(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    bounds = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities after dividing the logits by a temperature, float64 (N, K).

    Args:
        probabilities: Predicted probabilities (N, K), rows summing to 1.
        temperature: The temperature, above 0.
    """
    return softmax(_logits(probabilities) / temperature, axis=1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Return logits with these probabilities, float64 (N, K). A probability of 0 becomes 1e-38."""
    smallest = np.finfo(np.float32).tiny
    return np.log(np.maximum(np.asarray(probabilities, np.float64), smallest))
