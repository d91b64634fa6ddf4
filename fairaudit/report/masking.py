"""The page on masking: which region of the face is needed, by whom, in words, then subgroup by subgroup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairaudit.masking.words import MISLEADS, NEEDED
from fairaudit.report.context import FOLD
from fairaudit.report.legal import legal_notice
from fairaudit.report.page import record_pages, write_page
from fairaudit.report.robustness import p_value
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import DASH, axis_label, count, difference, figure, is_number, number, sentence_case
from fairaudit.results import Masking
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

_DARKEST = 10  # of 20 shades: text in the page's own ink stays readable on all of them, in light and dark
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One subgroup and region: the change with each fill, what the fills say together, and the CSS of its shade."""

    text: str
    sub: str
    css: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One head on one axis: a row a subgroup, a column a region; tables with every fill are folded below."""

    title: str
    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, bool, Sequence[Cell]]]
    folded: bool
    tables: Sequence[tuple[str, Table]]


def write_masking_report(found: Masking, out: Path, *, links: Mapping[str, str] | None = None) -> Path:
    """Write `out`/index.html and return it; `links` gives names and addresses of pages to lead to."""
    rows = _records(found.table)
    tests = _records(found.tests)
    legal = legal_notice(list(found.meta["tasks"]), found.meta)
    warnings = list(found.meta.get("warnings", ()))
    sections = [Section(key="answer", title="Which region is needed", template="sections/masking_answer.html",
                        data=_answer(found))]  # fmt: skip
    if legal or warnings:
        data = {"warnings": warnings, "folded": [], "legal": legal}
        sections.append(Section(key="warnings", title="Read this first", template="sections/warnings.html", data=data))
    for place, task in enumerate(found.meta["tasks"]):
        grids = [_grid(found, rows, tests, task, by) for by in (OVERALL, *found.meta["subgroups"])]
        sections.append(
            Section(key=f"head-{place}", title=sentence_case(task), template="sections/masking_head.html",
                    data={"grids": grids, "fills": list(dict.fromkeys(found.table["fill"]))})
        )  # fmt: skip
    level = number(found.meta["confidence"]).removesuffix(".0")
    method = {"meta": found.meta, "level": level, "table": _regions(found), "axes": _axes_said(found)}
    sections.append(Section(key="method", title="What was done", template="sections/masking_method.html", data=method))
    title = f"Masking: {found.meta.get('name') or 'model'}"
    page = write_page("masking.html", out / "index.html", title=title, meta=found.meta, sections=sections,
                      links=dict(links or {}))  # fmt: skip
    record_pages(out, ["index.html"], Masking.MARKER)
    return page


def masking_headline(found: Masking) -> list[str]:
    """Return what was found of all faces, region by region, then of who needs a region more than everyone else."""
    whole = found.table[(found.table["by"] == OVERALL) & (found.table["sentence"] != "")]
    whole = whole.sort_values("drop", ascending=False, kind="stable")
    shown = found.tests[found.tests["sentence"] != ""].sort_values("p_adjusted", kind="stable")
    lines = [str(text) for text in whole["sentence"]]
    if not lines:
        lines = ["No region is shown to be needed: with none of them hidden does accuracy fall with every fill."]
    apart = found.table[(found.table["by"] != OVERALL) & (found.table["reading"] == MISLEADS)]
    lines += [str(text) for text in apart["sentence"] if text]
    lines += [str(text) for text in shown["sentence"]]
    if shown.empty:
        pairs = len(found.tests) // max(1, len(found.meta["fills"]))
        lines.append(
            f"No subgroup is shown to need a region more than everyone else, in {plural(pairs, 'comparison')}. That is "
            "no proof that all need the same."
        )
    return lines


def _records(table: Any) -> Records:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _answer(found: Masking) -> dict[str, Any]:
    fills = {fill: found.meta["fills"][fill] for fill in dict.fromkeys(found.table["fill"])}
    return {"lines": masking_headline(found), "sampled": found.meta["sampled"], "fills": fills}


def _axes_said(found: Masking) -> list[str]:
    return [f"{sentence_case(entry['reason'])}" for entry in found.meta["degenerate"]]


def _grid(found: Masking, rows: Records, tests: Records, task: str, by: str) -> Grid:
    own = [r for r in rows if r["task"] == task and r["by"] == by]
    more = {(r["subgroup"], r["region"]) for r in tests if r["task"] == task and r["by"] == by and r["finding"]}
    regions = list(dict.fromkeys(found.table["region"]))
    every = [abs(r["drop"]) for r in rows if r["task"] == task and is_number(r["drop"]) and not r["small"]]
    largest = max([*every, 0.01])
    lines = []
    for group in dict.fromkeys(r["subgroup"] for r in own):
        cells = [
            _cell(
                [r for r in own if r["subgroup"] == group and r["region"] == region], largest, (group, region) in more
            )
            for region in regions
        ]
        first = next(r for r in own if r["subgroup"] == group)
        lines.append(("all faces" if by == OVERALL else str(group), count(first["n"]), bool(first["small"]), cells))
    tables = [("Every fill, with intervals", _fill_table(own, by))]
    if by != OVERALL:
        tables.append(("Does a subgroup need a region more than everyone else? Every comparison",
                       _test_table([r for r in tests if r["task"] == task and r["by"] == by], by)))  # fmt: skip
    return Grid(
        title="All faces" if by == OVERALL else f"By {axis_label(by)}",
        caption=f"{sentence_case(task)}, {axis_label(by)}: change of accuracy, in points, with a region hidden",
        columns=[(region, f"{100 * found.meta['regions'][region]:.0f} %") for region in regions],
        rows=lines,
        folded=len(lines) > FOLD,
        tables=[(name, table) for name, table in tables if table.rows],
    )  # fmt: skip


def _cell(fills: Records, largest: float, more: bool) -> Cell:
    drops = [r["drop"] for r in fills if is_number(r["drop"])]
    if not drops:
        return Cell(text=DASH, sub="", css="none")
    agree = all(drop > 0 for drop in drops) or all(drop < 0 for drop in drops)
    least = min(drops, key=abs) if agree else 0.0
    reading = fills[0]["reading"]
    shade = round(_DARKEST * min(abs(least) / largest, 1.0))
    css = f"s{shade} {'above' if least < 0 else 'below'}"
    texts = [number(-drop, signed=True) for drop in drops]
    single = any(r["drop_low"] > 0 or r["drop_high"] < 0 for r in fills)
    sub = {NEEDED: "needed", MISLEADS: "misleads"}.get(reading, "fills disagree" if single else "")
    sub = "needed more" if more else sub
    return Cell(text=" / ".join(texts), sub=sub, css=css + (" hit" if more or reading else ""))


def _fill_table(own: Records, by: str) -> Table:
    notes, rows = Notes(), []
    for r in own:
        entries = [
            Entry(r["region"]),
            Entry(r["fill"]),
            Entry(figure(r["clean"]), css="num"),
            Entry(figure(r["value"], r["low"], r["high"]), css="num"),
            Entry(difference(-r["drop"], -r["drop_high"], -r["drop_low"]), notes.number(r["reason"]), "num"),
            Entry(f"{count(r['lost'])} / {count(r['gained'])}", css="num"),
            Entry(count(r["n"]), css="num"),
            Entry(r["reading"], css="found" if r["reading"] else ""),
        ]
        rows.append(Row("all faces" if by == OVERALL else str(r["subgroup"]), entries, small=bool(r["small"])))
    return Table(
        caption="Right answers, and their change on the same faces; its interval holds for all rows of a fill at once",
        first=axis_label(by), columns=["region hidden", "fill", "whole", "hidden", "change", "lost / gained", "n", ""],
        rows=rows, notes=notes.texts,
    )  # fmt: skip


def _test_table(tests: Records, by: str) -> Table:
    notes, rows = Notes(), []
    for r in tests:
        entries = [
            Entry(r["region"]),
            Entry(r["fill"]),
            Entry(difference(r["difference"], r["low"], r["high"]), notes.number(r["reason"]), "num"),
            Entry(p_value(r["p_adjusted"]), css="num"),
            Entry(f"{count(r['n'])} / {count(r['n_rest'])}", css="num"),
            Entry("needed more" if r["finding"] else "not shown", css="found" if r["finding"] else ""),
        ]
        rows.append(Row(str(r["subgroup"]), entries))
    matched = any(r["matched"] for r in tests)
    what = "loses more, at the same labels" if matched else "loses more"
    return Table(
        caption="Drop beyond that of everyone else; the p-value is of all fills together", first=axis_label(by),
        columns=["region hidden", "fill", what, "p adjusted", "n / everyone else", ""], rows=rows, notes=notes.texts,
    )  # fmt: skip


def _regions(found: Masking) -> Table:
    areas = found.meta["regions"]
    rows = [
        Row(region, [Entry(f"{100 * areas[region]:.1f} %", css="num")])
        for region in dict.fromkeys(found.table["region"])
    ]
    return Table(caption="How much of the picture is hidden", first="region", columns=["share"], rows=rows)
