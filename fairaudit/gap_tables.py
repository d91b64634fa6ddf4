"""The tables of differences between subgroups on one axis: gaps, and each subgroup beside everyone else."""

from typing import Any

import numpy as np

from fairaudit.frames import Block
from fairaudit.metrics.disparity import gap, gap_p_value, noise_gap
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import mover_difference, z_value
from fairaudit.metrics.rates import Metric
from fairaudit.pooled import PooledAxis
from fairaudit.wording import plural


def gap_rows(axis: PooledAxis, metric: Metric, estimate: Estimate | None) -> list[dict[str, Any]]:
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
            why = f"fewer than two subgroups have a defined {metric.name} from at least {plural(least, 'face')}"
            found.append({**row, "reason": why})
            continue
        result = gap(estimate, p, chosen, axis.audit.confidence)
        names = axis.sample.groups
        if metric.kind == "score":  # counts cannot draw its null; all others are tested in gap_tests
            rng = np.random.default_rng(list(f"{axis.rows.task}/{axis.by}/{metric.name}/{p}".encode()))
            row["p_value"] = gap_p_value(estimate, p, chosen)
            row["expected_gap"], row["expected_gap_high"] = noise_gap(estimate, p, chosen, rng)
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


def rest_rows(axis: PooledAxis, metric: Metric, estimate: Estimate) -> Block:
    """Return every known subgroup beside everyone else as columns, with the difference's limits (Newcombe, else MOVER).

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
    told = np.where(estimate.notes[own] != "", estimate.notes[own], undefined)
    reason = np.where(missing, told, estimate.notes[own])
    if metric.averages:
        fewer = axis.common[own].sum(-1) < (axis.mix > 0).sum()
        used = [", ".join(c for c, on in zip(axis.rows.classes, axis.common[g], strict=True) if on) for g in own]
        note = np.array(
            [f"over the classes that both hold: {u}" if f else "" for u, f in zip(used, fewer, strict=True)]
        )
        reason = np.where(missing, reason, note[:, None])
    return {
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
