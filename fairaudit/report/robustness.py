"""The page on robustness: whose accuracy falls as pictures get worse, in words, then curve by curve on one scale."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairaudit.report.context import FOLD
from fairaudit.report.legal import legal_notice
from fairaudit.report.page import record_pages, write_page
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    figure,
    is_number,
    listing,
    number,
    sentence_case,
)
from fairaudit.results import Robustness
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

WIDE, HIGH, EDGE = 132, 88, 14  # a small chart: its size and the room at its left and right, in SVG units
_LAST = 5
_ONE = re.compile(r"\b1 (stop)s\b")
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One small chart, its places computed: points (x, y, top and bottom of the interval), and the line of all faces.

    first and last: the share of right answers at both ends, in words; found: whether it is shown to lose more.
    """

    label: str
    points: Sequence[tuple[float, float, float, float]]
    line: str
    everyone: str
    first: str
    last: str
    found: bool


@dataclass(frozen=True, kw_only=True)
class Multiples:
    """The small charts of one head on one axis, a row a subgroup and a column a perturbation, on one scale."""

    title: str
    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, bool, Sequence[Curve]]]
    low: str
    high: str
    folded: bool
    tables: Sequence[tuple[str, Table]]


def write_robustness_report(found: Robustness, out: Path, *, links: Mapping[str, str] | None = None) -> Path:
    """Write `out`/index.html and return it; `links` gives names and addresses of pages to lead to."""
    records: dict[str, Records] = {
        name: [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
        for name, table in (("curves", found.curves), ("gaps", found.gaps), ("tests", found.tests))
    }
    sections = [
        Section(key="answer", title="Who loses more", template="sections/robustness_answer.html",
                data=_answer(found, records)),
        *_warnings(found),
        *(
            Section(key=f"head-{number}", title=sentence_case(task), template="sections/robustness_head.html",
                    data={"views": _views(found, records, task)})
            for number, task in enumerate(found.meta["tasks"])
        ),
        Section(key="method", title="What was done", template="sections/robustness_method.html", data=_method(found)),
    ]  # fmt: skip
    title = f"Robustness: {found.meta.get('name') or 'model'}"
    page = write_page("robustness.html", out / "index.html", title=title, meta=found.meta, sections=sections,
                      links=dict(links or {}))  # fmt: skip
    record_pages(out, ["index.html"], Robustness.MARKER)
    return page


def perturbations_of(found: Robustness) -> list[str]:
    """Return the perturbations in the order in which they were asked for."""
    return [name for name in dict.fromkeys(found.curves["perturbation"]) if name in found.meta["perturbations"]]


def headline(found: Robustness) -> list[str]:
    """Return what was found, surest first; where nothing was, that, and how much could have been missed."""
    tests = found.tests
    shown = tests[tests["finding"]].sort_values(["p_adjusted", "difference"], ascending=[True, False], kind="stable")
    if len(shown):
        whom = listing(list(dict.fromkeys(f"{row.subgroup} ({axis_label(str(row.by))})" for row in shown.itertuples())))
        first = (
            f"{len(shown):,} of {plural(len(tests), 'comparison')} show that a subgroup loses more than everyone else"
        )
        return [f"{first}: {whom}.", *map(str, shown["sentence"])]
    if tests.empty:
        return ["No axis has two subgroups of enough faces: nobody was compared with anybody."]
    missed = tests["detectable"].median()
    could = f"; an excess of {number(missed)} points (median over all comparisons)" if is_number(missed) else ""
    could += " would have been found four times in five" if could else ""
    return [
        f"No subgroup is shown to lose more than everyone else, in {plural(len(tests), 'comparison')}{could}. That is "
        "no proof that all lose alike."
    ]


def _answer(found: Robustness, records: Mapping[str, Records]) -> dict[str, Any]:
    ways = perturbations_of(found)
    rows = []
    for task in found.meta["tasks"]:
        own = {(r["perturbation"], r["strength"]): r for r in records["curves"]
               if r["task"] == task and r["by"] == OVERALL}  # fmt: skip
        clean = own["clean", 0]
        for way in ways:
            worst = own[way, _LAST]
            points = [clean, *(own[way, strength] for strength in (1, 3)), worst]
            entries = [
                Entry(_name(way)),
                *(Entry(figure(point["value"], point["low"], point["high"]), css="num") for point in points),
                Entry(difference(-worst["drop"], -worst["drop_high"], -worst["drop_low"]), css="num"),
            ]
            rows.append(Row(f"{sentence_case(task)}, n {count(worst['n'])}", entries))
    columns = ["perturbation", "as they are", "strength 1", "strength 3", "strength 5", "change to 5"]
    table = Table(caption="All faces together: share of right answers", first="head", columns=columns, rows=rows)
    return {"lines": headline(found), "found": bool(found.tests["finding"].any()), "table": table,
            "sampled": found.meta["sampled"]}  # fmt: skip


def _warnings(found: Robustness) -> list[Section]:
    legal = legal_notice(list(found.meta["tasks"]), found.meta)
    warnings = list(found.meta.get("warnings", ()))
    if not legal and not warnings:
        return []
    data = {"warnings": warnings, "folded": [], "legal": legal}
    return [Section(key="warnings", title="Read this first", template="sections/warnings.html", data=data)]


def _method(found: Robustness) -> dict[str, Any]:
    rows = [
        Row(_name(way), [Entry(given["stands_for"]), *(Entry(_amount(found, way, s), css="num") for s in range(1, 6))])
        for way in perturbations_of(found)
        for given in (found.meta["perturbations"][way],)
    ]
    table = Table(
        caption="The five strengths of each perturbation, the same for every face", first="perturbation",
        columns=["stands for", *map(str, range(1, 6))], rows=rows,
    )  # fmt: skip
    meta = found.meta
    return {"table": table, "meta": meta, "level": number(meta["confidence"]).removesuffix(".0")}


def _name(way: str) -> str:
    return {"jpeg": "JPEG", "low-contrast": "low contrast"}.get(way, way)


def _amount(found: Robustness, way: str, strength: int) -> str:
    given = found.meta["perturbations"][way]
    text: str = given["shown"].format(given["amounts"][strength - 1])
    return _ONE.sub(r"1 \1", text).replace("%", "\u00a0%")


def _span(first: str, last: str) -> str:
    """Return "0.5 … 5 % of the side" or "quality 50 … 4": what both amounts say alike stands once."""
    words, others = first.replace("\u00a0", " \u00a0").split(" "), last.replace("\u00a0", " \u00a0").split(" ")
    if len(words) != len(others):
        return f"{first} … {last}"
    apart = [i for i, pair in enumerate(zip(words, others, strict=True)) if pair[0] != pair[1]]
    if len(apart) != 1:
        return f"{first} … {last}"
    (i,) = apart
    return " ".join([*words[: i + 1], "…", *others[i:]]).replace(" \u00a0", "\u00a0")


def _views(found: Robustness, records: Mapping[str, Records], task: str) -> list[Multiples]:
    own = [r for r in records["curves"] if r["task"] == task]
    ends = [r[key] for r in own if not r["small"] for key in ("low", "high", "value") if is_number(r[key])]
    low = math.floor(10 * min(ends, default=0.0)) / 10
    high = max(math.ceil(10 * max(ends, default=1.0) - 1e-9) / 10, low + 0.1)
    return [
        _view(found, records, [r for r in own if r["by"] in (by, OVERALL)], (task, by), (low, high))
        for by in found.meta["subgroups"]
    ]


def _view(
    found: Robustness, records: Mapping[str, Records], own: Records, where: tuple[str, str], scale: tuple[float, float]
) -> Multiples:
    task, by = where
    ways = perturbations_of(found)
    points = {(r["by"], r["subgroup"], r["perturbation"], int(r["strength"])): r for r in own}
    shown = {(r["subgroup"], r["perturbation"]) for r in records["tests"]
             if (r["task"], r["by"]) == where and r["finding"]}  # fmt: skip
    rows = []
    for group in dict.fromkeys(r["subgroup"] for r in own if r["by"] == by):
        clean = points[by, group, "clean", 0]
        curves = [
            _curve(
                [clean, *(points[by, group, way, s] for s in range(1, 6))],
                [points[OVERALL, OVERALL, "clean", 0], *(points[OVERALL, OVERALL, way, s] for s in range(1, 6))],
                scale,
                f"{task}, {group}, {_name(way)}",
                found=(group, way) in shown,
            )
            for way in ways
        ]
        rows.append((str(group), count(clean["n"]), bool(clean["small"]), curves))
    columns = [(_name(way), _span(_amount(found, way, 1), _amount(found, way, _LAST))) for way in ways]
    title = f"By {axis_label(by)}"
    tables = [
        ("Does a subgroup lose more than everyone else? Every comparison", _test_table(records["tests"], where)),
        ("The gap at each strength", _gap_table(found, records["gaps"], where)),
        ("Every point of the curves", _point_table(found, own, where)),
    ]
    return Multiples(
        title=title, caption=f"{sentence_case(task)} by {axis_label(by)}: share of right answers against strength",
        columns=columns, rows=rows, low=f"{100 * scale[0]:.0f}", high=f"{100 * scale[1]:.0f}",
        folded=len(rows) > FOLD, tables=[(name, table) for name, table in tables if table.rows],
    )  # fmt: skip


def _curve(points: Records, everyone: Records, scale: tuple[float, float], name: str, *, found: bool) -> Curve:
    def y(value: float) -> float:
        share = (min(max(value, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0])
        return round(HIGH - 8 - share * (HIGH - 22), 1)

    xs = [round(EDGE + i * (WIDE - 2 * EDGE) / (len(points) - 1), 1) for i in range(len(points))]
    places = [
        (x, y(r["value"]), y(r["high"]), y(r["low"])) for x, r in zip(xs, points, strict=True) if is_number(r["value"])
    ]
    values = [number(r["value"]) for r in points]
    more = "; loses more than everyone else" if found else ""
    return Curve(
        label=f"{name}: {values[0]} % as they are, then {listing(values[1:])} %{more}",
        points=places,
        line=" ".join(f"{x:g},{at:g}" for x, at, _, _ in places),
        everyone=" ".join(f"{x:g},{y(r['value']):g}" for x, r in zip(xs, everyone, strict=True)),
        first=_whole(points[0]["value"]), last=_whole(points[-1]["value"]), found=found,
    )  # fmt: skip


def _whole(value: Any) -> str:
    return f"{100 * value:.0f}" if is_number(value) else DASH


def _test_table(tests: Records, where: tuple[str, str]) -> Table:
    notes, rows = Notes(), []
    for r in tests:
        if (r["task"], r["by"]) != where:
            continue
        entries = [
            Entry(_name(r["perturbation"])),
            Entry(number(r["clean"]), css="num"),
            Entry(number(r["rest_clean"]), css="num"),
            Entry(number(r["drop"]), css="num"),
            Entry(number(r["rest_drop"]), css="num"),
            Entry(difference(r["difference"], r["low"], r["high"]), notes.number(r["reason"]), "num"),
            Entry(p_value(r["p_adjusted"]), css="num"),
            Entry(number(r["detectable"]), css="num"),
            Entry(f"{count(r['n'])} / {count(r['n_rest'])}", css="num"),
            Entry("loses more" if r["finding"] else "not shown", css="found" if r["finding"] else ""),
        ]
        rows.append(Row(str(r["subgroup"]), entries))
    columns = [
        *("perturbation", "right as they are, %", "everyone else", "mean drop, points", "everyone else"),
        *("excess at the same labels", "p adjusted", "could be found", "n / everyone else", ""),
    ]
    matched = any(r["matched"] for r in tests if (r["task"], r["by"]) == where)
    columns[5] = columns[5] if matched else "excess"
    return Table(caption="Mean drop over the five strengths, against everyone else", first=axis_label(where[1]),
                 columns=columns, rows=rows, notes=notes.texts)  # fmt: skip


def p_value(value: Any) -> str:
    """Return an adjusted p-value as tables print it."""
    return DASH if not is_number(value) else "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0")


def _gap_table(found: Robustness, gaps: Records, where: tuple[str, str]) -> Table:
    notes, rows = Notes(), []
    own = {(r["perturbation"], int(r["strength"])): r for r in gaps if (r["task"], r["by"]) == where}
    for way in perturbations_of(found):
        cells = [own[way, s] for s in range(6)] if own else []
        if not cells:
            continue
        ends = f"{cells[0]['worst']} → {cells[-1]['worst']}" if cells[-1]["worst"] else DASH
        entries = [
            Entry(difference(r["difference"], r["low"], r["high"], signed=False), notes.number(r["reason"]), "num")
            for r in cells
        ]
        rows.append(Row(_name(way), [*entries, Entry(ends, css="name")]))
    left_out = {r["not_assessed"] for r in own.values()} - {""}
    without = f"; too few faces: {listing(sorted(left_out))}" if left_out else ""
    return Table(
        caption=f"Largest minus smallest accuracy; intervals hold for all pairs and the six points of a row{without}",
        first="perturbation", columns=["as they are", *map(str, range(1, 6)), "worst off, first → last"], rows=rows,
        notes=notes.texts,
    )  # fmt: skip


def _point_table(found: Robustness, own: Records, where: tuple[str, str]) -> Table:
    rows = []
    for r in own:
        if r["by"] != where[1]:
            continue
        drop = DASH if r["perturbation"] == "clean" else difference(-r["drop"], -r["drop_high"], -r["drop_low"])
        point = "as they are" if r["perturbation"] == "clean" else f"{_name(r['perturbation'])} {int(r['strength'])}"
        flips = DASH if r["perturbation"] == "clean" else f"{count(r['lost'])} / {count(r['gained'])}"
        entries = [
            Entry(point), Entry(figure(r["value"], r["low"], r["high"]), css="num"), Entry(drop, css="num"),
            Entry(flips, css="num"), Entry(count(r["n"]), css="num"),
        ]  # fmt: skip
        rows.append(Row(str(r["subgroup"]), entries, small=bool(r["small"])))
    return Table(
        caption="Share of right answers, and its change on the same faces (paired interval)",
        first=axis_label(where[1]), columns=["pictures", "right", "change", "lost / gained", "n"], rows=rows,
    )  # fmt: skip
