"""Fairness criteria as joint gaps: the largest of several gaps, with one interval that holds for all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics.intervals import least_ratio_limits, mover_ratio, wilson, z_value

# What must not differ between subgroups, as the metrics whose gaps are judged (per class, unless the metric is of the
# whole task). Barocas, Hardt & Narayanan (2023): independence, separation and sufficiency, for the hard prediction.
CRITERIA: Mapping[str, tuple[str, ...]] = {
    "demographic_parity": ("selection_rate",),
    "equal_opportunity": ("recall",),
    "equalized_odds": ("recall", "fpr"),
    "predictive_parity": ("precision",),
    "accuracy_equality": ("accuracy",),
    "base_rates": ("base_rate",),  # no criterion: the premise that decides which of them can hold together
}
# In a task of two classes these metrics of one class give those of the other by subtraction: one gap, not two.
COMPLEMENTARY = ("demographic_parity", "equalized_odds", "base_rates")
MOST_PAIRS = 20_000


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the gaps: proportions of the subgroups that it compares, and their effective numbers of faces, (G,)."""

    value: np.ndarray
    effective: np.ndarray


@dataclass(frozen=True, kw_only=True)
class JointGap:
    """The largest difference and the smallest ratio among the members, with simultaneous limits.

    member: position of the largest difference; low, high: positions in it of its smallest and largest value.
    """

    member: int
    low: int
    high: int
    difference: float
    difference_low: float
    difference_high: float
    ratio: float
    ratio_low: float
    ratio_high: float


def joint_gap(members: Sequence[Member], confidence: float) -> JointGap:
    """Return the largest of several gaps (max − min) and the smallest ratio (min / max) of proportions.

    Every member compares at least two subgroups. All pairs of all members share one Bonferroni family, so the interval
    holds whichever member and pair is the largest: lower = max(0, largest pairwise lower limit), upper = largest
    pairwise upper limit (Newcombe, Stat Med 1998); ratios by Koopman's score limits, MOVER-R over 20,000 pairs. With
    one member this is `disparity.gap`. A member that is 0 in every subgroup has no ratio; if all are, it is NaN.
    """
    pairs = [_pairs(member) for member in members]
    a, n_a, b, n_b = (np.concatenate(part) for part in zip(*pairs, strict=True))
    z = z_value(confidence, len(a))
    sizes = np.array([member.value.max() - member.value.min() for member in members])
    largest = int(np.argmax(sizes))
    low, high = _difference_limits(a, n_a, b, n_b, z)
    values = members[largest].value
    defined = np.repeat([member.value.max() > 0 for member in members], [len(pair[0]) for pair in pairs])
    ratio = min((float(m.value.min() / m.value.max()) for m in members if m.value.max() > 0), default=np.nan)
    limits = _ratio_limits(a[defined], n_a[defined], b[defined], n_b[defined], z) if defined.any() else (np.nan, np.nan)
    return JointGap(
        member=largest,
        low=int(np.argmin(values)),
        high=int(np.argmax(values)),
        difference=float(sizes[largest]),
        difference_low=float(max(0.0, low.max())),
        difference_high=float(min(1.0, high.max())),
        ratio=ratio,
        ratio_low=limits[0],
        ratio_high=limits[1],
    )


def _pairs(member: Member) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return value and effective number of the first and of the second subgroup of each pair."""
    i, j = np.triu_indices(len(member.value), 1)
    return member.value[i], member.effective[i], member.value[j], member.effective[j]


def _difference_limits(
    a: np.ndarray, n_a: np.ndarray, b: np.ndarray, n_b: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of the difference of each pair, in both directions."""
    (a_low, a_high), (b_low, b_high) = wilson(a, n_a, z), wilson(b, n_b, z)
    down, up = np.hypot(a - a_low, b_high - b), np.hypot(a_high - a, b - b_low)
    return np.concatenate([a - b - down, b - a - up]), np.concatenate([a - b + up, b - a + down])


def _ratio_limits(a: np.ndarray, n_a: np.ndarray, b: np.ndarray, n_b: np.ndarray, z: float) -> tuple[float, float]:
    """Return the least lower and the least upper limit of any ratio of a pair, in either direction, at most 1."""
    if len(a) <= MOST_PAIRS:
        return least_ratio_limits(a, n_a, b, n_b, z)
    first, second = (a, *wilson(a, n_a, z)), (b, *wilson(b, n_b, z))
    low, high = mover_ratio(first, second)
    back_low, back_high = mover_ratio(second, first)
    with np.errstate(divide="ignore"):  # where the second value is 0 only the reversed ratio is defined
        low = np.where(np.isnan(low), 1 / back_high, low)
        high = np.where(np.isnan(high), 1 / back_low, high)
        lower = np.minimum(low, 1 / high).min()
        upper = np.minimum(high, 1 / low).min()
    return float(np.clip(lower, 0, 1)), float(min(upper, 1.0))
