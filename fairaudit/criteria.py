"""The table of fairness criteria: demographic parity, equal opportunity and their kin, per class and worst class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.gap_tables import assessed
from fairaudit.metrics.criteria import COMPLEMENTARY, CRITERIA, Member, joint_gap
from fairaudit.metrics.disparity import worst_and_best
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.rates import METRICS
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural

CALIBRATION = ("ece", "calibration_slope", "calibration_intercept")
NO_LABELS = "the table has no labels of this task"
DIFFER = (
    "base rates differ: demographic parity, equalized odds and predictive parity cannot all hold unless every "
    "prediction is right"
)
ALIKE = "no difference of base rates is shown"
_Gaps = Mapping[tuple[str, str, str, str], dict[Any, Any]]
_FIGURES = ("difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One gap that a criterion consists of: metric, class (index), the subgroups assessed and those that are not."""

    estimate: Estimate
    column: int
    chosen: np.ndarray
    left_out: tuple[str, ...]

    @property
    def metric(self) -> str:
        return self.estimate.metric.name

    @property
    def member(self) -> Member:
        return Member(
            value=self.estimate.value[self.chosen, self.column],
            effective=self.estimate.effective[self.chosen, self.column],
        )


def criteria_table(data: AuditData) -> pd.DataFrame:
    """Return one row a task, axis, criterion and class, and one with class "" for the worst class of each criterion.

    The row of a class: the larger gap of the criterion's metrics (equalized odds: recall and false positive rate),
    limits joint over them. The row of the worst class: limits joint over all classes; `at_class` names it. Where the
    subgroup determines the label only equal opportunity (recall of each class across the rest of the axis) remains.
    Calibration within groups: where scores exist, a row each for error, slope and intercept of the probabilities.
    Base rates stand beside the criteria: where they differ, the criteria exclude each other (Chouldechova 2017;
    Kleinberg, Mullainathan & Raghavan 2017).
    """
    names = {metric for metrics in CRITERIA.values() for metric in metrics}
    kept = data.gaps[data.gaps["metric"].isin(names)]
    keys = zip(*(kept[key] for key in ("task", "by", "metric", "class")), strict=True)
    gaps = dict(zip(keys, kept[[*_FIGURES, "reason"]].to_dict("records"), strict=True))
    rows = [row for axis in data.axes if axis.by != OVERALL for row in _axis_rows(axis, data.audit, gaps)]
    return pd.DataFrame([*rows, *_calibration(data)], columns=list(MORE_TABLES["criteria"]))


def _calibration(data: AuditData) -> list[dict[str, Any]]:
    """Return what gaps.csv says of calibration within groups: error, slope and intercept must not differ either."""
    found = data.gaps[data.gaps["metric"].isin(CALIBRATION) & data.gaps["difference"].notna()]
    faces = data.metrics[data.metrics["metric"].isin(CALIBRATION) & ~data.metrics["small"]]
    faces = faces[(faces["subgroup"] != UNKNOWN) & faces["value"].notna()]
    n = faces.groupby(["task", "by", "metric"], observed=True)["denominator"].sum()
    columns = ["task", "by", "metric", "class", *_FIGURES, "worst", "best", "assessed", "not_assessed", "reason"]
    gaps: list[Any] = found[columns].to_dict("records")
    return [
        {**row, "criterion": "calibration", "at_class": "", "n": int(n.get((row["task"], row["by"], row["metric"]), 0))}
        for row in gaps
    ]


def _axis_rows(axis: AxisData, audit: AuditSpec, gaps: _Gaps) -> list[dict[str, Any]]:
    least = audit.min_group_size
    names = {metric for metrics in CRITERIA.values() for metric in metrics}
    usable = {name for name in names if axis.rows.labelled or not METRICS[name].labels}
    if axis.degenerate is not None:
        usable = {name for name in usable if METRICS[name].degenerate}
    pools = np.eye(len(axis.sample.groups))
    parts = {name: _parts(axis, share(axis.sample, pools, METRICS[name]), least) for name in sorted(usable)}
    rows = []
    for criterion, metrics in CRITERIA.items():
        start = {"task": axis.task, "by": axis.by, "criterion": criterion}
        if not set(metrics) <= usable:
            rows.append(start | _undefined(metrics, NO_LABELS if not axis.rows.labelled else str(axis.degenerate)))
            continue
        by_class = list(zip(*(parts[name] for name in metrics), strict=True))
        if len(by_class) > 1:
            named = zip(axis.rows.classes, by_class, strict=True)
            rows += [start | _one_class(axis, group, audit, gaps) | {"class": name} for name, group in named]
            rows.append(start | _worst_class(axis, criterion, by_class, audit))
        else:
            rows.append(start | _one_class(axis, by_class[0], audit, gaps))
    return rows


