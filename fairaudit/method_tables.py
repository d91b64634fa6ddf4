"""The tables of methods × seeds for one task and axis: effects, harm, spread over seeds, Pareto fronts.

Beside accuracy, the named pair and the extremes, `method_effects.csv` has for every subgroup, over seeds: `auc` (what a
method does to the ranking, whatever its thresholds) and `churn` (the share of faces that it answers otherwise than the
baseline with the same seed; 0 of the baseline itself). `seed_spread.csv` has each arm's `own_churn`: the share that two
of its seeds answer differently, which is what retraining alone changes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fairaudit.method_axis import MethodAxis, fits
from fairaudit.metrics import crossed, harm
from fairaudit.metrics.crossed import Contrasts, Joint
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.scores import LEAST_OF_EACH
from fairaudit.subgroups import OVERALL

Row = dict[str, Any]
EXTREMES = ("worst_accuracy", "gap", "equalized_odds")
FRONTS = {"accuracy–worst": "worst_accuracy", "accuracy–gap": "gap"}
LEAST_SEEDS = 3
ONE_SEED = "one seed: how much the method varies between seeds is unknown, so there is no interval"
UNNAMED = "the validation faces name no pair of subgroups that is assessed here"
DEGENERATE = "the subgroup determines the label: equalized odds mean nothing here"
TOO_MANY = "too many subgroups and classes for equalized odds to be compared at once"
NO_SCORES = "not every table has probabilities of this task"
FEW_RANKED = f"no class has {LEAST_OF_EACH} faces, and as many others, with probabilities in every table"
UNPAIRED = "the method has other seeds than the baseline, so that no two belong together"
ALONE = "one seed: there is no other to differ from"
_SIDES = ("baseline", "value")
_LEVELS = tuple(f"{side}_{end}" for side in _SIDES for end in ("low", "high"))
_NUMBERS = (*_SIDES, "delta", "low", "high", "df", "sd_faces", "sd_seeds", "sd_interaction", *_LEVELS)
EDGE = "an AUC of exactly 0 or 1 has no interval"


def effect_rows(axis: MethodAxis, method: str, seed: str = "") -> list[Row]:
    """Return method_effects.csv of one method: of all seeds (claim "method"), or of one seed's two checkpoints."""
    law = axis.law(axis.first, method, seed=seed)
    lead: Row = {"claim": "checkpoint" if seed else "method", "method": method, "seed": seed, "task": axis.task}
    lead |= {"by": axis.by, "seeds": 1 if seed else len(axis.seeds[method])}
    rows = [{**row, "subgroup": axis.faces.groups[g]} for g, row in enumerate(_change_rows(axis, law))]
    if axis.by != OVERALL:
        rows += [_named_row(axis, law), *(_extreme_row(axis, law, m) for m in EXTREMES[:2]), _named_gap(axis, law)]
        rows.append(_odds_row(axis, method, seed))
    if not seed:
        rows += [*_auc_rows(axis, method), *_churn_rows(axis, method)]
    base: Row = {
        "levelling_down": False,
        "small": False,
        "reason": "",
        "subgroup": "",
        **dict.fromkeys(_NUMBERS, np.nan),
    }
    return [_possible({**base, **lead, **row}) for row in rows]


def _possible(row: Row) -> Row:
    """Return the row with limits that can be: shares and gaps change by 1 at most, a signed difference by 2."""
    most = 2.0 if row["metric"] == "named_gap" else 1.0
    return row | {end: float(np.clip(row[end], -most, most)) for end in ("low", "high")}


def _change_rows(axis: MethodAxis, law: Joint) -> Iterator[Row]:
    entries = np.arange(law.entries)
    found, levels = crossed.changes(law, entries), _both_levels(axis, law)
    usable = axis.usable(law)[:, 0] | (axis.by == OVERALL)
    for g in entries:
        row = _contrast_row(axis, law, found, int(g)) | _sides(levels, int(g)) | {"metric": "accuracy"}
        yield row | {"n": int(law.denominator[g]), "small": bool(not usable[g] and axis.known[g])}


def _both_levels(axis: MethodAxis, law: Joint) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [crossed.levels(law, arm, np.arange(law.entries), axis.audit.confidence) for arm in (0, 1)]


