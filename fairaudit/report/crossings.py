"""Crossed tables: every head in each intersection, and errors of ordered heads by labelled class and subgroup.

Below them stands what a reader may look for and this audit cannot show, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from fairaudit.metrics.ordinal import distances
from fairaudit.report.context import Cell, Context
from fairaudit.report.tables import Entry, MatrixCell, Notes, Row, Table, entry
from fairaudit.report.verdict import HEADLINES
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    difference,
    figure,
    interval,
    is_number,
    metric_label,
    metric_words,
    number,
    sentence_case,
)
from fairaudit.subgroups import CROSS, OVERALL, UNKNOWN, parse

# how far an ordered head is off: mean distance, its sign, the share within one and two classes; in years where known
OFF_BY = (
    *("mae_bins", "signed_error_bins", "cumulative_score_1", "cumulative_score_2"),
    *("mae_years", "signed_error_years", "cumulative_score_5_years"),
)


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A table of coloured cells: `corner` heads the first column, `heads` the rows, `tips` say a cell in words."""

    caption: str
    corner: str
    columns: Sequence[str]
    heads: Sequence[str]
    cells: Sequence[Sequence[MatrixCell]]
    tips: Sequence[Sequence[str]]


def crossings_data(context: Context) -> dict[str, Any]:
    """Return the heat maps of the largest crossing, the signed errors of ordered heads, and what is not shown."""
    by = max((by for by in context.axes if len(parse(by)) > 1), key=lambda by: len(parse(by)), default="")
    parts = [_values(context, name) for name in parse(by)] if by else []
    maps = [_heat_map(context, task, by, parts) for task in context.tasks] if parts and all(parts) else []
    ordered = [task for task in context.tasks if context.result.meta["tasks"][task].get("ordered")]
    signed = [table for task in ordered if (table := _signed(context, task)) is not None]
    distances = [off for task in ordered if (off := _distances(context, task)) is not None]
    return {"maps": maps, "distances": distances, "signed": signed, "absent": _absent(context, maps)}


def _distances(context: Context, task: str) -> Table | None:
    """Return how far an ordered head is off in each intersection of two other attributes, gender and race if there."""
    pairs = [by for by in context.axes if len(parse(by)) == 2 and (task, by) not in context.degenerate]
    by = next((by for by in pairs if {"gender", "race"} == set(parse(by))), pairs[0] if pairs else "")
    metrics = [
        m for m in OFF_BY if any((m, "") in context.figures.get((task, by, g), {}) for g in context.axes.get(by, ()))
    ]
    places = [(OVERALL, OVERALL), *((by, group) for group in context.axes.get(by, ()))]
    metrics = [m for m in metrics if any(is_number(context.cell(task, *place, m).value) for place in places)]
    if not by or not metrics:
        return None
    notes, rows = Notes(), []
    for where, group in places:
        cells = [context.cell(task, where, group, metric) for metric in metrics]
        entries = [Entry(count(cells[0].n), css="num")]
        entries += [entry(cell, metric, notes) for cell, metric in zip(cells, metrics, strict=True)]
        page = "" if where == OVERALL else f"groups/{context.slugs[by, group]}.html"
        name = "all faces" if where == OVERALL else group
        rows.append(Row(name, entries, page, cells[0].small and where != OVERALL, where == OVERALL))
    caption = f"{sentence_case(task)} by {axis_label(by)}: how far off, with intervals"
    columns = ["n", *(metric_words(metric).label for metric in metrics)]
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts)


def _values(context: Context, name: str) -> list[str]:
    return [group for group in context.axes.get(name, ()) if group != UNKNOWN]


def _heat_map(context: Context, task: str, by: str, parts: Sequence[Sequence[str]]) -> Crossed:
    """Return a head's headline measure of every intersection; the colour spans the assessed cells, darker is lower."""
    metric = HEADLINES[1] if (task, by) in context.degenerate else HEADLINES[0]
    rows = list(product(*parts[:-1]))
    cells = [[context.cell(task, by, CROSS.join((*row, last)), metric) for last in parts[-1]] for row in rows]
    assessed = [cell.value for line in cells for cell in line if is_number(cell.value) and not cell.small]
    low, high = (min(assessed), max(assessed)) if assessed else (0.0, 1.0)
    span = f"{number(low)} to {number(high)} %" if assessed else "no cell is assessed"
    names = [axis_label(":".join(parse(by)[:-1])), parse(by)[-1]]
    return Crossed(
        caption=f"{sentence_case(task)}: {metric_label(metric)} in %, with interval and n, by {axis_label(by)}; "
        f"darker is lower ({span})",
        corner=f"{names[0]} ↓ {names[1]} →",
        columns=parts[-1],
        heads=[CROSS.join(row) for row in rows],
        cells=[[_heat_cell(cell, low, high) for cell in line] for line in cells],
        tips=[
            [f"{CROSS.join((*row, last))}: {_told(cell)}" for last, cell in zip(parts[-1], line, strict=True)]
            for row, line in zip(rows, cells, strict=True)
        ],
    )


