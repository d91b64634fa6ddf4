"""Confidence limits in closed form or by monotone root finding; every function is vectorised over its arrays.

`z` is the standard normal quantile of the wanted two-sided confidence (see `z_value`); `n` may be an effective number.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special, stats

Limits = tuple[np.ndarray, np.ndarray]


def z_value(confidence: float, comparisons: int = 1) -> float:
    """Return z of a two-sided interval at `confidence`, Bonferroni-adjusted for that many simultaneous intervals."""
    return float(-special.ndtri((1 - confidence) / (2 * max(comparisons, 1))))


def wilson(p: np.ndarray, n: np.ndarray, z: float) -> Limits:
    """Score limits of a proportion `p` of `n` (Wilson, JASA 1927). NaN where n is 0 or p is undefined."""
    p, n = np.broadcast_arrays(np.asarray(p, dtype=float), np.asarray(n, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        low = (p + z * z / (2 * n) - spread) / scale
        high = (p + z * z / (2 * n) + spread) / scale
    low = np.where(p == 0, 0.0, np.clip(low, 0, 1))
    high = np.where(p == 1, 1.0, np.clip(high, 0, 1))
    undefined = np.isnan(p) | ~(n > 0)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def clopper_pearson(p: np.ndarray, n: np.ndarray, z: float) -> Limits:
    """Exact limits of a proportion `p` of `n` (Clopper & Pearson, Biometrika 1934): never too narrow, often too wide.

    NaN where n is 0 or p is undefined.
    """
    p, n = np.broadcast_arrays(np.asarray(p, dtype=float), np.asarray(n, dtype=float))
    undefined = np.isnan(p) | ~(n > 0)
    x, size, tail = np.where(undefined, 0.0, p * n), np.where(undefined, 1.0, n), special.ndtr(-z)
    with np.errstate(invalid="ignore"):  # at the ends of the range one of the two beta laws does not exist
        low = np.where(x > 0, special.betaincinv(x, size - x + 1, tail), 0.0)
        high = np.where(x < size, special.betaincinv(x + 1, size - x, 1 - tail), 1.0)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def f1_of_jaccard(jaccard: np.ndarray) -> np.ndarray:
    """F1 = 2J / (1 + J) of J = TP / (TP + FP + FN): increasing, so limits of J give limits of F1."""
    return 2 * jaccard / (1 + jaccard)


def mover_sum(weights: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray) -> Limits:
    """Limits of Σ w·θ over the last axis from the limits of independent θ, w ≥ 0 (Zou & Donner, Stat Med 2008).

    Terms of weight 0 do not matter, even undefined ones.
    """
    used = weights > 0
    total = np.where(used, weights * values, 0).sum(-1)
    down = np.sqrt(np.where(used, (weights * (values - low)) ** 2, 0).sum(-1))
    up = np.sqrt(np.where(used, (weights * (high - values)) ** 2, 0).sum(-1))
    return total - down, total + up


def mover_difference(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> Limits:
    """Limits of θ1 − θ2, each given as (value, low, high); with Wilson limits this is Newcombe's method 10.

    Newcombe, Stat Med 17:873 (1998), independent proportions; Zou & Donner (2008) for any pair of limits.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    difference = a - b
    low = difference - np.hypot(a - a_low, b_high - b)
    return low, difference + np.hypot(a_high - a, b - b_low)


def mover_ratio(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> Limits:
    """Limits of θ1 / θ2 for θ ≥ 0, each given as (value, low, high) (MOVER-R: Donner & Zou, Stat Methods Med Res 2012).

    Where the limits of θ2 reach 0 the upper limit is infinite; where θ2 itself is 0 both are NaN.
    """
    (a, a_low, a_high), (b, b_low, b_high) = (tuple(np.maximum(part, 0) for part in parts) for parts in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        inner_low = np.sqrt(np.maximum((a * b) ** 2 - a_low * b_high * (2 * a - a_low) * (2 * b - b_high), 0))
        inner_high = np.sqrt(np.maximum((a * b) ** 2 - a_high * b_low * (2 * a - a_high) * (2 * b - b_low), 0))
        below, above = b_high * (2 * b - b_high), b_low * (2 * b - b_low)
        low = np.where(np.abs(below) > 1e-300, (a * b - inner_low) / below, a_low * (2 * a - a_low) / (2 * a * b))
        high = np.where(above > 0, (a * b + inner_high) / above, np.inf)
    undefined = ~(b > 0)
    return np.where(undefined, np.nan, np.maximum(np.nan_to_num(low), 0)), np.where(undefined, np.nan, high)


def _score(ratio: np.ndarray, x1: np.ndarray, n1: np.ndarray, x2: np.ndarray, n2: np.ndarray) -> np.ndarray:
    """Standardized p1 − ratio·p2 under the most likely proportions that have this ratio (Koopman, Biometrics 1984)."""
    a, c = (n1 + n2) * ratio, x1 + x2
    b = n1 * ratio + x1 + n2 + x2 * ratio
    p2 = np.clip(2 * c / (b + np.sqrt(np.maximum(b * b - 4 * a * c, 0))), 0, 1)
    p1 = np.clip(ratio * p2, 0, 1)
    top = x1 / n1 - ratio * x2 / n2
    variance = p1 * (1 - p1) / n1 + ratio**2 * p2 * (1 - p2) / n2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(top == 0, 0.0, top / np.sqrt(variance))


def koopman(x1: np.ndarray, n1: np.ndarray, x2: np.ndarray, n2: np.ndarray, z: float) -> Limits:
    """Score limits of the ratio p1 / p2 of independent proportions (Koopman 1984), by bisection on its logarithm.

    x1 = 0 gives a lower limit of 0, x2 = 0 an upper limit of infinity. n > 0.
    """
    x1, n1, x2, n2 = np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in (x1, n1, x2, n2)))

    # both limits at once: the cost of few pairs is that of the calls, not of the numbers
    target = np.multiply.outer(np.array([z, -z]), np.ones(x1.shape))
    left, right = np.full(target.shape, -25.0), np.full(target.shape, 25.0)
    for _ in range(54):
        middle = (left + right) / 2
        above = _score(np.exp(middle), x1, n1, x2, n2) > target
        left, right = np.where(above, middle, left), np.where(above, right, middle)
    low, high = np.exp((left + right) / 2)
    return np.where(x1 == 0, 0.0, low), np.where(x2 == 0, np.inf, high)


