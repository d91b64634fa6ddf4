"""Contrasts, their exact and resampled p-values, what was findable, intersections and partial pooling."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import power_proportions_2indep

from fairaudit.metrics import contrasts, exact, multiplicity
from fairaudit.metrics.detectable import POWER, detectable, detectable_by_error, power_of
from fairaudit.metrics.interaction import interaction, interaction_draws, margins_design
from fairaudit.metrics.intervals import holm
from fairaudit.metrics.pooling import beta_binomial, partially_pooled
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample

counts = st.integers(0, 40)


def sample_of(cubes: np.ndarray) -> Sample:
    """Faces that have these confusion matrices (G, K, K)."""
    g, y, p = (np.repeat(part.ravel(), cubes.ravel()) for part in np.indices(cubes.shape))
    names = tuple(f"g{i}" for i in range(len(cubes)))
    return Sample(table=Table(cubes.shape[1], cubes.shape[1]), groups=names, group=g, row=y, column=p)


@settings(max_examples=60, deadline=None)
@given(counts, counts, counts, counts)
def test_fisher_is_scipys(a: int, b: int, c: int, d: int) -> None:
    """Two-sided exact p of any 2 × 2 table, one at a time and many at once."""
    expected = stats.fisher_exact([[a, b], [c, d]]).pvalue
    rows = (np.array([a, 3]), np.array([a + b, 9]), np.array([c, 5]), np.array([c + d, 6]))
    found = exact.fisher(*rows)
    assert found[0] == pytest.approx(expected, abs=1e-10)
    if a + b and c + d:
        low, law = exact.outcomes(a + b, a + c, a + b + c + d)
        np.testing.assert_allclose(
            law, stats.hypergeom(a + b + c + d, a + c, a + b).pmf(low + np.arange(len(law))), atol=1e-10
        )
        mid = exact.p_values(law, mid=True)[a - low]
        assert 0 < mid <= found[0] + 1e-12


def test_fisher_over_many_tables_of_different_sizes() -> None:
    """Tables are computed in groups of a similar number of outcomes; none may take another's law."""
    rng = np.random.default_rng(0)
    n, m = rng.integers(1, 400, 700), rng.integers(1, 400, 700)
    x, y = rng.binomial(n, 0.8), rng.binomial(m, 0.7)
    found = exact.fisher(x, n, y, m)
    for i in range(0, 700, 23):
        table = [[x[i], n[i] - x[i]], [y[i], m[i] - y[i]]]
        assert found[i] == pytest.approx(stats.fisher_exact(table).pvalue, abs=1e-10)


def test_standardized_difference_is_the_stratified_score_test() -> None:
    """One stratum: the hypergeometric score test; several: Mantel and Haenszel's without continuity correction."""
    rng = np.random.default_rng(0)
    cubes = rng.integers(1, 30, (2, 4, 4))
    sample = sample_of(cubes)
    whole = sample.sums.reshape(2, -1)
    recall = contrasts.linear(METRICS["recall"], sample.table, 1)
    fpr = contrasts.linear(METRICS["fpr"], sample.table, 1)
    assert recall is not None and fpr is not None and recall.one and not fpr.one
    sums = contrasts.sums_of(recall, whole)
    z = contrasts.standardized(recall, sums.of(np.array([0])), sums.of(np.array([1])))[0]
    law = stats.hypergeom(cubes[:, 1].sum(), cubes[:, 1, 1].sum(), cubes[0, 1].sum())
    assert z == pytest.approx((cubes[0, 1, 1] - law.mean()) / law.std(), abs=1e-10)
    sums = contrasts.sums_of(fpr, whole)
    z = contrasts.standardized(fpr, sums.of(np.array([0])), sums.of(np.array([1])))[0]
    tables = [[[cubes[g, y, 1], cubes[g, y].sum() - cubes[g, y, 1]] for g in (0, 1)] for y in (0, 2, 3)]
    oracle = sm.stats.StratifiedTable([np.array(t, dtype=float) for t in tables]).test_null_odds(correction=False)
    assert z**2 == pytest.approx(oracle.statistic, rel=1e-9)


