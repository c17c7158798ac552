"""What paired predictions on one test split can say about two models."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; the bounds are NaN where one value alone is known."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """Accuracy of model B minus that of model A, both as parts of 1."""

    difference: float
    low: float  # of the 95 % interval, over test images and, where there are several, training runs
    high: float
    p_value: float  # two-sided, of no difference
    bootstrap_low: float  # of the 95 % interval over the test images alone
    bootstrap_high: float
    mcnemar_p_value: float  # exact; the median over pairs of runs
    detectable: float  # the smallest that would be found four times out of five; above 1: none
    runs: tuple[int, int]


def mean_interval(values: np.ndarray) -> Interval:
    """Student's interval for the mean of independent runs: (S,) → mean, low, high."""
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * values.std(ddof=1) / math.sqrt(count)
    return Interval(mean, mean - float(half), mean + float(half), count)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """The exact two-sided p-value that two classifiers err equally often: bool (N,) each.

    McNemar 1947: only the images count on which one of them is right and the other is wrong.
    """
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def compare_accuracy(correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0) -> Difference:
    """Compares two models by the answers of their training runs to the same test images.

    The test images are a sample, and so are the training runs; the variance of the difference is
    the sum of both parts. That of the images is the variance over images of the difference of
    mean answers, less what of it is chance between runs; that of the runs is Welch's. The degrees
    of freedom are Satterthwaite's. With one run each, the runs are taken as they are: the result
    speaks of these two networks and not of their recipes.

    Args:
        correct_a: bool (S, N), S runs of the first model on N images.
        correct_b: bool (T, N), of the second.
        seed: of the bootstrap.
    """
    runs_a, runs_b = np.asarray(correct_a, np.float64), np.asarray(correct_b, np.float64)
    num_images = runs_a.shape[1]
    of_images = runs_b.mean(axis=0) - runs_a.mean(axis=0)  # (N,)
    difference = float(of_images.mean())
    image_variance = of_images.var(ddof=1)
    parts = []
    for runs in (runs_a, runs_b):
        if len(runs) > 1:
            image_variance -= runs.var(axis=0, ddof=1).mean() / len(runs)
            parts.append((runs.mean(axis=1).var(ddof=1) / len(runs), len(runs) - 1))
    parts.append((max(image_variance, 0.0) / num_images, num_images - 1))
    variance = sum(part for part, _ in parts)
    low = high = difference
    p_value, detectable = float(difference == 0), 0.0
    if variance > 0:
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        error, student = math.sqrt(variance), stats.t(freedom)
        half = student.ppf((1 + CONFIDENCE) / 2) * error
        low, high = max(difference - half, -1.0), min(difference + half, 1.0)
        p_value = 2 * float(student.sf(abs(difference) / error))
        detectable = float(student.ppf((1 + CONFIDENCE) / 2) + student.ppf(POWER)) * error
    bootstrap_low, bootstrap_high = _bootstrap(of_images, seed)
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


def _bootstrap(differences: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean over images: (N,) → low, high."""
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
    """Adjusts the p-values of several tests, so that one false finding among them is rare.

    Holm 1979: the k-th smallest of m is multiplied by m - k + 1, and none falls below a smaller.
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.maximum.accumulate(np.asarray(p_values)[order] * factors).clip(max=1.0)
    return [float(adjusted[place]) for place in np.argsort(order)]
