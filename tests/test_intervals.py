"""Closed-form limits and the bootstrap against statsmodels, and their coverage."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
)
from statsmodels.stats.proportion import test_proportions_2indep as proportions_2indep_test

from fairaudit.metrics.bootstrap import bca, draw_sums
from fairaudit.metrics.intervals import (
    clopper_pearson,
    holm,
    koopman,
    least_ratio_limits,
    mover_difference,
    mover_ratio,
    mover_sum,
    newcombe_paired,
    sign_flip_p,
    wilson,
    z_value,
)

Z = z_value(0.95)
TABLES = [(0, 5, 3, 9), (7, 20, 15, 31), (40, 41, 1, 50), (12, 12, 30, 40), (300, 1000, 250, 900)]


def test_wilson_equals_statsmodels() -> None:
    """Wilson limits agree to 1e-12 over sizes and rates, also at the ends."""
    for n in (1, 7, 30, 2000):
        for x in sorted({0, 1, n // 3, n - 1, n}):
            ours = wilson(np.array(x / n), np.array(n), Z)
            np.testing.assert_allclose(ours, proportion_confint(x, n, method="wilson"), atol=1e-12)


def test_clopper_pearson_equals_statsmodels() -> None:
    """The exact limits agree with the beta quantiles, also at the ends; no face, no interval."""
    for n in (1, 7, 30, 2000):
        for x in sorted({0, 1, n // 3, n - 1, n}):
            ours = clopper_pearson(np.array(x / n), np.array(n), Z)
            np.testing.assert_allclose(ours, proportion_confint(x, n, method="beta"), atol=1e-10)
    assert np.isnan(clopper_pearson(np.array(np.nan), np.array(0), Z)).all()


def test_wilson_of_nothing_is_undefined() -> None:
    """No face, no interval."""
    assert np.isnan(wilson(np.array(np.nan), np.array(0), Z)).all()


@pytest.mark.parametrize(("x1", "n1", "x2", "n2"), TABLES)
def test_newcombe_equals_statsmodels(x1: int, n1: int, x2: int, n2: int) -> None:
    """MOVER on Wilson limits is Newcombe's interval of a difference."""
    sides = [(np.array(x / n), *wilson(np.array(x / n), np.array(n), Z)) for x, n in ((x1, n1), (x2, n2))]
    expected = confint_proportions_2indep(x1, n1, x2, n2, compare="diff", method="newcomb")
    np.testing.assert_allclose(mover_difference(*sides), expected, atol=1e-12)


@pytest.mark.parametrize(("x1", "n1", "x2", "n2"), TABLES[1:])
def test_koopman_equals_statsmodels(x1: int, n1: int, x2: int, n2: int) -> None:
    """Koopman's limits of a ratio are where statsmodels' score test has p = .05, to 1e-8."""
    ours = koopman(np.array(x1), np.array(n1), np.array(x2), np.array(n2), Z)
    for limit in ours:
        test = {"compare": "ratio", "method": "score", "correction": False}
        with np.errstate(divide="ignore"):  # its odds ratio, which is not asked for
            result = proportions_2indep_test(x1, n1, x2, n2, value=float(limit), **test)
        np.testing.assert_allclose(result.pvalue, 0.05, rtol=1e-8)
    if x1 < n1:  # at p1 = 1 statsmodels' search ends at another point, whose p-value is not .05
        expected = confint_proportions_2indep(x1, n1, x2, n2, compare="ratio", method="score", correction=False)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    back = koopman(np.array(x2), np.array(n2), np.array(x1), np.array(n1), Z)
    np.testing.assert_allclose(ours, (1 / back[1], 1 / back[0]), rtol=1e-8)


def test_koopman_at_the_ends() -> None:
    """No success in the numerator: lower limit 0; none in the denominator: no upper limit."""
    assert koopman(np.array(0), np.array(9), np.array(4), np.array(9), Z)[0] == 0
    assert np.isinf(koopman(np.array(4), np.array(9), np.array(0), np.array(9), Z)[1])


@pytest.mark.parametrize(
    "rates", [(0.9, 0.92, 0.7, 0.95), (1.0, 1.0, 1.0, 0.9), (0.0, 0.4, 0.0, 0.6), (0.5, 0.5, 0.5, 0.5)]
)
def test_least_ratio_limits_are_the_least_of_all_pairs(rates: tuple[float, ...]) -> None:
    """Solving one pair gives what solving every pair in both directions gives, also at rates of 0 and 1."""
    p, n = np.array(rates), np.array([40.0, 55.5, 300.0, 1000.0])
    i, j = np.triu_indices(4, 1)
    for z in (Z, z_value(0.95, 6), z_value(0.95, 8000)):
        sides = [koopman((p * n)[a], n[a], (p * n)[b], n[b], z) for a, b in ((i, j), (j, i))]
        expected = [min(1.0, *(side[k].min() for side in sides)) for k in (0, 1)]
        np.testing.assert_allclose(least_ratio_limits(p[i], n[i], p[j], n[j], z), expected, rtol=1e-10)


