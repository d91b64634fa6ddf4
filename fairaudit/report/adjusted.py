"""Gaps as they are beside gaps at one common mix of covariates."""

from collections.abc import Sequence
from typing import Any

from fairaudit.covariates import LABEL_MIX, MEDIATOR, POOLED
from fairaudit.report.context import FOLD, Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import (
    axis_label,
    count,
    difference,
    figure,
    is_number,
    listing,
    metric_label,
    sentence_case,
)
from fairaudit.wording import plural

Records = Sequence[Any]


def adjusted_data(context: Context) -> dict[str, Any] | None:
    """Return what "Adjusted gaps" prints, None where no covariate was named."""
    records: Records = context.result.table("adjusted").to_dict("records")
    if not records:
        return None
    heads = []
    for task in context.tasks:
        own = [r for r in records if r["task"] == task]
        gaps = [r for r in own if not r["subgroup"] and not _one_group(context, r)]
        first = [r for by in context.axes for r in _headline_gaps(context, task, by, gaps)]
        others = [r for r in gaps if r["metric"] in ("recall", "selection_rate") and r not in first]
        heads.append(
            {
                "title": sentence_case(task),
                "gaps": _gap_table(f"{sentence_case(task)}: gap as it is, and at the common mix", first),
                "others": _gap_table(f"{sentence_case(task)}: the same for each class", others),
                "groups": [t for by in context.axes if (t := _group_table(context, task, by, own)) is not None],
            }
        )
    target = next((r["target"] for r in records if r["target"]), POOLED)
    names = dict.fromkeys(part for r in records for part in r["covariates"].split("; ") if part)
    return {
        "covariates": listing(["the head’s own labels" if name == LABEL_MIX else name for name in names]),
        "target": "of all faces of known subgroup" if target == POOLED else f"of the faces with {target}",
        "line": _line([r for r in records if not r["subgroup"] and r["metric"] == "accuracy"]),
        "mediator": MEDIATOR,
        "heads": heads,
    }


def _headline(context: Context, task: str, by: str) -> str:
    return "recall" if (task, by) in context.degenerate else "accuracy"


def _one_group(context: Context, r: Any) -> bool:
    """Tell whether a gap cannot exist because one subgroup alone holds the class: the axis is made of the label."""
    degenerate = (r["task"], r["by"]) in context.degenerate
    return degenerate and not is_number(r["adjusted"]) and bool(r["metric"]) and r["assessed"] < 2


def _headline_gaps(context: Context, task: str, by: str, gaps: Records) -> list[Any]:
    """Return the gap in accuracy, or in the recall that is surest to differ, or why the axis has none."""
    here = [r for r in gaps if r["by"] == by and r["metric"] in ("", _headline(context, task, by))]
    return sorted(here, key=lambda r: -r["raw_low"] if is_number(r["raw_low"]) else 1.0)[:1]


def _line(gaps: Records) -> str:
    """Say how many gaps in accuracy are beyond noise as they are, and at the common mix."""
    compared = [r for r in gaps if is_number(r["adjusted"])]
    if not compared:
        return "No gap in accuracy could be adjusted; the tables say why."
    raw, after = (
        sum(is_number(r[f"{name}_low"]) and r[f"{name}_low"] > 0 for r in compared) for name in ("raw", "adjusted")
    )
    return (
        f"Of {plural(len(compared), 'gap')} in accuracy, {raw} {'is' if raw == 1 else 'are'} beyond noise as "
        f"{'it is' if raw == 1 else 'they are'}, {after} at the common mix."
    )


def _gap_table(caption: str, gaps: Records) -> Table | None:
    if not gaps:
        return None
    notes = Notes()
    rows = [Row(axis_label(r["by"]), _gap_entries(r, notes)) for r in gaps]
    columns = [
        "measure",
        "gap as it is",
        "adjusted gap",
        "by the model",
        "between",
        "change there",
        "mix shared",
        "faces",
    ]
    return Table(
        caption=f"{caption}; intervals hold for all pairs of subgroups of an axis at once",
        first="axis",
        columns=columns,
        rows=rows,
        notes=notes.texts,
    )


def _gap_entries(r: Any, notes: Notes) -> list[Entry]:
    texts = [
        difference(r[name], r[f"{name}_low"], r[f"{name}_high"], signed=False)
        for name in ("raw", "adjusted", "modelled")
    ]
    ends = f"{r['best']} and {r['worst']}" if r["best"] else ""
    share = f"{100 * r['overlap']:.0f}\u00a0%" if is_number(r["overlap"]) else ""
    return [
        Entry(metric_label(r["metric"], r["class"]) if r["metric"] else "", notes.number(sentence_case(r["reason"]))),
        *(Entry(text, css="num") for text in texts),
        Entry(ends, css="name"),
        Entry(difference(r["change"], r["change_low"], r["change_high"]), css="num"),
        Entry(share, css="num"),
        Entry(count(r["n"]), css="num"),
    ]


def _group_table(context: Context, task: str, by: str, records: Records) -> Table | None:
    metric = _headline(context, task, by)
    own = [r for r in records if r["by"] == by and r["metric"] == metric and r["subgroup"] and r["n"] > 0]
    if not own or len(context.axes[by]) > FOLD:
        return None
    notes = Notes()
    rows = []
    for r in own:
        texts = [figure(r[name], r[f"{name}_low"], r[f"{name}_high"]) for name in ("raw", "adjusted", "modelled")]
        entries = [Entry(count(r["n"]), css="num"), *(Entry(text, css="num") for text in texts)]
        entries[2] = Entry(texts[1], notes.number(sentence_case(r["reason"])), "num")
        entries.append(Entry(f"{100 * r['overlap']:.0f}\u00a0%", css="num"))
        if metric == "recall":
            entries.insert(0, Entry(r["class"]))
        rows.append(Row(r["subgroup"], entries, f"groups/{context.slugs[by, r['subgroup']]}.html"))
    columns = ["faces", "as it is", "at the common mix", "by the model", "mix held"]
    return Table(
        caption=f"{sentence_case(task)} by {axis_label(by)}: {metric_label(metric)}",
        first="labelled as",
        columns=["class", *columns] if metric == "recall" else columns,
        rows=rows,
        notes=notes.texts,
    )
