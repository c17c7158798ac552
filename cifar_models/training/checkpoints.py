"""Checkpoints: the whole state of a fit, so that a resumed run equals an uninterrupted one.

A checkpoint holds every variable (weights, optimizer, metrics of an unfinished epoch, seed
generators, loss scale, averages), the weights of the best epoch, and `Progress`.
"""

import dataclasses
import logging
import math
import time

import keras
import msgspec
import numpy as np

from cifar_models.errors import RunError
from cifar_models.storage.checkpoint_file import (
    DamagedCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.run_context import RunContext
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.training.trainer import Trainer, check_divergence, divergence_error

logger = logging.getLogger("cifar_models")

BEST = "best/"  # prefix of the names of the best weights
MAX_RECORD_BYTES = 50_000_000  # of the history, which grows with the epochs
MAX_SAVING_FRACTION = 0.02  # of the training time that saves at the end of epochs may take
BYTES_PER_SECOND = 2e8  # estimated rate of the first save


class TrainingState:
    """The state of a fit: everything that it changes.

    Args:
        trainer: A compiled trainer; its optimizer is built here.
        progress: Progress of the run.
        best: Best epoch of the run.
    """

    def __init__(self, trainer: Trainer, progress: Progress, best: BestEpoch):
        if not trainer.optimizer.built:
            trainer.optimizer.build(trainer.trainable_variables)
        self._trainer = trainer
        self.progress = progress
        self._best = best

    def encoded(self) -> bytes:
        """Return the state as the content of a checkpoint.

        Raises:
            RunError: The state holds a NaN or infinite number, from which no run could resume.
        """
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                what = f"{self._variables()[name].path} is no longer finite"
                raise divergence_error(what, self._trainer, self.progress.step)
        arrays |= {f"{BEST}{i:05d}": array for i, array in enumerate(self._best.weights)}
        return encode_checkpoint(arrays, dataclasses.asdict(self.progress))

    def restore(self, folder: RunFolder) -> bool:
        """Load the newest undamaged checkpoint, and return whether there was one.

        Raises:
            RunError: Every checkpoint is damaged, or belongs to another run.
        """
        paths = folder.checkpoint_paths()
        for path in paths:
            try:
                content = folder.read_checkpoint(path, self._max_bytes())
                arrays, record = decode_checkpoint(content)
                if unknown := record.keys() - vars(self.progress).keys():
                    raise DamagedCheckpoint(f"its record has {min(unknown)}")
                progress = msgspec.convert(record, Progress)
            except (DamagedCheckpoint, ValueError) as error:
                logger.warning("%s: damaged; using the previous checkpoint: %s", path, error)
                continue
            if difference := self._first_mismatch(arrays, progress):
                raise RunError(f"{path}: belongs to another run: {difference} differs; remove it")
            vars(self.progress).update(vars(progress))
            for name, variable in self._variables().items():
                variable.assign(arrays[name])
            self._best.weights = [arrays[name] for name in sorted(arrays) if name.startswith(BEST)]
            return True
        if paths:
            raise RunError(
                f"{paths[0].parent}: every checkpoint is damaged; remove them to resume from step 0"
            )
        return False

    def _first_mismatch(self, arrays: dict[str, np.ndarray], progress: Progress) -> str | None:
        """Return the name of an entry that does not fit this run, or None if all of them do."""
        expected = self._variables()
        if any(name.startswith(BEST) for name in arrays):
            weights = self._trainer.network.weights
            expected |= {f"{BEST}{i:05d}": weight for i, weight in enumerate(weights)}
        shapes = {name: (tuple(v.shape), v.dtype) for name, v in expected.items()}
        found = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        if found != shapes:
            return min(dict(found.items() ^ shapes.items()))
        rows = progress.step // self._trainer.steps_per_epoch
        possible = {rows}
        if self._trainer.finished_fraction is not None:
            possible.add(rows + 1)  # a time budget may end within an epoch
        is_possible = (
            0 <= progress.step <= self._trainer.total_steps and len(progress.rows) in possible
        )
        return None if is_possible else "the step"

    def num_bytes(self) -> int:
        """Return the size of the variables, nearly all float32, without the best weights."""
        return 4 * sum(math.prod(variable.shape) for variable in self._variables().values())

    def _max_bytes(self) -> int:
        """Return the size above which a file cannot belong to this run."""
        # Twice the size for float64, and twice that for the best weights.
        return 2 * 2 * self.num_bytes() + MAX_RECORD_BYTES

    def _variables(self) -> dict[str, keras.Variable]:
        """Return position → variable. Keras' names depend on what else the process has built."""
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
    """Callback that saves the state after epochs, at intervals, and before a requested stop.

    The end of an epoch is saved if all saves together take at most 2 % of the training time, so a
    run of a few seconds has no checkpoint. Within long epochs, the state is saved every
    `runtime.checkpoint_seconds`; 0 saves after every step.

    Args:
        context: The run. Its folder gets the checkpoints; its stop request is read after each step.
        state: The state of the fit.
        stopwatch: Gets the time of saving.
    """

    def __init__(self, context: RunContext, state: TrainingState, stopwatch: Stopwatch):
        super().__init__()
        self._context = context
        self._state = state
        self._progress = state.progress
        self._stopwatch = stopwatch
        self._last_cost = state.num_bytes() / BYTES_PER_SECOND
        self._last_time = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self._progress.step % self.model.steps_per_epoch == 0:
            return  # on_epoch_end comes next, and records the epoch before it is saved
        is_stop_requested = self._context.stop.is_requested()
        if is_stop_requested or self._is_due():
            float(logs["loss"])  # waits for the device
            self._stopwatch.add_elapsed("stepping")
            self.save()
        if is_stop_requested:
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        cost = self._progress.saving + self._last_cost
        is_cheap = cost <= MAX_SAVING_FRACTION * self._progress.training_seconds
        # Read once: a request that comes later waits for the next step and its save.
        is_stop_requested = self._context.stop.is_requested()
        if is_stop_requested or is_cheap or self._is_due():
            self.save()
        if is_stop_requested:
            self._stop()

    def on_train_end(self, logs=None):
        if self._context.stop.is_requested():  # after the last step, or after its save
            self.save()
            self._stop()

    def _is_due(self) -> bool:
        seconds = self._context.recipe.runtime.checkpoint_seconds
        return time.monotonic() - self._last_time >= seconds

    def save(self) -> None:
        """Write a checkpoint of the current step."""
        check_divergence(self.model, self._progress.step)
        self._context.folder.write_checkpoint(self._progress.step, self._state.encoded())
        before = self._progress.saving
        self._stopwatch.add_elapsed("saving")
        self._last_cost = self._progress.saving - before
        self._last_time = time.monotonic()

    def _stop(self) -> None:
        self._context.stop.raise_if_requested(
            f"stopped after step {self._progress.step}; the state is saved; resume with: "
            f"{self._context.folder.resume_command()}"
        )
