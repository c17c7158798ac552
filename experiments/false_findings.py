"""Measure how often a comparison finds a difference that is none, and how often one that is there.

`python -m experiments.false_findings` simulates comparisons of models, and writes the table of
docs/comparison.md. The columns "own variances" are those of the t-test with each model's own
variance between runs (Welch and Satterthwaite), for comparison.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import ndtri, stdtr, stdtrit

from cifar_models.comparison.difference_test import (
    DifferenceTest,
    chance_variance,
    difference_test,
    run_variances,
)
from cifar_models.comparison.significance import holm
from cifar_models.storage.atomic_files import write_bytes_atomic

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "comparison.md"
BEGIN, END = "<!-- false findings: written by experiments/false_findings.py -->", "<!-- end -->"
ACCURACY = 0.93
# Shares of the variance of an image's difficulty: for one model, and for one run.
MODEL_SHARE, RUN_SHARE = 0.05, 0.08
# Largest true difference between two models for the power, percentage points.
TRUE_DIFFERENCE = {360: 5.0, 10_000: 1.0}  # test images → difference


@dataclass(frozen=True)
class Case:
    """A comparison to simulate.

    Attributes:
        runs: Number of runs of each model.
        images: Number of test images.
        spread: Standard deviation of the accuracy of each model between runs, beyond chance within
            images; percentage points.
        simulations: Number of simulated comparisons.
    """

    runs: tuple[int, ...]
    images: int
    spread: tuple[float, ...]
    simulations: int


def cases() -> Iterator[Case]:
    """Yield the rows of the table."""
    runs = [(2, 2), (3, 3), (5, 5), (2, 5), (3, 5), (2,) * 3, (3,) * 3, (2, 3, 5)]
    runs += [(2, 2, 5), (2,) * 10, (3,) * 10, (2, *(5,) * 9)]
    for images in TRUE_DIFFERENCE:
        for count in runs:
            simulations = {2: 1000, 3: 600, 10: 200}[len(count)]
            for spread in (0.0, 0.3, 0.5):
                yield Case(count, images, (spread,) * len(count), simulations)
            yield Case(count, images, (0.5,) + (0.0,) * (len(count) - 1), simulations)


def simulate(
    case: Case, difference: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the correctness of all runs of a simulated comparison, and the true accuracies.

    A run classifies an image correctly if its ability exceeds the difficulty of the image, which
    is a sum of normal variables: one for all models, one for the model and one for the run.

    Args:
        case: The comparison.
        difference: True accuracy of the first model minus that of the last one, percentage points;
            the others lie between them at equal distances.
        rng: Generator of random numbers.

    Returns:
        For each model, bool (S, N); and float (K,).
    """
    accuracies = ACCURACY - np.linspace(0, difference / 100, len(case.runs))
    common = rng.standard_normal(case.images, np.float32)  # (N,)
    models = []
    for accuracy, runs, spread in zip(accuracies, case.runs, case.spread, strict=True):
        # The mean over runs of a normal distribution function is one too, with a larger variance.
        latent_spread = spread / 100 / stats.norm.pdf(ndtri(accuracy))
        ability = ndtri(accuracy) * np.sqrt(1 + latent_spread**2)
        ability = ability + rng.normal(0, latent_spread, (runs, 1))
        difficulty = np.sqrt(1 - MODEL_SHARE - RUN_SHARE) * common
        difficulty = difficulty + np.sqrt(MODEL_SHARE) * rng.standard_normal(
            case.images, np.float32
        )
        noise = rng.standard_normal((runs, case.images), np.float32)
        models.append(difficulty + np.sqrt(RUN_SHARE) * noise < ability)
    return models, accuracies


@dataclass(frozen=True)
class WelchTest:
    """The test of a pair with Satterthwaite's degrees of freedom."""

    difference: float
    p_value: float
    half_width: float