def _sides(levels: Sequence[Sequence[Any]], at: int) -> Row:
    """Return both arms' own values at one entry, each with its limits over seeds and faces."""
    row: Row = {}
    for side, part in zip(_SIDES, levels, strict=True):
        names = (side, f"{side}_low", f"{side}_high")
        row |= {name: float(figures[at]) for name, figures in zip(names, part, strict=True)}
    return row


def _contrast_row(axis: MethodAxis, law: Joint, found: Contrasts, at: int) -> Row:
    """Return change, limits, the seeds' degrees of freedom and the standard deviations that make up its error.

    sd_faces: of one face's change (mean over seeds apart); sd_seeds: between seeds of the true change;
    sd_interaction: of one face between seeds. Unbiased parts below 0 are 0.
    """
    low, high = (float(side[at]) for side in found.limits(z_value(axis.audit.confidence)))
    n, seeds = float(law.denominator[at]), len(law.by_seed[1])
    parts = {"sd_faces": n * (found.faces - found.interaction), "sd_seeds": seeds * (found.seeds - found.interaction)}
    parts["sd_interaction"] = n * seeds * found.interaction
    row: Row = {"delta": float(found.value[at]), "low": low, "high": high, "df": degrees(found)}
    random = bool(law.seeds) and seeds > 1
    row |= {name: float(np.sqrt(max(part[at], 0.0))) if random else np.nan for name, part in parts.items()}
    reason = "" if np.isfinite(low) or np.isnan(row["delta"]) else ONE_SEED
    return row | {"reason": "no labelled face" if np.isnan(row["delta"]) else reason}


def _named_row(axis: MethodAxis, law: Joint) -> Row:
    chosen = axis.chosen
    if chosen is None:
        return {"metric": "named_accuracy", "reason": UNNAMED, "n": 0}
    g = axis.faces.groups.index(chosen.worst)
    row = _contrast_row(axis, law, crossed.changes(law, np.arange(law.entries)), g)
    row |= {"metric": "named_accuracy", "subgroup": chosen.worst, **_sides(_both_levels(axis, law), g)}
    return row | {"n": int(law.denominator[g])}


def _named_gap(axis: MethodAxis, law: Joint) -> Row:
    """Return the change of the named best-off's lead over the named worst-off: a contrast fixed beforehand."""
    chosen = axis.chosen
    if chosen is None:
        return {"metric": "named_gap", "reason": UNNAMED, "n": 0}
    best, worst = (axis.faces.groups.index(name) for name in (chosen.best, chosen.worst))
    e = law.entries
    z = z_value(axis.audit.confidence)
    found = crossed.contrasts(law, np.array([[best + e, worst + e, best, worst]]), np.array([[1.0, -1.0, -1.0, 1.0]]))
    low, high = (float(side[0]) for side in found.limits(z))
    pairs = np.array([[best, worst], [best + e, worst + e]])
    own = crossed.contrasts(law, pairs, np.array([[1.0, -1.0]] * 2))
    row = _sides([(own.value[arm : arm + 1], *(side[arm : arm + 1].clip(-1, 1) for side in own.limits(z)))
                  for arm in (0, 1)], 0)  # fmt: skip
    row |= {"metric": "named_gap", "subgroup": f"{chosen.best} − {chosen.worst}"}
    before, after = row["baseline"], row["value"]
    row |= {"delta": after - before, "low": low, "high": high, "df": degrees(found)}
    row |= {"n": int(law.denominator[[best, worst]].sum()), "reason": "" if np.isfinite(low) else ONE_SEED}
    return row


def _extreme_row(axis: MethodAxis, law: Joint, metric: str) -> Row:
    """Return the change of the worst accuracy, the gap or the equalized odds' difference of the seeds' mean rates."""
    found, named, why = axis.extreme(metric, law)
    if found is None:
        return {"metric": metric, "reason": why, "n": 0}
    sign = -1.0 if metric == "worst_accuracy" else 1.0
    _, low, high = crossed.extreme_change(law, found, axis.audit.confidence, named)
    low, high = (low, high) if sign > 0 else (-high, -low)
    levels = [[[figure] for figure in _level(law, metric, found, axis.audit.confidence, arm)] for arm in (0, 1)]
    row = _sides([(value, least, most) for value, least, most in levels], 0)
    before, after = row["baseline"], row["value"]
    row |= {"metric": metric, "delta": after - before, "low": low, "high": high}
    row |= {"n": int(law.denominator[: len(axis.faces.groups)].sum()), "reason": "" if np.isfinite(low) else ONE_SEED}
    if metric == "gap":
        row["levelling_down"] = _levelled(axis, law, after - before)
    elif metric == "equalized_odds":
        row["n"] = len(axis.faces.label)
    return row


