"""The end of a run that trains for a time instead of a number of epochs."""

import keras

from cifar_models.errors import RequestError
from cifar_models.training.progress import Progress
from cifar_models.training.stopwatch import Stopwatch


class TimeBudget(keras.callbacks.Callback):
    """Callback that drives the schedule by the training time, and ends the run when it is spent.

    The time is that of metrics.json: with validation and checkpoints, without compilation, summed
    over all processes of a resumed run. The validation after the last step comes on top.

    Args:
        seconds: The budget. 0: the number of epochs decides, and this callback does nothing.
        progress: Holds the number of finished steps.
        stopwatch: Measures the training time.
    """

    def __init__(self, seconds: float, progress: Progress, stopwatch: Stopwatch):
        super().__init__()
        self.seconds = seconds
        self._progress = progress
        self._stopwatch = stopwatch

    def elapsed(self) -> float:
        """Return the training time so far, seconds."""
        return self._stopwatch.training_seconds()

    def is_spent(self) -> bool:
        """Return whether there is a budget, and it is spent."""
        return 0 < self.seconds <= self.elapsed()

    def on_train_batch_begin(self, batch, logs=None):
        if self.seconds:
            self.model.finished_fraction.assign(min(self.elapsed() / self.seconds, 1.0))

    def on_train_batch_end(self, batch, logs=None):
        """End the run if the budget is spent.

        Raises:
            RequestError: It is spent after the first two executions of the run.
        """
        if not self.is_spent():
            return
        if self._progress.step <= 2 * self.model.steps_per_execution:
            raise RequestError(
                f"training.budget_seconds = {self.seconds:g} is shorter than two training steps; "
                "raise it"
            )
        self.model.stop_training = True
