"""Write the tables of results and their figure from the records under experiments/records/.

`make results` runs this file. docs/results.md gets a row for every record, README.md the rows of
the first data set of data.toml, and docs/accuracy_vs_time.svg plots the rows of the README.
"""

import math
import re
import statistics
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_models.comparison.runs import by_recipe
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import EXPERIMENTS
from cifar_models.errors import RequestError, RunError
from cifar_models.storage.atomic_files import write_bytes_atomic
from cifar_models.storage.run_folder import RunFolder
from experiments.results_figure import figure_svg

RECORDS = "experiments/records"
README, FULL_TABLE, FIGURE = "README.md", "docs/results.md", "docs/accuracy_vs_time.svg"
BEGIN, END = "<!-- results: written by make results -->", "<!-- end of results -->"
UNITS = (("h", 3600), ("min", 60), ("s", 1))
NUMBERS = ("accuracy", "epochs", "train_seconds", "parameters")  # keys of metrics.json


@dataclass(frozen=True)
class RecordedRun:
    """One run folder of a record."""

    path: Path
    recipe: Recipe
    dataset: dict  # dataset.json
    metrics: dict  # metrics.json

    @property
    def accuracy(self) -> float:
        """Return the accuracy on the test images, in percent."""
        return 100 * self.metrics["accuracy"]


@dataclass(frozen=True)
class Result:
    """A row of the table: runs of one recipe that differ only in their seeds."""

    record: str  # name of the record's folder
    recipe: str
    data: str  # name of the data set, from data.toml
    train_fraction: float  # of the training images, in (0, 1]
    runs: tuple[RecordedRun, ...]

    @property
    def mean_accuracy(self) -> float:
        """Return the mean accuracy over the seeds, in percent."""
        return statistics.mean(run.accuracy for run in self.runs)

    @property
    def accuracy(self) -> str:
        """Return the mean and, for several runs, the sample standard deviation, in percent."""
        spread = ""
        if len(self.runs) > 1:
            spread = f" ± {statistics.stdev(run.accuracy for run in self.runs):.2f}"
        return f"{self.mean_accuracy:.2f}{spread} %"

    @property
    def train_seconds(self) -> float:
        """Return the mean training time, in seconds."""
        return statistics.mean(run.metrics["train_seconds"] for run in self.runs)

    @property
    def parameters(self) -> int:
        """Return the number of parameters of the network."""
        return self.runs[0].metrics["parameters"]

    @property
    def data_and_size(self) -> str:
        """Return the data set and, for a subset, the mean number of its training images."""
        images = round(statistics.mean(run.dataset["train_images"] for run in self.runs))
        return self.data + (f"; {images:,} training images" if self.train_fraction < 1 else "")

    def cells(self, to_root: str) -> dict[str, str]:
        """Return the text of every column.

        Args:
            to_root: Relative path from the document to the project, "" or "../".
        """
        epochs = [run.metrics["epochs"] for run in self.runs]
        fewest = f"{min(epochs)} to " if min(epochs) < max(epochs) else ""  # early stopping
        what = f"[`{self.recipe}`]({to_root}{RECORDS}/{self.record}), {fewest}{max(epochs)} epochs"
        recipe, dataset = self.runs[0].recipe, self.runs[0].dataset
        if recipe.model.image_size not in dataset["image_shape"][:2]:
            what += f", resized to {recipe.model.image_size} pixels"
        if recipe.augmentation.tta_views > 1:
            what += f", {recipe.augmentation.tta_views} TTA views"
        return {
            "recipe": what,
            "data": self.data_and_size,
            "test accuracy": self.accuracy,
            "n": str(len(self.runs)),
            "training time": duration(self.train_seconds),
            "device": self.runs[0].metrics["device"],
            "parameters": f"{self.parameters:,}",
        }


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    unit, size = next(pair for pair in UNITS if seconds >= 1.5 * pair[1] or pair[1] == 1)
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2f} {unit}"


def write_results(root: Path) -> list[Path]:
    """Write the tables and the figure.

    Args:
        root: Folder of README.md, docs/ and experiments/.

    Returns:
        Paths of the written files.

    Raises:
        RequestError: See `results_files`. Nothing has been written then.
    """
    files = results_files(root)
    for path, text in files.items():
        write_bytes_atomic(path, text.encode())
    return list(files)


def results_files(root: Path) -> dict[Path, str]:
    """Return the path and the text of README.md, docs/results.md and the figure.

    Raises:
        RequestError: A document has no marks, or the records cannot be read.
    """
    results = read_results(root / RECORDS)
    shown = readme_results(root, results)
    name = shown[0].data if shown else ""
    summary = f"Test accuracy on {name}:\n\n{_table(shown, '', 'data')}" if shown else ""
    return {
        root / README: _between_marks(root / README, summary),
        root / FULL_TABLE: _between_marks(root / FULL_TABLE, _table(results, "../")),
        root / FIGURE: figure_svg(points_of(shown), name),
    }


