"""The sections of a comparison's page: did the gap close, by how much, how sure is that, and at whose cost?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fairaudit.report.context import FOLD, in_order
from fairaudit.report.figures import Scale, dumbbell, strip
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.verdict import HEADLINES
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    figure,
    is_number,
    metric_label,
    metric_words,
    number,
    sentence_case,
)
from fairaudit.results import AuditResult, Comparison
from fairaudit.subgroups import OVERALL, UNKNOWN

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ComparisonContext:
    """A comparison as its report reads it: rows of deltas and of gap changes by (model, task, axis)."""

    comparison: Comparison
    results: Mapping[str, AuditResult] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    models: Sequence[str]
    tasks: Sequence[str]
    axes: Sequence[str]
    deltas: Mapping[tuple[str, str, str], list[Record]]
    gaps: Mapping[tuple[str, str, str], list[Record]]


def make_comparison_context(
    comparison: Comparison,
    *,
    results: Mapping[str, AuditResult] | None = None,
    links: Mapping[str, str] | None = None,
) -> ComparisonContext:
    """Index the comparison's tables once; models, tasks and axes stand in the order of its rows."""
    deltas = comparison.deltas
    return ComparisonContext(
        comparison=comparison,
        results=dict(results or {}),
        links=dict(links or {}),
        models=in_order(deltas["model"]),
        tasks=in_order(deltas["task"]),
        axes=[by for by in in_order(deltas["by"]) if by != OVERALL],
        deltas=_indexed(deltas),
        gaps=_indexed(comparison.gap_changes),
    )


def answer_section(context: ComparisonContext) -> Section:
    """Answer on the first screen: the comparison's own sentences, then each gap before and after."""
    summary = context.comparison.meta.get("summary", {})
    models = [
        {
            "model": model,
            "sentences": list(summary.get(model, ())),
            "heads": [
                {"task": task, "title": sentence_case(task), "cost": _cost(context, model, task),
                 "changes": _changes(context, model, task)}
                for task in context.tasks
            ],
        }
        for model in context.models
    ]  # fmt: skip
    return Section(key="answer", title="Did the gap close?", template="sections/answer.html", data={"models": models})


def comparison_warnings(context: ComparisonContext) -> Section | None:
    """Print what a reader must know before acting on a figure."""
    warnings = list(context.comparison.meta.get("warnings", ()))
    if not warnings:
        return None
    data = {"warnings": warnings, "folded": [], "legal": []}
    return Section(key="warnings", title="Read this first", template="sections/warnings.html", data=data)


def gap_changes_section(context: ComparisonContext) -> Section:
    """Show every gap before and after, with the interval of its change."""
    tables = [
        table for model in context.models for task in context.tasks if (table := _gap_table(context, model, task))
    ]
    return Section(
        key="gaps",
        title="What happened to each gap",
        template="sections/tables.html",
        data={"tables": tables, "note": ""},
    )


def subgroups_section(context: ComparisonContext) -> Section:
    """Show what changed for each subgroup: who was helped, who was harmed."""
    tables = [
        (len(context.deltas[model, task, by]) > FOLD, table)
        for model in context.models
        for task in context.tasks
        for by in (OVERALL, *context.axes)
        if (table := _delta_table(context, model, task, by))
    ]
    return Section(
        key="subgroups",
        title="Who was helped, who was harmed",
        template="sections/deltas.html",
        data={"tables": tables},
    )


def comparison_method(context: ComparisonContext) -> Section:
    """Say what was paired, and what may not be claimed."""
    meta = context.comparison.meta
    facts = [
        ("Baseline", str(meta.get("baseline", ""))),
        ("Models", ", ".join(context.models)),
        ("Made", str(meta.get("created", ""))[:16].replace("T", " ")),
        ("Faces paired", count(meta.get("n_paired"))),
        *((f"Faces of {name} without a partner", count(n)) for name, n in meta.get("n_unpaired", {}).items() if n),
    ]
    confidence = number(float(meta.get("confidence", 0.95))).removesuffix(".0")
    data = {"facts": facts, "confidence": confidence, "least": meta.get("min_group_size")}
    return Section(key="method", title="Method and limits", template="sections/comparison_method.html", data=data)


