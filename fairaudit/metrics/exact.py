"""Fisher's exact test of two proportions: the law of what can happen, its p-values, and a scale for all tests."""

import numpy as np
from scipy import special

LARGEST = 5000  # outcomes of a test that is still made exactly; beyond, the normal law no longer differs
_TIE = 1e-7


def outcomes(n: int, marks: int, total: int) -> tuple[int, np.ndarray]:
    """Return the least number of `marks` among `n` of `total` faces, and the probability of each possible number."""
    low, high = max(0, n + marks - total), min(n, marks)
    x = np.arange(low, high + 1)
    log = _log_choose(marks, x) + _log_choose(total - marks, n - x)
    law = np.exp(log - log.max())
    return low, law / law.sum()


def p_values(law: np.ndarray, *, mid: bool = False) -> np.ndarray:
    """Return the two-sided p of each outcome: the probability of all that are no likelier (Fisher; ties by 1e-7).

    mid: outcomes exactly as likely count half (mid-p: Lancaster, JASA 1961), which is nearer to the nominal level.
    """
    order = np.sort(law)
    below = np.concatenate([[0.0], np.cumsum(order)])
    least = below[np.searchsorted(order, law * (1 - _TIE), side="left")]
    most = below[np.searchsorted(order, law * (1 + _TIE), side="right")]
    return np.clip((least + most) / 2 if mid else most, 0.0, 1.0)


def two_sided(z: np.ndarray) -> np.ndarray:
    """Return the two-sided normal p of z."""
    return np.asarray(2 * special.ndtr(-np.abs(z)))


def strength(p: np.ndarray) -> np.ndarray:
    """Return the |z| that has this two-sided p: one scale for tests of every kind (0 for p = 1, at most 37)."""
    return -special.ndtri(np.clip(p, 1e-300, 1.0) / 2)


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
