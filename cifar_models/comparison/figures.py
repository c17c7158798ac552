"""Figures of a comparison, as SVG that takes its text colour from the surrounding report."""

from collections.abc import Sequence

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
    set_log_axis,
    wrapped,
)
from cifar_models.comparison.models import Model
from cifar_models.comparison.runtimes import RuntimeRow
from cifar_models.evaluation.figure_text import readable_names
from cifar_models.evaluation.metrics import CALIBRATION_BINS, confusion_matrix
from cifar_models.run.load import FinishedRun

PARETO_COSTS = {  # metric → axis label
    "flops_per_image": "FLOPs/image",
    "train_seconds": "training time, s",
    "latency_1_p50": "latency of 1 image, ms",
}
RUNTIME_COSTS = {  # key of `RuntimeRow.values` → axis label
    "latency_1_p50": "latency of 1 image, ms",
    "images_per_second": "images/s, 128 at a time",
}
MAX_CLASSES_WITH_NAMES = 20  # on the axes of a confusion matrix
MIN_COST_RATIO = 1.01  # of the largest cost to the smallest; closer ones are the same


def draw_accuracies(comparison: Comparison) -> str:
    """Draw the accuracy of each run, and the mean and its 95 % interval for each model."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, model in enumerate(reversed(comparison.models)):
            colour = colour_of(comparison, model)
            points = 100 * model.correct().mean(axis=1)
            accuracy = model.accuracy
            axes.plot(points, [row] * len(points), "o", color=colour, alpha=0.5, markersize=5)
            axes.plot(100 * accuracy.mean, row, "D", color=colour, markersize=8)
            if len(points) > 1:
                bounds = [100 * accuracy.low, 100 * accuracy.high]
                axes.plot(bounds, [row, row], color=colour, lw=2)
        axes.set_yticks(range(len(comparison.models)))
        axes.set_yticklabels([wrapped(model.name) for model in reversed(comparison.models)])
        axes.set_xlabel(f"{comparison.split} accuracy, %")
        axes.set_ylim(-0.6, len(comparison.models) - 0.4)
        axes.grid(axis="x", alpha=0.3)

    return figure_svg("accuracies", draw, (7, 1 + 0.45 * len(comparison.models)))


def draw_training(comparison: Comparison) -> str:
    """Draw validation accuracy by training time, with one line for each run."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for model in comparison.models:
            for number, run in enumerate(validated_runs(model)):
                seconds = np.cumsum([row["seconds"] for row in run.history])
                accuracy = [100 * row["validation_accuracy"] for row in run.history]
                label = wrapped(model.name) if number == 0 else None
                axes.plot(seconds, accuracy, color=colour_of(comparison, model), label=label, lw=1)
        axes.set(xlabel="time including compilation, s", ylabel="validation accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)

    return figure_svg("training", draw, (7, 3.6))


def validated_runs(model: Model) -> list[FinishedRun]:
    """Return the runs of a model whose history has a validation accuracy and times."""
    columns = {"validation_accuracy", "seconds"}
    return [run for run in model.runs if columns <= run.history[0].keys()]


def draw_learning_curves(comparison: Comparison) -> str:
    """Draw test accuracy by the number of training images, with 95 % intervals."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for curve in comparison.curves:
            colour = colour_of(comparison, curve)
            images = [point.images for point in curve.points]
            mean = [100 * point.accuracy.mean for point in curve.points]
            low = [100 * point.accuracy.low for point in curve.points]
            high = [100 * point.accuracy.high for point in curve.points]
            axes.plot(images, mean, "o-", color=colour, label=wrapped(curve.name))
            axes.fill_between(images, low, high, color=colour, alpha=0.15, lw=0)
        axes.set(xlabel="training images", ylabel=f"{comparison.split} accuracy, %")
        axes.set_ylim(top=100)
        set_log_axis(axes)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)

    return figure_svg("learning_curves", draw, (7, 3.6))


def draw_pareto(comparison: Comparison) -> str:
    """Draw accuracy against each cost in which models differ, and circle the Pareto front."""
    costs = differing_costs(comparison)

    def draw(figure: Figure) -> None:
        grid = np.ravel(figure.subplots(1, len(costs), sharey=True, squeeze=False))
        for axes, (label, values) in zip(grid, costs.items(), strict=True):
            _draw_front(axes, comparison, values)
            axes.set_xlabel(label)
        grid[0].set_ylabel(f"{comparison.split} accuracy, %")

    return figure_svg("pareto", draw, (4 * len(costs), 3.4))


def differing_costs(comparison: Comparison) -> dict[str, list[float]]:
    """Map the axis label of each cost that all models have to one mean for each model.

    A cost that is the same for all of them, such as the training time with a time budget, is left
    out.
    """
    costs = {}
    for metric, label in PARETO_COSTS.items():
        intervals = [model.interval(metric) for model in comparison.models]
        means = [interval.mean for interval in intervals if interval]
        if len(means) < len(comparison.models):
            continue
        if max(means) > MIN_COST_RATIO * min(means) or len(means) == 1:
            costs[label] = means
    return costs


def _draw_front(axes: Axes, comparison: Comparison, costs: Sequence[float]) -> None:
    accuracies = [100 * model.accuracy.mean for model in comparison.models]
    front = pareto_front(list(zip(costs, accuracies, strict=True)))
    axes.plot(*zip(*front, strict=True), "o--", color=GREY, lw=1, ms=12, mfc="none", zorder=0)
    for model, cost, accuracy in zip(comparison.models, costs, accuracies, strict=True):
        axes.plot(cost, accuracy, "o", color=colour_of(comparison, model))
        axes.annotate(wrapped(model.name), (cost, accuracy), (5, 5), textcoords="offset points")
    set_log_axis(axes)
    axes.margins(x=0.35, y=0.2)
    if len(set(costs)) == 1:  # a logarithmic axis around one value would span all magnitudes
        axes.set_xlim(costs[0] / 3, costs[0] * 3)
    axes.grid(alpha=0.3)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, value) that no other point beats in both, sorted by cost."""
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front


def draw_reliability(comparison: Comparison) -> str:
    """Draw a reliability diagram for each model: accuracy by confidence.

    Source: Guo et al. (2017), arXiv:1706.04599.
    """

    def draw(axes: Axes, model: Model) -> None:
        confidence = np.concatenate([run.probabilities.max(axis=1) for run in model.runs])
        correct = model.correct().ravel()
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
        bins = np.ceil(confidence * CALIBRATION_BINS).astype(int).clip(1, CALIBRATION_BINS) - 1
        counts = np.bincount(bins, minlength=CALIBRATION_BINS)
        right = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS)
        accuracy = np.divide(right, counts, out=np.zeros_like(right), where=counts > 0)
        colour = colour_of(comparison, model)
        width = 1 / CALIBRATION_BINS
        axes.bar(edges[:-1], accuracy, width, align="edge", color=colour, alpha=0.7)
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        axes.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1), box_aspect=1)

    return panels_svg("reliability", comparison, draw, "accuracy", 3.0)


