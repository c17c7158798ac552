"""The progress of a run, without its weights. A checkpoint holds it as JSON."""

from dataclasses import dataclass, field

import keras
import numpy as np


@dataclass
class Progress:
    """Steps, history, best epoch and timings so far.

    Times are in seconds, summed over all processes of the run. The time between the last checkpoint
    and a kill is not counted.
    """

    step: int = 0  # finished training steps
    rows: list[dict] = field(default_factory=list)  # rows of history.csv, one for each epoch
    best_epoch: int = 0  # by validation accuracy, counted from 1; 0: none yet
    best_accuracy: float = -1.0
    compiling: float = 0.0
    stepping: float = 0.0
    validating: float = 0.0
    saving: float = 0.0
    # All steps except those of the first execution of each process, which compiles.
    timed_steps: int = 0
    at_row_begin: tuple[float, float, float, int] = (0.0, 0.0, 0.0, 0)

    @property
    def training_seconds(self) -> float:
        """The time of the run without compilation."""
        return self.stepping + self.untimed_seconds + self.validating + self.saving

    @property
    def untimed_seconds(self) -> float:
        """The estimated time of the untimed steps, which is a part of `compiling`."""
        if not self.timed_steps:
            return 0.0
        untimed = (self.step - self.timed_steps) * self.stepping / self.timed_steps
        return min(untimed, self.compiling)

    def begin_row(self) -> None:
        """Begin to count for the next row, which includes the save at the end of the epoch."""
        self.at_row_begin = self._counters()

    def row_timing(self, batch_size: int) -> dict[str, float]:
        """Return the last columns of a history row.

        `images_per_second` is 0 if the epoch had only the execution that compiles.

        Args:
            batch_size: Number of images in a step.
        """
        differences = zip(self._counters(), self.at_row_begin, strict=True)
        seconds, stepping, saving, steps = (now - then for now, then in differences)
        return {
            "images_per_second": steps * batch_size / stepping if steps else 0.0,
            "seconds": seconds,
            "saving_seconds": saving,
        }

    def images_per_second(self, batch_size: int) -> float:
        """Return the training images per second of all timed steps, or 0 if there are none."""
        return self.timed_steps * batch_size / self.stepping if self.timed_steps else 0.0

    def _counters(self) -> tuple[float, float, float, int]:
        return (
            self.compiling + self.stepping + self.validating + self.saving,
            self.stepping,
            self.saving,
            self.timed_steps,
        )


class BestEpoch:
    """The epoch with the highest validation accuracy, and its weights. Ties keep the first.

    Args:
        progress: Gets the best epoch and its accuracy.
        keeps_weights: Whether to keep the weights of the best epoch.
        patience: Number of epochs without improvement after which training stops. 0: never.
    """

    def __init__(self, progress: Progress, keeps_weights: bool, patience: int):
        self._progress = progress
        self._keeps_weights = keeps_weights
        self._patience = patience
        self.weights: list[np.ndarray] = []

    def update(self, epoch: int, accuracy: float, network: keras.Model) -> None:
        """Record an epoch if it is the best so far.

        Args:
            epoch: The epoch, counted from 1.
            accuracy: Validation accuracy of the network, in [0, 1].
            network: The evaluated network, after the epoch.
        """
        if accuracy > self._progress.best_accuracy:
            self._progress.best_epoch, self._progress.best_accuracy = epoch, accuracy
            if self._keeps_weights:
                self.weights = network.get_weights()

    def is_out_of_patience(self) -> bool:
        epochs_since_best = len(self._progress.rows) - self._progress.best_epoch
        return bool(self._patience) and epochs_since_best >= self._patience
