"""Every figure that two audits both have: its change with an interval, and whether that is beyond noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.gap_tests import GAP
from fairaudit.metrics.intervals import holm, mover_difference, z_value
from fairaudit.metrics.paired import gap_change
from fairaudit.metrics.rates import METRICS
from fairaudit.metrics.unpaired import difference_p, stored_estimate, unpaired_change
from fairaudit.report.words import axis_label, difference, figure, listing, metric_label, metric_words
from fairaudit.results import AuditResult
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural

# not compared: each repeats another figure, is made of others, or is a count
REPEATED = frozenset(
    (
        *("n", "support", "fnr", "tnr", "fdr", "fpr", "npv", "f1", "kappa", "mcc", "quadratic_weighted_kappa"),
        *("balanced_accuracy", "accuracy_standardized", "macro_recall", "macro_precision", "macro_f1"),
        *("weighted_recall", "weighted_precision", "weighted_f1", "off_by_one_accuracy", "cumulative_score_1"),
        *("cumulative_score_2", "base_rate"),
    )
)
ROW = ["task", "by", "subgroup", "metric", "class"]
GAP_KEY = ["task", "by", "metric", "class"]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One figure in both audits: what it is, its values with limits, and the change with its interval.

    what: "gap" (largest minus smallest subgroup), "rest" (a subgroup minus everyone else), "pair" (a subgroup minus
    `other`), "interaction" (a subgroup minus what its margins predict) or "overall" (all faces). shown: in which audits
    it is a finding (first, second). low, high: of the change; for gaps simultaneous over the task's gaps. beyond_noise:
    after adjustment over the task's figures of the kind. n: faces behind it in each audit (of the smaller side).
    """

    what: str
    task: str
    by: str
    subgroup: str
    other: str
    metric: str
    class_: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    shown: tuple[bool, bool]
    change: float
    low: float
    high: float
    beyond_noise: bool
    p_adjusted: float
    n: tuple[int, int]

    @property
    def kind(self) -> str:
        """`appeared`, `vanished`, `changed`, or `same` where neither its state nor its value changed beyond noise."""
        if self.what != "overall" and self.shown[0] != self.shown[1]:
            return "appeared" if self.shown[1] else "vanished"
        return "changed" if self.beyond_noise else "same"

    def sentence(self) -> str:
        """Return the change in words, with its numbers."""
        kind = metric_words(self.metric).kind
        label = metric_label(self.metric, self.class_)
        about = {
            "gap": f"{self.task} by {axis_label(self.by)}: the gap in {label} between subgroups",
            "rest": f"{self.task} by {axis_label(self.by)}: {self.subgroup} against everyone else in {label}",
            "pair": f"{self.task} by {axis_label(self.by)}: {self.subgroup} against {self.other} in {label}",
            "interaction": f"{self.task} by {axis_label(self.by)}: {self.subgroup} against its margins in {label}",
            "overall": f"{self.task}: {label} over all faces",
        }[self.what]
        if self.what == "overall":
            values = [figure(*side, kind) for side in (self.first, self.second)]
        else:
            values = [difference(*side, kind, signed=self.what != "gap") for side in (self.first, self.second)]
        change = difference(self.change, self.low, self.high, kind)
        state = {"appeared": "is now shown:", "vanished": "is no longer shown:"}.get(self.kind, "went")
        sure = "the change is beyond noise" if self.beyond_noise else "the change itself is within noise"
        return (
            f"{about} {state} from {values[0]} to {values[1]}, {change}, n = {self.n[0]:,} and {self.n[1]:,}; {sure}."
        )


def shifts_between(first: AuditResult, second: AuditResult, confidence: float) -> tuple[list[Shift], list[str]]:
    """Return every figure that both audits have, and in words what could not be compared."""
    z = z_value(confidence)
    notes: list[str] = []
    merged = _metrics(first, second)
    shifts = [*_overall(merged, z, confidence), *_gaps(first, second, merged, confidence, notes)]
    shifts += [*_rests(first, second, merged, z, confidence), *_others(first, second, z, confidence)]
    return shifts, notes


def _metrics(first: AuditResult, second: AuditResult) -> pd.DataFrame:
    """Return the metric rows that both audits have, side by side (`_1`, `_2`), without those that repeat another."""
    sides = [result.metrics[~result.metrics["metric"].isin(REPEATED)] for result in (first, second)]
    return sides[0].merge(sides[1], on=ROW, suffixes=("_1", "_2"))


