"""Many finished runs become one comparison: means with intervals, paired tests, words, warnings."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cifar_models.comparison.caveats import find_caveats
from cifar_models.comparison.learning_curves import LearningCurve, learning_curves
from cifar_models.comparison.models import Model
from cifar_models.comparison.runs import Run, by_recipe, refuse_other_data
from cifar_models.comparison.significance import CONFIDENCE, Difference, compare_accuracy, holm


@dataclass(frozen=True)
class Pair:
    better: str  # by its mean, not necessarily beyond chance
    worse: str
    difference: Difference  # of the better one over the worse one
    p_value: float  # adjusted for the number of pairs
    of_pairs: int = 1  # that were tested

    def is_certain(self) -> bool:
        return self.p_value < 1 - CONFIDENCE

    def conclusion(self) -> str:
        """What the test carries, and no more; differences in percentage points."""
        of = self.difference
        size = f"{100 * of.difference:.1f} points [{100 * of.low:.1f}, {100 * of.high:.1f}]"
        about = "" if min(of.runs) > 1 else " These are single runs: another seed may change it."
        if self.is_certain():
            return f"{self.better} is better than {self.worse} by {size}.{about}"
        alone = ""
        if of.p_value < 1 - CONFIDENCE:
            alone = f" (enough for one pair, but of {self.of_pairs} one may differ so by chance)"
        power = (
            f"A difference of {100 * of.detectable:.1f} points would have been found four times "
            "out of five."
        )
        if of.detectable > 1:
            power = "They vary so much, or are so few, that no difference would have been found."
        return (
            f"These runs cannot tell {self.better} and {self.worse} apart: {size}{alone}. {power}"
            f"{about}"
        )


@dataclass(frozen=True)
class Comparison:
    models: tuple[Model, ...]  # the highest mean accuracy first
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...]
    curves: tuple[LearningCurve, ...] = ()

    @property
    def dataset(self) -> dict:
        return self.models[0].runs[0].dataset


def compare(runs: Sequence[Run]) -> Comparison:
    """Groups runs by recipe, and tests every pair of models on the same test images.

    Where the recipes were trained on several parts of the training images, the models are those
    of the largest part, and the others are points of learning curves.

    Raises:
        RequestError: the runs are of other data, classes or test images than the first.
    """
    for run in runs[1:]:
        refuse_other_data(runs[0], run)
    largest = max(run.recipe.data.train_fraction for run in runs)
    groups = by_recipe(runs)
    models = []
    for name, group in groups.items():
        main = tuple(run for run in group if run.recipe.data.train_fraction == largest)
        if main:
            models.append(Model(name, main))
    models.sort(key=lambda model: -model.accuracy.mean)
    couples = list(itertools.combinations(models, 2))
    differences = [compare_accuracy(worse.correct(), better.correct()) for better, worse in couples]
    p_values = holm([difference.p_value for difference in differences])
    pairs = tuple(
        Pair(better.name, worse.name, difference, p_value, len(couples))
        for (better, worse), difference, p_value in zip(couples, differences, p_values, strict=True)
    )
    names = [*(model.name for model in models), *groups]  # a recipe may have smaller parts alone
    curves = sorted(learning_curves(groups), key=lambda curve: names.index(curve.name))
    return Comparison(tuple(models), pairs, tuple(find_caveats(models)), tuple(curves))
