"""From a sample to estimates: value, denominator, effective number and limits at any level, for pools of subgroups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics import bootstrap
from fairaudit.metrics.intervals import PROPORTION_LIMITS, Limits, f1_of_jaccard, mover_sum, z_value
from fairaudit.metrics.rates import METRICS, Margins, Metric, average, average_weights, ratio
from fairaudit.metrics.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One metric of Q pools of faces (Q subgroups, or everyone else of each): arrays of shape (Q, P), P classes or 1.

    denominator: faces that the value is a share or mean of; effective: their effective number under weights or repeated
    subjects; limits: z → (low, high); notes: why an interval is missing, per pool and class.
    """

    metric: Metric
    value: np.ndarray
    denominator: np.ndarray
    effective: np.ndarray
    limits: Callable[[float], Limits]
    notes: np.ndarray


def bounds(metric: Metric) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have."""
    if metric.span is not None:
        return metric.span
    if metric.name in ("mae_bins", "signed_error_bins"):
        return (0.0 if metric.name == "mae_bins" else -np.inf), np.inf
    return (-1.0 if metric.signed else 0.0), 1.0


def share(sample: Sample, pools: np.ndarray, metric: Metric) -> Estimate:
    """Estimate a proportion, or F1 through J = TP / (TP + FP + FN), with Wilson limits at the effective number.

    pools: 0/1 membership of the G subgroups in Q pools, (Q, G). Weights: Kish's n_eff = (Σw)² / Σw² of the denominator.
    Subjects: n_eff = p(1 − p) / linearized variance between subjects, never above the former.
    """
    assert metric.cells is not None  # by construction of METRICS
    top, bottom = metric.cells(sample.table)
    bottom = np.broadcast_to(bottom, top.shape)
    above, below = pools @ sample.total(top), pools @ sample.total(bottom)
    value = ratio(above, below)
    denominator = pools @ sample.total(bottom, sample.counts)
    effective = np.nan_to_num(ratio(below**2, pools @ sample.total(bottom, sample.squares)))
    if sample.subject is not None:
        effective = np.minimum(effective, _clustered(sample, pools, top, bottom, value, below))
    wrap = f1_of_jaccard if metric.kind == "f1" else np.asarray

    def limits(z: float) -> Limits:
        low, high = PROPORTION_LIMITS[sample.interval](value, effective, z)
        return wrap(low), wrap(high)

    notes = np.full(value.shape, "", dtype=object)
    return Estimate(
        metric=metric, value=wrap(value), denominator=denominator, effective=effective, limits=limits, notes=notes
    )


def _clustered(
    sample: Sample, pools: np.ndarray, top: np.ndarray, bottom: np.ndarray, value: np.ndarray, below: np.ndarray
) -> np.ndarray:
    """Effective number of faces from the variance between subjects; at rates of 0 and 1, the number of subjects."""
    aa, ab, bb, subjects = (pools @ part for part in sample.moments(top, bottom))
    residual = np.maximum(aa - 2 * value * ab + value**2 * bb, 0)
    variance = ratio(residual * ratio(subjects, subjects - 1), below**2)
    by_spread = ratio(value * (1 - value), variance)
    return np.nan_to_num(np.where(np.isnan(by_spread), ratio(below**2, bb), by_spread))


def mean_recall(sample: Sample, pools: np.ndarray, metric: Metric, classes: np.ndarray, mix: np.ndarray) -> Estimate:
    """Estimate an average of recalls over `classes` (0/1, (Q, K)) with MOVER limits over the classes' Wilson limits."""
    recall = share(sample, pools, METRICS["recall"])
    weights = average_weights(metric.name, classes, mix)
    value = average(recall.value, weights)[:, None]

    def limits(z: float) -> Limits:
        low, high = mover_sum(
            weights, recall.value, *PROPORTION_LIMITS[sample.interval](recall.value, recall.effective, z)
        )
        undefined = np.isnan(value)
        low, high = (np.clip(part, 0, 1)[:, None] for part in (low, high))
        return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)

    used = weights > 0
    return Estimate(
        metric=metric,
        value=value,
        denominator=np.where(used, recall.denominator, 0).sum(-1, keepdims=True),
        effective=np.where(used, recall.effective, 0).sum(-1, keepdims=True),
        limits=limits,
        notes=np.full(value.shape, "", dtype=object),
    )


