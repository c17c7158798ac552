"""Compile and fit."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import tensorflow as tf

from cifar_models.config.recipe import Recipe
from cifar_models.data.pipeline import MemoryImages, make_training_batches, make_training_indices
from cifar_models.data.splits import Split
from cifar_models.errors import RequestError
from cifar_models.optimizers.lookahead import Lookahead
from cifar_models.optimizers.optimizers import make_optimizer
from cifar_models.optimizers.weight_average import WeightAverage
from cifar_models.runtime.device import Runtime
from cifar_models.runtime.signals import StopRequest
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.augmented_images import log_augmented_images
from cifar_models.training.callbacks import DivergenceGuard, EpochRecord, ProgressBar, Stopwatch
from cifar_models.training.checkpoints import Checkpointer, TrainingState
from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.trainer import Trainer

logger = logging.getLogger("cifar_models")


@dataclass(frozen=True)
class FitReport:
    epochs: int  # that were trained
    best_epoch: int  # by validation accuracy, from 1; without validation the last
    steps: int
    compile_seconds: float
    train_seconds: float  # compiling apart, validation and saving included
    saving_seconds: float
    images_per_second: float  # of the training steps; 0 where there was but one


def fit(
    network: keras.Model,
    average: keras.Model | None,
    train: Split,
    measure: Callable[[keras.Model], tuple[float, float]] | None,
    recipe: Recipe,
    runtime: Runtime,
    folder: RunFolder,
    tensorboard: TensorBoardLog,
    stop: StopRequest,
) -> FitReport:
    """Trains the network in place, from the folder's newest checkpoint if it holds one.

    Afterwards the network holds the weights of the best epoch or of the last, averaged or not, as
    the recipe says.

    Args:
        network: uint8 (B, H, W, C) → float32 logits (B, K).
        average: another one like it where the recipe has an ema_decay, else None.
        train: the images.
        measure: network → accuracy and loss on the validation split; None where there is none.
        recipe, runtime: how.
        folder: gets history.csv and checkpoints.
        tensorboard: gets scalars and images.
        stop: obeyed after a step, when the state is saved.

    Raises:
        RunError: the loss is no longer finite, or something cannot be written.
        Interruption: a signal came.
    """
    training = recipe.training
    steps_per_epoch = len(train.labels) // training.batch_size
    total_steps = training.epochs * steps_per_epoch

    resident = resident_images(train, runtime)
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch, average, resident)

    progress = Progress()
    best = BestEpoch(progress, training.keep == "best", training.early_stopping_epochs)
    state = TrainingState(trainer, progress, best)
    if state.restore(folder):
        logger.info("goes on after step %d of %d", progress.step, total_steps)
    else:
        log_augmented_images(trainer, train, training.batch_size, training.epochs, tensorboard)
    most, wished = runtime.steps_per_execution, recipe.runtime.steps_per_execution
    trainer.steps_per_execution = choose_steps_per_execution(
        most, steps_per_epoch, progress.step, total_steps
    )
    if wished and trainer.steps_per_execution != wished:
        logger.info(
            "%d steps in one call, not %d, for the %d of an epoch and the step begun at",
            trainer.steps_per_execution,
            wished,
            steps_per_epoch,
        )
    stopwatch = Stopwatch(progress)
    callbacks = [
        stopwatch,
        DivergenceGuard(progress),
        EpochRecord(progress, stopwatch, best, measure, folder, tensorboard, training),
        Checkpointer(
            state, folder, stopwatch, steps_per_epoch, recipe.runtime.checkpoint_seconds, stop
        ),
    ]
    with stop.deferred(), ProgressBar(progress.step, total_steps) as progress_bar:
        for first_step, end_step in fit_segments(progress.step, steps_per_epoch, total_steps):
            if best.is_out_of_patience():
                break
            trainer.fit(
                make_batches(trainer, train, recipe, first_step, end_step),
                initial_epoch=first_step // steps_per_epoch,
                epochs=end_step // steps_per_epoch,
                steps_per_epoch=min(end_step - first_step, steps_per_epoch),
                shuffle=False,  # the batches come in random order already
                verbose=0,
                callbacks=[progress_bar, *callbacks],
            )
        stop.raise_if_requested(
            f"stopped after the last step; go on with: {folder.resume_command()}"
        )
    network.set_weights(best.weights or trainer.measured_network.get_weights())
    return FitReport(
        epochs=len(progress.rows),
        best_epoch=progress.best_epoch or len(progress.rows),
        steps=progress.step,
        compile_seconds=progress.compiling - progress.untimed_seconds,
        train_seconds=progress.training_seconds,
        saving_seconds=progress.saving,
        images_per_second=progress.images_per_second(training.batch_size),
    )


def choose_steps_per_execution(
    wished: int, steps_per_epoch: int, first_step: int, total_steps: int
) -> int:
    """Returns how many steps an execution takes: as many as wished, or fewer.

    Its multiples must meet the end of each epoch, from a step in the middle of one too: a
    checkpoint of a run that took other steps at once may lie anywhere. There are two executions at
    least, since the first cannot be timed.
    """
    length = math.gcd(steps_per_epoch, first_step)
    most = max(1, min(wished, (total_steps - first_step) // 2))
    return max(n for n in range(1, min(most, length) + 1) if length % n == 0)


def fit_segments(
    first_step: int, steps_per_epoch: int, total_steps: int
) -> Iterator[tuple[int, int]]:
    """Yields the (first, end) steps of each call of Keras' fit, whose epochs are all of one length.

    One call, and one before it for the rest of an epoch that was broken off.
    """
    end_of_epoch = -(-first_step // steps_per_epoch) * steps_per_epoch
    if first_step < end_of_epoch:
        yield first_step, end_of_epoch
    if end_of_epoch < total_steps:
        yield end_of_epoch, total_steps


def make_trainer(
    network: keras.Model,
    recipe: Recipe,
    runtime: Runtime,
    steps_per_epoch: int,
    average: keras.Model | None = None,
    resident: MemoryImages | None = None,
) -> Trainer:
    """Joins network, augmentation, loss and optimizer, compiled as the runtime says."""
    training = recipe.training
    total_steps = training.epochs * steps_per_epoch
    trainer = Trainer(
        network,
        recipe.augmentation,
        training.label_smoothing,
        recipe.runtime.seed,
        steps_per_epoch,
        total_steps,
        average and WeightAverage(network, average, training.ema_decay),
        Lookahead(network, training.lookahead_steps, training.lookahead_decay, total_steps)
        if training.lookahead_steps
        else None,
        resident,
    )
    trainer.compile(
        optimizer=make_optimizer(training, network, total_steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=runtime.xla,
    )
    return trainer


def resident_images(train: Split, runtime: Runtime) -> MemoryImages | None:
    """Returns the images in the memory of the device that trains, where the runtime allows.

    Raises:
        RequestError: TensorFlow would have to fetch them from there for each step.
    """
    if train.images.nbytes > runtime.resident_bytes:
        return None
    if tf.config.list_physical_devices("GPU") and not runtime.xla:
        raise RequestError(
            'runtime.data_on_device = "on" needs XLA on a GPU, where no kernel of TensorFlow '
            'gathers bytes; set it to "auto"'
        )
    return MemoryImages(train)


def make_batches(
    trainer: Trainer, train: Split, recipe: Recipe, first_step: int, end_step: int
) -> tf.data.Dataset:
    """Returns what the trainer's steps first_step … end_step - 1 are fed with."""
    where = recipe.training.batch_size, recipe.runtime.seed, first_step, end_step
    if trainer.resident:
        return make_training_indices(len(train.labels), *where)
    return make_training_batches(train, *where)
