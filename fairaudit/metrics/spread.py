"""How far a rate is spread over subgroups: FairFace's row and NIST's Gini coefficient and error ratio.

Each of these is raised by noise alone (but for the mean), so each has the value that is to be expected without any
disparity at the same sizes, and limits that follow from simultaneous limits of the rates; never a bootstrap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from fairaudit.metrics.intervals import mover_sum, wilson, z_value

# FairFace's row: Kärkkäinen & Joo (WACV 2021), table 5 (STDV: ddof 0; epsilon: largest log-ratio of two rates).
# gini, error_ratio: NIST IR 8429 (Grother 2022), of the error rates 1 − rate.
STATISTICS = ("mean", "max", "min", "std", "epsilon", "gini", "error_ratio")
_STEPS = 60
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One statistic of the rates: its value with limits; NaN where there is none."""

    value: float
    low: float
    high: float


def statistics(rates: np.ndarray) -> dict[str, np.ndarray]:
    """Return every statistic of rates (…, G) over the last axis, G ≥ 2: arrays (…), NaN where it is undefined.

    epsilon is undefined where a rate is 0, the ratio of errors where a subgroup makes no error, Gini where none does.
    """
    errors = 1 - rates
    largest, smallest = rates.max(-1), rates.min(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        epsilon = np.where(smallest > 0, np.log(largest / smallest), np.nan)
        ratio = np.where(errors.min(-1) > 0, errors.max(-1) / errors.min(-1), np.nan)
    found = {"mean": rates.mean(-1), "max": largest, "min": smallest, "std": rates.std(-1)}
    return {**found, "epsilon": epsilon, "gini": gini(errors), "error_ratio": ratio}


def gini(values: np.ndarray) -> np.ndarray:
    """Gini coefficient n / (n − 1) · ΣΣ|xᵢ − xⱼ| / (2 n² x̄) over the last axis, in 0…1; NaN where all are 0."""
    n = values.shape[-1]
    ordered = np.sort(values, axis=-1)
    distances = 2 * ((2 * np.arange(n) - n + 1) * ordered).sum(-1)  # ΣΣ|xᵢ − xⱼ| of the ordered values
    total = values.sum(-1)
    bottom = 2 * (n - 1) * total
    return np.divide(distances, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom > 0)


def limits(rates: np.ndarray, effective: np.ndarray, confidence: float) -> dict[str, tuple[float, float]]:
    """Return limits of mean, max, min, std and gini of the true rates (G,), from their effective numbers of faces.

    mean: MOVER over Wilson limits. The others project the box of Wilson limits that hold for all G rates at once
    (Bonferroni): whatever values the rates take within it, the statistic stays within these limits (conservative).
    """
    groups = len(rates)
    low, high = wilson(rates, effective, z_value(confidence))
    mean = mover_sum(np.full(groups, 1 / groups), rates, low, high)
    low, high = wilson(rates, effective, z_value(confidence, groups))
    return {
        "mean": (float(mean[0]), float(mean[1])),
        "max": (float(low.max()), float(high.max())),
        "min": (float(low.min()), float(high.min())),
        "std": _std_limits(low, high),
        "gini": _gini_limits(1 - high, 1 - low),
    }


def _std_limits(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Return bounds of the standard deviation over a box: n·var = min over c of Σ(x − c)², nearest and farthest x."""

    def nearest(c: float) -> float:
        return float(((np.clip(c, low, high) - c) ** 2).sum())

    def farthest(c: float) -> float:
        return float((np.maximum(c - low, high - c) ** 2).sum())

    least, most = (_minimum(part, float(low.min()), float(high.max())) for part in (nearest, farthest))
    return float(np.sqrt(least / len(low))), float(np.sqrt(most / len(low)))


def _minimum(function, left: float, right: float) -> float:  # type: ignore[no-untyped-def]
    """Return the minimum of a convex function of one number between two bounds, by golden sections."""
    for _ in range(_STEPS):
        first, second = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
        if function(first) <= function(second):
            right = second
        else:
            left = first
    return float(function((left + right) / 2))


def _gini_limits(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Return bounds of Gini over a box of errors.

    Lower: every pair as near as it can be, the mean as large. Upper (exact): ΣΣ|xᵢ − xⱼ| is the largest sum of rank
    weights × values over all rankings, so the farthest point of the box is a linear assignment (Dinkelbach 1967).
    """
    n, apart = len(low), low[:, None] - high[None, :]
    near = np.maximum(np.maximum(apart, apart.T), 0).sum()
    least = float(near / (2 * (n - 1) * high.sum())) if high.sum() > 0 else 0.0
    ranks = 2.0 * np.arange(n) - n + 1
    most, found = -1.0, 0.0
    while found > most + 1e-12:
        most = found
        slope = (ranks - (n - 1) * most)[None, :]
        ends = np.where(slope > 0, high[:, None], low[:, None])
        rows, columns = linear_sum_assignment(slope * ends, maximize=True)
        found = float(np.nan_to_num(gini(ends[rows, columns])))
    return least, min(max(most, found), 1.0)


def expected(
    hits: np.ndarray, n: np.ndarray, strata: np.ndarray, draws: int, rng: np.random.Generator, *, whole: bool
) -> Mapping[str, tuple[float, float]]:
    """Return the median and the 95 % quantile of each statistic when the subgroups of a stratum share one rate.

    hits of n faces in each subgroup (G,); strata (G,): integer codes of what is conditioned on. With `whole` faces the
    labels of the subgroups are permuted within each stratum (multivariate hypergeometric); with effective numbers
    (weights, repeated subjects) the hits are drawn as binomial at the stratum's rate.
    """
    drawn = np.empty((draws, len(n)))
    for stratum in np.unique(strata):
        inside = strata == stratum
        sizes, total = np.rint(n[inside]).astype(np.int64), hits[inside].sum()
        if whole:
            drawn[:, inside] = rng.multivariate_hypergeometric(sizes, round(float(total)), draws, method="marginals")
        else:
            drawn[:, inside] = rng.binomial(sizes, total / n[inside].sum(), (draws, inside.sum()))
        drawn[:, inside] /= sizes
    found = statistics(drawn)
    return {name: _quantiles(values) for name, values in found.items()}


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    """Return median and 95 % quantile; an undefined draw counts as larger than all (a ratio with 0 below)."""
    ordered = np.sort(np.where(np.isnan(values), np.inf, values))
    chosen = ordered[[len(ordered) // 2, min(int(np.ceil(0.95 * len(ordered))), len(ordered)) - 1]]
    median, upper = (float(value) if np.isfinite(value) else np.nan for value in chosen)
    return median, upper
