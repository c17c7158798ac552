"""What a finished run costs to serve: latency, throughput, memory and size on disk."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from cifar_models.benchmark.isolated_process import peak_memory, print_json_result, run_isolated
from cifar_models.config.recipe_file import with_values
from cifar_models.run.load import configure_for_run
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.run_folder import RunFolder

BATCH_SIZES = (1, 128)  # images; the last one also gives the throughput
WARM_UP_CALLS = 5
MIN_CALLS = 50
MIN_SECONDS = 3.0  # of calls at each batch size
MEASURE = [sys.executable, "-m", "cifar_models.benchmark.serving_cost"]


def serving_costs(paths: Sequence[Path]) -> dict[Path, dict]:
    """Measures finished runs one after the other, and records the cost of each in its folder.

    Each has a process of its own: in one that did other work before, the peak of the memory
    would be that of the work.

    Args:
        paths: of finished runs; all are looked at before the first is measured.

    Returns:
        The content of each cost.json. latency_ms: for each batch size the median and the 95th
        percentile of one call, milliseconds, from an array of pixels to an array of
        probabilities. images_per_second: at the largest batch size. memory_of: "process", or
        "gpu" where there is one. peak_memory_bytes: once all is done, loading the model and
        every batch size included. memory_before_bytes: the same peak before the model was built.
        model_bytes: of model.keras. device, precision.

    Raises:
        RequestError: no finished run, or a model file that is not the recipe's.
        RunError: the process failed, or cost.json cannot be written.
    """
    folders = {path: RunFolder.open(path) for path in paths}
    return {path: _serving_cost(folder) for path, folder in folders.items()}


def _serving_cost(folder: RunFolder) -> dict:
    cost = run_isolated([*MEASURE, str(folder.path)], str(folder.path))
    folder.write_cost(cost)
    return cost


def measure_serving(folder: RunFolder) -> dict:
    """Measures in this process, which should be a new one, what `serving_costs` returns.

    The precision is that of the training; the images are noise of the run's image shape, since
    no network here takes longer for one image than for another.
    """
    recipe = folder.read_recipe()
    import_tensorflow()
    from cifar_models.run.load import restore_network
    from cifar_models.serving.signature import SavedNetwork

    # An export does not insist on the same bits, so a run that did must not look slow.
    runtime = configure_for_run(folder, with_values(recipe, {"runtime.deterministic": False}))
    memory_of, memory_before = peak_memory()
    dataset = folder.read_dataset()
    served = SavedNetwork(restore_network(folder), dataset["class_names"])
    shape = (BATCH_SIZES[-1], *dataset["image_shape"])
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def seconds_of_calls(batch_size: int) -> np.ndarray:
        batch = images[:batch_size]
        return time_calls(lambda: served.answer(batch)["probabilities"].numpy())

    seconds = {size: seconds_of_calls(size) for size in BATCH_SIZES}
    return {
        "latency_ms": {
            str(size): {f"p{part}": 1000 * float(np.percentile(each, part)) for part in (50, 95)}
            for size, each in seconds.items()
        },
        "images_per_second": BATCH_SIZES[-1] / float(seconds[BATCH_SIZES[-1]].mean()),
        "memory_of": memory_of,
        "peak_memory_bytes": peak_memory()[1],
        "memory_before_bytes": memory_before,
        "model_bytes": folder.model_path.stat().st_size,
        "device": runtime.device,
        "precision": runtime.precision,
    }


def time_calls(call: Callable[[], object]) -> np.ndarray:
    """Returns the seconds that each of many calls took, float64 (N,), after some to warm up."""
    for _ in range(WARM_UP_CALLS):
        call()
    seconds: list[float] = []
    total = 0.0
    while len(seconds) < MIN_CALLS or total < MIN_SECONDS:
        began = perf_counter()
        call()
        seconds.append(perf_counter() - began)
        total += seconds[-1]
    return np.array(seconds)


def main() -> int:
    """Prints what `measure_serving` finds as JSON and returns the exit status."""
    return print_json_result(lambda: measure_serving(RunFolder(Path(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
