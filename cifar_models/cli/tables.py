"""What the commands print as tables."""

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.recipe_file import read_recipe, recipe_paths
from cifar_models.errors import RequestError
from cifar_models.run.evaluate import Evaluation
from cifar_models.storage.records import Robustness, RunMetrics
from cifar_models.storage.run_folder import RunFolder

WIDTH_OF_A_FILE = 200  # columns where the output is no terminal, so that no path is cut


def print_recipes() -> None:
    """Name, architecture, data set and the first line of each recipe's head."""
    table = _table("recipe", "model", "data set", "what it is")
    for name, path in recipe_paths().items():
        recipe = read_recipe(name)
        head = path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        promise = head.partition(": ")[2] or head
        table.add_row(name, recipe.architecture, recipe.data.dataset, promise)
    _print(table)


def print_models() -> None:
    """Print the architectures that `model.architecture` may name, with the keys of each."""
    table = _table("architecture", "what it is", "keys")
    for name, architecture in ARCHITECTURES.items():
        keys = ", ".join(f"{key} {value}" for key, value in vars(architecture.config).items())
        table.add_row(name, architecture.description, keys)
    _print(table)


def print_datasets() -> None:
    from cifar_models.data.load import DATA_SOURCES
    from cifar_models.data.tfds import KNOWN_DATASETS

    table = _table("data set", "what it holds")
    for name, description in KNOWN_DATASETS.items():
        table.add_row(name, description)
    for name, source in DATA_SOURCES.items():
        table.add_row(f"{name}PATH" if name.endswith(":") else name, source.description)
    _print(table)
    print("Any other TFDS name of an image classification set with train and test works too.")


def print_runs(under: Path) -> None:
    """One row for each finished run below a folder, best accuracy first."""
    rows = []
    for path in sorted(under.rglob("metrics.json")):
        try:
            metrics = RunFolder(path.parent).read(RunMetrics)
            rows.append((metrics.accuracy, _run_row(metrics, path.parent)))
        except RequestError as error:
            print(f"{path}: left out, not the record of a run: {error}", file=sys.stderr)
    if not rows:
        raise RequestError(f"{under}: holds no finished run; train one, or name a folder: --under")
    table = _table(
        "recipe", "data set", "split", "accuracy", "loss", "parameters", "epochs", "train s", "run"
    )
    for _, row in sorted(rows, key=lambda row: -row[0]):
        table.add_row(*row)
    _print(table)


def _run_row(metrics: RunMetrics, path: Path) -> list[str]:
    return [
        metrics.recipe,
        metrics.dataset,
        metrics.split,
        f"{metrics.accuracy:.2%}",
        f"{metrics.loss:.3f}",
        f"{metrics.parameters:,}",
        str(metrics.epochs),
        f"{metrics.train_seconds:.0f}",
        str(path),
    ]


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the metrics of an evaluation, then a row for each class."""
    table = _table("metric", "value")
    values = {
        "dataset": evaluation.dataset,
        "split": evaluation.split,
        "images": evaluation.images,
        **vars(evaluation.metrics),
    }
    for key, value in values.items():
        if key != "per_class":
            table.add_row(key, f"{value:.6f}" if isinstance(value, float) else str(value))
    _print(table)
    table = _table("class", "precision", "recall", "f1", "images")
    for name, scores in evaluation.metrics.per_class.items():
        numbers = (f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1))
        table.add_row(name, *numbers, str(scores.images))
    _print(table)


def print_robustness(report: Robustness) -> None:
    """Print a row for each corruption with its accuracy by severity, then the other metrics."""
    table = _table("corruption", *(f"severity {number}" for number in range(1, 6)))
    for name, accuracies in report.accuracy.items():
        table.add_row(name, *(f"{accuracy:.2%}" for accuracy in accuracies))
    _print(table)
    table = _table("metric", "value")
    for key in ("images", "clean_accuracy", "mean_corrupted_accuracy"):
        table.add_row(key, f"{getattr(report, key):.6g}")
    for name, value in report.roc_auc.items():
        table.add_row(f"roc_auc of entropy, test or {name}", f"{value:.6f}")
    _print(table)


def _memory(found: dict) -> str:
    return f"{decimal(found['peak_memory_bytes'])}, {decimal(found['memory_before_bytes'])}"


def _step_milliseconds(found: dict, speed: str) -> str:
    return f"{1000 * found['batch'] / found[speed]:.3g}"


BENCHMARK_ROWS: dict[str, Callable[[dict], str]] = {
    "device": lambda found: found["device"],
    "precision": lambda found: found["precision"],
    "images in a batch": lambda found: f"{found['batch']:,}",
    "compiling and first step, s": lambda found: f"{found['compile_seconds']:.1f}",
    "feeding, images/s": lambda found: f"{found['feeding']:,.0f}",
    "training on one batch, images/s": lambda found: f"{found['constant_batch']:,.0f}",
    "training on the real stream, images/s": lambda found: f"{found['real']:,.0f}",
    "real stream to one batch": lambda found: f"{found['real_to_constant']:.3f}",
    "one step, ms": lambda found: _step_milliseconds(found, "real"),
    "floor: no network, ms": lambda found: _step_milliseconds(found, "without_network"),
    "training, GFLOP/s": lambda found: f"{found['training_flops'] / 1e9:,.1f}",
    "ceiling: matrix product, GFLOP/s": lambda found: f"{found['matrix_product_flops'] / 1e9:,.1f}",
    "utilisation": lambda found: f"{found['utilisation']:.1%}",
    "memory, before": _memory,
}


def print_benchmark(found: list[dict]) -> None:
    """One column for each recipe, as `benchmark.measure_training` measured it."""
    table = _table("recipe", *(one["recipe"] for one in found))
    for name, text in BENCHMARK_ROWS.items():
        table.add_row(name, *(text(one) for one in found))
    _print(table)


def print_costs(costs: dict[Path, dict]) -> None:
    """One row for each run, as `serving_cost.serving_costs` measured it."""
    sizes = next(iter(costs.values()))["latency_ms"]
    latencies = (f"batch {size}: p50, p95 ms" for size in sizes)
    table = _table("run", *latencies, "images/s", "memory, before", "model", "precision", "device")
    for path, cost in costs.items():
        table.add_row(
            str(path),
            *(f"{each['p50']:.2f}, {each['p95']:.2f}" for each in cost["latency_ms"].values()),
            f"{cost['images_per_second']:,.0f}",
            _memory(cost),
            decimal(cost["model_bytes"]),
            cost["precision"],
            cost["device"],
        )
    _print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_A_FILE)
    console.print(table)
