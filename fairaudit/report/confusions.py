"""What the report says of directed confusions, of classes that attract errors, and of pairs that are not told apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.confusion_tables import MIXED, OPEN
from fairaudit.report.context import Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    figure,
    interval,
    is_number,
    number,
    sentence_case,
)
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

Record = Mapping[str, Any]
MOST_FOUND, MOST_OPEN, MOST_PAIRS = 15, 5, 20


def confusions_data(context: Context) -> dict[str, Any] | None:
    """Return what "Directed confusions" prints, None without labels."""
    directed: list[Any] = context.result.table("directed").to_dict("records")
    attraction: list[Any] = context.result.table("attraction").to_dict("records")
    if not directed and not attraction:
        return None
    alpha = 1 - float(context.result.meta.get("confidence", 0.95))
    lines, tables = [], []
    for task in context.tasks:
        own = [r for r in directed if r["task"] == task and is_number(r["p_adjusted"]) and r["difference"] > 0]
        found = sorted((r for r in own if r["p_adjusted"] <= alpha), key=lambda r: -r["difference"])
        if own:
            lines.append(_sentence(task, own, found))
        shown = found[:MOST_FOUND] or sorted(own, key=lambda r: r["p_value"])[:MOST_OPEN]
        if shown:
            tables.append(
                ("" if found else f"{sentence_case(task)}: the surest, none beyond noise", _directed(task, shown))
            )
    tables += _attraction(context, attraction)
    pairs: list[Any] = context.result.table("pairs").to_dict("records")
    more, said = _pairs(context, pairs)
    key = (
        "Excess: the share of a subgroup’s faces so labelled that are predicted so, minus everyone else’s. Adjusted p: "
        "subgroups reshuffled within the label, step-down over all directed confusions of the head. All stand in "
        "directed.csv, the others in attraction.csv and pairs.csv. Intervals hold each for itself; a reading is by "
        "limits that hold for all rows of the head’s table at once."
    )
    return {"lines": [*lines, *said], "tables": [*tables, *more], "remarks": [key]}


def _sentence(task: str, own: Sequence[Record], found: Sequence[Record]) -> str:
    family = plural(int(own[0]["family_size"]), "directed confusion")
    if not found:
        return f"{sentence_case(task)}: of {family} compared with everyone else, none is shown to be more frequent."
    first = found[0]
    who = f"faces labelled {first['true']} in {first['subgroup']} are predicted {first['predicted']}"
    size = difference(first["difference"], first["difference_low"], first["difference_high"], signed=False)
    return (
        f"{sentence_case(task)}: {plural(len(found), 'directed confusion')} of {family} compared "
        f"{'is' if len(found) == 1 else 'are'} shown to be more frequent than in everyone else. The largest: {who} "
        f"{size} more often (n\u00a0=\u00a0{count(first['n'])})."
    )


def _directed(task: str, records: Sequence[Record]) -> Table:
    rows = []
    for r in records:
        entries = [
            Entry(f"{r['subgroup']} ({axis_label(r['by'])})", css="name"),
            Entry(f"{count(r['count'])} of {count(r['n'])}", css="num"),
            Entry(figure(r["value"], r["low"], r["high"]), css="num"),
            Entry(f"{figure(r['rest'])} of {count(r['n_rest'])}", css="num"),
            Entry(difference(r["difference"], r["difference_low"], r["difference_high"]), css="num"),
            Entry(_p(r["p_adjusted"]), css="num"),
        ]
        rows.append(Row(f"{r['true']} → {r['predicted']}", entries))
    caption = f"{sentence_case(task)}: labels taken for another class more often in a subgroup than in everyone else"
    columns = ["in", "faces", "share", "everyone else", "excess", "adjusted p"]
    return Table(caption=caption, first="labelled → predicted", columns=columns, rows=rows)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _attraction(context: Context, records: Sequence[Record]) -> list[tuple[str, Table]]:
    tables = []
    for task in context.tasks:
        own = [r for r in records if r["task"] == task and r["by"] == OVERALL]
        if not own:
            continue
        notes, rows = Notes(), []
        for r in sorted(own, key=lambda r: -r["value"] if is_number(r["value"]) else 0):
            bounds = interval(r["low"], r["high"], "bins")
            text = number(r["value"], "bins") + (f" ({bounds})" if bounds else "")
            entries = [Entry(count(r["n"]), css="num"), Entry(count(r["n_predicted"]), css="num")]
            entries += [Entry(text, notes.number(r["reason"]), "num"), Entry(r.get("reading", ""), css="soft")]
            rows.append(Row(r["class"], entries))
        columns = ["labelled", "predicted", "predicted ÷ labelled", "reading"]
        caption = f"{sentence_case(task)}: which classes attract faces, all faces together"
        table = Table(caption=caption, first="class", columns=columns, rows=rows, notes=notes.texts)
        tables.append((caption, table))
    return tables


def _pairs(context: Context, records: Sequence[Record]) -> tuple[list[tuple[str, Table]], list[str]]:
    """Return the pairs of classes that are not shown to be told apart, and a sentence for each head."""
    tables, lines = [], []
    for task in context.tasks:
        judged = [r for r in records if r["task"] == task and r["reading"]]
        bad = [r for r in judged if r["reading"] in (OPEN, MIXED)]
        if not judged:
            continue
        if not bad:
            lines.append(
                f"{sentence_case(task)}: every two classes with enough faces are told apart, in every subgroup."
            )
            continue
        rows = []
        for r in sorted(bad, key=lambda r: r["value"])[:MOST_PAIRS]:
            where = "all faces" if r["by"] == OVERALL else f"{r['subgroup']} ({axis_label(r['by'])})"
            entries = [
                Entry(where, css="name"),
                Entry(figure(r["value"], r["low"], r["high"]), css="num"),
                Entry(figure(r["confused"], r["confused_low"], r["confused_high"]), css="num"),
                Entry(f"{count(r['n_first'])} + {count(r['n_second'])}", css="num"),
                Entry(r["reading"] or DASH, css="soft"),
            ]
            rows.append(Row(f"{r['first']} / {r['second']}", entries))
        more = f", the first {MOST_PAIRS}" if len(bad) > MOST_PAIRS else ""
        caption = f"{sentence_case(task)}: {plural(len(bad), 'pair')} of classes not shown to be told apart{more}"
        columns = ["in", "mean of the two recalls (50 % is chance)", "confused", "n", "reading"]
        tables.append((caption, Table(caption=caption, first="pair", columns=columns, rows=rows)))
    return tables, lines
