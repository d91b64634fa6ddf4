"""Attribution maps and shares as pages show them."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairaudit.report.context import FOLD, Context
from fairaudit.report.looks import axis_regions, region_tables
from fairaudit.report.pictures import map_png
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import axis_label, count, figure, is_number, sentence_case
from fairaudit.results import Attribution
from fairaudit.subgroups import OVERALL

# What contrasts leave to be seen; a difference of two maps of one baseline would show the pictures and not the model.
_DIFFERENCES = {
    "difference": "minus everyone else, matched",
    "net": "the same, net of shuffled weights",
    "wrong": "wrong minus right predictions",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One map: what it shows, the page it leads to, and its PNG."""

    label: str
    href: str
    uri: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class AttributionView:
    """One head's maps on one axis, on one colour scale, and the shares of regions; `first` of its head.

    more: rows of further maps, each with its name: signed ones, other methods', differences that contrasts stand for.
    """

    title: str
    first: bool
    pictures: list[Picture]
    more: list[tuple[str, list[Picture]]]
    tables: list[Table]


def attribution_views(context: Context) -> list[AttributionView]:
    """Return one view a head and axis that the attribution holds; large axes stand on the pages of their subgroups."""
    found = context.attribution
    if found is None:
        return []
    keys = [key for key in found.maps if key[0] in context.tasks]
    shown = [by for by, groups in context.axes.items() if len(groups) <= FOLD]
    axes = [by for by in shown if any(key[1] == by for key in keys)] or [OVERALL]
    return [
        view
        for task in context.tasks
        for by in axes
        if (view := _view(context, found, task, by, first=by == axes[0])).pictures or view.tables
    ]


def group_pictures(context: Context, task: str, by: str, subgroup: str) -> list[Picture]:
    """Return a subgroup's own map, everyone else's, and the differences between them that contrasts stand for."""
    found = context.attribution
    own = found.maps.get((task, by, subgroup)) if found else None
    if found is None or own is None:
        return []
    largest = _largest(found, task)
    pictures = [_picture(subgroup, own, largest, f"where the {task} head looks in faces labelled {subgroup}")]
    rest = found.rest_map(task, by, subgroup)
    if rest is not None:
        pictures.append(_picture("everyone else", rest, largest, f"where the {task} head looks in everyone else"))
    method = str(found.meta.get("method", ""))
    for what, label in _DIFFERENCES.items():
        apart = found.pictures.get((method, what, task, by, subgroup))
        if apart is not None:
            alt = f"{label} ({task}): orange more, blue less attribution"
            pictures.append(_diverging(label, apart, float(np.abs(apart).max()), alt))
    return pictures


def share_table(context: Context, task: str, by: str, subgroup: str | None, caption: str) -> Table | None:
    """Return the shares of centre and border, of one subgroup or of every subgroup of the axis."""
    if context.attribution is None:
        return None
    table = context.attribution.shares
    chosen = table[(table["task"] == task) & (table["by"] == by)]
    # On a page that shows a whole axis the centre says it all: what is not there falls on the border.
    chosen = chosen[chosen["region"] == "centre"] if subgroup is None else chosen[chosen["subgroup"] == subgroup]
    if chosen.empty:
        return None
    notes = Notes()
    slugs = {} if subgroup is not None else {group: context.slugs.get((by, group)) for group in chosen["subgroup"]}
    rows = [
        _share_row(record, notes, f"groups/{slug}.html" if (slug := slugs.get(record["subgroup"])) else "")
        for record in chosen.to_dict("records")
    ]
    columns = ["region", "share of attribution", "n"]
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts)


def _share_row(record: dict[Hashable, Any], notes: Notes, href: str) -> Row:
    note = 0 if is_number(record["low"]) else notes.number(record["reason"])
    entries = [
        Entry(str(record["region"])),
        Entry(figure(record["share"], record["low"], record["high"]), note, "num"),
        Entry(count(record["n"]), css="num"),
    ]
    return Row(record["subgroup"], entries, href)


def _view(context: Context, found: Attribution, task: str, by: str, *, first: bool) -> AttributionView:
    largest = _largest(found, task)
    pictures = []
    for axis, group in [(OVERALL, OVERALL), *((by, group) for group in context.axes.get(by, ()))]:
        values = found.maps.get((task, axis, group))
        if values is None:
            continue
        slug = context.slugs.get((axis, group))
        label = "all faces" if axis == OVERALL else group
        alt = f"where the {task} head looks, faces labelled {label}" if slug else f"where the {task} head looks"
        pictures.append(_picture(label, values, largest, alt, f"groups/{slug}.html" if slug else ""))
    title = f"{sentence_case(task)} by {axis_label(by)}" if by != OVERALL else f"{sentence_case(task)}, all faces"
    caption = f"{title}: share of absolute attribution in the centre of the face, with interval"
    tables = region_tables(context, task) if first else []
    of_axis = axis_regions(context, task, by) if by != OVERALL else None
    if found.regions.empty:
        of_axis = share_table(context, task, by, None, caption)
    tables += [of_axis] if of_axis is not None else []
    more = _more(context, found, task, by)
    return AttributionView(title=title, first=first, pictures=pictures, more=more, tables=tables)


def _more(context: Context, found: Attribution, task: str, by: str) -> list[tuple[str, list[Picture]]]:
    """Return further rows of maps: other methods, signed attribution, and the differences of contrasts."""
    groups = [(OVERALL, OVERALL), *((by, group) for group in context.axes.get(by, ()))]
    rows: list[tuple[str, list[Picture]]] = []
    for method in found.meta.get("methods", ()):
        name = str(method).replace("-", " ")
        for what in ("absolute", "signed", *_DIFFERENCES):
            values = {key: found.pictures.get((method, what, task, *key)) for key in groups}
            known = {key: value for key, value in values.items() if value is not None}
            if not known:
                continue
            largest = max(float(np.quantile(np.abs(value), 0.995)) for value in known.values())
            shown = []
            for (axis, group), value in known.items():
                label = "all faces" if axis == OVERALL else group
                alt = f"{name}, {what}, of the {task} head: {label}"
                make = _picture if what == "absolute" else _diverging
                shown.append(make(label, value, largest, alt))
            rows.append((f"{sentence_case(name)}, {_DIFFERENCES.get(what, what)}", shown))
    return rows


def _diverging(label: str, values: np.ndarray, largest: float, alt: str) -> Picture:
    return Picture(label=label, href="", uri=map_png(values, largest, diverging=True), alt=alt)


def _picture(label: str, values: np.ndarray, largest: float, alt: str, href: str = "") -> Picture:
    return Picture(label=label, href=href, uri=map_png(values, largest), alt=alt)


def _largest(found: Attribution, task: str) -> float:
    """Return the top of the colour scale of a head: the 99.5th percentile over all its maps, so no spot rules."""
    stacked = [np.quantile(values, 0.995) for key, values in found.maps.items() if key[0] == task]
    return float(max(stacked, default=1.0))