def readme_results(root: Path, results: Iterable[Result]) -> list[Result]:
    """Return the results on all training images of the first data set of data.toml."""
    first = next(iter(_read_names(root / RECORDS / "data.toml").values()), None)
    return [result for result in results if result.data == first and result.train_fraction == 1]


def points_of(results: Iterable[Result]) -> list[dict]:
    """Return what the figure shows of each result: plain numbers and names."""
    return [
        {
            "recipe": result.recipe,
            "record": result.record,
            "train_seconds": result.train_seconds,
            "accuracies": [run.accuracy for run in result.runs],  # percent, one for each seed
            "tta_views": result.runs[0].recipe.augmentation.tta_views,
            "parameters": result.parameters,
            "device": result.runs[0].metrics["device"],
        }
        for result in results
    ]


def _table(results: Iterable[Result], to_root: str, hidden_column: str = "") -> str:
    """Return the results as a Markdown table."""
    rows = [result.cells(to_root) for result in results]
    columns = [name for name in rows[0] if name != hidden_column]
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _between_marks(path: Path, content: str) -> str:
    """Return the text of a document with new content between its two marks."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise RequestError(f"{path}: has no lines {BEGIN} and {END}; put them around the table")
    return f"{before}{begin}\n{content}\n{end}{after}"


def read_results(records: Path) -> list[Result]:
    """Read every record.

    Args:
        records: Folder with data.toml, which names data sets by their SHA-256, and the records.
            Each record is named YYYY-MM-DD-name, and is a run folder or holds run folders.

    Returns:
        The results, sorted by data set, the highest accuracy first.

    Raises:
        RequestError: There is no record, or one has another name or no run. A run is incomplete,
            was not measured on the test split, has data without a name, or is a duplicate.
    """
    folders = sorted(path for path in records.glob("*") if path.is_dir())
    if not folders:
        raise RequestError(f"{records}: holds no record; copy a run into {records}/YYYY-MM-DD-name")
    names = _read_names(records / "data.toml")
    results = [result for folder in folders for result in _read_record(folder, names)]
    return sorted(results, key=lambda r: (r.data_and_size, -r.mean_accuracy, r.record))


def _read_names(path: Path) -> dict[str, str]:
    """Return the name of every data set by its SHA-256."""
    try:
        names = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    for key, name in names.items():
        if not isinstance(name, str):
            raise RequestError(f"{path}: {key} = {name!r} must be a text: the name of the data set")
    return names


def _read_record(record: Path, data_names: dict[str, str]) -> Iterator[Result]:
    if not re.match(r"\d{4}-\d\d-\d\d-\w", record.name):
        raise RequestError(f"{record}: a record is called YYYY-MM-DD-name; rename it")
    files = [file for name in ("recipe.toml", "metrics.json") for file in record.rglob(name)]
    if not files:
        raise RequestError(f"{record}: holds no run; copy one into it, or remove it")
    groups: dict[tuple[str, float, str], list[RecordedRun]] = defaultdict(list)
    for path in sorted({file.parent for file in files}):
        run = _read_run(path)
        sha256 = run.dataset["sha256"]
        if sha256 not in data_names:
            raise RequestError(
                f"{path}: its data set has no name yet; add a line to "
                f'{record.parent / "data.toml"}: {sha256} = "…"'
            )
        fraction = run.recipe.data.train_fraction
        groups[data_names[sha256], fraction, run.metrics["device"]].append(run)
    for (data, fraction, _), group in groups.items():
        for recipe, runs in by_recipe(group).items():
            yield Result(record.name, recipe, data, fraction, tuple(runs))


def _read_run(path: Path) -> RecordedRun:
    folder = RunFolder.open(path)
    metrics = folder.read_metrics(*NUMBERS, "split", "device")
    for key in NUMBERS:
        if type(metrics[key]) not in (int, float) or not math.isfinite(metrics[key]):
            raise RequestError(f"{path}: metrics.json has {key} = {metrics[key]!r}, not a number")
    if metrics["split"] != "test":
        raise RequestError(
            f"{path}: is measured on the {metrics['split']} split; a record needs the test split"
        )
    recipe = folder.read_recipe()
    return RecordedRun(
        path, recipe, folder.read_dataset("sha256", "train_images", "image_shape"), metrics
    )


def main(root: Path = EXPERIMENTS.parent) -> int:
    """Write the tables and the figure, and return the exit status."""
    try:
        for path in write_results(root):
            print(f"{path}: written from {RECORDS}")
    except (RequestError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
