"""Serving cost of a finished run: latency, throughput, memory and size on disk."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from cifar_models.benchmark.isolated_process import measure_isolated, peak_memory, print_record
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.runtime.memory import refuse_if_too_large
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.cost_records import Latency, ServingCost
from cifar_models.storage.open_run import open_finished_run
from cifar_models.storage.run_folder import RunFolder

BATCH_SIZES = (1, 128)  # the last one also gives the throughput
WARM_UP_CALLS = 5
MIN_CALLS = 50  # at each batch size
MIN_SECONDS = 3.0  # at each batch size
MEASURE = ["-m", "cifar_models.benchmark.serving_cost"]  # arguments of the new Python process


def measure_serving_costs(paths: Sequence[Path]) -> dict[Path, ServingCost]:
    """Measure finished runs, each in a new process, and record each cost in its run folder.

    Args:
        paths: Paths of the run folders. All are checked before the first one is measured.

    Returns:
        The cost of each run, by path.

    Raises:
        RequestError: A run is not finished, or its model file does not fit its recipe.
        RunError: A process failed, or cost.json cannot be written.
    """
    folders = {path: open_finished_run(path) for path in paths}
    return {path: _measure_and_record(folder) for path, folder in folders.items()}


def _measure_and_record(folder: RunFolder) -> ServingCost:
    cost = measure_isolated(ServingCost, [*MEASURE, str(folder.path)], str(folder.path))
    folder.write(cost)
    return cost


def measure_serving_cost(run: FinishedRun) -> ServingCost:
    """Measure the serving cost of a run in this process, which should be a new one.

    The precision is that of training. The images are noise of the run's image shape, because the
    time of a network does not depend on the content of images.

    Args:
        run: The finished run.
    """
    import_tensorflow()
    from cifar_models.serving.signature import SavedNetwork

    # An exported model is not deterministic, so a deterministic run must not look slow.
    runtime = run.configure(deterministic=False)
    memory_of, memory_before = peak_memory()
    names, resize = run.dataset.class_names, run.recipe.data.resize
    served = SavedNetwork(run.load_network(), names, resize)
    shape = (BATCH_SIZES[-1], *run.dataset.image_shape)
    what = f"{run.path}: {shape[0]} images of {shape[1]}x{shape[2]} pixels"
    refuse_if_too_large(5 * math.prod(shape), what, "measure it on a larger machine")
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def seconds_of_calls(batch_size: int) -> np.ndarray:
        batch = images[:batch_size]
        return time_calls(lambda: served.predict(batch)["probabilities"].numpy())

    seconds = {size: seconds_of_calls(size) for size in BATCH_SIZES}
    return ServingCost(
        latency_ms={str(size): latency_of(each) for size, each in seconds.items()},
        images_per_second=BATCH_SIZES[-1] / float(seconds[BATCH_SIZES[-1]].mean()),
        memory_of=memory_of,
        peak_memory_bytes=peak_memory()[1],
        memory_before_bytes=memory_before,
        model_bytes=run.folder.model_path.stat().st_size,
        device=runtime.device,
        precision=runtime.precision,
    )


def latency_of(seconds: np.ndarray) -> Latency:
    """Return the percentiles of the durations of calls, seconds, float64 (N,)."""
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(seconds, (50, 95, 99)))
    return Latency(p50=p50, p95=p95, p99=p99)


def time_calls(call: Callable[[], object]) -> np.ndarray:
    """Call a function repeatedly, and return the duration of each call.

    After WARM_UP_CALLS untimed calls, there are at least MIN_CALLS calls, for MIN_SECONDS or more.

    Args:
        call: Function to time.

    Returns:
        Durations, seconds, float64 (N,).
    """
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
    """Measure the run whose path is the first argument, and print its cost as JSON."""
    return print_record(lambda: measure_serving_cost(load_run(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
