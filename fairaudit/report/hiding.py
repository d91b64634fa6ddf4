"""An audit whose small cells are hidden, for a report that is passed on: every page and table is made from it.

A cell is a subgroup of an axis, and within it the faces with one label of a head. What is hidden is an empty figure
with its reason. What could give it away goes, too: see `suppression` for cells; of a head and axis with a hidden cell
only figures of single subgroups stay, and gaps, pairs and verdicts between subgroups that are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.predictions_check import NO_LABEL
from fairaudit.errors import UsageError
from fairaudit.report.suppression import EVERYBODY, Cell, hidden_cells
from fairaudit.results import AuditResult
from fairaudit.subgroups import CROSS, OVERALL, UNKNOWN, parse
from fairaudit.wording import plural

Place = tuple[str, str]  # axis, subgroup
# Of a subgroup in which the faces of one label are hidden, measures of the whole head that weigh its classes go.
BY_CLASS = frozenset(
    (
        *("accuracy_standardized", "balanced_accuracy", "recall_by_labelled_class", "kappa", "mcc"),
        *("macro_recall", "macro_precision", "macro_f1", "weighted_recall", "weighted_precision", "weighted_f1"),
        *("quadratic_weighted_kappa", "mae_bins", "signed_error_bins", "off_by_one_accuracy", "cumulative_score_1"),
        *("cumulative_score_2", "mae_years_18_to_30", "challenge_25_false_positive_rate"),
    )
)
_JUDGED = ("policies", "hypotheses")
WITHHELD = (
    "Left out wholly: {}, because so few faces lack a label of it that its number of faces, beside that of all, would "
    "tell how many are unknown."
)


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """What is hidden: subgroups, and (task, axis, subgroup, class); `touched`: heads and axes with any of them."""

    below: int
    places: frozenset[Place]
    classes: frozenset[tuple[str, str, str, str]]
    touched: frozenset[tuple[str, str]]

    @property
    def reason(self) -> str:
        """The reason that stands in place of a figure."""
        return f"hidden: fewer than {self.below} faces, or so that such a cell cannot be worked out"


def hide_below(result: AuditResult, below: int) -> AuditResult:
    """Return the audit without the figures of cells of fewer than `below` faces, and without what would give them away.

    Raises UsageError where the audit has fewer faces than that.
    """
    if result.meta["n"] < below:
        raise UsageError(f"--hide-below {below}: the whole audit has {result.meta['n']} faces; nothing could be shown")
    result, withheld = _without_telling_heads(result, below)
    hidden = _find(result, below)
    more = {name: _more(name, table, hidden) for name, table in result.more.items()}
    return replace(
        result,
        metrics=_figures(result.metrics, hidden),
        rest=_rest(result.rest, hidden),
        gaps=_gaps(result.gaps, hidden),
        confusion=_confusion(result.confusion, hidden),
        more={name: table for name, table in more.items() if len(table)},
        meta=_meta(result.meta, hidden, withheld),
    )


def _without_telling_heads(result: AuditResult, below: int) -> tuple[AuditResult, list[str]]:
    """Leave out heads whose number of faces gives the unknown ones of an axis away: they are all faces minus it.

    That is a head of an axis's attribute with fewer than `below` faces without a label. Every count of it tells, alone
    or summed, and so do shares with their intervals. Faces without a prediction are told elsewhere, in all or of other
    heads, and are not taken to veil the unlabelled ones. Raises UsageError where no head would be left.
    """
    own = {by for axis in result.meta["subgroups"] for by in parse(axis)}
    whole = result.metrics[result.metrics["by"] == OVERALL].groupby("task", sort=False)["n"].first()
    unlabelled = {
        e["task"]: e["count"] for e in result.meta.get("excluded", ()) if e.get("kind") == NO_LABEL and "task" in e
    }
    unlabelled |= {by: groups[UNKNOWN] for by, groups in result.meta["subgroups"].items() if UNKNOWN in groups}
    telling = [
        task
        for task, n in whole.items()
        if task in own and (0 < result.meta["n"] - n < below or 0 < unlabelled.get(task, 0) < below)
    ]
    if not telling:
        return result, []
    if len(telling) == len(whole):
        raise UsageError(
            f"--hide-below {below}: of every head ({', '.join(map(str, telling))}) fewer faces than that lack a label, "
            "and its number of faces would give the unknown ones away; audit without those faces"
        )

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        return table[~table["task"].isin(telling)].reset_index(drop=True) if "task" in table else table

    meta = {**result.meta, "tasks": {task: t for task, t in result.meta["tasks"].items() if task not in telling}}
    for name in ("degenerate", "excluded", "outcomes"):
        meta[name] = [entry for entry in meta.get(name, ()) if entry.get("task") not in telling]
    tables = {name: kept(getattr(result, name)) for name in ("metrics", "rest", "gaps", "confusion")}
    more = {name: kept(table) for name, table in result.more.items()}
    return replace(result, **tables, more={n: t for n, t in more.items() if len(t)}, meta=meta), list(map(str, telling))


@dataclass
class _Universe:
    """The cells of all faces, or of those that one head counts: how many faces, and which cells make a table."""

    counts: dict[Cell, float]
    families: dict[tuple[str, str], list[Cell]] = field(default_factory=dict)

    def add(self, table: tuple[str, str], cell: Cell, n: float) -> None:
        self.counts[cell] = n
        self.families.setdefault(table, []).append(cell)


def _find(result: AuditResult, below: int) -> Hidden:
    """Lay out every cell of every axis and head, and let `suppression` say which are to be hidden.

    Heads count different faces (some have no label), so each is a system of sums of its own; a cell that one of them
    hides is hidden in all.
    """
    universes, cells = _universes(result)
    found: frozenset[Cell] = frozenset()
    while True:
        parts = [hidden_cells(u.families.values(), u.counts, below, found) for u in universes]
        if (joined := found.union(*parts)) == found:
            break
        found = joined
    # a name that cannot be taken apart is in no equation with its parts: nothing of such an axis is shown
    whole = {by for _, by, group, _ in cells if by != OVERALL and not _apart(by, group)}
    gone = {key for key, cell in cells.items() if cell in found or key[1] in whole}
    places = frozenset((by, group) for task, by, group, class_ in gone if not class_ and by != OVERALL)
    classes = frozenset(key for key in gone if key[3])
    tasks = list(result.meta["tasks"])
    touched = {(task, by) for by, _ in places for task in tasks} | {(task, by) for task, by, _, _ in classes}
    return Hidden(below=below, places=places, classes=classes, touched=frozenset(touched))


def _universes(result: AuditResult) -> tuple[list[_Universe], dict[tuple[str, str, str, str], Cell]]:
    """Return the systems of sums, and every cell by (task, axis, subgroup, class): "" for all heads, or all classes."""
    everything = _Universe({EVERYBODY: float(result.meta["n"])})
    cells: dict[tuple[str, str, str, str], Cell] = {}
    same = _same_unknown(result.meta["subgroups"])
    for by, sizes in result.meta["subgroups"].items():
        for group, n in sizes.items():
            cells["", by, group, ""] = cell = _cell(by, group, same)
            everything.add((by, ""), cell, float(n))
    universes = [everything]
    keys = ["by", "subgroup", "true"]
    for task, rows in result.confusion.groupby("task", sort=False):
        sums = rows.groupby(keys, sort=False, as_index=False)["count"].sum()
        lines = list(zip(*(sums[name].tolist() for name in [*keys, "count"]), strict=True))
        name = _label_name(str(task), lines)
        own = _Universe({})
        totals: dict[tuple[str, str], float] = {}
        for by, group, class_, n in lines:
            totals[by, group] = totals.get((by, group), 0.0) + n
            if n > 0:
                base = EVERYBODY if by == OVERALL else _cell(by, group, same)
                cells[str(task), by, group, class_] = cell = base | {(name, class_)}
                own.add((by, "labels"), cell, float(n))
        for (by, group), n in totals.items():
            if by == OVERALL:
                own.counts[EVERYBODY] = float(n)
            elif n > 0:
                own.add((by, ""), _cell(by, group, same), float(n))
        universes.append(own)
    return universes, cells


def _label_name(task: str, lines: Sequence[tuple[str, str, str, float]]) -> str:
    """Return the attribute that a head's labels are: that of its name where no face is told apart by the two."""
    for by, group, class_, n in lines:
        if by != OVERALL and task in parse(by) and n > 0 and dict(_cell(by, group)).get(task) != class_:
            return f"label of {task}"
    return task


