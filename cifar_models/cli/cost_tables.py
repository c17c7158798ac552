"""Tables of speed, memory and size, which `benchmark` prints."""

from collections.abc import Callable
from pathlib import Path

from rich.filesize import decimal

from cifar_models.benchmark.runtime_cost import BATCH_SIZES
from cifar_models.benchmark.training_speed import TrainingSpeed
from cifar_models.cli.tables import print_table, text_table
from cifar_models.storage.cost_records import RuntimeCost, RuntimeCosts, ServingCost


def _memory(measured: TrainingSpeed | ServingCost | RuntimeCost) -> str:
    return f"{decimal(measured.peak_memory_bytes)}, {decimal(measured.memory_before_bytes)}"


def _step_milliseconds(speed: TrainingSpeed, images_per_second: float) -> str:
    return f"{1000 * speed.batch_size / images_per_second:.3g}"


# Label of the row → text of a cell.
TRAINING_SPEED_ROWS: dict[str, Callable[[TrainingSpeed], str]] = {
    "device": lambda speed: speed.device,
    "precision": lambda speed: speed.precision,
    "batch size": lambda speed: f"{speed.batch_size:,}",
    "compilation and first step, s": lambda speed: f"{speed.compile_seconds:.1f}",
    "input pipeline, images/s": lambda speed: f"{speed.input_images_per_second:,.0f}",
    "training on one batch, images/s": lambda speed: f"{speed.constant_images_per_second:,.0f}",
    "training on real batches, images/s": lambda speed: f"{speed.images_per_second:,.0f}",
    "ratio of the two speeds": lambda speed: f"{speed.real_to_constant:.3f}",
    "step, ms": lambda speed: _step_milliseconds(speed, speed.images_per_second),
    "step with a minimal network, ms": lambda speed: _step_milliseconds(
        speed, speed.minimal_images_per_second
    ),
    "step, GFLOP/s": lambda speed: f"{speed.flops_per_second / 1e9:,.1f}",
    "matrix product, GFLOP/s": lambda speed: f"{speed.max_flops_per_second / 1e9:,.1f}",
    "utilization": lambda speed: f"{speed.utilization:.1%}",
    "memory: peak, before the network": _memory,
}


def print_training_speeds(speeds: list[TrainingSpeed]) -> None:
    """Print a column for each recipe."""
    table = text_table("recipe", *(speed.recipe for speed in speeds))
    for label, cell in TRAINING_SPEED_ROWS.items():
        table.add_row(label, *(cell(speed) for speed in speeds))
    print_table(table)


def print_serving_costs(costs: dict[Path, ServingCost]) -> None:
    """Print a row for each run.

    Args:
        costs: Path of the run folder → cost.
    """
    sizes = next(iter(costs.values())).latency_ms
    latencies = (f"batch {size}: p50, p95 ms" for size in sizes)
    table = text_table(
        "run", *latencies, "images/s", "peak memory, before", "model file", "precision", "device"
    )
    for path, cost in costs.items():
        table.add_row(
            str(path),
            *(f"{latency.p50:.2f}, {latency.p95:.2f}" for latency in cost.latency_ms.values()),
            f"{cost.images_per_second:,.0f}",
            _memory(cost),
            decimal(cost.model_bytes),
            cost.precision,
            cost.device,
        )
    print_table(table)


def print_runtimes(costs: dict[Path, RuntimeCosts]) -> None:
    """Print a row for each runtime of each run.

    Args:
        costs: Path of the run folder → costs.
    """
    latencies = (f"batch {size}: p50, p95, p99 ms" for size in BATCH_SIZES)
    table = text_table(
        "run",
        "runtime",
        *latencies,
        "images/s",
        "start, s",
        "peak memory, before",
        "files",
        "accuracy",
    )
    for path, cost in costs.items():
        for name, runtime in cost.runtimes.items():
            table.add_row(
                str(path),
                name,
                *(
                    f"{each.p50:.2f}, {each.p95:.2f}, {each.p99 or 0:.2f}"
                    for each in runtime.latency_ms.values()
                ),
                f"{runtime.images_per_second:,.0f}",
                f"{runtime.startup_seconds:.1f}",
                _memory(runtime),
                decimal(runtime.model_bytes),
                "" if runtime.accuracy is None else f"{runtime.accuracy:.4f}",
            )
    print_table(table)