def comparison_hashes(context: ComparisonContext) -> Section:
    """Print versions and hashes."""
    meta = context.comparison.meta
    rows = [("fairaudit", str(meta.get("fairaudit", ""))), ("format", str(meta.get("format", "")))]
    rows += [(str(k), str(v)) for k, v in {**meta.get("hashes", {}), **meta.get("files", {})}.items()]
    return Section(key="hashes", title="Versions and hashes", template="sections/hashes.html", data={"rows": rows})


def gap_change_state(record: Record) -> str:
    """Return "smaller", "larger", "open" (interval includes zero) or "none" (undefined) for a change of a gap."""
    low, high = record["low"], record["high"]
    if not is_number(record["delta"]) or not (is_number(low) and is_number(high)):
        return "none"
    return "smaller" if high < 0 else "larger" if low > 0 else "open"


def _indexed(table: pd.DataFrame) -> dict[tuple[str, str, str], list[Record]]:
    indexed: dict[tuple[str, str, str], list[Record]] = {}
    for record in table.to_dict("records"):
        indexed.setdefault((record["model"], record["task"], record["by"]), []).append(record)  # type: ignore[arg-type]
    return indexed


def _changes(context: ComparisonContext, model: str, task: str) -> list[dict[str, str]]:
    """Return one line an axis: the headline gap before and after, and whether that change is more than noise."""
    lines = []
    for by in context.axes:
        records = context.gaps.get((model, task, by), [])
        chosen = next((r for metric in HEADLINES for r in records if r["metric"] == metric), None)
        if chosen is None:
            continue
        state = gap_change_state(chosen)
        words = {"smaller": "gap fell", "larger": "gap grew", "open": "no change shown", "none": "not assessed"}
        text = _change_text(chosen) if state != "none" else chosen["reason"] or "undefined; no reason is given"
        levelling = "Levelling down: the gap fell because the best-off lost." if chosen["levelling_down"] else ""
        lines.append({"by": axis_label(by), "state": state, "word": words[state], "text": text, "levelling": levelling})
    return lines


def _change_text(record: Record) -> str:
    kind = metric_words(record["metric"]).kind
    before = difference(record["baseline"], kind=kind, signed=False)
    after = difference(record["mitigated"], kind=kind, signed=False)
    change = difference(record["delta"], record["low"], record["high"], kind)
    return f"{metric_label(record['metric'], record['class'])}: {before} → {after}; change {change}"


def _cost(context: ComparisonContext, model: str, task: str) -> str:
    """Return what happened to all faces together."""
    records = context.deltas.get((model, task, OVERALL), [])
    chosen = next((r for r in records if r["metric"] == "accuracy"), None)
    if chosen is None or not is_number(chosen["delta"]):
        return ""
    change = difference(chosen["delta"], chosen["low"], chosen["high"])
    return f"All faces: accuracy {figure(chosen['baseline'])} → {figure(chosen['mitigated'])}; change {change}"


def _gap_table(context: ComparisonContext, model: str, task: str) -> Table | None:
    records = [r for by in context.axes for r in context.gaps.get((model, task, by), [])]
    if not records:
        return None
    notes = Notes()
    shares = [r for r in records if metric_words(r["metric"]).kind == "percent"]
    scale = Scale([e for r in shares for e in (r["baseline"], r["mitigated"])], zero=True)
    change_scale = Scale([e for r in shares for e in (r["delta"], r["low"], r["high"])], zero=True)
    rows = [_gap_row(record, scale, change_scale, notes) for record in records]
    columns = ["measure", "before", "after", scale.header(), "change", change_scale.header(), "reading"]
    caption = (
        f"{sentence_case(task)}, {model}: gap between worst-off and best-off subgroup, "
        "before (ring) and after (dot), and its change with interval"
    )
    return Table(caption=caption, first="axis", columns=columns, rows=rows, notes=notes.texts)