def test_values_and_errors_of_contrasts() -> None:
    """Values are the metrics' own; a difference over its standard error is the standardized difference."""
    rng = np.random.default_rng(1)
    cubes = rng.integers(2, 30, (3, 3, 3))
    sample = sample_of(cubes)
    whole = sample.sums.reshape(3, -1)
    recalls = np.diagonal(cubes, axis1=1, axis2=2) / cubes.sum(2)
    for name, expected in (
        ("balanced_accuracy", recalls.mean(1)),
        ("accuracy", np.trace(cubes, axis1=1, axis2=2) / cubes.sum((1, 2))),
        ("mae_bins", (cubes * np.abs(np.subtract.outer(range(3), range(3)))).sum((1, 2)) / cubes.sum((1, 2))),
    ):
        line = contrasts.linear(METRICS[name], sample.table, 0)
        assert line is not None
        np.testing.assert_allclose(contrasts.value_of(line, contrasts.sums_of(line, whole)), expected)
    line = contrasts.linear(METRICS["balanced_accuracy"], sample.table, 0)
    sums = contrasts.sums_of(line, whole)
    one, two = sums.of(np.array([0])), sums.of(np.array([1]))
    difference = contrasts.value_of(line, one) - contrasts.value_of(line, two)
    z = contrasts.standardized(line, one, two)
    np.testing.assert_allclose(difference / contrasts.null_error(line, one, two), z)


def test_the_exact_law_over_strata_is_the_convolution_of_draws() -> None:
    """The law of a stratified count agrees with a simulation of its strata."""
    rng = np.random.default_rng(0)
    n, marks, total = np.array([10, 6, 20]), np.array([4, 5, 3]), np.array([30, 18, 50])
    found = contrasts.exact_law(n, marks, total)
    assert found is not None
    drawn = sum(rng.hypergeometric(m, t - m, s, 40_000) for s, m, t in zip(n, marks, total, strict=True))
    for x in range(3, 9):
        assert found[1][x - found[0]] == pytest.approx((drawn == x).mean(), abs=0.01)


def test_a_metric_and_its_complement_are_one_contrast() -> None:
    """Recall and FNR, FPR and TNR, precision and FDR are one; for two classes also FPR and the other's recall."""
    two, three = ([m for m in METRICS.values() if m.kind not in ("count", "score")] for _ in range(2))
    first = contrasts.distinct(two, Table(2, 2))
    assert first["fnr", 0] == ("recall", 0) and first["tnr", 1] == first["fpr", 1]
    assert first["fpr", 1] == ("recall", 0) and first["npv", 0] == ("precision", 1)
    assert first["selection_rate", 1] == ("selection_rate", 0) and first["weighted_recall", 0] == ("accuracy", 0)
    assert first["macro_recall", 0] == ("balanced_accuracy", 0)
    first = contrasts.distinct(three, Table(3, 3))
    assert first["fpr", 1] == ("fpr", 1) and first["fdr", 2] == ("precision", 2)
    assert len({first["recall", p] for p in range(3)}) == 3


def test_benjamini_hochberg_and_holm_are_statsmodels() -> None:
    """On random p-values with ties and missing ones."""
    rng = np.random.default_rng(0)
    p = np.round(rng.beta(0.5, 3, 60), 3)
    p[[4, 17]] = np.nan
    known = ~np.isnan(p)
    for ours, method in ((multiplicity.benjamini_hochberg, "fdr_bh"), (holm, "holm")):
        np.testing.assert_allclose(ours(p)[known], multipletests(p[known], method=method)[1])
        assert np.isnan(ours(p)[~known]).all()


