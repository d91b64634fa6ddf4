"""Permuting group labels: exact tables, what is held fixed, weights and persons; extremes and split halves."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairaudit.metrics import gap_nulls
from fairaudit.metrics.nulls import condition_of, null_cubes, random_tables, strata_of
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample


def sample_of(group: np.ndarray, row: np.ndarray, column: np.ndarray, classes: int = 2, **more: np.ndarray) -> Sample:
    """Faces with these codes."""
    names = tuple(f"g{i}" for i in range(int(group.max()) + 1))
    return Sample(table=Table(classes, classes), groups=names, group=group, row=row, column=column, **more)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(2, 5), st.integers(0, 10_000))
def test_random_tables_keep_both_margins(groups: int, columns: int, seed: int) -> None:
    """Every draw has the margins asked for and no negative cell, empty rows and columns included."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 9, (groups, columns)) * (rng.random((groups, columns)) < 0.7)
    drawn = random_tables(cells.sum(1), cells.sum(0), 40, rng)
    assert (drawn >= 0).all()
    np.testing.assert_array_equal(drawn.sum(2), np.broadcast_to(cells.sum(1), (40, groups)))
    np.testing.assert_array_equal(drawn.sum(1), np.broadcast_to(cells.sum(0), (40, columns)))


@pytest.mark.parametrize(("rows", "columns"), [([3, 4, 2], [5, 4]), ([4, 5], [3, 2, 4]), ([3, 3, 2], [3, 4, 1])])
def test_random_tables_have_the_law_of_every_permutation(rows: list[int], columns: list[int]) -> None:
    """The share of each table among the draws is its share among all permutations of labels."""
    rng = np.random.default_rng(1)
    drawn = random_tables(np.array(rows), np.array(columns), 60_000, rng).reshape(60_000, -1)
    seen, counts = np.unique(drawn, axis=0, return_counts=True)
    expected = np.array([table_probability(t.reshape(len(rows), -1)) for t in seen])
    assert expected.sum() == pytest.approx(1, abs=0.002)  # all tables but the very rare ones occur
    enough = expected * 60_000 >= 5
    chi = ((counts - 60_000 * expected) ** 2 / (60_000 * expected))[enough].sum()
    assert stats.chi2.sf(chi, enough.sum() - 1) > 1e-4


def table_probability(table: np.ndarray) -> float:
    """Probability of a table with fixed margins (Fisher, Freeman & Halton), by factorials."""
    log = sum(stats.poisson.logpmf(n, 1) for n in table.ravel())
    log -= sum(stats.poisson.logpmf(n, 1) for n in (*table.sum(0), *table.sum(1)))
    log += stats.poisson.logpmf(table.sum(), 1)
    ones = table.size - len(table) - table.shape[1] + 1
    return float(np.exp(log + ones))  # each Poisson(1) term carries a factor e^{-1}


def test_each_metric_conditions_on_what_its_criterion_does() -> None:
    """True class for error rates, predicted class for precision, nothing for crude shares, faces for outcomes."""
    kinds = {name: condition_of(METRICS[name]) for name in METRICS if METRICS[name].kind not in ("count", "score")}
    for name in ("recall", "fnr", "fpr", "tnr", "f1", "kappa", "mcc", "mae_bins", "balanced_accuracy", "macro_f1"):
        assert kinds[name] == "label"
    assert {kinds[name] for name in ("precision", "fdr", "npv")} == {"prediction"}
    assert {kinds[name] for name in ("selection_rate", "base_rate", "accuracy")} == {"nothing"}
    assert {kinds[name] for name in ("no_face_rate", "end_to_end_accuracy")} == {"faces"}


