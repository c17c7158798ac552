"""The runs of one recipe as one model, with the mean of each metric over the seeds."""

from dataclasses import dataclass

import numpy as np

from cifar_models.comparison.run_metrics import correct_predictions, metric_of
from cifar_models.comparison.significance import Interval, accuracy_interval, mean_interval
from cifar_models.run.load import FinishedRun
from cifar_models.storage.records import Robustness


@dataclass(frozen=True)
class Model:
    """A recipe that was trained with one or several seeds.

    Attributes:
        name: Name of the recipe, unique in a comparison.
        runs: Its S runs, one for each seed.
    """

    name: str
    runs: tuple[FinishedRun, ...]

    def correct(self) -> np.ndarray:
        """Return which test images each run classifies correctly, bool (S, N)."""
        return np.stack([correct_predictions(run) for run in self.runs])

    @property
    def accuracy(self) -> Interval:
        """The mean accuracy over the runs, in [0, 1]."""
        return accuracy_interval(self.correct())

    def interval(self, metric: str) -> Interval | None:
        """Return the mean of a metric over the runs that have it, or None if no run has it.

        Args:
            metric: Key of `run_metrics.SCORES` or `run_metrics.COSTS`.
        """
        if metric == "accuracy":
            return self.accuracy
        values = [metric_of(run, metric) for run in self.runs]
        measured = [value for value in values if value is not None]
        return mean_interval(np.array(measured, np.float64)) if measured else None

    def robustness(self) -> list[Robustness]:
        """Return the robustness of the runs for which it was measured."""
        return [run.robustness for run in self.runs if run.robustness is not None]

    def class_recall(self) -> np.ndarray:
        """Return the recall of each class, mean over the runs, float64 (K,), in [0, 1]."""
        rows = [[row.recall for row in run.metrics.per_class.values()] for run in self.runs]
        return np.mean(rows, axis=0)
