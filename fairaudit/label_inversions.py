"""Rates corrected for wrong labels, or wrong membership of subgroups, at stated error rates."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fairaudit.axes import AuditData, AxisData
from fairaudit.gap_tables import assessed
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.intervals import Limits, z_value
from fairaudit.metrics.label_noise import Corrected, flips, inverse, inverted_accuracy, inverted_groups, inverted_rates
from fairaudit.metrics.rates import METRICS, Metric, ratio
from fairaudit.pooled import BY_CLASS
from fairaudit.spec import LabelNoiseSpec
from fairaudit.subgroups import CROSS, OVERALL
from fairaudit.wording import plural

LABELS, MEMBERSHIP = "labels inverted", "membership inverted"
DILUTES = "wrong membership that depends on nothing else usually makes an observed gap smaller than the true one"
LABEL_IS_GROUP = (
    "the subgroup is made of the label here: a wrong label is a wrong subgroup, so neither is inverted alone"
)
_FIGURES = (*("error_rate", "observed", "observed_low", "observed_high", "corrected", "low", "high", "breakdown"),)
_Pairs = Callable[[float], tuple[np.ndarray, np.ndarray, np.ndarray]]


def row_of(
    axis: AxisData, metric: Metric, column: int | None, method: str, subgroup: str = "", n: float = 0
) -> dict[str, Any]:
    """Return an empty row of the table."""
    class_ = axis.rows.classes[column] if metric.per_class and column is not None else ""
    row: dict[str, Any] = {"task": axis.task, "by": axis.by, "metric": metric.name, "class": class_}
    row |= {"subgroup": subgroup, "method": method, "n": round(n), "reason": "", "worst": "", "best": ""}
    return {**row, **dict.fromkeys(_FIGURES, np.nan)}


def estimate_of(axis: AxisData, metric: Metric) -> Estimate:
    """Return a proportion of each subgroup as observed."""
    found = share(axis.sample, np.eye(len(axis.sample.groups)), metric)
    if metric.name == BY_CLASS:  # of a subgroup with faces of several labels it would be the accuracy
        found.value[(axis.sample.counts[..., : axis.rows.table.classes].sum(-1) > 0).sum(-1) > 1] = np.nan
    return found


def error_rates(noise: LabelNoiseSpec, group: str, classes: Sequence[str]) -> np.ndarray:
    """Return the largest stated rate of wrong labels that applies to a subgroup and each of its classes: (K,)."""
    parts = [group] if group in noise.subgroups else group.split(CROSS)
    own = max([noise.rate or 0.0, *(noise.subgroups.get(part, 0.0) for part in parts)])
    return np.array([max(own, noise.classes.get(name, 0.0)) for name in classes])


def label_rows(axis: AxisData, data: AuditData) -> Iterator[dict[str, Any]]:
    """Yield accuracy, recall and false positive rates corrected for labels that are wrong at the stated rates."""
    if axis.degenerate is not None:
        yield {**row_of(axis, METRICS["recall"], None, LABELS), "reason": LABEL_IS_GROUP}
        return
    noise, classes, groups = data.audit.label_noise, axis.rows.classes, axis.sample.groups
    given = noise.matrix.get(axis.task)
    matrices = [np.array(given) if given else flips(error_rates(noise, name, classes)) for name in groups]
    inverses = [inverse(matrix) for matrix in matrices]
    rates = np.array([1 - np.diag(matrix) for matrix in matrices])
    recall = estimate_of(axis, METRICS["recall"])
    for metric in (METRICS["accuracy"], METRICS["recall"], METRICS["fpr"]):
        observed = estimate_of(axis, metric)
        for p in range(len(classes) if metric.per_class else 1):
            found = [_corrected(axis, metric, p, g, observed, recall, inverses[g]) for g in range(len(groups))]
            even = metric.name != "fpr" if metric.per_class else np.ptp(rates, axis=1) < 1e-12
            errors = np.where(even, rates[:, p if metric.per_class else 0], np.nan)
            yield from _group_rows(axis, metric, p, LABELS, observed, errors, found, data)
            if axis.by != OVERALL:
                yield _label_gap(axis, metric, p, observed, errors, found, data)


def _corrected(
    axis: AxisData, metric: Metric, p: int, g: int, observed: Estimate, recall: Estimate, noise: np.ndarray | str
) -> Corrected:
    if isinstance(noise, str) or np.isnan(observed.value[g, p]):
        nothing = np.full(1, np.nan)
        why = noise if isinstance(noise, str) else "no face that this needs"
        return Corrected(value=nothing, limits=lambda z: (nothing, nothing), reasons=np.array([why], dtype=object))
    k = len(axis.rows.classes)
    sums, squares = (part[g][:, :k] for part in (axis.sample.sums, axis.sample.squares))
    if metric.name == "accuracy":
        return inverted_accuracy((sums, squares), observed.effective[g, 0], noise)
    worth = recall.effective[g]
    # pictures of one person vary together: each row's squares grow as its effective number of faces falls
    dearer = np.maximum(np.nan_to_num(ratio(ratio(sums.sum(1) ** 2, squares.sum(1)), worth), nan=1.0), 1.0)
    weights = noise[p] if metric.name == "recall" else noise.sum(0) - noise[p]
    return inverted_rates((sums, squares * dearer[:, None]), worth, weights, p, noise)


def _label_gap(
    axis: AxisData,
    metric: Metric,
    p: int,
    observed: Estimate,
    errors: np.ndarray,
    found: Sequence[Corrected],
    data: AuditData,
) -> dict[str, Any]:
    """Return the gap of corrected rates; subgroups share no face, so pairs are compared as observed ones are."""

    def limits(z: float) -> Limits:
        sides = [one.limits(z) for one in found]
        low, high = (np.array([side[end][0] for side in sides])[:, None] for end in (0, 1))
        return low, high

    corrected = Estimate(
        metric=replace(metric, kind="average"),
        value=np.array([one.value[0] for one in found])[:, None],
        denominator=observed.denominator[:, p : p + 1],
        effective=observed.effective[:, p : p + 1],
        limits=limits,
        notes=observed.notes[:, p : p + 1],
    )
    chosen = assessed(corrected, 0, axis.known, data.audit.min_group_size)
    row = row_of(axis, metric, p, LABELS, n=observed.denominator[chosen, p].sum())
    if len(chosen) < 2:
        return {**row, "reason": _too_few(data)}
    after = gap(corrected, 0, chosen, data.audit.confidence)
    row |= {"corrected": after.difference, "low": after.difference_low, "high": after.difference_high}
    names, part = axis.sample.groups, errors[chosen]
    row |= {"worst": names[after.worst], "best": names[after.best], "reason": _left(axis, chosen)}
    row["error_rate"] = part[0] if np.ptp(part) < 1e-12 else np.nan
    return row | _observed_gap(observed, p, chosen, data)


def membership_rows(axis: AxisData, data: AuditData) -> Iterator[dict[str, Any]]:
    """Yield rates corrected for faces that stand in a wrong subgroup at the stated rates."""
    if axis.degenerate is not None:
        yield {**row_of(axis, METRICS["recall"], None, MEMBERSHIP), "reason": LABEL_IS_GROUP}
        return
    known, given = np.flatnonzero(axis.known), data.audit.label_noise.membership[axis.by]
    matrix = flips(np.full(len(known), given)) if isinstance(given, float) else np.array(given)
    noise = inverse(matrix) if len(known) > 1 else "there is only one subgroup"
    if isinstance(noise, str):
        yield {**row_of(axis, METRICS["accuracy"], None, MEMBERSHIP), "reason": noise}
        return
    errors = np.full(len(axis.sample.groups), np.nan)
    errors[known] = 1 - np.diag(matrix)
    for metric in (METRICS[name] for name in ("accuracy", "recall", "fpr", "selection_rate")):
        observed = estimate_of(axis, metric)
        sizes = _sizes(axis, metric, observed)
        for p in range(len(axis.rows.classes) if metric.per_class else 1):
            size = (sizes[0][known, p], sizes[1][known, p])
            every, pairs = inverted_groups(observed.value[known, p], size, observed.effective[known, p], noise)
            found = {int(g): _one(every, i) for i, g in enumerate(known)}
            yield from _group_rows(axis, metric, p, MEMBERSHIP, observed, errors, found, data)
            yield _membership_gap(axis, metric, p, observed, errors, (every.value, pairs), data)


def _sizes(axis: AxisData, metric: Metric, observed: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """Return Σw and Σw² of the denominators (G, P); squares grow where subjects make faces worth less."""
    assert metric.cells is not None  # by construction of METRICS
    top, bottom = metric.cells(axis.sample.table)
    bottom = np.broadcast_to(bottom, top.shape)
    sums, squares = axis.sample.total(bottom), axis.sample.total(bottom, axis.sample.squares)
    dearer = np.maximum(np.nan_to_num(ratio(ratio(sums**2, squares), observed.effective), nan=1.0), 1.0)
    return sums, squares * dearer


def _one(every: Corrected, i: int) -> Corrected:
    def limits(z: float) -> Limits:
        low, high = every.limits(z)
        return low[i : i + 1], high[i : i + 1]

    return Corrected(value=every.value[i : i + 1], limits=limits, reasons=every.reasons[i : i + 1])


def _membership_gap(
    axis: AxisData,
    metric: Metric,
    p: int,
    observed: Estimate,
    errors: np.ndarray,
    found: tuple[np.ndarray, _Pairs],
    data: AuditData,
) -> dict[str, Any]:
    """Return the gap of corrected rates with limits from their pairs: corrected rates share faces."""
    values, pairs = found
    corrected = np.full(len(axis.sample.groups), np.nan)
    corrected[axis.known] = values
    chosen = assessed(observed, p, axis.known, data.audit.min_group_size)
    chosen = chosen[~np.isnan(corrected[chosen])]
    row = row_of(axis, metric, p, MEMBERSHIP, n=observed.denominator[chosen, p].sum())
    if len(chosen) < 2:
        return {**row, "reason": _too_few(data)}
    place = np.searchsorted(np.flatnonzero(axis.known), chosen)
    z = z_value(data.audit.confidence, len(chosen) * (len(chosen) - 1) // 2)
    difference, down, up = (part[np.ix_(place, place)] for part in pairs(z))
    off = ~np.eye(len(chosen), dtype=bool)
    row |= {"corrected": difference.max(), "low": max(0.0, down[off].max()), "high": min(1.0, up[off].max())}
    ends = (int(np.argmin(corrected[chosen])), int(np.argmax(corrected[chosen])))
    worst, best = ends if metric.worst == "low" else ends[::-1]
    names, part = axis.sample.groups, errors[chosen]
    row |= {"worst": names[chosen[worst]], "best": names[chosen[best]]}
    row |= {"error_rate": part[0] if np.ptp(part) < 1e-12 else np.nan}
    row["reason"] = "; ".join(filter(None, [DILUTES, _left(axis, chosen)]))
    return row | _observed_gap(observed, p, chosen, data)


def _group_rows(
    axis: AxisData,
    metric: Metric,
    p: int,
    method: str,
    observed: Estimate,
    errors: np.ndarray,
    found: Any,
    data: AuditData,
) -> Iterator[dict[str, Any]]:
    """Yield the row of each subgroup; `found`: its corrected rate by number."""
    z = z_value(data.audit.confidence)
    low, high = (side[:, p] for side in observed.limits(z))
    for g in found if isinstance(found, dict) else range(len(found)):
        row = row_of(axis, metric, p, method, subgroup=axis.sample.groups[g], n=observed.denominator[g, p])
        row |= {"error_rate": errors[g], "observed": observed.value[g, p]}
        row |= {"observed_low": low[g], "observed_high": high[g], "corrected": found[g].value[0]}
        sides = found[g].limits(z)
        yield {**row, "low": sides[0][0], "high": sides[1][0], "reason": found[g].reasons[0]}


def _observed_gap(observed: Estimate, p: int, chosen: np.ndarray, data: AuditData) -> dict[str, float]:
    before = gap(observed, p, chosen, data.audit.confidence)
    return {
        "observed": before.difference,
        "observed_low": before.difference_low,
        "observed_high": before.difference_high,
    }


def _too_few(data: AuditData) -> str:
    return f"fewer than two subgroups of {plural(data.audit.min_group_size, 'face')} or more have a corrected value"


def _left(axis: AxisData, chosen: np.ndarray) -> str:
    """Name the known subgroups that the gap leaves out."""
    inside = set(chosen.tolist())
    out = [name for g, name in enumerate(axis.sample.groups) if axis.known[g] and g not in inside]
    shown = ", ".join(out[:5]) + (f" and {len(out) - 5} more" if len(out) > 5 else "")
    return f"not assessed: {shown}" if out else ""
