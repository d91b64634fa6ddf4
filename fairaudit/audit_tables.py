"""The tidy tables of one task on one axis: metrics with intervals, gaps, everyone else's values, confusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import TaskRows
from fairaudit.metrics.cube import OUTCOMES
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate, composites, mean_recall, share
from fairaudit.metrics.intervals import mover_difference, z_value
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.metrics.sample import Sample
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN

BY_CLASS = "recall_by_labelled_class"


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


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One task on one axis: which subgroups are known, which classes they hold, and the pools that are estimated.

    The first G pools are the subgroups, the others everyone else of each known subgroup. own: classes labelled in each
    pool; shared: in every subgroup of sufficient size; common: in a subgroup and everyone else both.
    """

    rows: TaskRows
    sample: Sample
    by: str
    degenerate: str | None
    audit: AuditSpec
    known: np.ndarray
    pools: np.ndarray
    own: np.ndarray
    shared: np.ndarray
    common: np.ndarray
    mix: np.ndarray

    @property
    def size(self) -> int:
        """Number of subgroups, `unknown` included."""
        return len(self.sample.groups)


def axis_tables(
    rows: TaskRows, sample: Sample, by: str, degenerate: str | None, audit: AuditSpec, seed: Sequence[int]
) -> AxisTables:
    """Return every table of one task on one axis. `degenerate`: why the subgroup determines the label, or None."""
    axis = _axis(rows, sample, by, degenerate, audit)
    chosen = wanted_metrics(rows, sample, by, degenerate)
    estimates = _estimates(axis, chosen, seed)
    metrics = [_metric_rows(axis, m, estimates.get((m.name, "own"))) for m in chosen]
    order = pd.concat(metrics, ignore_index=True)
    table = order.sort_values(["_group", "_metric", "_class"], kind="stable").drop(
        columns=["_group", "_metric", "_class"]
    )
    compared = [m for m in chosen if m.kind != "count"] if by != OVERALL else []
    gaps = [row for m in compared for row in _gap_rows(axis, m, estimates.get((m.name, "shared")))]
    rest = [_rest_rows(axis, m, estimates[m.name, "common"]) for m in compared if (m.name, "common") in estimates]
    shared = [name for name, used in zip(rows.classes, axis.shared, strict=True) if used] if rows.labelled else []
    return AxisTables(
        task=rows.task,
        by=by,
        degenerate=degenerate,
        shared=tuple(shared),
        metrics=table,
        gaps=pd.DataFrame(gaps),
        rest=pd.concat(rest, ignore_index=True) if rest else pd.DataFrame(),
        confusion=_confusion(axis),
        outcomes=_outcomes(axis),
    )


def wanted_metrics(rows: TaskRows, sample: Sample, by: str, degenerate: str | None) -> list[Metric]:
    """Return the metrics that stand in a task's table: those its labels, order and outcomes allow."""
    outcomes = bool(sample.counts[..., rows.table.classes :].any())
    return [
        metric
        for metric in METRICS.values()
        if (rows.labelled or not metric.labels)
        and (rows.ordered or not metric.ordered)
        and (outcomes or not metric.outcome)
        and (by != OVERALL or metric.name != "accuracy_standardized")
        and (degenerate is not None or metric.name != BY_CLASS)
    ]


def _axis(rows: TaskRows, sample: Sample, by: str, degenerate: str | None, audit: AuditSpec) -> _Axis:
    known = np.array([name != UNKNOWN for name in sample.groups], dtype=bool)
    eye = np.eye(len(known))
    others = (known[None, :].astype(float) - eye)[known] if by != OVERALL else np.zeros((0, len(known)))
    pools = np.concatenate([eye, others])
    labelled = pools @ sample.counts[..., : rows.table.classes].sum(-1).reshape(len(known), -1)
    own = (labelled > 0).astype(float)
    large = known & (sample.counts[..., : rows.table.classes].sum((1, 2)) >= audit.min_group_size)
    shared = own[: len(known)][large].min(0) if large.any() else np.zeros(own.shape[1])
    common = own.copy()
    both = own[: len(known)][known][: len(others)] * own[len(known) :]
    common[np.flatnonzero(known)[: len(others)]] = both
    common[len(known) :] = both
    mix = sample.sums[..., : rows.table.classes].sum((0, 2))
    return _Axis(
        rows=rows,
        sample=sample,
        by=by,
        degenerate=degenerate,
        audit=audit,
        known=known,
        pools=pools,
        own=own,
        shared=shared,
        common=common,
        mix=mix / max(mix.sum(), 1e-300),
    )


