"""The time that a run will take, said once after its first steps."""

import logging
import time

import keras

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.runtime.text import duration_in_words
from cifar_models.training.progress import Progress
from cifar_models.training.run_context import RunContext
from cifar_models.training.time_budget import TimeBudget

logger = logging.getLogger("cifar_models")

MIN_TIMED_SECONDS = 3.0
LONG_ON_A_CPU = 2 * 3600.0  # seconds


class TimeLeft(keras.callbacks.Callback):
    """Callback that logs the estimated time left, and warns if a CPU will take hours.

    The estimate is that of the training steps. It has no validation and no checkpoints, which
    usually take a few percent.

    Args:
        context: The run.
        progress: Holds the number of finished steps.
        total_steps: Number of steps of the run.
        budget: The time budget of the run.
    """

    def __init__(
        self, context: RunContext, progress: Progress, total_steps: int, budget: TimeBudget
    ):
        super().__init__()
        self._context = context
        self._progress = progress
        self._total_steps = total_steps
        self._budget = budget
        self._first: tuple[float, int] | None = None  # end of the first execution: time and step
        self._said = False

    def on_train_batch_end(self, batch, logs=None):
        if self._said:
            return
        now, step = time.perf_counter(), self._progress.step
        if self._first is None:  # the first execution compiles
            self._first = now, step
            return
        began, first_step = self._first
        if now - began >= MIN_TIMED_SECONDS:
            self._said = True
            if self._budget.seconds:
                self._say(self._budget.seconds - self._budget.elapsed())
            else:
                self._say((now - began) / (step - first_step) * (self._total_steps - step))

    def _say(self, seconds: float) -> None:
        logger.info("about %s to go", duration_in_words(seconds))
        recipe = self._context.recipe
        fitting = ARCHITECTURES[recipe.architecture].laptop_recipe
        is_on_cpu = self._context.runtime.device.startswith("CPU")
        if is_on_cpu and seconds > LONG_ON_A_CPU and recipe.name != fitting:
            logger.warning(
                "%s takes long without a GPU; the recipe %s is for a CPU (Ctrl-C saves this run)",
                recipe.name,
                fitting,
            )
