"""What the report says of impact ratios, and of a user's own metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.report.context import FOLD, Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import DASH, axis_label, count, figure, interval, is_number, number, sentence_case
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural

Record = Mapping[str, Any]


def impact_data(context: Context) -> dict[str, Any] | None:
    """Return what "Impact ratios" prints: the tables, or why there are none."""
    records: list[Any] = context.result.table("impact").to_dict("records")
    if not records:
        line = (
            "No output of this audit is declared to be a selection, so no impact ratio is given: the four-fifths rule "
            "and New York City’s Local Law 144 speak of how often people are selected, and a head that gives labels "
            "selects nobody. Where an output does, the spec says so: audit.selection = {task = …, class = …}."
        )
        return {"lines": [line], "tables": [], "remarks": []}
    first = records[0]
    tables, unknown = [], []
    for by in dict.fromkeys(r["by"] for r in records):
        own = [r for r in records if r["by"] == by]
        table = _impact_table(by, own)
        tables.append((table.caption if len(own) > FOLD else "", table))
        unknown += [f"{axis_label(by)}: {count(r['applicants'])}" for r in own if r["subgroup"] == UNKNOWN]
    line = f"Selected means: {first['task']} is predicted {first['class']}. Rates do not depend on any label."
    said = f"Faces of unknown category, in no ratio: {'; '.join(unknown) or 'none'}."
    key = (
        "In the form of New York City’s Local Law 144 (6 RCNY § 5-301). Impact ratio: selection rate over that of the "
        "most selected category; its interval (Koopman) holds for all pairs of the axis at once. A category of under "
        "2 % of the faces is shown and left out of the ratios. “Below four fifths” means that the whole interval is."
    )
    return {"lines": [line, said], "tables": tables, "remarks": [key]}


def _impact_table(by: str, records: Sequence[Record]) -> Table:
    notes, rows = Notes(), []
    for r in records:
        bounds = interval(r["ratio_low"], r["ratio_high"], "bins")
        ratio = number(r["ratio"], "bins") + (f" ({bounds})" if bounds else "")
        entries = [
            Entry(count(r["applicants"]), css="num"),
            Entry(number(r["share"]) + ("\u00a0%" if is_number(r["share"]) else ""), css="num"),
            Entry(count(r["selected"]), css="num"),
            Entry(figure(r["value"], r["low"], r["high"]), css="num"),
            Entry(ratio, notes.number(r["reason"]), "num"),
            Entry(r["reading"] or DASH, css="found" if r["reading"].startswith("below") else "soft"),
        ]
        rows.append(Row(r["subgroup"], entries, small=bool(r["small"])))
    columns = ["faces", "share", "selected", "selection rate", "impact ratio", "four fifths"]
    caption = f"Selection rates and impact ratios by {axis_label(by)}"
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts)


def custom_data(context: Context) -> dict[str, Any] | None:
    """Return what "Your own metrics" prints, None where none was named."""
    records: list[Any] = context.result.table("custom").to_dict("records")
    if not records:
        return None
    tables = []
    undefined = dict.fromkeys(r["reason"] for r in records if not r["subgroup"] and r["kind"] == "value")
    for metric in dict.fromkeys(r["metric"] for r in records):
        own = [r for r in records if r["metric"] == metric]
        values = [r for r in own if r["kind"] == "value" and r["subgroup"]]
        gaps = _custom_gaps(metric, [r for r in own if r["kind"] != "value"])
        overall = _custom_values(f"{metric}: all faces", "head", [r for r in values if r["by"] == OVERALL])
        tables += [("", overall), (gaps.caption if len(gaps.rows) > FOLD else "", gaps)]
        for task, by in dict.fromkeys((r["task"], r["by"]) for r in values if r["by"] != OVERALL):
            caption = f"{metric}: {task} by {axis_label(by)}"
            chosen = [r for r in values if (r["task"], r["by"]) == (task, by)]
            tables.append((caption, _custom_values(caption, axis_label(by), chosen)))
    tables = [(fold, table) for fold, table in tables if table.rows]
    made = sorted({(r["method"], int(r["draws"])) for r in records if r["method"]})
    how = "; ".join(f"{method}, {plural(draws, 'draw')}" if draws else method for method, draws in made)
    key = "Code that the user named was run on each subgroup’s labels and predictions (fairlearn’s MetricFrame). "
    key += f"Intervals: {how or 'none'}. "
    key += "Gaps: simultaneous over all pairs. An exception, NaN, or a value that a library calls undefined is “–”."
    left_out = [f"Left out: {'; '.join(map(str, undefined))}."] if undefined else []
    return {"lines": [], "tables": tables, "remarks": [key, *left_out]}


def _custom_gaps(metric: str, records: Sequence[Record]) -> Table:
    notes, rows = Notes(), []
    for r in records:
        defined = is_number(r["value"])
        entries = [
            Entry(axis_label(r["by"])),
            Entry(r["class"] or DASH),
            Entry(r["kind"]),
            Entry(figure(r["value"], r["low"], r["high"], "plain"), 0 if defined else notes.number(r["reason"]), "num"),
            Entry(r["lowest"] or DASH, css="name"),
            Entry(r["highest"] or DASH, css="name"),
            Entry(count(r["n"]), css="num"),
        ]
        rows.append(Row(sentence_case(r["task"]), entries))
    columns = ["axis", "class", "gap", "value (interval)", "lowest", "highest", "n"]
    caption = f"{metric}: highest against lowest subgroup"
    return Table(caption=caption, first="head", columns=columns, rows=rows, notes=notes.texts)


def _custom_values(caption: str, first: str, records: Sequence[Record]) -> Table:
    notes, rows = Notes(), []
    for r in records:
        value = figure(r["value"], r["low"], r["high"], "plain")
        entries = [Entry(r["class"] or DASH), Entry(value, notes.number(r["reason"]), "num")]
        entries.append(Entry(count(r["n"]), css="num"))
        head = sentence_case(r["task"]) if r["by"] == OVERALL else r["subgroup"]
        rows.append(Row(head, entries, small=bool(r["small"])))
    columns = ["class", "value (interval)", "n"]
    return Table(caption=caption, first=first, columns=columns, rows=rows, notes=notes.texts)
