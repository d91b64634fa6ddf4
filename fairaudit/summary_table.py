"""The table that sums up each axis: FairFace's row, the Gini coefficient and the ratio of error rates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.gap_tables import assessed
from fairaudit.metrics import spread
from fairaudit.metrics.criteria import Member, joint_gap
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.rates import METRICS
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

MOST_DRAWS = 1000
_UNDEFINED = {
    "epsilon": "undefined: the value is 0 in a subgroup",
    "gini": "undefined: no subgroup has an error",
    "error_ratio": "undefined: a subgroup has no error",
}
_ALONE = "every subgroup is a class of its own: no reshuffling of subgroups leaves the classes as they are"
_Ratios = Mapping[tuple[str, str, str, str], tuple[float, float]]


def summary_table(data: AuditData) -> pd.DataFrame:
    """Return one row a task, axis, metric (accuracy, and recall of each class) and statistic of `spread.STATISTICS`.

    Subgroups that are unknown, undefined or too small are left out and named. `expected` and `expected_high` are the
    median and the 95 % quantile of the statistic if all these subgroups shared one rate; without it a spread says
    nothing, because noise alone spreads rates.
    """
    kept = data.gaps[data.gaps["metric"].isin(("accuracy", "recall", "fnr", "recall_by_labelled_class"))]
    keys = zip(*(kept[key] for key in ("task", "by", "metric", "class")), strict=True)
    ratios = dict(zip(keys, zip(kept["ratio_low"], kept["ratio_high"], strict=True), strict=True))
    rows = []
    for number, axis in enumerate(data.axes):
        if axis.by != OVERALL and axis.rows.labelled:
            rows += _axis_rows(axis, data.audit, ratios, np.random.default_rng([data.seed, number]))
    return pd.DataFrame(rows, columns=list(MORE_TABLES["summary"]))


def _axis_rows(axis: AxisData, audit: AuditSpec, ratios: _Ratios, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    whole = "accuracy" if axis.degenerate is None else "recall_by_labelled_class"
    for name in (whole, "recall"):
        estimate = share(axis.sample, np.eye(len(axis.sample.groups)), METRICS[name])
        for column in range(estimate.value.shape[1]):
            candidates = axis.known
            if axis.degenerate is not None and name == "recall":
                candidates = axis.known & (estimate.denominator[:, column] > 0)
                if candidates.sum() < 2:
                    continue
            chosen = np.intersect1d(
                assessed(estimate, column, axis.known, audit.min_group_size), np.flatnonzero(candidates)
            )
            left_out = "; ".join(axis.sample.groups[g] for g in np.setdiff1d(np.flatnonzero(candidates), chosen))
            start = {"task": axis.task, "by": axis.by, "metric": name, "left_out": left_out, "groups": len(chosen)}
            start["class"] = axis.rows.classes[column] if name == "recall" else ""
            start["n"] = round(float(estimate.denominator[chosen, column].sum()))
            rows += [start | row for row in _statistics(axis, estimate, column, chosen, audit, ratios, rng)]
    return rows


def _statistics(
    axis: AxisData,
    estimate: Estimate,
    column: int,
    chosen: np.ndarray,
    audit: AuditSpec,
    ratios: _Ratios,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return one row a statistic of one metric and class."""
    blank = dict.fromkeys(("value", "low", "high", "expected", "expected_high"), np.nan) | {"subgroup": ""}
    if len(chosen) < 2:
        least = audit.min_group_size
        why = f"fewer than two subgroups have a defined {estimate.metric.name} from at least {plural(least, 'face')}"
        return [blank | {"statistic": name, "reason": why} for name in spread.STATISTICS]
    rates, n = estimate.value[chosen, column], estimate.effective[chosen, column]
    values = spread.statistics(rates)
    limits = spread.limits(rates, n, audit.confidence) | _ratio_limits(axis, estimate, column, rates, n, audit, ratios)
    expected, why_not = _expected(axis, estimate, column, chosen, min(audit.draws, MOST_DRAWS), rng)
    ends = {"max": int(np.argmax(rates)), "min": int(np.argmin(rates))}
    rows = []
    for name in spread.STATISTICS:
        value, (low, high) = float(values[name]), limits[name]
        row = blank | {"statistic": name, "value": value, "reason": why_not}
        row["subgroup"] = axis.sample.groups[chosen[ends[name]]] if name in ends else ""
        row["expected"], row["expected_high"] = expected.get(name, (np.nan, np.nan))
        if np.isnan(value):
            row["reason"] = _UNDEFINED[name]
        else:
            row["low"], row["high"] = low, high if np.isfinite(high) else np.nan
            row["reason"] = why_not if np.isfinite(high) else "no upper limit"
        rows.append(row)
    return rows


def _ratio_limits(
    axis: AxisData,
    estimate: Estimate,
    column: int,
    rates: np.ndarray,
    n: np.ndarray,
    audit: AuditSpec,
    ratios: _Ratios,
) -> dict[str, tuple[float, float]]:
    """Return limits of epsilon and of the ratio of errors from the simultaneous limits of the smallest ratio."""
    name = estimate.metric.name
    class_ = axis.rows.classes[column] if estimate.metric.per_class else ""
    low, high = ratios[axis.task, axis.by, name, class_]
    errors = ratios.get((axis.task, axis.by, "fnr", class_)) if name == "recall" and axis.degenerate is None else None
    if errors is None:
        found = joint_gap([Member(value=1 - rates, effective=n)], audit.confidence)
        errors = found.ratio_low, found.ratio_high
    with np.errstate(divide="ignore"):
        inverse = [float(np.divide(1.0, side)) for side in (errors[1], errors[0])]
        return {
            "epsilon": (abs(float(np.log(high))), -float(np.log(low))),
            "error_ratio": (inverse[0], inverse[1]),
        }


def _expected(
    axis: AxisData, estimate: Estimate, column: int, chosen: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[Mapping[str, tuple[float, float]], str]:
    """Return what each statistic would be without a disparity, and why that is undefined."""
    strata = np.zeros(len(chosen), dtype=np.int64)
    if axis.degenerate is not None and not estimate.metric.per_class:
        labelled = axis.sample.counts[chosen][..., : len(axis.rows.classes)].sum(-1)
        strata = labelled.argmax(-1)
        if len(np.unique(strata)) == len(strata):
            return {}, f"no value without a disparity: {_ALONE}"
    exact = axis.sample.weight is None and axis.sample.subject is None
    n = (estimate.denominator if exact else estimate.effective)[chosen, column]
    return spread.expected(estimate.value[chosen, column] * n, n, strata, draws, rng, whole=exact), ""
