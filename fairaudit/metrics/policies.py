"""Is a limit kept? Judged by simultaneous intervals: pass when all of the interval keeps it, fail when none does.

A claim covers one or more classes; every class must keep the limit, so the worst one decides, and the interval of the
worst is made of intervals that hold for all classes at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import optimize

from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import Limits, mover_difference, z_value

Verdict = Literal["pass", "fail", "inconclusive"]
MOST_NEEDED = 1e9  # faces a subgroup; beyond it no number is named


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """A measure's value and simultaneous limits; `column`: the class that decides; `ends`: worst and best subgroup."""

    value: float
    low: float
    high: float
    column: int
    ends: tuple[int, int]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One limit to be judged: `columns` maps each class's column to the subgroups assessed in it (indices of pools).

    at_most: the measure may be at most `limit`; otherwise at least.
    """

    measure: str
    at_most: bool
    limit: float
    estimate: Estimate
    columns: Mapping[int, np.ndarray]

    def at(self, confidence: float) -> Bounds:
        """Return value and limits over all classes, simultaneous over classes and over subgroups, at `confidence`."""
        return _worst(self.at_most, self._each(confidence, self.estimate, list(self.columns)))

    def verdict(self, bounds: Bounds) -> Verdict:
        """Return "pass", "fail" or, where the interval holds the limit or is not known, "inconclusive"."""
        if self.at_most:
            kept, broken = bounds.high <= self.limit, bounds.low > self.limit
        else:
            kept, broken = bounds.low >= self.limit, bounds.high < self.limit
        return "pass" if kept else "fail" if broken else "inconclusive"

    def needed(self, confidence: float) -> float:
        """Return how many faces each assessed subgroup must have for a verdict, if the rates stay as observed.

        Faces of the metric's own denominator; a subgroup that has more keeps them. NaN where no number would do (the
        value is the limit itself, or a subgroup has no interval). Limits depend on z and n as z / √n only (exactly so
        for Wilson, MOVER over Wilson, Koopman; by construction for bootstrap limits; nearly so for scores), so a grown
        subgroup is the same estimate at a smaller z.
        """
        each = self._each(confidence, self.estimate, list(self.columns))
        whole = _worst(self.at_most, each)
        kept = whole.value <= self.limit if self.at_most else whole.value >= self.limit
        open_ = [b.column for b in each if kept or (b.value > self.limit if self.at_most else b.value < self.limit)]
        assessed = [self.estimate.denominator[g, c] for c in open_ for g in self.columns[c]]
        if not assessed or min(assessed) <= 0:
            return np.nan

        def slack(x: float) -> float:
            found = _worst(self.at_most, self._each(confidence, grown(self.estimate, x**-2), open_))
            side = found.high if self.at_most == kept else found.low
            distance = self.limit - side if self.at_most else side - self.limit
            return distance if kept else -distance

        few, many = min(assessed) ** -0.5, MOST_NEEDED**-0.5
        at_few, at_many = slack(few), slack(many)
        if not (np.isfinite(at_few) and at_many > 0):
            return np.nan
        if at_few >= 0:
            return float(np.ceil(min(assessed)))
        root = optimize.brentq(slack, many, few, xtol=1e-13, rtol=1e-10)
        return float(np.ceil(root**-2))

    def _each(self, confidence: float, estimate: Estimate, columns: Sequence[int]) -> list[Bounds]:
        level = 1 - (1 - confidence) / len(self.columns)
        return [MEASURES[self.measure](estimate, c, self.columns[c], level) for c in columns]


def holm_bounds(claims: Sequence[Claim], alpha: float) -> list[tuple[Bounds, float, Verdict]]:
    """Judge a family of claims by Holm's procedure; return limits, their confidence, and the verdict of each.

    All are judged at 1 − α/m; those decided are set aside, and the m' left are judged at 1 − α/m', until nothing more
    is decided (Holm 1979). Each claim's limits are those at the level it was judged at last, so limits and verdict
    never contradict each other. Each tail has half of α: a limit that is kept is called broken in at most α/2.
    """
    found: dict[int, tuple[Bounds, float, Verdict]] = {}
    left = list(range(len(claims)))
    while left:
        confidence = 1 - alpha / len(left)
        judged = {i: claims[i].at(confidence) for i in left}
        found |= {i: (bounds, confidence, claims[i].verdict(bounds)) for i, bounds in judged.items()}
        undecided = [i for i in left if found[i][2] == "inconclusive"]
        if len(undecided) == len(left):
            break
        left = undecided
    return [found[i] for i in range(len(claims))]


def grown(estimate: Estimate, n: float) -> Estimate:
    """Return the same rates as if every pool with fewer than `n` faces in its denominator had `n` of them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(estimate.denominator > 0, np.maximum(n / estimate.denominator, 1), 1)

    def limits(z: float) -> Limits:
        low, high = (part.copy() for part in estimate.limits(z))
        for value in np.unique(factor[factor > 1]):
            below, above = estimate.limits(z / value**0.5)
            same = factor == value
            low[same], high[same] = below[same], above[same]
        return low, high

    return replace(estimate, effective=estimate.effective * factor, limits=limits)


