"""What a run has behind it, apart from its arrays; a checkpoint holds it as JSON."""

from dataclasses import dataclass, field

import keras
import numpy as np


@dataclass
class Progress:
    step: int = 0  # training steps done
    rows: list[dict] = field(default_factory=list)  # of history.csv, one an epoch
    best_epoch: int = 0  # by validation accuracy, from 1; 0 is none yet
    best_accuracy: float = -1.0
    # Seconds by what they were spent on; lost ones, between a checkpoint and a kill, are left out.
    compiling: float = 0.0
    stepping: float = 0.0
    validating: float = 0.0
    saving: float = 0.0
    timed_steps: int = 0  # all but those of the first execution of each process, which compiles
    at_row_begin: tuple[float, float, float, int] = (0.0, 0.0, 0.0, 0)

    @property
    def training_seconds(self) -> float:
        """Compiling apart."""
        return self.stepping + self.untimed_seconds + self.validating + self.saving

    @property
    def untimed_seconds(self) -> float:
        """What the steps of first executions take, at the rate of the others; part of compiling."""
        if not self.timed_steps:
            return 0.0
        untimed = (self.step - self.timed_steps) * self.stepping / self.timed_steps
        return min(untimed, self.compiling)

    def begin_row(self) -> None:
        """What comes from now on, the save at the end of the epoch too, is for the next row."""
        self.at_row_begin = self._counters()

    def row_timing(self, batch_size: int) -> dict[str, float]:
        """The last columns of a history row; images/s is 0 where compiling was all of the epoch."""
        differences = zip(self._counters(), self.at_row_begin, strict=True)
        seconds, stepping, saving, steps = (now - then for now, then in differences)
        return {
            "images_per_second": steps * batch_size / stepping if steps else 0.0,
            "seconds": seconds,
            "saving_seconds": saving,
        }

    def images_per_second(self, batch_size: int) -> float:
        """Of all training steps; 0 where there was but one."""
        return self.timed_steps * batch_size / self.stepping if self.timed_steps else 0.0

    def _counters(self) -> tuple[float, float, float, int]:
        return (
            self.compiling + self.stepping + self.validating + self.saving,
            self.stepping,
            self.saving,
            self.timed_steps,
        )


class BestEpoch:
    """Remembers the weights of the epoch with the highest validation accuracy, the first of equals.

    Args:
        progress: where the epoch and its accuracy are noted.
        keeps_weights: False where the last epoch's are wanted anyway.
        patience: epochs without a better one after which training is over; 0 is never.
    """

    def __init__(self, progress: Progress, keeps_weights: bool, patience: int):
        self._progress = progress
        self._keeps_weights = keeps_weights
        self._patience = patience
        self.weights: list[np.ndarray] = []

    def consider(self, epoch: int, accuracy: float, network: keras.Model) -> None:
        """Takes note of an epoch, counted from 1; the accuracy is that of the network as it is."""
        if accuracy > self._progress.best_accuracy:
            self._progress.best_epoch, self._progress.best_accuracy = epoch, accuracy
            if self._keeps_weights:
                self.weights = network.get_weights()

    def is_out_of_patience(self) -> bool:
        since = len(self._progress.rows) - self._progress.best_epoch
        return bool(self._patience) and since >= self._patience
