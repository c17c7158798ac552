"""Draw the figure of the README: test accuracy against training time."""

import io
import json
from collections.abc import Sequence

INK, CPU_COLOUR, OTHER_COLOUR = "#24292f", "#1f6feb", "#bf5700"
TICKS = {  # seconds: label
    1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 20: "20 s", 30: "30 s",
    60: "1 min", 120: "2 min", 300: "5 min", 600: "10 min", 1200: "20 min", 2400: "40 min",
    3600: "1 h", 7200: "2 h", 18000: "5 h", 36000: "10 h",
}  # fmt: skip


def figure_svg(points: Sequence[dict], data: str) -> str:
    """Return the figure as SVG, which also holds the points as JSON in its description.

    The background is opaque white, so that the figure is readable on dark backgrounds too. The
    same points always give the same file.

    Args:
        points: Points as `results_table.points_of` returns them.
        data: Name of the data set, for the title.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.hashsalt": "results", "font.size": 10, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.2, 5.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for point in points:
            _draw_point(axes, point)
        devices = sorted({point["device"] for point in points})
        axes.set_xlabel(f"training time, log scale ({'; '.join(devices)})")
        axes.set_ylabel("test accuracy, %")
        axes.set_title(f"{data}: accuracy against training time", fontsize=11)
        _style_axes(axes, points)
        svg = io.StringIO()
        description = {"Date": None, "Description": json.dumps(list(points))}
        figure.savefig(svg, format="svg", metadata=description)
    return "\n".join(line.rstrip() for line in svg.getvalue().splitlines()) + "\n"


def _draw_point(axes, point: dict) -> None:
    """Draw the seeds of one result and their mean, with a label."""
    seconds, accuracies = point["train_seconds"], point["accuracies"]
    mean = sum(accuracies) / len(accuracies)
    colour = CPU_COLOUR if point["device"].startswith("CPU") else OTHER_COLOUR
    filled = point["tta_views"] > 1
    if len(accuracies) > 1:
        axes.plot([seconds] * len(accuracies), accuracies, "_", color=colour, markersize=13)
    axes.plot(seconds, mean, "o", color=colour, markersize=8, mfc=colour if filled else "white")
    axes.annotate(
        f"{point['recipe']}\n{point['parameters'] / 1e6:.2f} M, n = {len(accuracies)}",
        (seconds, mean),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
    )


def _style_axes(axes, points: Sequence[dict]) -> None:
    """Set the scale, the ticks and the legend."""
    from matplotlib.lines import Line2D

    seconds = [point["train_seconds"] for point in points] or [60]
    means = [sum(point["accuracies"]) / len(point["accuracies"]) for point in points] or [50]
    lowest, highest = min(seconds) / 1.6, max(seconds) * 2  # labels are at the right of points
    ticks = {value: text for value, text in TICKS.items() if lowest <= value <= highest}
    axes.set_xscale("log")
    axes.set_xlim(lowest, highest)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_ylim(min(means) - 2.5, max(means) + 1.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#d0d7de", linewidth=0.6)
    marker = {"marker": "o", "color": CPU_COLOUR, "linestyle": "", "markersize": 8}
    handles = [
        Line2D([], [], label="with test-time augmentation", **marker),
        Line2D([], [], label="one view of each image", markerfacecolor="white", **marker),
    ]
    axes.figure.legend(
        handles=handles,
        title="label: recipe, million parameters, number of seeds n",
        title_fontsize=8.5,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8.5,
    )
