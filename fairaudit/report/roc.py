"""The part of a report that shows ROC curves of every subgroup on one scale, and rates at other thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fairaudit.report.calibration import SIDE
from fairaudit.report.context import FOLD, Cell, Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import DASH, axis_label, count, figure, is_number, listing, number, sentence_case
from fairaudit.subgroups import OVERALL

_RATES = {"selection_rate": "called so", "tpr": "of the class", "fpr": "of all others"}
_KEY = ("task", "by", "subgroup", "class")
Record = Mapping[str, Any]


def roc_data(context: Context) -> dict[str, Any] | None:
    """Return what "ROC curves" prints of each head with probabilities; None where no head has any."""
    table = context.result.table("roc")
    curves = dict(list(table.groupby(list(_KEY), sort=False))) if len(table) else {}
    limits = [{str(k): v for k, v in row.items()} for row in context.result.table("thresholds").to_dict("records")]
    heads = [view for task in context.tasks if (view := _head(context, task, curves, limits)) is not None]
    return {"heads": heads} if heads else None


def _head(context: Context, task: str, curves: Mapping[Any, Any], limits: Sequence[Record]) -> dict[str, Any] | None:
    drawn = {key[3] for key in curves if key[:2] == (task, OVERALL)}
    classes = [name for name in context.tasks[task] if name in drawn]
    if not classes:
        return None
    axes = [by for by in context.axes if any(key[:2] == (task, by) for key in curves)]
    numbers = {name: f"roc-{list(context.tasks).index(task)}-{c}" for c, name in enumerate(classes)}
    views = []
    for by in axes or [OVERALL]:
        panels = [(c, _panels(context, task, by, c, curves, numbers[c])) for c in classes]
        views.append(
            {
                "label": axis_label(by),
                "folded": len(classes) > 1 or len(context.axes.get(by, ())) > FOLD or by != (axes or [OVERALL])[0],
                "classes": panels,
                "absent": _absent(context, task, by, classes, curves),
                "table": _thresholds_table(context, task, by, [row for row in limits if row["task"] == task]),
            }
        )
    lines = [(numbers[c], _points(curves[task, OVERALL, OVERALL, c])) for c in classes]
    everyone = "".join(f'<polyline id="{name}" points="{points}"/>' for name, points in lines)
    none = [axis_label(by) for by in context.axes if (task, by) in context.degenerate]
    return {
        "title": sentence_case(task),
        "two": len(context.tasks[task]) == 2,
        "class": classes[0],
        "defs": Markup(f'<svg class="unseen" aria-hidden="true"><defs>{everyone}</defs></svg>'),
        "views": views,
        "none": f"None by {listing(none)}, where the subgroup determines the label: one side of every curve is empty."
        if none
        else "",
    }


def _panels(
    context: Context, task: str, by: str, class_: str, curves: Mapping[Any, Any], everyone: str
) -> list[tuple[str, str, Markup, str, str]]:
    """Return (name, page, curve, area with its interval, faces) of all faces together, then of each subgroup."""
    panels = []
    for where, group in [(OVERALL, OVERALL), *((by, group) for group in context.axes.get(by, ()))]:
        rows = curves.get((task, where, group, class_))
        if rows is None:
            continue
        cell = context.cell(task, where, group, "auc", class_)
        own, others = rows["n_class"].iloc[0], rows["n_others"].iloc[0]
        name = "All faces" if where == OVERALL else group
        area = figure(cell.value, cell.low, cell.high, "plain")
        faces = f"{count(own)} : {count(others)}"
        label = f"ROC curve of {class_}, {name}: area {area}; {count(own)} faces of the class, {count(others)} others"
        page = "" if where == OVERALL else f"groups/{context.slugs[by, group]}.html"
        drawing = _curve(rows, "" if where == OVERALL else everyone, label, faint=cell.small or not is_number(cell.low))
        panels.append((name, page, drawing, area + _without(cell), faces))
    return panels


def _without(cell: Cell) -> str:
    return "" if is_number(cell.low) else ", no interval: too few faces" if cell.small else ", no interval"


def _points(rows: Any) -> str:
    return " ".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f}" for x, y in zip(rows["fpr"], rows["tpr"], strict=True))


def _curve(rows: Any, everyone: str, label: str, *, faint: bool) -> Markup:
    """Draw one curve over the broken one of all faces (`everyone`: its id), within 0 to 100 % both ways."""
    parts = [f'<rect class="frame" width="{SIDE}" height="{SIDE}"/>', f'<path class="chance" d="M0 {SIDE}L{SIDE} 0"/>']
    parts += [f'<use class="all" href="#{everyone}"/>'] if everyone else []
    parts.append(f'<polyline class="own" points="{_points(rows)}"/>')
    for value in (0, 50, 100):
        x, y = SIDE * value / 100, SIDE * (1 - value / 100)
        parts.append(f'<text x="{x:g}" y="{SIDE + 11}" text-anchor="middle">{value}</text>')
        parts.append(f'<text x="-4" y="{y + 3:g}" text-anchor="end">{value}</text>')
    box, css = f"-24 -6 {SIDE + 34} {SIDE + 22}", "reliability roc" + (" faint" if faint else "")
    return Markup(f'<svg class="{css}" viewBox="{box}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def _absent(context: Context, task: str, by: str, classes: Sequence[str], curves: Mapping[Any, Any]) -> str:
    """Return for whom there is no curve, with the reason: a side of it is empty."""
    lacks = [
        f"{group} ({', '.join(missing)})" if len(missing) < len(classes) else group
        for group in context.axes.get(by, ())
        if (missing := [c for c in classes if (task, by, group, c) not in curves])
    ]
    why = "they hold no face of the class with probabilities, or no other"
    return f"No curve for {listing(lacks, 12)}: {why}." if lacks else ""


def _thresholds_table(context: Context, task: str, by: str, rows: Sequence[Record]) -> Table | None:
    """Return the rates of all faces and each subgroup of an axis at every threshold, one after the other."""
    mine = [row for row in rows if row["by"] in (by, OVERALL)]
    if not mine:
        return None
    notes, lines = Notes(), []
    for limit in dict.fromkeys(row["threshold"] for row in mine):
        for row in (row for row in mine if row["threshold"] == limit):
            whole = row["by"] == OVERALL
            entries = [Entry(f"{number(limit)}\u00a0%", css="num")]
            for name in _RATES:
                text = figure(row[name], row[f"{name}_low"], row[f"{name}_high"])
                entries.append(Entry(text, notes.number(row["reason"] if text == DASH else ""), "num"))
            entries.append(Entry(f"{count(row['n_class'])} : {count(row['n_others'])}", css="num"))
            page = "" if whole else f"groups/{context.slugs[by, row['subgroup']]}.html"
            lines.append(Row("all faces" if whole else row["subgroup"], entries, page, bool(row["small"])))
    class_ = mine[0]["class"]
    return Table(
        caption=f"{sentence_case(task)} by {axis_label(by)}: if a face were called {class_} from a probability on, the "
        "share of all faces called so, of the class (found), and of all others (false alarms), with intervals",
        first=axis_label(by),
        columns=["called from", *_RATES.values(), f"n, {class_} : others"],
        rows=lines,
        notes=notes.texts,
        pick=1,
    )
