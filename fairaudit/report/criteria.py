"""What the report says of fairness criteria, of the spread over subgroups, and Gender Shades' table."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.criteria import NO_LABELS
from fairaudit.report.context import Context
from fairaudit.report.tables import Entry, Notes, Row, Table, entry
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    interval,
    is_number,
    listing,
    metric_label,
    metric_words,
    number,
    sentence_case,
)
from fairaudit.subgroups import parse

Record = Mapping[str, Any]
CRITERIA = {
    "demographic_parity": "demographic parity",
    "equal_opportunity": "equal opportunity",
    "equalized_odds": "equalized odds",
    "predictive_parity": "predictive parity",
    "accuracy_equality": "overall accuracy equality",
    "base_rates": "base rates (the premise)",
    "calibration": "calibration within groups",
}
SHADES = ("race", "ethnicity", "skin_tone", "skin_type", "fitzpatrick", "fst")
BINARY = ("gender", "sex")
_TABLE = ("recall", "precision", "fpr")


def criteria_data(context: Context) -> dict[str, Any] | None:
    """Return what "Fairness criteria" prints, None where no axis was compared."""
    records: list[Any] = context.result.table("criteria").to_dict("records")
    worst = [r for r in records if not r["class"] and (is_number(r["difference"]) or _could_be(context, r))]
    if not worst:
        return None
    tables = []
    for task in dict.fromkeys(r["task"] for r in worst):
        own = [r for r in worst if r["task"] == task]
        single = [r for r in own if len(parse(r["by"])) == 1]
        crossed = [r for r in own if len(parse(r["by"])) > 1]
        caption = f"{sentence_case(task)}: largest difference and smallest ratio between subgroups, at the worst class"
        tables += [("", _criteria_table(caption, single))] if single else []
        folded = f"{sentence_case(task)}: the criteria over intersections"
        tables += [(folded, _criteria_table(caption, crossed))] if crossed else []
    return {"lines": [_premise(context, worst)], "tables": tables, "remarks": [_CRITERIA_KEY]}


_CRITERIA_KEY = (
    "Demographic parity: equal shares predicted as a class. Equal opportunity: equal recall. Equalized odds: equal "
    "recall and equal false positive rate (the larger difference, the smaller ratio). Predictive parity: "
    "equal precision. “Of”, “between” and n are those of the difference. "
    "Intervals hold for all pairs of subgroups, both rates and all classes at once; criteria.csv has each class. Where "
    "the subgroup determines the label only equal opportunity means something, across the rest of the axis."
)


def _could_be(context: Context, record: Record) -> bool:
    """Tell whether an undefined criterion is worth a line: not where it can mean nothing, or where labels lack."""
    return (record["task"], record["by"]) not in context.degenerate and record["reason"] != NO_LABELS


def _premise(context: Context, worst: Sequence[Record]) -> str:
    rates = [r for r in worst if r["criterion"] == "base_rates" and is_number(r["difference"])]
    differ = [f"{r['task']} by {axis_label(r['by'])}" for r in rates if r["difference_low"] > 0]
    start = (
        "Demographic parity, equalized odds and predictive parity cannot all hold where the shares of labels differ "
        "between subgroups, unless every prediction is right"
    )
    if not rates:
        return start + "."
    if not differ:
        return f"{start}; here no difference of these shares is shown."
    return f"{start}; here they do differ for {listing(differ)}. Which criterion matters is a choice, not a finding."


def _criteria_table(caption: str, records: Sequence[Record]) -> Table:
    notes, rows = Notes(), []
    for r in records:
        defined = is_number(r["difference"])
        kind = metric_words(r["metric"]).kind if r["metric"] else "percent"
        size = difference(r["difference"], r["difference_low"], r["difference_high"], kind, signed=False)
        bounds = interval(r["ratio_low"], r["ratio_high"], "bins")
        ratio = number(r["ratio"], "bins") + (f" ({bounds})" if bounds else "")
        shown = r["criterion"] != "base_rates" and defined and r["difference_low"] > 0
        said = "difference shown" if shown else "none shown" if defined else "not assessed"
        entries = [
            Entry(axis_label(r["by"])),
            Entry(size, 0 if defined else notes.number(r["reason"]), "num"),
            Entry(ratio, 0 if is_number(r["ratio"]) or not defined else notes.number(r["reason"]), "num"),
            Entry(metric_label(r["metric"], r["at_class"]) if defined else DASH),
            Entry(f"{r['worst']} – {r['best']}" if r["worst"] else DASH, css="name"),
            Entry(count(r["n"]), css="num"),
            Entry("" if r["criterion"] == "base_rates" else said, css="found" if shown else "soft"),
        ]
        rows.append(Row(sentence_case(CRITERIA[r["criterion"]]), entries))
    columns = ["axis", "difference", "ratio", "of", "between", "n", "reading"]
    return Table(caption=caption, first="criterion", columns=columns, rows=rows, notes=notes.texts)


def spread_data(context: Context) -> dict[str, Any] | None:
    """Return what "Spread over subgroups" prints: FairFace's row, Gini, error ratio; None where there is none."""
    records: list[Any] = context.result.table("summary").to_dict("records")
    whole = [r for r in records if not r["class"] and r["groups"] > 1]
    if not whole:
        return None
    tables = []
    for task in dict.fromkeys(r["task"] for r in whole):
        own: dict[tuple[str, str], dict[str, Record]] = {}
        for r in whole:
            if r["task"] == task:
                own.setdefault((r["by"], r["metric"]), {})[r["statistic"]] = r
        notes = Notes()
        rows = [_spread_row(by, metric, found, notes) for (by, metric), found in own.items()]
        columns = ["of", "groups", "n", "mean", "max", "min", "STDV", "ε", "Gini of errors", "errors max/min"]
        caption = (
            f"{sentence_case(task)}: the spread over the assessed subgroups of each axis; in brackets the limits, "
        )
        caption += "after “noise:” what the same sizes give without any disparity (median of reshuffled subgroups)"
        tables.append(("", Table(caption=caption, first="axis", columns=columns, rows=rows, notes=notes.texts)))
    line = (
        "One number for many subgroups. All of these but the mean grow by noise alone, the more so the more and the "
        "smaller the subgroups are: read each against what noise gives."
    )
    key = (
        "Mean, max, min, STDV (ddof 0) and ε, the largest log-ratio of two subgroups: FairFace’s row. Gini coefficient "
        "of the error rates and ratio of the largest to the smallest error: after NIST IR 8429. Limits follow from "
        "simultaneous limits of the subgroups’ rates. Recall of each class: summary.csv."
    )
    return {"lines": [line], "tables": tables, "remarks": [key]}


