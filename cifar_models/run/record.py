"""The end of a run: predicting the evaluation split, and recording model, metrics and figures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import BinaryIO

import keras
import numpy as np

from cifar_models.config.recipe_file import recipe_tables
from cifar_models.data.dataset import is_skewed
from cifar_models.evaluation.calibration import scale_temperature
from cifar_models.evaluation.metrics import classification_metrics
from cifar_models.evaluation.predictions import Predictions, compile_predictions, predict_split
from cifar_models.run.prepare import PreparedRun
from cifar_models.runtime.process_clock import PROCESS_START
from cifar_models.runtime.signals import obey_stop
from cifar_models.runtime.text import printable
from cifar_models.storage.records import RunMetrics
from cifar_models.training.fit import FitReport
from cifar_models.training.run_context import RunContext

logger = logging.getLogger("cifar_models")

MAX_CLASSES_NAMED = 10  # in a warning

# The metrics in TensorBoard's HParams tab.
FINAL_METRICS = ("accuracy", "loss", "f1_macro", "roc_auc_macro", "expected_calibration_error")


@dataclass(frozen=True)
class TimedPredictions:
    """Predictions of the evaluation split, their duration, and those of the validation split.

    Attributes:
        predictions: Predictions of the evaluation split.
        seconds: Duration of predicting them, without compilation.
        validation: Predictions of the validation split. None: there is none, or it is the
            evaluation split.
    """

    predictions: Predictions
    seconds: float
    validation: Predictions | None


def save_model(prepared: PreparedRun, context: RunContext) -> None:
    """Save the trained network, and give its weights to the predictor.

    The fit leaves the selected weights in the trained network. The predictor is built on the
    averaged network if the recipe averages weights.
    """
    trainer = prepared.trainer
    context.folder.write_model(trainer.network)
    if trainer.average:
        trainer.average.network.set_weights(trainer.network.get_weights())


def predict(prepared: PreparedRun, context: RunContext) -> TimedPredictions:
    """Predict with the trained network, and write the predictions of the evaluation split."""
    split, names = context.data.evaluated, context.data.dataset.class_names
    compile_predictions(prepared.predictor, split)
    began = perf_counter()
    predictions = predict_split(prepared.predictor, split, names)
    seconds = perf_counter() - began
    context.folder.write_predictions(
        predictions.labels, predictions.probabilities, predictions.class_names
    )
    validation_split, validation = context.data.splits.validation, None
    if context.data.evaluation_split == "test" and len(validation_split):
        validation = predict_split(prepared.predictor, validation_split, names)
    return TimedPredictions(predictions, seconds, validation)


def record(
    prepared: PreparedRun,
    report: FitReport,
    predicted: TimedPredictions,
    context: RunContext,
) -> RunMetrics:
    """Write metrics.json, which completes the run, then the figures and TensorBoard events.

    A trial of a search, which is measured on the validation split, has no figures: they would take
    longer than a short training, and the page of the search shows its trials.
    """
    recipe, data, predictions = context.recipe, context.data, predicted.predictions
    teacher = prepared.trainer.teacher
    teacher_seconds = teacher.seconds if teacher else 0.0
    scores = classification_metrics(
        predictions.labels, predictions.probabilities, predictions.class_names
    )
    metrics = RunMetrics(
        **vars(scores),
        recipe=recipe.name,
        dataset=data.dataset.name,
        split=data.evaluation_split,
        seed=recipe.runtime.seed,
        parameters=prepared.trainer.network.count_params(),
        flops_per_image=prepared.flops_per_image,
        tta_views=recipe.augmentation.tta_views,
        epochs=report.epochs,
        best_epoch=report.best_epoch,
        steps=report.steps,
        batch_size=recipe.training.batch_size,
        train_seconds=report.train_seconds + teacher_seconds,
        teacher_seconds=teacher_seconds,
        teacher=teacher.recipe if teacher else "",
        compile_seconds=report.compile_seconds,
        images_per_second=report.images_per_second,
        initialisation_seconds=prepared.initialization_seconds,
        prediction_seconds=predicted.seconds,
        device=context.runtime.device,
        precision=context.runtime.precision,
        process_seconds=perf_counter() - PROCESS_START,
        temperature_scaling=scale_temperature(predicted.validation, predictions),
    )
    context.folder.write(metrics)
    _log_end(metrics, report, context)
    _warn_of_unpredicted_classes(predictions)
    network = prepared.trainer.network
    if not data.is_of_trial:
        _attempt("figures", lambda: draw_figures(network, predictions, context))
    _attempt("TensorBoard", lambda: record_in_tensorboard(metrics, context))
    return metrics


def draw_figures(network: keras.Model, predictions: Predictions, context: RunContext) -> None:
    """Draw the figures of the run folder. A figure that fails is skipped with a warning."""
    from cifar_models.evaluation import figures

    folder, images = context.folder, context.data.evaluated
    title = f"{context.recipe.name} on {context.data.dataset.name}"
    drawings: dict[str, Callable[[BinaryIO], object]] = {
        "curves": lambda file: figures.draw_curves(folder.read_history(), title, file),
        "confusion_matrix": partial(figures.draw_confusion_matrix, predictions, title),
        "first_layer": partial(figures.draw_first_layer, network, f"first layer of {title}"),
        "sample_predictions": partial(figures.draw_sample_predictions, images, predictions),
    }
    for name, draw in drawings.items():
        _attempt(f"figure {name}", partial(folder.write_figure, name, draw))


def record_in_tensorboard(metrics: RunMetrics, context: RunContext) -> None:
    """Log two figures, if they were drawn, and the row of the HParams tab at the last step."""
    for name in ("confusion_matrix", "first_layer"):
        path = context.folder.figure_path(name)
        if not path.exists():
            continue
        log = partial(context.tensorboard.figure, name, metrics.steps, path)
        _attempt(f"figure {name} in TensorBoard", log)
    final = {
        f"final/{metrics.split}_{name}": getattr(metrics, name)
        for name in FINAL_METRICS
        if getattr(metrics, name) is not None
    }
    values = {
        f"{table}.{key}": value
        for table, content in recipe_tables(context.recipe).items()
        if isinstance(content, dict) and table != "search"
        for key, value in content.items()
    }
    log = partial(context.tensorboard.hyperparameters, metrics.steps, values, final)
    _attempt("hyperparameters in TensorBoard", log)


def _attempt(what: str, action: Callable[[], object]) -> None:
    """Run an action that a complete run does not need, and warn if it fails."""
    obey_stop()
    try:
        action()
    except Exception as error:
        obey_stop()
        logger.warning("%s: skipped: %s: %s", what, type(error).__name__, error)


def _warn_of_unpredicted_classes(predictions: Predictions) -> None:
    predicted = predictions.probabilities.argmax(axis=1)
    names = predictions.class_names
    missing = [names[label] for label in np.setdiff1d(np.arange(len(names)), predicted)]
    if missing:
        names_shown = printable(", ".join(missing[:MAX_CLASSES_NAMED]))
        more = f" and {len(missing) - MAX_CLASSES_NAMED} more"
        logger.warning(
            "no image was classified as %s%s; training.class_weights=balanced helps small classes",
            names_shown,
            more if len(missing) > MAX_CLASSES_NAMED else "",
        )


def _log_end(metrics: RunMetrics, report: FitReport, context: RunContext) -> None:
    logger.info(
        "trained for %.1f s, %.1f %% of it for checkpoints",
        report.train_seconds,
        100 * report.saving_seconds / report.train_seconds,
    )
    balanced = ""
    if is_skewed(np.array([scores.images for scores in metrics.per_class.values()])):
        balanced = f" (mean of the classes: {metrics.recall_macro:.4f})"
    logger.info(
        "%s accuracy %.4f%s, loss %.4f on %d images; %s",
        metrics.split,
        metrics.accuracy,
        balanced,
        metrics.loss,
        len(context.data.evaluated),
        context.folder.path,
    )
    if scaling := metrics.temperature_scaling:
        logger.info(
            "temperature %.3f, fitted on %d validation images, changes the %s calibration error "
            "from %.4f to %.4f; export --calibrated applies it",
            scaling.temperature,
            scaling.validation_images,
            metrics.split,
            metrics.expected_calibration_error,
            scaling.expected_calibration_error,
        )
