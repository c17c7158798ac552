"""Speed of training: input pipeline, training step, and utilization of the device."""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.benchmark.isolated_process import measure_isolated, peak_memory, print_record
from cifar_models.benchmark.matrix_products import measure_matrix_products
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.data.load import load_dataset
from cifar_models.data.recipe_fit import check_fits, with_fitting_batch
from cifar_models.data.splits import Split
from cifar_models.errors import RequestError
from cifar_models.runtime.device import Runtime, configure
from cifar_models.runtime.onednn import choose_onednn
from cifar_models.runtime.quiet_tensorflow import import_tensorflow

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from cifar_models.data.pipeline import ResidentImages
    from cifar_models.training.trainer import Trainer

INPUT_BATCH = 1024  # images
INPUT_STEPS = 2000  # batches in one measurement of the input pipeline, at most
INPUT_BYTES = 6 * 10**9  # of the images in one measurement, at most: they take seconds
MAX_STEPS = 10**6  # more than any measurement takes
ROUNDS = 7  # the result is their median
ROUND_SECONDS = 3.0
MEASURE = ["-m", "cifar_models.benchmark.training_speed"]  # arguments of the new Python process


@dataclass(frozen=True, kw_only=True)
class TrainingSpeed:
    """The speed of training a recipe on this machine.

    Attributes:
        recipe: Name of the recipe.
        device: Name of the processor that trains.
        precision: Keras dtype policy.
        batch_size: Number of images in a training batch.
        compile_seconds: Time of the first execution, which includes compilation.
        input_images_per_second: Speed of the input pipeline without training, in batches of 1,024.
        constant_images_per_second: Speed of the training step, including augmentation, on one batch
            that is repeated.
        images_per_second: Speed of the training step on the batches of the input pipeline.
        real_to_constant: Median ratio of images_per_second to constant_images_per_second, both
            measured alternately.
        minimal_images_per_second: Speed of the training step with a network that costs almost
            nothing. What remains is input, augmentation and the overhead of the call.
        flops_per_second: Floating-point operations of the training step per second.
        max_flops_per_second: Floating-point operations of large matrix products per second.
        utilization: Ratio of flops_per_second to max_flops_per_second.
        memory_of: Kind of the measured memory: "gpu" if there is one, otherwise "process".
        peak_memory_bytes: Peak of that memory after training.
        memory_before_bytes: The same peak before the network was built.
    """

    recipe: str
    device: str
    precision: str
    batch_size: int
    compile_seconds: float
    input_images_per_second: float
    constant_images_per_second: float
    images_per_second: float
    real_to_constant: float
    minimal_images_per_second: float
    flops_per_second: float
    max_flops_per_second: float
    utilization: float
    memory_of: str
    peak_memory_bytes: int
    memory_before_bytes: int


def measure_training_speeds(recipes: Sequence[Recipe]) -> list[TrainingSpeed]:
    """Measure recipes on this machine, each in a new process. Nothing is kept on disk.

    Args:
        recipes: The recipes, resolved.

    Raises:
        RequestError, RunError: A recipe needs a teacher, the data cannot be loaded, or the process
            failed.
    """
    for recipe in recipes:
        if recipe.training.teacher_weight:
            raise RequestError(
                f"{recipe.name}: its step needs the features of a teacher, which benchmark does "
                "not have; measure it without: --set training.teacher_weight=0"
            )
    speeds = []
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recipe.toml"
            path.write_text(recipe_toml(recipe), encoding="utf-8")
            speeds.append(measure_isolated(TrainingSpeed, [*MEASURE, str(path)], recipe.name))
    return speeds


