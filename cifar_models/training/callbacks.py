"""What watches a fit: the record of each epoch, and the progress bar."""

import logging
import math
import time
from collections.abc import Callable

import keras
from rich import progress as rich_progress

from cifar_models.config.recipe import TrainingConfig
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.trainer import check_divergence, diverged

logger = logging.getLogger("cifar_models")

HISTORY_SECONDS = 1.0  # between two writings of history.csv, whose flushing takes 10 ms


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


class EpochRecord(keras.callbacks.Callback):
    """Measures each epoch and records it: history.csv, TensorBoard, a line of the log, the best.

    Validation is measured here and not by `fit`, so that it is the measurement of a finished run:
    the same predictions, the same arithmetic, to the last bit.

    Args:
        measure: network → accuracy and loss on the validation split; None where there is none.
    """

    def __init__(
        self,
        progress: Progress,
        stopwatch: Stopwatch,
        best: BestEpoch,
        measure: Callable[[keras.Model], tuple[float, float]] | None,
        folder: RunFolder,
        tensorboard: TensorBoardLog,
        recipe: TrainingConfig,
    ):
        super().__init__()
        self._progress = progress
        self._stopwatch = stopwatch
        self._best = best
        self._measure = measure
        self._folder = folder
        self._tensorboard = tensorboard
        self._recipe = recipe
        self._history_time = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        self._stopwatch.book("stepping")
        network, validation = self.model.measured_network, {}
        if self._measure:
            accuracy, loss = self._measure(network)
            if not math.isfinite(loss):
                raise diverged("validation loss is not finite", self.model, self._progress.step)
            validation = {"validation_loss": loss, "validation_accuracy": accuracy}
        self._stopwatch.book("validating")
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
            self._best.consider(epoch + 1, accuracy, network)
        self.model.stop_training = self._best.is_out_of_patience()
        self._show(row)

    def _show(self, row: dict) -> None:
        is_last = row["epoch"] == self._recipe.epochs or self.model.stop_training
        if is_last or time.monotonic() - self._history_time >= HISTORY_SECONDS:
            self._folder.write_history(self._progress.rows)
            self._history_time = time.monotonic()
        train = {"loss": row["train_loss"], "accuracy": row["train_accuracy"]}
        train["learning_rate"] = row["learning_rate"]
        if row["images_per_second"]:
            train["images_per_second"] = row["images_per_second"]
        self._tensorboard.scalars("train", row["step"], train)
        parts = ["train"]
        if "validation_loss" in row:
            parts.append("validation")
            validation = {"loss": row["validation_loss"], "accuracy": row["validation_accuracy"]}
            self._tensorboard.scalars("validation", row["step"], validation)
        measured = "  ".join(
            f"{part} loss {row[f'{part}_loss']:.4f} accuracy {row[f'{part}_accuracy']:.4f}"
            for part in parts
        )
        logger.info(
            "epoch %d/%d  %s  %.0f images/s",
            row["epoch"],
            self._recipe.epochs,
            measured,
            row["images_per_second"],
        )


class ProgressBar(keras.callbacks.Callback):
    """Shows the steps done and the time left on a terminal; elsewhere the log has to do.

    A context manager too, so that the terminal is whole again however the fit ends.
    """

    def __init__(self, first_step: int, total_steps: int):
        super().__init__()
        self._bar = rich_progress.Progress(
            "{task.description}",
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
            "left",
        )
        self._bar.disable = not self._bar.console.is_terminal
        self._task = self._bar.add_task("training steps", completed=first_step, total=total_steps)

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        self._bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        self._bar.advance(self._task, self.model.steps_per_execution)


SECONDS_BETWEEN_LOOKS = 1.0  # each waits for the device


class DivergenceGuard(keras.callbacks.Callback):
    """Fails the run soon after a step whose loss is NaN or infinite, and names that step."""

    def __init__(self, progress: Progress):
        super().__init__()
        self._progress = progress
        self._last_look = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last_look >= SECONDS_BETWEEN_LOOKS:
            check_divergence(self.model, self._progress.step)
            self._last_look = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        check_divergence(self.model, self._progress.step)
