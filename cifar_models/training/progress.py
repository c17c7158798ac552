"""What a run has behind it, apart from its arrays; a checkpoint holds it as JSON."""

import time
from dataclasses import dataclass, field

import keras


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


class Stopwatch(keras.callbacks.Callback):
    """Counts steps, and books the time that passes to what it was spent on.

    Keras calls back once for all the steps of an execution. Compiling is what passes until the
    first execution is over.
    """

    def __init__(self, progress: Progress):
        super().__init__()
        self._progress = progress
        self._compiled = False
        self._mark = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        steps = self.model.steps_per_execution
        self._progress.step += steps
        if self._compiled:
            self._progress.timed_steps += steps
        else:
            float(logs["loss"])  # waits for the device
            self.book("compiling")
            self._compiled = True

    def book(self, what: str) -> None:
        """Adds the time since the last booking to one of Progress' counters of seconds."""
        now = time.perf_counter()
        setattr(self._progress, what, getattr(self._progress, what) + now - self._mark)
        self._mark = now