def _gap_row(record: Record, scale: Scale, change_scale: Scale, notes: Notes) -> Row:
    kind = metric_words(record["metric"]).kind
    state = gap_change_state(record)
    reading = {"smaller": "fell", "larger": "grew", "open": "no change shown", "none": "not assessed"}[state]
    if record["levelling_down"]:
        reading += ", levelling down"
    drawn = kind == "percent" and is_number(record["delta"])
    rings: str = dumbbell(scale, record["baseline"], record["mitigated"]) if drawn else ""
    change: str = strip(change_scale, record["delta"], record["low"], record["high"]) if drawn else ""
    note = 0 if is_number(record["delta"]) else notes.number(record["reason"] or "undefined; no reason is given")
    entries = [
        Entry(metric_label(record["metric"], record["class"])),
        Entry(difference(record["baseline"], kind=kind, signed=False), css="num"),
        Entry(difference(record["mitigated"], kind=kind, signed=False), css="num"),
        Entry(rings, css="chart"),
        Entry(difference(record["delta"], record["low"], record["high"], kind), note, "num"),
        Entry(change, css="chart"),
        Entry(reading, css="found" if record["levelling_down"] or state == "larger" else "soft"),
    ]
    return Row(axis_label(record["by"]), entries)


def _delta_table(context: ComparisonContext, model: str, task: str, by: str) -> Table | None:
    records = context.deltas.get((model, task, by), [])
    metrics = list(dict.fromkeys((r["metric"], r["class"]) for r in records))
    if not records:
        return None
    main = next((key for metric in HEADLINES for key in metrics if key[0] == metric), metrics[0])
    whole = [r for r in records if (r["metric"], r["class"]) == main or (by == OVERALL and not r["class"])]
    kind = metric_words(main[0]).kind
    drawn = [r for r in whole if metric_words(r["metric"]).kind == kind]
    levels = Scale([e for r in drawn for e in (r["baseline"], r["mitigated"])], kind)
    scale = Scale([e for r in drawn for e in (r["delta"], r["low"], r["high"])], kind, zero=True)
    notes = Notes()
    rows = [_delta_row(record, levels, scale, notes, by) for record in whole]
    columns = ["n", "before", "after", levels.header(), "change", scale.header(), "helped", "harmed", "p", "p adjusted"]
    what = "all faces, every measure" if by == OVERALL else f"{metric_label(*main)} by {axis_label(by)}"
    caption = f"{sentence_case(task)}, {model}: {what}; before (ring), after (dot), and the change with interval"
    return Table(
        caption=caption,
        first="measure" if by == OVERALL else axis_label(by),
        columns=columns,
        rows=rows,
        notes=notes.texts,
    )


def _delta_row(record: Record, levels: Scale, scale: Scale, notes: Notes, by: str) -> Row:
    kind = metric_words(record["metric"]).kind
    defined = is_number(record["delta"])
    note = 0 if defined else notes.number(record["reason"] or "undefined; no reason is given")
    faint = bool(record["small"]) or record["subgroup"] == UNKNOWN
    drawn = defined and kind == scale.kind
    rings: str = dumbbell(levels, record["baseline"], record["mitigated"]) if drawn else ""
    change: str = strip(scale, record["delta"], record["low"], record["high"], faint=faint) if drawn else ""
    head = sentence_case(metric_words(record["metric"]).label) if by == OVERALL else record["subgroup"]
    entries = [
        Entry(count(record["n"]), css="num"),
        Entry(figure(record["baseline"], kind=kind), css="num"),
        Entry(figure(record["mitigated"], kind=kind), css="num"),
        Entry(rings, css="chart"),
        Entry(difference(record["delta"], record["low"], record["high"], kind), note, "num"),
        Entry(change, css="chart"),
        Entry(count(record["helped"]), css="num"),
        Entry(count(record["harmed"]), css="num"),
        Entry(p_text(record["p_value"]), css="num"),
        Entry(p_text(record["p_adjusted"]), css="num"),
    ]
    return Row(head, entries, small=bool(record["small"]))


def p_text(p: Any) -> str:
    """Return a p-value with three decimals, "< 0.001" below that, "–" where there is none."""
    if not is_number(p):
        return DASH
    return "<\u00a00.001" if p < 0.001 else f"{p:.3f}"


COMPARISON_SECTIONS: dict[str, Callable[[ComparisonContext], Section | None]] = {
    "answer": answer_section,
    "warnings": comparison_warnings,
    "gaps": gap_changes_section,
    "subgroups": subgroups_section,
    "method": comparison_method,
    "hashes": comparison_hashes,
}
