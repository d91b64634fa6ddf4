"""Published figures beside this audit's own, where head, classes and data set fit; else a line that says why not."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairaudit.metrics.intervals import wilson, z_value
from fairaudit.report.context import Cell, Context
from fairaudit.report.data_sets import names_of, title_of
from fairaudit.report.figures import Scale, strip
from fairaudit.report.published_numbers import PUBLISHED, Published
from fairaudit.report.tables import Entry, Notes, Row, Table, entry
from fairaudit.report.words import count, counted, figure, is_number, listing, metric_label, metric_words, sentence_case
from fairaudit.subgroups import OVERALL, parse

NO_INTERVAL = "The source gives no number of faces, so the figure has no interval."
WILSON = "The interval is ours (Wilson), from the number of faces that the source gives."


def published_data(context: Context) -> dict[str, Any]:
    """Return what "Published numbers" prints: a table for each head and measure, or why there is none."""
    names = names_of(context.result.meta)
    chosen = fitting(context, names)
    tables = []
    for task, metric in dict.fromkeys((p.task, p.metric) for p in chosen):
        own = [p for p in chosen if (p.task, p.metric) == (task, metric)]
        tables.append(_table(context, task, metric, own))
    return {
        "tables": tables,
        "why_none": "" if tables else _why_none(context, names),
        "faces": _our_faces(context),
    }


def fitting(context: Context, names: Sequence[str]) -> list[Published]:
    """Return the published figures of the audit's data set and heads, where the classes are the same."""
    if len(names) != 1:
        return []
    return [
        p
        for p in PUBLISHED
        if p.data_set == names[0]
        and p.task in context.tasks
        and (p.classes is None or p.classes == set(context.tasks[p.task]))
        and is_number(context.cell(p.task, OVERALL, OVERALL, p.metric, p.class_).value)
    ]


def _table(context: Context, task: str, metric: str, published: Sequence[Published]) -> Table:
    """Return one head's figures: ours first, with its interval; then the published ones, class by class."""
    kind = metric_words(metric).kind
    classes = list(dict.fromkeys(p.class_ for p in published))
    cells = [context.cell(task, OVERALL, OVERALL, metric, class_) for class_ in classes]
    theirs = [_cell(p) for p in published]
    scale = Scale([edge for c in (*cells, *theirs) for edge in (c.value, c.low, c.high)], kind)
    notes, rows = Notes(), []
    for class_, cell in zip(classes, cells, strict=True):
        where = f", {class_}" if class_ else ""
        rows.append(Row(f"This audit{where}", _entries(scale, cell, metric, notes, "these faces", "")))
        for p, other in zip(published, theirs, strict=True):
            if p.class_ == class_:
                rows.append(Row(p.model + where, _entries(scale, other, metric, notes, p.faces, p.source)))
    name = sentence_case(metric_label(metric))
    columns = ["value (interval)", scale.header(), "n", "measured on", "source"]
    caption = (
        f"{sentence_case(task)}: {name} here (filled) and as published (hollow) for {title_of(published[0].data_set)}"
    )
    return Table(caption=caption, first="model", columns=columns, rows=rows, notes=notes.texts)


def _cell(published: Published) -> Cell:
    """Return a published figure as a cell; where the number of faces is known it gets a 95 % Wilson interval."""
    if published.n is None:
        return Cell(value=published.value, reason=NO_INTERVAL)
    low, high = wilson(np.array(published.value), np.array(published.n), z_value(0.95))
    return Cell(value=published.value, low=float(low), high=float(high), n=published.n, reason=WILSON)


def _entries(scale: Scale, cell: Cell, metric: str, notes: Notes, faces: str, source: str) -> list[Entry]:
    kind = metric_words(metric).kind
    shown = entry(cell, metric, notes)
    if source:  # the note says where an interval, or its absence, comes from
        shown = Entry(figure(cell.value, cell.low, cell.high, kind), notes.number(cell.reason), "num")
    picture: str = strip(scale, cell.value, cell.low, cell.high, faint=bool(source))
    return [
        shown,
        Entry(picture, css="chart"),
        Entry(count(cell.n), css="num"),
        Entry(faces),
        Entry(source or "this report", css="name"),
    ]


def _our_faces(context: Context) -> str:
    """Say which faces ours were measured on, by their split's hash."""
    meta = context.result.meta
    split = (meta.get("data") or {}).get("split_hash")
    faces = str(meta.get("faces") or "").rstrip(".")
    said = f"Ours: {faces}" if faces else f"Ours: {counted(meta.get('n'), 'face')}"
    return said + (f"; split {split}." if split else "; of no split that fairaudit knows.")


def _why_none(context: Context, names: Sequence[str]) -> str:
    known = sorted({p.data_set for p in PUBLISHED})
    if not names:
        return (
            "The data set is not stated, so nothing can be set beside these figures. data_set in the spec’s table "
            f"[report] states it; published figures are known for {listing([title_of(name) for name in known])}."
        )
    if len(names) > 1:
        sets = listing([title_of(n) for n in names])
        return f"The faces are of several sets ({sets}): no published figure is of such a mix."
    heads = listing([task for task in context.tasks if parse(task)])
    if names[0] not in known:
        return f"No published figure of {title_of(names[0])} is known to fairaudit."
    return (
        f"No published figure of {title_of(names[0])} is known to fairaudit for the heads and classes audited here "
        f"({heads}): figures over other classes, or without labels here, cannot be compared."
    )
