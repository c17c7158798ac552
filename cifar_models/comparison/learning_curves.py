"""Learning curves: test accuracy by the number of training images."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cifar_models.comparison.run_metrics import correct_predictions
from cifar_models.comparison.significance import Interval, mean_interval
from cifar_models.run.load import FinishedRun


@dataclass(frozen=True)
class Point:
    """A point of a learning curve."""

    images: int  # training images, mean over the runs
    accuracy: Interval  # test accuracy over the runs, in [0, 1]


@dataclass(frozen=True)
class LearningCurve:
    """The learning curve of one recipe."""

    name: str
    points: tuple[Point, ...]  # sorted by the number of images


def learning_curves(groups: Mapping[str, Sequence[FinishedRun]]) -> Iterator[LearningCurve]:
    """Yield a curve for each recipe that was trained on at least two fractions of the images.

    Args:
        groups: Recipe name → runs.
    """
    for name, runs in groups.items():
        fractions: dict[float, list[FinishedRun]] = defaultdict(list)
        for run in runs:
            fractions[run.recipe.data.train_fraction].append(run)
        if len(fractions) > 1:
            yield LearningCurve(name, tuple(_point(fractions[key]) for key in sorted(fractions)))


def _point(runs: Sequence[FinishedRun]) -> Point:
    images = round(np.mean([run.dataset.train_images for run in runs]))
    accuracies = np.array([correct_predictions(run).mean() for run in runs])
    return Point(images, mean_interval(accuracies))


def crossings(curves: Sequence[LearningCurve]) -> Iterator[str]:
    """Yield a sentence for each pair of curves with the same numbers of training images.

    A curve leads where the 95 % intervals of the two means do not overlap.
    """
    for one, other in itertools.combinations(curves, 2):
        if [p.images for p in one.points] == [p.images for p in other.points]:
            yield _describe_leads(one, other)


def _describe_leads(one: LearningCurve, other: LearningCurve) -> str:
    """Return a sentence that says which of two curves leads at which numbers of images."""
    leaders = [
        (_leader(one.name, p.accuracy, other.name, q.accuracy), p.images)
        for p, q in zip(one.points, other.points, strict=True)
    ]
    leads = [(name, images) for name, images in leaders if name]
    names = {name for name, _ in leads}
    if not leads:
        return (
            f"The runs cannot tell {one.name} and {other.name} apart at any number of training "
            "images."
        )
    if len(names) == 1:
        trailing = ({one.name, other.name} - names).pop()
        numbers = ", ".join(f"{images:,}" for _, images in leads)
        return f"{leads[0][0]} leads {trailing} at these numbers of training images: {numbers}."
    changes = [
        f"{before} leads at {fewer:,} training images, {after} leads at {more:,}"
        for (before, fewer), (after, more) in itertools.pairwise(leads)
        if before != after
    ]
    return f"{one.name} and {other.name} cross: {'; '.join(changes)}."


def _leader(one: str, a: Interval, other: str, b: Interval) -> str | None:
    """Return the name whose interval lies above the other one, or None if they overlap."""
    if a.low > b.high:
        return one
    return other if b.low > a.high else None
