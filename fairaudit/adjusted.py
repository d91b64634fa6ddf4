"""One task on one axis, its rates by subgroup and stratum of covariates: raw, standardized, and by a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from fairaudit.axes import AxisData
from fairaudit.covariates import Covariate, strata
from fairaudit.gap_tables import assessed
from fairaudit.metrics.adjusted import Cells, Overlap, cells_of, overlap, standardized
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.intervals import Limits
from fairaudit.metrics.logistic import Marginal, marginal_rates
from fairaudit.metrics.rates import Metric
from fairaudit.metrics.sample import Sample
from fairaudit.spec import AuditSpec

MOST_CELLS = 200_000  # subgroups × strata


@dataclass(frozen=True, kw_only=True)
class AdjustedAxis:
    """One task on one axis, its faces with known covariates counted by subgroup and stratum."""

    data: AxisData
    sample: Sample
    stratum: np.ndarray
    levels: Sequence[np.ndarray]
    names: Sequence[str]
    target: np.ndarray
    words: Mapping[str, str]
    left_out: int
    confidence: float
    least: int


@dataclass(frozen=True, kw_only=True)
class AdjustedColumn:
    """Everything of one metric and class on one axis, each estimate with one column."""

    metric: Metric
    class_: str
    raw: Estimate
    adjusted: Estimate
    modelled: Estimate
    cells: Cells
    shared: Overlap
    marginal: Marginal


def prepared(
    axis: AxisData, chosen: Sequence[Covariate], target: np.ndarray | None, words: Mapping[str, str], audit: AuditSpec
) -> AdjustedAxis | str:
    """Return the axis with its strata, or why it cannot be adjusted."""
    stratum, levels, names = strata(chosen)
    keep = stratum >= 0
    if not keep.any():
        return "no face has all covariates"
    if len(axis.sample.groups) * len(names) > MOST_CELLS:
        return (
            f"{len(axis.sample.groups)} subgroups × {len(names)} strata are too many: name fewer or coarser covariates"
        )
    sample = _faces_with(axis.sample, keep)
    wanted = axis.known[sample.group] if target is None else target[keep]
    return AdjustedAxis(
        data=axis,
        sample=sample,
        stratum=stratum[keep],
        levels=levels,
        names=names,
        target=wanted,
        words=words,
        left_out=int((~keep if axis.sample.times is None else axis.sample.times[~keep]).sum()),
        confidence=audit.confidence,
        least=audit.min_group_size,
    )


def columns_of(axis: AdjustedAxis, metric: Metric) -> list[AdjustedColumn]:
    """Return the estimates of each class of a proportion (one for a whole-task metric)."""
    raw = share(axis.sample, np.eye(len(axis.sample.groups)), metric)
    # the denominator's weight in each stratum, over the faces that make the target
    of_target = replace(axis.sample, groups=("target", "others"), group=np.where(axis.target, 0, 1))
    mixes = cells_of(of_target, axis.stratum, len(axis.names), metric)
    counted = cells_of(axis.sample, axis.stratum, len(axis.names), metric)
    classes = axis.data.rows.classes if metric.per_class else ("",)
    return [
        _column(axis, metric, class_, _one_column(raw, p), counted[p], mixes[p].bottom[0])
        for p, class_ in enumerate(classes)
    ]


def _column(
    axis: AdjustedAxis, metric: Metric, class_: str, raw: Estimate, cells: Cells, target: np.ndarray
) -> AdjustedColumn:
    known = axis.data.known
    candidates = np.zeros(len(known), dtype=bool)
    candidates[assessed(raw, 0, known, axis.least)] = True
    shared = overlap(cells.counts, target, candidates)
    adjusted = standardized(cells, shared.mix, raw.metric)
    marginal = marginal_rates(cells, axis.levels, shared.mix, ~np.isnan(adjusted.value[:, 0]), known)
    return AdjustedColumn(
        metric=metric,
        class_=class_,
        raw=raw,
        adjusted=adjusted,
        modelled=_as_estimate(marginal, adjusted),
        cells=cells,
        shared=shared,
        marginal=marginal,
    )


def _faces_with(sample: Sample, keep: np.ndarray) -> Sample:
    return Sample(
        table=sample.table,
        groups=sample.groups,
        group=sample.group[keep],
        row=sample.row[keep],
        column=sample.column[keep],
        weight=None if sample.weight is None else sample.weight[keep],
        subject=None if sample.subject is None else sample.subject[keep],
        times=None if sample.times is None else sample.times[keep],
    )


def _one_column(estimate: Estimate, p: int) -> Estimate:
    """Return one class of an estimate, as a mean: at a mix of strata it is no share of n faces."""

    def limits(z: float) -> Limits:
        low, high = estimate.limits(z)
        return low[:, p : p + 1], high[:, p : p + 1]

    return Estimate(
        metric=replace(estimate.metric, kind="average"),
        value=estimate.value[:, p : p + 1],
        denominator=estimate.denominator[:, p : p + 1],
        effective=estimate.effective[:, p : p + 1],
        limits=limits,
        notes=estimate.notes[:, p : p + 1],
    )


def _as_estimate(marginal: Marginal, adjusted: Estimate) -> Estimate:
    """Return a model's rates with normal limits on the logit scale."""
    value = marginal.value[:, None]

    def limits(z: float) -> Limits:
        inside = np.where((value > 0) & (value < 1), value, np.nan)
        half = z * marginal.error[:, None] / (inside * (1 - inside))
        return special.expit(special.logit(inside) - half), special.expit(special.logit(inside) + half)

    return Estimate(
        metric=adjusted.metric,
        value=value,
        denominator=adjusted.denominator,
        effective=adjusted.effective,
        limits=limits,
        notes=adjusted.notes,
    )