def _levelled(axis: MethodAxis, law: Joint, change: float) -> bool:
    """Whether the gap fell, the best-off's upper bound is below 0 and the named subgroup's lower is not above 0."""
    chosen = axis.chosen
    if chosen is None or not change < -1e-12:
        return False
    low, high = crossed.changes(law, np.arange(law.entries)).limits(z_value(axis.audit.confidence))
    best, worst = (axis.faces.groups.index(name) for name in (chosen.best, chosen.worst))
    return bool(high[best] < 0 and not low[worst] > 0)


def _odds_row(axis: MethodAxis, method: str, seed: str) -> Row:
    if not axis.has_odds or not fits(axis):
        why = DEGENERATE if not axis.has_odds else TOO_MANY
        return {"metric": "equalized_odds", "reason": why, "n": 0}
    return _extreme_row(axis, axis.law(axis.first, method, "odds", seed), "equalized_odds")


def _auc_rows(axis: MethodAxis, method: str) -> Iterator[Row]:
    """Yield the change of every subgroup's ROC AUC: of two classes, or the mean over classes one-vs-rest."""
    if axis.scores is None:
        yield {"metric": "auc", "reason": NO_SCORES, "n": 0}
        return
    law = axis.law(axis.first, method, "auc")
    entries = np.arange(law.entries)
    found = crossed.changes(law, entries)
    levels = [crossed.logit_levels(law, arm, entries, axis.audit.confidence) for arm in (0, 1)]
    for g, group in enumerate(axis.faces.groups):
        row = _contrast_row(axis, law, found, g) | {"metric": "auc", "subgroup": group, "n": int(law.denominator[g])}
        row |= _sides(levels, g)
        edge = not row["reason"] and bool({row[side] for side in _SIDES} & {0.0, 1.0})
        yield row | {"reason": FEW_RANKED if np.isnan(row["delta"]) else EDGE if edge else row["reason"]}


def _churn_rows(axis: MethodAxis, method: str) -> Iterator[Row]:
    """Yield the share of every subgroup's faces that the method answers otherwise than the baseline, seed by seed."""
    if not axis.paired(axis.first, method):
        yield {"metric": "churn", "reason": UNPAIRED, "n": 0}
        return
    law = axis.law(axis.first, method, "churn")
    value, low, high = crossed.levels(law, 0, np.arange(law.entries), axis.audit.confidence)
    found = crossed.contrasts(law, np.arange(law.entries)[:, None], np.ones((law.entries, 1)))
    for g, group in enumerate(axis.faces.groups):
        row = _contrast_row(axis, law, found, g) | {"metric": "churn", "subgroup": group, "baseline": 0.0}
        row |= {"value": value[g], "low": low[g], "high": high[g], "n": int(law.denominator[g])}
        yield row | {"value_low": low[g], "value_high": high[g]}


def harm_rows(axis: MethodAxis, method: str, margin: float) -> list[Row]:
    """Return method_harm.csv of one method: one-sided bounds for all known subgroups at once, and what would decide."""
    law = axis.law(axis.first, method)
    known = np.flatnonzero(axis.known)
    found = crossed.changes(law, np.arange(law.entries))
    z, seeds = z_value(axis.audit.confidence, len(known)), len(axis.seeds[method])
    low, high = found.limits(z)
    usable = axis.usable(law)[:, 0] | (axis.by == OVERALL)
    rows = []
    for g in map(int, known):
        row: Row = {"method": method, "task": axis.task, "by": axis.by, "subgroup": axis.faces.groups[g]}
        row |= {"metric": "accuracy", "delta": found.value[g], "low": low[g], "high": high[g], "margin": margin}
        row |= {"verdict": harm.verdict(low[g], high[g], margin), "n": int(law.denominator[g]), "n_needed": np.nan}
        row |= {"seeds": seeds, "seeds_needed": np.nan, "family_size": len(known), "small": not bool(usable[g])}
        row["reason"] = ONE_SEED if seeds < 2 else ""
        if row["verdict"] == harm.OPEN and seeds > 1:
            row |= _needed(found, g, float(law.denominator[g]), seeds, margin, _t(found, g, z))
        elif row["verdict"] == harm.NOT_HARMED and high[g] < 0:
            row["reason"] = "a loss within the margin is shown"
        rows.append(row)
    return rows


