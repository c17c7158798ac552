"""Compile and fit."""

from dataclasses import dataclass

import keras

from cifar_models.data.pipeline import make_ordered_batches, make_training_batches
from cifar_models.data.splits import Splits
from cifar_models.recipe import Recipe
from cifar_models.run_folder import RunFolder
from cifar_models.runtime import Runtime
from cifar_models.tensorboard_log import TensorBoardLog
from cifar_models.training.callbacks import (
    AugmentedImages,
    History,
    ProgressBar,
    StopOnNonFiniteLoss,
    Stopwatch,
)
from cifar_models.training.optimizers import make_optimizer, make_schedule
from cifar_models.training.trainer import Trainer

VALIDATION_BATCH = 512  # images


@dataclass(frozen=True)
class FitReport:
    epochs: int  # that were trained
    best_epoch: int  # by validation accuracy, from 1
    steps: int
    compile_seconds: float
    train_seconds: float  # compiling apart, validation included
    images_per_second: float  # of the training steps; 0 where there was but one


def fit(
    network: keras.Model,
    splits: Splits,
    recipe: Recipe,
    runtime: Runtime,
    folder: RunFolder,
    tensorboard: TensorBoardLog,
) -> FitReport:
    """Trains the network in place, writing history and TensorBoard events as it goes.

    Afterwards the network holds the weights of the best epoch or of the last, as the recipe says.

    Raises:
        RunError: the loss is no longer finite.
    """
    training = recipe.training
    steps_per_epoch = len(splits.train.labels) // training.batch_size
    total_steps = training.epochs * steps_per_epoch

    def batches(first_step: int, end_step: int):
        seed = recipe.runtime.seed
        return make_training_batches(splits.train, training.batch_size, seed, first_step, end_step)

    trainer = make_trainer(network, recipe, runtime, total_steps)
    stopwatch = Stopwatch()
    schedule = make_schedule(training, total_steps)
    history = History(folder, tensorboard, stopwatch, schedule, training.batch_size)
    best = keras.callbacks.EarlyStopping(
        monitor="val_accuracy",
        mode="max",
        patience=training.early_stopping_epochs or training.epochs,
        restore_best_weights=training.keep == "best",
    )
    augmented = AugmentedImages(tensorboard, lambda step: next(iter(batches(step, step + 1))))
    with ProgressBar(total_steps) as progress_bar:
        trainer.fit(
            batches(0, total_steps),
            epochs=training.epochs,
            steps_per_epoch=steps_per_epoch,
            validation_data=make_ordered_batches(splits.validation, VALIDATION_BATCH),
            shuffle=False,  # the batches come in random order already
            verbose=0,
            callbacks=[progress_bar, stopwatch, StopOnNonFiniteLoss(), history, augmented, best],
        )
    return FitReport(
        epochs=len(history.rows),
        best_epoch=best.best_epoch + 1,
        steps=int(trainer.optimizer.iterations),
        compile_seconds=stopwatch.compile_seconds,
        train_seconds=stopwatch.train_seconds,
        images_per_second=stopwatch.steps_per_second() * training.batch_size,
    )


def make_trainer(
    network: keras.Model, recipe: Recipe, runtime: Runtime, total_steps: int
) -> Trainer:
    """Joins network, augmentation, loss and optimizer, compiled as the runtime says."""
    trainer = Trainer(
        network,
        recipe.augmentation,
        recipe.training.label_smoothing,
        recipe.runtime.seed,
        total_steps,
    )
    trainer.compile(
        optimizer=make_optimizer(recipe.training, network, total_steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=runtime.xla,
    )
    return trainer