def _estimates(axis: _Axis, chosen: Sequence[Metric], seed: Sequence[int]) -> dict[tuple[str, str], Estimate]:
    """Return the estimates of all pools by metric and by what its averages run over: "own", "shared" or "common"."""
    found: dict[tuple[str, str], Estimate] = {}
    pending: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
    target = np.broadcast_to((axis.mix > 0).astype(float), axis.own.shape)
    masks = {"own": axis.own, "shared": np.broadcast_to(axis.shared, axis.own.shape), "common": axis.common}
    for metric in chosen:
        if axis.degenerate is not None and not metric.degenerate:
            continue
        if metric.kind == "count":
            continue
        if metric.kind in ("proportion", "f1"):
            estimate = share(axis.sample, axis.pools, metric)
            if metric.name == BY_CLASS:
                estimate.value[(axis.own.sum(-1) > 1), :] = np.nan
            found.update({(metric.name, use): estimate for use in masks})
            continue
        for use, classes in masks.items():
            if metric.kind == "average":
                over = target if metric.name == "accuracy_standardized" and use == "own" else classes
                found[metric.name, use] = mean_recall(axis.sample, axis.pools, metric, over, axis.mix)
            elif use == "own" or (metric.averages and not np.array_equal(classes, axis.own)):
                pending[metric.name, use] = (metric.name, classes)
    if pending:
        keys = {f"{name}/{use}": item for (name, use), item in pending.items()}
        drawn = composites(
            axis.sample,
            keys,
            known=axis.known,
            rest=axis.by != OVERALL,
            confidence=axis.audit.confidence,
            draws=axis.audit.draws,
            seed=seed,
        )
        for name, use in pending:
            found[name, use] = drawn[f"{name}/{use}"]
        for name in {name for name, _ in pending}:
            for use in masks:
                found.setdefault((name, use), drawn[f"{name}/own"])
    return found


def _metric_rows(axis: _Axis, metric: Metric, estimate: Estimate | None) -> pd.DataFrame:
    """Return one row a subgroup and class of one metric."""
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
    return pd.DataFrame(
        {
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
    )


def _reasons(axis: _Axis, metric: Metric, value: np.ndarray, notes: np.ndarray) -> np.ndarray:
    """Return why a value is undefined, what an average runs over, or why there is no interval; "" where all is well."""
    reasons = notes.copy()
    existing = int((axis.mix > 0).sum())
    for g, p in zip(*np.nonzero(np.isnan(value)), strict=True):
        reasons[g, p] = _lacking(axis, metric, int(g), int(p))
    if metric.averages and metric.name != "accuracy_standardized":
        for g in np.flatnonzero(~np.isnan(value[:, 0]) & (axis.own[: axis.size].sum(-1) < existing)):
            used = ", ".join(c for c, on in zip(axis.rows.classes, axis.own[g], strict=True) if on)
            reasons[g, 0] = "; ".join(
                [*filter(None, [reasons[g, 0]]), f"average over the classes labelled here: {used}"]
            )
    return reasons


def _lacking(axis: _Axis, metric: Metric, g: int, p: int) -> str:
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


def _gap_rows(axis: _Axis, metric: Metric, estimate: Estimate | None) -> list[dict[str, Any]]:
    """Return the gap of each class of a metric over the subgroups that are known, large enough and defined."""
    width = axis.rows.table.classes if metric.per_class else 1
    found = []
    for p in range(width):
        row: dict[str, Any] = {"task": axis.rows.task, "by": axis.by, "metric": metric.name}
        row |= {"class": axis.rows.classes[p] if metric.per_class else "", "worst": "", "best": ""}
        row |= dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan)
        row |= dict.fromkeys(("ratio", "ratio_low", "ratio_high"), np.nan)
        if estimate is None:
            found.append({**row, "reason": axis.degenerate, "assessed": 0, "not_assessed": ""})
            continue
        chosen = assessed(estimate, p, axis.known, axis.audit.min_group_size)
        left_out = [n for g, n in enumerate(axis.sample.groups) if axis.known[g] and g not in set(chosen.tolist())]
        row |= {"assessed": len(chosen), "not_assessed": "; ".join(left_out)}
        if len(chosen) < 2:
            least = axis.audit.min_group_size
            why = f"fewer than two subgroups have a defined {metric.name} from at least {least} faces"
            found.append({**row, "reason": why})
            continue
        result = gap(estimate, p, chosen, axis.audit.confidence)
        names = axis.sample.groups
        note = [result.reason] if result.reason else []
        if metric.averages and axis.shared.sum() < (axis.mix > 0).sum():
            used = ", ".join(c for c, on in zip(axis.rows.classes, axis.shared, strict=True) if on)
            note.append(f"compared over the classes that every assessed subgroup holds: {used}")
        found.append(
            {
                **row,
                "difference": result.difference,
                "difference_low": result.difference_low,
                "difference_high": result.difference_high,
                "ratio": result.ratio,
                "ratio_low": result.ratio_low,
                "ratio_high": result.ratio_high,
                "worst": names[result.worst] if result.difference > 0 else "",
                "best": names[result.best] if result.difference > 0 else "",
                "reason": "; ".join(note),
            }
        )
    return found


