"""How fast batches come, how fast a training step is, and whether one waits for the other."""

import statistics
import time

from cifar_models.data.datasets import load_dataset
from cifar_models.data.splits import Split
from cifar_models.recipe import Recipe
from cifar_models.runtime import configure, import_tensorflow

FEEDING_BATCH = 1024  # images
FEEDING_STEPS = 2000
ROUNDS = 7  # the median counts
ROUND_SECONDS = 3.0


def benchmark(recipe: Recipe) -> dict[str, str | int | float]:
    """Measures a recipe on this machine, in images per second; nothing is written.

    The step is measured in turn on one constant batch and on the real stream of batches, so that
    a machine whose speed drifts treats both alike.

    Returns:
        recipe, device, batch, feeding (batches of 1,024, no training), constant_batch and real
        (training steps, augmentation included), and real_to_constant, the median ratio of the two.

    Raises:
        RequestError, RunError: the data cannot be had.
    """
    dataset = load_dataset(recipe.data)
    splits = dataset.splits(recipe.data, recipe.runtime.seed)
    import_tensorflow()
    from cifar_models.data.pipeline import make_training_batches
    from cifar_models.models.catalog import build_network
    from cifar_models.training.fit import make_trainer

    runtime = configure(recipe.runtime)
    batch_size = min(recipe.training.batch_size, len(splits.train.labels))
    network = build_network(recipe.model, dataset.train.images.shape[1:], len(dataset.class_names))
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=10**6)
    real = make_training_batches(splits.train, batch_size, 0, 0, 10**6)
    constant = real.take(1).cache().repeat()

    def seconds_of(batches, steps: int) -> float:
        began = time.perf_counter()
        trainer.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
        return time.perf_counter() - began

    seconds_of(constant, 2)  # compiles
    steps = max(2, round(5 * ROUND_SECONDS / seconds_of(constant, 5)))
    speeds = [
        (
            batch_size * steps / seconds_of(constant, steps),
            batch_size * steps / seconds_of(real, steps),
        )
        for _ in range(ROUNDS)
    ]
    return {
        "recipe": recipe.name,
        "device": runtime.device,
        "batch": batch_size,
        "feeding": round(_feeding_speed(splits.train)),
        "constant_batch": round(statistics.median(constant for constant, _ in speeds)),
        "real": round(statistics.median(real for _, real in speeds)),
        "real_to_constant": round(statistics.median(real / one for one, real in speeds), 3),
    }


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
