"""Rates of subgroups at one common mix of covariates (direct standardization), and what a difference then is.

Rothman, Greenland & Lash, Modern Epidemiology (2008), chapter 15. A *stratum* is one combination of covariate values;
the target mix says how much each counts. Covariates are properties of the face or its label, never of the prediction.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import Limits, mover_sum, wilson
from fairaudit.metrics.rates import Metric, ratio
from fairaudit.metrics.sample import Sample

LEAST_OVERLAP = 0.8  # share of the target mix below which nothing is standardized
ENOUGH = 5  # faces in a stratum from which its rate is more than an anecdote
_PRIOR = 2.0  # faces at the subgroup's own rate, added to each stratum where its variance is estimated


@dataclass(frozen=True, kw_only=True)
class Cells:
    """One metric and class by subgroup and stratum: arrays of shape (G, S).

    top, bottom: Σw of numerator and denominator; squares: Σw² and counts: faces, of the denominator. Where faces have
    a subject, `faces` holds of every face of the denominator its cell (subgroup · S + stratum), whether it is in the
    numerator (0/1), its weight and its subject.
    """

    top: np.ndarray
    bottom: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    faces: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def rate(self) -> np.ndarray:
        """Rate of each subgroup in each stratum, NaN where it has no face there."""
        return ratio(self.top, self.bottom)

    def spread(self, coefficients: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return the variance of Σ c·w·(a − mean) over faces, for Q sets of coefficients of the cells: (Q, G·S) → (Q,).

        a is 1 for a face in the numerator and `mean` (G·S,) its expected value. Independent faces are binomial;
        repeated subjects are summed whole first (linearized between-subject variance, Cochran 1977, §11).
        """
        if self.faces is None:
            return (coefficients**2 * (self.squares.ravel() * mean * (1 - mean))).sum(-1)
        cell, hit, weight, subject = self.faces
        people, number = np.unique(subject, return_inverse=True)
        shape = (len(mean), len(people))
        residual = sparse.coo_array((weight * (hit - mean[cell]), (cell, number)), shape=shape).tocsr()
        return ((coefficients @ residual) ** 2).sum(-1) * len(people) / max(len(people) - 1, 1)

    def own_spread(self, factor: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return that variance for each subgroup's own faces, with coefficients `factor` (G, S): (G,)."""
        if self.faces is None:
            return (factor**2 * self.squares * mean * (1 - mean)).sum(-1)
        cell, hit, weight, _ = self.faces
        sums, owner = self.by_subject(factor.ravel()[cell] * weight * (hit - mean.ravel()[cell]))
        people = np.bincount(owner, minlength=len(factor))
        return np.bincount(owner, weights=sums**2, minlength=len(factor)) * people / np.maximum(people - 1, 1)

    def by_subject(self, values: np.ndarray, part: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Sum values of faces over each subject within a subgroup (or, with `part` 1, within a cell).

        Return the sums and the number of the subgroup (cell) of each.
        """
        assert self.faces is not None  # by the caller
        cell, _, _, subject = self.faces
        place = cell // (part or self.bottom.shape[1])
        size = int(subject.max(initial=0)) + 1
        people, number = np.unique(place * size + subject, return_inverse=True)
        return np.bincount(number, weights=values, minlength=len(people)), people // size


def cells_of(sample: Sample, stratum: np.ndarray, strata: int, metric: Metric) -> list[Cells]:
    """Count a proportion by subgroup and stratum: one Cells a class of `metric` (one in all for a whole-task metric).

    stratum: codes (N,) in 0…strata − 1 of the sample's faces.
    """
    assert metric.cells is not None  # by construction of METRICS: a proportion
    top, bottom = metric.cells(sample.table)
    bottom = np.broadcast_to(bottom, top.shape)
    groups = len(sample.groups)
    place = sample.group.astype(np.int64) * strata + stratum
    weight = np.ones(len(place)) if sample.weight is None else sample.weight
    times = np.ones(len(place)) if sample.times is None else sample.times
    found = []
    for above, below in zip(top.reshape(len(top), -1), bottom.reshape(len(top), -1), strict=True):
        inside = below[sample.cell] > 0
        where, hit, w, t = place[inside], above[sample.cell[inside]], weight[inside], times[inside]
        sums = [np.bincount(where, weights=x * t, minlength=groups * strata) for x in (hit * w, w, w * w, t > 0)]
        a, b, squares, counts = (part.reshape(groups, strata) for part in sums)
        faces = None if sample.subject is None else (where, hit, w, sample.subject[inside])
        found.append(Cells(top=a, bottom=b, squares=squares, counts=counts, faces=faces))
    return found


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Which strata all compared subgroups share, and how much of the target mix they are.

    own, enough: per subgroup the share of the target mix in strata where it has a face, or at least ENOUGH (G,);
    compared: subgroups that are standardized, bool (G,); shared: strata that all of those hold, bool (S,); share: their
    part of the target mix; mix: the target mix over the shared strata, summing to 1 (all 0 where nothing is shared);
    target: the whole target mix (S,).
    """

    own: np.ndarray
    enough: np.ndarray
    compared: np.ndarray
    shared: np.ndarray
    share: float
    mix: np.ndarray
    target: np.ndarray


def overlap(counts: np.ndarray, target: np.ndarray, candidates: np.ndarray, least: float = LEAST_OVERLAP) -> Overlap:
    """Find the strata over which subgroups can be compared. counts: faces (G, S); target: weights (S,), any scale.

    Rates at different parts of the target cannot be compared, so all compared subgroups use the strata that each of
    them holds. Subgroups that hold under `least` of the target are left out; then, while the shared strata are under
    `least`, the one that holds the least of it.
    """
    t = target / target.sum() if target.sum() > 0 else np.zeros(len(target))
    held = counts > 0
    own, enough = held @ t, (counts >= ENOUGH) @ t
    compared = candidates & (own >= least - 1e-12)
    while True:
        shared = held[compared].all(0) & (t > 0) if compared.any() else np.zeros(len(t), dtype=bool)
        share = float(t[shared].sum())
        if share >= least - 1e-12 or not compared.any():
            break
        compared = compared.copy()
        compared[np.flatnonzero(compared)[np.argmin(own[compared])]] = False
    mix = np.where(shared, t, 0.0) / (share or 1.0)
    return Overlap(own=own, enough=enough, compared=compared, shared=shared, share=share, mix=mix, target=t)


def standardized(cells: Cells, mix: np.ndarray, metric: Metric) -> Estimate:
    """Estimate each subgroup's rate at the mix `mix` (S,) of strata: Σ_s mix_s · rate_s, one column; NaN where a
    subgroup lacks a stratum of the mix.

    Limits: the wider, on either side, of MOVER over the strata's Wilson limits and of Wilson at the effective number
    of faces. The first alone covers 86–92 % of nominal 95 % over many sparse strata, the second 75 % where one sparse
    stratum has a rate of its own. The mix is taken as given.
    """
    used = mix > 0
    rate = np.where(used, cells.rate, 0.0)
    value = (rate * mix).sum(-1) if used.any() else np.full(len(rate), np.nan)
    effective = _effective(cells, mix, value)
    within = ratio(cells.bottom**2, cells.squares)
    if cells.faces is not None:
        within = np.minimum(within, _clustered_within(cells))

    def limits(z: float) -> Limits:
        down, up = mover_sum(np.broadcast_to(mix, rate.shape), rate, *wilson(rate, within, z))
        low, high = wilson(value, effective, z)
        return np.clip(np.fmin(low, down), 0, 1)[:, None], np.clip(np.fmax(high, up), 0, 1)[:, None]

    return Estimate(
        metric=metric,
        value=value[:, None],
        denominator=np.where(used, cells.counts, 0).sum(-1, keepdims=True),
        effective=np.nan_to_num(effective)[:, None],
        limits=limits,
        notes=np.full((len(value), 1), "", dtype=object),
    )


def influence(cells: Cells, mix: np.ndarray) -> np.ndarray:
    """Return by how much one face of unit weight moves its subgroup's standardized rate: mix / Σw, (G, S)."""
    return np.where(mix > 0, np.nan_to_num(ratio(np.broadcast_to(mix, cells.bottom.shape), cells.bottom)), 0.0)


def smoothed(cells: Cells) -> np.ndarray:
    """Return rates (G, S) drawn a little towards the subgroup's own: a stratum of one face has a variance, too."""
    own = ratio(cells.top.sum(-1, keepdims=True), cells.bottom.sum(-1, keepdims=True))
    return np.nan_to_num((cells.top + _PRIOR * own) / (cells.bottom + _PRIOR))


def _effective(cells: Cells, mix: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Kish's (Σu)² / Σu² of the weights that standardization gives to faces; for subjects at most p(1 − p)/variance."""
    factor = influence(cells, mix)
    kish = ratio(np.ones(len(factor)), (factor**2 * cells.squares).sum(-1))
    if cells.faces is None:
        return kish
    by_spread = ratio(value * (1 - value), cells.own_spread(factor, smoothed(cells)))
    cell, _, weight, _ = cells.faces
    sums, owner = cells.by_subject(factor.ravel()[cell] * weight)
    whole = ratio(np.ones(len(factor)), np.bincount(owner, weights=sums**2, minlength=len(factor)))
    # at rates of 0 and 1 there is no spread between subjects to see: each then counts once
    return np.minimum(kish, np.where((value > 0) & (value < 1), by_spread, whole))


def _clustered_within(cells: Cells) -> np.ndarray:
    """Effective number of faces in each cell (G, S) when a subject's faces in it are worth one."""
    assert cells.faces is not None
    sums, owner = cells.by_subject(cells.faces[2], part=1)
    squares = np.bincount(owner, weights=sums**2, minlength=cells.bottom.size)
    return ratio(cells.bottom**2, squares.reshape(cells.bottom.shape))


def composition_change(cells: Cells, mix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each subgroup's standardized rate minus its crude rate over the same strata, and its variance: (G,), (G,).

    The subgroup's own mix is taken as given: what varies is the rates, Σ_s (mix_s − own_s) · rate_s.
    """
    inside = np.where(mix > 0, cells.bottom, 0.0)
    own = ratio(inside, inside.sum(-1, keepdims=True))
    rate = np.where(mix > 0, cells.rate, 0.0)
    change = ((mix - own) * rate).sum(-1)
    factor = np.where(mix > 0, np.nan_to_num(ratio(mix - own, cells.bottom)), 0.0)
    return change, cells.own_spread(factor, smoothed(cells))
