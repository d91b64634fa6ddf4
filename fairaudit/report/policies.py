"""What was asked beforehand and what came of it; what was discovered and confirmed; figures of a stated population."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairaudit.report.context import FOLD, Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import (
    DASH,
    Kind,
    axis_label,
    count,
    difference,
    figure,
    is_number,
    metric_label,
    metric_words,
    number,
    sentence_case,
)
from fairaudit.wording import plural

Record = Mapping[str, Any]
_MARKS = {"pass": "✓ ", "supported": "✓ ", "fail": "▲ ", "contradicted": "▲ ", "inconclusive": "○ "}
_CSS = {"fail": "found", "contradicted": "found"}


def plan_data(context: Context) -> dict[str, Any] | None:
    """Return what "Plan and policies" prints, None where nothing was declared."""
    result = context.result
    judged: dict[str, Any] = {name: result.table(name).to_dict("records") for name in ("policies", "hypotheses")}
    plan = result.meta.get("plan")
    if not any(judged.values()) and not plan:
        return None
    settings = result.meta.get("settings", {}).get("audit", {}).get("plan", {})
    named = [
        f"{word} subgroup by {axis_label(by)}: {name}"
        for word in ("reference", "target")
        for by, name in settings.get(word, {}).items()
    ]
    return {
        "plan": plan,
        "named": named,
        "lines": _summary(judged["policies"]),
        "policies": _judged_table("Policies: limits declared for this audit", judged["policies"]),
        "hypotheses": _judged_table("Hypotheses of the plan", judged["hypotheses"]),
    }


def exploratory_data(context: Context) -> dict[str, Any] | None:
    """Return what "Discovered and confirmed" prints, None where no exploration was asked for."""
    asked = context.result.meta.get("settings", {}).get("audit", {}).get("exploratory")
    found: list[Any] = context.result.table("exploratory").to_dict("records")
    if not asked and not found:
        return None
    confirmed = [r for r in found if r["confirmed"]]
    others = [r for r in found if not r["confirmed"]]
    first = "Confirmed: a subgroup against everyone else, measured on the confirmation half"
    second = "Discovered, but not confirmed"
    return {
        "discovered": plural(len(found), "difference"),
        "confirmed": count(len(confirmed)),
        "tables": [
            (t, len(t.rows) > FOLD) for t in (_found_table(first, confirmed), _found_table(second, others)) if t
        ],
    }


def population_data(context: Context) -> dict[str, Any] | None:
    """Return what "In the stated population" prints, None where no population was stated."""
    records: list[Any] = context.result.table("population").to_dict("records")
    if not records:
        return None
    views = []
    for by in dict.fromkeys(r["by"] for r in records):
        own = [r for r in records if r["by"] == by and is_number(r["value"])]
        shown = [r for r in own if not r["class"] and r["metric"] in context.shown(r["task"])]
        caption = f"All faces, as they came and re-weighted to the stated shares by {axis_label(by)}"
        views.append((_population_table(caption, shown), False))
        views.append((_population_table(f"{caption}: recall of each class", _recalls(own)), True))
    stated = context.result.meta.get("settings", {}).get("audit", {}).get("population", {})
    shares = [
        f"{axis_label(by)}: " + ", ".join(f"{name} {number(share)} %" for name, share in cells.items())
        for by, cells in stated.items()
    ]
    return {"views": [view for view in views if view[0].rows], "shares": shares}


def _recalls(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r["metric"] == "recall"]


def _summary(policies: Sequence[Record]) -> list[str]:
    counted = {v: [r for r in policies if r["verdict"] == v] for v in ("fail", "inconclusive", "pass")}
    total = sum(map(len, counted.values()))
    if not total:
        return []
    words = {"fail": "failed", "inconclusive": "stayed inconclusive", "pass": "passed"}
    said = ", ".join(f"{len(rows)} {words[verdict]}" for verdict, rows in counted.items() if rows)
    return [f"Of {plural(total, 'policy', 'policies')}, {said}."]


def _judged_table(caption: str, records: Sequence[Record]) -> Table | None:
    if not records:
        return None
    notes = Notes()
    columns = ["head", "verdict", "value (interval)", "confidence", "subgroups", "smallest, faces", "would decide"]
    rows = [Row(str(r["policy"]), _judged_entries(r, notes)) for r in records]
    return Table(caption=caption, first="what was asked", columns=columns, rows=rows, notes=notes.texts)


def _judged_entries(record: Record, notes: Notes) -> list[Entry]:
    class_ = f", {record['class']}" if record["class"] else ""
    missing = f"Not assessed: {record['not_assessed']}." if record["not_assessed"] else ""
    why = f"{sentence_case(record['reason'])}." if record["reason"] else ""
    verdict = str(record["verdict"])
    confidence = f"{100 * record['confidence']:.4g}\u00a0%" if is_number(record["confidence"]) else DASH
    return [
        Entry(f"{record['task']}{class_}"),
        Entry(
            _MARKS.get(verdict, "– ") + verdict,
            notes.number(" ".join(filter(None, [missing, why]))),
            _CSS.get(verdict, ""),
        ),
        Entry(_measured(record), css="num"),
        Entry(confidence, css="num"),
        Entry(count(record["assessed"] or None), css="num"),
        Entry(count(record["n_smallest"]), css="num"),
        Entry(count(record["n_needed"]), css="num"),
    ]


def _measured(record: Record) -> str:
    kind: Kind = metric_words(record["metric"]).kind
    bounds = (record["value"], record["low"], record["high"])
    if record["measure"] == "ratio":
        return figure(*bounds, "plain")
    if record["measure"] in ("difference", "contrast"):
        return difference(*bounds, kind, signed=record["measure"] == "contrast")
    return figure(*bounds, kind)


def _found_table(caption: str, records: Sequence[Record]) -> Table | None:
    if not records:
        return None
    notes = Notes()
    rows = [
        Row(
            f"{r['task']} by {axis_label(r['by'])}: {r['subgroup']}",
            [
                Entry(metric_label(r["metric"], r["class"]), notes.number(r["reason"])),
                Entry(difference(r["discovered"]), css="num"),
                Entry(difference(r["difference"], r["low"], r["high"]), css="num"),
                Entry(f"{r['p_adjusted']:.2g}" if is_number(r["p_adjusted"]) else DASH, css="num"),
                Entry(count(r["n"]), css="num"),
                Entry(count(r["n_rest"]), css="num"),
            ],
        )
        for r in records
    ]
    columns = ["measure", "discovered", "on the other half (interval)", "adjusted p", "n", "n of the rest"]
    return Table(caption=caption, first="labelled as", columns=columns, rows=rows, notes=notes.texts)


def _population_table(caption: str, records: Sequence[Record]) -> Table:
    notes = Notes()
    rows = []
    for r in records:
        kind = metric_words(r["metric"]).kind
        texts = [figure(r["unweighted"], r["unweighted_low"], r["unweighted_high"], kind)]
        texts += [figure(r["value"], r["low"], r["high"], kind), count(r["n"]), count(np.round(r["n_effective"]))]
        texts.append(f"{number(r['covered'])}\u00a0%")
        entries = [Entry(text, css="num") for text in texts]
        entries[1] = Entry(texts[1], notes.number(sentence_case(r["reason"])), "num")
        rows.append(Row(f"{r['task']}: {metric_label(r['metric'], r['class'])}", entries))
    columns = ["faces as they came", "in the population", "faces", "effective", "covered"]
    return Table(caption=caption, first="measure", columns=columns, rows=rows, notes=notes.texts)
