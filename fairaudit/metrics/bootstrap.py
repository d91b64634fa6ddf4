"""Intervals of metrics that have no closed form: whole units (cells, weighted faces or subjects) drawn again."""

from collections.abc import Callable

import numpy as np
from scipy import special

from fairaudit.metrics.intervals import z_value

Statistic = Callable[[np.ndarray], np.ndarray]
MOST_UNDEFINED = 0.01
_BLOCK = 4_000_000
_MOST_JACKKNIFED = 2000


def draw_sums(units: np.ndarray, times: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw Σ times units with replacement, `draws` times: the cell sums of each draw, shape (draws, cells).

    Few distinct units are drawn as one multinomial, many one by one: the law is the same. Memory is bounded by blocks.
    """
    size = int(times.sum())
    many = 2 * len(times) > size
    block = max(1, _BLOCK // max(size if many else len(times), 1))
    parts = []
    for start in range(0, draws, block):
        count = min(block, draws - start)
        if many:
            owner = np.repeat(np.arange(len(times)), times)[rng.integers(size, size=(count, size))]
            owner += np.arange(count)[:, None] * len(times)
            multiplicity = np.bincount(owner.ravel(), minlength=count * len(times)).reshape(count, len(times))
        else:
            multiplicity = rng.multinomial(size, times / size, size=count)
        parts.append(multiplicity.astype(float) @ units)
    return np.concatenate(parts)


def bca(
    units: np.ndarray, times: np.ndarray, statistic: Statistic, drawn: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return value, BCa limits and, where there are no limits, why, for each of the M values of `statistic`.

    statistic: cell sums (…, cells) → values (…, M), NaN where undefined. units (U, cells), each occurring `times`;
    drawn: cell sums of the bootstrap draws (draws, cells). Efron, JASA 1987: bias from the share of draws below the
    estimate (ties half), acceleration from the jackknife over distinct units with their multiplicities (0 above 2,000
    distinct units, where it no longer matters); percentile limits where either is not finite. More than 1 % undefined
    draws, or draws without any spread: no interval.
    """
    whole = times @ units
    value = statistic(whole)
    if times.sum() < 2:
        none = np.full(len(value), np.nan)
        return value, none, none.copy(), ["no interval: fewer than 2 independent units to draw from"] * len(value)
    values = statistic(drawn)
    if len(times) <= _MOST_JACKKNIFED:
        jackknife = statistic(_clean(whole - units))
    else:
        jackknife = np.broadcast_to(value, (len(times), len(value)))
    limits = [_bca(value[i], values[:, i], jackknife[:, i], times, confidence) for i in range(len(value))]
    low, high = (np.array([limit[side] for limit in limits]) for side in (0, 1))
    return value, low, high, [why for *_, why in limits]


def without(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return whole − part of cell sums, without the rounding dust that would make an empty cell look occupied."""
    return _clean(whole - part)


def _clean(sums: np.ndarray) -> np.ndarray:
    return np.where(np.abs(sums) < 1e-9, 0.0, sums)


def _bca(
    estimate: float, drawn: np.ndarray, jackknife: np.ndarray, times: np.ndarray, confidence: float
) -> tuple[float, float, str]:
    if np.isnan(estimate):
        return np.nan, np.nan, ""
    defined = drawn[~np.isnan(drawn)]
    undefined = 1 - len(defined) / len(drawn)
    if undefined > MOST_UNDEFINED:
        return np.nan, np.nan, f"no interval: {100 * undefined:.1f} % of bootstrap draws leave it undefined"
    if np.ptp(defined) < 1e-12:
        return np.nan, np.nan, "no interval: every bootstrap draw gives the same value, so its spread is unknown"
    z = z_value(confidence)
    levels = special.ndtr(np.array([-z, z]))
    close = 1e-12 * max(1.0, abs(estimate))
    below = (defined < estimate - close).mean() + 0.5 * (np.abs(defined - estimate) <= close).mean()
    if 0 < below < 1 and not np.isnan(jackknife).any():
        centred = np.average(jackknife, weights=times) - jackknife
        spread = (times * centred**2).sum()
        a = (times * centred**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
        shifted = special.ndtri(below) + np.array([-z, z])
        if (1 - a * shifted > 0).all():
            levels = special.ndtr(special.ndtri(below) + shifted / (1 - a * shifted))
    low, high = np.quantile(defined, levels)
    return float(min(low, estimate)), float(max(high, estimate)), ""
