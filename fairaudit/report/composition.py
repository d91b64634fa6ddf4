"""Who the faces are labelled as: subgroup by subgroup, two attributes at once as a mosaic, and the largest crossing."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

from markupsafe import Markup, escape

from fairaudit.report.context import FOLD, Context
from fairaudit.report.crossings import Crossed
from fairaudit.report.figures import share_bar
from fairaudit.report.tables import Entry, MatrixCell, Row, Table
from fairaudit.report.words import DASH, axis_label, count, figure, is_number
from fairaudit.subgroups import CROSS, UNKNOWN, parse
from fairaudit.wording import plural

FEW = "\u00a0◇"
_DARKEST, _LIGHTEST = 20, 2  # of the twenty steps of the page's colours, for the first and the last part of a bar
Counts = Mapping[tuple[str, ...], float]


def composition_data(context: Context) -> dict[str, Any]:
    """Return the tables of each axis, the mosaics of two attributes, and the crossing of most attributes as a table."""
    views = [(axis_label(by), len(groups) > FOLD, _faces_by(context, by)) for by, groups in context.axes.items()]
    singles = [by for by in context.axes if len(parse(by)) == 1]
    mosaics = [table for pair in combinations(singles, 2) if (table := _mosaic(context, *pair)) is not None]
    return {"views": views, "mosaics": mosaics, "crossed": _crossed(context), "untold": _untold(context, singles)}


def _untold(context: Context, singles: Sequence[str]) -> list[str]:
    """Return the attributes that no table can cross, because a value's name holds the sign between names."""
    crossed = {name for by in context.axes for name in parse(by) if len(parse(by)) > 1}
    return [by for by in singles if by in crossed and any(CROSS in group for group in _known(context, by))]


def counts_of(context: Context, names: Sequence[str]) -> tuple[Counts, float]:
    """Return faces by value of each attribute, summed from the smallest crossing that has them all, and how many are
    unknown there; empty where no axis has them. Hidden counts are NaN.
    """
    sizes = context.result.meta.get("subgroups", {})
    fitting = [by for by in context.axes if set(names) <= set(parse(by)) and by in sizes]
    by = min(fitting, key=lambda by: len(parse(by)), default="")
    counts: dict[tuple[str, ...], float] = {}
    for group, n in sizes.get(by, {}).items():
        values = group.split(CROSS) if len(parse(by)) > 1 else [group]
        if group == UNKNOWN:
            continue
        if len(values) != len(parse(by)):  # a name that holds the sign between names
            return {}, 0.0
        key = tuple(values[parse(by).index(name)] for name in names)
        counts[key] = counts.get(key, 0.0) + n
    return counts, float(sizes.get(by, {}).get(UNKNOWN, 0))


def _faces_by(context: Context, by: str) -> Table:
    sizes = context.result.meta.get("subgroups", {}).get(by, {})
    hidden = context.result.meta.get("hidden")  # sizes of hidden subgroups are no numbers
    total = context.result.meta.get("n", 0) if hidden else sum(sizes.values())
    rows = []
    for group in context.axes[by]:
        n = sizes.get(group, 0)
        share = n / total if total else float("nan")
        text = [Entry(count(n), css="num"), Entry(figure(share), css="num"), Entry(share_bar(share))]
        rows.append(Row(group, text, f"groups/{context.slugs[by, group]}.html", n < _least(context)))
    caption = f"Faces by {axis_label(by)}: {count(total)} in all"
    return Table(caption=caption, first=axis_label(by), columns=["faces", "share", "drawn"], rows=rows)


