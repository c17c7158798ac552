"""The page of a search, and its trials as CSV."""

from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.evaluation.pages import page_bytes, page_template
from cifar_models.storage.atomic_files import write_bytes_atomic
from cifar_models.sweeps import search_figures
from cifar_models.sweeps.confirmation import Confirmation, mean_and_deviation
from cifar_models.sweeps.search_results import (
    MIN_TRIALS,
    importances,
    predictions_around,
    read_rows,
    trials_csv,
)

PAGE, TABLE = "report.html", "trials.csv"
MIN_TRIALS_IN_FIGURES = 3


def write_search_report(
    recipe: Recipe, out: Path, oracle: str, confirmation: Confirmation | None, command: str
) -> Path:
    """Write report.html and trials.csv, and return the path of the page.

    Args:
        recipe: Recipe with a `search` table.
        out: Folder of the search, which is locked and has a finished trial.
        oracle: How its trials were chosen.
        confirmation: What the best recipe reaches with other seeds, if it was trained with them.
        command: The command that continues the search.
    """
    rows = read_rows(out, recipe)
    finished = [row for row in rows if row.is_finished]
    best = max(finished, key=lambda row: row.accuracy or 0)
    figures = {"progress": search_figures.draw_progress(rows)}
    curves, r2 = {}, 0.0
    if len(finished) >= MIN_TRIALS:
        found, r2 = importances(rows, recipe)
        figures["importances"] = search_figures.draw_importances(found)
        curves = predictions_around(best, rows, recipe)
    if len(finished) >= MIN_TRIALS_IN_FIGURES:
        figures["slices"] = search_figures.draw_slices(rows, recipe, best, curves)
        figures["parallel"] = search_figures.draw_parallel(rows, recipe)
    html = page_template("cifar_models.sweeps", "search.html").render(
        recipe=recipe,
        rows=rows,
        finished=len(finished),
        given_up=sum(not row.is_finished and not row.problem for row in rows),
        failed=sum(bool(row.problem) for row in rows),
        best=best,
        confirmation=confirmation,
        mean_and_deviation=mean_and_deviation,
        figures=figures,
        oracle=oracle,
        has_curves=bool(curves),
        r2=r2,
        command=command,
    )
    write_bytes_atomic(out, TABLE, page_bytes(trials_csv(rows, recipe)))
    write_bytes_atomic(out, PAGE, page_bytes(html))
    return out / PAGE
