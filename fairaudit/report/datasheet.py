"""The data sheet: what the faces are, who labelled them, what was left out, and on what terms they may be used."""

from collections.abc import Mapping
from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.data_sets import DATA_SETS, NOT_STATED, names_of, title_of
from fairaudit.report.legal import stated
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.words import axis_label, count, is_number, listing
from fairaudit.subgroups import UNKNOWN, parse
from fairaudit.wording import plural

TWINS = ("duplicate", "identical", "twin", "same_image")
NO_LIMITS = (
    "What is labelled is what somebody or some algorithm perceived, in the few classes that the scheme has; nobody in "
    "the pictures was asked."
)


def datasheet_data(context: Context) -> dict[str, Any]:
    """Return what "Data sheet" prints: facts with texts, what is known per data set, and a table of what was met."""
    meta = context.result.meta
    names = names_of(meta)
    return {
        "facts": [*_composition(context), *_origin(meta, names)],
        "sets": [(title_of(name), DATA_SETS.get(name)) for name in names],
        "labels": NO_LIMITS,
        "terms": str(stated(meta).get("data_terms") or ""),
        "met": _met_table(meta),
        "not_stated": NOT_STATED,
    }


def _composition(context: Context) -> list[tuple[str, str]]:
    meta = context.result.meta
    sizes: Mapping[str, Mapping[str, Any]] = meta.get("subgroups", {})
    least = meta.get("min_group_size") or 0
    facts = [("Faces audited", count(meta.get("n")))]
    for by in (axis for axis in context.axes if len(parse(axis)) == 1):
        parts = [f"{name} {count(n)}" for name, n in sizes.get(by, {}).items()]
        facts.append((f"By {axis_label(by)}", listing(parts, 12)))
    for by in (axis for axis in context.axes if len(parse(axis)) > 1):
        counted = [n for name, n in sizes.get(by, {}).items() if name != UNKNOWN and is_number(n)]
        text = NOT_STATED
        if counted:
            smallest = f"{count(min(counted))} to " if min(counted) < max(counted) else ""
            text = f"{plural(len(counted), 'subgroup')}, {smallest}{plural(int(max(counted)), 'face')}; "
            text += f"{sum(n < least for n in counted)} of them with fewer than {least}"
        facts.append((f"By {axis_label(by)}", text))
    return facts


def _origin(meta: Mapping[str, Any], names: list[str]) -> list[tuple[str, str]]:
    data = meta.get("data") or {}
    splits = ", ".join(f"{name} {count(n)}" for name, n in (data.get("splits") or {}).items())
    named = str(meta.get("independence", "")).startswith("Pictures of one person")
    persons = "named in the data: pictures of one person are kept together"
    return [
        ("Data set", listing([title_of(name) for name in names]) or NOT_STATED),
        ("Which faces", str(meta.get("faces") or "") or "the rows of the table that was given"),
        ("Splits of the set", splits or NOT_STATED),
        ("Who made the labels", str(meta.get("label_source") or "") or NOT_STATED),
        ("Persons", persons if named else "not named in the data: each picture counts as a person of its own"),
    ]


def _met_table(meta: Mapping[str, Any]) -> Table | None:
    """Return what was left out, repaired or listed, duplicates first, with how many times each was met."""
    entries = [*meta.get("excluded", ()), *((meta.get("data") or {}).get("findings") or ())]
    names = ("kind", "action", "count", "task")
    met = list(dict.fromkeys(tuple(entry.get(name) for name in names) for entry in entries))
    met.sort(key=lambda entry: not any(word in str(entry[0]) for word in TWINS))
    rows = [
        Row(
            str(kind).replace("_", " "),
            [Entry(str(task or "all")), Entry(str(action or "listed")), Entry(count(n), css="num")],
        )
        for kind, action, n, task in met
    ]
    caption = "Met in the whole data set and in the audited table: left out, repaired or listed"
    return Table(caption=caption, first="kind", columns=["head", "action", "times met"], rows=rows) if rows else None
