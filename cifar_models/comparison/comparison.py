"""The statistics of a comparison: intervals, pairwise tests, caveats and learning curves."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cifar_models.comparison.caveats import find_caveats
from cifar_models.comparison.learning_curves import LearningCurve, learning_curves
from cifar_models.comparison.models import Model
from cifar_models.comparison.runs import by_recipe, refuse_different_data
from cifar_models.comparison.significance import CONFIDENCE, Difference, compare_models, holm
from cifar_models.evaluation.metrics import MAX_SHOWN_CLASSES, largest, mistakes_of_classes
from cifar_models.run.load import FinishedRun
from cifar_models.storage.records import DatasetInfo


@dataclass(frozen=True)
class Pair:
    """Two models and the test of the difference in their accuracy."""

    better: str  # the model with the higher mean accuracy; the difference may be chance
    worse: str
    difference: Difference  # accuracy of the better model minus that of the worse one
    p_value: float  # adjusted for the number of pairs
    num_pairs: int = 1  # tested pairs of the comparison

    def is_significant(self) -> bool:
        return self.p_value < 1 - CONFIDENCE

    def describe(self) -> str:
        """Return what the test supports in words, with differences in percentage points."""
        d = self.difference
        size = f"{100 * d.difference:.1f} percentage points [{100 * d.low:.1f}, {100 * d.high:.1f}]"
        if not d.is_between_recipes:
            return self._describe_networks(size)
        if self.is_significant():
            return f"{self.better} is better than {self.worse} by {size}."
        unadjusted = ""
        if d.p_value < 1 - CONFIDENCE:
            unadjusted = (
                f" (significant for a single pair, but not after adjustment for {self.num_pairs} "
                "pairs)"
            )
        power = (
            f"A true difference of {100 * d.detectable:.1f} points would be detected with a "
            "probability of 80%."
        )
        if d.detectable > 1:
            power = "The runs vary too much, or are too few, to detect any difference reliably."
        return (
            f"These runs cannot tell {self.better} and {self.worse} apart: the difference is "
            f"{size}{unadjusted}. {power}"
        )

    def _describe_networks(self, size: str) -> str:
        """Return what McNemar's test says about trained networks, which is less than a verdict."""
        names = zip((self.better, self.worse), self.difference.runs, strict=True)
        single = [name for name, runs in names if runs == 1]
        few = f"{single[0]} has" if len(single) == 1 else "both have"
        start = f"No verdict on {self.better} and {self.worse}, because {few} only one run"
        if self.is_significant():
            result = f"is more accurate by {size} (McNemar's test, p = {self.p_value:.2g})"
            if max(self.difference.runs) > 1:
                result += ", in each pair of runs"
            return f"{start}; of the trained networks, that of {self.better} {result}."
        return (
            f"{start}, and the test images cannot tell the trained networks apart: the difference "
            f"is {size}."
        )


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison."""

    models: tuple[Model, ...]  # sorted by mean accuracy, the highest first
    pairs: tuple[Pair, ...]
    caveats: tuple[str, ...]
    curves: tuple[LearningCurve, ...] = ()

    @property
    def dataset(self) -> DatasetInfo:
        return self.models[0].runs[0].dataset

    @property
    def split(self) -> str:
        """The split that the runs were measured on: "test", or "validation" for trials."""
        return self.models[0].runs[0].metrics.split

    @property
    def num_images(self) -> int:
        """The number of images in that split."""
        return len(self.models[0].runs[0].labels)

    @cached_property
    def shown_classes(self) -> np.ndarray:
        """The classes that figures show: all, or those with the most mistakes, int (C,)."""
        runs = [run for model in self.models for run in model.runs]
        mistakes = [mistakes_of_classes(run.labels, run.probabilities) for run in runs]
        return largest(np.sum(mistakes, axis=0), MAX_SHOWN_CLASSES)


def analyze(runs: Sequence[FinishedRun]) -> Comparison:
    """Group runs by recipe, and test every pair of models on the same test images.

    If recipes were trained on several fractions of the training images, the models are the runs on
    the largest fraction. The runs on smaller fractions are points of the learning curves.

    Args:
        runs: At least one finished run.

    Raises:
        RequestError: A run has other data, classes or test images than the first one.
    """
    for run in runs[1:]:
        refuse_different_data(runs[0], run)
    largest = max(run.recipe.data.train_fraction for run in runs)
    groups = by_recipe(runs)
    models = []
    for name, group in groups.items():
        on_largest = tuple(run for run in group if run.recipe.data.train_fraction == largest)
        if on_largest:
            models.append(Model(name, on_largest))
    models.sort(key=lambda model: -model.accuracy.mean)
    # Curves follow the order of the models. Recipes without a run on the largest fraction are last.
    names = [*(model.name for model in models), *groups]
    curves = sorted(learning_curves(groups), key=lambda curve: names.index(curve.name))
    return Comparison(
        models=tuple(models),
        pairs=_test_pairs(models),
        caveats=tuple(find_caveats(models)),
        curves=tuple(curves),
    )


def _test_pairs(models: Sequence[Model]) -> tuple[Pair, ...]:
    """Test each pair of models, which are sorted by accuracy, and adjust the p-values."""
    pairs = list(itertools.combinations(models, 2))
    differences = compare_models([model.correct() for model in models])
    p_values = holm([difference.p_value for difference in differences])
    return tuple(
        Pair(better.name, worse.name, difference, p_value, len(pairs))
        for (better, worse), difference, p_value in zip(pairs, differences, p_values, strict=True)
    )