def degrees(found: Contrasts) -> float:
    """Return the fewest degrees of freedom of the variance between seeds, NaN where seeds are held fixed."""
    return float(min((freedom for _, freedom in found.by_seeds), default=np.nan))


def _t(found: Contrasts, g: int, z: float) -> float:
    return float(found.reach(z)[g] / np.sqrt(found.variance[g]))


def _needed(found: Contrasts, g: int, n: float, seeds: int, margin: float, t: float) -> Row:
    """Return how many faces (with these seeds) or seeds (with these faces) would exclude the loss, else why not."""
    inner = found.interaction[g]
    between = max(float(found.seeds[g] - inner), 0.0)
    among = max(float(found.variance[g]) - between, 0.0)
    faces, why = harm.faces_to_exclude(float(found.value[g]), among, n, margin, t, fixed=between)
    single = max(float(found.faces[g] - inner), 0.0)
    more, _ = harm.faces_to_exclude(float(found.value[g]), between + inner, seeds, margin, t, fixed=single)
    return {"n_needed": faces, "seeds_needed": more, "reason": why}


def spread_rows(axis: MethodAxis, name: str) -> list[Row]:
    """Return seed_spread.csv of one arm: each figure of the seeds' mean rates with the interval from faces alone.

    mean, sd, least, most: of the figures of the single seeds; a gap of mean rates is at most the mean of the gaps.
    """
    law = axis.frozen(name)
    value, low, high = crossed.levels(law, 0, np.arange(law.entries), axis.audit.confidence)
    rows = []
    for g, group in enumerate(axis.faces.groups):
        figures = {"value": value[g], "low": low[g], "high": high[g], "n": int(law.denominator[g])}
        rows.append({"metric": "accuracy", "subgroup": group, **figures, **_over_seeds(law.by_seed[0][:, g])})
    rows += _own_churn_rows(axis, name)
    if axis.by != OVERALL:
        chosen = axis.chosen
        if chosen is not None:
            g = axis.faces.groups.index(chosen.worst)
            rows.append({**rows[g], "metric": "named_accuracy"})
        rows += [_spread_of(axis, law, metric) for metric in EXTREMES[:2]]
        if axis.has_odds and fits(axis):
            rows.append(_spread_of(axis, axis.frozen(name, "odds"), "equalized_odds"))
    lead = {"method": name, "task": axis.task, "by": axis.by, "subgroup": "", "seeds": len(axis.seeds[name])}
    return [{"reason": "", **lead, **row} for row in rows]


def _own_churn_rows(axis: MethodAxis, name: str) -> Iterator[Row]:
    """Yield the share of faces that two seeds of an arm answer differently; mean, sd and range are over the pairs."""
    if len(axis.seeds[name]) < 2:
        empty = dict.fromkeys(("value", "low", "high", "mean", "sd", "least", "most"), np.nan)
        sizes = np.bincount(axis.faces.group, minlength=len(axis.faces.groups))
        for group, n in zip(axis.faces.groups, sizes, strict=True):
            yield {"metric": "own_churn", "subgroup": group, "reason": ALONE, "n": int(n), **empty}
        return
    law = axis.own_churn(name)
    value, low, high = crossed.levels(law, 0, np.arange(law.entries), axis.audit.confidence)
    for g, group in enumerate(axis.faces.groups):
        figures = {"value": value[g], "low": low[g], "high": high[g], **_over_seeds(law.by_seed[0][:, g])}
        yield {"metric": "own_churn", "subgroup": group, "n": int(law.denominator[g]), **figures}


def _over_seeds(figures: np.ndarray) -> Row:
    sd = float(figures.std(ddof=1)) if len(figures) > 1 else np.nan
    return {"mean": float(figures.mean()), "sd": sd, "least": float(figures.min()), "most": float(figures.max())}


def _spread_of(axis: MethodAxis, law: Joint, metric: str) -> Row:
    found, _, why = axis.extreme(metric, law)
    if found is None:
        empty = dict.fromkeys(("value", "low", "high", "mean", "sd", "least", "most"), np.nan)
        return {"metric": metric, "reason": why, "n": 0, **empty}
    value, low, high = _level(law, metric, found, axis.audit.confidence)
    sign = -1.0 if metric == "worst_accuracy" else 1.0
    return {"metric": metric, "value": value, "low": low, "high": high, "n": len(axis.faces.label),
            **_over_seeds(sign * crossed.extreme_of(law.by_seed[0], found))}  # fmt: skip


