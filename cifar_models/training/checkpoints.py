"""Checkpoints: the whole state of a fit, saved so that nothing can tell a resumed run from another.

A checkpoint holds every variable (weights, optimizer, metrics in the middle of an epoch, seed
generators, loss scale, averages), the best weights so far, and `Progress`.
"""

import dataclasses
import logging
import math
import time

import keras
import numpy as np

from cifar_models.errors import RunError
from cifar_models.runtime.signals import StopRequest
from cifar_models.storage.checkpoint_file import (
    DamagedCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training.callbacks import Stopwatch
from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.trainer import Trainer, check_divergence, diverged

logger = logging.getLogger("cifar_models")

BEST = "best/"  # begins the names of the best weights
MAX_RECORD_BYTES = 50_000_000  # of the history, which grows with the epochs
MAX_SAVING_FRACTION = 0.02  # of training that the saves at the ends of epochs may take
BYTES_PER_SECOND = 2e8  # of the first save, whose cost has to be guessed


class TrainingState:
    """All that a fit changes."""

    def __init__(self, trainer: Trainer, progress: Progress, best: BestEpoch):
        if not trainer.optimizer.built:
            trainer.optimizer.build(trainer.trainable_variables)
        self._trainer = trainer
        self.progress = progress
        self._best = best

    def encoded(self) -> bytes:
        """Returns the state as the content of a checkpoint.

        Raises:
            RunError: a number in it is NaN or infinite, so that nobody could go on from it.
        """
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                path = self._variables()[name].path
                raise diverged(f"{path} is no longer finite", self._trainer, self.progress.step)
        arrays |= {f"{BEST}{i:05d}": array for i, array in enumerate(self._best.weights)}
        return encode_checkpoint(arrays, dataclasses.asdict(self.progress))

    def restore(self, folder: RunFolder) -> bool:
        """Takes over the newest checkpoint that is whole; returns whether there was one.

        Raises:
            RunError: every checkpoint is damaged, or it is one of another run.
        """
        paths = folder.checkpoint_paths()
        for path in paths:
            try:
                if path.stat().st_size > self._most_bytes():
                    raise DamagedCheckpoint(f"{path.stat().st_size} bytes are too many")
                arrays, record = decode_checkpoint(path.read_bytes())
                progress = Progress(**record)
            except (DamagedCheckpoint, TypeError) as error:
                logger.warning("%s: damaged, the one before it is used: %s", path, error)
                continue
            if difference := self._difference(arrays, progress):
                raise RunError(f"{path}: is not of this run: {difference} differs; remove it")
            vars(self.progress).update(vars(progress))
            for name, variable in self._variables().items():
                variable.assign(arrays[name])
            self._best.weights = [arrays[name] for name in sorted(arrays) if name.startswith(BEST)]
            return True
        if paths:
            raise RunError(
                f"{paths[0].parent}: every checkpoint is damaged; remove them, and resume begins "
                "at step 0"
            )
        return False

    def _difference(self, arrays: dict[str, np.ndarray], progress: Progress) -> str | None:
        """The name of something that does not fit this network, optimizer or length."""
        expected = self._variables()
        if any(name.startswith(BEST) for name in arrays):
            weights = self._trainer.network.weights
            expected |= {f"{BEST}{i:05d}": weight for i, weight in enumerate(weights)}
        shapes = {name: (tuple(v.shape), v.dtype) for name, v in expected.items()}
        found = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        if found != shapes:
            return min(dict(found.items() ^ shapes.items()))
        rows = progress.step // self._trainer.steps_per_epoch
        is_possible = 0 <= progress.step <= self._trainer.total_steps and len(progress.rows) == rows
        return None if is_possible else "the step"

    def num_bytes(self) -> int:
        """What the variables take, nearly all of them float32; the best weights come on top."""
        return 4 * sum(math.prod(variable.shape) for variable in self._variables().values())

    def _most_bytes(self) -> int:
        """A file that is larger cannot be of this run, and would only fill the memory."""
        # Were all of them float64, and the best weights as many.
        return 2 * 2 * self.num_bytes() + MAX_RECORD_BYTES

    def _variables(self) -> dict[str, keras.Variable]:
        """By place, since the names that Keras makes up depend on what else the process built."""
        trainer = self._trainer
        groups = {
            "network": trainer.variables,
            "metrics": trainer.metrics_variables,
            "optimizer": trainer.optimizer.variables,
            "average": trainer.average.network.weights if trainer.average else [],
            "lookahead": trainer.lookahead.slow if trainer.lookahead else [],
        }
        return {
            f"{group}/{index:05d}": variable
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        }


class Checkpointer(keras.callbacks.Callback):
    """Saves the state by epoch, by time, and before a stop.

    The ends of epochs are saved as long as all saving takes no more than 2 % of the training
    time, so that a run of a few seconds ends without one. Where epochs are long, a save comes
    every `seconds`, whatever it costs.

    Args:
        state: what is saved.
        folder: where to.
        stopwatch: books the time that saving takes.
        steps_per_epoch: the last of them is saved after the epoch's end was recorded, not before.
        seconds: the most that a kill may cost; 0 saves after every step.
        stop: asked after every step.
    """

    def __init__(
        self,
        state: TrainingState,
        folder: RunFolder,
        stopwatch: Stopwatch,
        steps_per_epoch: int,
        seconds: float,
        stop: StopRequest,
    ):
        super().__init__()
        self._state = state
        self._progress = state.progress
        self._folder = folder
        self._stopwatch = stopwatch
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds
        self._stop = stop
        self._last_cost = state.num_bytes() / BYTES_PER_SECOND
        self._last_time = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self._progress.step % self._steps_per_epoch == 0:
            return  # the end of the epoch comes next
        is_requested = self._stop.is_requested()
        if is_requested or self._is_time():
            float(logs["loss"])  # waits for the device
            self._stopwatch.book("stepping")
            self._save()
        if is_requested:
            self._obey()

    def on_epoch_end(self, epoch, logs=None):
        cost = self._progress.saving + self._last_cost
        is_cheap = cost <= MAX_SAVING_FRACTION * self._progress.training_seconds
        is_requested = (
            self._stop.is_requested()
        )  # asked later, it waits for the next step and its save
        if is_requested or is_cheap or self._is_time():
            self._save()
        if is_requested:
            self._obey()

    def _is_time(self) -> bool:
        return time.monotonic() - self._last_time >= self._seconds

    def _save(self) -> None:
        check_divergence(self.model, self._progress.step)
        self._folder.write_checkpoint(self._progress.step, self._state.encoded())
        before = self._progress.saving
        self._stopwatch.book("saving")
        self._last_cost = self._progress.saving - before
        self._last_time = time.monotonic()

    def _obey(self) -> None:
        self._stop.raise_if_requested(
            f"stopped after step {self._progress.step}, which is saved; go on with: "
            f"{self._folder.resume_command()}"
        )