def _overall(merged: pd.DataFrame, z: float, confidence: float) -> list[Shift]:
    rows = merged[(merged["by"] == OVERALL) & merged["value_1"].notna() & merged["value_2"].notna()]
    rows = rows[~rows["small_1"] & ~rows["small_2"]]
    sides = [tuple(rows[f"{c}_{i}"].to_numpy(dtype=float) for c in ("value", "low", "high")) for i in (1, 2)]
    n = rows[["denominator_1", "denominator_2"]].to_numpy(dtype=int)
    shown = np.zeros((len(rows), 2), dtype=bool)
    return _shifts("overall", rows, sides, n, shown, z, confidence)


def _rests(first: AuditResult, second: AuditResult, merged: pd.DataFrame, z: float, confidence: float) -> list[Shift]:
    """Each subgroup against everyone else in both audits, where it is large enough in both."""
    own = merged.loc[~merged["small_1"] & ~merged["small_2"], [*ROW, "denominator_1", "denominator_2"]]
    rows = first.rest.merge(second.rest, on=ROW, suffixes=("_1", "_2")).merge(own, on=ROW)
    rows = rows[rows["difference_1"].notna() & rows["difference_2"].notna()]
    sides = [tuple(rows[f"{c}_{i}"].to_numpy(dtype=float) for c in ("difference", "low", "high")) for i in (1, 2)]
    shown = np.column_stack([_shown(result, rows) for result in (first, second)])
    return _shifts(
        "rest", rows, sides, rows[["denominator_1", "denominator_2"]].to_numpy(dtype=int), shown, z, confidence
    )


def _shown(result: AuditResult, rows: pd.DataFrame) -> np.ndarray:
    """Return which subgroups an audit found to differ from the rest: the findings of its family."""
    found = result.table("findings")
    keys = found.loc[found["finding"].astype(bool) & (found["kind"] == "rest"), ROW]
    return np.array(pd.MultiIndex.from_frame(rows[ROW]).isin(pd.MultiIndex.from_frame(keys)), dtype=bool)


def _others(first: AuditResult, second: AuditResult, z: float, confidence: float) -> list[Shift]:
    """Pairs of subgroups, and intersections against their margins, that both audits tested."""
    tables = [_oriented(result.table("findings")) for result in (first, second)]
    rows = tables[0].merge(tables[1], on=["kind", *ROW, "other"], suffixes=("_1", "_2"))
    rows = rows[rows["difference_1"].notna() & rows["difference_2"].notna()]
    shifts = []
    for kind in ("pair", "interaction"):
        part = rows[rows["kind"] == kind]
        sides = [tuple(part[f"{c}_{i}"].to_numpy(dtype=float) for c in ("difference", "low", "high")) for i in (1, 2)]
        n = np.column_stack([part[[f"n_{i}", f"n_other_{i}"]].min(axis=1).fillna(0) for i in (1, 2)]).astype(int)
        shown = part[["finding_1", "finding_2"]].to_numpy(dtype=bool)
        shifts += _shifts(kind, part, sides, n, shown, z, confidence)
    return shifts


