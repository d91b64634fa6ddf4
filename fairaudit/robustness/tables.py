"""From the answers to perturbed faces to tables: accuracy against strength, the gap at each strength, and the tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairaudit.data.perturbations import PERTURBATIONS, STRENGTHS
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.excess import Excess, excess_losses
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.multiplicity import critical, exceeded, max_t
from fairaudit.metrics.paired import flips, share_change
from fairaudit.metrics.rates import METRICS
from fairaudit.results.columns import ROBUSTNESS_TABLES
from fairaudit.robustness.heads import CLEAN, Head, HeadOnAxis
from fairaudit.robustness.words import NO_SPREAD, sentence_of
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

POWER = 0.8416  # standard normal quantile of 80 %
_RIGHT = METRICS["end_to_end_accuracy"]  # a face without an answer is wrong
_NAMES = tuple(ROBUSTNESS_TABLES)


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """The tests of one axis: which subgroups, the excess of each in each perturbation; and of each subgroup and its
    rest the mean loss a perturbation (G, T), and the share of right answers unchanged in the last column.
    """

    axis: HeadOnAxis
    chosen: np.ndarray
    excess: Excess
    own: np.ndarray
    rest: np.ndarray
    sizes: np.ndarray


def robustness_tables(
    heads: Mapping[str, Head], axes: Sequence[str], perturbations: Sequence[str], audit: AuditSpec, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return curves, gaps and tests, with the columns of ROBUSTNESS_TABLES.

    `heads` hold the answers to every (perturbation, strength 1 … 5). Drops have Newcombe's paired intervals (of the
    effective number of pairs where faces have weights or persons several pictures). A gap's interval holds for all
    pairs of the axis and all six points of a curve at once. A test asks whether a subgroup loses more than everyone
    else among faces of the same label, its loss being the mean drop over the five strengths (the area between the
    curve and its start, a strength a unit); one-sided, and adjusted together for all subgroups, axes and perturbations
    of a head.
    """
    curves: list[dict[str, object]] = []
    gaps: list[dict[str, object]] = []
    tests: list[dict[str, object]] = []
    for number, head in enumerate(heads.values()):
        on_axes = [head.on(by) for by in (OVERALL, *axes)]
        for axis in on_axes:
            curves += _curve_rows(axis, perturbations, audit)
        for axis in on_axes[1:]:
            gaps += _gap_rows(axis, perturbations, audit)
        rng = np.random.default_rng([seed, 7919, number])
        tests += _test_rows([_tested(axis, perturbations, audit, rng) for axis in on_axes[1:]], perturbations, audit)
    found = [pd.DataFrame(rows, columns=list(ROBUSTNESS_TABLES[name])) for name, rows in
             zip(_NAMES, (curves, gaps, tests), strict=True)]  # fmt: skip
    return found[0], found[1], found[2]


def _points(perturbations: Sequence[str]) -> list[tuple[str, int, float, str]]:
    """Return (perturbation, strength, amount, unit) of every changed point."""
    return [
        (name, strength, float(PERTURBATIONS[name].amounts[strength - 1]), PERTURBATIONS[name].unit)
        for name in perturbations
        for strength in range(1, STRENGTHS + 1)
    ]


def _curve_rows(axis: HeadOnAxis, perturbations: Sequence[str], audit: AuditSpec) -> list[dict[str, object]]:
    z, rows = z_value(audit.confidence), []
    points = _points(perturbations)
    for place, (name, strength, amount, unit) in enumerate([(CLEAN, 0, 0.0, ""), *points]):
        pair = axis.paired(points[0][:2] if name == CLEAN else (name, strength))
        change = share_change(pair, _RIGHT)
        side = change.before if name == CLEAN else change.after
        low, high = side.limits(z)
        drop_low, drop_high = (0.0 - limit for limit in reversed(change.delta.limits(z)))
        gained, lost, _ = flips(pair, _RIGHT)
        for g, group in enumerate(axis.before.groups):
            row: dict[str, object] = {
                "task": axis.head.rows.task, "by": axis.by, "subgroup": group, "metric": axis.metric,
                "perturbation": name, "strength": strength, "amount": amount, "unit": unit,
                "value": side.value[g, 0], "low": low[g, 0], "high": high[g, 0], "n": int(axis.sizes[g]),
                "small": bool(axis.sizes[g] < audit.min_group_size), "reason": "",
            }  # fmt: skip
            if place:
                row |= {
                    "drop": 0.0 - change.delta.value[g, 0], "drop_low": drop_low[g, 0], "drop_high": drop_high[g, 0],
                    "lost": int(lost[g, 0]), "gained": int(gained[g, 0]),
                }  # fmt: skip
            rows.append(row)
    return rows