def measure_training_speed(recipe: Recipe) -> TrainingSpeed:
    """Measure the training speed of a recipe in this process, which should be a new one.

    The training step is measured alternately on one constant batch and on the real batches, so
    that a drift of the machine's speed affects both equally.

    Args:
        recipe: The recipe. Its batch size is lowered as in `train`.

    Raises:
        RequestError, RunError: The data cannot be loaded, or is too small for the recipe.
    """
    choose_onednn(recipe.runtime.onednn)
    dataset = load_dataset(recipe)
    train = dataset.splits(recipe.data, recipe.runtime.seed).train
    recipe = with_fitting_batch(recipe, train)
    check_fits(recipe, train)
    import_tensorflow()
    from cifar_models.evaluation.flops import flops_per_image, training_flops
    from cifar_models.models.catalog import build_network
    from cifar_models.training.fit import make_batches, resident_images

    runtime = configure(recipe.runtime)
    memory_of, memory_before = peak_memory()
    shape = train.image_shape, len(dataset.class_names)
    network = build_network(recipe.model, *shape)
    average = build_network(recipe.model, *shape) if recipe.training.ema_decay else None
    resident = resident_images(train, runtime)
    trainer = _make_trainer(network, recipe, runtime, resident, average)
    real = make_batches(trainer, train, 0, MAX_STEPS)
    constant = real.take(1).cache().repeat()
    compile_seconds = _time_executions(trainer, constant, 1)
    pairs = _measure_speeds(trainer, constant, real)
    images_per_second = statistics.median(real for _, real in pairs)
    peak = peak_memory()[1]

    minimal = _make_trainer(_minimal_network(*shape), recipe, runtime, resident)
    _time_executions(minimal, real, 1)  # compiles
    minimal_speed = statistics.median(speed for (speed,) in _measure_speeds(minimal, real))
    flops_per_second = training_flops(flops_per_image(network), images_per_second)
    max_flops_per_second = measure_matrix_products(runtime)
    return TrainingSpeed(
        recipe=recipe.name,
        device=runtime.device,
        precision=runtime.precision,
        batch_size=recipe.training.batch_size,
        compile_seconds=compile_seconds,
        input_images_per_second=_measure_input(train),
        constant_images_per_second=statistics.median(constant for constant, _ in pairs),
        images_per_second=images_per_second,
        real_to_constant=statistics.median(real / constant for constant, real in pairs),
        minimal_images_per_second=minimal_speed,
        flops_per_second=flops_per_second,
        max_flops_per_second=max_flops_per_second,
        utilization=flops_per_second / max_flops_per_second,
        memory_of=memory_of,
        peak_memory_bytes=peak,
        memory_before_bytes=memory_before,
    )


def _make_trainer(
    network: "keras.Model",
    recipe: Recipe,
    runtime: Runtime,
    resident: "ResidentImages | None",
    average: "keras.Model | None" = None,
) -> "Trainer":
    """Build a trainer that takes as many steps in one call as the runtime allows."""
    from cifar_models.training.fit import make_trainer

    trainer = make_trainer(network, recipe, runtime, MAX_STEPS, average, resident)
    # As before a run: a step that creates the optimizer's variables would be traced twice.
    trainer.optimizer.build(trainer.trainable_variables)
    trainer.steps_per_execution = runtime.steps_per_execution
    return trainer


def _time_executions(trainer: "Trainer", batches: "tf.data.Dataset", executions: int) -> float:
    """Return the duration of a number of executions, in seconds."""
    steps = executions * trainer.steps_per_execution
    began = time.perf_counter()
    trainer.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
    return time.perf_counter() - began


def _measure_speeds(trainer: "Trainer", *streams: "tf.data.Dataset") -> list[tuple[float, ...]]:
    """Return images per second on each stream of batches, one tuple for each round."""
    executions = max(2, round(5 * ROUND_SECONDS / _time_executions(trainer, streams[0], 5)))
    batch_size = trainer.recipe.training.batch_size
    images = batch_size * executions * trainer.steps_per_execution
    return [
        tuple(images / _time_executions(trainer, stream, executions) for stream in streams)
        for _ in range(ROUNDS)
    ]


def _minimal_network(image_shape: tuple[int, int, int], num_classes: int) -> "keras.Model":
    """Build a network that costs almost nothing: images → mean colours → logits (B, K)."""
    import keras
    from keras import layers

    images = keras.Input(image_shape, dtype="uint8")
    x = layers.Rescaling(1 / 255, dtype="float32")(images)
    x = layers.GlobalAveragePooling2D()(x)  # (B, C)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32")(x))


def _measure_input(train: Split) -> float:
    """Return images per second of the input pipeline without training, the median of ROUNDS."""
    from cifar_models.data.pipeline import make_training_batches

    batch_size = min(INPUT_BATCH, len(train))
    fitting = INPUT_BYTES // (batch_size * math.prod(train.image_shape))
    steps = max(2, min(INPUT_STEPS, fitting))
    speeds = []
    for seed in range(ROUNDS):
        began = time.perf_counter()
        for _ in make_training_batches(train, batch_size, seed, 0, steps):
            pass
        speeds.append(batch_size * steps / (time.perf_counter() - began))
    return statistics.median(speeds)


if __name__ == "__main__":
    sys.exit(print_record(lambda: measure_training_speed(read_recipe(sys.argv[1]))))
