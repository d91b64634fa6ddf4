"""The sections of a comparison's page: the answer first, then every gap, every subgroup, the method."""

from collections.abc import Callable
from typing import Any

from fairaudit.report.answer import ComparisonContext, Record, answer_section, gap_change_state
from fairaudit.report.comparison_harm import churn_section, folded, harm_section, joined
from fairaudit.report.context import FOLD, make_context
from fairaudit.report.figures import Scale, dumbbell, strip
from fairaudit.report.heads import CLASSWISE
from fairaudit.report.models import MODEL_SECTIONS, conclusions, facts_table
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.verdict import HEADLINES, headline_gap
from fairaudit.report.words import (
    DASH,
    SHOWN,
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
from fairaudit.subgroups import OVERALL, UNKNOWN, parse

_DELTAS = (
    "Helped: wrong before, right after. Harmed: right before, wrong after. p: exact McNemar test on these faces; in "
    "brackets adjusted for the number of subgroups tested. ◇ too few faces to be assessed."
)


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
        (f"{sentence_case(task)}, {model}: gaps of further measures" if more else "", table)
        for model in context.models
        for task in context.tasks
        for more in (False, True)
        if (table := _gap_table(context, model, task, headline=not more))
    ]
    return Section(
        key="gaps",
        title="What happened to each gap",
        template="sections/tables.html",
        data={"tables": tables},
    )


def subgroups_section(context: ComparisonContext) -> Section:
    """Show what changed for each subgroup: who was helped, who was harmed."""
    tables = [
        (folded(context, task, model, by, long=len(table.rows) > FOLD), table)
        for model in context.models
        for task in context.tasks
        for by in (OVERALL, *context.axes)
        if (table := _delta_table(context, model, task, by))
    ]
    return Section(
        key="subgroups",
        title="Who was helped, who was harmed",
        template="sections/folds.html",
        data={"groups": joined(tables), "key": _DELTAS},
    )


def models_section(context: ComparisonContext) -> Section | None:
    """Set the models' own audits side by side: accuracy over all faces and in the worst-off subgroup of each axis."""
    if not context.results:
        return None
    tables = [_models_table(context, task) for task in context.tasks]
    data = {"lines": conclusions(context), "tables": [*tables, *filter(None, [facts_table(context)])]}
    return Section(key="models", title="Every model by itself", template="sections/models.html", data=data)


def _models_table(context: ComparisonContext, task: str) -> Table:
    single = [by for by in context.axes if len(parse(by)) == 1]
    rows = []
    for name, result in context.results.items():
        audit = make_context(result)
        cell = audit.cell(task, OVERALL, OVERALL, "accuracy")
        entries = [Entry(figure(cell.value, cell.low, cell.high), css="num"), Entry(count(cell.n), css="num")]
        for by in single:
            gap = headline_gap(audit.gaps.get((task, by), ()))
            worst = audit.cell(task, by, gap.worst, gap.metric, gap.class_) if gap and gap.worst else None
            text = DASH
            if gap and worst:
                text = f"{gap.worst} {figure(worst.value, worst.low, worst.high)}, n {count(worst.n)}"
            entries.append(Entry(text, css="num"))
        rows.append(Row(name, entries))
    columns = ["all faces", "n", *(f"worst by {axis_label(by)}" for by in single)]
    caption = f"{sentence_case(task)}: accuracy of each model over all faces and in its worst-off subgroups"
    return Table(caption=caption, first="model", columns=columns, rows=rows)


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


def _gap_table(context: ComparisonContext, model: str, task: str, *, headline: bool) -> Table | None:
    """Return the headline gap of each axis, or all other measures that pages print."""
    printed = HEADLINES[:2] if headline else (*(set(SHOWN) - set(HEADLINES)), *CLASSWISE)
    records = [
        record
        for by in context.axes
        for record in context.gaps.get((model, task, by), [])
        if record["metric"] in printed and (is_number(record["delta"]) or not headline)
    ]
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
        f"{'' if headline else 'further measures, '}"
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
    whole = [r for r in records if (r["metric"], r["class"]) == main or (by == OVERALL and r["metric"] in SHOWN)]
    kind = metric_words(main[0]).kind
    drawn = [r for r in whole if metric_words(r["metric"]).kind == kind]
    levels = Scale([e for r in drawn for e in (r["baseline"], r["mitigated"])], kind)
    scale = Scale([e for r in drawn for e in (r["delta"], r["low"], r["high"])], kind, zero=True)
    notes = Notes()
    rows = [_delta_row(record, levels, scale, notes, by) for record in whole]
    columns = ["n", "before", "after", levels.header(), "change", scale.header(), "helped : harmed", "p (adjusted)"]
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
        Entry(_flips(record), css="num"),
        Entry(_both(record["p_value"], record["p_adjusted"]), css="num"),
    ]
    return Row(head, entries, small=bool(record["small"]))


def _flips(record: Record) -> str:
    known = is_number(record["helped"]) or is_number(record["harmed"])
    return f"{count(record['helped'])} : {count(record['harmed'])}" if known else DASH


def _both(p: Any, adjusted: Any) -> str:
    return f"{p_text(p)} ({p_text(adjusted)})" if is_number(p) else DASH


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
    "harm": harm_section,
    "churn": churn_section,
    "models": models_section,
    **MODEL_SECTIONS,
    "method": comparison_method,
    "hashes": comparison_hashes,
}
