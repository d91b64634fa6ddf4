"""The smallest difference between a subgroup and the rest that a test would have found with 80 % power."""

import numpy as np
from scipy import special

from fairaudit.metrics.rates import Metric

POWER = 0.8


def power_of(
    rate: np.ndarray, gap: np.ndarray, n: np.ndarray, n_rest: np.ndarray, alpha: float | np.ndarray
) -> np.ndarray:
    """Return the power of the two-sided z-test of rate + gap (n faces) against `rate` (n_rest faces) at level alpha.

    Pooled variance under no difference, own variances under the alternative (Fleiss, Levin & Paik 2003, §4.3). Oracle:
    statsmodels' power_proportions_2indep. n may be effective numbers.
    """
    rate = np.clip(rate, 0, 1)  # sums of weights leave rounding dust above 1
    first = np.clip(rate + gap, 0, 1)
    pooled = np.clip((n * first + n_rest * rate) / (n + n_rest), 0, 1)
    critical = _two_sided(alpha) * np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_rest))
    own = np.sqrt(first * (1 - first) / n + rate * (1 - rate) / n_rest)
    beyond = np.abs(gap) - critical
    with np.errstate(divide="ignore", invalid="ignore"):
        found = special.ndtr(beyond / own) + special.ndtr((-np.abs(gap) - critical) / own)
    return np.where(own > 0, found, (beyond > 0).astype(float))


def detectable(
    rate: np.ndarray, n: np.ndarray, n_rest: np.ndarray, alpha: float | np.ndarray, towards: np.ndarray
) -> np.ndarray:
    """Return the smallest gap from the rest's `rate` that is found with 80 % power; NaN where none is; all (m,).

    towards: −1 or 1, the direction looked at; 0 (neither is worse): the one that leaves more room.
    """
    rate, n, n_rest, alpha, towards = np.broadcast_arrays(
        *(np.asarray(part, dtype=float) for part in (rate, n, n_rest, alpha, towards))
    )
    usable = (n > 0) & (n_rest > 0) & ~np.isnan(rate) & (alpha > 0) & (alpha < 1)
    found = np.full(rate.shape, np.nan)
    rate, n, n_rest, alpha, towards = (part[usable] for part in (rate, n, n_rest, alpha, towards))
    sign = np.where(towards == 0, np.where(rate > 0.5, -1.0, 1.0), towards)
    room = np.where(sign > 0, 1 - rate, rate)
    reached = power_of(rate, sign * room, n, n_rest, alpha) >= POWER
    low, high = np.zeros(rate.shape), room
    for _ in range(34):
        middle = (low + high) / 2
        enough = power_of(rate, sign * middle, n, n_rest, alpha) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    found[usable] = np.where(reached, high, np.nan)
    return found


def detectable_by_error(error: np.ndarray, alpha: float | np.ndarray) -> np.ndarray:
    """Return the smallest gap found with 80 % power by a normal test at level alpha whose standard error is `error`."""
    error, alpha = np.broadcast_arrays(np.asarray(error, dtype=float), np.asarray(alpha, dtype=float))
    known = (alpha > 0) & (alpha < 1)
    return np.where(known, error * (_two_sided(np.where(known, alpha, 0.5)) + special.ndtri(POWER)), np.nan)


def _two_sided(alpha: float | np.ndarray) -> np.ndarray:
    return -special.ndtri(np.asarray(alpha, dtype=float) / 2)


def direction(metric: Metric) -> float:
    """Return the direction in which a metric gets worse, −1 or 1; 0 where neither is worse."""
    return 0.0 if metric.name in ("selection_rate", "base_rate") else -1.0 if metric.worst == "low" else 1.0
