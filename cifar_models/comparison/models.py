"""The runs of one recipe as one model: its scores and costs over the seeds."""

from dataclasses import dataclass

import numpy as np

from cifar_models.comparison.runs import Run
from cifar_models.comparison.significance import Interval, mean_interval

SCORES = {  # of metrics.json → how a page calls it
    "accuracy": "accuracy",
    "loss": "loss",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "F1",
    "roc_auc_macro": "ROC AUC",
    "expected_calibration_error": "calibration error",
    "mean_corrupted_accuracy": "accuracy, corrupted",  # where `evaluate --corruptions` measured it
}
COSTS = {
    "parameters": "parameters",
    "flops_per_image": "FLOPs/image",
    "train_seconds": "training s",
    "images_per_second": "training images/s",
    "latency_1_p50": "latency of 1, p50 ms",  # what `benchmark` measured, where it did
    "latency_1_p95": "latency of 1, p95 ms",
    "latency_128_p50": "latency of 128, p50 ms",
    "latency_128_p95": "latency of 128, p95 ms",
    "peak_memory_megabytes": "peak memory, MB",
    "model_megabytes": "model file, MB",
}


@dataclass(frozen=True)
class Model:
    """One recipe, in as many runs as there are seeds."""

    name: str
    runs: tuple[Run, ...]

    def correct(self) -> np.ndarray:
        """bool (S, N)"""
        return np.stack([run.correct for run in self.runs])

    def score(self, key: str) -> Interval | None:
        """Over the runs; None where one lacks the number, or all do that was measured later."""
        values = [run.metrics.get(key) for run in self.runs]
        if key in COSTS or key == "mean_corrupted_accuracy":
            values = [value for value in values if value is not None] or [None]
        return None if None in values else mean_interval(np.array(values, np.float64))

    @property
    def accuracy(self) -> Interval:
        return mean_interval(self.correct().mean(axis=1))

    def mean(self, key: str) -> float:
        """Over the runs that have the number."""
        values = [run.metrics[key] for run in self.runs if run.metrics.get(key) is not None]
        return float(np.mean(values))

    def robustness(self) -> list[dict]:
        """Of the runs of which it was measured."""
        return [run.robustness for run in self.runs if run.robustness is not None]

    def class_accuracy(self) -> np.ndarray:
        """The part of each class that is recognised, mean over the runs: (K,)."""
        rows = [[row["recall"] for row in run.metrics["per_class"].values()] for run in self.runs]
        return np.mean(rows, axis=0)