def test_only_what_may_change_changes() -> None:
    """Within true classes the labels of every subgroup stay; within predictions theirs; faces without one stay out."""
    rng = np.random.default_rng(0)
    n, table = 400, Table(3, 3)
    sample = sample_of(rng.integers(0, 4, n), rng.integers(0, 3, n), rng.integers(0, 4, n), 3)
    keep = np.array([True, True, True, False])
    inside = sample.counts[:3, :, :3]
    for condition, axis in (("label", 2), ("prediction", 1)):
        drawn, counts = null_cubes(sample, keep, strata_of(table, condition), 20, rng)
        assert drawn is counts
        cube = drawn.reshape(20, 4, *table.shape)
        np.testing.assert_array_equal(cube[:, :3, :, :3].sum(axis + 1), np.broadcast_to(inside.sum(axis), (20, 3, 3)))
        assert not cube[:, 3].any() and not cube[..., 3:].any()
        np.testing.assert_array_equal(cube.sum(1)[:, :, :3], np.broadcast_to(inside.sum(0), (20, 3, 3)))


def test_monte_carlo_null_of_a_gap_is_that_of_all_permutations() -> None:
    """Mean and law of max − min over three small subgroups agree with all assignments of right answers, enumerated."""
    sizes, right = np.array([3, 2, 4]), 5
    gaps = []
    for marked in product((0, 1), repeat=9):
        if sum(marked) == right:
            parts = np.split(np.array(marked), np.cumsum(sizes)[:-1])
            rates = [part.mean() for part in parts]
            gaps.append(max(rates) - min(rates))
    group = np.repeat(np.arange(3), sizes)
    column = np.zeros(9, dtype=int)
    column[:4] = 1
    sample = sample_of(group, np.zeros(9, dtype=int), column)
    cubes, _ = null_cubes(sample, np.ones(3, bool), strata_of(sample.table, "label"), 40_000, np.random.default_rng(3))
    values = cubes[:, :, 0] / sizes
    drawn = gap_nulls.extremes(values, np.ones(values.shape, dtype=bool))
    assert drawn.mean() == pytest.approx(np.mean(gaps), abs=0.005)
    for limit in (0.3, 0.6, 0.7):
        assert (drawn >= limit).mean() == pytest.approx((np.array(gaps) >= limit).mean(), abs=0.01)


def test_weighted_faces_move_with_their_weights() -> None:
    """Sums of weights per cell are kept over all subgroups; a small sample's law is that of its permutations."""
    group, column, weight = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 0]), np.array([1.0, 2.0, 3.0, 5.0])
    sample = sample_of(group, np.zeros(4, dtype=int), column, weight=weight)
    sums, counts = null_cubes(
        sample, np.ones(2, bool), strata_of(sample.table, "label"), 20_000, np.random.default_rng(0)
    )
    np.testing.assert_allclose(sums.sum(1)[:, :2], np.broadcast_to([9.0, 2.0], (20_000, 2)))
    np.testing.assert_array_equal(counts.sum(2), np.full((20_000, 2), 2))
    expected = [sum(weight[list(order[:2])][column[list(order[:2])] == 0]) for order in permutations(range(4))]
    for value in set(expected):
        assert (np.abs(sums[:, 0, 0] - value) < 1e-9).mean() == pytest.approx(
            np.mean(np.isclose(expected, value)), abs=0.015
        )


def test_persons_move_whole_within_their_usual_label() -> None:
    """A person's pictures within a subgroup stay together, and change places with persons of the same label only."""
    person = np.repeat(np.arange(6), [4, 1, 2, 3, 1, 2])
    group = np.array([0, 0, 1, 1, 0, 1])[person]
    row = np.array([0, 0, 0, 1, 1, 1])[person]
    sample = sample_of(group, row, row.copy(), subject=person)
    _, counts = null_cubes(sample, np.ones(2, bool), strata_of(sample.table, "label"), 500, np.random.default_rng(0))
    cube = counts.reshape(500, 2, *sample.table.shape)
    # two of three persons of label 0 are in g0: their pictures number 4 + 1, 4 + 2 or 1 + 2
    assert set(np.unique(cube[:, 0, 0, 0])) == {3, 5, 6}
    assert set(np.unique(cube[:, 0, 1, 1])) == {1, 2, 3}


