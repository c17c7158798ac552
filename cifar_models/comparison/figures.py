"""Figures of a comparison, as SVG that takes its colours from the page around it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.figure_style import GREY, colour_of, folded, legend_above, panels, svg
from cifar_models.comparison.models import Model
from cifar_models.evaluation.metrics import CALIBRATION_BINS, confusion_matrix


def draw_accuracies(comparison: Comparison) -> str:
    """A point for each run, the mean and its 95 % interval for each model."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, model in enumerate(reversed(comparison.models)):
            colour = colour_of(comparison, model)
            points = 100 * model.correct().mean(axis=1)
            score = model.accuracy
            axes.plot(points, [place] * len(points), "o", color=colour, alpha=0.5, markersize=5)
            axes.plot(100 * score.mean, place, "D", color=colour, markersize=8)
            if len(points) > 1:
                axes.plot([100 * score.low, 100 * score.high], [place, place], color=colour, lw=2)
        axes.set_yticks(range(len(comparison.models)))
        axes.set_yticklabels([folded(model.name) for model in reversed(comparison.models)])
        axes.set(xlabel="test accuracy, %", ylim=(-0.6, len(comparison.models) - 0.4))
        axes.grid(axis="x", alpha=0.3)

    return svg("accuracies", draw, (7, 1 + 0.45 * len(comparison.models)))


def draw_training(comparison: Comparison) -> str:
    """Validation accuracy against the seconds of training, a line for each run."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for model in comparison.models:
            validated = [run for run in model.runs if "validation_accuracy" in run.history[0]]
            for number, run in enumerate(validated):
                seconds = np.cumsum([row["seconds"] for row in run.history])
                accuracy = [100 * row["validation_accuracy"] for row in run.history]
                label = model.name if number == 0 else None
                axes.plot(seconds, accuracy, color=colour_of(comparison, model), label=label, lw=1)
        axes.set(xlabel="seconds, compiling included", ylabel="validation accuracy, %")
        axes.grid(alpha=0.3)
        if axes.lines:  # runs without a validation split have none
            axes.legend(frameon=False)

    return svg("training", draw, (7, 3.6))


def draw_learning_curves(comparison: Comparison) -> str:
    """Test accuracy against the number of training images, with 95 % intervals."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for curve in comparison.curves:
            colour = colour_of(comparison, curve)
            images = [point.images for point in curve.points]
            mean = [100 * point.accuracy.mean for point in curve.points]
            low = [100 * point.accuracy.low for point in curve.points]
            high = [100 * point.accuracy.high for point in curve.points]
            axes.plot(images, mean, "o-", color=colour, label=curve.name)
            axes.fill_between(images, low, high, color=colour, alpha=0.15, lw=0)
        axes.set(
            xlabel="training images", ylabel="test accuracy, %", xscale="log", ylim=(None, 100)
        )
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)

    return svg("learning_curves", draw, (7, 3.6))


def draw_pareto(comparison: Comparison, costs: Sequence[tuple[str, str]]) -> str:
    """Accuracy against each cost; the models that nothing beats in both are ringed and joined.

    Args:
        comparison: whose models have a mean for every cost.
        costs: (key of metrics.json, label of the axis).
    """

    def draw(figure: Figure) -> None:
        for axes, (key, label) in zip(
            np.atleast_1d(figure.subplots(1, len(costs), sharey=True)), costs, strict=True
        ):
            points = [
                (model.mean(key), 100 * model.accuracy.mean, model) for model in comparison.models
            ]
            front = pareto_front([point[:2] for point in points])
            ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "color": GREY}
            axes.plot(*zip(*front, strict=True), lw=1, ls="--", zorder=0, **ring)
            for cost, accuracy, model in points:
                axes.plot(cost, accuracy, "o", color=colour_of(comparison, model))
                axes.annotate(
                    folded(model.name), (cost, accuracy), (5, 5), textcoords="offset points"
                )
            axes.set(xlabel=label, xscale="log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: short(value)))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.margins(x=0.35, y=0.2)
            if len({cost for cost, *_ in points}) == 1:  # else the axis would span all magnitudes
                axes.set_xlim(points[0][0] / 3, points[0][0] * 3)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("test accuracy, %")

    return svg("pareto", draw, (4 * len(costs), 3.4))


def short(value: float) -> str:
    """A number for an axis: 0.3, 30, 3k, 300M."""
    return f"{value:g}" if value < 1000 else EngFormatter(sep="")(value)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (cost, value) that no other point beats in both, by cost."""
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front


def draw_reliability(comparison: Comparison) -> str:
    """How often a model is right when it is so sure: Guo et al. 2017, arXiv:1706.04599."""

    def draw(axes: Axes, model: Model) -> None:
        confidence = np.concatenate([run.probabilities.max(axis=1) for run in model.runs])
        correct = model.correct().ravel()
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
        bins = np.ceil(confidence * CALIBRATION_BINS).astype(int).clip(1, CALIBRATION_BINS) - 1
        counts = np.bincount(bins, minlength=CALIBRATION_BINS)
        right = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS)
        accuracy = np.divide(right, counts, out=np.zeros_like(right), where=counts > 0)
        axes.bar(edges[:-1], accuracy, 1 / CALIBRATION_BINS, align="edge",
                 color=colour_of(comparison, model), alpha=0.7)  # fmt: skip
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        axes.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1), box_aspect=1)

    return panels("reliability", comparison, draw, "accuracy", 3.0)


def draw_confusions(comparison: Comparison) -> str:
    """Each true class's row: the share of its images that got each answer, over all runs."""
    names = comparison.dataset["class_names"]

    def draw(axes: Axes, model: Model) -> None:
        counts = np.sum(
            [confusion_matrix(run.labels, run.probabilities) for run in model.runs], axis=0
        )
        axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="viridis", vmin=0, vmax=1)
        if len(names) <= 20:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted")

    return panels("confusions", comparison, draw, "true", 3.6)


def draw_classes(comparison: Comparison) -> str:
    """The part of each class that is recognised, a bar for each model."""
    names = comparison.dataset["class_names"]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(comparison.models)
        for number, model in enumerate(comparison.models):
            places = np.arange(len(names)) + (number - (len(comparison.models) - 1) / 2) * width
            colour = colour_of(comparison, model)
            axes.bar(places, 100 * model.class_accuracy(), width, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set(ylabel="recognised, %", ylim=(0, 100))
        axes.grid(axis="y", alpha=0.3)
        legend_above(figure, comparison)

    return svg("classes", draw, (max(7, 0.35 * len(names)), 3.6))
