"""Figures of a search, as SVG that takes its text colour from the surrounding page."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_models.comparison.figure_style import COLOURS, GREY, figure_svg
from cifar_models.config.recipe import Recipe
from cifar_models.config.search import SearchChoices, SearchEntry
from cifar_models.runtime.text import printable
from cifar_models.sweeps.search_results import Importance, TrialRow, as_numbers

SLICE_COLUMNS = 3
BEST = COLOURS[1]


def draw_progress(rows: Sequence[TrialRow]) -> str:
    """Draw the accuracy of each trial, and the best so far, by the training time of all trials."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        seconds = np.cumsum([row.seconds for row in rows])
        for is_finished, colour in ((True, COLOURS[0]), (False, GREY)):
            chosen = [
                (second, 100 * row.accuracy)
                for second, row in zip(seconds, rows, strict=True)
                if row.accuracy is not None and row.is_finished == is_finished
            ]
            if chosen:
                label = "trained to the end" if is_finished else "given up"
                axes.plot(*zip(*chosen, strict=True), "o", color=colour, label=label)
        finished = [
            100 * row.accuracy if row.is_finished and row.accuracy is not None else -np.inf
            for row in rows
        ]
        best = np.maximum.accumulate(finished)
        if np.isfinite(best).any():
            axes.step(seconds, np.where(np.isfinite(best), best, np.nan), where="post", color=BEST)
        axes.set(xlabel="training time of all trials, s", ylabel="validation accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)

    return figure_svg("progress", draw, (7, 3.6))


def draw_slices(
    rows: Sequence[TrialRow],
    recipe: Recipe,
    best: TrialRow,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> str:
    """Draw the accuracy of the finished trials against each searched key.

    Args:
        rows: The trials.
        recipe: Recipe with a `search` table.
        best: The best trial, which is marked.
        curves: As `predictions_around` returns them; empty if there are too few trials.
    """
    keys = list(recipe.search)
    finished = [row for row in rows if row.accuracy is not None and row.is_finished]
    num_rows = -(-len(keys) // SLICE_COLUMNS)

    def draw(figure: Figure) -> None:
        grid = np.ravel(figure.subplots(num_rows, SLICE_COLUMNS, squeeze=False, sharey=True))
        accuracy = [100 * (row.accuracy or 0) for row in finished]
        for axes, key in zip(grid, keys, strict=False):
            axes.plot(as_numbers(finished, key, recipe), accuracy, "o", color=COLOURS[0], ms=4)
            axes.plot(as_numbers([best], key, recipe), 100 * (best.accuracy or 0), "o", color=BEST)
            if key in curves:
                numbers, predicted = curves[key]
                axes.plot(numbers, 100 * predicted, color=GREY)
            axes.set_xlabel(printable(key))
            _label(axes, recipe.search[key])
            axes.grid(alpha=0.3)
        for axes in grid[len(keys) :]:
            axes.set_axis_off()
        for axes in grid[::SLICE_COLUMNS]:
            axes.set_ylabel("validation accuracy, %")

    return figure_svg("slices", draw, (9, 2.6 * num_rows))


def draw_parallel(rows: Sequence[TrialRow], recipe: Recipe) -> str:
    """Draw each finished trial as a line over the searched keys, the best ones on top."""
    keys = list(recipe.search)
    finished = [row for row in rows if row.accuracy is not None and row.is_finished]
    finished.sort(key=lambda row: row.accuracy or 0)

    def draw(figure: Figure) -> None:
        import matplotlib

        axes = figure.subplots()
        columns = [_between_0_and_1(as_numbers(finished, key, recipe)) for key in keys]
        ranks = np.linspace(0, 1, len(finished))
        for number, rank in enumerate(ranks):
            colour = matplotlib.colormaps["viridis"](rank)
            line = [column[number] for column in columns]
            axes.plot(range(len(keys)), line, color=colour, lw=1 + rank, alpha=0.4 + 0.6 * rank)
        axes.set_xticks(range(len(keys)), [printable(key) for key in keys], rotation=20, ha="right")
        axes.set_yticks([0, 1], ["lowest", "highest"])
        axes.grid(axis="x", alpha=0.5)

    return figure_svg("parallel", draw, (9, 3.6))


def draw_importances(found: Sequence[Importance]) -> str:
    """Draw the importance of each key, with one standard deviation."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = range(len(found))
        axes.barh(
            places,
            [each.mean for each in found],
            xerr=[each.deviation for each in found],
            color=COLOURS[0],
            ecolor=GREY,
        )
        axes.set_yticks(places, [printable(each.key) for each in found])
        axes.invert_yaxis()
        axes.set_xlabel("fall of R² without the key")

    return figure_svg("importances", draw, (7, 0.8 + 0.4 * len(found)))


def _between_0_and_1(values: np.ndarray) -> np.ndarray:
    low, high = np.nanmin(values), np.nanmax(values)
    return (values - low) / (high - low) if high > low else np.full_like(values, 0.5)


def _label(axes: Axes, entry: SearchEntry) -> None:
    """Write choices as they are, and numbers on a log scale as powers of ten."""
    if isinstance(entry, SearchChoices):
        names = [printable(str(each)) for each in entry.choices]
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        return
    axes.xaxis.set_major_locator(MaxNLocator(3))  # more labels would overlap
    if entry.scale == "log":
        axes.xaxis.set_major_formatter(lambda value, _: f"{10**value:.1e}")
