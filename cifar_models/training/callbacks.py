"""Callbacks of a fit: history, divergence and progress bar."""

import contextlib
import logging
import math
import time
from collections.abc import Callable

import keras
from rich import progress as rich_progress

from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.run_context import RunContext
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.training.time_budget import TimeBudget
from cifar_models.training.trainer import check_divergence, divergence_error

logger = logging.getLogger("cifar_models")

# Minimum time between two writes of history.csv, which take 10 ms each.
MIN_HISTORY_SECONDS = 1.0
# Minimum time between two checks for divergence, which wait for the device.
MIN_CHECK_SECONDS = 1.0

Validate = Callable[[], tuple[float, float]]  # → accuracy and loss on the validation split


class EpochRecord(keras.callbacks.Callback):
    """Validation of each epoch, and its record in history.csv, TensorBoard, log and best epoch.

    Keras' `fit` does not validate, so that validation is the same code as the evaluation of a
    finished run, and gives the same numbers to the last bit.

    Args:
        context: The run.
        progress: Gets the history rows.
        stopwatch: Gets the time of validation.
        best: Gets the validation accuracy.
        budget: The time budget of the run.
        validate: Function that returns accuracy and loss on the validation split. None if there is
            no such split.
    """

    def __init__(
        self,
        context: RunContext,
        progress: Progress,
        stopwatch: Stopwatch,
        best: BestEpoch,
        budget: TimeBudget,
        validate: Validate | None,
    ):
        super().__init__()
        self._context = context
        self._recipe = context.recipe.training
        self._progress = progress
        self._stopwatch = stopwatch
        self._best = best
        self._budget = budget
        self._validate = validate
        self._history_time = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        self._stopwatch.add_elapsed("stepping")
        network, validation = self.model.evaluated_network, {}
        if self._validate:
            accuracy, loss = self._validate()
            if not math.isfinite(loss):
                what = "validation loss is not finite"
                raise divergence_error(what, self.model, self._progress.step)
            validation = {"validation_loss": loss, "validation_accuracy": accuracy}
        self._stopwatch.add_elapsed("validating")
        row = {
            "epoch": epoch + 1,
            "step": self._progress.step,
            "learning_rate": float(self.model.last_rate),
            "train_loss": float(logs["loss"]),
            "train_accuracy": float(logs["accuracy"]),
            **validation,
            **self._progress.row_timing(self._recipe.batch_size),
        }
        self._progress.rows.append(row)
        self._progress.begin_row()
        if validation:
            self._best.update(epoch + 1, accuracy, network)
        self.model.stop_training = self._best.is_out_of_patience() or self._budget.is_spent()
        self._record(row)

    def _record(self, row: dict) -> None:
        ends = (self._recipe.epochs, self._context.pause_after)
        is_last = row["epoch"] in ends or self.model.stop_training
        if is_last or time.monotonic() - self._history_time >= MIN_HISTORY_SECONDS:
            self._context.folder.write_history(self._progress.rows)
            self._history_time = time.monotonic()
        train = {"loss": row["train_loss"], "accuracy": row["train_accuracy"]}
        train["learning_rate"] = row["learning_rate"]
        if row["images_per_second"]:
            train["images_per_second"] = row["images_per_second"]
        self._context.tensorboard.scalars("train", row["step"], train)
        splits = ["train"]
        if "validation_loss" in row:
            splits.append("validation")
            validation = {"loss": row["validation_loss"], "accuracy": row["validation_accuracy"]}
            self._context.tensorboard.scalars("validation", row["step"], validation)
        scores = "  ".join(
            f"{split} loss {row[f'{split}_loss']:.4f} accuracy {row[f'{split}_accuracy']:.4f}"
            for split in splits
        )
        logger.info(
            "epoch %s  %s  %.0f images/s",
            self._epoch_of(row["epoch"]),
            scores,
            row["images_per_second"],
        )

    def _epoch_of(self, epoch: int) -> str:
        """Return "3/20", or "3, 40 % of the time" if there is a time budget."""
        if not self._budget.seconds:
            return f"{epoch}/{self._recipe.epochs}"
        fraction = min(self._budget.elapsed() / self._budget.seconds, 1.0)
        return f"{epoch}, {100 * fraction:.0f} % of the time"


class DivergenceGuard(keras.callbacks.Callback):
    """Guard that ends a run soon after its loss becomes NaN or infinite, and names that step.

    Args:
        progress: Holds the number of finished steps.
        every_step: Whether to wait for the device after every step, so that several processes end
            after the same one.
    """

    def __init__(self, progress: Progress, every_step: bool = False):
        super().__init__()
        self._progress = progress
        self._min_seconds = 0.0 if every_step else MIN_CHECK_SECONDS
        self._last_check = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last_check >= self._min_seconds:
            check_divergence(self.model, self._progress.step)
            self._last_check = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        check_divergence(self.model, self._progress.step)


class ProgressBar(keras.callbacks.Callback):
    """Progress bar of the finished steps or seconds and the time left, shown only on a terminal.

    It is also a context manager, so that the terminal is restored however the fit ends.

    Args:
        first_step: Number of steps that are finished already.
        total_steps: Number of steps of the run.
        budget: The time budget of the run; if there is one, the bar shows it instead.
    """

    def __init__(self, first_step: int, total_steps: int, budget: TimeBudget):
        super().__init__()
        self._budget = budget
        self._bar = rich_progress.Progress(
            "{task.description}",
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
            "left",
        )
        self._bar.disable = not self._bar.console.is_terminal
        if budget.seconds:
            self._task = self._bar.add_task(
                "training seconds", completed=round(budget.elapsed()), total=round(budget.seconds)
            )
        else:
            self._task = self._bar.add_task(
                "training steps", completed=first_step, total=total_steps
            )

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            self._bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        if self._budget.seconds:
            self._bar.update(self._task, completed=round(self._budget.elapsed()))
        else:
            self._bar.advance(self._task, self.model.steps_per_execution)