def _spread_row(by: str, metric: str, found: Mapping[str, Record], notes: Notes) -> Row:
    first = next(iter(found.values()))
    entries = [Entry(metric_words(metric).label), Entry(count(first["groups"]), css="num")]
    entries.append(Entry(count(first["n"]), css="num"))
    for name in ("mean", "max", "min", "std"):
        r = found[name]
        bounds = interval(r["low"], r["high"])
        text = number(r["value"]) + (f" ({bounds})" if bounds else "")
        noise = f"; noise: {number(r['expected'])}" if name == "std" and is_number(r["expected"]) else ""
        entries.append(Entry(text + noise, css="num"))
    for name in ("epsilon", "gini", "error_ratio"):
        r = found[name]
        bounds = interval(r["low"], r["high"], "bins")
        text = number(r["value"], "bins") + (f" ({bounds})" if bounds else "")
        noise = f"; noise: {number(r['expected'], 'bins')}" if is_number(r["expected"]) else ""
        entries.append(Entry(text + noise, notes.number(r["reason"]), "num"))
    return Row(axis_label(by), entries)


def shades_data(context: Context) -> dict[str, Any] | None:
    """Return Gender Shades' table: recall of each gender apart, PPV and FPR, by race; None without such axes."""
    tables, lines = [], []
    for task, classes in context.tasks.items():
        axes = [by for by in context.axes if by in SHADES and (task, by) not in context.degenerate]
        if task not in BINARY or len(classes) > 3:
            continue
        for by in axes:
            if not any(("recall", classes[0]) in context.figures.get((task, by, g), {}) for g in context.axes[by]):
                continue
            tables.append(("", _shades_table(context, task, by, classes)))
            gaps = {gap.class_: gap for gap in context.gaps.get((task, by), ()) if gap.metric == "recall"}
            for class_ in classes:
                gap = gaps.get(class_)
                if gap and is_number(gap.difference):
                    size = difference(gap.difference, gap.low, gap.high, signed=False)
                    ends = f", lowest for {gap.worst}, highest for {gap.best}" if gap.worst else ""
                    lines.append(f"Recall of {class_} across {axis_label(by)}: gap {size}{ends}.")
    if not tables:
        return None
    key = (
        "Recall of a class is the share of the faces so labelled that are predicted so; 100 − recall is Gender Shades’ "
    )
    key += "error rate. PPV: precision. After Buolamwini & Gebru (2018)."
    return {"lines": lines, "tables": tables, "remarks": [key]}


def _shades_table(context: Context, task: str, by: str, classes: Sequence[str]) -> Table:
    notes, rows = Notes(), []
    short = {"recall": "recall", "precision": "PPV", "fpr": "FPR"}
    for group in context.axes[by]:
        entries = []
        for metric in _TABLE:
            for class_ in classes:
                cell = context.cell(task, by, group, metric, class_)
                shown = entry(cell, metric, notes)
                n = f"; n\u00a0=\u00a0{count(cell.n)}" if metric == "recall" and is_number(cell.value) else ""
                entries.append(Entry(shown.text + n, shown.note, "num"))
        small = context.cell(task, by, group, "accuracy").small
        rows.append(Row(group, entries, f"groups/{context.slugs[by, group]}.html", small))
    columns = [f"{short[metric]} {class_}" for metric in _TABLE for class_ in classes]
    caption = f"{sentence_case(task)} by {axis_label(by)}: each class apart, with intervals"
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts)
