"""One task on one axis as pools of faces (each subgroup, and everyone else of it), with every metric's estimates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.axes import TaskRows
from fairaudit.metrics.estimates import Estimate, composites, mean_recall, share
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.score_estimates import score_estimates
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN

BY_CLASS = "recall_by_labelled_class"


@dataclass(frozen=True, kw_only=True)
class PooledAxis:
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
        and (not metric.needs or _measurable(metric, rows, sample, by))
    ]


def _measurable(metric: Metric, rows: TaskRows, sample: Sample, by: str) -> bool:
    """Whether the faces have what a metric needs; ages in years that are not known are said once, on all faces."""
    if sample.measures is None or not rows.labelled:
        return False
    if metric.needs == "scores":
        return sample.measures.scores is not None or sample.measures.counted is not None
    known = sample.measures.years is not None or sample.measures.counted_years is not None
    return known or (by == OVERALL and bool(sample.measures.why_no_years))


def pooled_axis(rows: TaskRows, sample: Sample, by: str, degenerate: str | None, audit: AuditSpec) -> PooledAxis:
    """Return the pools of one task on one axis: each subgroup, then everyone else of each known one.

    `overall` has no one else. degenerate: why the axis settles the label, None where it does not.
    """
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
    return PooledAxis(
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


def estimates_of(axis: PooledAxis, chosen: Sequence[Metric], seed: Sequence[int]) -> dict[tuple[str, str], Estimate]:
    """Return the estimates of all pools by metric and by what its averages run over: "own", "shared" or "common"."""
    found: dict[tuple[str, str], Estimate] = {}
    pending: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
    target = np.broadcast_to((axis.mix > 0).astype(float), axis.own.shape)
    masks = {"own": axis.own, "shared": np.broadcast_to(axis.shared, axis.own.shape), "common": axis.common}
    for metric in chosen:
        if axis.degenerate is not None and not metric.degenerate:
            continue
        if metric.kind in ("count", "score"):
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
    scored = [m for m in chosen if m.kind == "score" and (axis.degenerate is None or m.degenerate)]
    if scored:
        for name, estimate in score_estimates(axis.sample, axis.known, axis.by != OVERALL, scored).items():
            found.update({(name, use): estimate for use in masks})
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
