"""Two sections of a comparison's page: whose loss is excluded, and whose predictions changed at all."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from fairaudit.report.answer import ComparisonContext
from fairaudit.report.figures import Scale, strip
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import DASH, axis_label, count, difference, figure, sentence_case
from fairaudit.subgroups import OVERALL, parse


def harm_section(context: ComparisonContext) -> Section | None:
    """Show of every subgroup whether a loss of the margin is excluded, and how many faces would decide."""
    tables = [
        (folded(context, task, model, by), _table(rows, name, by))
        for (model, task, by), rows in _by_axis(context.comparison.non_inferiority).items()
        for name in (f"{sentence_case(task)}, {model}: {axis_label(by)}",)
    ]
    return _section("harm", "Is anybody harmed? Every subgroup’s loss", tables)


def churn_section(context: ComparisonContext) -> Section | None:
    """Show of every subgroup the share of faces whose predicted class changed, and in which direction."""
    tables = [
        (f"{sentence_case(task)}, {model}", _churn(rows, name, by))
        for (model, task, by), rows in _by_axis(context.comparison.churn).items()
        for name in (f"{sentence_case(task)}, {model}: {axis_label(by)}",)
    ]
    return _section("churn", "Whose predictions changed at all", tables)


def folded(context: ComparisonContext, task: str, model: str, by: str, *, long: bool = False) -> str:
    """Return the line under which a table is folded away, "" where it stands open: single axes of one model."""
    name = f"{sentence_case(task)}, {model}"
    if len(context.models) > 1:
        return name
    return f"{name}: {axis_label(by)}" if long or len(parse(by)) > 1 else ""


def joined(tables: Sequence[tuple[str, Table]]) -> list[tuple[str, list[Table]]]:
    """Return neighbouring tables of one fold together."""
    return [(fold, [table for _, table in own]) for fold, own in groupby(tables, key=lambda pair: pair[0])]


def _by_axis(table: Any) -> dict[tuple[str, str, str], list[Any]]:
    found: dict[tuple[str, str, str], list[Any]] = {}
    for row in table.to_dict("records"):
        found.setdefault((row["model"], row["task"], row["by"]), []).append(row)
    return found


def _section(key: str, title: str, tables: list[tuple[str, Table]]) -> Section | None:
    if not tables:
        return None
    return Section(key=key, title=title, template="sections/folds.html", data={"groups": joined(tables)})


def _table(rows: list[Any], caption: str, by: str) -> Table:
    notes = Notes()
    scale = Scale([r[key] for r in rows for key in ("delta", "low", "high")], zero=True)
    made = [
        Row(
            "all faces" if by == OVERALL else r["subgroup"],
            [
                Entry(count(r["n"]), css="num"),
                Entry(difference(r["delta"], r["low"], r["high"]), notes.number(r["reason"]), "num"),
                Entry(strip(scale, r["delta"], r["low"], r["high"], faint=bool(r["small"])), css="chart"),
                Entry(r["verdict"], css="found" if r["verdict"] == "harmed" else "soft"),
                Entry(count(r["n_needed"]), css="num"),
            ],
            small=bool(r["small"]),
        )
        for r in rows
    ]
    margin = difference(rows[0]["margin"], signed=False)
    columns = ["n", "change", scale.header(), f"a loss of {margin}", "faces needed"]
    caption += "; change of right predictions, bounds for all subgroups at once"
    return Table(caption=caption, first="subgroup", columns=columns, rows=made, notes=notes.texts)


def _churn(rows: list[Any], caption: str, by: str) -> Table:
    notes = Notes()
    made = [
        Row(
            "all faces" if by == OVERALL else r["subgroup"],
            [
                Entry(count(r["n"]), css="num"),
                Entry(count(r["changed"]), css="num"),
                Entry(figure(r["churn"], r["low"], r["high"]), css="num"),
                *(Entry(count(r[kind]), css="num") for kind in ("harmed", "helped", "still_wrong")),
                Entry(
                    figure(r["harmed_share"], r["harmed_low"], r["harmed_high"]) or DASH,
                    notes.number(r["reason"]),
                    "num",
                ),
            ],
            small=bool(r["small"]),
        )
        for r in rows
    ]
    kinds = ("right to wrong", "wrong to right", "wrong to wrong")
    return Table(
        caption=f"{caption}; faces whose predicted class changes",
        first="subgroup",
        columns=["n", "changed", "share", *kinds, "of the changed, right to wrong"],
        rows=made,
        notes=notes.texts,
    )