def _oriented(found: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs and interactions, each pair in the order of its names whichever of both was ahead."""
    found = found[found["kind"].isin(["pair", "interaction"]) & ~found["metric"].isin(REPEATED)].copy()
    turned = (found["kind"] == "pair") & (found["subgroup"] > found["other"])
    names, limits = found[["other", "subgroup"]], -found[["difference", "high", "low"]]
    found.loc[turned, ["subgroup", "other"]] = names[turned].to_numpy()
    found.loc[turned, ["difference", "low", "high"]] = limits[turned].to_numpy()
    return found


def _holm_by_task(rows: pd.DataFrame, p_values: np.ndarray) -> np.ndarray:
    adjusted = np.full(len(p_values), np.nan)
    for task in rows["task"].unique():
        mine = (rows["task"] == task).to_numpy()
        adjusted[mine] = holm(p_values[mine])
    return adjusted


def _shifts(
    what: str,
    rows: pd.DataFrame,
    sides: Sequence[tuple[np.ndarray, ...]],
    n: np.ndarray,
    shown: np.ndarray,
    z: float,
    confidence: float,
) -> list[Shift]:
    """Return one Shift a row: the change with MOVER limits, its p adjusted by Holm over the task's rows."""
    change = sides[1][0] - sides[0][0]
    low, high = mover_difference(sides[1], sides[0])
    adjusted = _holm_by_task(rows, difference_p(change, low, high, z))
    return [
        Shift(
            what=what,
            task=str(row["task"]),
            by=str(row["by"]),
            subgroup=str(row["subgroup"]),
            other=str(row.get("other", "")),
            metric=str(row["metric"]),
            class_=str(row["class"]),
            first=_three(sides[0], i),
            second=_three(sides[1], i),
            shown=(bool(shown[i, 0]), bool(shown[i, 1])),
            change=float(change[i]),
            low=float(low[i]),
            high=float(high[i]),
            beyond_noise=bool(adjusted[i] < 1 - confidence),
            p_adjusted=float(adjusted[i]),
            n=(int(n[i, 0]), int(n[i, 1])),
        )
        for i, row in enumerate(rows.to_dict("records"))
    ]


def _three(side: tuple[np.ndarray, ...], i: int) -> tuple[float, float, float]:
    return float(side[0][i]), float(side[1][i]), float(side[2][i])


def _gaps(
    first: AuditResult, second: AuditResult, merged: pd.DataFrame, confidence: float, notes: list[str]
) -> list[Shift]:
    """Each gap that both audits assess, its change by `gap_change` at a level that is simultaneous over the task's."""
    gaps = first.gaps.merge(second.gaps, on=GAP_KEY, suffixes=("_1", "_2"))
    gaps = gaps[gaps["difference_1"].notna() & gaps["difference_2"].notna() & ~gaps["metric"].isin(REPEATED)]
    sizes = gaps["task"].value_counts()
    groups: dict[Any, pd.DataFrame] = dict(iter(merged.groupby(GAP_KEY, sort=False)))
    scored = [_wilson(result) for result in (first, second)]
    found, uneven = [], set()
    for row in gaps.to_dict("records"):
        key = tuple(row[name] for name in GAP_KEY)
        part = _assessed(groups[key], row) if key in groups else merged.iloc[:0]
        if len(part) < 2:
            uneven.add(f"{row['task']} by {axis_label(row['by'])}: {metric_label(row['metric'], row['class'])}")
            continue
        found.append(_gap_shift(row, part, confidence, int(sizes[row["task"]]), scored))
    if uneven:
        notes.append(
            f"{plural(len(uneven), 'gap')} not compared, because fewer than two subgroups are assessed over the same "
            f"classes in both audits: {listing(sorted(uneven), 3)}."
        )
    return found


def _wilson(result: AuditResult) -> bool:
    """Whether an audit's proportions have Wilson's limits, which can be computed at another level."""
    return str(result.meta.get("settings", {}).get("audit", {}).get("interval", "wilson")) == "wilson"


def _assessed(part: pd.DataFrame, gap: Mapping[Any, Any]) -> pd.DataFrame:
    """Return the rows of the subgroups that both audits assess and whose averages run over the same classes."""
    keep = part["value_1"].notna() & part["value_2"].notna() & ~part["small_1"] & ~part["small_2"]
    keep &= part["subgroup"] != UNKNOWN
    metric = METRICS.get(str(gap["metric"]))
    if metric is not None and metric.averages:
        keep &= ~(part["reason_1"].str.contains("average over") | part["reason_2"].str.contains("average over"))
        if "compared over" in f"{gap['reason_1']}{gap['reason_2']}":
            return part.iloc[:0]
    return part[keep]


def _gap_shift(
    row: Mapping[Any, Any], part: pd.DataFrame, confidence: float, family: int, scored: Sequence[bool]
) -> Shift:
    z = z_value(confidence)
    sides = []
    for i in (0, 1):
        columns = [part[f"{c}_{i + 1}"].to_numpy(dtype=float) for c in ("value", "low", "high", "n_effective")]
        sides.append(stored_estimate(str(row["metric"]), columns[0], columns[1], columns[2], columns[3], z, scored[i]))
    change = unpaired_change(sides[0], sides[1])
    low, high = gap_change(change, 0, np.arange(len(part)), 1 - (1 - confidence) / family)
    values = [float(np.ptp(side.value)) for side in sides]
    return Shift(
        what="gap",
        task=str(row["task"]),
        by=str(row["by"]),
        subgroup="",
        other="",
        metric=str(row["metric"]),
        class_=str(row["class"]),
        first=_own_gap(row, 1, values[0]),
        second=_own_gap(row, 2, values[1]),
        shown=(row["verdict_1"] == GAP, row["verdict_2"] == GAP),
        change=values[1] - values[0],
        low=low,
        high=high,
        beyond_noise=low > 0 or high < 0,
        p_adjusted=np.nan,
        n=(int(part["denominator_1"].sum()), int(part["denominator_2"].sum())),
    )


def _own_gap(row: Mapping[Any, Any], side: int, value: float) -> tuple[float, float, float]:
    """Return a gap over the subgroups that both audits assess, with its audit's limits where these are of the same."""
    if abs(float(row[f"difference_{side}"]) - value) > 1e-9:
        return value, np.nan, np.nan
    return value, float(row[f"difference_low_{side}"]), float(row[f"difference_high_{side}"])
