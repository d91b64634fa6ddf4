"""Declared policies and hypotheses, judged by simultaneous intervals: pass, fail or inconclusive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.gap_tables import assessed
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.policies import Bounds, Claim, holm_bounds
from fairaudit.metrics.rates import Metric
from fairaudit.policies import REST, Policy
from fairaudit.policy_checks import declared, policy_metric, why_not
from fairaudit.pooled import PooledAxis, estimates_of, pooled_axis, wanted_metrics
from fairaudit.wording import plural

PASS, FAIL, INCONCLUSIVE, NOT_APPLICABLE = "pass", "fail", "inconclusive", "not applicable"
MOST_NAMED = 12  # subgroups that a line names; the table names all
HYPOTHESIS_WORDS = {PASS: "supported", FAIL: "contradicted"}


def policies_table(data: AuditData) -> pd.DataFrame:
    """Return one row a policy and task: value, limits, verdict, the n that would decide, and who was not assessed."""
    return _judged(data, declared(data.audit)["policies"])


def hypotheses_table(data: AuditData) -> pd.DataFrame:
    """Return the plan's hypotheses, judged as policies are, in a family of their own."""
    table = _judged(data, declared(data.audit)["hypotheses"])
    return table.assign(verdict=table["verdict"].replace(HYPOTHESIS_WORDS)) if len(table) else table


def verdict_line(row: Mapping[str, Any]) -> str:
    """Return a row of either table as one line of plain text; of many subgroups not assessed it names the first 12."""
    where = f"{row['task']}, {row['class']}" if row["class"] else str(row["task"])
    line = f"{row['verdict']}: {row['policy']} · {where}"
    if np.isfinite(row["value"]):
        line += f": {row['value']:.4g}"
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        line += f" ({row['low']:.4g} to {row['high']:.4g} at {100 * row['confidence']:.4g} % confidence)"
    if np.isfinite(row["n_needed"]):
        needed = plural(round(row["n_needed"]), "face")
        line += f"; {needed} in each subgroup would decide (smallest now: {row['n_smallest']:,.0f})"
    if names := [name for name in row["not_assessed"].split("; ") if name]:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        line += f"; not assessed: {'; '.join(names[:MOST_NAMED])}{more}"
    return line + (f"; {row['reason']}" if row["reason"] else "")


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One policy for one task: the claim to judge (None: nothing to judge, for `reason`), and who is left out."""

    policy: Policy
    axis: AxisData
    claim: Claim | None = None
    applies: bool = True
    left_out: str = ""
    reason: str = ""


def _judged(data: AuditData, policies: Sequence[Policy]) -> pd.DataFrame:
    cases = [case for policy in policies for case in _cases(data, policy)]
    claims = [case.claim for case in cases if case.claim is not None]
    results = iter(holm_bounds(claims, 1 - data.audit.confidence))
    return pd.DataFrame([_row(case, next(results) if case.claim is not None else None) for case in cases])


def _cases(data: AuditData, policy: Policy) -> list[_Case]:
    """Return the policy's cases: one a task that it is for, with the claim where enough faces allow one."""
    found = []
    tasks = list(dict.fromkeys(axis.task for axis in data.axes))
    for number, task in enumerate(tasks):
        own = [axis for axis in data.axes if axis.task == task]
        step = [axis.by for axis in own].index(policy.by)
        if policy.task in (None, task):
            found.append(_case(data, policy, own[step], [data.seed, number, step]))
    return found


def _case(data: AuditData, policy: Policy, axis: AxisData, seed: Sequence[int]) -> _Case:
    metric = policy_metric(policy)
    rows = axis.rows
    why = why_not(policy, axis.task, rows.classes, rows.labelled, rows.ordered) or (
        axis.degenerate if not metric.degenerate else ""
    )
    if why:
        return _Case(policy=policy, axis=axis, applies=False, reason=why)
    if metric.needs and metric not in wanted_metrics(axis.rows, axis.sample, axis.by, axis.degenerate):
        return _Case(policy=policy, axis=axis, reason=f"the table has no {metric.needs}, which {metric.name} needs")
    pooled = pooled_axis(axis.rows, axis.sample, axis.by, axis.degenerate, data.audit)
    use = "common" if policy.against == REST else "shared"
    estimate = estimates_of(pooled, [metric], seed)[metric.name, use]
    columns, left_out = _columns(policy, metric, estimate, pooled)
    reason = ""
    if not columns:
        who = "not both of the two have" if policy.measure == "contrast" else "too few subgroups have"
        reason = f"{who} a defined {metric.name} from at least {plural(data.audit.min_group_size, 'face')}"
        return _Case(policy=policy, axis=axis, left_out=left_out, reason=reason)
    if len(columns) > 1:
        reason = f"the worst of {len(columns)} classes; the interval holds for all of them at once"
    claim = Claim(
        measure=policy.measure, at_most=policy.sign == "<=", limit=policy.limit, estimate=estimate, columns=columns
    )
    return _Case(policy=policy, axis=axis, claim=claim, left_out=left_out, reason=reason)


