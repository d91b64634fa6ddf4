"""The table of adjusted gaps: each subgroup's rates as they are, and at one common mix of covariates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.adjusted import AdjustedAxis, AdjustedColumn, columns_of, prepared
from fairaudit.axes import AuditData, AxisData
from fairaudit.covariates import POOLED, Covariate, covariate, target_rows, usable_on
from fairaudit.gap_tables import assessed
from fairaudit.metrics.adjusted import ENOUGH, LEAST_OVERLAP, Overlap, composition_change
from fairaudit.metrics.disparity import Gap, gap
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.rates import METRICS, ratio
from fairaudit.results.columns import MORE_TABLES
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

# What may be standardized: rates whose denominator no prediction decides. Precision and its kin condition on it.
ADJUSTED = ("accuracy", "recall", "fnr", "fpr", "selection_rate")
DISAGREE = (
    "the logistic model differs from direct standardization beyond noise: the covariates do not act alike in all "
    "subgroups, so one adjusted number hides something"
)
_FIGURES = (
    *("raw", "raw_low", "raw_high", "adjusted", "adjusted_low", "adjusted_high", "overlap", "modelled"),
    *("modelled_low", "modelled_high", "raw_shared", "change", "change_low", "change_high", "overlap_enough"),
)


def adjusted_table(data: AuditData) -> pd.DataFrame:
    """Return a row a task, axis, metric, class and subgroup, and one with subgroup "" for the gap; empty unless
    `audit.adjust_for` names covariates.

    raw: the rate over the faces whose covariates are known; adjusted: at the target mix of covariates, over the strata
    that all compared subgroups hold (overlap: the share of the target that the subgroup holds; in the gap's row, that
    all hold); modelled: the same by a logistic model; change: adjusted minus raw over the same strata (raw_shared); in
    the gap's row, of the difference between the two ends of the raw gap. Rows of gaps have simultaneous limits.
    Faces whose covariates are not known are left out of all of it and counted in the reason.
    """
    rows: list[dict[str, Any]] = []
    if not data.audit.adjust_for:
        return pd.DataFrame(rows, columns=list(MORE_TABLES["adjusted"]))
    known: dict[str, Covariate] = {}
    target: np.ndarray | None = None
    for axis in data.axes:
        if axis.by == OVERALL:  # the first axis of each task, with the faces that all its axes count
            times = axis.sample.times
            known = {name: covariate(axis.frame, name, axis.task, times) for name in data.audit.adjust_for}
            target = target_rows(axis.frame, data.audit.adjust_to)
            continue
        chosen = [known[name] for name in usable_on(data.audit.adjust_for, axis.by)]
        rows += _axis_rows(axis, chosen, target, data)
    return pd.DataFrame(rows, columns=list(MORE_TABLES["adjusted"]))


def _axis_rows(
    axis: AxisData, chosen: Sequence[Covariate], target: np.ndarray | None, data: AuditData
) -> list[dict[str, Any]]:
    words = {"task": axis.task, "by": axis.by, "covariates": "; ".join(one.words() for one in chosen)}
    words["target"] = data.audit.adjust_to if target is not None else POOLED
    if not chosen:
        return [_empty(words, "every covariate is part of this axis")]
    made = prepared(axis, chosen, target, words, data.audit)
    if isinstance(made, str):
        return [_empty(words, made)]
    columns = [
        column
        for name in ADJUSTED
        if (axis.rows.labelled or not METRICS[name].labels) and (axis.degenerate is None or METRICS[name].degenerate)
        for column in columns_of(made, METRICS[name])
    ]
    apart = z_value(data.audit.confidence, sum(int((~np.isnan(c.marginal.apart)).sum()) for c in columns))
    return [row for column in columns for row in [*_group_rows(made, column, apart), _gap_row(made, column, apart)]]


def _group_rows(axis: AdjustedAxis, column: AdjustedColumn, apart: float) -> list[dict[str, Any]]:
    z = z_value(axis.confidence)
    figures = {
        name: (estimate.value[:, 0], *(side[:, 0] for side in estimate.limits(z)))
        for name, estimate in (("raw", column.raw), ("adjusted", column.adjusted), ("modelled", column.modelled))
    }
    inside = np.where(column.shared.mix > 0, 1.0, 0.0)
    change, variance = composition_change(column.cells, column.shared.mix)
    half = z * np.sqrt(variance)
    figures["change"] = (change, change - half, change + half)
    crude = ratio(np.where(inside > 0, column.cells.top, 0).sum(-1), (inside * column.cells.bottom).sum(-1))
    defined = ~np.isnan(column.adjusted.value[:, 0])
    rows = []
    for g, name in enumerate(axis.sample.groups):
        row: dict[str, Any] = {**axis.words, "metric": column.metric.name, "class": column.class_, "subgroup": name}
        for key, values in figures.items():
            for end, part in zip(("", "_low", "_high"), values, strict=True):
                row[key + end] = part[g] if key == "raw" or defined[g] else np.nan
        row |= {"raw_shared": crude[g] if defined[g] else np.nan, "n": int(column.cells.counts[g].sum())}
        row |= {"overlap": column.shared.own[g], "overlap_enough": column.shared.enough[g]}
        row["reason"] = "; ".join(filter(None, _reasons(axis, column, g, bool(defined[g]), apart)))
        rows.append({**_blank(), **row})
    return rows


def _reasons(axis: AdjustedAxis, column: AdjustedColumn, g: int, defined: bool, apart: float) -> list[str]:
    shared = column.shared
    if not column.cells.counts[g].any():
        return [f"no face of {axis.sample.groups[g]} with known covariates is counted here"]
    said = [_left_out(axis)]
    if not defined:
        return [*said, _missing(axis, column, g)]
    said.append(_restricted(axis, shared))
    if shared.enough[g] < LEAST_OVERLAP:
        part = _percent(shared.enough[g])
        said.append(f"only {part} of the target mix lies in strata with {ENOUGH} or more of its faces")
    if abs(column.marginal.apart[g]) > apart:
        said.append(DISAGREE)
    return [*said, column.marginal.reasons[g]]


def _missing(axis: AdjustedAxis, column: AdjustedColumn, g: int) -> str:
    """Say why a subgroup has no adjusted value: how much of the target mix it holds, and which strata it lacks."""
    shared = column.shared
    held, least = _percent(shared.own[g]), _percent(LEAST_OVERLAP)
    if not shared.compared.any():
        return (
            f"not standardized: no two subgroups of sufficient size share {least} of the target mix (it holds {held})"
        )
    return (
        f"not standardized: it holds {held} of the target mix, {least} of it and every stratum compared are needed; "
        f"no face of {_strata(axis, shared, column.cells.counts[g] == 0)}"
    )


def _restricted(axis: AdjustedAxis, shared: Overlap) -> str:
    """Say over which part of the target mix subgroups are compared, where it is not all of it."""
    if shared.share > 1 - 1e-9:
        return ""
    return (
        f"over the strata that all compared subgroups hold, {_percent(shared.share)} of the target mix, "
        f"without {_strata(axis, shared, ~shared.shared)}"
    )


def _strata(axis: AdjustedAxis, shared: Overlap, lacking: np.ndarray) -> str:
    """Name the lacking strata, those of the largest part of the target first."""
    where = np.flatnonzero((shared.target > 0) & lacking)
    names = [axis.names[s] for s in where[np.argsort(-shared.target[where], kind="stable")]]
    return "; ".join(names[:4]) + (f" and {len(names) - 4} more strata" if len(names) > 4 else "")


def _left_out(axis: AdjustedAxis) -> str:
    return f"faces left out because a covariate is not known: {axis.left_out}" if axis.left_out else ""


def _gap_row(axis: AdjustedAxis, column: AdjustedColumn, apart: float) -> dict[str, Any]:
    """Return the raw and the adjusted gap, each over its own pair, and the change between the raw gap's two ends."""
    names = axis.sample.groups
    row = {**_blank(), **axis.words, "metric": column.metric.name, "class": column.class_}
    row["overlap"] = column.shared.share
    chosen = assessed(column.adjusted, 0, axis.data.known, axis.least)
    left = [name for g, name in enumerate(names) if axis.data.known[g] and g not in set(chosen.tolist())]
    row |= {
        "assessed": len(chosen),
        "not_assessed": "; ".join(left),
        "n": int(column.adjusted.denominator[chosen].sum()),
    }
    if len(chosen) < 2:
        why = f"fewer than two subgroups of {plural(axis.least, 'face')} or more can be standardized to the target mix"
        return {**row, "reason": "; ".join(filter(None, [_left_out(axis), why]))}
    found = gap(column.raw, 0, chosen, axis.confidence)
    after = gap(column.adjusted, 0, chosen, axis.confidence)
    row |= _as_row("raw", found) | _as_row("adjusted", after)
    if not np.isnan(column.modelled.value[chosen]).any():
        row |= _as_row("modelled", gap(column.modelled, 0, chosen, axis.confidence))
    row |= {"worst": names[found.worst], "best": names[found.best]} if found.difference > 0 else {}
    row |= {"adjusted_worst": names[after.worst], "adjusted_best": names[after.best]} if after.difference > 0 else {}
    row |= _pair_change(axis, column, chosen, found)
    said = [_left_out(axis), _restricted(axis, column.shared)]
    if (np.abs(np.nan_to_num(column.marginal.apart[chosen])) > apart).any():
        said.append(DISAGREE)
    return {**row, "reason": "; ".join(filter(None, said))}


