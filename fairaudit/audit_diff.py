"""Two audits of other data or another model version: which gaps appeared, vanished, or changed beyond noise.

The samples are taken as independent. That a gap is shown in one audit and not in the other is not yet a change: every
sentence says whether the change itself is beyond noise.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fairaudit.audit_shifts import Shift, shifts_between
from fairaudit.errors import DataError
from fairaudit.report.words import axis_label, listing, metric_label
from fairaudit.results import AuditResult
from fairaudit.subgroups import UNKNOWN
from fairaudit.wording import plural

TITLES = {"appeared": "Appeared", "vanished": "Vanished", "changed": "Changed beyond noise"}


@dataclass(frozen=True, kw_only=True)
class AuditDiff:
    """Every figure that both audits have, and in words what was not compared and what is assumed."""

    names: tuple[str, str]
    shifts: tuple[Shift, ...]
    notes: tuple[str, ...]
    confidence: float

    def of(self, kind: str) -> list[Shift]:
        """Return the figures that `appeared`, `vanished` or `changed`: gaps first, most certain first."""
        order = {what: number for number, what in enumerate(("overall", "gap", "rest", "interaction", "pair"))}
        chosen = [shift for shift in self.shifts if shift.kind == kind]
        return sorted(chosen, key=lambda s: (not s.beyond_noise, order[s.what], s.task, s.by, -abs(s.change)))


def diff_folders(first: Path, second: Path) -> AuditDiff:
    """Compare two audit folders; errors as in `diff_audits`, and DataError where a folder holds no whole audit."""
    results = AuditResult.load(first), AuditResult.load(second)
    return diff_audits(*results, names=(str(first), str(second)), images=(_images(first), _images(second)))


def diff_audits(
    first: AuditResult,
    second: AuditResult,
    *,
    names: tuple[str, str] = ("first", "second"),
    images: tuple[frozenset[str] | None, frozenset[str] | None] = (None, None),
) -> AuditDiff:
    """Return what changed from one audit to another, from their tables alone.

    images: names of the faces of each, where known, to say whether the samples overlap. Raises DataError where the
    audits have no task in common, or differ in a task's classes, in confidence or in the smallest subgroup assessed.
    """
    notes = _comparable(first.meta, second.meta, names)
    notes.append(_overlap(images))
    confidence = float(first.meta["confidence"])
    shifts, more = shifts_between(first, second, confidence)
    notes += more
    return AuditDiff(names=names, shifts=tuple(shifts), notes=tuple(filter(None, notes)), confidence=confidence)


def markdown(found: AuditDiff) -> str:
    """Return the diff as Markdown: what appeared, vanished and changed, one sentence each, then how it was judged."""
    lines = [f"# {found.names[0]} → {found.names[1]}", ""]
    for kind, title in TITLES.items():
        shifts = found.of(kind)
        lines += [
            f"## {title}: {len(shifts)}",
            "",
            *(f"- {shift.sentence()}" for shift in shifts),
            *([""] * bool(shifts)),
        ]
    count = Counter(shift.what for shift in found.shifts)
    metrics = list(dict.fromkeys(metric_label(shift.metric) for shift in found.shifts))
    lines += [
        "## How",
        "",
        f"- {plural(count['gap'], 'gap')}, {plural(count['rest'], 'subgroup')} against everyone else, "
        f"{plural(count['pair'], 'pair')}, {plural(count['interaction'], 'intersection')} against its margins and "
        f"{plural(count['overall'], 'figure')} over all faces were compared: {listing(metrics, 20)}; other metrics "
        "repeat these or are made of them.",
        f"- Intervals are {100 * found.confidence:g} % intervals; those of a gap's change are simultaneous over a "
        "task's gaps, conservative, and never a bootstrap of max minus min. Beyond noise: the interval of a gap's "
        "change excludes 0, or Holm's adjusted p of any other change, over a task's, is below "
        f"{1 - found.confidence:.2g}.",
        "- A subgroup that changed is part of every other one's everyone else: those differences change with it.",
        "- A figure that is not listed is not shown to be the same.",
        *(f"- {note}" for note in found.notes),
    ]
    return "\n".join(lines)


def plain(found: AuditDiff) -> dict[str, Any]:
    """Return the diff as a JSON-able mapping: every figure compared, undefined limits as None."""
    shifts = []
    for shift in found.shifts:
        record = asdict(shift) | {"kind": shift.kind, "sentence": shift.sentence()}
        record["class"] = record.pop("class_")
        shifts.append({key: _json_value(value) for key, value in record.items()})
    return {
        "first": found.names[0],
        "second": found.names[1],
        "confidence": found.confidence,
        "notes": list(found.notes),
        "figures": shifts,
    }


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json_value(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _comparable(first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """Return what only one audit has, in words; DataError where figures of the same name mean different things."""
    for key, what in (("confidence", "confidence"), ("min_group_size", "smallest subgroup assessed")):
        if first[key] != second[key]:
            raise DataError(
                f"the audits differ in {what}: {first[key]} in {names[0]}, {second[key]} in {names[1]}; "
                "audit both with the same"
            )
    common = [task for task in first["tasks"] if task in second["tasks"]]
    if not common:
        tasks = [", ".join(meta["tasks"]) for meta in (first, second)]
        raise DataError(f"the audits have no task in common: {tasks[0]} in {names[0]}, {tasks[1]} in {names[1]}")
    for task in common:
        one, two = first["tasks"][task], second["tasks"][task]
        order = list if one["ordered"] or two["ordered"] else sorted
        if order(one["classes"]) != order(two["classes"]):
            raise DataError(
                f"{task}: the classes differ: {', '.join(one['classes'])} in {names[0]}, {', '.join(two['classes'])} "
                f"in {names[1]}; map one table's values to the other's and audit it again"
            )
    said = []
    for kind in ("tasks", "subgroups"):
        word = {"tasks": "tasks", "subgroups": "axes"}[kind]
        for own, other, name in ((first, second, names[0]), (second, first, names[1])):
            if only := [key for key in own[kind] if key not in other[kind]]:
                said.append(f"Only {name} has the {word} {listing(only)}: not compared.")
    for by in first["subgroups"]:
        groups = [set(meta["subgroups"].get(by, ())) - {UNKNOWN} for meta in (first, second)]
        if by in second["subgroups"] and groups[0] != groups[1]:
            only = sorted(groups[0] ^ groups[1])
            said.append(
                f"{axis_label(by)}: {listing(only)} in one audit only; gaps are of the subgroups that both have."
            )
    return said


def _overlap(images: tuple[frozenset[str] | None, frozenset[str] | None]) -> str:
    if images[0] is None or images[1] is None:
        return "The faces are taken as two independent samples; whether they overlap cannot be told from the tables."
    if both := len(images[0] & images[1]):
        return (
            f"{plural(both, 'face')} are in both audits (of {len(images[0]):,} and {len(images[1]):,}). The intervals "
            "take the samples as independent, so they are too wide as far as both audits err on the same faces; "
            "`fairaudit compare` pairs the faces."
        )
    return "No face is in both audits: the samples are taken as independent."


def _images(folder: Path) -> frozenset[str] | None:
    """Return the names of the faces of an audit, None where it stores no predictions or its rows are only numbered."""
    path = folder / "predictions.parquet"
    if not path.is_file():
        return None
    names = pq.read_table(path, columns=["image"])["image"].to_pylist()
    return None if all(str(name).startswith("row ") for name in names) else frozenset(map(str, names))
