"""What the figures of a comparison share: colours, names, legends, panels, and the SVG itself."""

import io
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.learning_curves import LearningCurve
from cifar_models.comparison.models import Model

COLOURS = ("#3b76c4", "#d1772a", "#3c9a5f", "#a35bb5", "#c4474f", "#7d6b5d", "#c98fae", "#8a8a2c")
GREY = "#888888"  # lines and numbers, readable on dark and on light
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, so that the page can colour it
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
    """A model and its learning curve have one colour."""
    names = [model.name for model in comparison.models]
    names += [curve.name for curve in comparison.curves if curve.name not in names]
    return COLOURS[names.index(subject.name) % len(COLOURS)]


def folded(name: str) -> str:
    """A model's name over several lines, where what sets it apart from its namesakes is long."""
    return textwrap.fill(name, 30, break_long_words=False, break_on_hyphens=False)


def legend_above(figure: Figure, comparison: Comparison) -> None:
    names = [folded(model.name) for model in comparison.models]
    colours = [colour_of(comparison, model) for model in comparison.models]
    longest = max(len(line) for name in names for line in name.splitlines())
    figure.legend(
        [Patch(color=colour) for colour in colours],
        names,
        frameon=False,
        ncols=4 if longest < 20 else 2,
        loc="outside upper center",
    )


def panels(
    name: str,
    comparison: Comparison,
    draw: Callable[[Axes, Model], None],
    ylabel: str,
    side: float,
) -> str:
    """One panel for each model, three a row."""
    columns = min(3, len(comparison.models))
    rows = -(-len(comparison.models) // columns)

    def draw_all(figure: Figure) -> None:
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes, model in zip(grid, comparison.models, strict=False):
            draw(axes, model)
            axes.set_title(folded(model.name))
        for axes in grid[len(comparison.models) :]:
            axes.set_axis_off()
        for axes in grid[::columns]:
            axes.set_ylabel(ylabel)

    return svg(name, draw_all, (side * columns, side * rows))


def svg(name: str, draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """Returns an <svg> element; the same data give the same text."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.12))  # inches
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]
