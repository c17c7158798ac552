"""Figures of what `evaluate --corruptions` measured."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.figure_style import GREY, colour_of, legend_above, panels, svg
from cifar_models.comparison.models import Model

UNFAMILIAR = {"test": GREY, "noise": "#c4474f", "shuffled": "#d1772a"}


def draw_corruptions(comparison: Comparison) -> str:
    """Accuracy under each corruption, the mean over severities and runs; a line is none at all."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(comparison.models)
        for number, model in enumerate(comparison.models):
            measured = model.robustness()
            names = list(measured[0]["accuracy"])
            means = [100 * np.mean([one["accuracy"][name] for one in measured]) for name in names]
            places = np.arange(len(names)) + (number - (len(comparison.models) - 1) / 2) * width
            colour = colour_of(comparison, model)
            axes.bar(places, means, width, color=colour)
            clean = 100 * np.mean([one["clean_accuracy"] for one in measured])
            axes.axhline(clean, color=colour, lw=1, ls="--")
            axes.set_xticks(
                range(len(names)),
                [name.replace("_", " ") for name in names],
                rotation=45,
                ha="right",
            )
        axes.set(ylabel="accuracy, %", ylim=(0, 100))
        axes.grid(axis="y", alpha=0.3)
        legend_above(figure, comparison)

    return svg("corruptions", draw, (9, 4))


def draw_entropies(comparison: Comparison) -> str:
    """How unsure each model is of test images, of noise and of images with shuffled pixels."""

    def draw(axes: Axes, model: Model) -> None:
        measured = model.robustness()
        edges = measured[0]["entropy"]["bins"]
        for name, colour in UNFAMILIAR.items():
            counts = np.sum([one["entropy"][name] for one in measured], axis=0)
            axes.stairs(counts / counts.sum(), edges, color=colour, label=name, lw=1.5)
        axes.set(xlabel="entropy, nats")
        axes.legend(frameon=False)

    return panels("entropies", comparison, draw, "share of images", 3.2)