def draw_confusions(comparison: Comparison) -> str:
    """Draw a confusion matrix over all runs for each model, with rows that sum to 1.

    Of many classes, only some are drawn.
    """
    classes = comparison.shown_classes
    all_names = readable_names(comparison.dataset.class_names)
    names = [all_names[number] for number in classes]

    def draw(axes: Axes, model: Model) -> None:
        counts = np.sum(
            [confusion_matrix(run.labels, run.probabilities, classes) for run in model.runs], axis=0
        )
        labels = np.concatenate([run.labels for run in model.runs])
        images = np.bincount(labels, minlength=len(all_names))[classes]
        fractions = counts / images[:, None].clip(1)
        axes.imshow(fractions, cmap="viridis", vmin=0, vmax=1)
        if len(names) <= MAX_CLASSES_WITH_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted class")

    return panels_svg("confusions", comparison, draw, "true class", 3.6)


def draw_classes(comparison: Comparison) -> str:
    """Draw the recall of each class, or of some of many, with one bar for each model."""
    classes = comparison.shown_classes
    all_names = readable_names(comparison.dataset.class_names)
    names = [all_names[number] for number in classes]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        draw_bars(axes, comparison, names, lambda model: 100 * model.class_recall()[classes])
        axes.set(ylabel="recall, %", ylim=(0, 100))
        add_legend_above(figure, comparison)

    return figure_svg("classes", draw, (max(7, 0.35 * len(names)), 3.6))


def draw_runtimes(comparison: Comparison, rows: Sequence[RuntimeRow]) -> str:
    """Draw latency and throughput in each runtime, with one bar for each model."""
    runtimes = list(dict.fromkeys(row.runtime for row in rows))
    values = {(row.model, row.runtime): row.values for row in rows}

    def draw(figure: Figure) -> None:
        for axes, key in zip(figure.subplots(1, 2), RUNTIME_COSTS, strict=True):

            def values_of(model: Model, key: str = key) -> list[float]:
                measured = [values.get((model.name, runtime), {}) for runtime in runtimes]
                return [each.get(key, np.nan) for each in measured]

            draw_bars(axes, comparison, runtimes, values_of)
            axes.set_ylabel(RUNTIME_COSTS[key])
        add_legend_above(figure, comparison)

    return figure_svg("runtimes", draw, (8, 3.8))
