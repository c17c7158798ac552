"""Parts that the figures of a comparison share: style, colours, legends, panels and SVG output."""

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.learning_curves import LearningCurve
from cifar_models.comparison.models import Model
from cifar_models.evaluation.figure_text import OWN_STYLE
from cifar_models.runtime.text import printable

COLOURS = ("#3b76c4", "#d1772a", "#3c9a5f", "#a35bb5", "#c4474f", "#7d6b5d", "#c98fae", "#8a8a2c")
GREY = "#888888"  # lines and numbers, readable on dark and on light
STYLE: dict[Any, Any] = {
    **OWN_STYLE,
    "svg.fonttype": "none",  # text stays text, so that the report can colour it
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def colour_of(comparison: Comparison, subject: Model | LearningCurve) -> str:
    """Return the colour of a recipe, the same for its model and its learning curve."""
    names = [model.name for model in comparison.models]
    names += [curve.name for curve in comparison.curves if curve.name not in names]
    return COLOURS[names.index(subject.name) % len(COLOURS)]


def wrapped(name: str) -> str:
    """Break a long name over several lines. A legend would leave out one that begins with _."""
    lines = textwrap.fill(name, 30, break_long_words=False, break_on_hyphens=False)
    return f" {lines}" if lines.startswith("_") else lines


def add_legend_above(figure: Figure, comparison: Comparison) -> None:
    """Add a legend of all models above the axes."""
    names = [wrapped(model.name) for model in comparison.models]
    longest = max(len(line) for name in names for line in name.splitlines())
    figure.legend(
        [Patch(color=colour_of(comparison, model)) for model in comparison.models],
        names,
        frameon=False,
        ncols=4 if longest < 20 else 2,
        loc="outside upper center",
    )


def set_log_axis(axes: Axes) -> None:
    """Make the x axis logarithmic, with labels such as 0.5, 20, 5k or 1M.

    The default labels of a logarithmic axis are formulas, which `STYLE` does not render.
    """
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def short_number(value: float) -> str:
    """Return a number in few characters: 0.3, 30, 3k, 300M."""
    return f"{value:g}" if value < 1000 else EngFormatter(sep="")(value)


def draw_bars(
    axes: Axes,
    comparison: Comparison,
    names: Sequence[str],
    values_of: Callable[[Model], Sequence[float] | np.ndarray],
) -> None:
    """Draw a group of bars for each name, with one bar for each model.

    Args:
        axes: Axes to draw on.
        comparison: The comparison.
        names: Names of the N groups.
        values_of: Function that returns the values (N,) of a model. NaN leaves out a bar.
    """
    width = 0.8 / len(comparison.models)
    for number, model in enumerate(comparison.models):
        offset = (number - (len(comparison.models) - 1) / 2) * width
        positions = np.arange(len(names)) + offset
        axes.bar(positions, values_of(model), width, color=colour_of(comparison, model))
    shown = [printable(name) for name in names]  # an axis writes its texts anew when it is drawn
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(axis="y", alpha=0.3)


def panels_svg(
    name: str,
    comparison: Comparison,
    draw: Callable[[Axes, Model], None],
    ylabel: str,
    side: float,
) -> str:
    """Return an <svg> element with one panel for each model, three in a row.

    Args:
        name: Name of the figure.
        comparison: The comparison.
        draw: Function that draws the panel of a model.
        ylabel: Label of the y axis of the first panel of each row.
        side: Width and height of a panel, inches.
    """
    columns = min(3, len(comparison.models))
    rows = -(-len(comparison.models) // columns)

    def draw_all(figure: Figure) -> None:
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes, model in zip(grid, comparison.models, strict=False):
            draw(axes, model)
            axes.set_title(wrapped(model.name))
        for axes in grid[len(comparison.models) :]:
            axes.set_axis_off()
        for axes in grid[::columns]:
            axes.set_ylabel(ylabel)

    return figure_svg(name, draw_all, (side * columns, side * rows))


def figure_svg(name: str, draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """Return a figure as an <svg> element. The same data give the same text.

    Args:
        name: Name of the figure, which seeds the identifiers in the SVG.
        draw: Function that draws the figure.
        size: Width and height, inches.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.12))  # inches
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        for text in figure.findobj(Text):
            lines = text.get_text().split("\n")
            text.set_text("\n".join(map(printable, lines)))  # names may be untrusted
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    return svg[svg.index("<svg") :]
