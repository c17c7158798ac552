"""Labels and probabilities become numbers; the only importer of scikit-learn's metrics."""

import numpy as np
from scipy.special import entr
from sklearn import metrics as sklearn_metrics

CALIBRATION_BINS = 15


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
) -> dict:
    """Measures the predictions of one model on one split.

    Args:
        labels: integers (N,), 0 to K - 1.
        probabilities: (N, K), rows summing to 1.
        class_names: K names.

    Returns:
        accuracy, loss (cross entropy, nats), precision_macro, recall_macro, f1_macro,
        roc_auc_macro (one-vs-rest), expected_calibration_error, all but the loss from 0 to 1; and
        per_class: name → precision, recall, f1, images. A class that is never predicted has
        precision 0; where one has no image, roc_auc_macro is None.
    """
    accuracy, loss = accuracy_and_loss(labels, probabilities)
    probabilities = _summing_to_one(probabilities)
    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    return {
        "accuracy": accuracy,
        "loss": loss,
        "precision_macro": float(precision.mean()),
        "recall_macro": float(recall.mean()),
        "f1_macro": float(f1.mean()),
        "roc_auc_macro": _roc_auc(labels, probabilities) if support.all() else None,
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "images": int(support[index]),
            }
            for index, name in enumerate(class_names)
        },
    }


def accuracy_and_loss(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Returns the two of `classification_metrics`; the loss is NaN where a probability is."""
    probabilities = _summing_to_one(probabilities)
    accuracy = float(sklearn_metrics.accuracy_score(labels, probabilities.argmax(axis=1)))
    if not np.isfinite(probabilities).all():
        return accuracy, float("nan")
    classes = np.arange(probabilities.shape[1])
    return accuracy, float(sklearn_metrics.log_loss(labels, probabilities, labels=classes))


def _summing_to_one(probabilities: np.ndarray) -> np.ndarray:
    """As exactly as float64 can, as scikit-learn's loss wants it: (N, K) → (N, K)."""
    probabilities = np.asarray(probabilities, np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    binary = probabilities.shape[1] == 2  # scikit-learn then wants the second column alone
    scores = probabilities[:, 1] if binary else probabilities
    return float(sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """How far confidence is from accuracy on average, 0 to 1: Guo et al. 2017, arXiv:1706.04599.

    Fifteen bins of equal width over the confidence, each open below and closed above.
    """
    confidence = probabilities.max(axis=1)  # (N,)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(int).clip(1, CALIBRATION_BINS)
    gaps = np.bincount(bins, weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(labels))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """How unsure each prediction is, in nats: (N, K) → float64 (N,), from 0 to log K."""
    return entr(_summing_to_one(probabilities)).sum(axis=1)


def roc_auc_between(lower: np.ndarray, higher: np.ndarray) -> float:
    """How well scores tell two groups (N,) and (M,) apart: 1 perfectly, 0.5 not at all."""
    is_higher = np.repeat([0, 1], [len(lower), len(higher)])
    return float(sklearn_metrics.roc_auc_score(is_higher, np.concatenate([lower, higher])))


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Counts, integers (K, K): row the true class, column the predicted one."""
    classes = np.arange(probabilities.shape[1])
    return sklearn_metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=classes)
