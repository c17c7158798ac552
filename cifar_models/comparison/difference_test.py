"""The test of a difference in accuracy, over test images and training runs."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95  # confidence level of every interval
POWER = 0.8  # probability of detecting the smallest detectable difference
NODES = 60  # of the integration over the unknown variance


@dataclass(frozen=True)
class RunVariance:
    """Variance of the mean accuracy of a model over its S runs.

    Attributes:
        between_runs: Estimated variance of the mean between sets of S runs.
        degrees: Degrees of freedom of the estimate; 0 if there is one run.
        chance: The part of it that is chance within images, which the variance between images
            contains too.
    """

    between_runs: float
    degrees: float
    chance: float


def run_variances(models: Sequence[np.ndarray]) -> list[RunVariance]:
    """Estimate the variance between the runs of every model of a comparison.

    Two runs often have nearly the same accuracy by chance, and their own variance would then be far
    too small. Therefore, the estimate is the variance by chance within images plus an excess: the
    model's own, and at least the mean excess of all models. The others may vary less, so each of
    them adds half a degree of freedom only, whatever its number of runs. docs/comparison.md gives
    the rates of false findings that led to this choice.

    Args:
        models: For each model, the images that each of its runs gets right, bool (S, N).

    Returns:
        The variance of each model; zero if it has one run.
    """
    several = [runs for runs in models if len(runs) > 1]
    chances = [chance_variance(runs) for runs in several]
    own = [float(runs.mean(axis=1).var(ddof=1)) for runs in several]
    mean_excess = max(float(np.mean(own) - np.mean(chances)), 0.0) if several else 0.0
    estimates = iter(zip(own, chances, strict=True))
    variances = []
    for runs in models:
        if len(runs) == 1:
            variances.append(RunVariance(0.0, 0.0, 0.0))
            continue
        variance, chance = next(estimates)
        between_runs = max(variance, chance + mean_excess)
        degrees = len(runs) - 1 + (len(several) - 1) / 2
        variances.append(RunVariance(between_runs / len(runs), degrees, chance / len(runs)))
    return variances


def chance_variance(runs: np.ndarray) -> float:
    """Return the variance of accuracy between runs (S, N) if images were independent of runs."""
    share = runs.mean(axis=0)  # of the runs that get an image right
    return float((share * (1 - share)).mean() * len(runs) / (len(runs) - 1) / runs.shape[1])


@dataclass(frozen=True)
class DifferenceTest:
    """A difference in accuracy and the distribution of its error.

    The error is Student's t times the root of a variance, of which the share between runs is itself
    uncertain: a multiple of degrees / chi-squared, as in the Behrens-Fisher distribution, whose
    tests keep their level with few runs (Robinson 1976, Annals of Statistics 4, pages 963-971).
    Satterthwaite's degrees of freedom do not, because they grow when the runs agree by chance.

    Attributes:
        difference: The difference.
        image_variance: Variance of the difference over images, including chance between runs.
        run_variance: Variance of the difference between runs.
        degrees: Degrees of freedom of `run_variance`.
        chance: The part of `run_variance` that `image_variance` contains too.
        num_images: Number of test images.
    """

    difference: float
    image_variance: float
    run_variance: float
    degrees: float
    chance: float
    num_images: int

    @property
    def p_value(self) -> float:
        """The probability that the error is at least as large as the difference."""
        return min(self._tail(abs(self.difference)), 1.0)

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, at most 2."""
        return self._quantile(CONFIDENCE)

    def detectable(self, num_pairs: int = 1) -> float:
        """Return the smallest true difference that is detected with a probability of 80 %.

        Args:
            num_pairs: Number of tests for which Holm's method adjusts; this one is the first.
        """
        return self._quantile(1 - (1 - CONFIDENCE) / num_pairs) + self._quantile(2 * POWER - 1)

    def _tail(self, size: float) -> float:
        """Return the probability that the error is at least of this size, in either direction."""
        factors, weights = _degrees_by_chi_squared(self.degrees)
        excess = np.maximum(self.run_variance * factors - self.chance, 0)
        errors = np.sqrt(self.image_variance + excess)
        return 2 * float(special.stdtr(self.num_images - 1, -size / errors) @ weights)

    def _quantile(self, probability: float) -> float:
        """Return the size that the error does not exceed with this probability, at most 2."""

        def missing(size: float) -> float:
            return self._tail(size) - (1 - probability)

        return 2.0 if missing(2) > 0 else optimize.brentq(missing, 0, 2, xtol=1e-9)


@functools.lru_cache
def _degrees_by_chi_squared(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values of degrees / chi-squared (60,) and their weights (60,), for an expectation.

    They are Gauss-Legendre nodes of the distribution function, dense where the values are large.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    nodes = (nodes + 1) / 2
    return degrees / stats.chi2.ppf(nodes**4, degrees), 2 * nodes**3 * weights


def difference_test(images: np.ndarray, one: RunVariance, other: RunVariance) -> DifferenceTest:
    """Test a difference in accuracy over images and runs.

    The variance between images is at least that of two images on which the models disagree, so that
    equal predictions are no proof of equal accuracy. The degrees of freedom between runs are the
    mean of two: Satterthwaite's (1946, Biometrics Bulletin 2, pages 110-114), with which too many
    differences are found if the runs of one model vary much more than those of the other, and the
    smaller ones of the two models, with which too few are found if they vary equally.

    Args:
        images: Difference in mean correctness on each image, float (N,).
        one: Variance of the first model between runs.
        other: Variance of the second model between runs.
    """
    num_images = len(images)
    sampled = [each for each in (one, other) if each.between_runs]
    run_variance = sum(each.between_runs for each in sampled)
    degrees = 1.0  # of no effect if there is no variance between runs
    if sampled:
        parts = [each.between_runs**2 / each.degrees for each in sampled]
        smaller = min(each.degrees for each in sampled)
        degrees = (run_variance**2 / sum(parts) + smaller) / 2
    return DifferenceTest(
        difference=float(images.mean()),
        image_variance=max(float(images.var(ddof=1)), 2 / (num_images - 1)) / num_images,
        run_variance=run_variance,
        degrees=degrees,
        chance=one.chance + other.chance,
        num_images=num_images,
    )