def _parts(axis: AxisData, estimate: Estimate, least: int) -> list[_Part]:
    """Return the gaps of one metric, one a class."""
    found = []
    for column in range(estimate.value.shape[1]):
        chosen = assessed(estimate, column, axis.known, least)
        # where the subgroup determines the label, a subgroup of another label is no candidate
        candidates = axis.known if axis.degenerate is None else axis.known & (estimate.denominator[:, column] > 0)
        left = np.setdiff1d(np.flatnonzero(candidates), chosen)
        names = tuple(axis.sample.groups[g] for g in left)
        found.append(_Part(estimate=estimate, column=column, chosen=chosen, left_out=names))
    return found


def _one_class(axis: AxisData, parts: Sequence[_Part], audit: AuditSpec, gaps: _Gaps) -> dict[str, Any]:
    """Return the row of one class; where the criterion is one metric, its gap stands as it does in gaps.csv."""
    if len(parts) > 1 or len(parts[0].chosen) < 2:
        return _judged(axis, parts, audit)
    row = _ends(axis, parts[0])
    gap = gaps[axis.task, axis.by, parts[0].metric, row["at_class"]]
    return row | gap | {"not_assessed": "; ".join(parts[0].left_out)}


def _worst_class(
    axis: AxisData, criterion: str, by_class: Sequence[tuple[_Part, ...]], audit: AuditSpec
) -> dict[str, Any]:
    """Return the row of the worst class. In a task of two classes complementary differences are counted once."""
    open_ = [p for p, group in enumerate(by_class) if not all(len(part.chosen) > 1 for part in group)]
    judged = [group for p, group in enumerate(by_class) if p not in open_]
    if not judged:
        return _judged(axis, [part for group in by_class for part in group], audit)
    row = _judged(axis, [part for group in judged for part in group], audit)
    if len(judged) == 2 and len(by_class) == 2 and criterion in COMPLEMENTARY:
        once = _judged(axis, judged[0], audit)
        row |= {key: value for key, value in once.items() if "ratio" not in key}  # ratios are not complementary
    notes = [row["reason"], *(f"not assessed for {axis.rows.classes[p]}" for p in open_)]
    if criterion == "base_rates":
        notes.append(DIFFER if row["difference_low"] > 0 else ALIKE)
    return row | {"reason": "; ".join(filter(None, notes))}


def _judged(axis: AxisData, parts: Sequence[_Part], audit: AuditSpec) -> dict[str, Any]:
    """Return what a criterion's row says of these gaps: the largest, its ends, and limits that hold for all."""
    few = [part.metric for part in parts if len(part.chosen) < 2]
    missing = {"not_assessed": "; ".join(dict.fromkeys(name for part in parts for name in part.left_out))}
    if few:
        names = list(dict.fromkeys(part.metric for part in parts))
        return _undefined(names, _too_few(list(dict.fromkeys(few)), audit.min_group_size)) | missing
    found = joint_gap([part.member for part in parts], audit.confidence)
    flat = sorted({part.metric for part in parts if part.member.value.max() <= 0})
    why = "; ".join(f"no ratio of {name} where it is 0 in every subgroup" for name in flat)
    return _ends(axis, parts[found.member]) | {key: getattr(found, key) for key in _FIGURES} | missing | {"reason": why}


def _ends(axis: AxisData, part: _Part) -> dict[str, Any]:
    """Return which gap a row shows, from how many faces, and the subgroups at its ends ("" where they are equal)."""
    values = part.member.value
    names = [axis.sample.groups[part.chosen[end]] for end in worst_and_best(part.estimate.metric, values)]
    worst, best = names if values.max() > values.min() else ("", "")
    return {
        "class": "",
        "metric": part.metric,
        "at_class": axis.rows.classes[part.column] if part.estimate.metric.per_class else "",
        "worst": worst,
        "best": best,
        "n": round(float(part.estimate.denominator[part.chosen, part.column].sum())),
        "assessed": len(part.chosen),
    }


def _too_few(metrics: Sequence[str], least: int) -> str:
    return f"fewer than two subgroups have a defined {' and '.join(metrics)} from at least {plural(least, 'face')}"


def _undefined(metrics: Sequence[str], reason: str) -> dict[str, Any]:
    row: dict[str, Any] = {"class": "", "metric": metrics[0] if len(metrics) == 1 else "", "at_class": ""}
    row |= dict.fromkeys(_FIGURES, np.nan)
    return row | {"worst": "", "best": "", "n": 0, "assessed": 0, "not_assessed": "", "reason": reason}
