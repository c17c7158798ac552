"""The metrics of a finished run that a comparison shows, by name."""

import numpy as np

from cifar_models.data.dataset import is_skewed
from cifar_models.run.load import FinishedRun

# Name → column title. Scores are shown with an interval over the runs, costs as a mean.
SCORES = {
    "accuracy": "accuracy",
    "loss": "loss",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "roc_auc_macro": "ROC AUC",
    "expected_calibration_error": "calibration error",
    "mean_corrupted_accuracy": "corrupted accuracy",
}
# Names of the scores that lead if the classes are skewed.
SKEWED_SCORES = {"recall_macro": "balanced accuracy", "f1_macro": "macro F1"}
COSTS = {
    "parameters": "parameters",
    "flops_per_image": "FLOPs/image",
    "train_seconds": "training time, s",
    "images_per_second": "training images/s",
    "latency_1_p50": "latency of 1 image, p50, ms",
    "latency_1_p95": "latency of 1 image, p95, ms",
    "latency_128_p50": "latency of 128 images, p50, ms",
    "latency_128_p95": "latency of 128 images, p95, ms",
    "peak_memory_megabytes": "peak memory, MB",
    "model_megabytes": "model file, MB",
}


def scores_in_order(run: FinishedRun) -> dict[str, str]:
    """Return name → column title of the scores, the most telling first.

    If the classes are skewed, balanced accuracy and macro F1 lead.

    Args:
        run: One of the compared runs, which share their evaluation split.
    """
    counts = np.bincount(run.labels, minlength=len(run.dataset.class_names))
    if not is_skewed(counts):
        return SCORES
    return SKEWED_SCORES | {key: title for key, title in SCORES.items() if key not in SKEWED_SCORES}


def metric_of(run: FinishedRun, name: str) -> float | None:
    """Return a metric of a run, or None if it was not measured.

    Args:
        run: The run.
        name: Key of `SCORES` or `COSTS`.
    """
    if hasattr(run.metrics, name):
        return getattr(run.metrics, name)
    return _later_metrics(run).get(name)


def _later_metrics(run: FinishedRun) -> dict[str, float]:
    """Return the metrics that `evaluate --corruptions` and `benchmark` have added to a run."""
    metrics: dict[str, float] = {}
    if run.robustness:
        metrics["mean_corrupted_accuracy"] = run.robustness.mean_corrupted_accuracy
    if run.cost:
        metrics["peak_memory_megabytes"] = run.cost.peak_memory_bytes / 1e6
        metrics["model_megabytes"] = run.cost.model_bytes / 1e6
        for batch_size, latency in run.cost.latency_ms.items():
            metrics[f"latency_{batch_size}_p50"] = latency.p50
            metrics[f"latency_{batch_size}_p95"] = latency.p95
    return metrics


def correct_predictions(run: FinishedRun) -> np.ndarray:
    """Return which images of the evaluation split are classified correctly, bool (N,)."""
    return run.probabilities.argmax(axis=1) == run.labels
