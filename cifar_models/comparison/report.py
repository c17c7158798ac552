"""The report of a comparison: self-contained HTML, Markdown, CSV and SVG figures."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_models.comparison import figures as plots
from cifar_models.comparison import robustness_figures
from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.learning_curves import crossings
from cifar_models.comparison.runtimes import RUNTIME_COLUMNS, runtime_rows, runtimes_csv
from cifar_models.comparison.tables import cells, columns, csv_table, markdown
from cifar_models.config.paths import as_argument
from cifar_models.data.load import load_dataset
from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.pages import page_bytes, page_template, png_base64
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.atomic_files import locked, write_bytes_atomic
from cifar_models.storage.safe_open import read_bytes

MAX_REPORT_BYTES = 100_000_000
MAX_DISAGREEMENTS = 24  # images in the report


@dataclass(frozen=True)
class Disagreement:
    """A test image that some models classify correctly and others do not."""

    png: str  # base64
    true_class: str
    probabilities: dict[str, float]  # model name → mean probability of the true class


def write_report(comparison: Comparison, out: Path, command: str) -> None:
    """Write report.html, comparison.md, comparison.csv and figures/*.svg.

    If `benchmark` has measured one of the runs, runtimes.csv is written too.

    Args:
        comparison: A comparison of at least one model.
        out: Folder of the report. It is created if necessary; an older report is replaced.
        command: Command that reproduces the report.

    Raises:
        RequestError: The folder cannot be created, or holds a file of the same name that is not
            of an older report, or another process is writing a report there.
        WriteError: A file cannot be written.
    """
    figures = _draw_figures(comparison)
    files = {f"figures/{name}.svg": svg.encode() for name, svg in figures.items()}
    files["report.html"] = page_bytes(_html(comparison, figures, command))
    files["comparison.md"] = page_bytes(markdown(comparison))
    files["comparison.csv"] = page_bytes(csv_table(comparison))
    if rows := runtime_rows(comparison):
        files["runtimes.csv"] = page_bytes(runtimes_csv(rows))
    _refuse_other_files(out, list(files))
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{out}: cannot be created: {error.strerror}; choose another --out"
        ) from None
    with locked(out):  # another process might write some of the files
        for name, content in files.items():
            obey_stop()
            write_bytes_atomic(out, name, content)


def _refuse_other_files(out: Path, names: Sequence[str]) -> None:
    """Raise RequestError if files would be replaced that are not of an older report."""
    existing = [out / name for name in names if (out / name).exists()]
    try:
        is_report = b"cifar_models" in read_bytes(out, "report.html", MAX_REPORT_BYTES)
    except (OSError, ValueError):
        is_report = False
    if existing and not is_report:
        raise RequestError(
            f"{existing[0]}: is not of an older report, and would be replaced; choose another "
            "--out, or remove it"
        )


def _draw_figures(comparison: Comparison) -> dict[str, str]:
    """Return the name and the <svg> element of each figure that the runs have the data for."""
    figures = {
        "accuracies": plots.draw_accuracies(comparison),
        "training": plots.draw_training(comparison),
        "pareto": plots.draw_pareto(comparison),
        "reliability": plots.draw_reliability(comparison),
        "confusions": plots.draw_confusions(comparison),
        "classes": plots.draw_classes(comparison),
    }
    if all(model.robustness() for model in comparison.models):
        figures["corruptions"] = robustness_figures.draw_corruptions(comparison)
        figures["entropies"] = robustness_figures.draw_entropies(comparison)
    if comparison.curves:
        figures["learning_curves"] = plots.draw_learning_curves(comparison)
    if rows := runtime_rows(comparison):
        figures["runtimes"] = plots.draw_runtimes(comparison, rows)
    return figures


def _html(comparison: Comparison, figures: dict[str, str], command: str) -> str:
    """Return the HTML of the report."""
    titles = columns(comparison)
    return page_template("cifar_models.comparison", "report.html").render(
        comparison=comparison,
        titles=titles.values(),
        rows=[(model, list(cells(model, titles))) for model in comparison.models],
        figures=figures,
        runtimes=runtime_rows(comparison),
        runtime_titles=RUNTIME_COLUMNS.values(),
        shown_classes=len(comparison.shown_classes),
        robustness_images=_robustness_images(comparison),
        crossings=list(crossings(comparison.curves)),
        disagreements=largest_disagreements(comparison),
        command=command,
        recipe_paths=[
            shlex.quote(as_argument(run.folder.recipe_path))
            for model in comparison.models
            for run in model.runs
        ],
    )


def _robustness_images(comparison: Comparison) -> str:
    """Return the number of test images that were corrupted, which may differ between runs."""
    numbers = {measured.images for model in comparison.models for measured in model.robustness()}
    return " or ".join(f"{number:,}" for number in sorted(numbers))


def largest_disagreements(comparison: Comparison) -> list[Disagreement]:
    """Return the test images on which the models' probabilities of the true class differ most.

    The list is empty if there is only one model, or if the data are not on this machine.
    """
    first = comparison.models[0].runs[0]
    if len(comparison.models) == 1:
        return []
    try:
        test = load_dataset(first.recipe, may_download=False).test
    except (RequestError, RunError):
        return []
    if not np.array_equal(test.labels, first.labels):
        return []
    rows = np.arange(len(first.labels))
    probabilities = {
        model.name: np.mean([run.probabilities[rows, run.labels] for run in model.runs], axis=0)
        for model in comparison.models
    }  # model → (N,)
    ranges = np.ptp(list(probabilities.values()), axis=0)
    chosen = np.argsort(-ranges, kind="stable")[:MAX_DISAGREEMENTS]
    return [
        Disagreement(
            png=png_base64(image),
            true_class=first.dataset.class_names[first.labels[index]],
            probabilities={name: float(row[index]) for name, row in probabilities.items()},
        )
        for index, image in zip(chosen, test.images_at(chosen), strict=True)
    ]