def assessed(estimate: Estimate, column: int, known: np.ndarray, least: int) -> np.ndarray:
    """Return which subgroups may be called worst or best: known, defined, and at least `least` (effective) faces."""
    g = len(known)
    enough = np.minimum(estimate.denominator, estimate.effective + 1e-9)[:g] >= least
    column = column if enough.shape[1] > 1 else 0
    return np.flatnonzero(known & enough[:, column] & ~np.isnan(estimate.value[:g, column]))


def _rest_rows(axis: _Axis, metric: Metric, estimate: Estimate) -> pd.DataFrame:
    """Return every known subgroup beside everyone else, with the limits of the difference (Newcombe, else MOVER).

    A person in both would make the difference less variable than this: the limits are then too wide, not too narrow.
    """
    width = axis.rows.table.classes if metric.per_class else 1
    own = np.flatnonzero(axis.known)
    others = axis.size + np.arange(len(own))
    low, high = estimate.limits(z_value(axis.audit.confidence))
    first, second = ((estimate.value[i], low[i], high[i]) for i in (own, others))
    down, up = mover_difference(first, second)
    value, rest = first[0], second[0]
    group, column = np.indices((len(own), width))
    names = np.array(axis.sample.groups, dtype=object)[own]
    undefined = np.where(np.isnan(value), "it", "the rest") + np.array(" has no face that this needs", dtype=object)
    missing = np.isnan(value) | np.isnan(rest)
    reason = np.where(missing, undefined, estimate.notes[own])
    if metric.averages:
        fewer = axis.common[own].sum(-1) < (axis.mix > 0).sum()
        used = [", ".join(c for c, on in zip(axis.rows.classes, axis.common[g], strict=True) if on) for g in own]
        note = np.array(
            [f"over the classes that both hold: {u}" if f else "" for u, f in zip(used, fewer, strict=True)]
        )
        reason = np.where(missing, reason, note[:, None])
    return pd.DataFrame(
        {
            "task": axis.rows.task,
            "by": axis.by,
            "subgroup": names[group.ravel()],
            "metric": metric.name,
            "class": np.array(axis.rows.classes if metric.per_class else ("",), dtype=object)[column.ravel()],
            "value": value.ravel(),
            "rest": rest.ravel(),
            "difference": (value - rest).ravel(),
            "low": np.where(missing, np.nan, down).ravel(),
            "high": np.where(missing, np.nan, up).ravel(),
            "n_rest": np.rint(estimate.denominator[others]).astype(np.int64).ravel(),
            "reason": reason.ravel(),
        }
    )


def _confusion(axis: _Axis) -> pd.DataFrame:
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


def _outcomes(axis: _Axis) -> list[dict[str, Any]]:
    """Return how many faces of each subgroup got no prediction, by the reason given."""
    counts = axis.sample.counts[..., axis.rows.table.classes :].sum(1)
    return [
        {"task": axis.rows.task, "by": axis.by, "subgroup": name, "status": status, "count": int(counts[g, i])}
        for g, name in enumerate(axis.sample.groups)
        for i, status in enumerate(OUTCOMES)
        if counts[g, i]
    ]
