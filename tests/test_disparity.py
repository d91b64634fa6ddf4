"""Gaps between subgroups: their values, their simultaneous intervals, and how often those hold."""

import numpy as np
import pytest

from fairaudit.metrics.disparity import gap, gap_p_value, worst_and_best
from fairaudit.metrics.estimates import Estimate, composites, mean_recall, share
from fairaudit.metrics.intervals import koopman, mover_difference, wilson, z_value
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample


def rates_estimate(right: np.ndarray, n: np.ndarray) -> Estimate:
    """Accuracies right / n of independent subgroups."""
    value, sizes = (right / n)[:, None], n[:, None].astype(float)
    return Estimate(
        metric=METRICS["accuracy"],
        value=value,
        denominator=sizes,
        effective=sizes,
        limits=lambda z: wilson(value, sizes, z),
        notes=np.full(value.shape, "", dtype=object),
    )


def sample_of(cubes: np.ndarray, **more: np.ndarray) -> Sample:
    """Faces that have these confusion matrices (G, K, K)."""
    g, y, p = (np.repeat(part.ravel(), cubes.ravel()) for part in np.indices(cubes.shape))
    groups = tuple(f"g{i}" for i in range(len(cubes)))
    return Sample(table=Table(cubes.shape[1], cubes.shape[1]), groups=groups, group=g, row=y, column=p, **more)


def test_gap_of_two_groups_is_newcombe_and_koopman() -> None:
    """With two subgroups there is one pair: the gap's limits are that pair's, the lower one not below 0."""
    estimate = rates_estimate(np.array([90, 60]), np.array([100, 100]))
    found = gap(estimate, 0, np.arange(2), 0.95)
    z = z_value(0.95)
    sides = [(np.array(v), *wilson(np.array(v), np.array(100), z)) for v in (0.9, 0.6)]
    np.testing.assert_allclose([found.difference_low, found.difference_high], mover_difference(*sides))
    expected = koopman(np.array(60), np.array(100), np.array(90), np.array(100), z)
    np.testing.assert_allclose([found.ratio_low, found.ratio_high], expected)
    assert (found.worst, found.best) == (1, 0)
    assert found.ratio == pytest.approx(2 / 3)


def test_worst_is_the_largest_error() -> None:
    """Error-like metrics are worst where largest; a signed error where it is farther from 0."""
    values = np.array([0.1, 0.4, -0.6])
    assert worst_and_best(METRICS["fnr"], values[:2]) == (1, 0)
    assert worst_and_best(METRICS["recall"], values[:2]) == (0, 1)
    assert worst_and_best(METRICS["signed_error_bins"], values) == (2, 1)
    assert worst_and_best(METRICS["calibration_slope"], np.array([0.7, 1.1])) == (0, 1)
    assert worst_and_best(METRICS["calibration_slope"], np.array([0.9, 1.6])) == (1, 0)


def test_signed_metrics_have_no_ratio() -> None:
    """A metric that can be 0 or negative has a difference, and a reason instead of a ratio."""
    sample = sample_of(np.array([[[30, 10], [10, 30]], [[20, 20], [15, 25]]]))
    items = {"kappa": ("kappa", np.ones((2, 2)))}
    drawn = composites(sample, items, known=np.ones(2, bool), rest=False, confidence=0.95, draws=500, seed=[0])
    found = gap(drawn["kappa"], 0, np.arange(2), 0.95)
    assert found.difference == pytest.approx(0.5 - 0.125)
    assert np.isnan(found.ratio)
    assert "negative" in found.reason


@pytest.mark.parametrize("groups", [2, 7, 14])
@pytest.mark.parametrize("true_gap", [0.0, 0.1])
def test_gap_intervals_hold_in_95_of_100_audits(groups: int, true_gap: float) -> None:
    """Over 400 simulated audits of unequal subgroups, the interval contains the true gap as often as stated."""
    rng = np.random.default_rng(groups)
    n = np.resize([60, 150, 400, 900], groups)
    p = np.full(groups, 0.9)
    p[-1] -= true_gap
    hits = 0
    for right in rng.binomial(n, p, (400, groups)):
        found = gap(rates_estimate(right, n), 0, np.arange(groups), 0.95)
        hits += found.difference_low <= true_gap <= found.difference_high
    assert hits / 400 >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 7, 14, 126])
@pytest.mark.parametrize("true_gap", [0.0, 0.02, 0.05, 0.1])
def test_gap_intervals_hold_for_any_number_of_groups(groups: int, true_gap: float) -> None:
    """At gaps of 0, 2, 5 and 10 points over 2 to 126 unequal subgroups the interval holds in 95 of 100 audits."""
    runs, rng = 300 if groups > 20 else 1500, np.random.default_rng(groups)
    n = np.resize([60, 150, 400, 900], groups)
    p = np.full(groups, 0.9)
    p[-1] -= true_gap
    hits = 0
    for right in rng.binomial(n, p, (runs, groups)):
        found = gap(rates_estimate(right, n), 0, np.arange(groups), 0.95)
        hits += found.difference_low <= true_gap <= found.difference_high
    assert hits / runs >= 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / runs)


def test_a_gap_p_value_is_where_its_interval_reaches_zero() -> None:
    """At the confidence 1 − p the lower limit is 0; a little below, it is above."""
    estimate = rates_estimate(np.array([85, 170, 60]), np.array([100, 190, 90]))
    p = gap_p_value(estimate, 0, np.arange(3))
    assert 0 < p < 0.5
    assert gap(estimate, 0, np.arange(3), 1 - p * 0.99).difference_low == 0
    assert gap(estimate, 0, np.arange(3), 1 - p * 1.01).difference_low > 0


def test_weights_and_subjects_lower_the_effective_number() -> None:
    """Equal weights change nothing; unequal ones give Kish's number; two equal pictures a person halve it."""
    cubes = np.array([[[40, 10], [5, 45]]])
    pools, metric = np.eye(1), METRICS["accuracy"]
    plain = share(sample_of(cubes), pools, metric)
    assert plain.effective[0, 0] == 100
    equal = share(sample_of(cubes, weight=np.full(100, 3.0)), pools, metric)
    np.testing.assert_allclose([equal.effective[0, 0], equal.value[0, 0]], [100, plain.value[0, 0]])
    weight = np.resize([1.0, 4.0], 100)
    np.testing.assert_allclose(
        share(sample_of(cubes, weight=weight), pools, metric).effective, weight.sum() ** 2 / (weight**2).sum()
    )
    twins = sample_of(np.array([[[40, 10], [6, 44]]]), subject=np.repeat(np.arange(50), 2))
    np.testing.assert_allclose(share(twins, pools, metric).effective, 49, rtol=1e-9)


def test_balanced_accuracy_covers_at_twenty_faces() -> None:
    """MOVER over per-class Wilson limits covers at least 92 % at 10 faces a class, where the bootstrap fails."""
    rng, hits = np.random.default_rng(3), 0
    for first, second in rng.binomial(10, [0.95, 0.8], (600, 2)):
        sample = sample_of(np.array([[[first, 10 - first], [10 - second, second]]]))
        found = mean_recall(sample, np.eye(1), METRICS["balanced_accuracy"], np.ones((1, 2)), np.array([0.5, 0.5]))
        low, high = found.limits(z_value(0.95))
        hits += low[0, 0] <= 0.875 <= high[0, 0]
    assert hits / 600 >= 0.92
