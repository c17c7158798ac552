"""Write the tables of results and their figure from the records under experiments/records/.

`make results` runs this file. docs/results.md gets the rows of every record. README.md gets those
of the first data set of data.toml and of the newest record of each recipe without a time budget,
because older ones may belong to an earlier version of the recipe. docs/accuracy_vs_time.svg plots
the rows of the README.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from cifar_models.config.recipe_file import EXPERIMENTS
from cifar_models.errors import RequestError, RunError
from cifar_models.storage.atomic_files import write_bytes_atomic
from experiments.read_records import Result, read_data_names, read_results
from experiments.results_figure import figure_svg

RECORDS = "experiments/records"
README, FULL_TABLE, FIGURE = "README.md", "docs/results.md", "docs/accuracy_vs_time.svg"
BEGIN, END = "<!-- results: written by make results -->", "<!-- end of results -->"
UNITS = (("h", 3600), ("min", 60), ("s", 1))


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
        write_bytes_atomic(path.parent, path.name, text.encode())
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
    """Return the results of the newest record of each recipe, without earlier ones and subsets.

    Runs with a time budget belong to a study, and do not show what the recipe does by itself.

    Args:
        root: Folder of experiments/.
        results: All results, of which those on the first data set of data.toml are considered.
    """
    first = next(iter(read_data_names(root / RECORDS / "data.toml").values()), None)
    shown = [
        result
        for result in results
        if result.data == first
        and result.train_fraction == 1
        and not result.runs[0].recipe.training.budget_seconds
    ]
    newest: dict[str, str] = {}  # recipe: record
    for result in shown:
        name = result.runs[0].recipe.name
        newest[name] = max(newest.get(name, ""), result.record)  # names begin with the date
    return [result for result in shown if result.record == newest[result.runs[0].recipe.name]]


def points_of(results: Iterable[Result]) -> list[dict]:
    """Return what the figure shows of each result: plain numbers and names."""
    return [
        {
            "recipe": result.recipe,
            "record": result.record,
            "train_seconds": result.train_seconds,
            "accuracies": result.accuracies,  # percent, one for each seed
            "tta_views": result.runs[0].recipe.augmentation.tta_views,
            "parameters": result.parameters,
            "device": result.runs[0].metrics.device,
        }
        for result in results
    ]


def _table(results: Iterable[Result], to_root: str, hidden_column: str = "") -> str:
    """Return the results as a Markdown table."""
    rows = [cells_of(result, to_root) for result in results]
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


def cells_of(result: Result, to_root: str) -> dict[str, str]:
    """Return the text of every column.

    Args:
        result: Row of the table.
        to_root: Relative path from the document to the project, "" or "../".
    """
    epochs = [run.metrics.epochs for run in result.runs]
    fewest = f"{min(epochs)} to " if min(epochs) < max(epochs) else ""  # early stopping
    what = f"[`{result.recipe}`]({to_root}{RECORDS}/{result.record}), {fewest}{max(epochs)} epochs"
    recipe, dataset = result.runs[0].recipe, result.runs[0].dataset
    if recipe.model.image_size not in dataset.image_shape[:2]:
        what += f", resized to {recipe.model.image_size} pixels"
    if recipe.augmentation.tta_views > 1:
        what += f", {recipe.augmentation.tta_views} TTA views"
    if budget := recipe.training.budget_seconds:
        what += f", a budget of {duration(budget)}"
    if teacher := result.runs[0].metrics.teacher:
        what += f", taught by `{teacher}`, whose time is included"
    return {
        "recipe": what,
        "data": result.data_and_size,
        "test accuracy": result.accuracy,
        "n": str(len(result.runs)),
        "training time": duration(result.train_seconds),
        "device": result.runs[0].metrics.device,
        "parameters": f"{result.parameters:,}",
    }


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    unit, size = next(pair for pair in UNITS if seconds >= 1.5 * pair[1] or pair[1] == 1)
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2f} {unit}"


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
