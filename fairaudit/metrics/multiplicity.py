"""Many tests at once: resampling step-down for exploration, Benjamini–Hochberg for ranking (Holm: see intervals)."""

import numpy as np

# A verdict within this many Monte-Carlo standard errors of the level is not settled yet.
UNSETTLED = 2.576
_TIE = 1e-5


def max_t(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return step-down adjusted p-values, p = (1 + #) / (1 + B) (Westfall & Young 1993, algorithm 2.8; free step-down).

    observed (m,): strengths of m tests, larger is stronger; null (B, m): the same under the joint null. Contrasts whose
    draws were made apart count as independent, which is conservative for two-sided tests (Gaussian correlation
    inequality, Royen 2014).
    """
    order = np.argsort(-observed, kind="stable")
    # the largest of each test and all weaker ones, draw by draw
    largest = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    p = (1 + (largest >= observed[order] - _TIE).sum(0)) / (1 + len(null))
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate(p)
    return adjusted


def exceeded(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return each test's own Monte-Carlo p = (1 + #) / (1 + B); observed (m,), null (B,) or (B, m)."""
    null = null if null.ndim > 1 else null[:, None]
    return (1 + (null >= observed - _TIE).sum(0)) / (1 + len(null))


def critical(null: np.ndarray, alpha: float) -> float:
    """Return the least strength whose single-step adjusted p is at most alpha, from null (B, m); inf where none is."""
    if not null.shape[1]:
        return np.inf
    largest = np.sort(null.max(1))
    allowed = int(np.floor(alpha * (1 + len(largest)) + 1e-9)) - 1
    return float(np.nextafter(largest[len(largest) - 1 - allowed], np.inf)) if allowed >= 0 else np.inf


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Return Benjamini & Hochberg's (1995) adjusted p-values; NaN stays NaN and does not count towards the family."""
    adjusted = np.full(len(p_values), np.nan)
    defined = np.flatnonzero(~np.isnan(p_values))
    order = defined[np.argsort(p_values[defined], kind="stable")]
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def unsettled(p_adjusted: np.ndarray, alpha: float, draws: int) -> np.ndarray:
    """Return which Monte-Carlo p-values lie so near to alpha that more draws could change the verdict."""
    return np.abs(p_adjusted - alpha) < UNSETTLED * np.sqrt(alpha * (1 - alpha) / draws)