def _mosaic(context: Context, first: str, second: str) -> Table | None:
    """Return one row a value of one attribute: a bar as long as its faces are many, in parts by the other attribute.

    The parts are those of the ordered attribute, else of that with fewer values; every part's faces stand beside it.
    """
    many = {name: len(_known(context, name)) for name in (first, second)}
    ordered = {name for name in many if context.result.meta["tasks"].get(name, {}).get("ordered")}
    parts = min((second, first), key=lambda name: (name not in ordered, many[name]))
    rows = first if parts == second else second
    counts, unknown = counts_of(context, [rows, parts])
    if not counts:
        return None
    heads, names = _known(context, rows), _known(context, parts)
    totals = {head: sum(counts.get((head, name), 0.0) for name in names) for head in heads}
    longest = max((n for n in totals.values() if is_number(n)), default=0.0)
    lines = []
    for head in heads:
        own = [counts.get((head, name), 0.0) for name in names]
        entries = [Entry(count(totals[head]), css="num"), Entry(_bar(own, longest), css="chart")]
        entries += [Entry(_cell(context, n), css="num") for n in own]
        lines.append(Row(head, entries, f"groups/{context.slugs[rows, head]}.html", totals[head] < _least(context)))
    what = f"Faces by {axis_label(rows)} (bars, as long as faces are many) and {axis_label(parts)} (their parts)"
    left = f"; not drawn: {count(unknown)} whose label of either is unknown" if unknown else ""
    return Table(
        caption=what + left,
        first=axis_label(rows),
        columns=["faces", "", *(_swatch(i, len(names), name) for i, name in enumerate(names))],
        rows=lines,
    )


def _cell(context: Context, n: float) -> str:
    return count(n) + (FEW if is_number(n) and n < _least(context) else "")


def _shade(place: int, many: int) -> str:
    return f"s{round(_DARKEST - (_DARKEST - _LIGHTEST) * place / max(many - 1, 1))}"


def _bar(parts: Sequence[float], longest: float) -> Markup:
    """Draw the parts one after the other; a hidden one ends the bar, so that its size cannot be seen either."""
    drawn, at = [], 0.0
    for place, n in enumerate(parts):
        if not is_number(n):
            break
        wide = 100 * n / longest if longest else 0.0
        if n:
            drawn.append(f'<rect class="{_shade(place, len(parts))}" x="{at:.2f}%" width="{wide:.2f}%" height="100%"/>')
        at += wide
    return Markup(f'<svg class="mosaic" aria-hidden="true">{"".join(drawn)}</svg>')


def _swatch(place: int, many: int, name: str) -> Markup:
    square = (
        f'<svg class="swatch" aria-hidden="true"><rect class="{_shade(place, many)}" width="100%" height="100%"/></svg>'
    )
    return Markup(f"{square} {escape(name)}")


def _crossed(context: Context) -> Crossed | None:
    """Return the faces of every intersection of the axis of most attributes, three or more; None without one."""
    by = max((by for by in context.axes if len(parse(by)) > 2), key=lambda by: len(parse(by)), default="")
    names = parse(by) if by else ()
    values = [_known(context, name) for name in names]
    counts, unknown = counts_of(context, names) if by else ({}, 0.0)
    if not counts or not all(values):
        return None
    rows = list(product(*values[:-1]))
    most = max((n for n in counts.values() if is_number(n)), default=1.0)
    cells = [[_crossed_cell(context, counts.get((*row, last), 0.0), most) for last in values[-1]] for row in rows]
    left = f"; {count(unknown)} have an unknown label" if unknown else ""
    return Crossed(
        caption=f"Faces by {axis_label(by)}: {count(sum(counts.values()) if not _hides(counts) else None)} in "
        f"{plural(len(rows) * len(values[-1]), 'intersection')}, darker is more{left}",
        corner=f"{CROSS.join(names[:-1])} ↓ {names[-1]} →",
        columns=values[-1],
        heads=[CROSS.join(row) for row in rows],
        cells=cells,
        tips=[[""] * len(values[-1]) for _ in rows],
    )


def _crossed_cell(context: Context, n: float, most: float) -> MatrixCell:
    if not is_number(n):
        return MatrixCell(DASH, "", 0, "few")
    if n < _least(context):
        return MatrixCell(count(n) + FEW, "", 0, "few")
    return MatrixCell(count(n), "", round(100 * n / most), "")


def _hides(counts: Counts) -> bool:
    return not all(is_number(n) for n in counts.values())


def _known(context: Context, name: str) -> list[str]:
    return [group for group in context.axes.get(name, ()) if group != UNKNOWN]


def _least(context: Context) -> float:
    return float(context.result.meta.get("min_group_size") or 0)
