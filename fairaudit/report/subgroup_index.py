"""The index of all subgroups: one plain table, an axis after the other, whoever is surest to be worse off first."""

from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.tables import Entry, Notes, Row, Table, entry
from fairaudit.report.verdict import HEADLINES
from fairaudit.report.words import axis_label, count, is_number, metric_words, sentence_case
from fairaudit.subgroups import OVERALL, UNKNOWN


def index_data(context: Context) -> dict[str, Any]:
    """Return the table of all subgroups, and (axis, anchor, subgroups) of every axis in it."""
    notes = Notes()
    rows: list[Row] = []
    jumps: list[tuple[str, str, int]] = []
    for by in context.axes:
        groups = sorted(context.axes[by], key=lambda group: _place(context, by, group))
        for group in groups:
            slug = context.slugs[by, group]
            anchor = "" if group != groups[0] else f"axis-{len(jumps) + 1}"
            rows.append(_row(context, by, group, f"groups/{slug}.html", anchor, notes))
        jumps.append((axis_label(by), f"axis-{len(jumps) + 1}", len(groups)))
    names = [sentence_case(task) for task in context.tasks]
    caption = (
        "Every subgroup: accuracy of each head with its interval; where the axis is made of the head’s own label, "
        "recall of that label"
    )
    table = Table(
        caption=caption, first="subgroup", columns=["axis", "faces", *names], rows=rows, notes=notes.texts, pick=1
    )
    return {"table": table, "jumps": jumps, "marked": context.shown_contrasts is not None}


def _row(context: Context, by: str, group: str, href: str, anchor: str, notes: Notes) -> Row:
    size = context.result.meta.get("subgroups", {}).get(by, {}).get(group)
    entries = [Entry(axis_label(by)), Entry(count(size), css="num")]
    for task in context.tasks:
        metric, class_ = _metric(context, task, by, group)
        cell = context.cell(task, by, group, metric, class_)
        shown = entry(cell, metric, notes)
        n = f", n\u00a0{count(cell.n)}" if is_number(cell.value) and cell.n != size else ""
        mark = _mark(context, task, by, group, metric)
        entries.append(Entry(shown.text + n + mark, shown.note, "num"))
    small = size is not None and size < (context.result.meta.get("min_group_size") or 0)
    return Row(group, entries, href, small, anchor=anchor)


def _metric(context: Context, task: str, by: str, group: str) -> tuple[str, str]:
    """Return the headline metric that is defined for this subgroup, "accuracy" where none is."""
    have = context.figures.get((task, by, group), {})
    for metric in HEADLINES[:2]:
        if (metric, "") in have and is_number(have[metric, ""].value):
            return metric, ""
    return HEADLINES[0], ""


def _mark(context: Context, task: str, by: str, group: str, metric: str) -> str:
    """Return ▼ where the subgroup is shown to be worse than the rest in this measure, ▲ where better, "" else."""
    for row in (context.shown_contrasts or {}).get((task, by), ()):
        if row["kind"] == "rest" and row["subgroup"] == group and row["metric"] == metric and not row["class"]:
            worse = (row["difference"] < 0) == (metric_words(metric).better != "low")
            return " ▼" if worse else " ▲"
    return ""


def _place(context: Context, by: str, group: str) -> tuple[int, float, float, int]:
    """Sort by whether anything is concluded, then by the heads in which the group is shown to be worse than the rest.

    Among equals by the upper end of an interval against the figure of all faces, in the head where it is lowest.
    """
    size = context.result.meta.get("subgroups", {}).get(by, {}).get(group) or 0
    worse, ends = 0, []
    for task in context.tasks:
        metric, class_ = _metric(context, task, by, group)
        worse += _mark(context, task, by, group, metric) == " ▼"
        high = context.cell(task, by, group, metric, class_).high
        whole = context.cell(task, OVERALL, OVERALL, "accuracy").value
        ends += [high - whole] if is_number(high) and is_number(whole) else []
    left_out = 2 if group == UNKNOWN else int(size < (context.result.meta.get("min_group_size") or 0))
    return left_out, -worse, min(ends, default=1.0), context.axes[by].index(group)
