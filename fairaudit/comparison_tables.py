"""The tidy tables of a comparison for one model, task and axis: changes per subgroup, changes of gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import TaskRows
from fairaudit.gap_tables import assessed
from fairaudit.metrics.disparity import worst_and_best
from fairaudit.metrics.intervals import holm, mover_difference, z_value
from fairaudit.metrics.paired import (
    OWN_DENOMINATOR,
    Change,
    PairedSample,
    drawn_changes,
    flips,
    gap_change,
    mean_recall_change,
    share_change,
)
from fairaudit.metrics.paired_scores import score_changes
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.pooled import BY_CLASS, wanted_metrics
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural

UNNAMED = "the validation faces name no pair of subgroups that is assessed here"
TESTED = frozenset(("accuracy", "recall", BY_CLASS, "end_to_end_accuracy"))
# subgroups (worst, best) by (metric, class), named on other faces than those compared
Named = Mapping[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class PairedAxis:
    """One task on one axis under two models: faces that both predicted, and all faces of both with their outcomes."""

    rows: TaskRows
    by: str
    degenerate: str | None
    predicted: PairedSample
    everyone: PairedSample
    audit: AuditSpec

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the subgroups, `unknown` last where it has members."""
        return self.predicted.before.groups

    @property
    def known(self) -> np.ndarray:
        """Which subgroups are compared: all but `unknown`."""
        return np.array([name != UNKNOWN for name in self.groups], dtype=bool)

    def classes_of(self, metric: Metric) -> tuple[str, ...]:
        """Return the values of the column `class` for a metric."""
        return self.rows.classes if metric.per_class else ("",)


def neutral(metric: Metric) -> bool:
    """Tell whether neither end of a metric is better, so that nobody is levelled down by it."""
    return metric.name == "selection_rate" or metric.target is not None


