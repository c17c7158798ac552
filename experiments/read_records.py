"""Read the records under experiments/records/."""

import math
import re
import statistics
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_models.comparison.runs import by_recipe
from cifar_models.errors import RequestError
from cifar_models.run.load import FinishedRun, load_run

NUMBERS = ("accuracy", "epochs", "train_seconds", "parameters")  # keys of metrics.json


@dataclass(frozen=True)
class Result:
    """A row of the table: runs of one recipe that differ only in their seeds."""

    record: str  # name of the record's folder
    recipe: str
    data: str  # name of the data set, from data.toml
    train_fraction: float  # of the training images, in (0, 1]
    runs: tuple[FinishedRun, ...]

    @property
    def accuracies(self) -> list[float]:
        """Return the accuracy of every run on the test images, in percent."""
        return [100 * run.metrics.accuracy for run in self.runs]

    @property
    def mean_accuracy(self) -> float:
        """Return the mean accuracy over the seeds, in percent."""
        return statistics.mean(self.accuracies)

    @property
    def accuracy(self) -> str:
        """Return the mean and, for several runs, the sample standard deviation, in percent."""
        spread = ""
        if len(self.runs) > 1:
            spread = f" ± {statistics.stdev(self.accuracies):.2f}"
        return f"{self.mean_accuracy:.2f}{spread} %"

    @property
    def train_seconds(self) -> float:
        """Return the mean training time, in seconds."""
        return statistics.mean(run.metrics.train_seconds for run in self.runs)

    @property
    def parameters(self) -> int:
        """Return the number of parameters of the network."""
        return self.runs[0].metrics.parameters

    @property
    def data_and_size(self) -> str:
        """Return the data set and, for a subset, the mean number of its training images."""
        images = round(statistics.mean(run.dataset.train_images for run in self.runs))
        return self.data + (f"; {images:,} training images" if self.train_fraction < 1 else "")


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
    names = read_data_names(records / "data.toml")
    results = [result for folder in folders for result in _read_record(folder, names)]
    return sorted(results, key=lambda r: (r.data_and_size, -r.mean_accuracy, r.record))


def read_data_names(path: Path) -> dict[str, str]:
    """Return the name of every data set by its SHA-256."""
    try:
        names = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    for key, name in names.items():
        if not isinstance(name, str):
            raise RequestError(
                f"{path}: {key} = {name!r} must be a string: the name of the data set"
            )
    return names


def _read_record(record: Path, data_names: dict[str, str]) -> Iterator[Result]:
    if not re.match(r"\d{4}-\d\d-\d\d-\w", record.name):
        raise RequestError(f"{record}: the name of a record must be YYYY-MM-DD-name; rename it")
    files = [file for name in ("recipe.toml", "metrics.json") for file in record.rglob(name)]
    if not files:
        raise RequestError(f"{record}: holds no run; copy one into it, or remove it")
    groups: dict[tuple[str, float, str], list[FinishedRun]] = defaultdict(list)
    for path in sorted({file.parent for file in files}):
        run = _read_run(path)
        sha256 = run.dataset.sha256
        if sha256 not in data_names:
            raise RequestError(
                f"{path}: its data set has no name yet; add a line to "
                f'{record.parent / "data.toml"}: {sha256} = "…"'
            )
        fraction = run.recipe.data.train_fraction
        groups[data_names[sha256], fraction, run.metrics.device].append(run)
    for (data, fraction, _), group in groups.items():
        for recipe, runs in by_recipe(group).items():
            yield Result(record.name, recipe, data, fraction, tuple(runs))


def _read_run(path: Path) -> FinishedRun:
    run = load_run(path)
    for key in NUMBERS:
        if not math.isfinite(getattr(run.metrics, key)):
            raise RequestError(
                f"{path}: metrics.json has {key} = {getattr(run.metrics, key)}, not a number"
            )
    if run.metrics.split != "test":
        raise RequestError(
            f"{path}: is measured on the {run.metrics.split} split; a record needs the test split"
        )
    return run
