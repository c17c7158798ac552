"""Classification metrics. This is the only file that imports scikit-learn's metrics."""

import numpy as np
from scipy.special import entr
from sklearn import metrics as sklearn_metrics

from cifar_models.storage.records import ClassificationMetrics, ClassMetrics

MAX_SHOWN_CLASSES = 100  # in a figure; the names of more would overlap
CALIBRATION_BINS = 15


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
) -> ClassificationMetrics:
    """Return the metrics of the predictions of one model on one split.

    The macro averages are those of the classes that have images.

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K), rows summing to 1.
        class_names: Names of the K classes.
    """
    accuracy, loss = accuracy_and_loss(labels, probabilities)
    probabilities = _normalized(probabilities)
    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    return ClassificationMetrics(
        accuracy=accuracy,
        loss=loss,
        precision_macro=float(precision[support > 0].mean()),
        recall_macro=float(recall[support > 0].mean()),
        f1_macro=float(f1[support > 0].mean()),
        roc_auc_macro=_roc_auc(labels, probabilities) if support.all() else None,
        expected_calibration_error=expected_calibration_error(labels, probabilities),
        per_class={
            name: ClassMetrics(
                precision=float(precision[index]),
                recall=float(recall[index]),
                f1=float(f1[index]),
                images=int(support[index]),
            )
            for index, name in enumerate(class_names)
        },
    )


def accuracy_and_loss(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Return accuracy in [0, 1] and cross entropy in nats, or NaN if a probability is NaN.

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K), rows summing to 1.
    """
    probabilities = _normalized(probabilities)
    accuracy = float(sklearn_metrics.accuracy_score(labels, probabilities.argmax(axis=1)))
    if not np.isfinite(probabilities).all():
        return accuracy, float("nan")
    classes = np.arange(probabilities.shape[1])
    return accuracy, float(sklearn_metrics.log_loss(labels, probabilities, labels=classes))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy, in [0, 1].

    There are fifteen bins of equal width over the confidence, each open below and closed above.

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K), rows summing to 1.

    Source: Guo et al. (2017), arXiv:1706.04599.
    """
    confidence = probabilities.max(axis=1)  # (N,)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(int).clip(1, CALIBRATION_BINS)
    gaps = np.bincount(bins, weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(labels))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of each prediction in nats: (N, K) → float64 (N,), in [0, log K]."""
    return entr(_normalized(probabilities)).sum(axis=1)


def roc_auc_between(lower: np.ndarray, higher: np.ndarray) -> float:
    """Return the ROC AUC of scores that separate two groups: 1 is perfect, 0.5 is chance.

    Args:
        lower: Scores (N,) of the group that should score lower.
        higher: Scores (M,) of the other group.
    """
    is_higher = np.repeat([0, 1], [len(lower), len(higher)])
    return float(sklearn_metrics.roc_auc_score(is_higher, np.concatenate([lower, higher])))


def confusion_matrix(
    labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray | None = None
) -> np.ndarray:
    """Return counts, integers (C, C): a row for each true class, a column for each predicted one.

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K).
        classes: Classes of the rows and columns, integers (C,). None: all K classes. Images of
            other classes, and predictions of other classes, are not counted.
    """
    if classes is None:
        classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    is_shown = np.isin(labels, classes) & np.isin(predicted, classes)
    if not is_shown.any():  # scikit-learn refuses to count nothing
        return np.zeros((len(classes), len(classes)), int)
    return sklearn_metrics.confusion_matrix(labels[is_shown], predicted[is_shown], labels=classes)


def most_confused_classes(
    labels: np.ndarray, probabilities: np.ndarray, maximum: int
) -> np.ndarray:
    """Return the classes with the most mistakes, in ascending order: integers (C,).

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K).
        maximum: Maximum number of classes.
    """
    return largest(mistakes_of_classes(labels, probabilities), maximum)


def mistakes_of_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the number of mistakes of each class, integers (K,).

    A mistake counts for the true class and for the predicted class.

    Args:
        labels: Labels, integers (N,), 0 to K - 1.
        probabilities: Predicted probabilities (N, K).
    """
    predicted, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    wrong = predicted != labels
    return np.bincount(np.concatenate([labels[wrong], predicted[wrong]]), minlength=num_classes)


def largest(counts: np.ndarray, maximum: int) -> np.ndarray:
    """Return the indices of the largest counts (K,), in ascending order: integers (C,)."""
    return np.sort(np.argsort(-counts, kind="stable")[:maximum])


def _normalized(probabilities: np.ndarray) -> np.ndarray:
    """Make rows sum to 1 as exactly as float64 can, as scikit-learn's loss requires."""
    probabilities = np.asarray(probabilities, np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    binary = probabilities.shape[1] == 2  # scikit-learn expects only the second column
    scores = probabilities[:, 1] if binary else probabilities
    return float(sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"))
