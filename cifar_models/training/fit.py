"""The fit of a network: its trainer, its input and its steps."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from cifar_models.config.recipe import Recipe
from cifar_models.data.pipeline import (
    ResidentImages,
    make_training_batches,
    make_training_indices,
)
from cifar_models.data.splits import Split, num_bytes
from cifar_models.errors import Paused, RequestError
from cifar_models.optimizers.lookahead import Lookahead
from cifar_models.optimizers.optimizers import make_optimizer
from cifar_models.optimizers.weight_average import WeightAverage
from cifar_models.runtime.device import Runtime
from cifar_models.training.augmented_images import log_augmented_images
from cifar_models.training.callbacks import (
    DivergenceGuard,
    EpochRecord,
    ProgressBar,
    Validate,
)
from cifar_models.training.checkpoints import Checkpointer, TrainingState
from cifar_models.training.data_parallel import refuse_indivisible
from cifar_models.training.group_fit import join_fit
from cifar_models.training.memory import out_of_memory_in_words
from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.run_context import RunContext
from cifar_models.training.start_weights import body_variables
from cifar_models.training.steps_per_execution import set_steps_per_execution
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.training.time_budget import TimeBudget
from cifar_models.training.time_left import TimeLeft
from cifar_models.training.trainer import Trainer

logger = logging.getLogger("cifar_models")


@dataclass(frozen=True)
class FitReport:
    """The length and the times of a fit.

    Attributes:
        epochs: Number of trained epochs.
        best_epoch: Epoch with the best validation accuracy, counted from 1. Without a validation
            split: the last one.
        steps: Number of training steps.
        compile_seconds: Duration of compilation.
        train_seconds: Duration without compilation, including validation and checkpoints.
        saving_seconds: Duration of writing checkpoints.
        images_per_second: Training images per second of the timed steps. 0 if none was timed.
    """

    epochs: int
    best_epoch: int
    steps: int
    compile_seconds: float
    train_seconds: float
    saving_seconds: float
    images_per_second: float


def make_trainer(
    network: keras.Model,
    recipe: Recipe,
    runtime: Runtime,
    steps_per_epoch: int,
    average: keras.Model | None = None,
    resident: ResidentImages | None = None,
) -> Trainer:
    """Build a compiled trainer from network, augmentation, loss and optimizer.

    Args:
        network: uint8 images (B, H, W, C) → float32 logits (B, K).
        recipe: The recipe.
        runtime: Settings of the process, of which `xla` and `devices` are used.
        steps_per_epoch: Number of steps in an epoch.
        average: A second network of the same architecture. None: the weights are not averaged.
        resident: The training images on the device. None: each batch is copied to it.

    Raises:
        RequestError: The batch cannot be divided among the devices.
    """
    training = recipe.training
    lookahead = None
    if training.lookahead_steps:
        total_steps = training.epochs * steps_per_epoch
        lookahead = Lookahead(
            network, training.lookahead_steps, training.lookahead_decay, total_steps
        )
    trainer = Trainer(
        network,
        recipe,
        steps_per_epoch,
        average and WeightAverage(network, average, training.ema_decay),
        lookahead,
        resident,
    )
    optimizer = make_optimizer(training, network, trainer.total_steps, trainer.finished_fraction)
    if training.body_learning_rate_factor != 1:
        optimizer.set_rate_factor(body_variables(network), training.body_learning_rate_factor)
    trainer.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=runtime.xla and runtime.num_parts == 1,  # XLA compiles for one device
    )
    if runtime.num_parts > 1:
        refuse_indivisible(training.batch_size, runtime.num_parts)
        trainer.train_on(runtime.devices, runtime.xla, runtime.group)
    return trainer


def fit(trainer: Trainer, validate: Validate | None, context: RunContext) -> FitReport:
    """Train the network in place, from the newest checkpoint of the run folder if there is one.

    Afterwards `trainer.network` holds the selected weights: those of the best or the last epoch,
    averaged or not, as the recipe says.

    Args:
        trainer: As `make_trainer` built it.
        validate: Function that returns accuracy and loss on the validation split. None if there is
            no such split.
        context: The run. Its folder gets history and checkpoints.

    Raises:
        RunError: The loss is no longer finite, memory is too small, or a file cannot be written.
        Interruption: A signal asked the run to stop. Its state is saved.
        Paused: The epochs before a pause are trained, and the run is not at its end.
    """
    training, train = context.recipe.training, context.data.splits.train
    progress = Progress()
    best = BestEpoch(progress, training.keep == "best", training.early_stopping_epochs)
    state = TrainingState(trainer, progress, best)
    if state.restore(context.folder):
        total = "" if training.budget_seconds else f" of {trainer.total_steps}"
        logger.info("resuming after step %d%s", progress.step, total)
    elif not context.data.is_of_trial:
        log_augmented_images(trainer, train, context.tensorboard)
    group_callbacks = join_fit(trainer, context, progress.step)
    set_steps_per_execution(trainer, context, progress.step)
    stopwatch = Stopwatch(progress)
    budget = TimeBudget(training.budget_seconds, progress, stopwatch)
    checkpointer = Checkpointer(context, state, stopwatch)
    callbacks = [
        stopwatch,
        budget,
        TimeLeft(context, progress, trainer.total_steps, budget),
        DivergenceGuard(progress, every_step=context.runtime.group is not None),
        *group_callbacks,
        EpochRecord(context, progress, stopwatch, best, budget, validate),
        checkpointer,
    ]
    steps_before_pause = context.pause_after * trainer.steps_per_epoch
    end_step = min(trainer.total_steps, steps_before_pause or trainer.total_steps)
    with (
        context.stop.deferred(),
        ProgressBar(progress.step, trainer.total_steps, budget) as progress_bar,
    ):
        for segment in fit_segments(progress.step, trainer.steps_per_epoch, end_step):
            if best.is_out_of_patience() or budget.is_spent():
                break
            with out_of_memory_in_words(context.recipe, lambda: f"in step {progress.step + 1}"):
                _fit_segment(trainer, train, segment, [progress_bar, *callbacks])
        context.stop.raise_if_requested(
            f"stopped after the last step; resume with: {context.folder.resume_command()}"
        )
    is_at_end = best.is_out_of_patience() or budget.is_spent()
    if progress.step < trainer.total_steps and not is_at_end:
        checkpointer.save()
        raise Paused
    trainer.network.set_weights(best.weights or trainer.evaluated_network.get_weights())
    return _report(progress, training.batch_size)


def _report(progress: Progress, batch_size: int) -> FitReport:
    return FitReport(
        epochs=len(progress.rows),
        best_epoch=progress.best_epoch or len(progress.rows),
        steps=progress.step,
        compile_seconds=progress.compiling - progress.untimed_seconds,
        train_seconds=progress.training_seconds,
        saving_seconds=progress.saving,
        images_per_second=progress.images_per_second(batch_size),
    )


def fit_segments(
    first_step: int, steps_per_epoch: int, total_steps: int
) -> Iterator[tuple[int, int]]:
    """Yield the (first, end) steps of each call of Keras' fit, whose epochs all have one length.

    There is one call, and before it another one for the rest of an interrupted epoch.
    """
    end_of_epoch = -(-first_step // steps_per_epoch) * steps_per_epoch
    if first_step < end_of_epoch:
        yield first_step, end_of_epoch
    if end_of_epoch < total_steps:
        yield end_of_epoch, total_steps


def _fit_segment(trainer: Trainer, train: Split, segment: tuple[int, int], callbacks) -> None:
    first_step, end_step = segment
    trainer.fit(
        make_batches(trainer, train, first_step, end_step),
        initial_epoch=first_step // trainer.steps_per_epoch,
        epochs=end_step // trainer.steps_per_epoch,
        steps_per_epoch=min(end_step - first_step, trainer.steps_per_epoch),
        shuffle=False,  # the batches are in random order already
        verbose=0,
        callbacks=callbacks,
    )


def resident_images(
    train: Split, runtime: Runtime, feature_maps: np.ndarray | None = None
) -> ResidentImages | None:
    """Copy the images to the training device, or return None if they are larger than allowed.

    Raises:
        RequestError: XLA is off on a GPU, or there are several; the images would be copied back.
    """
    if num_bytes(train) > runtime.resident_bytes:
        return None
    if tf.config.list_physical_devices("GPU") and not (runtime.xla and runtime.num_parts == 1):
        raise RequestError(
            'runtime.data_on_device = "on" needs XLA on one GPU, because TensorFlow has no GPU '
            'kernel that gathers bytes; set it to "auto"'
        )
    return ResidentImages(train, feature_maps)


def make_batches(trainer: Trainer, train: Split, first_step: int, end_step: int) -> tf.data.Dataset:
    """Return the input of the trainer's steps first_step to end_step - 1."""
    recipe = trainer.recipe
    batch_size, seed = recipe.training.batch_size, recipe.runtime.seed
    if trainer.resident:
        return make_training_indices(len(train), batch_size, seed, first_step, end_step)
    maps = trainer.teacher.maps if trainer.teacher else None
    return make_training_batches(train, batch_size, seed, first_step, end_step, maps)