def _pair_change(axis: AdjustedAxis, column: AdjustedColumn, chosen: np.ndarray, found: Gap) -> dict[str, float]:
    """Return by how much the difference between the raw gap's two ends changes over the shared strata, with limits at
    the level of all pairs, because the pair was picked on the same faces.
    """
    inside = column.shared.mix > 0
    crude = ratio(column.cells.top[:, inside].sum(-1), column.cells.bottom[:, inside].sum(-1))
    change, variance = composition_change(column.cells, column.shared.mix)
    value = column.raw.value[:, 0]
    top, bottom = sorted((found.worst, found.best), key=lambda g: -value[g])
    half = z_value(axis.confidence, len(chosen) * (len(chosen) - 1) // 2) * np.sqrt(variance[top] + variance[bottom])
    moved = float(change[top] - change[bottom])
    return {
        "raw_shared": float(crude[top] - crude[bottom]),
        "change": moved,
        "change_low": moved - float(half),
        "change_high": moved + float(half),
    }


def _as_row(name: str, found: Gap) -> dict[str, float]:
    return {name: found.difference, f"{name}_low": found.difference_low, f"{name}_high": found.difference_high}


def _blank() -> dict[str, Any]:
    text = dict.fromkeys(("metric", "class", "subgroup", "worst", "best", "adjusted_worst", "adjusted_best"), "")
    return {**text, **dict.fromkeys(_FIGURES, np.nan), "n": 0, "assessed": np.nan, "not_assessed": "", "reason": ""}


def _empty(words: Mapping[str, str], why: str) -> dict[str, Any]:
    return {**_blank(), **words, "reason": why}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
