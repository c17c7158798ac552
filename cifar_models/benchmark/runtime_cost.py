"""Speed, memory and accuracy of a finished run in each runtime that can serve it."""

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np

from cifar_models.benchmark.isolated_process import (
    measure_isolated,
    peak_of_process,
    print_record,
)
from cifar_models.benchmark.serving_cost import latency_of, time_calls
from cifar_models.config.paths import as_argument
from cifar_models.errors import RequestError, RunError
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.runtime.device import processor_name
from cifar_models.runtime.process_clock import PROCESS_START
from cifar_models.runtime.subprocesses import run_python
from cifar_models.serving.formats import EXPORT_FORMATS, FLOAT32, PRECISIONS
from cifar_models.serving.load_export import load_export
from cifar_models.serving.model_card import CARD_FILES
from cifar_models.storage.cost_records import RuntimeCost, RuntimeCosts
from cifar_models.storage.open_run import open_finished_run
from cifar_models.storage.run_folder import RunFolder

logger = logging.getLogger("cifar_models")

KERAS = "keras"
REDUCED = tuple(f"-{precision}" for precision in PRECISIONS if precision != FLOAT32)
BATCH_SIZES = (1, 8, 128)  # the last one also gives the throughput
ACCURACY_BATCH = 128  # images
MEASURE = ["-m", "cifar_models.benchmark.runtime_cost"]  # arguments of the new Python process

Predict = Callable[[np.ndarray], np.ndarray]


def runtime_names() -> list[str]:
    """Return the runtimes that are installed: keras, and formats with reduced precisions."""
    names = [KERAS]
    for name, each in EXPORT_FORMATS.items():
        if all(map(find_spec, (*each.packages, *each.export_packages))):
            names += [name if p == FLOAT32 else f"{name}-{p}" for p in each.precisions]
    return names


def default_runtimes() -> list[str]:
    """Return the installed runtimes without reduced precisions."""
    return [name for name in runtime_names() if not name.endswith(REDUCED)]


def measure_runtimes(paths: Sequence[Path], names: Sequence[str]) -> dict[Path, RuntimeCosts]:
    """Measure finished runs in several runtimes, and record the results in their run folders.

    The records keep earlier results of other runtimes.

    Each measurement runs in a new process, one after the other. Runtimes other than keras get an
    export, which is written to a temporary folder.

    Args:
        paths: Paths of the run folders.
        names: Some of `runtime_names`.

    Returns:
        Path → what was measured now. A runtime that fails is missing.

    Raises:
        RequestError: A run is not finished.
        RunError: No runtime could be measured, or the record cannot be written.
    """
    folders = {path: open_finished_run(path) for path in paths}
    return {path: _measure_and_record(folder, names) for path, folder in folders.items()}


def check_runtimes(names: Sequence[str]) -> list[str]:
    """Return the names without repetitions, or those of `default_runtimes` if there are none.

    Raises:
        RequestError: A runtime is unknown or not installed.
    """
    known = runtime_names()
    if unknown := [name for name in names if name not in known]:
        raise RequestError(
            f"--runtime {unknown[0]}: must be one of {', '.join(known)}; others are installed by: "
            "pip install '.[onnx,litert,openvino]' in the folder of the project"
        )
    return list(dict.fromkeys(names)) or default_runtimes()


def _measure_and_record(folder: RunFolder, names: Sequence[str]) -> RuntimeCosts:
    costs: dict[str, RuntimeCost] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            try:
                model = "" if name == KERAS else export_run(folder.path, name, Path(scratch))
                command = [*MEASURE, str(folder.path), model]
                costs[name] = measure_isolated(RuntimeCost, command, f"{folder.path}: {name}")
            except (RequestError, RunError) as error:
                logger.warning("%s: is left out: %s", name, error)
    if not costs:
        raise RunError(f"{folder.path}: could be measured in none of {', '.join(names)}")
    earlier = folder.read_if_there(RuntimeCosts)
    folder.write(RuntimeCosts(runtimes={**(earlier.runtimes if earlier else {}), **costs}))
    return RuntimeCosts(runtimes=costs)


def export_run(run: Path, name: str, scratch: Path) -> str:
    """Export a run in a new process, and return the path of the export."""
    format, _, precision = name.rpartition("-") if name.endswith(REDUCED) else (name, "", "")
    out = scratch / name
    command = ["-m", "cifar_models", "export", as_argument(run), "--out", str(out), "--force"]
    command += ["--format", format, "--precision", precision or FLOAT32]
    run_python(command, failure=f"{run}: {name}: cannot be measured")
    return str(out)


def measure_runtime(run: FinishedRun, export: str) -> RuntimeCost:
    """Measure one runtime in this process, which should be a new one.

    The images whose prediction is timed are noise of the run's image shape, because the time of a
    network does not depend on the content of images.

    Args:
        run: The finished run.
        export: Path of an export of it. Empty: the network of the run, in Keras.
    """
    memory_before = peak_of_process()
    predict, device, precision, model_bytes = open_runtime(run, export)
    shape = (BATCH_SIZES[-1], *run.dataset.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    predict(images[:1])
    startup_seconds = perf_counter() - PROCESS_START
    seconds = {size: time_calls(partial(predict, images[:size])) for size in BATCH_SIZES}
    return RuntimeCost(
        latency_ms={str(size): latency_of(each) for size, each in seconds.items()},
        images_per_second=BATCH_SIZES[-1] / float(np.median(seconds[BATCH_SIZES[-1]])),
        startup_seconds=startup_seconds,
        peak_memory_bytes=peak_of_process(),
        memory_before_bytes=memory_before,
        model_bytes=model_bytes,
        device=device,
        precision=precision,
        accuracy=_accuracy(run, predict),
    )


def open_runtime(run: FinishedRun, export: str) -> tuple[Predict, str, str, int]:
    """Return the function that predicts, the device, the precision, and the size in bytes."""
    if export:
        model = load_export(export)
        # Only a SavedModel needs TensorFlow, which is configured before it is used.
        uses_tensorflow = model.card.format == "saved_model"
        device = run.configure(deterministic=False).device if uses_tensorflow else processor_name()
        files = [each for each in Path(export).rglob("*") if each.is_file()]
        size = sum(each.stat().st_size for each in files if each.name not in CARD_FILES)
        return model.load(), device, model.card.precision, size
    runtime = run.configure(deterministic=False)
    network = run.load_network()
    import keras
    import tensorflow as tf

    @tf.function
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return keras.ops.softmax(network(images, training=False))

    size = run.folder.model_path.stat().st_size
    return lambda images: probabilities(images).numpy(), runtime.device, runtime.precision, size


def _accuracy(run: FinishedRun, predict: Predict) -> float | None:
    """Return the accuracy on the test split; None if the data cannot be loaded."""
    try:
        test = run.load_measured_data()[1].test
    except (RequestError, RunError):
        return None
    correct = 0
    for first in range(0, len(test), ACCURACY_BATCH):
        batch = slice(first, first + ACCURACY_BATCH)
        classes = predict(test.images_at(batch)).argmax(axis=1)
        correct += int((classes == test.labels[batch]).sum())
    return correct / len(test)


def main() -> int:
    """Measure the run and the export that the arguments name, and print the result as JSON."""
    path, export = sys.argv[1:]
    return print_record(lambda: measure_runtime(load_run(path), export))


if __name__ == "__main__":
    sys.exit(main())
