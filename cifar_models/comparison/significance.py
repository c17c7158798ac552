"""Confidence intervals and tests for the accuracy of models on one test split."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95  # confidence level of every interval
POWER = 0.8  # probability of detecting the smallest detectable difference
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
    """Accuracy of model B minus accuracy of model A, in [-1, 1], with its test.

    Attributes:
        difference: The difference.
        low: Lower bound of its 95 % interval over the test images and, if a model has several
            runs, over its runs.
        high: Upper bound of the same interval.
        p_value: Two-sided p-value of the hypothesis that the accuracies are equal.
        bootstrap_low: Lower bound of the 95 % bootstrap interval over only the test images.
        bootstrap_high: Upper bound of the same interval.
        mcnemar_p_value: Exact p-value of McNemar's test, the median over pairs of runs.
        detectable: Smallest true difference that is detected with a probability of 80 %. Above 1:
            no difference is detectable.
        runs: Number of runs of model A and of model B.
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


def mean_interval(values: np.ndarray) -> Interval:
    """Return the mean of independent runs with Student's 95 % interval.

    Args:
        values: One value for each run, float (S,).
    """
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * values.std(ddof=1) / math.sqrt(count)
    return Interval(mean, mean - float(half), mean + float(half), count)


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


def compare_accuracy(correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0) -> Difference:
    """Test the difference in accuracy of two models, whose runs predict the same test images.

    The interval and the p-value are those of a t-test that treats both the test images and the
    training runs as samples. A model with one run adds no variance between runs: with one run
    each, the result holds for these two networks and not for their recipes.

    Args:
        correct_a: Images that each of the S runs of model A gets right, bool (S, N).
        correct_b: Images that each of the T runs of model B gets right, bool (T, N).
        seed: Seed of the bootstrap.
    """
    runs_a, runs_b = np.asarray(correct_a, np.float64), np.asarray(correct_b, np.float64)
    image_differences = runs_b.mean(axis=0) - runs_a.mean(axis=0)  # (N,)
    difference = float(image_differences.mean())
    components = _variance_components(runs_a, runs_b)
    variance = sum(component for component, _ in components)
    low = high = difference
    p_value, detectable = float(difference == 0), 0.0
    if variance > 0:
        # Satterthwaite's approximation
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in components)
        error, student = math.sqrt(variance), stats.t(freedom)
        half = student.ppf((1 + CONFIDENCE) / 2) * error
        low, high = max(difference - half, -1.0), min(difference + half, 1.0)
        p_value = 2 * float(student.sf(abs(difference) / error))
        detectable = float(student.ppf((1 + CONFIDENCE) / 2) + student.ppf(POWER)) * error
    bootstrap_low, bootstrap_high = _bootstrap(image_differences, seed)
    pairs = zip(np.asarray(correct_a, bool), np.asarray(correct_b, bool), strict=False)
    return Difference(
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=p_value,
        bootstrap_low=bootstrap_low,
        bootstrap_high=bootstrap_high,
        mcnemar_p_value=float(np.median([mcnemar(a, b) for a, b in pairs])),
        detectable=detectable,
        runs=(len(runs_a), len(runs_b)),
    )


def _variance_components(runs_a: np.ndarray, runs_b: np.ndarray) -> list[tuple[float, int]]:
    """Return the components of the difference's variance, each with its degrees of freedom.

    Each model with several runs adds the variance between its runs, as in Welch's test. The images
    add the variance over images of the difference in mean correctness, minus the share of it that
    is due to chance between runs.

    Args:
        runs_a: 1 for each image that a run of model A gets right, otherwise 0, float64 (S, N).
        runs_b: The same for model B, float64 (T, N).
    """
    num_images = runs_a.shape[1]
    image_variance = (runs_b.mean(axis=0) - runs_a.mean(axis=0)).var(ddof=1)
    components = []
    for runs in (runs_a, runs_b):
        if len(runs) > 1:
            image_variance -= runs.var(axis=0, ddof=1).mean() / len(runs)
            components.append((runs.mean(axis=1).var(ddof=1) / len(runs), len(runs) - 1))
    return [*components, (max(image_variance, 0.0) / num_images, num_images - 1)]


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
