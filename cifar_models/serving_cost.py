"""What a finished run costs to serve: latency, throughput, memory and size on disk."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from cifar_models.errors import RequestError, RunError
from cifar_models.recipe_file import read_recipe, with_values
from cifar_models.run import configure_as_trained
from cifar_models.run_folder import RunFolder
from cifar_models.runtime import import_tensorflow

BATCH_SIZES = (1, 128)  # images; the last one also gives the throughput
WARM_UP_CALLS = 5
LEAST_CALLS = 50
LEAST_SECONDS = 3.0  # of calls at each batch size
MEASURE = [sys.executable, "-m", "cifar_models.serving_cost"]


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
    path = folder.path
    result = subprocess.run([*MEASURE, str(path)], capture_output=True, text=True)
    if result.returncode < 0:
        name = signal.Signals(-result.returncode).name
        raise RunError(f"{path}: {name} ended the process that measured it; is memory short?")
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        if result.returncode == RequestError.exit_status:
            raise RequestError(reason)
        raise RunError(f"{path}: cannot be measured: {reason}")
    cost = json.loads(result.stdout.splitlines()[-1])
    folder.write_cost(cost)
    return cost


def measure_serving(folder: RunFolder) -> dict:
    """Measures in this process, which should be a new one, what `serving_costs` returns.

    The precision is that of the training; the images are noise of the run's image shape, since
    no network here takes longer for one image than for another.
    """
    recipe = read_recipe(str(folder.recipe_path))
    import_tensorflow()
    from cifar_models.models.restore import restore_network
    from cifar_models.serving.export import SavedNetwork

    # An export does not insist on the same bits, so a run that did must not look slow.
    runtime = configure_as_trained(folder, with_values(recipe, {"runtime.deterministic": False}))
    memory_of, memory_before = _peak_memory()
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
        "peak_memory_bytes": _peak_memory()[1],
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
    while len(seconds) < LEAST_CALLS or total < LEAST_SECONDS:
        began = perf_counter()
        call()
        seconds.append(perf_counter() - began)
        total += seconds[-1]
    return np.array(seconds)


def _peak_memory() -> tuple[str, int]:
    """Whose memory, and its peak so far in bytes."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "gpu", tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return "process", peak_of_process()


def peak_of_process() -> int:
    """The most memory that this process has held so far, in bytes."""
    try:  # Linux, whose ru_maxrss begins with the memory of whoever started the process
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def main() -> int:
    """Prints what `measure_serving` finds as JSON and returns the exit status."""
    try:
        print(json.dumps(measure_serving(RunFolder(Path(sys.argv[1])))))
    except RequestError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
