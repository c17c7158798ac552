"""What watches a fit: a stopwatch, the history, TensorBoard, the progress bar, the NaN guard."""

import logging
import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from cifar_models.errors import RunError
from cifar_models.run_folder import RunFolder
from cifar_models.tensorboard_log import TensorBoardLog

logger = logging.getLogger("cifar_models")


class Stopwatch(keras.callbacks.Callback):
    """Tells compiling, training and validating apart. All in seconds.

    Compiling is what passes until the first step is done; the step itself is short beside it.
    Training steps leave out that first one and the validation passes.
    """

    def on_train_begin(self, logs=None):
        self._began = time.perf_counter()
        self.compile_seconds = 0.0
        self._epoch_step_seconds = 0.0
        self._steps_seconds = 0.0
        self._steps = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = self._lap_began = time.perf_counter()
        self._epoch_steps = 0

    def on_train_batch_end(self, batch, logs=None):
        if not self.compile_seconds:
            float(logs["loss"])  # waits for the device
            self.compile_seconds = time.perf_counter() - self._began
            self._lap_began = time.perf_counter()
        else:
            self._epoch_steps += 1

    def on_test_begin(self, logs=None):
        self._end_training_part()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_seconds = time.perf_counter() - self._epoch_began

    def on_train_end(self, logs=None):
        self.train_seconds = time.perf_counter() - self._began - self.compile_seconds

    def _end_training_part(self):
        """Validation begins once an epoch, when the training steps are done."""
        if self._epoch_steps:
            self._epoch_step_seconds = time.perf_counter() - self._lap_began
            self._steps_seconds += self._epoch_step_seconds
            self._steps += self._epoch_steps

    def epoch_steps_per_second(self) -> float:
        """Of the epoch that has just ended; 0 where compiling was all of it."""
        return self._epoch_steps / self._epoch_step_seconds if self._epoch_steps else 0.0

    def steps_per_second(self) -> float:
        """Over the whole fit; 0 where compiling was all of it."""
        return self._steps / self._steps_seconds if self._steps else 0.0


class History(keras.callbacks.Callback):
    """Writes one row an epoch to history.csv and to TensorBoard, and a line to the log."""

    def __init__(
        self,
        folder: RunFolder,
        tensorboard: TensorBoardLog,
        stopwatch: Stopwatch,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        batch_size: int,
    ):
        super().__init__()
        self.rows: list[dict] = []
        self._folder = folder
        self._tensorboard = tensorboard
        self._stopwatch = stopwatch
        self._schedule = schedule
        self._batch_size = batch_size

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.model.optimizer.iterations)
        rate = float(self._schedule(step - 1))  # of the last step taken
        speed = self._stopwatch.epoch_steps_per_second() * self._batch_size
        train = {"loss": float(logs["loss"]), "accuracy": float(logs["accuracy"])}
        validation = {"loss": float(logs["val_loss"]), "accuracy": float(logs["val_accuracy"])}
        self.rows.append(
            {
                "epoch": epoch + 1,
                "step": step,
                "learning_rate": rate,
                "train_loss": train["loss"],
                "train_accuracy": train["accuracy"],
                "validation_loss": validation["loss"],
                "validation_accuracy": validation["accuracy"],
                "images_per_second": speed,
                "seconds": self._stopwatch.epoch_seconds,
            }
        )
        self._folder.write_history(self.rows)
        extra = {"learning_rate": rate, **({"images_per_second": speed} if speed else {})}
        self._tensorboard.scalars("train", step, {**train, **extra})
        self._tensorboard.scalars("validation", step, validation)
        logger.info(
            "epoch %d/%d  train loss %.4f accuracy %.4f  validation loss %.4f accuracy %.4f"
            "  %.0f images/s",
            epoch + 1,
            self.params["epochs"],
            train["loss"],
            train["accuracy"],
            validation["loss"],
            validation["accuracy"],
            speed,
        )


class AugmentedImages(keras.callbacks.Callback):
    """Shows TensorBoard what the network saw at the first step of each quarter of the run."""

    def __init__(
        self,
        tensorboard: TensorBoardLog,
        batch_at: Callable[[int], tuple[tf.Tensor, tf.Tensor]],
    ):
        super().__init__()
        self._tensorboard = tensorboard
        self._batch_at = batch_at

    def on_epoch_begin(self, epoch, logs=None):
        if epoch % max(self.params["epochs"] // 4, 1) == 0:
            step = int(self.model.optimizer.iterations)
            images, _ = self.model.augmented(*self._batch_at(step), tf.constant(step, tf.int32))
            self._tensorboard.images("augmented", step, mosaic(images[:16].numpy())[np.newaxis])


def mosaic(images: np.ndarray) -> np.ndarray:
    """Lays up to 16 images side by side, four a row: (N, H, W, C) → (4 (H + 1), 4 (W + 1), C)."""
    missing = 16 - len(images)
    tiles = np.pad(images, ((0, missing), (0, 1), (0, 1), (0, 0)), constant_values=128)
    _, height, width, channels = tiles.shape
    rows = tiles.reshape(4, 4, height, width, channels).transpose(0, 2, 1, 3, 4)
    return rows.reshape(4 * height, 4 * width, channels)


class ProgressBar(keras.callbacks.Callback):
    """Shows the steps done and the time left on a terminal; elsewhere the log has to do.

    A context manager too, so that the terminal is whole again however the fit ends.
    """

    def __init__(self, total_steps: int):
        super().__init__()
        self._progress = Progress(
            "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), "left"
        )
        self._progress.disable = not self._progress.console.is_terminal
        self._task = self._progress.add_task("training steps", total=total_steps)

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *error) -> None:
        self._progress.stop()

    def on_train_batch_end(self, batch, logs=None):
        self._progress.advance(self._task)


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Fails the run at the end of an epoch whose loss is NaN or infinite."""

    def on_epoch_end(self, epoch, logs=None):
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs[name]):
                raise RunError(
                    f"{name} is {logs[name]} in epoch {epoch + 1}: training diverged; lower "
                    "training.peak_learning_rate or set training.gradient_clip_norm"
                )
