"""Everything that a run needs before its first training step."""

import logging
from dataclasses import dataclass
from time import perf_counter

import keras

from cifar_models.errors import RequestError
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.evaluation.metrics import accuracy_and_loss
from cifar_models.evaluation.predictions import compile_predictions, predict_split
from cifar_models.models.catalog import build_network
from cifar_models.models.test_time_augmentation import (
    with_test_time_augmentation,
    without_test_time_augmentation,
)
from cifar_models.run.earlier_runs import EarlierRuns
from cifar_models.run.group_run import by_first
from cifar_models.run.load import FinishedRun
from cifar_models.run.teacher import compute_teacher_features
from cifar_models.runtime.environment import changes, environment
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.records import Environment
from cifar_models.training.callbacks import Validate
from cifar_models.training.class_weights import class_weights
from cifar_models.training.fit import make_trainer, resident_images
from cifar_models.training.initialization import initialize_network
from cifar_models.training.memory import out_of_memory_in_words
from cifar_models.training.run_context import RunContext
from cifar_models.training.start_weights import HEAD, copy_weights, freeze_body
from cifar_models.training.trainer import Trainer

logger = logging.getLogger("cifar_models")


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready for its first training step.

    Attributes:
        trainer: Network, augmentation, loss and optimizer.
        predictor: The evaluated network with its test-time augmentation.
        validate: Function that returns accuracy and loss on the validation split. None if there is
            no such split.
        flops_per_image: Operations of one prediction, with every TTA view.
        initialization_seconds: Time of data-dependent initialization.
    """

    trainer: Trainer
    predictor: keras.Model
    validate: Validate | None
    flops_per_image: int
    initialization_seconds: float


def prepare(context: RunContext, earlier: EarlierRuns) -> PreparedRun:
    """Build and initialize the network and its trainer, and compile the predictions."""
    recipe, runtime, data = context.recipe, context.runtime, context.data
    train, validation = data.splits.train, data.splits.validation
    for what, was, is_now in changes(context.folder.read(Environment), environment(runtime)):
        logger.warning("%s was %s and is %s: the last bits may differ", what, was, is_now)
    weights = class_weights(recipe.training.class_weights, train.labels, data.dataset.class_names)
    network = build_network(recipe.model, train.image_shape, len(data.dataset.class_names))
    flops = flops_per_image(network) * recipe.augmentation.tta_views
    began = perf_counter()
    obey_stop()
    initialize_network(network, recipe.model, train)
    obey_stop()
    if earlier.start:
        _start_from(earlier.start, network, context)
    initialization_seconds = perf_counter() - began
    _log_start(network, context)
    average = None
    if recipe.training.ema_decay:
        average = build_network(recipe.model, train.image_shape, len(data.dataset.class_names))
    predictor = with_test_time_augmentation(average or network, recipe.augmentation.tta_views)
    predictor.jit_compile = runtime.xla  # Keras would decide by the device only

    def validate() -> tuple[float, float]:
        with out_of_memory_in_words(recipe, lambda: "in the validation"):
            predictions = predict_split(predictor, validation, data.dataset.class_names)
        return accuracy_and_loss(predictions.labels, predictions.probabilities)

    if len(validation):
        compile_predictions(predictor, validation)
    features = compute_teacher_features(earlier.teacher, train)
    trainer = make_trainer(
        network,
        recipe,
        runtime,
        len(train) // recipe.training.batch_size,
        average,
        resident_images(train, runtime, features.maps if features else None),
    )
    if features:
        trainer.add_teacher(features)
    if weights is not None:
        trainer.weigh_classes(weights)
    return PreparedRun(
        trainer,
        predictor,
        by_first(runtime.group, validate) if len(validation) else None,
        flops,
        initialization_seconds,
    )


def _start_from(start: FinishedRun, network: keras.Model, context: RunContext) -> None:
    """Copy the weights of an earlier run, and freeze them if the recipe asks for that."""
    source = without_test_time_augmentation(start.load_network())
    same_classes = tuple(start.dataset.class_names) == context.data.dataset.class_names
    new = copy_weights(source, network, same_classes)
    if context.recipe.training.frozen_body:
        if new_body := [name for name in new if name != HEAD]:
            raise RequestError(
                f"training.frozen_body: layers {', '.join(new_body)} do not fit {start.path}, and "
                "would be frozen with random weights; leave it out, or use the same model table "
                "and images with as many channels"
            )
        freeze_body(network)


def _log_start(network: keras.Model, context: RunContext) -> None:
    height, width, _ = context.data.splits.train.image_shape
    size = context.recipe.model.image_size
    resized = "" if (height, width) == (size, size) else f", resized to {size}x{size}"
    logger.info(
        "%s: %s on %s, %d parameters, %d training images of %dx%d pixels%s, %s, %s%s",
        context.recipe.name,
        context.recipe.architecture,
        context.data.dataset.name,
        network.count_params(),
        len(context.data.splits.train),
        width,
        height,
        resized,
        context.runtime.device,
        context.runtime.precision,
        ", XLA" if context.runtime.xla else "",
    )
