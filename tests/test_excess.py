"""Who loses more than everyone else: against formulas by hand, and by simulation where the truth is planted."""

import numpy as np
import pytest
from scipy import stats

from fairaudit.metrics.excess import excess_losses
from fairaudit.metrics.multiplicity import max_t


def judged(loss: np.ndarray, group: np.ndarray, stratum: np.ndarray, groups: int, rng: np.random.Generator):
    """Return the excess and its adjusted p-values (G, T)."""
    found = excess_losses(loss, group, stratum, groups, draws=199, rng=rng)
    return found, max_t(found.strength.ravel(), found.null.reshape(199, -1)).reshape(found.strength.shape)


def test_one_stratum_is_welchs_test():
    """Difference, strength and interval are those of scipy's test with unequal variances, but for its freedom."""
    rng = np.random.default_rng(1)
    group = rng.integers(0, 3, 80)
    loss = rng.integers(-5, 6, (80, 2, 1)) / 5
    found = excess_losses(loss, group, np.zeros(80, int), 3, draws=5, rng=rng)
    for g in range(3):
        for t in range(2):
            own, rest = loss[group == g, t, 0], loss[group != g, t, 0]
            welch = stats.ttest_ind(own, rest, equal_var=False)
            assert found.difference[g, t, 0] == pytest.approx(own.mean() - rest.mean())
            assert found.strength[g, t] == pytest.approx(welch.statistic)
            low, high = welch.confidence_interval()
            # fewer degrees of freedom than Welch's approximation has: never narrower
            assert found.low[g, t, 0] <= low + 1e-12 and found.high[g, t, 0] >= high - 1e-12
            assert found.high[g, t, 0] - found.low[g, t, 0] < 1.1 * (high - low)


def test_strata_are_weighted_as_cochran_does():
    """Σ c_y (difference in stratum y) / Σ c_y, c_y = n m / N, and a stratum without anyone else does not count."""
    group = np.array([0] * 4 + [1] * 6 + [0] * 3 + [1] * 2 + [0] * 5)
    stratum = np.array([7] * 10 + [9] * 5 + [11] * 5)
    loss = np.random.default_rng(2).random(20)
    found = excess_losses(loss[:, None, None], group, stratum, 2, draws=3, rng=np.random.default_rng(0))
    parts = [(4 * 6 / 10, loss[:4].mean() - loss[4:10].mean()), (3 * 2 / 5, loss[10:13].mean() - loss[13:15].mean())]
    by_hand = sum(c * d for c, d in parts) / sum(c for c, _ in parts)
    assert found.difference[0, 0, 0] == pytest.approx(by_hand)
    assert found.difference[1, 0, 0] == pytest.approx(-by_hand)


def test_a_hard_class_makes_no_fragile_group():
    """One label loses much more; a group that has it often loses more in the crude mean, and not among equals."""
    rng = np.random.default_rng(3)
    group = np.repeat([0, 1], [300, 900])
    label = (rng.random(1200) < np.where(group == 0, 0.8, 0.3)).astype(int)
    loss = (rng.random(1200) < np.where(label == 1, 0.6, 0.1)).astype(float)
    assert loss[group == 0].mean() - loss[group == 1].mean() > 0.15
    found, p = judged(loss[:, None, None], group, label, 2, rng)
    assert abs(found.difference[0, 0, 0]) < 0.07 and p[0, 0] > 0.05
    assert found.low[0, 0, 0] < 0 < found.high[0, 0, 0]


def test_a_loss_counts_only_as_far_as_every_variant_shows_it():
    """Two fills that disagree show nothing, two that agree do: the least strength decides."""
    rng = np.random.default_rng(4)
    group = np.repeat([0, 1, 2], 100)
    planted = (rng.random(300) < np.where(group == 1, 0.7, 0.2)).astype(float)
    flat = (rng.random(300) < 0.2).astype(float)
    again = (rng.random(300) < np.where(group == 1, 0.6, 0.2)).astype(float)
    both = np.stack([np.stack([planted, flat], -1), np.stack([planted, again], -1)], axis=1)
    found, p = judged(both, group, np.zeros(300, int), 3, rng)
    assert p[1, 1] < 0.02 and p[1, 0] > 0.05
    single = excess_losses(both[:, :, :1], group, np.zeros(300, int), 3, draws=9, rng=rng)
    assert found.strength[1, 0] < single.strength[1, 0]


def test_who_cannot_be_compared_has_no_number():
    """A group of one unit, and one that shares no stratum with anyone, have no strength and no interval."""
    group = np.array([0, *[1] * 10, *[2] * 10, *[3] * 5])
    stratum = np.array([0] * 21 + [1] * 5)
    loss = np.random.default_rng(5).random((26, 1, 1))
    found = excess_losses(loss, group, stratum, 4, draws=9, rng=np.random.default_rng(0))
    assert np.isnan(found.strength[[0, 3], 0]).all() and np.isnan(found.low[[0, 3]]).all()
    assert np.isfinite(found.strength[1:3]).all() and (found.null[:, [0, 3]] == 0).all()


