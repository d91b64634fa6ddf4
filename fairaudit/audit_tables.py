"""The tidy tables of one task on one axis: metrics with intervals, gaps, everyone else's values, confusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import TaskRows
from fairaudit.frames import Block, stacked
from fairaudit.gap_tables import gap_rows, rest_rows
from fairaudit.metrics.cube import OUTCOMES
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.metrics.sample import Sample
from fairaudit.pooled import BY_CLASS, PooledAxis, estimates_of, pooled_axis, wanted_metrics
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL


@dataclass(frozen=True, kw_only=True)
class AxisTables:
    """What was found for one task on one axis; `shared`: the classes over which averages are compared."""

    task: str
    by: str
    degenerate: str | None
    shared: tuple[str, ...]
    metrics: pd.DataFrame
    gaps: pd.DataFrame
    rest: pd.DataFrame
    confusion: pd.DataFrame
    outcomes: list[dict[str, Any]]


def axis_tables(
    rows: TaskRows, sample: Sample, by: str, degenerate: str | None, audit: AuditSpec, seed: Sequence[int]
) -> AxisTables:
    """Return every table of one task on one axis. `degenerate`: why the subgroup determines the label, or None."""
    axis = pooled_axis(rows, sample, by, degenerate, audit)
    chosen = wanted_metrics(rows, sample, by, degenerate)
    estimates = estimates_of(axis, chosen, seed)
    order = stacked([_metric_rows(axis, m, estimates.get((m.name, "own"))) for m in chosen])
    table = order.sort_values(["_group", "_metric", "_class"], kind="stable").drop(
        columns=["_group", "_metric", "_class"]
    )
    compared = [m for m in chosen if m.kind != "count"] if by != OVERALL else []
    gaps = [row for m in compared for row in gap_rows(axis, m, estimates.get((m.name, "shared")))]
    rest = [rest_rows(axis, m, estimates[m.name, "common"]) for m in compared if (m.name, "common") in estimates]
    shared = [name for name, used in zip(rows.classes, axis.shared, strict=True) if used] if rows.labelled else []
    return AxisTables(
        task=rows.task,
        by=by,
        degenerate=degenerate,
        shared=tuple(shared),
        metrics=table,
        gaps=pd.DataFrame(gaps),
        rest=stacked(rest),
        confusion=_confusion(axis),
        outcomes=_outcomes(axis),
    )


def _metric_rows(axis: PooledAxis, metric: Metric, estimate: Estimate | None) -> Block:
    """Return the columns of one row a subgroup and class of one metric."""
    width = axis.rows.table.classes if metric.per_class else 1
    shape = (axis.size, width)
    n = np.broadcast_to(axis.sample.counts.sum((1, 2))[:, None], shape)
    blank = np.full(shape, np.nan)
    if metric.kind == "count":
        assert metric.cells is not None  # by construction of METRICS
        top, bottom = metric.cells(axis.sample.table)
        value = axis.sample.total(top, axis.sample.counts).astype(float)
        denominator = np.broadcast_to(axis.sample.total(bottom, axis.sample.counts), shape)
        low, high, effective, reason = blank, blank, denominator, np.full(shape, "", dtype=object)
    elif estimate is None:
        value, low, high, denominator, effective = blank, blank, blank, np.zeros(shape), np.zeros(shape)
        reason = np.full(shape, axis.degenerate, dtype=object)
    else:
        z = z_value(axis.audit.confidence)
        value, denominator, effective = (
            part[: axis.size] for part in (estimate.value, estimate.denominator, estimate.effective)
        )
        low, high = (side[: axis.size] for side in estimate.limits(z))
        reason = _reasons(axis, metric, value, estimate.notes[: axis.size])
        low, high = np.where(np.isnan(value), np.nan, low), np.where(np.isnan(value), np.nan, high)
    group, column = np.indices(shape)
    return {
        "task": axis.rows.task,
        "by": axis.by,
        "subgroup": np.array(axis.sample.groups, dtype=object)[group.ravel()],
        "metric": metric.name,
        "class": np.array(axis.rows.classes if metric.per_class else ("",), dtype=object)[column.ravel()],
        "value": value.ravel(),
        "low": low.ravel(),
        "high": high.ravel(),
        "n": n.ravel(),
        "denominator": np.rint(denominator).astype(np.int64).ravel(),
        "small": (np.minimum(denominator, effective + 1e-9) < axis.audit.min_group_size).ravel(),
        "reason": reason.ravel(),
        "n_effective": effective.astype(float).ravel(),
        "_group": group.ravel(),
        "_metric": list(METRICS).index(metric.name),
        "_class": column.ravel(),
    }


def _reasons(axis: PooledAxis, metric: Metric, value: np.ndarray, notes: np.ndarray) -> np.ndarray:
    """Return why a value is undefined, what an average runs over, or why there is no interval; "" where all is well."""
    reasons = notes.copy()
    existing = int((axis.mix > 0).sum())
    for g, p in zip(*np.nonzero(np.isnan(value)), strict=True):
        known = metric.kind == "score" and reasons[g, p]  # what such a metric needs is more than faces
        reasons[g, p] = known or _lacking(axis, metric, int(g), int(p))
    if metric.averages and metric.name != "accuracy_standardized":
        for g in np.flatnonzero(~np.isnan(value[:, 0]) & (axis.own[: axis.size].sum(-1) < existing)):
            used = ", ".join(c for c, on in zip(axis.rows.classes, axis.own[g], strict=True) if on)
            reasons[g, 0] = "; ".join(
                [*filter(None, [reasons[g, 0]]), f"average over the classes labelled here: {used}"]
            )
    return reasons


def _lacking(axis: PooledAxis, metric: Metric, g: int, p: int) -> str:
    """Return in words which faces an undefined value would need."""
    name, classes = axis.sample.groups[g], axis.rows.classes
    subgroup = "all faces" if axis.by == OVERALL else name
    cube = axis.sample.counts[g][:, : len(classes)]
    if metric.name == BY_CLASS and cube.any():
        return f"{subgroup} holds faces of more than one label: see recall by class"
    if metric.per_class:
        return metric.lacking.format(**{"class": classes[p], "subgroup": subgroup})
    if not cube.any() and not metric.outcome:
        return METRICS["accuracy"].lacking.format(subgroup=subgroup)
    labelled, predicted = cube.sum(1) > 0, cube.sum(0) > 0
    missing = (
        np.flatnonzero((axis.mix > 0) & ~labelled)
        if "labelled" in metric.lacking
        else np.flatnonzero(labelled & ~predicted)
    )
    return metric.lacking.format(**{"class": classes[missing[0]] if len(missing) else "", "subgroup": subgroup})


def _confusion(axis: PooledAxis) -> pd.DataFrame:
    """Return the counts of every label and prediction per subgroup; empty for a task without labels."""
    if not axis.rows.labelled:
        return pd.DataFrame()
    k = axis.rows.table.classes
    cube = axis.sample.counts[..., :k]
    g, y, p = (part.ravel() for part in np.indices(cube.shape))
    names, classes = np.array(axis.sample.groups, dtype=object), np.array(axis.rows.classes, dtype=object)
    return pd.DataFrame(
        {
            "task": axis.rows.task,
            "by": axis.by,
            "subgroup": names[g],
            "true": classes[y],
            "predicted": classes[p],
            "count": cube.ravel(),
        }
    )


def _outcomes(axis: PooledAxis) -> list[dict[str, Any]]:
    """Return how many faces of each subgroup got no prediction, by the reason given."""
    counts = axis.sample.counts[..., axis.rows.table.classes :].sum(1)
    return [
        {"task": axis.rows.task, "by": axis.by, "subgroup": name, "status": status, "count": int(counts[g, i])}
        for g, name in enumerate(axis.sample.groups)
        for i, status in enumerate(OUTCOMES)
        if counts[g, i]
    ]
