"""The times of a fit."""

import dataclasses
import time

import keras

from cifar_models.training.progress import Progress


class Stopwatch(keras.callbacks.Callback):
    """Counter of steps, and of the seconds spent on compiling, stepping, validating and saving.

    Keras calls back once for all steps of an execution. The time until the end of the first
    execution counts as compilation.

    Args:
        progress: Gets the steps and the times.
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
            self.add_elapsed("compiling")
            self._compiled = True

    def training_seconds(self) -> float:
        """Return the training time so far, with that of an unfinished epoch, seconds."""
        running = time.perf_counter() - self._mark if self._compiled else 0.0
        stepping = self._progress.stepping + running
        return dataclasses.replace(self._progress, stepping=stepping).training_seconds

    def add_elapsed(self, counter: str) -> None:
        """Add the time since the last call to one of the counters of `Progress`, in seconds."""
        now = time.perf_counter()
        setattr(self._progress, counter, getattr(self._progress, counter) + now - self._mark)
        self._mark = now