def test_where_nobodys_loss_differs_no_interval_of_no_width_is_given():
    """Eighty faces without a loss do not show that the excess is exactly 0: the limits are undefined."""
    group = np.arange(80) % 2
    found = excess_losses(np.zeros((80, 1, 1)), group, group * 0, 2, draws=9, rng=np.random.default_rng(0))
    assert (found.difference == 0).all() and np.isnan(found.low).all() and np.isnan(found.high).all()


def faces(rng: np.random.Generator, fragile: float, equal_spread: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four groups of unequal size, two labels, five correlated losses; group 1 loses `fragile` more of its faces."""
    group = np.repeat(np.arange(4), [90, 90, 45, 180])
    label = (rng.random(len(group)) < np.array([0.3, 0.5, 0.5, 0.7])[group]).astype(int)
    right = np.array([0.9, 0.9, 0.9, 0.9] if equal_spread else [0.95, 0.9, 0.85, 0.7])[group]
    share = (np.array([0.15, 0.45])[label] + fragile * (group == 1)) * 0.7 / right  # the mean drop is that of `fragile`
    hit = rng.random(len(group))[:, None] + 0.2 * rng.random((len(group), 5)) < share[:, None]
    start = rng.random(len(group)) < right
    return start[:, None] * hit * rng.choice([0.2, 0.4, 0.6, 0.8, 1.0], (len(group), 5)), group, label


@pytest.mark.parametrize("equal_spread", [True, False])
def test_false_alarms_stay_at_the_level(equal_spread):
    """Where nobody loses more, any finding among 4 × 5 comparisons comes at most about once in twenty tables.

    120 tables at 5 %: 6 expected, at most 13 in 995 of 1,000 such tests. Unequal accuracies make unequal spreads.
    """
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(120):
        loss, group, label = faces(rng, 0.0, equal_spread)
        alarms += bool((judged(loss[..., None], group, label, 4, rng)[1] <= 0.05).any())
    assert alarms <= 13


def test_a_fragile_group_is_found_and_no_innocent_one():
    """The planted group in nearly every table; the others, who lose less than their rest, in hardly any."""
    rng = np.random.default_rng(7)
    hits = np.zeros(4)
    for _ in range(40):
        loss, group, label = faces(rng, 0.3, True)
        hits += (judged(loss[..., None], group, label, 4, rng)[1] <= 0.05).any(1)
    assert hits[1] >= 38 and hits[[0, 2, 3]].sum() <= 2


def test_where_all_of_a_group_lose_and_nobody_else_the_interval_has_a_width():
    """Two sides without spread: each adds Clopper and Pearson's bound, inwards alone, so that no loss is above all."""
    group = np.repeat([0, 1], [20, 80])
    loss = (group == 0).astype(float)[:, None, None]
    found = excess_losses(loss, group, np.zeros(100, int), 2, draws=9, rng=np.random.default_rng(0))
    reach = [1 - 0.025 ** (1 / n) for n in (20, 80)]
    assert reach[0] == pytest.approx(1 - stats.binomtest(20, 20).proportion_ci(0.95, "exact").low)
    assert found.difference[0, 0, 0] == 1 and found.high[0, 0, 0] == 1
    assert found.low[0, 0, 0] == pytest.approx(1 - np.hypot(*reach))
    assert (found.low[1, 0, 0], found.high[1, 0, 0]) == (-1, pytest.approx(-found.low[0, 0, 0]))
    none = excess_losses(loss * 0, group, np.zeros(100, int), 2, draws=9, rng=np.random.default_rng(0))
    assert np.isnan(none.low).all() and np.isnan(none.high).all()


@pytest.mark.parametrize("truth", [(0.97, 0.02), (0.99, 0.5), (0.0, 0.03)])
def test_intervals_near_the_ends_hold(truth):
    """With few faces that lose almost always or never, at least 93 % of 95 % intervals hold the planted excess."""
    rng = np.random.default_rng(7)
    group = np.repeat([0, 1], [25, 150])
    times = 1500
    loss = (rng.random((175, times, 1)) < np.where(group == 0, *truth)[:, None, None]).astype(float)
    found = excess_losses(loss, group, np.zeros(175, int), 2, draws=1, rng=rng)
    known = ~np.isnan(found.low[0, :, 0])
    inside = (found.low[0, :, 0] <= truth[0] - truth[1] + 1e-9) & (found.high[0, :, 0] >= truth[0] - truth[1] - 1e-9)
    assert known.mean() > 0.95 and inside[known].mean() > 0.93
