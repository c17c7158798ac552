"""The statistics of a comparison, against other implementations and simulated data."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from cifar_models.comparison.difference_test import DifferenceTest, run_variances
from cifar_models.comparison.significance import (
    accuracy_interval,
    compare_models,
    holm,
    mcnemar,
    mean_interval,
)
from experiments.false_findings import Case, own_variance_tests, rates, simulate


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_equals_statsmodels(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random(300) < 0.8, rng.random(300) < 0.85
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert mcnemar(a, b) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_equal_predictions_are_no_proof_of_equal_accuracy():
    """The interval is that of one disagreement in each direction."""
    right = np.arange(1000) < 900
    assert mcnemar(right, right) == 1
    for runs in (1, 2, 3):
        (result,) = compare_models([np.stack([right] * runs)] * 2)
        assert (result.difference, result.p_value) == (0, 1)
        assert result.high == -result.low == pytest.approx(1.96 * np.sqrt(2) / 1000, rel=0.01)


def test_two_runs_of_equal_accuracy_have_an_interval_with_a_width():
    correct = np.ones((2, 200), bool)
    correct[0, :10] = correct[1, 10:20] = False
    interval = accuracy_interval(correct)
    # Each image on which the runs differ has the variance 1/2.
    half = stats.t.ppf(0.975, 1) * np.sqrt(20 / 2 / 200 / 200 / 2)
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (0.95, 0.95 - half, 0.95 + half)
    )
    equal = accuracy_interval(np.ones((2, 200), bool))
    assert equal.high - equal.mean == pytest.approx(stats.t.ppf(0.975, 1) / 200 / np.sqrt(2))


def test_holm_equals_statsmodels():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 20):
        p_values = list(rng.random(count) ** 3)
        np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_the_interval_of_a_mean_equals_scipy():
    values = np.array([0.91, 0.93, 0.90, 0.95])
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert np.isnan(mean_interval(values[:1]).low)


def test_with_one_run_each_the_trained_networks_are_compared():
    """The interval is that of the paired t-test over images, the p-value McNemar's."""
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 400)) < 0.8, rng.random((1, 400)) < 0.86
    interval = stats.ttest_rel(a[0].astype(float), b[0].astype(float)).confidence_interval(0.95)
    (ours,) = compare_models([a, b])
    assert not ours.is_between_recipes
    assert ours.p_value == mcnemar(a[0], b[0])
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


def test_one_run_must_differ_from_every_run_of_the_other_model():
    images = np.arange(1000)
    one = (images < 800)[None]
    better, equal, worse = images < 900, images < 801, images < 700
    (clear,) = compare_models([one, np.stack([better, better | equal])])
    assert not clear.is_between_recipes and clear.p_value < 1e-6
    assert compare_models([one, np.stack([better, equal])])[0].p_value == 1  # exact, one image
    assert compare_models([one, np.stack([better, worse])])[0].p_value == 1  # two directions


def test_the_excess_over_chance_is_the_models_own_or_the_mean_one():
    """Each run classifies the first images correctly; chance is in the images at the edge."""
    images = np.arange(1000)

    def runs(*counts: int) -> np.ndarray:
        return np.stack([images < count for count in counts])

    def chance(*counts: int) -> float:
        """Return the variance of the correctness of each image, added up by hand."""
        return sum(np.var([i < count for count in counts], ddof=1) for i in range(1000)) / 1000**2

    quiet, noisy = runs(800, 801), runs(700, 760, 820)
    own, of_quiet = np.var([0.7, 0.76, 0.82], ddof=1), chance(800, 801)
    of_noisy = chance(700, 760, 820)
    excess = ((0.5e-6 - of_quiet) + (own - of_noisy)) / 2
    first, second = run_variances([quiet, noisy])
    assert (first.between_runs, first.degrees) == pytest.approx(
        ((of_quiet + excess) / 2, 1 + 1 / 2)
    )
    assert (second.between_runs, second.degrees) == pytest.approx((own / 3, 2 + 1 / 2))
    assert (first.chance, second.chance) == pytest.approx((of_quiet / 2, of_noisy / 3))


def test_without_variance_between_images_it_is_students_test_over_runs():
    """All images are equally difficult, and both models have the same estimate of the variance."""
    rng = np.random.default_rng(0)
    levels = np.array([0.66, 0.7, 0.74])
    a, b = (
        np.stack([rng.permutation(20_000) < 20_000 * level for level in levels + shift])
        for shift in (0, 0.06)
    )
    theirs = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1))
    (ours,) = compare_models([a, b])
    # Each model has 2 degrees of freedom, and half a degree of the other one. Satterthwaite's are
    # their sum, if the variances are equal.
    freedom = (2.5 + 2 * 2.5) / 2
    assert ours.p_value == pytest.approx(2 * stats.t.sf(abs(theirs.statistic), freedom), rel=0.05)


