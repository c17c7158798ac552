"""Confidence intervals and tests for the accuracy of models on one test split."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cifar_models.comparison.difference_test import (
    CONFIDENCE,
    chance_variance,
    difference_test,
    run_variances,
)

RESAMPLES = 2000  # number of bootstrap samples


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float  # NaN if there is only one value
    high: float  # NaN if there is only one value
    count: int  # values


@dataclass(frozen=True)
class Difference:
    """Accuracy of one model minus accuracy of another, in [-1, 1], with its test.

    Attributes:
        difference: The difference.
        low: Lower bound of its 95 % interval over the test images and, if both models have several
            runs, over their runs.
        high: Upper bound of the same interval.
        p_value: Two-sided p-value of the hypothesis that the accuracies are equal: those of the
            recipes if both models have several runs, otherwise those of the trained networks.
        bootstrap_low: Lower bound of the 95 % bootstrap interval over only the test images.
        bootstrap_high: Upper bound of the same interval.
        mcnemar_p_value: Exact p-value of McNemar's test, the median over pairs of runs.
        detectable: Smallest true difference of the recipes that is detected with a probability of
            80 %, after adjustment for all pairs. Above 1: no difference is detectable.
        runs: Number of runs of the two models.
    """

    difference: float
    low: float
    high: float
    p_value: float
    bootstrap_low: float
    bootstrap_high: float
    mcnemar_p_value: float
    detectable: float
    runs: tuple[int, int]

    @property
    def is_between_recipes(self) -> bool:
        """Whether both models have several runs. One run says nothing about another seed."""
        return min(self.runs) > 1


def mean_interval(values: np.ndarray, min_variance: float = 0.0) -> Interval:
    """Return the mean of independent runs with Student's 95 % interval.

    Args:
        values: One value for each run, float (S,).
        min_variance: Lower bound of the estimated variance between runs.
    """
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    deviation = math.sqrt(max(values.var(ddof=1), min_variance))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def accuracy_interval(correct: np.ndarray) -> Interval:
    """Return the mean accuracy of independent runs with Student's 95 % interval.

    Runs may have the same accuracy by chance. Their variance is therefore at least the variance by
    chance within images, and at least that of one image.

    Args:
        correct: Images that each of the S runs gets right, bool (S, N).
    """
    runs = np.asarray(correct, np.float64)
    num_images = runs.shape[1]
    chance = chance_variance(runs) if len(runs) > 1 else 0.0
    return mean_interval(runs.mean(axis=1), max(chance, num_images**-2))


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Return the exact two-sided p-value of the hypothesis that two error rates are equal.

    Only the images that exactly one of the two classifiers gets right carry information.

    Args:
        correct_a: Images that classifier A gets right, bool (N,).
        correct_b: Images that classifier B gets right, bool (N,).

    Source: McNemar (1947), Psychometrika 12, pages 153-157.
    """
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def compare_models(correct: Sequence[np.ndarray], seed: int = 0) -> list[Difference]:
    """Test the difference in accuracy of every pair of models on the same test images.

    Between models with several runs, it is a t-test that treats both the test images and the
    training runs as samples, so that it holds for the recipes. If a model has one run, it is
    McNemar's test of the trained networks; all runs of the other model must differ from that run in
    the same direction, and the largest of their p-values counts.

    Args:
        correct: For each model, the images that each of its runs gets right, bool (S, N).
        seed: Seed of the bootstrap.

    Returns:
        Accuracy of the first model of a pair minus that of the second, in the order of
        `itertools.combinations`.
    """
    models = [np.asarray(runs, bool) for runs in correct]
    means = [runs.mean(axis=0) for runs in models]  # (N,) each
    variances = run_variances(models)
    differences = []
    all_pairs = list(itertools.combinations(range(len(models)), 2))
    for a, b in all_pairs:
        test = difference_test(means[a] - means[b], variances[a], variances[b])
        is_between_recipes = min(len(models[a]), len(models[b])) > 1
        bootstrap_low, bootstrap_high = _bootstrap(means[a] - means[b], seed)
        pairs = zip(models[a], models[b], strict=False)
        differences.append(
            Difference(
                difference=test.difference,
                low=max(test.difference - test.half_width, -1.0),
                high=min(test.difference + test.half_width, 1.0),
                p_value=test.p_value
                if is_between_recipes
                else _mcnemar_of_single_run(models[a], models[b]),
                bootstrap_low=bootstrap_low,
                bootstrap_high=bootstrap_high,
                mcnemar_p_value=float(np.median([mcnemar(one, other) for one, other in pairs])),
                detectable=test.detectable(len(all_pairs)) if is_between_recipes else math.inf,
                runs=(len(models[a]), len(models[b])),
            )
        )
    return differences


def _mcnemar_of_single_run(runs_a: np.ndarray, runs_b: np.ndarray) -> float:
    """Return the largest p-value of McNemar's test, or 1 if the differences have two directions."""
    pairs = list(itertools.product(runs_a, runs_b))
    signs = {np.sign(int(a.sum()) - int(b.sum())) for a, b in pairs}
    return max(mcnemar(a, b) for a, b in pairs) if len(signs) == 1 else 1.0


def _bootstrap(differences: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval (low, high) of the mean of differences (N,)."""
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    result = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=200,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def holm(p_values: list[float]) -> list[float]:
    """Adjust the p-values of several tests to control the family-wise error rate.

    The k-th smallest of m p-values is multiplied by m - k + 1. No adjusted value is below that of
    a smaller p-value.

    Args:
        p_values: Two-sided p-values, in [0, 1].

    Returns:
        The adjusted p-values in the same order, in [0, 1].

    Source: Holm (1979), Scandinavian Journal of Statistics 6, pages 65-70.
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.maximum.accumulate(np.asarray(p_values)[order] * factors).clip(max=1.0)
    return [float(adjusted[rank]) for rank in np.argsort(order)]