def _columns(policy: Policy, metric: Metric, estimate: Estimate, axis: PooledAxis) -> tuple[dict[int, np.ndarray], str]:
    """Return the pools assessed in each class that can be judged, and who is not assessed, in words."""
    names = axis.sample.groups
    classes = axis.rows.classes if metric.per_class else ("",)
    wanted = [p for p, name in enumerate(classes) if policy.class_ in (None, name)]
    columns: dict[int, np.ndarray] = {}
    missing: dict[str, list[str]] = {}
    for p in wanted:
        chosen = assessed(estimate, p, axis.known, axis.audit.min_group_size)
        if policy.measure == "contrast":
            ends = _ends(policy, axis)
            enough = np.minimum(estimate.denominator, estimate.effective + 1e-9)[ends, p] >= axis.audit.min_group_size
            alike = enough.all() and not np.isnan(estimate.value[ends, p]).any()
            columns |= {p: ends} if alike else {}
            missing[classes[p]] = [] if alike else [str(policy.subgroup), str(policy.against)]
            continue
        if len(chosen) < (1 if policy.measure in ("minimum", "maximum") else 2):
            chosen = chosen[:0]
        columns |= {p: chosen} if len(chosen) else {}
        # where the subgroup determines the label, no face of another class can exist: nobody is left out
        possible = (estimate.denominator[: len(names), p] > 0) | (axis.degenerate is None)
        missing[classes[p]] = [n for g, n in enumerate(names) if possible[g] and g not in set(chosen.tolist())]
    return columns, _listed(missing)


def _ends(policy: Policy, axis: PooledAxis) -> np.ndarray:
    """Return the two pools of a contrast: the subgroup, and everyone else or the other subgroup."""
    first = axis.sample.groups.index(str(policy.subgroup))
    if policy.against == REST:
        return np.array([first, axis.size + int(np.flatnonzero(axis.known).tolist().index(first))])
    return np.array([first, axis.sample.groups.index(str(policy.against))])


def _listed(missing: Mapping[str, Sequence[str]]) -> str:
    """Return who is not assessed: the subgroups left out in every class by name, others with their class."""
    everywhere = [n for n in next(iter(missing.values()), []) if all(n in names for names in missing.values())]
    parts = [f"{n} ({c})" for c, names in missing.items() for n in names if n not in everywhere]
    return "; ".join([*everywhere, *parts])


def _row(case: _Case, result: tuple[Bounds, float, str] | None) -> dict[str, Any]:
    policy, axis = case.policy, case.axis
    row: dict[str, Any] = {"policy": str(policy), "task": axis.task, "by": policy.by, "metric": policy.metric}
    row |= {"class": policy.class_ or "", "measure": policy.measure, "limit": policy.limit}
    row |= dict.fromkeys(("value", "low", "high", "confidence"), np.nan)
    row |= {"verdict": INCONCLUSIVE if case.applies else NOT_APPLICABLE, "n_needed": np.nan}
    row |= {"not_assessed": case.left_out, "reason": case.reason, "worst": "", "best": "", "assessed": 0}
    row |= dict.fromkeys(("n", "n_smallest"), np.nan)
    if result is None or case.claim is None:
        return row
    found, confidence, verdict = result
    claim, names = case.claim, axis.sample.groups
    chosen = claim.columns[found.column]
    n = claim.estimate.denominator[chosen, found.column]
    needed = claim.needed(confidence) if verdict == INCONCLUSIVE else np.nan
    notes = [found.reason, case.reason]
    if verdict == INCONCLUSIVE and np.isnan(needed):
        notes.append("no number of faces can be named that would decide")
    if policy_metric(policy).per_class:
        row["class"] = axis.rows.classes[found.column]
    worst, best = (names[end] if end < len(names) else REST for end in found.ends)
    row |= {"value": found.value, "low": found.low, "high": found.high, "confidence": confidence, "verdict": verdict}
    row |= {"n_needed": needed, "reason": "; ".join(filter(None, notes)), "worst": worst, "best": best}
    return row | {"assessed": len(chosen), "n": n.sum(), "n_smallest": n.min()}
