"""Which method is recommended, and what each did, in plain sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.method_axis import MethodAxis
from fairaudit.method_tables import LEAST_SEEDS
from fairaudit.metrics import crossed, harm
from fairaudit.metrics.intervals import z_value
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

ENDPOINTS = ("named_accuracy", "gap", "equalized_odds")
_WORDS = {
    "named_accuracy": "accuracy of {}",
    "gap": "the accuracy gap",
    "equalized_odds": "the equalized-odds difference",
}
NO_VALIDATION = "no validation faces named the subgroup to be helped"


def recommendation_rows(
    axis: MethodAxis,
    effects: Sequence[Mapping[str, Any]],
    harms: Sequence[Mapping[str, Any]],
    margin: float,
    *,
    by_validation: bool,
) -> list[dict[str, Any]]:
    """Return recommendations.csv of one task and axis: of every method, and of its checkpoints.

    Recommended: at least three seeds, paired or not; the subgroup to be helped named on validation faces; helped, that
    is accuracy of the named subgroup up, or gap or equalized-odds difference down, by one-sided bounds at (1 −
    confidence) / 2 shared by Bonferroni among the endpoints of all methods here, so that some method is recommended in
    vain in at most that share of comparisons; no levelling down; and no one harmed: a loss of the margin excluded in
    every subgroup at once, and over all faces.
    """
    rows = []
    for method in axis.methods:
        own = [row for row in effects if row["method"] == method]
        states = {row["subgroup"]: row["verdict"] for row in harms if row["method"] == method}
        overall = _all_faces(axis, method, margin)
        helped = _helped(axis, method)
        lead = {"method": method, "task": axis.task, "by": axis.by}
        why = _against(axis, method, helped, {**states, "all faces": overall}, own, by_validation)
        rows.append({"claim": "method", **lead, "recommended": not why, **_said(axis, method, own, helped, why)})
        if axis.paired(axis.first, method):
            rows.append({"claim": "checkpoint", **lead, "recommended": False, **_checkpoints(axis, method, own)})
    return rows


def _all_faces(axis: MethodAxis, method: str, margin: float) -> str:
    found = crossed.changes(axis.whole.law(axis.first, method), np.array([0]))
    low, high = found.limits(z_value(axis.audit.confidence))
    return harm.verdict(float(low[0]), float(high[0]), margin)


def _helped(axis: MethodAxis, method: str) -> list[str]:
    """Return the endpoints on which a method is shown to help, at the level shared by all methods' endpoints."""
    ends = len(ENDPOINTS) if axis.has_odds else len(ENDPOINTS) - 1
    family, confidence = ends * len(axis.methods), axis.audit.confidence
    law, found = axis.law(axis.first, method), []
    if axis.named is not None and axis.named.worst in axis.faces.groups:
        g = axis.faces.groups.index(axis.named.worst)
        if crossed.changes(law, np.array([g])).limits(z_value(confidence, family))[0][0] > 0:
            found.append("named_accuracy")
    for metric, kind in (("gap", "accuracy"), ("equalized_odds", "odds"))[: ends - 1]:
        law = axis.law(axis.first, method, kind)
        extreme, named, _ = axis.extreme(metric, law)
        if extreme is not None and crossed.extreme_change(law, extreme, confidence, named, family)[2] < 0:
            found.append(metric)
    return found


def _against(
    axis: MethodAxis,
    method: str,
    helped: Sequence[str],
    states: Mapping[str, str],
    own: Sequence[Mapping[str, Any]],
    by_validation: bool,
) -> list[str]:
    """Return every reason why a method is not recommended."""
    why = []
    seeds = min(len(axis.seeds[name]) for name in (axis.first, method))
    if seeds < LEAST_SEEDS:
        why.append(f"{plural(seeds, 'seed')}: a method is recommended from {LEAST_SEEDS} seeds on")
    if not by_validation or axis.named is None:
        why.append(NO_VALIDATION)
    if not helped:
        why.append("no help beyond noise among all methods: neither for the named subgroup nor for a gap")
    if any(row["levelling_down"] for row in own if row["claim"] == "method"):
        why.append("levelling down: the best-off lost, and those to be helped did not gain")
    for state in (harm.HARMED, harm.OPEN):
        names = [name for name, verdict in states.items() if verdict == state]
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            why.append(f"{state}{':' if state == harm.HARMED else ' for'} {shown}")
    return why


