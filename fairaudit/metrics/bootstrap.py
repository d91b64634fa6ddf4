"""Intervals of metrics that have no closed form: whole units (cells, weighted faces or subjects) drawn again."""

from collections.abc import Callable

import numpy as np
from scipy import special

from fairaudit.metrics.intervals import z_value

Statistic = Callable[[np.ndarray], np.ndarray]
MOST_UNDEFINED = 0.01
_BLOCK = 4_000_000


def draw_sums(units: np.ndarray, times: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw Σ times units with replacement, `draws` times: the cell sums of each draw, shape (draws, cells).

    Memory is bounded by drawing in blocks.
    """
    size, shares = int(times.sum()), times / times.sum()
    block = max(1, _BLOCK // max(len(times), 1))
    parts = [rng.multinomial(size, shares, size=min(block, draws - start)) @ units for start in range(0, draws, block)]
    return np.concatenate(parts)


def intervals(
    units: np.ndarray,
    times: np.ndarray,
    statistic: Statistic,
    *,
    confidence: float,
    draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return BCa limits of every value of `statistic` and, where there are none, why.

    statistic: cell sums (…, cells) → values (…, M), NaN where undefined. units (U, cells), each occurring `times`.
    Efron, JASA 1987: bias from the share of draws below the estimate (ties half), acceleration from the jackknife over
    distinct units with their multiplicities; percentile limits where either is not finite. More than 1 % undefined
    draws, or draws without any spread: no interval.
    """
    whole = times @ units
    estimate = statistic(whole)
    none = np.full(len(estimate), np.nan)
    if times.sum() < 2:
        return none, none.copy(), ["fewer than 2 independent units to draw from"] * len(estimate)
    drawn = statistic(draw_sums(units, times, draws, rng))
    jackknife = statistic(whole - units)
    limits = [_bca(estimate[i], drawn[:, i], jackknife[:, i], times, confidence) for i in range(len(estimate))]
    return np.array([low for low, _, _ in limits]), np.array([high for _, high, _ in limits]), [w for *_, w in limits]


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
