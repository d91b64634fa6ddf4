"""The smallest difference between a subgroup and the rest that a test would have found with 80 % power."""

import numpy as np
from scipy import special

from fairaudit.metrics.intervals import z_value

POWER = 0.8


def power_of(rate: np.ndarray, gap: np.ndarray, n: np.ndarray, n_rest: np.ndarray, alpha: float) -> np.ndarray:
    """Return the power of the two-sided z-test of rate + gap (n faces) against `rate` (n_rest faces) at level alpha.

    Pooled variance under no difference, own variances under the alternative (Fleiss, Levin & Paik 2003, §4.3). Oracle:
    statsmodels' power_proportions_2indep. n may be effective numbers.
    """
    first = np.clip(rate + gap, 0, 1)
    pooled = (n * first + n_rest * rate) / (n + n_rest)
    null = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_rest))
    own = np.sqrt(first * (1 - first) / n + rate * (1 - rate) / n_rest)
    beyond = np.abs(gap) - z_value(1 - alpha) * null
    with np.errstate(divide="ignore", invalid="ignore"):
        found = special.ndtr(beyond / own) + special.ndtr((-np.abs(gap) - z_value(1 - alpha) * null) / own)
    return np.where(own > 0, found, (beyond > 0).astype(float))


def detectable(rate: np.ndarray, n: np.ndarray, n_rest: np.ndarray, alpha: float, worse: str) -> np.ndarray:
    """Return the smallest gap from the rest's `rate` that is found with 80 % power; NaN where none is.

    worse: the direction looked at, "low" or "high"; "" (neither is worse) the one that leaves more room.
    """
    rate, n, n_rest = np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in (rate, n, n_rest)))
    if not 0 < alpha < 1:
        return np.full(rate.shape, np.nan)
    towards = {"low": -1.0, "high": 1.0}
    sign = np.full(rate.shape, towards[worse]) if worse in towards else np.where(rate > 0.5, -1.0, 1.0)
    room = np.where(sign > 0, 1 - rate, rate)
    usable = (n > 0) & (n_rest > 0) & ~np.isnan(rate)
    safe = np.where(usable, n, 1), np.where(usable, n_rest, 1), np.where(usable, rate, 0.5)
    reached = usable & (power_of(safe[2], sign * room, *safe[:2], alpha) >= POWER)
    low, high = np.zeros(rate.shape), np.where(usable, room, 0.5)
    for _ in range(50):
        middle = (low + high) / 2
        enough = power_of(safe[2], sign * middle, *safe[:2], alpha) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reached, high, np.nan)


def detectable_by_error(error: np.ndarray, alpha: float) -> np.ndarray:
    """Return the smallest gap found with 80 % power by a normal test at level alpha whose standard error is `error`."""
    if not 0 < alpha < 1:
        return np.full(np.shape(error), np.nan)
    return np.asarray(error * (z_value(1 - alpha) + float(special.ndtri(POWER))))
