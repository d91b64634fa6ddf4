"""The same figures of two independent samples: what their stored limits say of the change from one to the other."""

import numpy as np
from scipy import special

from fairaudit.metrics.estimates import Estimate, bounds
from fairaudit.metrics.intervals import Limits, f1_of_jaccard, mover_difference, wilson
from fairaudit.metrics.paired import Change
from fairaudit.metrics.rates import METRICS, Metric


def stored_estimate(
    name: str,
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    effective: np.ndarray,
    z: float,
    scored: bool = True,
) -> Estimate:
    """Return an estimate, (G, 1), from figures that were written down with limits at `z`: arrays (G,).

    At another level, shares and F1 have their Wilson limits at the effective number of faces (`scored`: those written
    down are Wilson's); of any other metric the stored limits' distances from the value grow with the normal quantile,
    kept within the metric's range.
    """
    metric = METRICS.get(name, Metric(name=name, kind="composite", lacking="", signed=True))
    least, most = bounds(metric) if name in METRICS else (-np.inf, np.inf)
    jaccard = value / (2 - value)

    def limits(wanted: float) -> Limits:
        if scored and metric.kind == "proportion":
            down, up = wilson(value, effective, wanted)
        elif scored and metric.kind == "f1":
            down, up = (f1_of_jaccard(side) for side in wilson(jaccard, effective, wanted))
        else:
            down = np.maximum(value - (value - low) * wanted / z, least)
            up = np.minimum(value + (high - value) * wanted / z, most)
        return down[:, None], up[:, None]

    return Estimate(
        metric=metric,
        value=value[:, None],
        denominator=effective[:, None],
        effective=effective[:, None],
        limits=limits,
        notes=np.full((len(value), 1), "", dtype=object),
    )


def unpaired_change(before: Estimate, after: Estimate) -> Change:
    """Return the change between two independent estimates of the same subgroups, with MOVER limits.

    Newcombe's method 10 for independent proportions (1998); Zou & Donner (2008) for any other pair of limits.
    """

    def limits(z: float) -> Limits:
        return mover_difference((after.value, *after.limits(z)), (before.value, *before.limits(z)))

    delta = Estimate(
        metric=before.metric,
        value=after.value - before.value,
        denominator=np.minimum(before.denominator, after.denominator),
        effective=np.minimum(before.effective, after.effective),
        limits=limits,
        notes=before.notes,
    )
    return Change(before=before, after=after, delta=delta)


def difference_p(difference: np.ndarray, low: np.ndarray, high: np.ndarray, z: float) -> np.ndarray:
    """Two-sided p of a difference whose limits at `z` are known: 1 − confidence of the interval that just reaches 0.

    The distance to the limit on the side of 0 is taken to grow with the normal quantile. 1 where the difference is 0,
    NaN where the limits are.
    """
    towards = np.where(difference > 0, difference - low, high - difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.abs(difference) * z / towards
    p_values = 2 * special.ndtr(-strength)
    return np.where(np.isnan(towards) | np.isnan(difference), np.nan, np.where(difference == 0, 1.0, p_values))
