"""What is compared on one axis: the metrics, their families, values of drawn cubes, and who is assessed."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.axes import AxisData
from fairaudit.metrics.contrasts import distinct
from fairaudit.metrics.estimates import share
from fairaudit.metrics.nulls import condition_of
from fairaudit.metrics.rates import METRICS, Margins, Metric, average, average_weights, ratio
from fairaudit.pooled import BY_CLASS, PooledAxis, pooled_axis, wanted_metrics
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, parse

ERRORS, LABEL_MIX, DATA = "error rates", "label mix", "composition"
FAMILIES = (ERRORS, LABEL_MIX, DATA)
_COUNTED = ("proportion", "f1", "average", "composite")  # what the cube alone gives, and so its draws


@dataclass(frozen=True, kw_only=True)
class ComparedAxis:
    """One task on one axis with the metrics that are compared; `first`: of which metric and class each is a repeat.

    recall_by: the axis on which recall of each class is compared between the same faces, "" for this one: recall of
    Female by race × gender is recall of Female by race.
    """

    data: AxisData
    pooled: PooledAxis
    metrics: tuple[Metric, ...]
    first: dict[tuple[str, int], tuple[str, int]]
    recall_by: str

    @property
    def plain(self) -> bool:
        """Whether faces are independent and count alike, so that permutations are tables with fixed margins."""
        return self.data.sample.weight is None and self.data.sample.subject is None

    def rng(self, seed: int, *more: int) -> np.random.Generator:
        """Return a generator for this task and axis, whatever else is audited."""
        names = (zlib.crc32(text.encode()) for text in (self.data.task, self.data.by))
        return np.random.default_rng([seed, *names, *more])


def family_of(metric: Metric) -> str:
    """Return the family of a metric: what the mix of labels moves stands apart from error rates within labels.

    "error rates": within true classes, of outcomes, and by labelled class; "label mix": crude shares and what
    conditions on predictions, which differ wherever the label mix does; "composition": the labels alone.
    """
    if metric.name == "base_rate":
        return DATA
    if metric.name == BY_CLASS or (metric.outcome and metric.name != "end_to_end_accuracy"):
        return ERRORS
    return ERRORS if condition_of(metric) == "label" else LABEL_MIX


def compared_axis(data: AxisData, audit: AuditSpec, others: Sequence[str] = ()) -> ComparedAxis | None:
    """Return what is to be tested of one task on one axis, None for all faces together; `others`: all axes audited."""
    if data.by == OVERALL:
        return None
    pooled = pooled_axis(data.rows, data.sample, data.by, data.degenerate, audit)
    chosen = wanted_metrics(data.rows, data.sample, data.by, data.degenerate)
    metrics = [m for m in chosen if m.kind in _COUNTED and (data.degenerate is None or m.degenerate)]
    first = distinct(metrics, data.rows.table)
    same = _same_recall(data, pooled, others)
    return ComparedAxis(data=data, pooled=pooled, metrics=tuple(metrics), first=first, recall_by=same)


def _same_recall(data: AxisData, pooled: PooledAxis, others: Sequence[str]) -> str:
    """Return the audited axis without the task's own attribute, where each subgroup here holds one label."""
    left = set(parse(data.by)) - {data.task}
    one = (pooled.own[: pooled.size][pooled.known].sum(-1) <= 1).all()
    if data.degenerate is None or data.task not in parse(data.by) or not left or not one or not pooled.known.all():
        return ""
    return next((by for by in others if set(parse(by)) == left), "")


def metric_values(axis: ComparedAxis, metric: Metric, cubes: np.ndarray, margins: Margins | None = None) -> np.ndarray:
    """Return a metric of every subgroup in cubes (…, G, cells), (…, G, P), averages over the shared classes.

    margins: of the same cubes, so that several metrics may share them.
    """
    table, shared = axis.data.rows.table, axis.pooled.shared
    if metric.cells is not None:
        top, bottom = metric.cells(table)
        masks = (np.broadcast_to(m, (len(top), *table.shape)).reshape(len(top), -1) for m in (top, bottom))
        found = ratio(*(cubes[..., m.any(0)] @ m[:, m.any(0)].T for m in masks))
        return 2 * found / (1 + found) if metric.kind == "f1" else found
    margins = margins or margins_of(axis, cubes)
    if metric.value is not None:
        return metric.value(margins, np.broadcast_to(shared, margins.rows.shape))[..., None]
    weights = average_weights(metric.name, shared, axis.pooled.mix)
    return np.where(weights.sum() > 0, average(margins.recall, weights), np.nan)[..., None]


def margins_of(axis: ComparedAxis, cubes: np.ndarray) -> Margins:
    """Return cubes (…, G, cells) as stacks of confusion matrices."""
    table = axis.data.rows.table
    return Margins(cubes.reshape(*cubes.shape[:-1], *table.shape)[..., : table.classes])


def metric_faces(axis: ComparedAxis, metric: Metric, counts: np.ndarray) -> np.ndarray:
    """Return the denominator of a metric in every subgroup of counts (…, G, cells), (…, G, P)."""
    table = axis.data.rows.table
    if metric.cells is not None:
        top, bottom = metric.cells(table)
        return counts @ np.broadcast_to(bottom, top.shape).reshape(len(top), -1).T
    held = table.predicted
    if metric.kind == "average":
        held = (table.labelled_as * axis.pooled.shared[:, None, None]).sum(0, keepdims=True)
    return counts @ held.reshape(1, -1).T


def efficiency(axis: ComparedAxis, metric: Metric) -> np.ndarray:
    """Return the effective number of faces per face of a metric, over all known subgroups (P,): 1 without weights."""
    if axis.plain:
        return np.ones(axis.data.rows.table.classes if metric.per_class else 1)
    estimate = share(axis.data.sample, np.eye(axis.pooled.size), metric if metric.cells else METRICS["accuracy"])
    known = axis.pooled.known
    d = ratio(estimate.effective[known].sum(0), estimate.denominator[known].sum(0))
    return np.clip(np.nan_to_num(d, nan=1.0), 0, 1)


def eligible(axis: ComparedAxis, metric: Metric, values: np.ndarray, faces: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return which subgroups enter extremes: known, defined, with enough (effective) faces; (…, G, P) → bool."""
    allowed = axis.pooled.known
    if metric.name == BY_CLASS:
        allowed = allowed & (axis.pooled.own[: axis.pooled.size].sum(-1) <= 1)
    enough = np.minimum(faces, faces * d + 1e-9) >= axis.pooled.audit.min_group_size
    return allowed[:, None] & enough & ~np.isnan(values)


def observed_eligible(axis: ComparedAxis, metric: Metric) -> np.ndarray:
    """Return which subgroups are assessed in the data themselves, by their own effective numbers, (G, P)."""
    sample, size = axis.data.sample, axis.pooled.size
    sums, counts = (part.reshape(size, -1) for part in (sample.sums, sample.counts))
    values, faces = metric_values(axis, metric, sums), metric_faces(axis, metric, counts)
    chosen = eligible(axis, metric, values, faces, np.ones(faces.shape[-1]))
    if not axis.plain:
        estimate = share(sample, np.eye(size), metric if metric.cells else METRICS["accuracy"])
        own = np.clip(ratio(estimate.effective, estimate.denominator), 0, 1)
        chosen &= faces * np.nan_to_num(own, nan=0.0) + 1e-9 >= axis.pooled.audit.min_group_size
    return chosen
