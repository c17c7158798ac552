"""How fast batches come, how fast a training step is, and how near to what the device can do."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.benchmark.isolated_process import peak_memory, print_json_result, run_isolated
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import read_recipe, recipe_toml, with_values
from cifar_models.data.load import load_dataset
from cifar_models.data.splits import Split, check_fits
from cifar_models.runtime.device import Runtime, configure
from cifar_models.runtime.quiet_tensorflow import import_tensorflow

if TYPE_CHECKING:
    import keras

FEEDING_BATCH = 1024  # images
FEEDING_STEPS = 2000
ROUNDS = 7  # the median counts
ROUND_SECONDS = 3.0
TRAINING_PASSES = 3  # forward passes that a step costs, as the field counts: two of them backward
PRODUCT_SIZE = {"gpu": 4096, "process": 2048}  # of square matrices
PRODUCTS = {"gpu": 20, "process": 1}  # in one call, so that calling costs nothing beside them
MEASURE = [sys.executable, "-m", "cifar_models.benchmark.training_speed"]


def benchmarks(recipes: Sequence[Recipe]) -> list[dict]:
    """Measures recipes on this machine, each in a process of its own; nothing is kept on disk.

    Returns:
        What `measure_training` finds, for each recipe.

    Raises:
        RequestError, RunError: the data cannot be had, or the process failed.
    """
    found = []
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recipe.toml"
            path.write_text(recipe_toml(recipe), encoding="utf-8")
            found.append(run_isolated([*MEASURE, str(path)], recipe.name))
    return found


def measure_training(recipe: Recipe) -> dict[str, str | int | float]:
    """Measures the feeding and the training step of a recipe in this process, best a new one.

    The step, augmentation included, is measured in turn on one constant batch and on the real
    stream of batches, so that a machine whose speed drifts treats both alike.

    Returns:
        recipe, device, precision, batch (images). compile_seconds: until the first execution is
        over. feeding, constant_batch, real: images per second, of batches of 1,024 without
        training, and of the step. real_to_constant: the median ratio of the two. without_network:
        images per second of the step, had its network nothing to do: what feeding, augmenting and
        calling leave, the floor of its time. training_flops: per second, of the step on the real
        stream. matrix_product_flops: per second, their ceiling. utilisation: the ratio of the two.
        memory_of: "process", or "gpu" where there is one.
        peak_memory_bytes: after training. memory_before_bytes: the same peak before the model was
        built.

    Raises:
        RequestError, RunError: the data cannot be had, or the recipe asks for more than they have.
    """
    dataset = load_dataset(recipe.data)
    splits = dataset.splits(recipe.data, recipe.runtime.seed)
    batch_size = min(recipe.training.batch_size, len(splits.train.labels))
    recipe = with_values(recipe, {"training.batch_size": batch_size})
    check_fits(recipe, splits.train)
    import_tensorflow()
    from cifar_models.evaluation.flops import flops_per_image
    from cifar_models.models.catalog import build_network
    from cifar_models.training.fit import make_batches, make_trainer, resident_images

    runtime = configure(recipe.runtime)
    memory_of, memory_before = peak_memory()
    shape = dataset.train.images.shape[1:], len(dataset.class_names)
    network = build_network(recipe.model, *shape)
    average = build_network(recipe.model, *shape) if recipe.training.ema_decay else None
    resident = resident_images(splits.train, runtime)
    at_once = runtime.steps_per_execution

    def trainer_of(network, average=None):
        trainer = make_trainer(network, recipe, runtime, 10**6, average, resident)
        trainer.steps_per_execution = at_once
        return trainer

    def seconds_of(trainer, batches, executions: int) -> float:
        began = time.perf_counter()
        trainer.fit(batches, steps_per_epoch=executions * at_once, verbose=0, shuffle=False)
        return time.perf_counter() - began

    def speeds_of(trainer, *streams) -> list[tuple[float, ...]]:
        """Images per second on each stream, a tuple a round."""
        executions = max(2, round(5 * ROUND_SECONDS / seconds_of(trainer, streams[0], 5)))
        images = batch_size * executions * at_once
        return [
            tuple(images / seconds_of(trainer, stream, executions) for stream in streams)
            for _ in range(ROUNDS)
        ]

    trainer = trainer_of(network, average)
    real = make_batches(trainer, splits.train, recipe, 0, 10**6)
    constant = real.take(1).cache().repeat()
    compile_seconds = seconds_of(trainer, constant, 1)
    speeds = speeds_of(trainer, constant, real)
    real_speed = statistics.median(real for _, real in speeds)
    peak = peak_memory()[1]

    least = trainer_of(_minimal_network(*shape))
    seconds_of(least, real, 1)  # compiles
    floor_speed = statistics.median(speed for (speed,) in speeds_of(least, real))
    training, ceiling = training_flops(flops_per_image(network), real_speed), _ceiling(runtime)
    return {
        "recipe": recipe.name,
        "device": runtime.device,
        "precision": runtime.precision,
        "batch": batch_size,
        "compile_seconds": compile_seconds,
        "feeding": _feeding_speed(splits.train),
        "constant_batch": statistics.median(constant for constant, _ in speeds),
        "real": real_speed,
        "real_to_constant": statistics.median(real / one for one, real in speeds),
        "without_network": floor_speed,
        "training_flops": training,
        "matrix_product_flops": ceiling,
        "utilisation": training / ceiling,
        "memory_of": memory_of,
        "peak_memory_bytes": peak,
        "memory_before_bytes": memory_before,
    }


def _minimal_network(image_shape: tuple[int, int, int], num_classes: int) -> "keras.Model":
    """Returns a network that costs next to nothing: images → their mean colours → logits (B, K)."""
    import keras
    from keras import layers

    images = keras.Input(image_shape, dtype="uint8")
    x = layers.Rescaling(1 / 255, dtype="float32")(images)
    x = layers.GlobalAveragePooling2D()(x)  # (B, C)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32")(x))


def training_flops(flops_per_image: int, images_per_second: float) -> float:
    """Operations per second of a training step, whose gradients count as two forward passes."""
    return TRAINING_PASSES * flops_per_image * images_per_second


def _ceiling(runtime: Runtime) -> float:
    """Operations per second of large matrix products, in the precision of the step, and compiled
    as it is."""
    import keras
    import tensorflow as tf

    device = "gpu" if tf.config.list_physical_devices("GPU") else "process"
    size, dtype = PRODUCT_SIZE[device], keras.config.dtype_policy().compute_dtype
    noise = tf.random.stateless_uniform((size, size), seed=(0, 0), minval=-1.0)
    left, right = tf.cast(noise, dtype), tf.cast(noise * (3 / size) ** 0.5, dtype)

    @tf.function(jit_compile=runtime.xla)
    def multiply(matrix):
        for _ in range(PRODUCTS[device]):
            matrix = tf.matmul(matrix, right)  # whose entries are as large as those before
        return matrix

    return product_flops(size, PRODUCTS[device], lambda: float(multiply(left)[0, 0]))


def product_flops(size: int, products: int, multiply: Callable[[], object]) -> float:
    """Operations per second of the fastest of a few calls, after one to warm up.

    Args:
        size: of the square matrices.
        products: of two of them, in one call.
        multiply: the call.
    """
    multiply()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - began)
    return products * 2 * size**3 / min(seconds)


def _feeding_speed(train: Split) -> float:
    """Images per second of the pipeline alone, the median of a few passes."""
    from cifar_models.data.pipeline import make_training_batches

    batch_size = min(FEEDING_BATCH, len(train.labels))
    speeds = []
    for seed in range(ROUNDS):
        began = time.perf_counter()
        for _ in make_training_batches(train, batch_size, seed, 0, FEEDING_STEPS):
            pass
        speeds.append(batch_size * FEEDING_STEPS / (time.perf_counter() - began))
    return statistics.median(speeds)


if __name__ == "__main__":
    sys.exit(print_json_result(lambda: measure_training(read_recipe(sys.argv[1]))))
