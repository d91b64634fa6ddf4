"""Means and shares of numbers that faces carry, over pools of subgroups: sums that merge, then value and variance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from fairaudit.metrics.estimates import Estimate, bounds
from fairaudit.metrics.intervals import Limits, wilson
from fairaudit.metrics.rates import Metric, ratio
from fairaudit.metrics.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Means:
    """Weighted means Σ w·a / Σ w·b of Q pools and V columns, arrays (Q, V).

    faces: how many faces have b > 0; effective: their effective number (Kish, or fewer where subjects repeat);
    variance: linearized, between faces or subjects; units: how many independent units that variance comes from.
    """

    value: np.ndarray
    variance: np.ndarray
    faces: np.ndarray
    effective: np.ndarray
    units: np.ndarray


def means(sample: Sample, pools: np.ndarray | None, top: np.ndarray, bottom: np.ndarray) -> Means:
    """Return Σ w·top / Σ w·bottom of every pool with its variance from sums that add over shards and subgroups.

    top, bottom: (N, V), 0 for faces that do not count. pools: 0/1 membership of the G subgroups, (Q, G); None: each
    subgroup by itself. Variance:
    Σ w²(top − value·bottom)² / (Σ w·bottom)² · m / (m − 1) over faces, or over subjects within subgroups (Cochran,
    Sampling Techniques, 1977, §11). NaN where nothing counts, and for the variance where m < 2.
    """
    weight = np.ones(len(sample.group)) if sample.weight is None else sample.weight
    groups = len(sample.groups)

    def pooled(columns: np.ndarray) -> np.ndarray:
        repeated = columns if sample.times is None else columns * sample.times[:, None]
        sums = [np.bincount(sample.group, weights=column, minlength=groups) for column in repeated.T]
        return together(np.stack(sums, axis=-1))

    def together(sums: np.ndarray) -> np.ndarray:
        return sums if pools is None else pools @ sums

    a, b = top * weight[:, None], bottom * weight[:, None]
    below, counted = pooled(b), bottom > 0
    value = ratio(pooled(a), below)
    faces = np.rint(pooled(counted.astype(float)))
    effective = np.nan_to_num(ratio(below**2, pooled(b * b)))
    spread = _spread(pooled(a * a), pooled(a * b), pooled(b * b), value)
    variance, units = _variance(spread, faces, below), faces
    if sample.subject is not None:
        number, owner = sample.clusters
        totals = [np.stack([np.bincount(number, weights=c, minlength=len(owner)) for c in x.T], -1) for x in (a, b)]
        counts = np.stack([np.bincount(number, weights=c, minlength=len(owner)) for c in counted.T.astype(float)], -1)

        def by_owner(columns: np.ndarray) -> np.ndarray:
            return together(np.stack([np.bincount(owner, weights=c, minlength=groups) for c in columns.T], axis=-1))

        a, b = totals
        units = np.rint(by_owner((counts > 0).astype(float)))
        spread = _spread(by_owner(a * a), by_owner(a * b), by_owner(b * b), value)
        independent, variance = variance, _variance(spread, units, below)
        repeated = np.nan_to_num(ratio(independent, variance), nan=1.0)
        effective = np.minimum(np.maximum(effective * np.minimum(repeated, 1.0), np.minimum(units, effective)), faces)
    return Means(value=value, variance=variance, faces=faces, effective=effective, units=units)


def means_of_sums(total: np.ndarray, squares: np.ndarray, faces: np.ndarray) -> Means:
    """Return the means of independent faces of equal weight from sums (Q, V) of their values and squares."""
    value = ratio(total, faces)
    variance = _variance(_spread(squares, total, faces, value), faces, faces)
    return Means(value=value, variance=variance, faces=faces, effective=faces, units=faces)


def shares_of_sums(
    top: np.ndarray, bottom: np.ndarray, top_squares: np.ndarray, squares: np.ndarray, faces: np.ndarray
) -> Means:
    """Return shares of independent faces from sums of their weights, of weights squared, and of faces, any shape."""
    value = ratio(top, bottom)
    variance = _variance(_spread(top_squares, top_squares, squares, value), faces, bottom)
    effective = np.nan_to_num(ratio(bottom**2, squares))
    return Means(value=value, variance=variance, faces=faces, effective=effective, units=faces)


def _spread(aa: np.ndarray, ab: np.ndarray, bb: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return Σ (a − value·b)² from sums of products; what is within rounding of them is 0."""
    spread = aa - 2 * value * ab + value**2 * bb
    return np.where(spread > 1e-13 * (aa + value**2 * bb), spread, 0.0)


