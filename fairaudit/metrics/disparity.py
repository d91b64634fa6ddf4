"""Gaps between subgroups with simultaneous intervals: a subgroup is only called worst beyond what noise explains.

Never a bootstrap of max − min: noise alone makes that gap, and its bootstrap never includes 0.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from fairaudit.metrics.estimates import Estimate, bounds
from fairaudit.metrics.intervals import least_ratio_limits, mover_ratio, z_value
from fairaudit.metrics.rates import Metric

MOST_PAIRS = 20_000


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Largest minus smallest value among assessed subgroups, smallest over largest, and which they are (indices)."""

    difference: float
    difference_low: float
    difference_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    worst: int
    best: int
    reason: str = ""


def worst_and_best(metric: Metric, values: np.ndarray) -> tuple[int, int]:
    """Return the positions of the worst and the best value: the two ends of the gap.

    Error-like metrics (fnr, fpr, fdr, mae_bins, missing predictions) are worst where largest, all others where smallest
    (for selection and base rates a convention, no judgement); a metric with a target (a signed error's 0, a calibration
    slope's 1) is worst at the end farther from it.
    """
    low, high = int(np.argmin(values)), int(np.argmax(values))
    if metric.target is not None:
        below, above = abs(values[low] - metric.target), abs(values[high] - metric.target)
        return (low, high) if below >= above else (high, low)
    return (low, high) if metric.worst == "low" else (high, low)


def gap(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Gap:
    """Return the gap of one metric and class over the subgroups `chosen` (indices, at least two, defined values).

    The interval joins all pairwise intervals at the Bonferroni level of their number: lower = max(0, largest pairwise
    lower limit), upper = largest pairwise upper limit. Pairs: Newcombe (MOVER on Wilson limits; MOVER on the metric's
    own limits where it is no proportion); ratios: Koopman's score limits, MOVER-R where it is no proportion or over
    20,000 pairs.
    """
    value = estimate.value[chosen, column]
    pairs = len(chosen) * (len(chosen) - 1) // 2
    z = z_value(confidence, pairs)
    low, high = (side[chosen, column] for side in estimate.limits(z))
    worst, best = worst_and_best(estimate.metric, value)
    difference = value[:, None] - value[None, :]
    down = difference - np.hypot((value - low)[:, None], (high - value)[None, :])
    up = difference + np.hypot((high - value)[:, None], (value - low)[None, :])
    np.fill_diagonal(down, -np.inf)
    np.fill_diagonal(up, -np.inf)
    gaps = ~np.isnan(down)
    lower = float(max(0.0, down[gaps].max())) if gaps.any() else np.nan
    upper = float(up.max()) if not np.isnan(up).any() else np.nan
    least, most = bounds(estimate.metric)
    upper = min(upper, most - least)
    reasons = ["no upper limit: a subgroup's interval is not estimable"] if np.isnan(upper) else []
    if difference.max() <= 0:
        reasons.append("every subgroup has the same value")
    ratios, why = _ratio(estimate, column, chosen, value, (low, high), z)
    return Gap(
        difference=float(value.max() - value.min()),
        difference_low=lower if gaps.sum() > len(chosen) else np.nan,
        difference_high=upper,
        ratio=ratios[0],
        ratio_low=ratios[1],
        ratio_high=ratios[2],
        worst=int(chosen[worst]),
        best=int(chosen[best]),
        reason="; ".join(reasons + ([why] if why else [])),
    )


def gap_p_value(estimate: Estimate, column: int, chosen: np.ndarray) -> float:
    """Return the least level at which the simultaneous interval of `gap` excludes 0: its test, inverted (Bonferroni).

    For metrics whose null cannot be drawn from counts. NaN where a subgroup has no interval.
    """
    value, pairs = estimate.value[chosen, column], len(chosen) * (len(chosen) - 1) // 2

    def lowest(z: float) -> float:
        low, high = (side[chosen, column] for side in estimate.limits(z))
        apart = value[:, None] - value[None, :] - np.hypot((value - low)[:, None], (high - value)[None, :])
        np.fill_diagonal(apart, -np.inf)
        return float(apart.max())

    if np.isnan(lowest(1.0)):
        return np.nan
    left, right = 0.0, 38.0
    for _ in range(22):
        middle = (left + right) / 2
        left, right = (middle, right) if lowest(middle) > 0 else (left, middle)
    return float(min(1.0, pairs * 2 * special.ndtr(-left)))


def noise_gap(estimate: Estimate, column: int, chosen: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return mean and 95th percentile of max − min if all values were equal, each with its own normal error."""
    low, high = (side[chosen, column] for side in estimate.limits(1.0))
    if np.isnan(low).any() or np.isnan(high).any():
        return np.nan, np.nan
    drawn = rng.standard_normal((2000, len(chosen))) * ((high - low) / 2)
    return float(np.ptp(drawn, axis=1).mean()), float(np.quantile(np.ptp(drawn, axis=1), 0.95))


def _ratio(
    estimate: Estimate,
    column: int,
    chosen: np.ndarray,
    value: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    z: float,
) -> tuple[tuple[float, float, float], str]:
    """Return smallest / largest with its simultaneous limits, and why it is undefined."""
    nothing = (np.nan, np.nan, np.nan)
    if estimate.metric.signed:
        return nothing, f"no ratio: {estimate.metric.name} can be 0 or negative"
    if value.max() <= 0:
        return nothing, "no ratio: it is 0 in every subgroup"
    i, j = np.triu_indices(len(chosen), 1)
    point = float(value.min() / value.max())
    if estimate.metric.kind == "proportion" and len(i) <= MOST_PAIRS:
        n = estimate.effective[chosen, column]
        return (point, *least_ratio_limits(value[i], n[i], value[j], n[j], z)), ""
    first, second = ((value[k], limits[0][k], limits[1][k]) for k in (i, j))
    low, high = mover_ratio(first, second)
    back_low, back_high = mover_ratio(second, first)
    # where the second value is 0 only the reversed ratio is defined
    low, high = (
        np.where(np.isnan(low), _inverse(back_high), low),
        np.where(np.isnan(high), _inverse(back_low), high),
    )
    if np.isnan(low).any() or np.isnan(high).any():
        return (point, np.nan, np.nan), ""
    lower = min(low.min(), _inverse(high).min())
    upper = min(high.min(), _inverse(low).min())
    return (point, float(np.clip(lower, 0, 1)), float(min(upper, 1.0))), ""


def _inverse(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 1 / values