def test_max_t_is_westfall_and_young() -> None:
    """Against the definition, test by test in the order of strength; and Holm's where all tests are independent."""
    rng = np.random.default_rng(0)
    null = np.abs(rng.standard_normal((4000, 8)) + rng.standard_normal((4000, 1)))
    observed = np.array([0.5, 4.2, 1.0, 3.1, 0.1, 2.2, 3.1, 1.7])
    found = multiplicity.max_t(observed, null)
    order = np.argsort(-observed, kind="stable")
    least = 0.0
    for step, j in enumerate(order):
        p = (1 + (null[:, order[step:]].max(1) >= observed[j]).sum()) / 4001
        least = max(least, p)
        assert found[j] == pytest.approx(least)
    single = multiplicity.exceeded(observed, null)
    np.testing.assert_allclose(single, [(1 + (null[:, j] >= observed[j]).sum()) / 4001 for j in range(8)])
    free = np.abs(rng.standard_normal((60_000, 8)))
    own = 2 * stats.norm.sf(observed)
    step_down = multipletests(own, method="holm-sidak")[1]
    np.testing.assert_allclose(multiplicity.max_t(observed, free), step_down, atol=0.01)


def test_the_critical_strength_is_where_p_reaches_the_level() -> None:
    """At it the single-step p is at most alpha, just below it is above."""
    null = np.abs(np.random.default_rng(0).standard_normal((999, 12)))
    limit = multiplicity.critical(null, 0.05)
    largest = null.max(1)
    assert (1 + (largest >= limit).sum()) / 1000 <= 0.05 < (1 + (largest >= limit - 1e-6).sum()) / 1000 + 0.001
    assert multiplicity.critical(null[:10], 0.05) == np.inf


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.02, 0.98), st.integers(20, 3000), st.integers(20, 9000), st.floats(1e-6, 0.2), st.sampled_from((-1, 1))
)
def test_detectable_gaps_have_80_percent_power_by_statsmodels(
    rate: float, n: int, n_rest: int, alpha: float, towards: int
) -> None:
    """The gap found has that power; where none is found, not even a rate of 0 or 1 has it."""
    found = float(detectable(np.array([rate]), np.array([n]), np.array([n_rest]), alpha, np.array([towards]))[0])
    room = 1 - rate if towards > 0 else rate
    gap = towards * (room * (1 - 1e-9) if np.isnan(found) else found)
    power = power_proportions_2indep(gap, rate, n, n_rest / n, alpha, return_results=False)
    ours = power_of(np.array([rate]), np.array([gap]), np.array([n]), np.array([n_rest]), alpha)[0]
    assert ours == pytest.approx(power, abs=1e-8)
    assert power < POWER + 1e-6 if np.isnan(found) else power == pytest.approx(POWER, abs=1e-4) or found < 1e-6


def test_a_normal_test_of_that_size_has_80_percent_power() -> None:
    """2.8 standard errors at the level of 5 % (Cohen)."""
    assert detectable_by_error(np.array(1.0), 0.05) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert np.isnan(detectable_by_error(np.array(1.0), np.nan))


@pytest.mark.parametrize("shape", [(3, 2), (4, 3), (3, 2, 3)])
def test_interactions_are_the_score_tests_of_a_glm(shape: tuple[int, ...]) -> None:
    """Each cell's residual² is statsmodels' score test of a parameter for that cell; fitted rates agree, too."""
    rng = np.random.default_rng(sum(shape))
    levels = [part.ravel() for part in np.indices(shape)]
    n = rng.integers(40, 300, levels[0].size)
    x = rng.binomial(n, 0.8)
    design = margins_design(levels)
    found = interaction(x, n.astype(float), design)
    model = sm.GLM(np.column_stack([x, n - x]), design, family=sm.families.Binomial()).fit()
    np.testing.assert_allclose(found.rate, model.fittedvalues, atol=1e-7)
    for cell in range(len(n)):
        oracle = model.score_test(exog_extra=np.eye(len(n))[:, [cell]])
        assert found.residual[cell] ** 2 == pytest.approx(np.ravel(oracle[0])[0], rel=1e-5, abs=1e-8)
    without = [i for i in range(len(n)) if i != 1]
    refit = sm.GLM(np.column_stack([x, n - x])[without], design[without], family=sm.families.Binomial()).fit()
    assert found.without[1] == pytest.approx(refit.predict(design[[1]])[0], abs=0.05)