def pooled_tests(models: Sequence[np.ndarray]) -> Iterator[DifferenceTest]:
    """Yield the tests of a comparison as `compare` makes them."""
    variances, means = run_variances(models), [runs.mean(axis=0) for runs in models]
    for a, b in itertools.combinations(range(len(models)), 2):
        yield difference_test(means[a] - means[b], variances[a], variances[b])


def own_variance_tests(models: Sequence[np.ndarray]) -> Iterator[WelchTest]:
    """Yield tests in which each model has its own variance between runs only.

    Source: Satterthwaite (1946), Biometrics Bulletin 2, pages 110-114.
    """
    means = [runs.mean(axis=0) for runs in models]
    own = [max(runs.mean(axis=1).var(ddof=1), 1e-12) for runs in models]  # 0 has no test
    chances = [chance_variance(runs) for runs in models]
    for a, b in itertools.combinations(range(len(models)), 2):
        images, counts = means[a] - means[b], {a: len(models[a]), b: len(models[b])}
        chance = sum(chances[i] / count for i, count in counts.items())
        parts = [(max(images.var(ddof=1) / len(images) - chance, 0.0), len(images) - 1)]
        parts += [(own[i] / count, count - 1) for i, count in counts.items()]
        variance = sum(part for part, _ in parts)
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        error, difference = np.sqrt(variance), float(images.mean())
        p_value = 2 * stdtr(freedom, -abs(difference) / error)
        yield WelchTest(difference, p_value, stdtrit(freedom, 0.975) * error)


def rates(
    case: Case, tests_of: Callable = pooled_tests, seed: int = 0
) -> tuple[float, float, float]:
    """Simulate a comparison many times.

    Args:
        case: The comparison.
        tests_of: Function that yields the tests of all pairs of models.
        seed: Seed of the random numbers.

    Returns:
        Fractions in [0, 1]: comparisons of equal models that find any difference; 95 % intervals
        that contain the true difference; pairs of different models whose difference is found, with
        `TRUE_DIFFERENCE` between the best and the worst model.
    """
    rng = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(len(case.runs)), 2))
    false, covered, found = 0, 0, 0
    for true_difference in (0.0, TRUE_DIFFERENCE[case.images]):
        for _ in range(case.simulations):
            models, accuracies = simulate(case, true_difference, rng)
            tests = list(tests_of(models))
            is_found = [p_value < 0.05 for p_value in holm([test.p_value for test in tests])]
            covered += sum(
                abs(test.difference - (accuracies[a] - accuracies[b])) <= test.half_width
                for test, (a, b) in zip(tests, pairs, strict=True)
            )
            if true_difference:
                found += sum(is_found)
            else:
                false += any(is_found)
    total = case.simulations * len(pairs)
    return false / case.simulations, covered / (2 * total), found / total


def table() -> str:
    """Return the Markdown table of all cases."""
    lines = [
        "| test images | runs of each model | spread, points | comparisons | false findings "
        "| coverage | power | false findings, own variances | power, own variances |",
        "| --- " * 9 + "|",
    ]
    for case in cases():
        false, covered, found = rates(case)
        false_before, _, found_before = rates(case, own_variance_tests)
        runs = f"{len(case.runs)} models: {case.runs[0]} each"
        if len(set(case.runs)) > 1:
            groups = [(n, len(list(same))) for n, same in itertools.groupby(case.runs)]
            runs = ", ".join(f"{n}" if k == 1 else f"{k} × {n}" for n, k in groups)
        spread = f"{case.spread[0]:g}"
        if len(set(case.spread)) > 1:
            spread += ", others 0"
        percent = [f"{100 * each:.1f} %" for each in (false, covered, found)]
        before = [f"{100 * each:.1f} %" for each in (false_before, found_before)]
        row = [f"{case.images:,}", runs, spread, f"{case.simulations:,}", *percent, *before]
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    write_bytes_atomic(DOCUMENT.parent, DOCUMENT.name, new.encode())


if __name__ == "__main__":
    main()
