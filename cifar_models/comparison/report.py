"""The report of a comparison: self-contained HTML, Markdown, CSV and SVG figures."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cifar_models.comparison import figures as plots
from cifar_models.comparison import robustness_figures
from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.disagreements import Disagreement, largest_disagreements
from cifar_models.comparison.learning_curves import crossings
from cifar_models.comparison.runtimes import RUNTIME_COLUMNS, runtime_rows, runtimes_csv
from cifar_models.comparison.tables import cells, columns, csv_table, markdown
from cifar_models.config.paths import as_argument
from cifar_models.errors import RequestError
from cifar_models.evaluation.pages import page_bytes, page_template
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.atomic_files import locked, write_bytes_atomic
from cifar_models.storage.safe_open import read_bytes

MAX_REPORT_BYTES = 100_000_000
# Files that not every report has. Those of an older report would not fit the new one.
OPTIONAL_FILES = (
    "figures/corruptions.svg",
    "figures/entropies.svg",
    "figures/learning_curves.svg",
    "figures/pareto.svg",
    "figures/runtimes.svg",
    "figures/training.svg",
    "runtimes.csv",
)


def write_report(comparison: Comparison, out: Path, command: str, explain: bool = False) -> None:
    """Write report.html, comparison.md, comparison.csv and figures/*.svg.

    If `benchmark` has measured one of the runs, runtimes.csv is written too.

    Args:
        comparison: A comparison of at least one model.
        out: Folder of the report. It is created if necessary; an older report is replaced.
        command: Command that reproduces the report.
        explain: Whether to show where the models look.

    Raises:
        RequestError: The folder cannot be created, or holds a file of the same name that is not
            of an older report, or another process is writing a report there; or `explain` lacks
            data or models.
        WriteError: A file cannot be written.
    """
    disagreements = largest_disagreements(comparison, explain)
    figures = _draw_figures(comparison)
    # First, because it marks the folder as one of a report, which may be replaced.
    files = {"report.html": page_bytes(_html(comparison, figures, disagreements, command))}
    files |= {f"figures/{name}.svg": page_bytes(svg) for name, svg in figures.items()}
    files["comparison.md"] = page_bytes(markdown(comparison))
    files["comparison.csv"] = page_bytes(csv_table(comparison))
    if rows := runtime_rows(comparison):
        files["runtimes.csv"] = page_bytes(runtimes_csv(rows))
    _refuse_other_files(out, [*files, *OPTIONAL_FILES])
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
        for name in set(OPTIONAL_FILES) - set(files):
            (out / name).unlink(missing_ok=True)


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
        "reliability": plots.draw_reliability(comparison),
        "confusions": plots.draw_confusions(comparison),
        "classes": plots.draw_classes(comparison),
    }
    if plots.differing_costs(comparison):
        figures["pareto"] = plots.draw_pareto(comparison)
    if any(map(plots.validated_runs, comparison.models)):
        figures["training"] = plots.draw_training(comparison)
    if all(model.robustness() for model in comparison.models):
        figures["corruptions"] = robustness_figures.draw_corruptions(comparison)
        figures["entropies"] = robustness_figures.draw_entropies(comparison)
    if comparison.curves:
        figures["learning_curves"] = plots.draw_learning_curves(comparison)
    if rows := runtime_rows(comparison):
        figures["runtimes"] = plots.draw_runtimes(comparison, rows)
    return figures


def _html(
    comparison: Comparison,
    figures: dict[str, str],
    disagreements: Sequence[Disagreement],
    command: str,
) -> str:
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
        disagreements=disagreements,
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