def test_the_size_filter_decides_anew_in_every_draw() -> None:
    """A subgroup outside the filter sets no extreme; with fewer than two left there is no gap."""
    values = np.array([[0.1, 0.5, 0.9], [0.1, 0.5, 0.9], [0.1, 0.5, 0.9]])
    chosen = np.array([[True, True, True], [False, True, True], [False, True, False]])
    np.testing.assert_allclose(gap_nulls.extremes(values, chosen), [0.8, 0.4, 0.0])


def test_halves_are_halves() -> None:
    """Both halves add up to the sample, each with half of every subgroup; persons are in one half only."""
    rng = np.random.default_rng(0)
    n = 301
    group, row, column = rng.integers(0, 3, n), rng.integers(0, 2, n), rng.integers(0, 2, n)
    plain = sample_of(group, row, column)
    first, second = gap_nulls.halves(plain, 10, rng)
    np.testing.assert_array_equal(first + second, np.broadcast_to(plain.sums.reshape(3, -1), first.shape))
    assert np.abs(first.sum(2) - second.sum(2)).max() <= 1
    person = np.arange(n) // 7  # seven equal pictures each
    group, row, column = (codes[person * 7 % n] for codes in (group, row, column))
    whole, _ = gap_nulls.halves(sample_of(group, row, column, subject=person), 5, rng)
    assert np.isin(whole % 7, (0, n % 7)).all()


def test_split_sample_gaps_do_not_flatter() -> None:
    """Without a difference the gap of the pair picked on one half averages 0 on the other; a true one is kept."""
    rng = np.random.default_rng(0)
    sizes, found = np.array([60, 80, 100, 120]), {0.0: [], 0.2: []}
    for gap, gaps in found.items():
        for _ in range(60):
            right = rng.binomial(sizes, [0.9 - gap, 0.9, 0.9, 0.9])
            column = np.concatenate([np.repeat([0, 1], [r, n - r]) for r, n in zip(right, sizes, strict=True)])
            sample = sample_of(np.repeat(np.arange(4), sizes), np.zeros(sizes.sum(), dtype=int), column)
            halves = (part[:, :, 0] / part[:, :, :2].sum(2) for part in gap_nulls.halves(sample, 20, rng))
            gaps.append(gap_nulls.split_gap(*halves, np.ones(4, bool)))
    assert abs(np.mean(found[0.0])) < 3 * np.std(found[0.0]) / 60**0.5
    assert np.mean(found[0.2]) == pytest.approx(0.2, abs=0.03)


def test_between_variance_is_unbiased() -> None:
    """τ² averages to the variance of the true rates (ddof 1), also where it is 0, and so falls below 0 at times."""
    rng = np.random.default_rng(0)
    n = np.array([40, 80, 150, 300])
    for rates in (np.full(4, 0.9), np.array([0.7, 0.85, 0.9, 0.95])):
        drawn = np.array([gap_nulls.between_variance(x / n, n) for x in rng.binomial(n, rates, (4000, 4))])
        assert drawn.mean() == pytest.approx(rates.var(ddof=1), abs=4 * drawn.std() / 4000**0.5)
        assert rates.std() > 0 or 0.2 < (drawn < 0).mean() < 0.8


def test_strength_of_many_pairs_is_on_one_scale() -> None:
    """Among k normal values without difference the largest pair's strength exceeds 1.96 about as seldom for any k."""
    rng = np.random.default_rng(0)
    for k in (2, 5, 20):
        values = rng.standard_normal((4000, k))
        scale = gap_nulls.moments(values, np.ones(values.shape, dtype=bool))
        largest = gap_nulls.largest_deviation(values, np.ones(values.shape, bool), *scale, np.full(k, 0.0))
        strength = gap_nulls.joint_strength(largest, k * (k - 1) // 2)
        assert 0.01 < (strength > 1.96).mean() < 0.065
