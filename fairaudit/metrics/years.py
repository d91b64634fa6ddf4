"""Errors of ages in years, with NIST's two measures (NIST IR 8525: age estimation and verification)."""

from collections.abc import Sequence

import numpy as np

from fairaudit.metrics.counted import CountedYears
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.means import (
    Means,
    mean_estimate,
    mean_limits,
    means,
    means_of_sums,
    positive_limits,
    share_limits,
)
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.rates import Metric, ratio

NIST_AGES = (18, 30)
CHALLENGE_AGE = 25
CHALLENGED = (14, 18)  # labelled 14 to 17 years old
NEAR = 5.0
NO_SEXES = "needs faces labelled as two sexes: an attribute gender with two values"
_SHARES = ("cumulative_score_5_years", "challenge_25_false_positive_rate")


def estimate(pools: Pools, metric: Metric) -> Estimate:
    """Estimate an error of ages in years for every pool.

    Error: predicted minus labelled age of faces that have both. Without years every value is empty, with the reason.
    Limits: Student's t, on the logarithm for mean absolute and squared errors; Wilson for shares.
    """
    measures = pools.sample.measures
    assert measures is not None  # years are asked for only where there are measures
    if measures.counted_years is not None:
        return _counted(pools, metric, measures.counted_years)
    if measures.years is None:
        return _refused(metric, len(pools), measures.why_no_years)
    true, predicted = measures.years.T
    known = ~np.isnan(true) & ~np.isnan(predicted)
    error = np.where(known, predicted - true, 0.0)
    if metric.name == "mae_years_18_to_30":
        return _nist(pools, metric, known, np.nan_to_num(true), np.abs(error))
    each = {
        "mae_years": np.abs(error),
        "rmse_years": error**2,
        "signed_error_years": error,
        "cumulative_score_5_years": np.abs(error) <= NEAR,
        "challenge_25_false_positive_rate": np.nan_to_num(predicted) >= CHALLENGE_AGE,
    }[metric.name]
    if metric.name == "challenge_25_false_positive_rate":
        known = known & (np.nan_to_num(true) >= CHALLENGED[0]) & (np.nan_to_num(true) < CHALLENGED[1])
    found = means(pools.sample, pools.matrix, (known * each.astype(float))[:, None], known[:, None].astype(float))
    return _with_limits(metric, found)


# metric → sums over faces of what it is the mean of, of its square, and the number of faces (see `counted.YearStore`)
_SUMS = {
    "mae_years": ("absolute", "square", "faces"),
    "rmse_years": ("square", "fourth", "faces"),
    "signed_error_years": ("error", "square", "faces"),
    "cumulative_score_5_years": ("near", "near", "faces"),
    "challenge_25_false_positive_rate": ("passed", "passed", "challenged"),
}


def _counted(pools: Pools, metric: Metric, counted: CountedYears) -> Estimate:
    """Return what `estimate` does, from sums of a table on disk."""
    if metric.name == "mae_years_18_to_30":
        return _nist_counted(pools, metric, counted)
    sums = counted.store.sums(NEAR, CHALLENGE_AGE, CHALLENGED)
    group = np.full(counted.store.cells, -1)
    group[counted.cell] = pools.sample.group
    inside, columns = group >= 0, []
    for name in _SUMS[metric.name]:
        groups = np.bincount(group[inside], weights=sums[name][inside], minlength=len(pools.known))
        columns.append((pools.matrix @ groups)[:, None])
    return _with_limits(metric, means_of_sums(*columns))


def _nist_counted(pools: Pools, metric: Metric, counted: CountedYears) -> Estimate:
    """Return what `_nist` does, from sums by cell and age."""
    measures = pools.sample.measures
    assert measures is not None  # as above
    if measures.sex is None:
        return _refused(metric, len(pools), NO_SEXES)
    place = np.full((2, counted.store.cells), -1)
    place[:, counted.cell] = pools.sample.group, measures.sex
    inside = (place >= 0).all(0)
    shape = (len(pools.known), 2, NIST_AGES[1] - NIST_AGES[0] + 1)
    tables = []
    for part in counted.store.by_age(*NIST_AGES):
        table = np.zeros(shape)
        np.add.at(table, (place[0, inside], place[1, inside]), part[inside])
        tables.append(pools.matrix @ table.reshape(shape[0], -1))
    n, total, squares = tables
    mean = ratio(total, n)
    spread = np.maximum(squares - n * mean**2, 0)
    each = ratio(np.where(spread > 1e-13 * squares, spread, 0), (n * n.shape[1]) ** 2) * ratio(n, n - 1)
    rows = [(v, s, f, f) for v, s, f in zip(mean.mean(1), each.sum(1), n.sum(1), strict=True)]
    return _nist_estimate(metric, rows, [np.flatnonzero(line == 0) for line in n], measures.sexes)