def _said(
    axis: MethodAxis, method: str, own: Sequence[Mapping[str, Any]], helped: Sequence[str], why: Sequence[str]
) -> dict[str, str]:
    parts = []
    for metric in helped or ("named_accuracy",):
        row = next((r for r in own if r["claim"] == "method" and r["metric"] == metric), None)
        if row is not None and not np.isnan(row["delta"]):
            parts.append(f"{_WORDS[metric].format(row['subgroup'])} {change_words(row)}")
    verdict = "recommended" if not why else "not recommended"
    seeds = len(axis.seeds[method])
    sentence = f"{method} is {verdict} for {axis.task} by {axis.by}, over {seeds} seed{'' if seeds == 1 else 's'}"
    return {
        "sentence": ": ".join([sentence, "; ".join(parts)]) + "." if parts else f"{sentence}.",
        "reason": "; ".join(why),
    }


def _checkpoints(axis: MethodAxis, method: str, own: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Say in how many seeds the two checkpoints differ beyond noise: a claim about these checkpoints only."""
    rows = [r for r in own if r["claim"] == "checkpoint" and r["metric"] == "named_accuracy" and not np.isnan(r["low"])]
    if not rows:
        return {"sentence": "", "reason": "no subgroup to be helped is named here"}
    better, worse = (sum(flag) for flag in ([r["low"] > 0 for r in rows], [r["high"] < 0 for r in rows]))
    sentence = (
        f"Of {plural(len(rows), 'pair')} of checkpoints, accuracy of {rows[0]['subgroup']} is higher beyond noise with "
        f"{method} in {better}, lower in {worse}."
    )
    return {"sentence": sentence, "reason": "says nothing of other seeds, so it recommends nothing"}


def summarize_method(method: str, tables: Mapping[str, pd.DataFrame], confidence: float) -> list[str]:
    """Return the sentences for one method: accuracy over all faces, each axis's gap, who was harmed, the verdict."""
    effects, harms = tables["method_effects"], tables["method_harm"]
    mine = effects[(effects["method"] == method) & (effects["claim"] == "method")]
    said = []
    for row in mine[(mine["by"] == OVERALL) & (mine["metric"] == "accuracy")].to_dict("records"):
        said.append(f"{row['task']}: accuracy over all faces {change_words(row, confidence)}.")
    for row in mine[mine["metric"].isin(["gap", "named_accuracy", "equalized_odds"])].to_dict("records"):
        if not np.isnan(row["delta"]):
            what = _WORDS[str(row["metric"])].format(row["subgroup"])
            said.append(f"{row['task']} by {row['by']}: {what} {change_words(row, confidence)}.")
            if row["levelling_down"]:
                said.append(f"{row['task']} by {row['by']}: levelling down.")
    for (task, by), part in harms[(harms["method"] == method) & (harms["by"] != OVERALL)].groupby(
        ["task", "by"], sort=False
    ):
        said.append(f"{task} by {by}: {_harm_words(part)}.")
    advice = tables["recommendations"]
    for row in advice[(advice["method"] == method) & (advice["claim"] == "method")].to_dict("records"):
        said.append(f"{row['sentence']}" + (f" Why not: {row['reason']}." if row["reason"] else ""))
    return said


def _harm_words(part: pd.DataFrame) -> str:
    states = dict(zip(part["subgroup"], part["verdict"], strict=True))
    margin = f"{100 * float(part['margin'].iloc[0]):.1f} points"
    if harm.everyone(states) == harm.NOT_HARMED:
        return f"no one is harmed at a margin of {margin}"
    harmed, still = ([n for n, v in states.items() if v == state] for state in (harm.HARMED, harm.OPEN))
    parts = [f"harmed: {', '.join(harmed)}"] if harmed else []
    if still:
        more = f" and {len(still) - 4} more" if len(still) > 4 else ""
        parts.append(f"harm not excluded at a margin of {margin}: {', '.join(still[:4])}{more}")
    return "; ".join(parts)


def change_words(row: Mapping[Any, Any], confidence: float = 0.95) -> str:
    """Return "went from 80.0 to 84.1 % (+4.1 points, 95 % interval of the change +1.0 to +7.2)", or "no interval"."""
    unit = "%" if str(row["metric"]).endswith("accuracy") else "points"
    levels = f"went from {100 * row['baseline']:.1f} to {100 * row['value']:.1f} {unit}"
    change = f"{100 * row['delta']:+.1f} points"
    if np.isnan(row["low"]):
        return f"{levels} ({change}; no interval)".replace("-", "−")
    between = f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
    return f"{levels} ({change}, {100 * confidence:g} % interval of the change {between})".replace("-", "−")
