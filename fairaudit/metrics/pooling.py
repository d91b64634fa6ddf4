"""Partial pooling: each subgroup's share drawn towards the mean of all, the more the fewer its faces. For the eye."""

import numpy as np
from scipy import special

from fairaudit.metrics.intervals import Limits

# Candidates for the standard deviation between subgroups as a share of its largest, √ρ: uniform on them (Gelman 2006).
_GRID = np.concatenate([[0.0], np.linspace(0.01, 0.995, 60)])


def partially_pooled(x: np.ndarray, n: np.ndarray, confidence: float) -> tuple[np.ndarray, Limits]:
    """Return the beta-binomial estimates of G shares x / n and their limits (empirical Bayes); NaN where n is 0.

    The prior is Beta(Mμ, M(1 − μ)); its intraclass correlation ρ = 1 / (M + 1) is averaged over its likelihood on a
    grid, with μ the weighted mean for each ρ (Kleinman, JASA 1973), so that the limits say that ρ and μ are not known.
    Posterior mean and variance are matched by one beta distribution for the limits. x and n may be effective numbers.
    """
    held = n > 0
    value = np.full(len(n), np.nan)
    low, high = value.copy(), value.copy()
    if not held.any():
        return value, (low, high)
    x, n = x[held].astype(float), n[held].astype(float)
    rho = _GRID[:, None] ** 2
    weight = n / (1 + (n - 1) * rho)
    mean = np.clip((weight * (x / n)).sum(1, keepdims=True) / weight.sum(1, keepdims=True), 1e-9, 1 - 1e-9)
    size = np.where(rho > 0, 1 / np.maximum(rho, 1e-12) - 1, 1e12)
    # restricted likelihood: that of the mean's own uncertainty, which grows with ρ, taken out (Harville, JASA 1977)
    known = np.log(mean * (1 - mean) / weight.sum(1, keepdims=True))[:, 0] / 2
    chance = special.softmax(beta_binomial(x, n, mean, size).sum(1) + known)[:, None]
    own = (x + size * mean) / (n + size)
    spread = own * (1 - own) / (n + size + 1)
    # the common mean is an estimate, too, and moves every subgroup's by its share
    spread += (size / (n + size)) ** 2 * mean * (1 - mean) / weight.sum(1, keepdims=True)
    centre = (chance * own).sum(0)
    variance = (chance * (spread + (own - centre) ** 2)).sum(0)
    total = np.maximum(centre * (1 - centre) / np.maximum(variance, 1e-300) - 1, 1e-6)
    tail = (1 - confidence) / 2
    value[held] = centre
    low[held] = special.betaincinv(total * centre, total * (1 - centre), tail)
    high[held] = special.betaincinv(total * centre, total * (1 - centre), 1 - tail)
    return value, (low, high)


def beta_binomial(x: np.ndarray, n: np.ndarray, mean: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return log P(x of n) under Beta(size · mean, size · (1 − mean)), without the binomial coefficient.

    A size of 10¹² or more is the binomial itself.
    """
    size = np.minimum(size, 1e12)
    a, b = np.minimum(size, 1e7) * mean, np.minimum(size, 1e7) * (1 - mean)
    mixed = special.betaln(a + x, b + n - x) - special.betaln(a, b)
    return np.where(size >= 1e12, x * np.log(mean) + (n - x) * np.log1p(-mean), mixed)