def axis_changes(
    axis: PairedAxis, model: str, named: Named | None, seed: Sequence[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of comparison.csv and gap_changes.csv for one model, task and axis."""
    sample = axis.everyone.after
    before = wanted_metrics(axis.rows, axis.everyone.before, axis.by, axis.degenerate)
    scored = [m for m in wanted_metrics(axis.rows, axis.predicted.before, axis.by, axis.degenerate) if m.needs]
    chosen = list(dict.fromkeys([*before, *wanted_metrics(axis.rows, sample, axis.by, axis.degenerate), *scored]))
    chosen = [m for m in chosen if m.kind != "count" and m.name != "base_rate"]
    chosen = [m for m in chosen if axis.degenerate is None or m.degenerate]
    own, shared = _class_masks(axis)
    found = _changes(axis, chosen, {"own": own, "shared": shared}, seed)
    lead = {"model": model, "task": axis.rows.task, "by": axis.by}
    deltas = [_delta_rows(axis, m, found[m.name, "own"]) for m in chosen]
    changes = [row for m in chosen for row in _gap_rows(axis, m, found[m.name, "shared"], named)]
    first = pd.concat(deltas, ignore_index=True).sort_values(["_group", "_metric", "_class"], kind="stable")
    first = first.drop(columns=["_group", "_metric", "_class"]).assign(**lead)
    return first, pd.DataFrame(changes if axis.by != OVERALL else []).assign(**lead)


def _class_masks(axis: PairedAxis) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes labelled in each subgroup, and those labelled in every subgroup of sufficient size."""
    cube = axis.predicted.before.counts[..., : axis.rows.table.classes]
    own = (cube.sum(-1) > 0).astype(float)
    large = axis.known & (cube.sum((1, 2)) >= axis.audit.min_group_size)
    shared = own[large].min(0) if large.any() else np.zeros(own.shape[1])
    return own, np.broadcast_to(shared, own.shape)


def _changes(
    axis: PairedAxis, chosen: Sequence[Metric], masks: Mapping[str, np.ndarray], seed: Sequence[int]
) -> dict[tuple[str, str], Change]:
    """Return the change of each metric, by what its averages run over ("own" or "shared" classes)."""
    mix = axis.predicted.before.sums[..., : axis.rows.table.classes].sum((0, 2))
    mix = mix / max(mix.sum(), 1e-300)
    target = np.broadcast_to((mix > 0).astype(float), masks["own"].shape)
    found: dict[tuple[str, str], Change] = {}
    pending: dict[str, tuple[str, np.ndarray]] = {}
    scored = [metric for metric in chosen if metric.kind == "score"]
    if scored:
        changes = score_changes(axis.predicted, scored)
        found.update({(name, use): change for name, change in changes.items() for use in masks})
    for metric in chosen:
        if metric.kind == "score":
            continue
        if metric.kind == "proportion" and metric.name not in OWN_DENOMINATOR:
            change = share_change(axis.everyone if metric.outcome else axis.predicted, metric)
            if metric.name == BY_CLASS:
                for part in (change.before, change.after, change.delta):
                    part.value[masks["own"].sum(-1) > 1] = np.nan
            found.update({(metric.name, use): change for use in masks})
            continue
        for use, classes in masks.items():
            if metric.kind == "average":
                over = target if metric.name == "accuracy_standardized" and use == "own" else classes
                found[metric.name, use] = mean_recall_change(axis.predicted, metric, over, mix)
            elif metric.averages or use == "own":
                pending[f"{metric.name}/{use}"] = (metric.name, classes)
    if pending:
        audit = axis.audit
        drawn = drawn_changes(axis.predicted, pending, confidence=audit.confidence, draws=audit.draws, seed=seed)
        for key, change in drawn.items():
            name, use = key.split("/")
            found.update({(name, other): change for other in ((use,) if METRICS[name].averages else masks)})
    return found


def _delta_rows(axis: PairedAxis, metric: Metric, change: Change) -> pd.DataFrame:
    """Return one row a subgroup and class: both values, their paired change, McNemar, helped, harmed."""
    delta = change.delta
    shape = delta.value.shape
    low, high = delta.limits(z_value(axis.audit.confidence))
    missing = np.isnan(delta.value)
    helped, harmed, p_values = (np.full(shape, np.nan) for _ in range(3))
    if metric.name in TESTED:
        helped, harmed, p_values = flips(axis.everyone if metric.outcome else axis.predicted, metric)
        helped, harmed, p_values = (np.where(missing, np.nan, part) for part in (helped, harmed, p_values))
    in_family = np.where(axis.known[:, None], p_values, np.nan)
    group, column = np.indices(shape)
    known = np.where(change.before.notes != "", change.before.notes, change.after.notes)
    why = np.where(known != "", known, "undefined for one of the models: its denominator is empty")
    reason = np.where(missing, why, delta.notes)
    return pd.DataFrame(
        {
            "subgroup": np.array(axis.groups, dtype=object)[group.ravel()],
            "metric": metric.name,
            "class": np.array(axis.classes_of(metric), dtype=object)[column.ravel()],
            "baseline": change.before.value.ravel(),
            "mitigated": change.after.value.ravel(),
            "delta": delta.value.ravel(),
            "low": np.where(missing, np.nan, low).ravel(),
            "high": np.where(missing, np.nan, high).ravel(),
            "p_value": p_values.ravel(),
            "p_adjusted": holm(in_family.ravel()),
            "n": np.rint(delta.denominator).astype(np.int64).ravel(),
            "helped": helped.ravel(),
            "harmed": harmed.ravel(),
            "small": (np.minimum(delta.denominator, delta.effective + 1e-9) < axis.audit.min_group_size).ravel(),
            "reason": reason.ravel(),
            "_group": group.ravel(),
            "_metric": list(METRICS).index(metric.name),
            "_class": column.ravel(),
        }
    )


def _gap_rows(axis: PairedAxis, metric: Metric, change: Change, named: Named | None) -> list[dict[str, Any]]:
    """Return the change of the gap of each class of a metric; see `gap_change` for its interval."""
    found = []
    least = axis.audit.min_group_size
    for p, name in enumerate(axis.classes_of(metric)):
        row: dict[str, Any] = {"metric": metric.name, "class": name, "worst": "", "best": "", "levelling_down": False}
        numbers = ("baseline", "mitigated", "delta", "low", "high")
        row |= dict.fromkeys((*numbers, *(f"pair_{part}" for part in numbers)), np.nan)
        sides = (change.before, change.after)
        ready = [assessed(side, p, axis.known, least) for side in sides]
        chosen = np.intersect1d(ready[0], ready[1])
        chosen = chosen[~np.isnan(change.delta.value[chosen, p])]
        if len(chosen) < 2:
            enough = f"at least {plural(least, 'face')} under both models"
            why = f"fewer than two subgroups have a defined {metric.name} from {enough}"
            found.append({**row, "reason": why})
            continue
        gaps = [float(np.ptp(side.value[chosen, p])) for side in sides]
        at = None if named is None else named.get((metric.name, name), ())
        pair = _named_pair(axis, metric, chosen, at or None)
        low, high = gap_change(change, p, chosen, axis.audit.confidence, pair)
        row |= {"baseline": gaps[0], "mitigated": gaps[1], "delta": gaps[1] - gaps[0], "low": low}
        row |= {"high": high, "reason": "" if not np.isnan(low) else "no interval: a subgroup's is not estimable"}
        row |= _pair(axis, metric, change, p, chosen, at)
        if at is not None and not row["worst"]:
            row["reason"] = "; ".join(filter(None, [row["reason"], UNNAMED]))
        found.append({**row, "levelling_down": _levelled_down(axis, metric, change, p, row)})
    return found


def _named_pair(
    axis: PairedAxis, metric: Metric, chosen: np.ndarray, named: tuple[str, str] | None
) -> tuple[int, int] | None:
    """Return the positions in `chosen` of the subgroups named higher and lower on other faces, if both are there."""
    places = {axis.groups[g]: i for i, g in enumerate(chosen)}
    if named is None or not set(named) <= set(places) or metric.target is not None:
        return None
    worst, best = (places[name] for name in named)
    return (worst, best) if metric.worst == "high" else (best, worst)


def _pair(
    axis: PairedAxis, metric: Metric, change: Change, p: int, chosen: np.ndarray, named: Sequence[str] | None
) -> dict[str, Any]:
    """Return the contrast between the named best and worst subgroup, under both models, and its paired change.

    named: (worst, best); () where other faces were to name them and could not; None where there were no other faces.
    """
    present = {axis.groups[g]: int(g) for g in chosen}
    if named is not None:
        if not named or not set(named) <= set(present):
            return {}
        worst, best = (present[name] for name in named)
    else:
        worst, best = (int(chosen[i]) for i in worst_and_best(metric, change.before.value[chosen, p]))
    if worst == best:
        return {}
    # positive where the best-off is ahead; for metrics without a better direction, where it is so under the baseline
    sign = -1.0 if metric.worst == "high" else 1.0
    if neutral(metric) and change.before.value[best, p] < change.before.value[worst, p]:
        sign = -1.0
    before, after = (float(sign * (e.value[best, p] - e.value[worst, p])) for e in (change.before, change.after))
    low, high = change.delta.limits(z_value(axis.audit.confidence))
    first, second = ((change.delta.value[g, p], low[g, p], high[g, p]) for g in (best, worst))
    down, up = (float(side) for side in mover_difference(first, second))
    down, up = (down, up) if sign > 0 else (-up, -down)
    return {
        "worst": axis.groups[worst],
        "best": axis.groups[best],
        "pair_baseline": before,
        "pair_mitigated": after,
        "pair_delta": after - before,
        "pair_low": down,
        "pair_high": up,
    }


def _levelled_down(axis: PairedAxis, metric: Metric, change: Change, p: int, row: Mapping[str, Any]) -> bool:
    """Whether the gap fell because the best-off got worse, while the worst-off is not shown to have got better."""
    # a change that is rounding dust is none
    if neutral(metric) or not row["worst"] or not row["delta"] < -1e-12:
        return False
    low, high = change.delta.limits(z_value(axis.audit.confidence))
    worst, best = axis.groups.index(row["worst"]), axis.groups.index(row["best"])
    if metric.worst == "high":
        return bool(low[best, p] > 0 and not high[worst, p] < 0)
    return bool(high[best, p] < 0 and not low[worst, p] > 0)
