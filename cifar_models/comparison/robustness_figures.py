"""Figures of a comparison about corrupted images and out-of-distribution inputs, as SVG."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.figure_style import (
    GREY,
    add_legend_above,
    colour_of,
    draw_bars,
    figure_svg,
    panels_svg,
)
from cifar_models.comparison.models import Model

# Kind of input in `Robustness.entropy` → label and colour.
ENTROPY_INPUTS = {
    "test": ("test images", GREY),
    "noise": ("uniform noise", "#c4474f"),
    "shuffled": ("shuffled pixels", "#d1772a"),
}


def draw_corruptions(comparison: Comparison) -> str:
    """Draw mean accuracy under each corruption; dashed lines show the uncorrupted images."""
    measured = [each.accuracy for model in comparison.models for each in model.robustness()]
    corruptions = [name for name in measured[0] if all(name in each for each in measured)]

    def accuracies(model: Model) -> list[float]:
        return [
            100 * float(np.mean([measured.accuracy[name] for measured in model.robustness()]))
            for name in corruptions
        ]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        draw_bars(axes, comparison, [n.replace("_", " ") for n in corruptions], accuracies)
        for model in comparison.models:
            clean = np.mean([measured.clean_accuracy for measured in model.robustness()])
            axes.axhline(100 * float(clean), color=colour_of(comparison, model), lw=1, ls="--")
        axes.set(ylabel="accuracy, %", ylim=(0, 100))
        add_legend_above(figure, comparison)

    return figure_svg("corruptions", draw, (9, 4))


def draw_entropies(comparison: Comparison) -> str:
    """Draw histograms of predictive entropy on test images and out-of-distribution inputs."""

    def draw(axes: Axes, model: Model) -> None:
        edges = model.robustness()[0].entropy["bins"]
        measured = [one for one in model.robustness() if one.entropy["bins"] == edges]
        for name, (label, colour) in ENTROPY_INPUTS.items():
            counts = np.sum([one.entropy[name] for one in measured], axis=0)
            axes.stairs(counts / counts.sum(), edges, color=colour, label=label, lw=1.5)
        axes.set(xlabel="predictive entropy, nats")
        axes.legend(frameon=False)

    return panels_svg("entropies", comparison, draw, "fraction of images", 3.2)