def _worst(at_most: bool, each: Sequence[Bounds]) -> Bounds:
    """Join the classes: the limit must be kept in each, so the largest counts where it is an upper one, else the least.

    A class without a limit leaves the whole without the limit that a pass needs; one that breaks it is enough to fail.
    """
    values = np.array([b.value for b in each])
    if np.isnan(values).all():
        return each[0]
    worst = each[int(np.nanargmax(values) if at_most else np.nanargmin(values))]
    low, high = _joined(at_most, np.array([b.low for b in each]), np.array([b.high for b in each]))
    return replace(worst, low=low, high=high, reason="; ".join(dict.fromkeys(b.reason for b in each if b.reason)))


def _joined(largest: bool, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Return the limits of the largest (or smallest) of several values from limits that hold for all at once."""
    if largest:
        return float(np.fmax.reduce(low)), float(np.max(high))
    return float(np.min(low)), float(np.fmin.reduce(high))


def _difference(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Bounds:
    found = gap(estimate, column, chosen, confidence)
    return Bounds(
        value=found.difference,
        low=found.difference_low,
        high=found.difference_high,
        column=column,
        ends=(found.worst, found.best),
        reason="" if np.isfinite(found.difference_high) else found.reason,
    )


def _ratio(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Bounds:
    found = gap(estimate, column, chosen, confidence)
    return Bounds(
        value=found.ratio,
        low=found.ratio_low,
        high=found.ratio_high,
        column=column,
        ends=(found.worst, found.best),
        reason="" if np.isfinite(found.ratio_low) else found.reason or "no limits: a subgroup has no interval",
    )


def _extreme(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float, largest: bool) -> Bounds:
    """Return the smallest (or largest) value; all subgroups' limits hold at once, so their extremes hold for it."""
    value = estimate.value[chosen, column]
    low, high = (side[chosen, column] for side in estimate.limits(z_value(confidence, len(chosen))))
    find = np.argmax if largest else np.argmin
    least, most = _joined(largest, low, high)
    end, other = int(chosen[find(value)]), int(chosen[(np.argmin if largest else np.argmax)(value)])
    why = "" if np.isfinite(low).all() and np.isfinite(high).all() else "no limits: a subgroup has no interval"
    return Bounds(
        value=float(estimate.value[end, column]),
        low=least,
        high=most,
        column=column,
        ends=(end, other),
        reason=why,
    )


def _minimum(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Bounds:
    return _extreme(estimate, column, chosen, confidence, largest=False)


def _maximum(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Bounds:
    return _extreme(estimate, column, chosen, confidence, largest=True)


def _contrast(estimate: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Bounds:
    """Return the first pool's value minus the second's, with Newcombe's limits (MOVER where it is no proportion)."""
    low, high = (side[chosen, column] for side in estimate.limits(z_value(confidence)))
    value = estimate.value[chosen, column]
    down, up = mover_difference((value[0], low[0], high[0]), (value[1], low[1], high[1]))
    why = "" if np.isfinite(down + up) else "no limits: one of the two has no interval"
    ends = (int(chosen[0]), int(chosen[1]))
    return Bounds(
        value=float(value[0] - value[1]), low=float(down), high=float(up), column=column, ends=ends, reason=why
    )


MEASURES: Mapping[str, Callable[[Estimate, int, np.ndarray, float], Bounds]] = {
    "difference": _difference,
    "ratio": _ratio,
    "minimum": _minimum,
    "maximum": _maximum,
    "contrast": _contrast,
}
