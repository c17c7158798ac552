"""Tables that the commands print."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.recipe_file import read_recipe, recipe_paths
from cifar_models.errors import RequestError
from cifar_models.evaluation.data_check import CONTACT_SHEET, PROBLEMS, DataCheck
from cifar_models.run.evaluate import Evaluation
from cifar_models.runtime.text import printable
from cifar_models.storage.records import Robustness, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.safe_open import find_files

FILE_WIDTH = 5000  # columns if the output is not a terminal, so that no path is folded


def print_recipes() -> None:
    """Print a row for each recipe, with the first line of the comment at its head."""
    table = text_table("recipe", "model", "data set", "description")
    for name, path in recipe_paths().items():
        recipe = read_recipe(name)
        head = path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        description = head.partition(": ")[2] or head
        table.add_row(name, recipe.architecture, recipe.data.dataset, description)
    print_table(table)


def print_models() -> None:
    """Print the architectures that `model.architecture` may name, with the keys of each."""
    table = text_table("architecture", "what it is", "keys")
    for name, architecture in ARCHITECTURES.items():
        keys = ", ".join(f"{key} {value}" for key, value in vars(architecture.config).items())
        table.add_row(name, architecture.description, keys)
    print_table(table)


def print_datasets() -> None:
    """Print the well-known data sets and the other data sources."""
    from cifar_models.data.load import DATA_SOURCES
    from cifar_models.data.tfds import KNOWN_DATASETS

    table = text_table("data set", "description")
    for name, description in KNOWN_DATASETS.items():
        table.add_row(name, description)
    for name, source in DATA_SOURCES.items():
        table.add_row(f"{name}PATH" if name.endswith(":") else name, source.description)
    print_table(table)
    print(
        "Every other image classification data set of TensorFlow Datasets works too, if it has the "
        "splits train and test."
    )


def print_runs(under: Path) -> None:
    """Print a row for each finished run in a folder, the best accuracy first.

    Args:
        under: Path of the folder. All its subfolders are searched.

    Raises:
        RequestError: The folder holds no finished run.
    """
    rows = []
    for path in find_files(under, "metrics.json"):
        try:
            metrics = RunFolder(path.parent).read(RunMetrics)
            rows.append((metrics.accuracy, _run_row(metrics, path.parent)))
        except RequestError as error:
            print(printable(f"{error}; skipped"), file=sys.stderr)
    if not rows:
        raise RequestError(
            f"{under}: holds no finished run; train one, or name another folder with --under"
        )
    table = text_table(
        "recipe", "data set", "split", "accuracy", "loss", "parameters", "epochs", "train s", "run"
    )
    for _, row in sorted(rows, key=lambda row: -row[0]):
        table.add_row(*row)
    print_table(table)


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
    table = text_table("metric", "value")
    values = {
        "dataset": evaluation.dataset,
        "split": evaluation.split,
        "images": evaluation.images,
        **vars(evaluation.metrics),
    }
    for key, value in values.items():
        if key != "per_class":
            table.add_row(key, f"{value:.6f}" if isinstance(value, float) else str(value))
    print_table(table)
    table = text_table("class", "precision", "recall", "f1", "images")
    for name, scores in evaluation.metrics.per_class.items():
        numbers = (f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1))
        table.add_row(name, *numbers, str(scores.images))
    print_table(table)


def print_data_check(check: DataCheck, out: Path) -> None:
    """Print the number of images of each class, and what is worth a look."""
    table = text_table("class", *check.counts)
    for label, name in enumerate(check.class_names):
        table.add_row(name, *(f"{counts[label]:,}" for counts in check.counts.values()))
    table.add_row("all", *(f"{counts.sum():,}" for counts in check.counts.values()))
    print_table(table)
    table = text_table("what", "value")
    if check.sizes is not None:
        for name, (width, height) in zip(
            ("smallest", "median", "largest"), check.sizes, strict=True
        ):
            table.add_row(f"{name} width and height, pixels", f"{width:g}, {height:g}")
    for kind, items in {**check.problems, **check.remarks}.items():
        table.add_row(kind, f"{len(items):,}")
    table.add_row("contact sheet", str(out / CONTACT_SHEET))
    table.add_row("list of all problems", str(out / PROBLEMS))
    print_table(table)


def print_robustness(report: Robustness) -> None:
    """Print a row for each corruption with its accuracy by severity, then the other metrics."""
    table = text_table("corruption", *(f"severity {number}" for number in range(1, 6)))
    for name, accuracies in report.accuracy.items():
        table.add_row(name, *(f"{accuracy:.2%}" for accuracy in accuracies))
    print_table(table)
    table = text_table("metric", "value")
    for key in ("images", "clean_accuracy", "mean_corrupted_accuracy"):
        table.add_row(key, f"{getattr(report, key):.6g}")
    for name, value in report.roc_auc.items():
        table.add_row(f"ROC AUC of entropy, test against {name}", f"{value:.6f}")
    print_table(table)


class _SafeTable(Table):
    """Table whose cells may hold untrusted text."""

    def add_row(self, *cells: str) -> None:  # type: ignore[override]
        super().add_row(*(printable(cell) for cell in cells))


def text_table(*columns: str) -> Table:
    """Return an empty table, whose cells may hold untrusted text."""
    table = _SafeTable(box=None, pad_edge=False)
    for column in columns:
        table.add_column(printable(column), overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print a table, wide enough that no path is folded unless the output is a terminal."""
    # Names may be untrusted, so rich must not read markup such as [red] or :smile: in them.
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, width=FILE_WIDTH)
    console.print(table)