def _heat_cell(cell: Cell, low: float, high: float) -> MatrixCell:
    if not is_number(cell.value):
        return MatrixCell(DASH, "", 0, "few")
    bounds = interval(cell.low, cell.high)
    sub = "\n".join([*([f"({bounds})"] if bounds else []), f"n\u00a0{count(cell.n)}"])
    if cell.small:
        return MatrixCell(f"{number(cell.value)}\u00a0◇", sub, 0, "few")
    share = (high - cell.value) / (high - low) if high > low else 0.0
    return MatrixCell(number(cell.value), sub, round(100 * share), "")


def _told(cell: Cell) -> str:
    if not is_number(cell.value):
        return cell.reason or "undefined"
    few = ", too few to be assessed" if cell.small else ""
    return f"{figure(cell.value, cell.low, cell.high)}, n = {count(cell.n)}{few}"


def _signed(context: Context, task: str) -> Crossed | None:
    """Return mean predicted − labelled class by labelled class, for the subgroups of single axes, with t intervals."""
    classes = context.tasks[task]
    places = [(by, g) for by in context.axes if len(parse(by)) == 1 and by != task for g in _values(context, by)]
    places = [place for place in places if (task, *place) in context.confusion]
    if not places:
        return None
    level = float(context.result.meta.get("confidence", 0.95))
    least = context.result.meta.get("min_group_size") or 2
    found = [_row_means(context.confusion[task, by, g], level, least) for by, g in places]
    large = [abs(mean) for line in found for mean, *_, small in line if is_number(mean) and not small]
    largest = max(large, default=1.0) or 1.0
    cells = [[_signed_cell(*one, largest=largest) for one in line] for line in found]
    return Crossed(
        caption=f"{sentence_case(task)}: mean of predicted minus labelled class, in classes, by labelled class, with "
        "interval and n; one colour scale for all",
        corner="subgroup ↓ labelled →",
        columns=classes,
        heads=[f"{group} ({axis_label(by)})" for by, group in places],
        cells=cells,
        tips=[[""] * len(classes) for _ in places],
    )


def _row_means(counts: np.ndarray, level: float, least: int) -> list[tuple[float, float, float, float, bool]]:
    """Return (mean distance, low, high, n, small) of every row of a (K, K) confusion; Student's t over its faces."""
    steps = distances(len(counts)).astype(float)
    out = []
    for row, step in zip(counts, steps, strict=True):
        n = float(row.sum())
        mean = float(row @ step / n) if n else float("nan")
        half = float("nan")
        if n > 1:
            spread = float(row @ (step - mean) ** 2 / (n - 1))
            half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * (spread / n) ** 0.5 if spread > 0 else float("nan")
        out.append((mean, mean - half, mean + half, n, n < least))
    return out


def _signed_cell(mean: float, low: float, high: float, n: float, small: bool, *, largest: float) -> MatrixCell:
    if not is_number(mean):
        return MatrixCell(DASH, "", 0, "few")
    text = number(mean, "bins", signed=True)
    bounds = difference(mean, low, high, "bins").split("\u00a0bins")[-1].strip() if is_number(low) else ""
    sub = f"{bounds}\nn\u00a0{count(n)}".strip()
    if small:
        return MatrixCell(f"{text}\u00a0◇", sub, 0, "few")
    side = "above" if mean > 0 else "below" if mean < 0 else ""
    return MatrixCell(text, sub, round(100 * min(abs(mean) / largest, 1.0)), side)


def _absent(context: Context, maps: Sequence[Crossed]) -> list[str]:
    """Return one line for everything that such reports usually show and this audit's data do not allow."""
    result = context.result
    lines = []
    if result.table("calibration").empty:
        lines.append("Reliability and ROC curves, calibration, thresholds: the predictions hold no probabilities.")
    elif result.table("roc").empty:
        lines.append(
            "ROC curves: this audit holds no points of them: each head has probabilities of one class’s faces alone, "
            "or this audit was made before there were any, or hides them."
        )
    elif result.table("thresholds").empty:
        lines.append("Rates at other thresholds: there is one threshold to choose only where a head has two classes.")
    years = result.metrics["metric"].str.endswith("_years")
    if not result.metrics.loc[years, "value"].notna().any():
        lines.append("Errors in years: the predictions hold no ages in years, only classes or no age at all.")
    if not maps:
        lines.append("A heat map of intersections: the audit has no crossed axis whose single axes it holds, too.")
    if context.attribution is None:
        lines.append("Where the model looks: no attribution was given; “fairaudit attribute” makes one.")
    if context.history is None or context.history.empty:
        lines.append("Training curves: there is no training history beside this audit.")
    lines.append(
        "What a mitigation changed, for whom and at whose cost: that takes two models and “fairaudit compare”."
    )
    return lines
