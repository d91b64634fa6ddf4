"""The table that says what wrong labels could do: bounds for headline gaps, and corrections at stated error rates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.errors import UsageError
from fairaudit.gap_tables import assessed
from fairaudit.label_inversions import error_rates, estimate_of, label_rows, membership_rows, row_of
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.label_noise import pairs_bound
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.registry import suggestion
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import LabelNoiseSpec
from fairaudit.subgroups import CROSS, OVERALL, UNKNOWN

BOUND = "bound"
HEADLINES = ("accuracy", "recall_by_labelled_class", "recall")
WITHIN_NOISE = "the gap is within sampling noise even if every label is right"


def check_label_noise(
    noise: LabelNoiseSpec, tasks: Mapping[str, Sequence[str]], groups: Mapping[str, Sequence[str]]
) -> None:
    """Raise UsageError for a rate or matrix of a subgroup, class, task or axis that the audit does not have.

    tasks: the classes of each; groups: the subgroups of each axis.
    """
    parts = {part for names in groups.values() for name in names for part in (name, *name.split(CROSS))} - {UNKNOWN}
    classes = {name for names in tasks.values() for name in names}
    for what, given, known in (
        ("subgroup", noise.subgroups, parts),
        ("class", noise.classes, classes),
        ("task", noise.matrix, set(tasks)),
        ("axis", noise.membership, set(groups)),
    ):
        for name in given:
            if name not in known:
                shown = ", ".join(sorted(known)[:20])
                raise UsageError(f"label_noise: no {what} {name!r}{suggestion(name, known)} (there are: {shown})")
    sized = [(task, matrix, tasks[task]) for task, matrix in noise.matrix.items()]
    sized += [
        (by, matrix, [name for name in groups[by] if name != UNKNOWN])
        for by, matrix in noise.membership.items()
        if not isinstance(matrix, float)
    ]
    for name, matrix, names in sized:
        if len(matrix) != len(names):
            raise UsageError(
                f"label_noise of {name!r}: the matrix is {len(matrix)} × {len(matrix)}, but it needs a row and a "
                f"column for each of {', '.join(names)}"
            )


def label_noise_table(data: AuditData) -> pd.DataFrame:
    """Return what the true figures could be if labels are wrong; rows of three methods.

    "bound": with a share `error_rate` of labels wrong, in whichever way, the figure lies between low and high (sampling
    error included); breakdown: the share of wrong labels from which the headline gap could be none. Without stated
    rates for the gaps only, over `label_noise.grid`; with stated rates for subgroups, too. "labels inverted" and
    "membership inverted", where rates are stated: the figure if errors depend on nothing but the true label (the true
    subgroup), with its interval. A figure that such errors cannot make is empty, and the reason says so.
    """
    noise = data.audit.label_noise
    rows: list[dict[str, Any]] = []
    for axis in data.axes:
        if not axis.rows.labelled:
            continue
        rows += _bound_rows(axis, data)
        if noise.stated or axis.task in noise.matrix:
            rows += label_rows(axis, data)
        if axis.by in noise.membership:
            rows += membership_rows(axis, data)
    return pd.DataFrame(rows, columns=list(MORE_TABLES["label_noise"]))


def _bound_rows(axis: AxisData, data: AuditData) -> Iterator[dict[str, Any]]:
    noise = data.audit.label_noise
    if axis.by == OVERALL:
        if noise.stated:
            metric, estimate = METRICS["accuracy"], estimate_of(axis, METRICS["accuracy"])
            yield from _bound_groups(axis, metric, 0, estimate, data)
        return
    head = headline(data.gaps, axis.task, axis.by)
    if head is None or np.isnan(head["difference"]):
        return
    metric = METRICS[head["metric"]]
    estimate = estimate_of(axis, metric)
    column = axis.rows.classes.index(head["class"]) if metric.per_class else 0
    if noise.stated:
        yield from _bound_groups(axis, metric, column, estimate, data)
    yield from _bound_gaps(axis, metric, column, estimate, data, head)


def headline(gaps: pd.DataFrame, task: str, by: str) -> Mapping[str, Any] | None:
    """Return the gap that an audit speaks of first: of accuracy, else of recall, there the class surest to differ."""
    here = gaps[(gaps["task"] == task) & (gaps["by"] == by) & gaps["difference"].notna()]
    for metric in HEADLINES:
        found = here[here["metric"] == metric]
        if len(found):
            ranked = found.sort_values(["difference_low", "difference"], ascending=False)
            return {str(name): value for name, value in ranked.iloc[0].items()}
    return None


def _errors(axis: AxisData, metric: Metric, column: int, noise: LabelNoiseSpec) -> np.ndarray:
    """Return the stated error rate of each subgroup for a metric: of its class where it has one, else of its mix."""
    classes = axis.rows.classes
    rates = np.array([error_rates(noise, name, classes) for name in axis.sample.groups])
    if metric.per_class:
        return rates[:, column]
    labels = axis.sample.sums[..., : len(classes)].sum(-1)
    mix = labels / np.maximum(labels.sum(-1, keepdims=True), 1e-300)
    return rates.max(1) if metric.name == "recall_by_labelled_class" else (rates * mix).sum(-1)


def _bound_groups(
    axis: AxisData, metric: Metric, column: int, estimate: Estimate, data: AuditData
) -> Iterator[dict[str, Any]]:
    errors = _errors(axis, metric, column, data.audit.label_noise)
    low, high = (side[:, column] for side in estimate.limits(z_value(data.audit.confidence)))
    for g, name in enumerate(axis.sample.groups):
        value = estimate.value[g, column]
        row = row_of(axis, metric, column, BOUND, subgroup=name, n=estimate.denominator[g, column])
        if np.isnan(value):
            yield {**row, "reason": "no face that this needs"}
            continue
        row |= {"error_rate": errors[g], "observed": value, "observed_low": low[g], "observed_high": high[g]}
        yield {**row, "low": max(0.0, low[g] - errors[g]), "high": min(1.0, high[g] + errors[g])}


def _bound_gaps(
    axis: AxisData, metric: Metric, column: int, estimate: Estimate, data: AuditData, head: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    noise = data.audit.label_noise
    chosen = assessed(estimate, column, axis.known, data.audit.min_group_size)
    if len(chosen) < 2:
        return
    row = row_of(axis, metric, column, BOUND, n=estimate.denominator[chosen, column].sum())
    observed = {f"observed{end}": head[f"difference{end}"] for end in ("", "_low", "_high")}
    row |= {**observed, "worst": head["worst"], "best": head["best"], "breakdown": head["difference_low"] / 2}
    row["reason"] = WITHIN_NOISE if head["difference_low"] <= 0 else ""
    if not noise.stated:
        for error in noise.grid:
            low, high = head["difference_low"] - 2 * error, head["difference_high"] + 2 * error
            yield {**row, "error_rate": error, "low": max(0.0, low), "high": min(1.0, high)}
        return
    errors = _errors(axis, metric, column, noise)[chosen]
    sides = estimate.limits(z_value(data.audit.confidence, len(chosen) * (len(chosen) - 1) // 2))
    value, low, high = (part[chosen, column] for part in (estimate.value, *sides))
    least, most = pairs_bound(value, low, high, errors)
    yield {**row, "error_rate": errors[0] if np.ptp(errors) < 1e-12 else np.nan, "low": least, "high": most}
