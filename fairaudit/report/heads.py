"""The part of a report that shows each head: overall, by subgroup, its gaps and its confusions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from fairaudit.report.context import FOLD, Context, Gap
from fairaudit.report.figures import Scale, small_matrix, strip
from fairaudit.report.tables import Entry, Notes, Row, Table, confusion_matrix, entry, row_shares
from fairaudit.report.verdict import established, further, headline_gap
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    is_number,
    metric_label,
    metric_words,
    number,
    p_words,
    sentence_case,
)
from fairaudit.subgroups import OVERALL, UNKNOWN

BESIDE = ("balanced_accuracy", "mae_bins", "signed_error_bins", "off_by_one_accuracy")
CLASSWISE = ("recall", "precision", "fpr", "f1", "selection_rate", "auc", "average_precision")


@dataclass(frozen=True, kw_only=True)
class AxisView:
    """One head on one axis, ready to print."""

    by: str
    label: str
    fold: bool
    degenerate: str
    performance: Table
    recalls: Table | None
    minis: Sequence[tuple[str, str, Markup]]
    mini_note: str


def head_view(context: Context, task: str) -> dict[str, Any]:
    """Return what the template of one head prints."""
    classes = context.tasks[task]
    counts = context.confusion.get((task, OVERALL, OVERALL))
    return {
        "task": task,
        "title": sentence_case(task),
        "classes": classes,
        "overall": _overall(context, task),
        "by_class": class_table(context, task, OVERALL, OVERALL, f"{sentence_case(task)}: each class, all faces"),
        "confusion": confusion_matrix(counts, classes, f"{sentence_case(task)}: labels against predictions, all faces")
        if counts is not None
        else None,
        "axes": [_axis_view(context, task, by) for by in context.axes],
        "gaps": _gap_table(context, task, whole=True),
        "class_gaps": _gap_table(context, task, whole=False),
        "further": [
            f"{axis_label(by)}: {metric_label(gap.metric, gap.class_)}, gap "
            + difference(gap.difference, gap.low, gap.high, metric_words(gap.metric).kind, signed=False)
            + f", between {gap.worst} and {gap.best}"
            for by in context.axes
            for gap in further(context, task, by)[:4]
        ],
    }


def class_table(context: Context, task: str, by: str, subgroup: str, caption: str) -> Table | None:
    """Return one row a class with the class-wise metrics, or None where the audit has none of them."""
    have = context.figures.get((task, by, subgroup), {})
    metrics = [metric for metric in CLASSWISE if any(key[0] == metric and key[1] for key in have)]
    if not metrics:
        return None
    notes = Notes()
    rows = []
    for class_ in context.tasks[task]:
        cells = [context.cell(task, by, subgroup, metric, class_) for metric in metrics]
        labelled = context.cell(task, by, subgroup, "recall", class_).n
        figures = [entry(cell, metric, notes) for cell, metric in zip(cells, metrics, strict=True)]
        rows.append(Row(class_, [Entry(count(labelled), css="num"), *figures]))
    columns = ["labelled", *(metric_words(metric).label for metric in metrics)]
    return Table(caption=caption, first="class", columns=columns, rows=rows, notes=notes.texts)


def _overall(context: Context, task: str) -> Table:
    notes = Notes()
    rows = []
    for metric in context.shown(task):
        cell = context.cell(task, OVERALL, OVERALL, metric)
        words = metric_words(metric)
        figures = [entry(cell, metric, notes), Entry(count(cell.n), css="num"), Entry(words.meaning, css="soft")]
        rows.append(Row(sentence_case(words.label), figures))
    caption = f"{sentence_case(task)}: all faces together"
    return Table(
        caption=caption, first="measure", columns=["value (interval)", "n", "meaning"], rows=rows, notes=notes.texts
    )


def _axis_view(context: Context, task: str, by: str) -> AxisView:
    reason = context.degenerate.get((task, by), "")
    concealed = context.concealed(task, by)
    minis = [] if reason or concealed or len(context.axes[by]) > FOLD else _minis(context, task, by)
    return AxisView(
        by=by,
        label=axis_label(by),
        fold=len(context.axes[by]) > FOLD,
        degenerate=sentence_case(reason),
        performance=_performance(context, task, by),
        # Where the subgroup is the label, the table above is this one.
        recalls=None if reason else _recalls(context, task, by),
        minis=minis,
        mini_note="" if minis else _no_minis(context, by, reason, concealed),
    )


def _no_minis(context: Context, by: str, reason: str, concealed: str) -> str:
    if concealed:
        return f"Differences of confusions from everyone else are left out: {concealed}."
    if reason:
        return "Differences of confusions from everyone else are undefined here, for the reason above."
    if len(context.axes[by]) > FOLD:
        return "How each subgroup’s confusions differ from everyone else’s stands on its own page."
    return ""


def _performance(context: Context, task: str, by: str) -> Table:
    gap = headline_gap(context.gaps.get((task, by), ()))
    main, class_ = (gap.metric, gap.class_) if gap else ("accuracy", "")
    kind = metric_words(main).kind
    groups = context.axes[by]
    cells = [context.cell(task, by, group, main, class_) for group in groups]
    scale = Scale([edge for cell in cells for edge in (cell.value, cell.low, cell.high)], kind)
    beside = [m for m in BESIDE if m != main and any(is_number(context.cell(task, by, g, m).value) for g in groups)]
    pooled = context.cell(task, OVERALL, OVERALL, main, class_).value
    notes = Notes()
    rows = _all_faces(context, task, (main, class_), beside, scale, notes)
    for group, cell in zip(groups, cells, strict=True):
        picture = strip(scale, cell.value, cell.low, cell.high, pooled=pooled, faint=cell.small or group == UNKNOWN)
        against = context.against.get((task, by, group), {}).get((main, class_))
        apart = difference(against.difference, against.low, against.high, kind) if against else DASH
        entries = [Entry(count(cell.n), css="num"), entry(cell, main, notes), Entry(picture, css="chart")]
        why = notes.number(against.reason) if against and not is_number(against.difference) else 0
        entries += [Entry(apart, why, "num"), *(entry(context.cell(task, by, group, m), m, notes) for m in beside)]
        rows.append(Row(group, entries, f"groups/{context.slugs[by, group]}.html", cell.small))
    name = metric_label(main, class_)
    columns = ["n", name, scale.header(), "against the rest", *(metric_words(m).label for m in beside)]
    caption = f"{sentence_case(task)} by {axis_label(by)}: {name} with interval; the line marks all faces together"
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts, draw=True)


def _all_faces(
    context: Context, task: str, main: tuple[str, str], beside: Sequence[str], scale: Scale, notes: Notes
) -> list[Row]:
    """Return the row of all faces together, to which the line in the chart belongs; none where that is undefined."""
    cell = context.cell(task, OVERALL, OVERALL, *main)
    if not is_number(cell.value):
        return []
    entries = [
        Entry(count(cell.n), css="num"),
        entry(cell, main[0], notes),
        Entry(strip(scale, cell.value, cell.low, cell.high, pooled=cell.value), css="chart"),
        Entry(DASH, css="num"),
        *(entry(context.cell(task, OVERALL, OVERALL, m), m, notes) for m in beside),
    ]
    return [Row("all faces", entries, whole=True)]


def _recalls(context: Context, task: str, by: str) -> Table | None:
    classes = context.tasks[task]
    groups = context.axes[by]
    if not any(("recall", c) in context.figures.get((task, by, g), {}) for g in groups for c in classes):
        return None
    notes = Notes()
    rows = [
        Row(
            group,
            [_recall(context, task, by, group, class_, notes) for class_ in classes],
            f"groups/{context.slugs[by, group]}.html",
        )
        for group in groups
    ]
    caption = f"{sentence_case(task)} by {axis_label(by)}: recall by labelled class, with interval and n"
    return Table(caption=caption, first=axis_label(by), columns=classes, rows=rows, notes=notes.texts)


def _recall(context: Context, task: str, by: str, group: str, class_: str, notes: Notes) -> Entry:
    cell = context.cell(task, by, group, "recall", class_)
    shown = entry(cell, "recall", notes)
    n = f", n\u00a0=\u00a0{count(cell.n)}" if is_number(cell.value) else ""
    return Entry(shown.text.removesuffix(")") + n + ")" if shown.text.endswith(")") else shown.text, shown.note, "num")


def _minis(context: Context, task: str, by: str) -> list[tuple[str, str, Markup]]:
    """Return (subgroup, page, picture of its confusion minus the rest's) on one colour scale for the whole axis."""
    known = {g: context.confusion.get((task, by, g)) for g in context.axes[by] if g != UNKNOWN}
    counts = {group: matrix for group, matrix in known.items() if matrix is not None}
    if len(counts) < 2:
        return []
    total = np.sum(list(counts.values()), axis=0)
    apart = {group: row_shares(matrix) - row_shares(total - matrix) for group, matrix in counts.items()}
    large = [group for group in counts if not context.cell(task, by, group, "accuracy").small]
    finite = np.concatenate([apart[g][np.isfinite(apart[g])] for g in large] or [np.zeros(1)])
    largest = float(np.abs(finite).max()) if finite.size else 1.0
    return [
        (
            group,
            f"groups/{context.slugs[by, group]}.html",
            small_matrix(values, f"{task}, {group}: confusion minus everyone else’s, in points", largest),
        )
        for group, values in apart.items()
    ]


def _gap_table(context: Context, task: str, *, whole: bool) -> Table | None:
    metrics = {by: context.shown(task, by) if whole else CLASSWISE for by in context.axes}
    chosen = [
        (by, gap)
        for by in context.axes
        for gap in context.gaps.get((task, by), ())
        if (gap.class_ == "") == whole and gap.metric in metrics[by]
    ]
    if not chosen:
        return None
    edges = [e for _, g in chosen for e in (g.difference, g.high) if metric_words(g.metric).kind == "percent"]
    scale = Scale(edges, zero=True)
    notes = Notes()
    rows = [_gap_row(context, by, gap, scale, notes) for by, gap in chosen]
    what = "measures of the whole head" if whole else "measures of each class"
    caption = (
        f"{sentence_case(task)}: gap between the worst-off and the best-off subgroup, {what}; "
        "intervals hold for all pairs of subgroups of an axis at once; “by noise alone”: the gap expected at these "
        "sizes without any disparity"
    )
    columns = ["measure", "gap", scale.header(), "by noise alone", "adjusted p", "ratio", "worst", "best", "reading"]
    return Table(caption=caption, first="axis", columns=columns, rows=rows, notes=notes.texts)


def _gap_row(context: Context, by: str, gap: Gap, scale: Scale, notes: Notes) -> Row:
    kind = metric_words(gap.metric).kind
    size = difference(gap.difference, gap.low, gap.high, kind, signed=False)
    defined = is_number(gap.difference)
    note = 0 if defined else notes.number(gap.reason or "undefined; the audit gives no reason")
    picture: str = strip(scale, gap.difference, gap.low, gap.high) if defined and kind == "percent" else ""
    bounds = f" ({number(gap.ratio_low, 'bins')}–{number(gap.ratio_high, 'bins')})" if is_number(gap.ratio_low) else ""
    reading = "gap shown" if established(gap) else "none shown" if defined else "not assessed"
    entries = [
        Entry(metric_label(gap.metric, gap.class_)),
        Entry(size, note, "num"),
        Entry(picture, css="chart"),
        Entry(difference(gap.expected, kind=kind, signed=False), css="num"),
        Entry(p_words(gap.p_adjusted).removeprefix("= "), css="num"),
        Entry(number(gap.ratio, "bins") + bounds, css="num"),
        Entry(gap.worst, css="name"),
        Entry(gap.best, css="name"),
        Entry(reading, css="found" if established(gap) else "soft"),
    ]
    return Row(axis_label(by), entries)
