"""Learning curves: test accuracy by the number of training images."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cifar_models.comparison.run_metrics import correct_predictions
from cifar_models.comparison.significance import (
    CONFIDENCE,
    Interval,
    accuracy_interval,
    compare_models,
    holm,
)
from cifar_models.run.load import FinishedRun


@dataclass(frozen=True)
class Point:
    """A point of a learning curve."""

    images: int  # training images, mean over the runs
    accuracy: Interval  # test accuracy over the runs, in [0, 1]
    correct: np.ndarray  # images that each run gets right, bool (S, N)


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
    correct = np.stack([correct_predictions(run) for run in runs])
    return Point(images, accuracy_interval(correct), correct)


def crossings(curves: Sequence[LearningCurve]) -> Iterator[str]:
    """Yield a sentence for each pair of curves with the same numbers of training images.

    A curve leads where the difference of the recipes is significant, adjusted for the number of
    pairs and points. There is no lead at a point with one run.
    """
    pairs = [
        (one, other)
        for one, other in itertools.combinations(curves, 2)
        if [point.images for point in one.points] == [point.images for point in other.points]
    ]
    tests = [
        compare_models([of_one.correct, of_other.correct])[0]
        for one, other in pairs
        for of_one, of_other in zip(one.points, other.points, strict=True)
    ]
    p_values = holm([test.p_value if test.is_between_recipes else 1.0 for test in tests])
    results = iter(zip(tests, p_values, strict=True))
    for one, other in pairs:
        leaders = [
            (one.name if test.difference > 0 else other.name, point.images)
            for point, (test, p_value) in zip(one.points, results, strict=False)
            if p_value < 1 - CONFIDENCE
        ]
        yield _describe_leads(one, other, leaders)


def _describe_leads(
    one: LearningCurve, other: LearningCurve, leaders: Sequence[tuple[str, int]]
) -> str:
    """Return a sentence that says which of two curves leads at which numbers of images.

    Args:
        one: A curve.
        other: Another curve.
        leaders: The name of the leading curve and the number of images, where one leads.
    """
    names = {name for name, _ in leaders}
    if not leaders:
        return (
            f"The runs cannot tell {one.name} and {other.name} apart at any number of training "
            "images."
        )
    if len(names) == 1:
        trailing = ({one.name, other.name} - names).pop()
        numbers = ", ".join(f"{images:,}" for _, images in leaders)
        return f"{leaders[0][0]} leads {trailing} at these numbers of training images: {numbers}."
    changes = [
        f"{before} leads at {fewer:,} training images, {after} leads at {more:,}"
        for (before, fewer), (after, more) in itertools.pairwise(leaders)
        if before != after
    ]
    return f"{one.name} and {other.name} cross: {'; '.join(changes)}."