def _variance(spread: np.ndarray, units: np.ndarray, below: np.ndarray) -> np.ndarray:
    return ratio(spread * ratio(units, units - 1), below**2)


def share_limits(found: Means) -> Callable[[float], Limits]:
    """Return the limits of shares of faces: Wilson at p(1 − p) / variance faces, never above their effective number."""
    p = found.value
    by_spread = ratio(p * (1 - p), found.variance)
    number = np.minimum(np.where(np.isnan(by_spread), found.effective, by_spread), found.effective)
    return lambda z: wilson(p, number, z)


def t_quantile(z: float, units: np.ndarray) -> np.ndarray:
    """Return Student's quantile at the level of the normal quantile `z`, with units − 1 degrees of freedom."""
    freedom = np.maximum(units - 1, 1)
    return np.where(units > 1, stats.t.isf(special.ndtr(-z), freedom), np.nan)


def _error(variance: np.ndarray) -> np.ndarray:
    """Return standard errors; NaN without any spread, from which no interval follows."""
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def mean_limits(found: Means) -> Callable[[float], Limits]:
    """Return the limits of means that may have either sign: Student's t."""

    def limits(z: float) -> Limits:
        reach = t_quantile(z, found.units) * _error(found.variance)
        return found.value - reach, found.value + reach

    return limits


def positive_limits(found: Means) -> Callable[[float], Limits]:
    """Return the limits of means ≥ 0: Student's t on the logarithm, where long right tails do less harm."""

    def limits(z: float) -> Limits:
        reach = t_quantile(z, found.units) * ratio(_error(found.variance), found.value)
        middle = np.where(found.value > 0, found.value, np.nan)
        with np.errstate(over="ignore"):
            return middle * np.exp(-reach), middle * np.exp(reach)

    return limits


def logit_limits(value: np.ndarray, variance: np.ndarray, units: np.ndarray | None = None) -> Callable[[float], Limits]:
    """Return the limits of a value within 0…1 on the logit scale: normal, or Student's t where `units` are given."""
    inside = (value > 0) & (value < 1)
    middle = np.where(inside, value, np.nan)
    error = ratio(_error(variance), middle * (1 - middle))

    def limits(z: float) -> Limits:
        reach = (z if units is None else t_quantile(z, units)) * error
        return special.expit(special.logit(middle) - reach), special.expit(special.logit(middle) + reach)

    return limits


def mean_estimate(
    metric: Metric,
    found: Means,
    limits: Callable[[float], Limits],
    notes: np.ndarray | None = None,
    *,
    power: float = 1.0,
    share: bool = False,
) -> Estimate:
    """Return the estimate of (a mean) ** power, with a note where the variance lacks units or spread.

    limits: those of the mean itself; a share of faces has them (Wilson) without any spread.
    """
    notes = np.full(found.value.shape, "", dtype=object) if notes is None else notes
    if not share:
        defined = ~np.isnan(found.value)
        notes[defined & (found.units < 2)] = "no interval: fewer than two independent faces"
        flat = defined & (found.units >= 2) & (found.variance <= 0) & (notes == "")
        notes[flat] = "no interval: every face has the same value"
    least, most = bounds(metric)

    def within(z: float) -> Limits:
        low, high = limits(z)
        return np.clip(low**power, least, most), np.clip(high**power, least, most)

    return Estimate(
        metric=metric,
        value=found.value**power,
        denominator=found.faces,
        effective=found.effective,
        limits=within,
        notes=notes,
    )
