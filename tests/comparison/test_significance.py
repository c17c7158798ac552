"""The statistics of a comparison, against other implementations and simulated data."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from cifar_models.comparison.significance import compare_accuracy, holm, mcnemar, mean_interval


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_equals_statsmodels(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random(300) < 0.8, rng.random(300) < 0.85
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert mcnemar(a, b) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_equal_predictions_give_no_difference():
    right = np.array([[True, False, True, True]])
    assert mcnemar(right[0], right[0]) == 1
    result = compare_accuracy(right, right)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


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


def test_with_one_run_each_it_is_the_paired_t_test_over_images():
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 400)) < 0.8, rng.random((1, 400)) < 0.86
    theirs = stats.ttest_rel(b[0].astype(float), a[0].astype(float))
    ours = compare_accuracy(a, b)
    interval = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


def test_without_variance_between_images_it_is_the_welch_test_over_runs():
    """All images are equally difficult, so only the runs differ."""
    rng = np.random.default_rng(0)

    def runs(mean, spread, count):
        level = rng.normal(mean, spread, count)
        return rng.random((count, 20_000)) < level[:, None]

    a, b = runs(0.7, 0.03, 6), runs(0.75, 0.01, 4)
    theirs = stats.ttest_ind(b.mean(axis=1), a.mean(axis=1), equal_var=False)
    assert compare_accuracy(a, b).p_value == pytest.approx(theirs.pvalue, rel=0.05)


class Simulation:
    """A simulation in which images differ in difficulty, and models and runs in accuracy.

    Args:
        seed: Seed of the random numbers.
        images: Number of test images.
        runs: Number of runs of each model.
        shift: Advantage of model 1 over model 0, in logits.
        run_spread: Standard deviation between the runs of a model, in logits.
    """

    def __init__(self, seed: int, images: int, runs: int, shift: float, run_spread: float):
        self.rng = np.random.default_rng(seed)
        self.images, self.runs, self.shift, self.run_spread = images, runs, shift, run_spread

    def accuracies(self, model: int, images: np.ndarray, runs: int) -> np.ndarray:
        """Return the probability of a correct prediction: images (N, 2) → (runs, N)."""
        ease = images @ [1.0, 0.5 if model else -0.5]  # each model finds other images easy
        of_run = self.rng.normal(0, self.run_spread, (runs, 1))
        return 1 / (1 + np.exp(-(1.5 + 1.5 * ease + model * self.shift + of_run)))

    def comparison(self):
        images = self.rng.normal(size=(self.images, 2))
        correct = [
            self.rng.random((self.runs, self.images)) < self.accuracies(model, images, self.runs)
            for model in (0, 1)
        ]
        return compare_accuracy(*correct)

    def true_difference(self) -> float:
        images = self.rng.normal(size=(20_000, 2))
        a, b = (self.accuracies(model, images, 200).mean() for model in (0, 1))
        return float(b - a)


@pytest.mark.parametrize(
    ("runs", "run_spread", "shift"),
    [
        (2, 0.1, 0.0),
        (3, 0.15, 0.0),
        (3, 0.0, 0.4),
        (5, 0.3, 0.4),
        pytest.param(2, 0.1, 0.4, marks=pytest.mark.slow),
        pytest.param(3, 0.15, 0.4, marks=pytest.mark.slow),
        pytest.param(3, 0.0, 0.0, marks=pytest.mark.slow),
        pytest.param(5, 0.3, 0.0, marks=pytest.mark.slow),
    ],
)
def test_false_positives_are_rare_and_intervals_cover_the_truth(
    runs, run_spread, shift, monkeypatch
):
    monkeypatch.setattr("cifar_models.comparison.significance._bootstrap", lambda *a: (0.0, 0.0))
    simulation = Simulation(seed=runs, images=400, runs=runs, shift=shift, run_spread=run_spread)
    truth = simulation.true_difference() if shift else 0.0
    results = [simulation.comparison() for _ in range(1000)]
    covered = np.mean([result.low <= truth <= result.high for result in results])
    assert 0.93 <= covered <= 0.97
    if not shift:
        assert np.mean([result.p_value < 0.05 for result in results]) <= 0.06