def _level(law: Joint, metric: str, found: crossed.Extreme, confidence: float, arm: int = 0) -> tuple[float, ...]:
    """Return an extreme of one arm with simultaneous limits, within its range."""
    value, low, high = crossed.extreme_limits(law, arm, found, confidence)
    if metric == "worst_accuracy":
        value, low, high = -value, -high, -low
    return value, float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def pareto_rows(axis: MethodAxis) -> list[Row]:
    """Return pareto.csv of one task and axis: every arm's mean over seeds with intervals, and its single seeds.

    A point is dominated only where another arm is better on both counts beyond noise: both differences' one-sided
    bounds at (1 − confidence) / 2, by Bonferroni over the other arms; over the two counts none is needed (both must
    hold: intersection–union, Berger 1982).
    """
    rows = []
    for front, metric in FRONTS.items():
        points = {name: _point(axis, name, metric) for name in axis.predictions}
        for name, point in points.items():
            row = {"task": axis.task, "by": axis.by, "front": front, "method": name}
            rows.append({**row, "seed": "", **point, **_standing(axis, name, points, metric)})
            rows += [{**row, **own} for own in _seed_points(axis, name, metric)]
    return rows


def _point(axis: MethodAxis, name: str, metric: str) -> Row:
    whole, law = axis.whole.law(name, name), axis.law(name, name)
    x = [float(part[0]) for part in crossed.levels(whole, 0, np.array([0]), axis.audit.confidence)]
    found, _, why = axis.extreme(metric, law)
    y = (np.nan,) * 3 if found is None else _level(law, metric, found, axis.audit.confidence)
    why = why or ("" if np.isfinite(x[1]) else ONE_SEED)
    names = [f"{name}{end}" for name in ("accuracy", "versus") for end in ("", "_low", "_high")]
    figures = dict(zip(names, (*x, *y), strict=True))
    return {**figures, "reason": why}


def _seed_points(axis: MethodAxis, name: str, metric: str) -> Iterator[Row]:
    law, whole = axis.frozen(name), axis.whole.frozen(name).by_seed[0][:, 0]
    found, _, why = axis.extreme(metric, law)
    second = np.full(len(whole), np.nan)
    if found is not None:
        second = crossed.extreme_of(law.by_seed[0], found) * (-1.0 if metric == "worst_accuracy" else 1.0)
    nothing = dict.fromkeys(("accuracy_low", "accuracy_high", "versus_low", "versus_high"), np.nan)
    for seed, x, y in zip(axis.seeds[name], whole, second, strict=True):
        figures = {"accuracy": float(x), "versus": float(y), **nothing}
        yield {"seed": seed, **figures, "standing": "", "dominated_by": "", "reason": why}


def _standing(axis: MethodAxis, name: str, points: dict[str, Row], metric: str) -> Row:
    own, sign = points[name], -1.0 if metric == "gap" else 1.0
    if np.isnan(own["versus"]):
        return {"standing": "", "dominated_by": ""}
    ahead = [
        other
        for other, point in points.items()
        if point["accuracy"] > own["accuracy"] + 1e-12 and sign * (point["versus"] - own["versus"]) > 1e-12
    ]
    sure = [other for other in ahead if _beyond_noise(axis, name, other, metric, len(points) - 1)]
    standing = "dominated" if sure else "behind, within noise" if ahead else "on the front"
    return {"standing": standing, "dominated_by": "; ".join(sure or ahead)}


def _beyond_noise(axis: MethodAxis, name: str, other: str, metric: str, family: int) -> bool:
    """Whether `other` is shown to be better than `name` on accuracy and on the second count, too."""
    low, _ = crossed.changes(axis.whole.law(name, other), np.array([0])).limits(z_value(axis.audit.confidence, family))
    law = axis.law(name, other)
    found, _, _ = axis.extreme(metric, law)
    if found is None or not low[0] > 0:
        return False
    # minus the worst accuracy, or the gap: both are better where they are smaller
    return bool(crossed.extreme_change(law, found, axis.audit.confidence, family=family)[2] < 0)