@pytest.mark.parametrize("degrees", [1.5, 2, 6, 11])
def test_without_variance_between_images_the_error_is_students_t(degrees):
    test = DifferenceTest(0.1, 1e-12, 4e-4, degrees, 0.0, 10**6)
    student = stats.t(degrees)
    for size in (0.001, 0.02, 0.1, 0.5):
        p_value = replace(test, difference=size).p_value
        assert p_value == pytest.approx(2 * student.sf(size / 0.02), rel=1e-3)
    assert test.half_width == pytest.approx(0.02 * student.ppf(0.975), rel=1e-3)
    expected = 0.02 * (student.ppf(1 - 0.05 / 2 / 45) + student.ppf(0.8))
    assert test.detectable(45) == pytest.approx(min(expected, 2), rel=1e-3)


def test_the_error_has_the_distribution_of_its_sampled_variance():
    """Chance between runs is in the variance between images, and no draw goes below it."""
    rng = np.random.default_rng(0)
    between_runs = np.maximum(5e-5 * 3 / rng.chisquare(3, 400_000), 2e-5)
    errors = rng.standard_normal(400_000) * np.sqrt(4e-5 + between_runs - 2e-5)
    test = DifferenceTest(0.02, 4e-5, 5e-5, 3, 2e-5, 10**6)
    assert test.p_value == pytest.approx(np.mean(np.abs(errors) >= 0.02), rel=0.03)
    assert test.half_width == pytest.approx(np.quantile(np.abs(errors), 0.95), rel=0.02)


def test_a_true_null_with_one_run_against_three_gives_no_verdict_on_the_recipes():
    """The t-test over images found a difference in 24 % of such comparisons."""
    rng = np.random.default_rng(0)
    case = Case((1, 3), 360, (0.3, 0.3), 1)
    found = 0
    for _ in range(100):
        models, _ = simulate(case, 0.0, rng)
        (result,) = compare_models(models)
        assert not result.is_between_recipes and result.detectable > 1
        found += result.p_value < 0.05
    assert found / 100 <= 0.05


def test_a_simulated_accuracy_is_the_true_one():
    rng = np.random.default_rng(0)
    case = Case((40, 40), 20_000, (3.0, 0.0), 1)
    models, accuracies = simulate(case, 10.0, rng)
    assert list(accuracies) == pytest.approx([0.93, 0.83])
    measured = [runs.mean(axis=1) for runs in models]
    assert [each.mean() for each in measured] == pytest.approx(accuracies, abs=0.015)
    assert [each.std() for each in measured] == pytest.approx([0.03, 0.002], abs=0.006)


LIMITS = [
    Case((2, 2), 360, (0.3, 0.3), 300),
    *(
        pytest.param(Case(runs, images, spread, simulations), marks=pytest.mark.slow)
        for runs, images, spread, simulations in (
            ((2, 2), 10_000, (0.3,) * 2, 1500),
            ((3, 3), 10_000, (0.0,) * 2, 1000),
            ((5, 5), 360, (0.3,) * 2, 1000),
            ((2, 5), 360, (0.3, 0.0), 1500),
            ((5, 2), 10_000, (0.3, 0.0), 1000),
            ((2, 2), 10_000, (0.5, 0.0), 1500),
            ((2, 5), 10_000, (0.5, 0.0), 1500),
            ((2, 5), 10_000, (0.3, 0.0), 1500),
            ((3, 5), 10_000, (0.5, 0.0), 1000),
            ((2, 2, 5), 10_000, (0.5, 0.0, 0.0), 600),
            ((2, 3, 5), 10_000, (0.3,) * 3, 600),
            ((2,) * 10, 360, (0.3,) * 10, 300),
            ((2,) * 10, 10_000, (0.3,) * 10, 200),
            ((3,) * 10, 10_000, (0.3, *(0.0,) * 9), 200),
        )
    ),
]


@pytest.mark.parametrize("case", LIMITS)
def test_false_findings_are_rare_and_intervals_cover_the_truth(case):
    """With two runs each and no spread, the intervals are wider than necessary."""
    false, covered, _ = rates(case)
    allowed = 2 * np.sqrt(0.06 * 0.94 / case.simulations)  # of the simulation
    assert false <= 0.06 + allowed
    assert 0.93 - allowed <= covered <= (0.999 if min(case.runs) == 2 else 0.98 + allowed)


@pytest.mark.slow
def test_without_pooling_ten_models_of_two_runs_find_differences_that_are_none():
    """The simulation shows the defect that pooling mends."""
    false, _, _ = rates(Case((2,) * 10, 360, (0.3,) * 10, 60), own_variance_tests)
    assert false > 0.08