def _same_unknown(subgroups: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Return, of each axis, the first axis with the very same unknown faces: as many, on an axis within this one."""
    counts = {by: groups[UNKNOWN] for by, groups in subgroups.items() if UNKNOWN in groups}
    order = sorted(counts, key=lambda by: len(parse(by)))
    return {
        by: next(one for one in order if counts[one] == counts[by] and set(parse(one)) <= set(parse(by)))
        for by in counts
    }


def _cell(by: str, group: str, same: Mapping[str, str] | None = None) -> Cell:
    """Return the labels that make a subgroup; one that cannot be taken apart stands as it is, within everybody."""
    parts = parse(by)
    if group == UNKNOWN:
        by = (same or {}).get(by, by)
    if group == UNKNOWN or not _apart(by, group):
        return frozenset({(by, group)})
    return frozenset(zip(parts, [group] if len(parts) == 1 else group.split(CROSS), strict=True))


def _apart(by: str, group: str) -> bool:
    """Tell whether a subgroup's name says which value of each attribute it is made of."""
    return group == UNKNOWN or len(parse(by)) in (1, len(group.split(CROSS)))


def _lost(table: pd.DataFrame, hidden: Hidden, subgroup: str = "subgroup") -> np.ndarray:
    """Return the rows whose subgroup is hidden, or whose class is in it, or which weigh a hidden class."""
    groups = {(task, by, group) for task, by, group, _ in hidden.classes}
    rows = zip(table["task"], table["by"], table[subgroup], table["metric"], table["class"], strict=True)
    return np.array(
        [
            (by, group) in hidden.places
            or (task, by, group, class_) in hidden.classes
            or (not class_ and metric in BY_CLASS and (task, by, group) in groups)
            for task, by, group, metric, class_ in rows
        ],
        dtype=bool,
    )


def _blank(table: pd.DataFrame, lost: np.ndarray, hidden: Hidden, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table with every number of the lost rows empty, texts too except names, and the reason said."""
    table = table.copy()
    for column in table.columns:
        kind = table[column]
        if column in ("task", "by", "subgroup", "metric", "class", *keep):
            continue
        if pd.api.types.is_bool_dtype(kind):
            table[column] = kind & ~lost
        elif pd.api.types.is_numeric_dtype(kind):
            table[column] = kind.astype(float).mask(lost)
        else:
            table[column] = kind.astype(object).mask(lost, "")
    if "reason" in table:
        table["reason"] = table["reason"].mask(lost, hidden.reason)
    return table


def _figures(metrics: pd.DataFrame, hidden: Hidden) -> pd.DataFrame:
    return _blank(metrics, _lost(metrics, hidden), hidden)


def _rest(rest: pd.DataFrame, hidden: Hidden) -> pd.DataFrame:
    """Hide rows of hidden subgroups; of classes hidden among all faces; and all of an axis whose unknown faces are.

    A rest and its subgroup add up to all known faces, which with all faces would give the unknown ones away; so of an
    axis on which only unknown faces of some label are hidden, rows of that label go.
    """
    axes = {by for by, group in hidden.places if group == UNKNOWN}
    unknown = {(task, by, class_) for task, by, group, class_ in hidden.classes if group == UNKNOWN}
    near = {(task, by) for task, by, _ in unknown}
    everywhere = {(task, class_) for task, by, _, class_ in hidden.classes if by == OVERALL}
    whole = {task for task, _ in everywhere}
    keys = zip(rest["task"], rest["by"], rest["class"], rest["metric"], strict=True)
    totals = [
        (t, c) in everywhere or (t, b, c) in unknown or (not c and m in BY_CLASS and (t in whole or (t, b) in near))
        for t, b, c, m in keys
    ]
    lost = _lost(rest, hidden) | rest["by"].isin(axes).to_numpy(dtype=bool) | np.array(totals, dtype=bool)
    return _blank(rest, lost, hidden)


def _gaps(gaps: pd.DataFrame, hidden: Hidden) -> pd.DataFrame:
    """Hide a gap with a hidden end; of the others on such an axis, what all its subgroups go into."""
    lost = _lost(gaps, hidden, "worst") | _lost(gaps, hidden, "best")
    gaps = _blank(gaps, lost, hidden)
    near = _touched(gaps, hidden)
    for column in ("tau_squared", "tau_squared_truncated", "split_sample_gap", "expected_gap", "expected_gap_high"):
        gaps[column] = gaps[column].astype(float).mask(near)
    gaps["not_assessed"] = gaps["not_assessed"].astype(object).mask(near, "")
    gaps["reason"] = gaps["reason"].mask(near & ~lost & (gaps["reason"] != ""), hidden.reason)
    return gaps


def _confusion(confusion: pd.DataFrame, hidden: Hidden) -> pd.DataFrame:
    """Leave out the confusions of a subgroup that is hidden, or that has a hidden label in this head."""
    groups = {(task, by, group) for task, by, group, _ in hidden.classes}
    rows = zip(confusion["task"], confusion["by"], confusion["subgroup"], strict=True)
    lost = [(by, group) in hidden.places or (task, by, group) in groups for task, by, group in rows]
    return confusion[~np.array(lost, dtype=bool)].reset_index(drop=True)


def _touched(table: pd.DataFrame, hidden: Hidden) -> np.ndarray:
    return np.array([pair in hidden.touched for pair in zip(table["task"], table["by"], strict=True)], dtype=bool)


def _more(name: str, table: pd.DataFrame, hidden: Hidden) -> pd.DataFrame:
    near = _touched(table, hidden)
    if name == "findings":
        ends = _lost(table, hidden) | _lost(table, hidden, "other")
        drop = near & (ends | ~table["kind"].isin(["gap", "pair"]).to_numpy(dtype=bool))
        return table[~drop].reset_index(drop=True)
    if name in _JUDGED:
        lost = near & (_lost(table, hidden, "worst") | _lost(table, hidden, "best"))
        keep = ("policy", "measure", "limit", "confidence", "verdict")
        table = _blank(table, lost, hidden, keep)
        for column in ("n", "n_smallest", "n_needed", "assessed"):
            table[column] = table[column].astype(float).mask(near)
        table["not_assessed"] = table["not_assessed"].astype(object).mask(near, "")
        table["reason"] = table["reason"].mask(near & (table["verdict"] != "not applicable"), hidden.reason)
        return table
    return table[~near].reset_index(drop=True)


def _meta(meta: Mapping[str, Any], hidden: Hidden, withheld: Sequence[str]) -> dict[str, Any]:
    """Return the meta without counts of hidden cells, names of images, sentences on axes and hashes of tables."""
    sizes = {
        by: {group: float("nan") if (by, group) in hidden.places else n for group, n in groups.items()}
        for by, groups in meta["subgroups"].items()
    }
    axes = {by.split(":")[0] for by in meta["subgroups"]} | set(meta["subgroups"])
    warnings = [text for text in meta.get("warnings", ()) if text.split(":")[0] not in axes]
    data = dict(meta.get("data") or {})
    data["findings"] = [{**entry, "examples": ""} for entry in data.get("findings") or ()]
    secret = {"images", "subgroups", "details"}
    excluded = [{key: part for key, part in e.items() if key not in secret} for e in meta.get("excluded", ())]
    outcomes = [e for e in meta.get("outcomes", ()) if e["by"] == OVERALL or (e["task"], e["by"]) not in hidden.touched]
    kept = {key: value for key, value in meta.items() if key not in ("files", "planted", "shards")}
    said = _said(hidden) + (f" {WITHHELD.format(', '.join(withheld))}" if withheld else "")
    return {
        **kept,
        "subgroups": sizes,
        "warnings": [said, *warnings],
        "data": data,
        "excluded": excluded,
        "outcomes": outcomes,
        "hidden": {
            "below": hidden.below,
            "touched": sorted([task, by] for task, by in hidden.touched),
            "heads": list(withheld),
        },
    }


def _said(hidden: Hidden) -> str:
    subgroups = plural(len(hidden.places), "subgroup")
    return (
        f"Cells of fewer than {hidden.below} faces are hidden in this report (--hide-below): {subgroups}, and labels "
        "within others, are empty here, further cells among them so that none can be worked out from totals. On axes "
        "with a hidden cell only single subgroups that are shown, and gaps and pairs between them, are given; pictures "
        "of faces, names of images and hashes of tables are left out. The audit itself holds every figure."
    )