def least_ratio_limits(p: np.ndarray, n: np.ndarray, q: np.ndarray, m: np.ndarray, z: float) -> tuple[float, float]:
    """Return the least lower and the least upper of Koopman's limits of p/q and of q/p over all pairs, at most 1.

    p of n and q of m (pairs,): the same as the minima of `koopman`, but only the pair that has the minimum is solved:
    a pair whose score is below z at another's limit has a lower limit still.
    """
    x, y = p * n, q * m
    sides = [np.concatenate(side) for side in ((x, y), (n, m), (y, x), (m, n))]
    if not (sides[0] > 0).all():
        lower, upper = 0.0, _least_root([side[sides[2] > 0] for side in sides], -z)
    else:
        lower, upper = _least_root(sides, z), _least_root(sides, -z)
    return lower, upper


def _least_root(sides: Sequence[np.ndarray], target: float) -> float:
    """Return the least ratio at which any pair's score falls to `target`; 1 where none does below 1."""
    found, least = 1.0, 1e-11
    while len(sides[0]):
        scores = _score(np.array(found), *sides)
        lowest = int(np.argmin(scores))
        if not scores[lowest] < target - 1e-9:
            break
        one = tuple(float(part[lowest]) for part in sides)
        root = optimize.brentq(_score_of_one, np.log(least), np.log(found), args=(*one, target), xtol=1e-15, rtol=1e-15)
        found = float(np.exp(root))
    return found


def _score_of_one(at: float, x1: float, n1: float, x2: float, n2: float, target: float) -> float:
    """Return `_score` of one pair at a logarithm of the ratio, minus `target`, without the cost of small arrays."""
    ratio = math.exp(at)
    b = n1 * ratio + x1 + n2 + x2 * ratio
    p2 = min(2 * (x1 + x2) / (b + math.sqrt(max(b * b - 4 * (n1 + n2) * ratio * (x1 + x2), 0))), 1.0)
    p1 = min(ratio * p2, 1.0)
    top, variance = x1 / n1 - ratio * x2 / n2, p1 * (1 - p1) / n1 + ratio**2 * p2 * (1 - p2) / n2
    return (top / math.sqrt(variance) if variance else math.copysign(math.inf, top) if top else 0.0) - target


def newcombe_paired(both: np.ndarray, first: np.ndarray, second: np.ndarray, n: np.ndarray, z: float) -> Limits:
    """Limits of p1 − p2 of paired proportions (method 10 of Newcombe, Stat Med 17:2635, 1998).

    both, first, second: shares of pairs in which both, only the first, only the second hold; n: number of pairs.
    """
    a, b, c, n = np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in (both, first, second, n)))
    d = np.maximum(1 - a - b - c, 0)
    p1, p2 = a + b, a + c
    (low1, high1), (low2, high2) = wilson(p1, n, z), wilson(p2, n, z)
    product = (a * d - b * c) * n * n
    product = np.where(product > 0, np.maximum(product - n / 2, 0), product)
    scale = np.sqrt((a + b) * (c + d) * (a + c) * (b + d)) * n * n
    phi = np.clip(np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0), -1, 1)

    def margin(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(left**2 - 2 * phi * left * right + right**2, 0))

    low = p1 - p2 - margin(p1 - low1, high2 - p2)
    return np.maximum(low, -1), np.minimum(p1 - p2 + margin(high1 - p1, p2 - low2), 1)


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided exact p-value of Σ d = 0 when every unit's integer d may as well have the other sign.

    With d in {−1, 0, 1} (one face a unit: +1 helped, −1 harmed) this is the exact McNemar test; with whole subjects as
    units it is McNemar's test for clustered pairs. 1 where no d differs from 0.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]).astype(np.int64), return_counts=True)
    observed = abs(int(differences.sum()))
    law = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        steps = np.zeros(2 * int(size) * int(count) + 1)
        steps[:: 2 * int(size)] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        law = np.convolve(law, steps)
    centre = len(law) // 2
    return float(min(1.0, law[np.abs(np.arange(len(law)) - centre) >= observed].sum()))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's adjusted p-values (Holm 1979); NaN stays NaN and does not count towards the family."""
    adjusted = np.full(len(p_values), np.nan)
    defined = np.flatnonzero(~np.isnan(p_values))
    order = defined[np.argsort(p_values[defined], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0) if len(order) else []
    return adjusted


# how a single proportion's limits may be computed; differences and averages are made of the same limits by MOVER
PROPORTION_LIMITS: dict[str, Callable[[np.ndarray, np.ndarray, float], Limits]] = {
    "wilson": wilson,
    "clopper-pearson": clopper_pearson,
}