Item = tuple[str, np.ndarray]


def composites(
    sample: Sample,
    items: Mapping[str, Item],
    *,
    known: np.ndarray,
    rest: bool,
    confidence: float,
    draws: int,
    seed: Sequence[int],
) -> dict[str, Estimate]:
    """Estimate composite metrics with bootstrap limits; `items` maps a key to (metric name, classes (Q, K)).

    Pools: the G subgroups, then with `rest` everyone else of each `known` one. Every subgroup is drawn with its size
    fixed and a generator seeded by `seed` and its number; a rest's draws are the sum of the other subgroups' draws.
    Limits at another level than `confidence` are the BCa limits' distances from the value scaled by the ratio of normal
    quantiles (2,000 draws cannot show tails of 1 in 1,000), kept within the metric's range.
    """
    groups = len(sample.groups)
    own = np.eye(groups)
    others = (known.astype(float) - own)[known] if rest else own[:0]
    pools = np.concatenate([own, others])
    found = {key: np.full((3, len(pools)), np.nan) for key in items}
    notes = {key: np.full((len(pools), 1), "", dtype=object) for key in items}

    def record(q: int, drawn: np.ndarray) -> None:
        units, times = sample.units(pools[q])
        if len(times):
            statistic = _statistic(sample, [(name, classes[q]) for name, classes in items.values()])
            value, low, high, why = bootstrap.bca(units, times, statistic, drawn, confidence)
            for i, key in enumerate(items):
                found[key][:, q] = value[i], low[i], high[i]
                notes[key][q, 0] = why[i]

    def draw(g: int) -> np.ndarray:
        units, times = sample.units(own[g])
        if not len(times):
            return np.zeros((draws, units.shape[1]))
        return bootstrap.draw_sums(units, times, draws, np.random.default_rng([*seed, g]))

    everyone = np.zeros((draws, sample.table.shape[0] * sample.table.shape[1]))
    for g in range(groups):
        drawn = draw(g)
        record(g, drawn)
        everyone += drawn * float(known[g])
    # drawing again with the same seed costs less than keeping every subgroup's draws in memory
    for q, g in enumerate(np.flatnonzero(known)[: len(others)], start=groups):
        record(q, bootstrap.without(everyone, draw(int(g))))
    accuracy, z = share(sample, pools, METRICS["accuracy"]), z_value(confidence)
    return {
        key: Estimate(
            metric=METRICS[name],
            value=found[key][0][:, None],
            denominator=accuracy.denominator,
            effective=accuracy.effective,
            limits=_scaled(METRICS[name], found[key], z),
            notes=notes[key],
        )
        for key, (name, _) in items.items()
    }


def _statistic(sample: Sample, items: Sequence[Item]) -> bootstrap.Statistic:
    rows, columns = sample.table.shape
    k = sample.table.classes

    def statistic(cells: np.ndarray) -> np.ndarray:
        margins = Margins(cells.reshape(*cells.shape[:-1], rows, columns)[..., :k])
        return np.stack([_value(METRICS[name], margins, classes) for name, classes in items], axis=-1)

    return statistic


def _value(metric: Metric, margins: Margins, classes: np.ndarray) -> np.ndarray:
    assert metric.value is not None  # by construction of METRICS
    return metric.value(margins, classes)


def _scaled(metric: Metric, found: np.ndarray, z0: float) -> Callable[[float], Limits]:
    least, most = bounds(metric)
    value, low, high = found

    def limits(z: float) -> Limits:
        below, above = value - (value - low) * z / z0, value + (high - value) * z / z0
        return np.maximum(below, least)[:, None], np.minimum(above, most)[:, None]

    return limits
