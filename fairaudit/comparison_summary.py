"""A comparison in plain sentences: did the gap close, by how much, how sure is that, at whose cost."""

from typing import Any

import numpy as np
import pandas as pd

from fairaudit.metrics import harm
from fairaudit.pooled import BY_CLASS
from fairaudit.subgroups import OVERALL, UNKNOWN

HEADLINES = ("accuracy", BY_CLASS)

MOST_FACES = 1_000_000  # beyond it how many faces would decide is no plan


def summarize(
    model: str, deltas: pd.DataFrame, gaps: pd.DataFrame, losses: pd.DataFrame, confidence: float
) -> list[str]:
    """Return the sentences for one model: accuracy overall per task, then the accuracy gap of every axis."""
    said = []
    mine = deltas[(deltas["model"] == model) & deltas["metric"].isin(HEADLINES)]
    level = f"{100 * confidence:g} %"
    for _, row in mine[mine["by"] == OVERALL].iterrows():
        if np.isnan(row["delta"]):
            said.append(f"{row['task']}: accuracy over all faces cannot be compared: {row['reason']}.")
            continue
        said.append(
            f"{row['task']}: accuracy over all faces went from {_percent(row['baseline'])} to "
            f"{_percent(row['mitigated'])} ({_change(row, level)}; {_sure(row)})."
        )
    if len(gaps):
        chosen = gaps[(gaps["model"] == model) & gaps["metric"].isin(HEADLINES) & gaps["delta"].notna()]
        for _, row in chosen.iterrows():
            groups = mine[(mine["task"] == row["task"]) & (mine["by"] == row["by"]) & (mine["subgroup"] != UNKNOWN)]
            part = losses[(losses["model"] == model) & (losses["task"] == row["task"]) & (losses["by"] == row["by"])]
            said += [_gap_sentence(row, level), _cost_sentence(row, groups), harm_sentence(part)]
    return said


def _gap_sentence(row: "pd.Series[Any]", level: str) -> str:
    what = "accuracy" if row["metric"] == "accuracy" else "recall by labelled class"
    if np.isnan(row["low"]):
        sure = ""
    elif row["high"] < 0:
        sure = ": the gap closed by more than noise explains"
    elif row["low"] > 0:
        sure = ": the gap widened by more than noise explains"
    else:
        sure = ": not shown to have changed"
    sentence = (
        f"{row['task']} by {row['by']}: the gap in {what} between the best and the worst subgroup went from "
        f"{_points(row['baseline'], sign=False)} to {_points(row['mitigated'], sign=False)} "
        f"({_change(row, level)}{sure})."
    )
    if row["worst"]:
        sentence += (
            f" Between {row['best']} and {row['worst']}, the named pair, it went from "
            f"{_points(row['pair_baseline'])} to {_points(row['pair_mitigated'])} ({_change(row, level, 'pair_')})."
        )
    return sentence


def _change(row: "pd.Series[Any]", level: str, of: str = "") -> str:
    """Return "a change of −3.1 points, 95 % interval of the change −5.0 to −1.2 points"; of: "" or "pair_"."""
    size = f"a change of {_points(row[f'{of}delta'])}"
    if np.isnan(row[f"{of}low"]):
        return f"{size}; no interval can be given"
    return f"{size}, {level} interval of the change {_points(row[f'{of}low'])} to {_points(row[f'{of}high'])}"


def _cost_sentence(row: "pd.Series[Any]", groups: pd.DataFrame) -> str:
    """Say who gained and who lost beyond chance (Holm-adjusted), and whether levelling down explains a smaller gap."""
    certain = groups[groups["p_adjusted"] < 0.05]
    gained = [f"{r['subgroup']} ({_points(r['delta'])})" for _, r in certain[certain["delta"] > 0].iterrows()]
    lost = [f"{r['subgroup']} ({_points(r['delta'])})" for _, r in certain[certain["delta"] < 0].iterrows()]
    parts = [f"{row['task']} by {row['by']}:"]
    parts.append(f"better beyond chance: {', '.join(gained)};" if gained else "no subgroup is better beyond chance;")
    parts.append(f"worse beyond chance: {', '.join(lost)}." if lost else "none is shown to be worse.")
    if row["levelling_down"]:
        parts.append(
            f"Levelling down: the gap fell because {row['best']} got worse, while {row['worst']} is not shown to have "
            "gained."
        )
    return " ".join(parts)


def harm_sentence(losses: pd.DataFrame) -> str:
    """Say whether any subgroup of one axis was harmed, from its rows of non_inferiority.csv: with bounds, and with n.

    "No one is harmed" only where every subgroup's bound excludes a loss of the margin.
    """
    if losses.empty:
        return "Whether anybody was harmed cannot be said: no face is labelled."
    lead = f"{losses['task'].iloc[0]} by {losses['by'].iloc[0]}:"
    margin = _points(float(losses["margin"].iloc[0]), sign=False)
    states = dict(zip(losses["subgroup"], losses["verdict"], strict=True))
    overall = harm.everyone(states)
    if overall == harm.NOT_HARMED:
        worst = losses.sort_values("low").iloc[0]
        return (
            f"{lead} no one is harmed at a margin of {margin}: a larger loss is excluded in each of the {len(losses)} "
            f"subgroups, all at once (the lowest bound is {_points(worst['low'])}, {worst['subgroup']})."
        )
    harmed = losses[losses["verdict"] == harm.HARMED].sort_values("low")
    still = losses[losses["verdict"] == harm.OPEN].sort_values("low")
    parts = [f"harmed: {', '.join(_loss(row) for _, row in harmed.iterrows())}"] if len(harmed) else []
    if len(still):
        shown = [_loss(row) for _, row in still.head(3).iterrows()]
        more = f" and {len(still) - 3} more" if len(still) > 3 else ""
        parts.append(f"harm not excluded at a margin of {margin}: {', '.join(shown)}{more}")
    return f"{lead} {'; '.join(parts)}."


def _loss(row: "pd.Series[Any]") -> str:
    if np.isnan(row["delta"]):
        return f"{row['subgroup']} ({row['reason']})"
    bound = f"may have lost up to {_points(max(-row['low'], 0.0), sign=False)}"
    if row["verdict"] == harm.HARMED:
        bound = f"lost {100 * -row['high']:.1f} to {_points(-row['low'], sign=False)}"
    needed = f"; about {row['n_needed']:,.0f} faces would tell, {row['n']:,.0f} are here"
    if row["n_needed"] > MOST_FACES:
        needed = f"; more than {MOST_FACES:,} faces would be needed to tell, {row['n']:,.0f} are here"
    return f"{row['subgroup']} ({bound}{needed if row['n_needed'] > row['n'] else ''})"


def _sure(row: "pd.Series[Any]") -> str:
    if row["low"] > 0:
        return "better beyond chance"
    return "worse beyond chance" if row["high"] < 0 else "not shown to have changed"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float, *, sign: bool = True) -> str:
    """Return a difference of shares in percentage points."""
    if np.isnan(value):
        return "undefined"
    return f"{100 * value:+.1f} points".replace("-", "−") if sign else f"{100 * value:.1f} points"