def _with_limits(metric: Metric, found: Means) -> Estimate:
    if metric.name in _SHARES:
        return mean_estimate(metric, found, share_limits(found), share=True)
    if metric.name == "signed_error_years":
        return mean_estimate(metric, found, mean_limits(found))
    return mean_estimate(metric, found, positive_limits(found), power=0.5 if metric.name == "rmse_years" else 1.0)


def _refused(metric: Metric, pools: int, why: str) -> Estimate:
    blank = np.full((pools, 1), np.nan)
    return Estimate(
        metric=metric,
        value=blank,
        denominator=np.zeros((pools, 1)),
        effective=np.zeros((pools, 1)),
        limits=lambda z: (blank, blank),
        notes=np.full((pools, 1), why, dtype=object),
    )


def _nist(pools: Pools, metric: Metric, known: np.ndarray, true: np.ndarray, error: np.ndarray) -> Estimate:
    """The mean over both sexes × ages 18 to 30 of each cell's mean absolute error; undefined where a cell is empty."""
    measures = pools.sample.measures
    assert measures is not None  # as above
    if measures.sex is None:
        return _refused(metric, len(pools), NO_SEXES)
    first, last = NIST_AGES
    ages = last - first + 1
    inside = known & (measures.sex >= 0) & (true >= first) & (true < last + 1)
    cell = measures.sex * ages + np.floor(true).astype(np.int64) - first
    rows, lacking = [], []
    for members in pools.faces():
        faces = members[inside[members]]
        value, variance, units, empty = _cell_mean(pools, faces, cell[faces], error[faces], 2 * ages)
        rows.append((value, variance, len(faces), units))
        lacking.append(empty)
    return _nist_estimate(metric, rows, lacking, measures.sexes)


def _nist_estimate(
    metric: Metric, rows: Sequence[tuple[float, ...]], lacking: Sequence[np.ndarray], sexes: Sequence[str]
) -> Estimate:
    """rows: value, variance, faces and independent units of every pool; lacking: its empty cells."""
    first, last = NIST_AGES
    ages = last - first + 1
    notes = np.full((len(rows), 1), "", dtype=object)
    for q, empty in enumerate(lacking):
        if len(empty):
            sex, age = divmod(int(empty[0]), ages)
            which = f"{sexes[sex]} aged {first + age}"
            notes[q] = f"no face in {len(empty)} of the {2 * ages} cells of sex × age 18 to 30, such as {which}"
    value, variance, count, units = (column[:, None] for column in np.array(rows, dtype=float).T)
    found = Means(value=value, variance=variance, faces=count, effective=units, units=units)
    notes[~np.isnan(value) & np.isnan(variance)] = "no interval: a cell of sex × age 18 to 30 has a single face"
    return mean_estimate(metric, found, positive_limits(found), notes)


def _cell_mean(
    pools: Pools, faces: np.ndarray, cell: np.ndarray, error: np.ndarray, cells: int
) -> tuple[float, float, float, np.ndarray]:
    """Return the mean of the cells' means, its variance, the number of independent units, and the empty cells."""
    weight = pools.weight[faces]
    mass = np.bincount(cell, weights=weight, minlength=cells)
    count = np.bincount(cell, minlength=cells)
    if not count.all():
        return np.nan, np.nan, len(faces), np.flatnonzero(count == 0)
    inside = np.bincount(cell, weights=weight * error, minlength=cells) / mass
    pull = weight * (error - inside[cell]) / (mass[cell] * cells)
    if pools.sample.subject is not None:
        people = np.bincount(np.unique(pools.sample.subject[faces], return_inverse=True)[1], weights=pull)
        variance = (people**2).sum() * len(people) / (len(people) - 1) if len(people) > 1 else np.nan
        return float(inside.mean()), variance, len(people), np.array([])
    factor = ratio(count, count - 1.0)
    return float(inside.mean()), float((pull**2 * factor[cell]).sum()), len(faces), np.array([])
