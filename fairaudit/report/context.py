"""What every section of a report reads: the result's tables as look-ups, and the names of pages."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import with_axis_columns
from fairaudit.report.pictures import FacePictures
from fairaudit.report.words import DEGENERATE_ONLY, METRICS, OUTCOME, SHOWN
from fairaudit.results import Attribution, AuditResult
from fairaudit.subgroups import OVERALL, assign

Where = tuple[str, str, str]
SLUG_LENGTH = 60
# An axis with more subgroups than this is folded away on the index; each subgroup has its own page anyway.
FOLD = 20


@dataclass(frozen=True)
class Cell:
    """One figure: its value with interval, its own denominator, and why it is undefined where it is."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    n: float = float("nan")
    small: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Against:
    """One figure of a subgroup against the same figure of everyone else; `difference` has the interval."""

    value: float
    rest: float
    difference: float
    low: float
    high: float
    n_rest: float
    reason: str = ""


@dataclass(frozen=True)
class Gap:
    """The distance between the worst-off and the best-off subgroup of an axis, with its simultaneous interval.

    expected: by noise alone at these sizes; p_adjusted and verdict: within its family (verdict "" in an older audit).
    """

    metric: str
    class_: str
    difference: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    worst: str
    best: str
    reason: str
    expected: float = float("nan")
    p_adjusted: float = float("nan")
    verdict: str = ""
    family_size: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Context:
    """An audit as its report reads it. Axes, subgroups and tasks stand in the order of the audit's own tables.

    members: where faces may be shown, the subgroup of every row of their predictions, by axis. shown_contrasts:
    those beyond noise in their family (rows of findings.csv, surest first) by task and axis; None: without that table.
    """

    result: AuditResult
    attribution: Attribution | None = None
    history: pd.DataFrame | None = None
    faces: FacePictures | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, tuple[str, ...]]
    figures: Mapping[Where, Mapping[tuple[str, str], Cell]]
    against: Mapping[Where, Mapping[tuple[str, str], Against]]
    gaps: Mapping[tuple[str, str], tuple[Gap, ...]]
    confusion: Mapping[Where, np.ndarray]
    degenerate: Mapping[tuple[str, str], str]
    slugs: Mapping[tuple[str, str], str]
    members: Mapping[str, np.ndarray]
    shown_contrasts: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]] | None = None

    def cell(self, task: str, by: str, subgroup: str, metric: str, class_: str = "") -> Cell:
        """Return one figure; one that the audit does not hold is undefined, with that reason."""
        found = self.figures.get((task, by, subgroup), {}).get((metric, class_))
        return found or Cell(reason="not computed in this audit")

    def concealed(self, task: str, by: str) -> str:
        """Return why an axis of a head can't be summed up in this report (cells are hidden), "" where it can."""
        hidden = self.result.meta.get("hidden") or {}
        touched = [task, by] in hidden.get("touched", ())
        return f"cells of fewer than {hidden['below']} faces are hidden in this report" if touched else ""

    def shown(self, task: str, by: str = OVERALL) -> list[str]:
        """Return the whole-task metrics that pages print for this head and axis, in reading order.

        Metrics of faces without a prediction appear only where there are any; recall by labelled class only where the
        subgroup determines the label, since it is the accuracy elsewhere. Unknown metrics come last.
        """
        have = dict(self.figures.get((task, OVERALL, OVERALL), {}))
        for group in self.axes.get(by, ()):
            have |= self.figures.get((task, by, group), {})
        rate = self.cell(task, OVERALL, OVERALL, "prediction_rate").value
        hidden = set() if rate < 1 else set(OUTCOME)
        hidden |= {metric for metric in OUTCOME if self.cell(task, OVERALL, OVERALL, metric).value == 0}
        hidden |= set() if (task, by) in self.degenerate else set(DEGENERATE_ONLY)
        foreign = [metric for metric, class_ in have if not class_ and metric not in METRICS]
        return [metric for metric in (*SHOWN, *foreign) if (metric, "") in have and metric not in hidden]


def make_context(
    result: AuditResult,
    *,
    attribution: Attribution | None = None,
    history: pd.DataFrame | None = None,
    faces: FacePictures | None = None,
    links: Mapping[str, str] | None = None,
) -> Context:
    """Index the tables of `result` once, so that hundreds of pages can look figures up without searching."""
    tasks = {task: tuple(result.meta["tasks"][task]["classes"]) for task in in_order(result.metrics["task"])}
    axes = _axes(result)
    return Context(
        result=result,
        attribution=attribution,
        history=history,
        faces=faces,
        links=dict(links or {}),
        tasks=tasks,
        axes=axes,
        figures=_figures(result.metrics),
        against=_against(result.rest),
        gaps=_gaps(result.gaps),
        confusion=_confusion(result.confusion, tasks),
        degenerate={(entry["task"], entry["by"]): entry["reason"] for entry in result.meta.get("degenerate", ())},
        slugs=make_slugs([(by, subgroup) for by, groups in axes.items() for subgroup in groups]),
        members=_members(faces, list(axes)) if faces else {},
        shown_contrasts=_shown(result),
    )


