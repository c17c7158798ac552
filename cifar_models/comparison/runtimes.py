"""What the models of a comparison cost in each runtime in which `benchmark` measured them."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.models import Model
from cifar_models.storage.cost_records import RuntimeCost

# Name → column title.
RUNTIME_COLUMNS = {
    "latency_1_p50": "latency of 1 image, p50, ms",
    "latency_1_p99": "latency of 1 image, p99, ms",
    "latency_8_p50": "latency of 8 images, p50, ms",
    "latency_128_p50": "latency of 128 images, p50, ms",
    "images_per_second": "images/s",
    "startup_seconds": "start, s",
    "peak_memory_megabytes": "peak memory, MB",
    "model_megabytes": "model files, MB",
    "accuracy": "accuracy, %",
}
NOT_MEASURED = "–"


@dataclass(frozen=True)
class RuntimeRow:
    """A model in one runtime.

    Attributes:
        model: Name of the model.
        runtime: Name of the runtime, such as "keras" or "onnx-int8".
        device: The device, or several that are separated by commas.
        runs: Number of runs that were measured.
        values: Key of RUNTIME_COLUMNS → mean over these runs. Those that are missing were not
            measured.
    """

    model: str
    runtime: str
    device: str
    runs: int
    values: dict[str, float]

    def texts(self) -> list[str]:
        """Return a cell for each of RUNTIME_COLUMNS."""
        found = [self.values.get(name) for name in RUNTIME_COLUMNS]
        return [
            NOT_MEASURED if each is None else f"{each:,.{0 if each >= 1000 else 2}f}"
            for each in found
        ]


def runtime_rows(comparison: Comparison) -> list[RuntimeRow]:
    """Return a row for each model and each runtime in which one of its runs was measured."""
    return [row for model in comparison.models for row in _rows_of(model)]


def _rows_of(model: Model) -> Iterator[RuntimeRow]:
    measured = [run.runtimes.runtimes for run in model.runs if run.runtimes]
    for name in dict.fromkeys(name for each in measured for name in each):
        costs = [each[name] for each in measured if name in each]
        values = [_values(cost) for cost in costs]
        means = {
            key: float(np.mean([each[key] for each in values]))
            for key in RUNTIME_COLUMNS
            if all(key in each for each in values)
        }
        device = ", ".join(sorted({cost.device for cost in costs}))
        yield RuntimeRow(model.name, name, device, len(costs), means)


def _values(cost: RuntimeCost) -> dict[str, float]:
    values = {
        "images_per_second": cost.images_per_second,
        "startup_seconds": cost.startup_seconds,
        "peak_memory_megabytes": cost.peak_memory_bytes / 1e6,
        "model_megabytes": cost.model_bytes / 1e6,
    }
    for size, latency in cost.latency_ms.items():
        values[f"latency_{size}_p50"] = latency.p50
        if latency.p99 is not None:
            values[f"latency_{size}_p99"] = latency.p99
    if cost.accuracy is not None:
        values["accuracy"] = 100 * cost.accuracy
    return values


def runtimes_csv(rows: list[RuntimeRow]) -> str:
    """Return the rows as CSV, with full precision."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["model", "runtime", "device", "runs", *RUNTIME_COLUMNS])
    for row in rows:
        values = [row.values.get(name, "") for name in RUNTIME_COLUMNS]
        writer.writerow([row.model, row.runtime, row.device, row.runs, *values])
    return content.getvalue()
