"""The t-test of a difference in accuracy, over test images and training runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95  # confidence level of every interval
POWER = 0.8  # probability of detecting the smallest detectable difference


@dataclass(frozen=True)
class RunVariance:
    """Variance of the mean accuracy of a model over its S runs.

    Attributes:
        between_runs: Estimated variance of the mean between sets of S runs.
        degrees: Degrees of freedom of the estimate.
        chance: The part of it that is chance within images, which the variance between images
            contains too.
    """

    between_runs: float
    degrees: float
    chance: float


def run_variances(models: Sequence[np.ndarray]) -> list[RunVariance]:
    """Estimate the variance between the runs of every model of a comparison.

    Two runs often have nearly the same accuracy by chance, and their own variance would then be far
    too small. Therefore, the estimate is the largest of three: the model's own variance, the
    variance by chance within images, and that chance plus the excess over chance which is pooled
    over all models. The pooled estimate has the degrees of freedom of the model and half of those
    of the other models, because their runs may vary more or less. docs/comparison.md gives the rate
    of false findings.

    Args:
        models: For each model, the images that each of its runs gets right, bool (S, N).

    Returns:
        The variance of each model; zero if it has one run.
    """
    estimates = []
    for runs in models:
        degrees = len(runs) - 1
        own = runs.mean(axis=1).var(ddof=1) if degrees else 0.0
        estimates.append((degrees, own, chance_variance(runs) if degrees else 0.0))
    total = sum(degrees for degrees, _, _ in estimates)
    excess = sum(degrees * (own - chance) for degrees, own, chance in estimates) / max(total, 1)
    variances = []
    for degrees, own, chance in estimates:
        pooled = chance + max(excess, 0.0)
        freedom = float(degrees) if own > pooled else degrees + (total - degrees) / 2
        scale = 1 / (degrees + 1) if degrees else 0.0
        variances.append(RunVariance(scale * max(own, pooled), freedom, scale * chance))
    return variances


def chance_variance(runs: np.ndarray) -> float:
    """Return the variance of accuracy between runs (S, N) if images were independent of runs."""
    return float(runs.var(axis=0, ddof=1).mean() / runs.shape[1])


@dataclass(frozen=True)
class TTest:
    """A difference with its t-test: half of its 95 % interval, p-value, detectable difference."""

    difference: float
    half_width: float
    p_value: float
    detectable: float


def difference_test(images: np.ndarray, one: RunVariance, other: RunVariance) -> TTest:
    """Test a difference in accuracy over images and runs.

    The variance between images is at least that of two images on which the models disagree, so that
    equal predictions are no proof of equal accuracy. The degrees of freedom are Satterthwaite's
    (1946, Biometrics Bulletin 2, pages 110-114).

    Args:
        images: Difference in mean correctness on each image, float (N,).
        one: Variance of the first model between runs.
        other: Variance of the second model between runs.
    """
    num_images = len(images)
    difference = float(images.mean())
    image_variance = max(images.var(ddof=1), 2 / (num_images - 1)) / num_images
    image_variance = max(image_variance - one.chance - other.chance, 0.0)
    components = [(image_variance, num_images - 1.0)]
    components += [(each.between_runs, each.degrees) for each in (one, other) if each.degrees]
    variance = sum(part for part, _ in components)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in components)
    error, student = math.sqrt(variance), stats.t(freedom)
    quantile = float(student.ppf((1 + CONFIDENCE) / 2))
    return TTest(
        difference=difference,
        half_width=quantile * error,
        p_value=2 * float(student.sf(abs(difference) / error)),
        detectable=(quantile + float(student.ppf(POWER))) * error,
    )