def _gap_rows(axis: HeadOnAxis, perturbations: Sequence[str], audit: AuditSpec) -> list[dict[str, object]]:
    chosen = axis.assessed(audit.min_group_size)
    names = axis.before.groups
    left_out = "; ".join(name for g, name in enumerate(names) if axis.known[g] and g not in chosen)
    joint = 1 - (1 - audit.confidence) / (STRENGTHS + 1)
    rows = []
    for name in perturbations:
        starts = [(name, 0, 0.0, ""), *_points([name])]
        for _, strength, amount, _ in starts:
            row: dict[str, object] = {
                "task": axis.head.rows.task, "by": axis.by, "metric": axis.metric, "perturbation": name,
                "strength": strength, "amount": amount, "worst": "", "best": "", "assessed": len(chosen),
                "not_assessed": left_out, "reason": "",
            }  # fmt: skip
            if len(chosen) < 2:
                row["reason"] = f"fewer than two subgroups have {plural(audit.min_group_size, 'face')}"
            else:
                change = share_change(axis.paired((name, max(strength, 1))), _RIGHT)
                found = gap(change.after if strength else change.before, 0, chosen, joint)
                row |= {
                    "difference": found.difference, "low": found.difference_low, "high": found.difference_high,
                    "worst": names[found.worst], "best": names[found.best],
                }  # fmt: skip
            rows.append(row)
    return rows


def _tested(
    axis: HeadOnAxis, perturbations: Sequence[str], audit: AuditSpec, rng: np.random.Generator
) -> _Tested | None:
    """Return what is needed to test an axis, None where fewer than two subgroups are large enough."""
    chosen = axis.assessed(audit.min_group_size)
    if len(chosen) < 2:
        return None
    right = axis.head.right()
    losses = [
        right - np.mean([axis.head.right((name, s)) for s in range(1, STRENGTHS + 1)], axis=0) for name in perturbations
    ]
    values, group, stratum = axis.units(np.stack([*losses, right], axis=1))
    taking = axis.known[group]
    values, group, stratum = values[taking], group[taking], stratum[taking]
    groups = len(axis.before.groups)
    found = excess_losses(
        values[:, :-1, None], group, stratum, groups, draws=audit.draws, rng=rng, confidence=audit.confidence
    )
    own, rest, sizes = means_of(values, group, groups)
    return _Tested(axis=axis, chosen=chosen, excess=found, own=own, rest=rest, sizes=sizes)


def means_of(values: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the means (G, K) of each group's values (n, K) and of everyone else's, and the groups' sizes (G,)."""
    sizes = np.bincount(group, minlength=groups)
    sums = np.stack([np.bincount(group, weights=column, minlength=groups) for column in values.T], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums / sizes[:, None], (sums.sum(0) - sums) / (sizes.sum() - sizes)[:, None], sizes


def _test_rows(
    tested: Sequence[_Tested | None], perturbations: Sequence[str], audit: AuditSpec
) -> list[dict[str, object]]:
    """Return a row a subgroup and perturbation of every axis, adjusted as one family."""
    kept = [part for part in tested if part is not None]
    strength = np.concatenate([part.excess.strength[part.chosen].ravel() for part in kept] or [np.zeros(0)])
    if not len(strength):
        return []
    null = np.concatenate([part.excess.null[:, part.chosen].reshape(audit.draws, -1) for part in kept], axis=1)
    able = ~np.isnan(strength)
    p_value, p_adjusted = np.full((2, len(strength)), np.nan)
    p_value[able] = exceeded(strength[able], null[:, able])
    p_adjusted[able] = max_t(strength[able], null[:, able])
    alpha = 1 - audit.confidence
    needed = critical(null[:, able], alpha) + POWER
    rows, at = [], 0
    for part in kept:
        for g in part.chosen:
            for t, name in enumerate(perturbations):
                rows.append(
                    _test_row(part, int(g), t, name, (p_value[at], p_adjusted[at], needed, int(able.sum())), alpha)
                )
                at += 1
    return rows


def _test_row(
    part: _Tested, g: int, t: int, name: str, judged: tuple[float, float, float, int], alpha: float
) -> dict[str, object]:
    axis, excess = part.axis, part.excess
    p_value, p_adjusted, needed, family = judged
    error = excess.error[g, t, 0]
    row: dict[str, object] = {
        "task": axis.head.rows.task, "by": axis.by, "subgroup": axis.before.groups[g], "perturbation": name,
        "clean": part.own[g, -1], "rest_clean": part.rest[g, -1], "drop": part.own[g, t],
        "rest_drop": part.rest[g, t], "difference": excess.difference[g, t, 0],
        "low": excess.low[g, t, 0], "high": excess.high[g, t, 0], "n": int(part.sizes[g]),
        "n_rest": int(part.sizes.sum() - part.sizes[g]), "matched": "label" if axis.degenerate is None else "",
        "detectable": needed * error if error > 0 else np.nan, "p_value": p_value, "p_adjusted": p_adjusted,
        "family_size": family, "finding": bool(p_adjusted <= alpha and excess.low[g, t, 0] > 0), "reason": "",
    }  # fmt: skip
    if np.isnan(p_value):
        row["reason"] = "no label is shared with anyone else" if part.sizes[g] > 1 else "one unit gives no spread"
    elif np.isnan(row["low"]):  # type: ignore[call-overload]
        row["reason"] = NO_SPREAD
    row["sentence"] = sentence_of(row) if row["finding"] else ""
    return row
