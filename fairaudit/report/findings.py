"""The findings of an audit in reading order: what is shown, judged in which families, what could have been found."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fairaudit.findings import ranked
from fairaudit.report.context import Context
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.verdict import HEADLINES
from fairaudit.report.words import axis_label, count, number, sentence_case
from fairaudit.wording import plural

FIRST = 8  # findings of one head that are not folded away
MOST = 60  # of any kind that the page lists; the file holds all
_KINDS = (
    ("rest", "group against the rest", "groups against the rest"),
    ("interaction", "intersection beyond its margins", "intersections beyond their margins"),
    ("gap", "gap", "gaps"),
    ("pair", "pair of groups", "pairs of groups"),
)


def findings_data(context: Context) -> dict[str, Any] | None:
    """Return what the section prints, None for an audit without a table of findings."""
    table = context.result.table("findings")
    if table.empty:
        return None
    table = ranked(table)
    found = table[table["finding"].astype(bool)]
    return {
        "lead": _lead(found),
        "heads": [_head(context, task, table[table["task"] == task]) for task in context.tasks],
        "families": _families(table),
        "confidence": number(float(context.result.meta.get("confidence", 0.95))).removesuffix(".0"),
        "ranked": "Benjamini" if _setting(context) == "benjamini-hochberg" else "",
        "total": count(len(table)),
    }


def _setting(context: Context) -> str:
    settings = context.result.meta.get("settings", {})
    return str(settings.get("multiplicity", "")) if isinstance(settings, Mapping) else ""


def _lead(found: pd.DataFrame) -> str:
    if found.empty:
        return (
            "No difference between groups is beyond noise. That is no proof of equal treatment: below stands, for each "
            "axis, which gap would have been found."
        )
    sizes = ((int((found["kind"] == kind).sum()), words) for kind, *words in _KINDS)
    numbers = [plural(n, *words) for n, words in sizes if n]
    return (
        f"Beyond noise: {', '.join(numbers)}; the surest first, and how often a class is predicted last, since that "
        "follows the labels that a group holds. One bad group makes several of these lines."
    )


def _head(context: Context, task: str, table: pd.DataFrame) -> dict[str, Any]:
    found = table[table["finding"].astype(bool)]
    lists = {kind: found.loc[found["kind"] == kind, "sentence"].tolist() for kind, *_ in _KINDS}
    first = lists["rest"][:FIRST] or lists["interaction"][:FIRST] or lists["gap"][:FIRST] or lists["pair"][:FIRST]
    folded: list[dict[str, Any]] = [
        {
            "all": plural(len(lists[kind]), *words),
            "some": len(left) if len(left) < len(lists[kind]) else 0,
            "lines": left[:MOST],
            "more": max(len(left) - MOST, 0),
        }
        for kind, *words in _KINDS
        if (left := [line for line in lists[kind] if line not in first])
    ]
    return {
        "title": sentence_case(task),
        "first": [_short(line) for line in first],
        "folded": [{**part, "lines": [_short(line) for line in part["lines"]]} for part in folded],
        "open": [_short(line) for line in _open(table)],
        "missing": _missing(context, task),
    }


def _short(line: str) -> str:
    """Return a sentence without its head's name, which the heading gives."""
    return f"By {line.split(' by ', 1)[-1]}" if " by " in line.split(":")[0] else line


def _open(table: pd.DataFrame) -> list[str]:
    """Return, for every axis whose headline gap is not shown, the sentence that says what would have been found."""
    gaps = table[(table["kind"] == "gap") & ~table["finding"].astype(bool)]
    lines = []
    for by in dict.fromkeys(gaps["by"]):
        for metric in HEADLINES[:2]:
            mine = gaps[(gaps["by"] == by) & (gaps["metric"] == metric)]
            if len(mine):
                lines.append(str(mine["sentence"].iloc[0]))
                break
    return lines


def _missing(context: Context, task: str) -> list[str]:
    """Return who was not assessed on which axis, by the headline gap's own rule."""
    gaps = context.result.gaps
    lines = []
    for by in context.axes:
        mine = gaps[(gaps["task"] == task) & (gaps["by"] == by) & gaps["metric"].isin(HEADLINES[:2])]
        mine = mine[mine["difference"].notna() | mine["not_assessed"].ne("")]
        names = [name for name in str(mine["not_assessed"].iloc[0]).split("; ") if name] if len(mine) else []
        if names:
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            lines.append(f"{axis_label(by)}: {', '.join(names[:12])}{more}")
    return lines


def _families(table: pd.DataFrame) -> Table:
    rows = []
    for family, part in table.groupby("family", sort=False):
        shown = int(part["finding"].astype(bool).sum())
        rows.append(_family_row(str(family), float(part["family_size"].iloc[0]), shown))
    caption = "Families: tests that are judged together, each distinct contrast once"
    return Table(
        caption=caption, first="family", columns=["tests", "findings"], rows=sorted(rows, key=lambda r: r.head)
    )


def _family_row(family: str, size: float, shown: int) -> Row:
    cells: Sequence[Entry] = [Entry(count(size), css="num"), Entry(count(shown), css="num")]
    return Row(sentence_case(family), cells)
