"""One run, told in order: data, network, fit, predict, measure, record. Read this file first.

recipe ──► data ──► network ──► fit ──► predictions ──► metrics ──► run folder
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from errno import EACCES, EPERM, EROFS
from functools import cache
from os import strerror
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from cifar_models import BEGAN
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_toml
from cifar_models.config.run_identity import fingerprints
from cifar_models.data.dataset import Dataset, describe
from cifar_models.data.load import load_dataset
from cifar_models.data.splits import Splits, check_fits
from cifar_models.run.record import draw_figures, record_in_tensorboard
from cifar_models.runtime.device import Runtime, configure
from cifar_models.runtime.environment import changes, environment
from cifar_models.runtime.log import log_to_file
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.runtime.signals import Interruption, StopRequest, stop_request
from cifar_models.storage.atomic_files import WriteError, locked
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("cifar_models")


def run(recipe: Recipe, path: Path, evaluation_split: str = "test") -> dict:
    """Trains what the recipe says and records it in a new run folder.

    The test split is answered once, after training, and not at all where the run is measured on
    "validation", as the trials of a search are. Of its images no more is asked before that than
    their hashes.

    Args:
        recipe: what to train, on what, and how.
        path: of the run folder; made here, must be empty or absent.
        evaluation_split: "test" or "validation".

    Returns:
        The content of metrics.json.

    Raises:
        RequestError: the recipe does not fit the data, or the folder holds something.
        RunError: the data cannot be had, training diverged, or a file cannot be written.
        Interruption: Ctrl-C or SIGTERM; `resume` goes on.
    """
    RunFolder.refuse_if_taken(path)
    dataset = load_dataset(recipe.data)
    splits = dataset.splits(recipe.data, recipe.runtime.seed)
    check_fits(recipe, splits.train)
    import_tensorflow()  # takes seconds: a wrong request was answered before, wherever possible
    folder = RunFolder.create(path)
    with training_session(folder) as stop:
        runtime = configure(recipe.runtime)
        description = describe(dataset, splits)
        folder.write_recipe(recipe_toml(recipe))
        folder.write_environment(environment(runtime))
        folder.write_dataset(description)
        folder.write_fingerprints(fingerprints(recipe, description, evaluation_split))
        return carry_out(recipe, dataset, splits, runtime, folder, evaluation_split, stop)


def carry_out(
    recipe: Recipe,
    dataset: Dataset,
    splits: Splits,
    runtime: Runtime,
    folder: RunFolder,
    evaluation_split: str,
    stop: StopRequest,
) -> dict:
    """Trains from where the folder's newest checkpoint left off, measures and records."""
    from cifar_models.evaluation.flops import flops_per_image
    from cifar_models.evaluation.metrics import accuracy_and_loss, classification_metrics
    from cifar_models.evaluation.predictions import compile_predictions, predict_split
    from cifar_models.models.catalog import build_network
    from cifar_models.models.test_time_augmentation import with_test_time_augmentation
    from cifar_models.training.fit import fit
    from cifar_models.training.initialization import initialize_network

    def build() -> "keras.Model":
        shape = dataset.train.images.shape[1:]
        return build_network(recipe.model, shape, len(dataset.class_names))

    @cache  # each is compiled once
    def answering(network: "keras.Model") -> "keras.Model":
        answers = with_test_time_augmentation(network, recipe.augmentation.tta_views)
        answers.jit_compile = runtime.xla  # Keras would go by the device alone
        return answers

    def measure(network: "keras.Model") -> tuple[float, float]:
        predictions = predict_split(answering(network), splits.validation, dataset.class_names)
        return accuracy_and_loss(predictions.labels, predictions.probabilities)

    with (
        log_to_file(folder.log_path),
        closing(TensorBoardLog(folder.tensorboard_path)) as tensorboard,
    ):
        for what, was, is_now in changes(folder.read_environment(), environment(runtime)):
            logger.warning("%s was %s and is %s: the last bits may differ", what, was, is_now)
        network = build()
        began = perf_counter()
        initialize_network(network, recipe.model, splits.train.images)
        initialisation_seconds = perf_counter() - began
        logger.info(
            "%s: %s on %s, %d parameters, %d training images, %s, %s%s",
            recipe.name,
            recipe.architecture,
            dataset.name,
            network.count_params(),
            len(splits.train.labels),
            runtime.device,
            runtime.precision,
            ", XLA" if runtime.xla else "",
        )
        average = build() if recipe.training.ema_decay else None
        measured_network = average or network  # the one whose predictions are compiled
        validate = measure if len(splits.validation.labels) else None
        if validate:
            compile_predictions(answering(measured_network), splits.validation)
        report = fit(
            network, average, splits.train, validate, recipe, runtime, folder, tensorboard, stop
        )
        folder.write_model(network)
        if average:
            average.set_weights(network.get_weights())

        measured = splits.test if evaluation_split == "test" else splits.validation
        compile_predictions(answering(measured_network), measured)
        began = perf_counter()
        predictions = predict_split(answering(measured_network), measured, dataset.class_names)
        prediction_seconds = perf_counter() - began
        folder.write_predictions(
            predictions.labels, predictions.probabilities, predictions.class_names
        )
        metrics = {
            "recipe": recipe.name,
            "dataset": dataset.name,
            "split": evaluation_split,
            "seed": recipe.runtime.seed,
            **classification_metrics(
                predictions.labels, predictions.probabilities, predictions.class_names
            ),
            "parameters": network.count_params(),
            "flops_per_image": flops_per_image(network) * recipe.augmentation.tta_views,
            "tta_views": recipe.augmentation.tta_views,
            "epochs": report.epochs,
            "best_epoch": report.best_epoch,
            "steps": report.steps,
            "train_seconds": report.train_seconds,
            "compile_seconds": report.compile_seconds,
            "images_per_second": report.images_per_second,
            "initialisation_seconds": initialisation_seconds,
            "prediction_seconds": prediction_seconds,
            "device": runtime.device,
            "precision": runtime.precision,
        }
        draw_figures(folder, network, measured, predictions, f"{recipe.name} on {dataset.name}")
        record_in_tensorboard(tensorboard, folder, recipe, metrics)
        metrics["process_seconds"] = perf_counter() - BEGAN
        folder.write_metrics(metrics)  # last: its presence says that the run finished
        logger.info(
            "trained for %.1f s, %.1f %% of them for checkpoints",
            report.train_seconds,
            100 * report.saving_seconds / report.train_seconds,
        )
        logger.info(
            "%s accuracy %.4f, loss %.4f on %d images; %s",
            evaluation_split,
            metrics["accuracy"],
            metrics["loss"],
            len(predictions.labels),
            folder.path,
        )
    return metrics


@contextmanager
def training_session(folder: RunFolder) -> Iterator[StopRequest]:
    """Locks a folder, listens for signals, and adds to what ends the work how to go on with it."""
    try:
        with locked(folder.path), stop_request() as stop:
            yield stop
    except WriteError as error:
        # By its text, which TensorFlow's errors have too.
        forbidden = any(strerror(number) in str(error) for number in (EACCES, EPERM, EROFS))
        mend = "make the folder writable" if forbidden else "make room"
        mend += f", then: {folder.resume_command()}"
        if not folder.path.is_dir():
            mend = "the run folder is gone, and its checkpoints with it"
        raise WriteError(f"{error}; {mend}") from error
    except Interruption as interruption:
        if folder.has_begun() and folder.resume_command() not in str(interruption):
            interruption.args = (f"interrupted; go on with: {folder.resume_command()}",)
        raise
