"""What the headline gaps could be if labels are wrong."""

from collections.abc import Sequence
from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    interval,
    is_number,
    metric_label,
    number,
    sentence_case,
)

Records = Sequence[Any]


def label_noise_data(context: Context) -> dict[str, Any] | None:
    """Return what "If labels are wrong" prints, None where no gap has labels."""
    records: Records = context.result.table("label_noise").to_dict("records")
    gaps = [r for r in records if not r["subgroup"]]
    bounds = [r for r in gaps if r["method"] == "bound"]
    inverted = [r for r in gaps if r["method"] != "bound" and r["metric"] in ("accuracy", "recall")]
    if not bounds and not inverted:
        return None
    parts = [
        ("accuracy", [r for r in inverted if r["metric"] == "accuracy"]),
        ("recall of each class", [r for r in inverted if r["metric"] == "recall" and is_number(r["observed"])]),
    ]
    settings = context.result.meta.get("settings", {}).get("audit", {}).get("label_noise", {})
    stated = any(settings.get(name) not in (None, {}) for name in ("rate", "subgroups", "classes"))
    return {
        "bounds": _bound_table(bounds, stated) if bounds else None,
        "inverted": [_inverted_table(of, part) for of, part in parts if part],
        "stated": stated,
    }


def _bound_table(bounds: Records, stated: bool) -> Table:
    grid = [] if stated else list(dict.fromkeys(r["error_rate"] for r in bounds))
    places: dict[tuple[str, str], list[Any]] = {}
    for r in bounds:
        places.setdefault((r["task"], r["by"]), []).append(r)
    notes = Notes()
    rows = []
    for (task, by), own in places.items():
        first = own[0]
        note = notes.number(sentence_case(first["reason"]))
        breakdown = f"{number(first['breakdown'])}\u00a0%" if is_number(first["breakdown"]) else DASH
        entries = [
            Entry(metric_label(first["metric"], first["class"])),
            Entry(
                difference(first["observed"], first["observed_low"], first["observed_high"], signed=False), css="num"
            ),
            Entry(breakdown, note, "num"),
            *(Entry(interval(r["low"], r["high"]), css="num") for r in own),
            Entry(count(first["n"]), css="num"),
        ]
        rows.append(Row(f"{task} by {axis_label(by)}", entries))
    ranges = [f"{number(e).removesuffix('.0')}\u00a0% wrong" for e in grid] or ["at the stated rates"]
    return Table(
        caption="What the headline gap could be on true labels, in points, sampling error included",
        first="head, axis",
        columns=["measure", "gap (interval)", "could be none from", *ranges, "faces"],
        rows=rows,
        notes=notes.texts,
    )


def _inverted_table(of: str, inverted: Records) -> Table:
    notes = Notes()
    rows = []
    for r in inverted:
        observed = difference(r["observed"], r["observed_low"], r["observed_high"], signed=False)
        corrected = difference(r["corrected"], r["low"], r["high"], signed=False)
        rate = f"{number(r['error_rate'])}\u00a0%" if is_number(r["error_rate"]) else "varies"
        entries = [
            Entry(metric_label(r["metric"], r["class"])),
            Entry(r["method"], notes.number(sentence_case(r["reason"]))),
            Entry(rate, css="num"),
            Entry(observed, css="num"),
            Entry(corrected, css="num"),
            Entry(r["worst"], css="name"),
            Entry(r["best"], css="name"),
            Entry(count(r["n"]), css="num"),
        ]
        rows.append(Row(f"{r['task']} by {axis_label(r['by'])}", entries))
    return Table(
        caption=f"Gaps in {of}, corrected for errors that depend on nothing but the true label, or the true subgroup",
        first="head, axis",
        columns=["measure", "errors", "rate", "gap as labelled", "corrected gap", "worst", "best", "faces"],
        rows=rows,
        notes=notes.texts,
    )
