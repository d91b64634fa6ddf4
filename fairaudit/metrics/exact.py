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


def fisher(x: np.ndarray, n: np.ndarray, x_other: np.ndarray, n_other: np.ndarray) -> np.ndarray:
    """Return Fisher's two-sided exact p of x of n against x_other of n_other faces, whole numbers, each (m,)."""
    x, n, x_other, n_other = (np.rint(part).astype(np.int64) for part in (x, n, x_other, n_other))
    marks, total = x + x_other, n + n_other
    low, high = np.maximum(0, marks - n_other), np.minimum(n, marks)
    p = np.ones(len(x))
    order = np.argsort(high - low)
    for some in np.array_split(order, max(1, len(order) // 200)):  # tables with a similar number of outcomes
        if not len(some):
            continue
        k = low[some, None] + np.arange(int((high - low)[some].max()) + 1)
        inside = k <= high[some, None]
        k = np.minimum(k, high[some, None])
        m, t, size = (part[some, None] for part in (marks, total, n))
        log = np.where(inside, _log_choose(m, k) + _log_choose(t - m, size - k), -np.inf)
        law = np.exp(log - log.max(1, keepdims=True))
        seen = law[np.arange(len(some)), x[some] - low[some]]
        p[some] = np.minimum(np.where(law <= seen[:, None] * (1 + _TIE), law, 0).sum(1) / law.sum(1), 1.0)
    return p


def two_sided(z: np.ndarray) -> np.ndarray:
    """Return the two-sided normal p of z."""
    return np.asarray(2 * special.ndtr(-np.abs(z)))


def strength(p: np.ndarray) -> np.ndarray:
    """Return the |z| that has this two-sided p: one scale for tests of every kind (0 for p = 1, at most 37)."""
    return -special.ndtri(np.clip(p, 1e-300, 1.0) / 2)


def _log_choose(n: int | np.ndarray, k: np.ndarray) -> np.ndarray:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