def test_interactions_with_empty_margins_are_no_surprise() -> None:
    """A margin that is all right leaves residuals of 0, not infinities; draws have unit variance elsewhere."""
    levels = [part.ravel() for part in np.indices((3, 3))]
    n = np.full(9, 50.0)
    x = np.array([50, 50, 50, 45, 40, 42, 44, 41, 39.0])
    found = interaction(x, n, margins_design(levels))
    np.testing.assert_allclose(found.residual[:3], 0, atol=1e-3)
    assert np.isfinite(found.residual).all()
    drawn = interaction_draws(found, n, 3000, np.random.default_rng(0), counts=True)
    np.testing.assert_allclose(drawn[:, 3:].std(0), 1, atol=0.1)
    assert np.abs(drawn[:, :3]).max() < 1e-6


def test_a_planted_interaction_is_the_largest_residual() -> None:
    """One cell far below its margins has the largest residual; without it all are standard normal."""
    rng = np.random.default_rng(0)
    levels = [part.ravel() for part in np.indices((5, 2))]
    design, n = margins_design(levels), np.full(10, 400.0)
    rate = 1 / (1 + np.exp(-(1.5 + 0.4 * levels[0] - 0.5 * levels[1])))
    residuals = np.array([interaction(rng.binomial(400, rate).astype(float), n, design).residual for _ in range(150)])
    np.testing.assert_allclose(residuals.std(0), 1, atol=0.2)
    rate[3] -= 0.2
    found = interaction(rng.binomial(400, rate).astype(float), n, design).residual
    assert found.min() < -4
    assert 3 in np.flatnonzero(np.abs(found) > np.abs(found).max() - 1e-6)  # cells of a 5 × 2 axis mirror each other


def test_beta_binomial_is_scipys() -> None:
    """Up to the binomial coefficient, which no parameter changes."""
    n, x = np.array([10, 50, 3]), np.array([7, 50, 0])
    found = beta_binomial(x, n, np.array(0.7), np.array(12.0))
    oracle = stats.betabinom(n, 12 * 0.7, 12 * 0.3).logpmf(x) - np.log(
        [stats.binom(k, 0.5).pmf(y) * 2.0**k for k, y in zip(n, x, strict=True)]
    )
    np.testing.assert_allclose(found, oracle, atol=1e-9)


def test_pooling_draws_small_groups_most_and_stays_near_the_likeliest_prior() -> None:
    """Between the own share and the mean; the fewer the faces, the nearer to the mean; close to maximum likelihood."""
    rng = np.random.default_rng(0)
    n = np.array([8, 30, 100, 400, 2000, 60, 45, 150, 700, 20])
    x = rng.binomial(n, rng.beta(40, 8, len(n)))
    value, (low, high) = partially_pooled(x, n, 0.95)
    own, mean = x / n, x.sum() / n.sum()
    assert ((low < value) & (value < high)).all()
    assert abs(value - own)[4] < 0.005 and abs(value - mean)[0] < abs(own - mean)[0] / 2  # 2,000 faces, and 8

    def loss(theta: np.ndarray) -> float:
        m, size = 1 / (1 + np.exp(-theta[0])), np.exp(theta[1])
        return -stats.betabinom(n, m * size, (1 - m) * size).logpmf(x).sum()

    m, size = optimize.minimize(loss, [1.5, 3.0], method="Nelder-Mead").x
    m, size = 1 / (1 + np.exp(-m)), np.exp(size)
    np.testing.assert_allclose(value, (x + m * size) / (n + size), atol=0.03)


def test_pooled_limits_cover_and_empty_groups_have_none() -> None:
    """Averaged over subgroups drawn from one law the limits hold about as often as stated, also for tiny ones."""
    rng = np.random.default_rng(0)
    n, hits = np.array([12, 25, 60, 150, 400, 40, 30, 90]), []
    for _ in range(250):
        p = rng.beta(36, 4, len(n))
        _, (low, high) = partially_pooled(rng.binomial(n, p), n, 0.95)
        hits.append((low <= p) & (p <= high))
    assert 0.9 < np.mean(hits) < 0.985
    value, (low, _) = partially_pooled(np.array([3.0, 0.0]), np.array([4.0, 0.0]), 0.95)
    assert np.isnan(value[1]) and np.isnan(low[1]) and 0 < value[0] < 1
