"""Deletion and insertion curves of an attribution, drawn beside those of random orders, a row a method and head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.report.context import Context
from fairaudit.report.words import count, number, sentence_case

_WIDE, _HIGH, _EDGE = 132, 88, 14  # a chart: its size and the room at its left and right, in SVG units
_OWN = "attribution"
_DONE = {"deletion": "taken away", "insertion": "shown"}


@dataclass(frozen=True, kw_only=True)
class OrderChart:
    """One small chart, its places computed: points (x, y, top and bottom of the interval) of the attribution's order,
    and a line for each order, its own first; the mean heights of the three lines, and the outcome, in words."""

    label: str
    points: Sequence[tuple[float, float, float, float]]
    lines: Sequence[str]
    heights: str
    outcome: str


@dataclass(frozen=True, kw_only=True)
class OrderRow:
    """The charts of one method and head, in the order of `columns` of the view."""

    name: str
    n: str
    charts: Sequence[OrderChart]


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """Every chart of the attribution: columns (check and fill), and a row a method and head."""

    columns: Sequence[str]
    rows: Sequence[OrderRow]


def order_view(context: Context) -> OrderView | None:
    """Return the curves that the attribution holds, of the heads that are shown; None without any."""
    found = context.attribution
    if found is None:
        return None
    table = found.curves[found.curves["task"].isin(list(context.tasks))]
    if table.empty:
        return None
    wanted = list(dict.fromkeys(zip(table["check"], table["fill"], strict=True)))
    outcomes = {
        (row["method"], row["task"], row["check"], row["part"]): str(row["outcome"])
        for row in found.sanity.to_dict("records")
    }
    rows = []
    for (method, task), own in table.groupby(["method", "task"], sort=False):
        charts = [
            _chart(each, str(task), str(check), str(fill), outcomes.get((method, task, check, fill), ""))
            for (check, fill), each in own.groupby(["check", "fill"], sort=False)
        ]
        name = f"{sentence_case(str(task))}, {str(method).replace('-', ' ')}"
        rows.append(OrderRow(name=name, n=count(own["n"].max()), charts=charts))
    return OrderView(columns=[f"{check}, {fill} fill" for check, fill in wanted], rows=rows)


def _chart(table: pd.DataFrame, task: str, check: str, fill: str, outcome: str) -> OrderChart:
    orders = {str(order): each.to_dict("records") for order, each in table.groupby("order", sort=False)}
    names = [_OWN, *(order for order in orders if order != _OWN)]
    means = {
        order: float(np.trapezoid([row["value"] for row in rows], [row["share"] for row in rows]))
        for order, rows in orders.items()
    }
    own = orders[_OWN]
    beside = " / ".join(number(means[order]) for order in names[1:])
    described = [number(row["value"]) for row in own]
    return OrderChart(
        label=(
            f"{task}, {check}, {fill} fill: probability in percent as cells are {_DONE[check]}, most attributed first: "
            f"{', '.join(described)}; mean {number(means[_OWN])}, in random orders {beside}; {outcome}"
        ),
        points=[
            (_x(row), _y(row["value"]), _y(row["high"]), _y(row["low"])) for row in own if row["low"] == row["low"]
        ],
        lines=[" ".join(f"{_x(row):g},{_y(row['value']):g}" for row in orders[order]) for order in names],
        heights=f"{number(means[_OWN])} : {beside}",
        outcome=outcome,
    )


def _x(row: Any) -> float:
    return round(_EDGE + float(row["share"]) * (_WIDE - 2 * _EDGE), 1)


def _y(value: float) -> float:
    return round(_HIGH - 8 - min(max(float(value), 0.0), 1.0) * (_HIGH - 22), 1)