def in_order(values: pd.Series) -> list[str]:
    """Return the distinct values in the order in which they first appear."""
    return list(dict.fromkeys(values.tolist()))


def make_slugs(places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a file name (without .html) for each (axis, subgroup): a-z, 0-9 and "-", short, unique in any file system.

    A name that loses more than case and punctuation on the way, or would meet another, carries a hash of the whole.
    """
    slugs: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for by, subgroup in places:
        axis, group = _plain(by), _plain(subgroup)
        slug = f"{axis}--{group}"
        faithful = subgroup.replace("×", "").replace("+", "").isascii() and by.isascii() and axis and group
        if not faithful or len(slug) > SLUG_LENGTH or slug in taken:
            digest = hashlib.sha256(f"{by}\0{subgroup}".encode()).hexdigest()[:12]
            slug = f"{slug[:SLUG_LENGTH].strip('-') or 'group'}-{digest}"
        taken.add(slug)
        slugs[by, subgroup] = slug
    return slugs


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _axes(result: AuditResult) -> dict[str, tuple[str, ...]]:
    pairs = dict.fromkeys(zip(result.metrics["by"].tolist(), result.metrics["subgroup"].tolist(), strict=True))
    axes: dict[str, tuple[str, ...]] = {}
    for by, subgroup in pairs:
        if by != OVERALL:
            axes[by] = (*axes.get(by, ()), subgroup)
    return axes


def _figures(table: pd.DataFrame) -> dict[Where, dict[tuple[str, str], Cell]]:
    figures: dict[Where, dict[tuple[str, str], Cell]] = {}
    names = ("task", "by", "subgroup", "metric", "class", "value", "low", "high", "denominator", "small", "reason")
    for task, by, subgroup, metric, class_, value, low, high, n, small, reason in _rows(table, names):
        figures.setdefault((task, by, subgroup), {})[metric, class_] = Cell(value, low, high, n, bool(small), reason)
    return figures


def _against(table: pd.DataFrame) -> dict[Where, dict[tuple[str, str], Against]]:
    against: dict[Where, dict[tuple[str, str], Against]] = {}
    names = (
        *("task", "by", "subgroup", "metric", "class", "value", "rest"),
        *("difference", "low", "high", "n_rest", "reason"),
    )
    for task, by, subgroup, metric, class_, *numbers in _rows(table, names):
        against.setdefault((task, by, subgroup), {})[metric, class_] = Against(*numbers)
    return against


def _gaps(table: pd.DataFrame) -> dict[tuple[str, str], tuple[Gap, ...]]:
    gaps: dict[tuple[str, str], tuple[Gap, ...]] = {}
    names = (
        *("task", "by", "metric", "class", "difference", "difference_low", "difference_high"),
        *("ratio", "ratio_low", "ratio_high", "worst", "best", "reason"),
        *("expected_gap", "p_adjusted", "verdict", "family_size"),
    )
    table = table.reindex(columns=[*table.columns, *(name for name in names if name not in table)])
    table["verdict"] = table["verdict"].astype(object).where(table["verdict"].notna(), "")
    for task, by, *rest in _rows(table, names):
        gaps[task, by] = (*gaps.get((task, by), ()), Gap(*rest))
    return gaps


def _shown(result: AuditResult) -> dict[tuple[str, str], list[dict[str, Any]]] | None:
    """Return the contrasts whose adjusted p and interval show a difference, by task and axis."""
    if "findings" not in result.more:
        return None
    table = result.more["findings"]
    alpha = 1 - float(result.meta.get("confidence", 0.95))
    apart = (table["low"] > 0) | (table["high"] < 0)
    rows = table[table["kind"].isin(["rest", "pair"]) & (table["p_adjusted"] <= alpha) & apart]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows.to_dict("records"):
        found.setdefault((row["task"], row["by"]), []).append({str(key): value for key, value in row.items()})
    return found


def _confusion(table: pd.DataFrame, tasks: Mapping[str, Sequence[str]]) -> dict[Where, np.ndarray]:
    position = {task: {name: i for i, name in enumerate(classes)} for task, classes in tasks.items()}
    matrices: dict[Where, np.ndarray] = {}
    names = ("task", "by", "subgroup", "true", "predicted", "count")
    for task, by, subgroup, true, predicted, n in _rows(table, names):
        k = len(tasks[task])
        i, j = position[task].get(true), position[task].get(predicted)
        if i is not None and j is not None:
            matrices.setdefault((task, by, subgroup), np.zeros((k, k)))[i, j] += n
    return matrices


def _members(faces: FacePictures, axes: Sequence[str]) -> dict[str, np.ndarray]:
    frame = with_axis_columns(faces.predictions, axes)
    return {by: np.asarray(assign(frame, by), dtype=object) for by in axes}


def _rows(table: pd.DataFrame, names: Sequence[str]) -> zip:
    return zip(*(table[name].tolist() for name in names), strict=True)
