"""Accuracy against the number of training images: which model for how much data."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cifar_models.comparison.runs import Run
from cifar_models.comparison.significance import Interval, mean_interval


@dataclass(frozen=True)
class Point:
    images: int  # that were trained on, mean over the runs
    accuracy: Interval  # on the test split, over the runs


@dataclass(frozen=True)
class LearningCurve:
    name: str
    points: tuple[Point, ...]  # the fewest images first


def learning_curves(groups: Mapping[str, Sequence[Run]]) -> Iterator[LearningCurve]:
    """Yields a curve for each recipe's runs that have two numbers of images or more."""
    for name, runs in groups.items():
        parts: dict[float, list[Run]] = defaultdict(list)
        for run in runs:
            parts[run.recipe.data.train_fraction].append(run)
        if len(parts) > 1:
            yield LearningCurve(name, tuple(_point(parts[key]) for key in sorted(parts)))


def _point(runs: Sequence[Run]) -> Point:
    images = round(np.mean([run.dataset["train_images"] for run in runs]))
    return Point(images, mean_interval(np.array([run.correct.mean() for run in runs])))


def crossings(curves: Sequence[LearningCurve]) -> Iterator[str]:
    """Yields a sentence for each pair of curves measured on the same numbers of images.

    A lead counts where the 95 % intervals of the two means do not overlap.
    """
    for number, one in enumerate(curves):
        for other in curves[number + 1 :]:
            if [p.images for p in one.points] == [p.images for p in other.points]:
                yield _relation(one, other)


def _relation(one: LearningCurve, other: LearningCurve) -> str:
    leads = [
        (_leader(one.name, p.accuracy, other.name, q.accuracy), p.images)
        for p, q in zip(one.points, other.points, strict=True)
    ]
    clear = [(name, images) for name, images in leads if name]
    names = {name for name, _ in clear}
    if not clear:
        return f"{one.name} and {other.name}: at no number of images do the runs tell them apart."
    if len(names) == 1:
        at = ", ".join(f"{images:,}" for _, images in clear)
        return f"{clear[0][0]} leads {({one.name, other.name} - names).pop()} with {at} images."
    changes = [
        f"{before} leads with {few:,} images, {after} with {many:,}"
        for (before, few), (after, many) in itertools.pairwise(clear)
        if before != after
    ]
    return f"{one.name} and {other.name} cross: {'; '.join(changes)}."


def _leader(one: str, a: Interval, other: str, b: Interval) -> str | None:
    if a.low > b.high:
        return one
    return other if b.low > a.high else None
