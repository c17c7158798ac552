"""README's table of results, made of the records under experiments/records/."""

import math
import re
import statistics
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_models.comparison.runs import by_recipe
from cifar_models.config.recipe_file import EXPERIMENTS
from cifar_models.errors import RequestError, RunError
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.storage.atomic_files import write_bytes_atomic

RECORDS = "experiments/records"
BEGIN, END = "<!-- results: made by make results -->", "<!-- end of results -->"
UNITS = (("h", 3600), ("min", 60), ("s", 1))
NUMBERS = ("accuracy", "epochs", "train_seconds", "parameters")  # of metrics.json, in the table


@dataclass(frozen=True)
class Result:
    """A row of the table: runs that differ in their seed alone."""

    record: str  # the folder's name
    recipe: str
    data: str
    runs: tuple[FinishedRun, ...]

    @property
    def mean_accuracy(self) -> float:
        return statistics.mean(100 * run.metrics.accuracy for run in self.runs)

    @property
    def accuracy(self) -> str:
        """The mean and, of several runs, the sample standard deviation, in percent."""
        spread = ""
        if len(self.runs) > 1:
            deviation = statistics.stdev(100 * run.metrics.accuracy for run in self.runs)
            spread = f" ± {deviation:.2f}"
        return f"{self.mean_accuracy:.2f}{spread} %"

    def cells(self) -> dict[str, str]:
        """Column → what stands there."""
        epochs = [run.metrics.epochs for run in self.runs]
        fewest = f"{min(epochs)} to " if min(epochs) < max(epochs) else ""  # some stopped early
        seconds = statistics.mean(run.metrics.train_seconds for run in self.runs)
        what = f"[`{self.recipe}`]({RECORDS}/{self.record}), {fewest}{max(epochs)} epochs"
        recipe, image_shape = self.runs[0].recipe, self.runs[0].dataset.image_shape
        if recipe.model.image_size not in image_shape[:2]:
            what += f", seen at {recipe.model.image_size} pixels"
        if recipe.augmentation.tta_views > 1:
            what += f", {recipe.augmentation.tta_views} views"
        return {
            "what": what,
            "data": self.data,
            "test accuracy": self.accuracy,
            "n": str(len(self.runs)),
            "training time": duration(seconds),
            "device": self.runs[0].metrics.device,
            "parameters": f"{self.runs[0].metrics.parameters:,}",
        }


def duration(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    unit, size = next(pair for pair in UNITS if seconds >= 1.5 * pair[1] or pair[1] == 1)
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2f} {unit}"


def write_results(root: Path) -> Path:
    """Writes the table into README.md and returns the path; raises as `readme_with_results` does.

    Args:
        root: the folder of README.md and experiments/.
    """
    path = root / "README.md"
    write_bytes_atomic(path, readme_with_results(root).encode())
    return path


def readme_with_results(root: Path) -> str:
    """Returns README.md with what the records give between its two marks.

    Raises:
        RequestError: no such marks, or records that cannot be read.
    """
    path = root / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise RequestError(f"{path}: has no lines {BEGIN} and {END}; put them around the table")
    rows = [result.cells() for result in read_results(root / RECORDS)]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{before}{begin}\n{table}\n{end}{after}"


def read_results(records: Path) -> list[Result]:
    """Reads every record; in the order of the data, the highest accuracy first.

    Args:
        records: a folder of data.toml, which names data by their SHA-256, and of the records,
            each a run folder or one that holds some, called YYYY-MM-DD-name.

    Raises:
        RequestError: there is none, or one has another name or no run; a run is not whole, was
            not measured on the test split, is of data without a name, or is there twice.
    """
    folders = sorted(path for path in records.glob("*") if path.is_dir())
    if not folders:
        raise RequestError(f"{records}: holds no record; copy a run into {records}/YYYY-MM-DD-name")
    names = _read_names(records / "data.toml")
    results = [result for folder in folders for result in _read_record(folder, names)]
    return sorted(results, key=lambda result: (result.data, -result.mean_accuracy, result.record))


def _read_names(path: Path) -> dict[str, str]:
    """SHA-256 of the data → what the table calls them."""
    try:
        names = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    for key, name in names.items():
        if not isinstance(name, str):
            raise RequestError(f"{path}: {key} = {name!r} must be a text: what the data are")
    return names


def _read_record(record: Path, data_names: dict[str, str]) -> Iterator[Result]:
    if not re.match(r"\d{4}-\d\d-\d\d-\w", record.name):
        raise RequestError(f"{record}: a record is called YYYY-MM-DD-name; rename it")
    files = [file for name in ("recipe.toml", "metrics.json") for file in record.rglob(name)]
    if not files:
        raise RequestError(f"{record}: holds no run; copy one into it, or remove it")
    groups: dict[tuple, list[FinishedRun]] = defaultdict(list)
    for path in sorted({file.parent for file in files}):
        run = _read_run(path)
        sha256 = run.dataset.sha256
        if sha256 not in data_names:
            raise RequestError(
                f"{path}: its data have no name yet; say what they are in a line of "
                f'{record.parent / "data.toml"}: {sha256} = "…"'
            )
        part = run.recipe.data.train_fraction
        groups[data_names[sha256], part, run.metrics.device].append(run)
    for (data, part, _), alike in groups.items():
        for recipe, runs in by_recipe(alike).items():
            images = round(statistics.mean(run.dataset.train_images for run in runs))
            limit = f"; {images:,} training images" if part < 1 else ""
            yield Result(record.name, recipe, data + limit, tuple(runs))


def _read_run(path: Path) -> FinishedRun:
    run = load_run(path)
    for key in NUMBERS:
        value = getattr(run.metrics, key)
        if not math.isfinite(value):
            raise RequestError(f"{path}: metrics.json has {key} = {value!r}, not a number")
    if run.metrics.split != "test":
        raise RequestError(
            f"{path}: is measured on the {run.metrics.split} split; a record is of the test split"
        )
    return run


def main(root: Path = EXPERIMENTS.parent) -> int:
    """Writes the table and returns the exit status."""
    try:
        print(f"{write_results(root)}: the table is made of {RECORDS}")
    except (RequestError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