def test_mover_ratio_contains_the_ratio_and_mirrors() -> None:
    """The limits of θ1/θ2 contain the ratio, and are the reciprocals of those of θ2/θ1."""
    first, second = ((np.array(v), np.array(lo), np.array(hi)) for v, lo, hi in ((0.6, 0.5, 0.68), (0.8, 0.7, 0.88)))
    low, high = mover_ratio(first, second)
    assert low < 0.75 < high
    np.testing.assert_allclose(mover_ratio(second, first), (1 / high, 1 / low), rtol=1e-10)


def test_mover_sum_ignores_terms_without_weight() -> None:
    """A class that is not averaged over may be undefined."""
    value, low, high = np.array([0.5, np.nan]), np.array([0.4, np.nan]), np.array([0.6, np.nan])
    np.testing.assert_allclose(mover_sum(np.array([1.0, 0.0]), value, low, high), (0.4, 0.6))


def test_newcombe_paired_reproduces_published_examples() -> None:
    """Newcombe (1998), table III, method 10: 36, 12, 2, 0 gives 0.0569 to 0.3404."""
    low, high = newcombe_paired(np.array(36 / 50), np.array(12 / 50), np.array(2 / 50), np.array(50), Z)
    np.testing.assert_allclose([low, high], [0.0569, 0.3404], atol=5e-5)
    low, high = newcombe_paired(np.array(0.0), np.array(0.0), np.array(0.0), np.array(30), Z)
    assert low == -high < 0


def test_mcnemar_and_holm_equal_statsmodels() -> None:
    """The sign-flip test of single faces is exact McNemar; Holm's correction leaves undefined p-values alone."""
    for helped, harmed in ((0, 0), (3, 0), (10, 4), (25, 24), (400, 330)):
        units = np.repeat([1, -1], [helped, harmed])
        expected = mcnemar([[5, helped], [harmed, 5]], exact=True).pvalue
        np.testing.assert_allclose(sign_flip_p(units), min(1.0, expected), rtol=1e-9)
    p = np.array([0.01, np.nan, 0.04, 0.03])
    expected = multipletests(p[[0, 2, 3]], method="holm")[1]
    np.testing.assert_allclose(holm(p)[[0, 2, 3]], expected)
    assert np.isnan(holm(p)[1])


def test_sign_flips_of_subjects_equal_enumeration() -> None:
    """With several faces a subject, the p-value equals enumeration of all sign patterns."""
    units = np.array([2, 1, 1, -1, 3])
    patterns = np.array(np.meshgrid(*[[1, -1]] * 5)).reshape(5, -1)
    sums = np.abs((np.abs(units)[:, None] * patterns).sum(0))
    np.testing.assert_allclose(sign_flip_p(units), (sums >= abs(units.sum())).mean())


def test_bootstrap_of_a_mean_agrees_with_theory() -> None:
    """BCa limits of a share are near Wilson's; both ways of drawing have the same law."""
    units, times = np.eye(2), np.array([60, 140])
    drawn = draw_sums(units, times, 4000, np.random.default_rng(1))
    assert (drawn.sum(1) == 200).all()
    value, low, high, why = bca(units, times, lambda cells: cells[..., :1] / 200, drawn, 0.95)
    np.testing.assert_allclose([low[0], high[0]], np.array(wilson(value, np.array(200), Z)).ravel(), atol=0.012)
    assert why == [""]
    rows = draw_sums(np.repeat(np.eye(2), [60, 140], axis=0), np.ones(200, int), 4000, np.random.default_rng(2))
    np.testing.assert_allclose(rows.mean(0), drawn.mean(0), atol=1)
    np.testing.assert_allclose(rows.std(0), drawn.std(0), rtol=0.1)


def test_no_interval_where_draws_are_undefined_or_all_the_same() -> None:
    """Over 1 % undefined draws, or no spread at all, mean no interval, and say so."""
    units, times = np.eye(2), np.array([1, 9])

    def share(cells: np.ndarray) -> np.ndarray:
        return np.stack([np.where(cells[..., 0] > 0, 1.0, np.nan), np.ones(cells.shape[:-1])], axis=-1)

    drawn = draw_sums(units, times, 500, np.random.default_rng(0))
    _, low, high, why = bca(units, times, share, drawn, 0.95)
    assert np.isnan([*low, *high]).all()
    assert "undefined" in why[0]
    assert "same value" in why[1]
