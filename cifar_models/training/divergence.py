"""A loss that is NaN or infinite ends the run, and the message says where it began."""

import time

import keras

from cifar_models.errors import RunError
from cifar_models.training.progress import Progress
from cifar_models.training.trainer import NO_STEP, Trainer

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


def check_divergence(trainer: Trainer, step: int) -> None:
    """Raises RunError if any step so far had a loss that is NaN or infinite."""
    if int(trainer.diverged_step) != NO_STEP:
        raise diverged("the loss is no longer finite", trainer, step)


def diverged(what: str, trainer: Trainer, step: int) -> RunError:
    """Says where training diverged: at the step that was noted, or else at the last one done."""
    noted = int(trainer.diverged_step)
    at = step if noted == NO_STEP else noted + 1  # counted from 1
    return RunError(
        f"{what} at step {at}, learning rate {float(trainer.last_rate):.3g}: training diverged; "
        "lower training.peak_learning_rate or set training.gradient_clip_norm"
    )
