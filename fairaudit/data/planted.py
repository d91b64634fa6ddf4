"""Planted biases: what an audit is expected to find of each, and whether it did."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from fairaudit.errors import DataError
from fairaudit.spec import PlantedBias
from fairaudit.subgroups import CROSS, OVERALL, UNKNOWN, parse

MARKER = "planted.json"
_WHY = {
    "label_noise": "{share:g} % of the labels of {task} of these faces were replaced by another class, in every split: "
    "a model that answers rightly disagrees with them, so agreement with the labels falls. An audit cannot tell this "
    "from a worse model; the labels are what is wrong",
    "low_quality": "the pictures of these faces are blurred, flattened and noisy, in every split",
    "spurious_cue": "in all other faces a coloured mark goes with one class of {task}, in these with the other: "
    "a model that relies on the mark is wrong about them",
    "under_representation": "{share:g} % of these faces were left out, in every split",
}


def expectations(biases: Sequence[PlantedBias]) -> list[dict[str, Any]]:
    """Return what an audit should find of each planted bias, one dict a finding.

    Keys: bias (its number, from 1), kind, where, planted_in (the subgroup's name), task, by and subgroup (where the
    audit shows it), metric, class (empty: all), direction ("lower": than in the rest of the axis; for the metric
    "share": than an equal share), certain (False: a model may escape it), sentence.
    """
    return [entry for number, bias in enumerate(biases, start=1) for entry in _expected(number, bias)]


def _expected(number: int, bias: PlantedBias) -> list[dict[str, Any]]:
    whole = ":".join(bias.where), CROSS.join(bias.where.values())
    # Where the task's own label is part of `where`, that class's recall on the other attributes is what shows it.
    others = {name: value for name, value in bias.where.items() if name != bias.task} or bias.where
    metric, label = ("accuracy", "")
    if bias.task in bias.where and bias.kind != "label_noise":
        metric, label = "recall", bias.where[bias.task]
    why = _WHY[bias.kind].format(share=100 * bias.strength, task=bias.task)
    of = f" of the class {label}" if label else ""
    common = {"bias": number, "kind": bias.kind, "where": dict(bias.where), "task": bias.task, "direction": "lower"}
    common["planted_in"] = whole[1]
    by, subgroup = ":".join(others), CROSS.join(others.values())
    found: list[dict[str, Any]] = []
    if bias.kind == "under_representation":
        sentence = f"{whole[1]} has a smaller share of the faces than an equal one: {why}."
        found.append(
            {**common, "by": whole[0], "subgroup": whole[1], "metric": "share", "class": "", "certain": True}
            | {"sentence": sentence}
        )
        why = f"{why}; a model that has seen few of them may do worse on them, or not"
    if set(bias.where) != {bias.task}:
        sentence = f"{metric.capitalize()}{of} of {bias.task} is lower in {subgroup} than in the rest of {by}: {why}."
        certain = bias.kind != "under_representation"
        found.append(
            {**common, "by": by, "subgroup": subgroup, "metric": metric, "class": label, "certain": certain}
            | {"sentence": sentence}
        )
    return found


def read_planted(folder: Path) -> dict[str, Any]:
    """Read planted.json of a folder of made-up faces. Raises DataError where there is none or it is damaged."""
    try:
        planted = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        planted["expected"]
    except FileNotFoundError:
        raise DataError(f"{folder} holds no {MARKER}: it is no folder of made-up faces") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{folder / MARKER} is damaged ({error}); make the faces again") from None
    return planted


def planted_report(
    planted: Mapping[str, Any], metrics: pd.DataFrame, *, confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Judge from an audit's metrics table (METRIC_COLUMNS) whether each expected finding of `planted` was made.

    Returns one dict a finding: every key of the expectation, and value, rest (the value of everyone else on the axis,
    pooled; for the metric "share" the equal share), difference, low, high (Newcombe's interval of the difference, for a
    share Wilson's minus the equal share), n (the subgroup's denominator), found (True: the whole interval is below 0;
    None: the table cannot say) and verdict (a plain sentence).
    """
    return [_judge(entry, metrics, confidence) for entry in planted["expected"]]


def _judge(entry: Mapping[str, Any], metrics: pd.DataFrame, confidence: float) -> dict[str, Any]:
    rows = _axis_rows(metrics, entry)
    counts = _shares(rows) if entry["metric"] == "share" else _successes(rows, entry)
    name = _name_on(rows, entry)
    if name not in counts or len(counts) < 2:
        reason = (
            f"the audit has no {entry['metric']} of {entry['task']} for {entry['subgroup']} on the axis {entry['by']}"
        )
        blank = dict.fromkeys(("value", "rest", "difference", "low", "high"))
        return {**entry, **blank, "n": 0, "found": None, "verdict": f"{_title(entry)}: not judged, because {reason}."}
    hits, n = counts[name]
    if entry["metric"] == "share":
        rest = 1 / len(counts)
        low, high = (bound - rest for bound in _wilson(hits, n, confidence))
    else:
        other_hits = sum(k for subgroup, (k, _) in counts.items() if subgroup != name)
        other_n = sum(m for subgroup, (_, m) in counts.items() if subgroup != name)
        rest = other_hits / other_n
        low, high = _newcombe(hits, n, other_hits, other_n, confidence)
    seen = {"value": hits / n, "rest": rest, "difference": hits / n - rest, "low": low, "high": high, "n": n}
    found = high < 0
    return {**entry, **seen, "found": found, "verdict": _verdict(entry, seen, found, confidence)}


def _title(entry: Mapping[str, Any]) -> str:
    return f"{entry['kind'].replace('_', ' ').capitalize()}, planted in {entry['planted_in']}"


def _verdict(entry: Mapping[str, Any], seen: Mapping[str, float], found: bool, confidence: float) -> str:
    """Return one sentence: which bias, which subgroup, what was seen, found or not."""
    against = "an equal share" if entry["metric"] == "share" else f"the rest of {entry['by']}"
    what = "share of the faces" if entry["metric"] == "share" else f"{entry['metric']} of {entry['task']}"
    if entry["class"]:
        what = f"{entry['metric']} of {entry['class']} ({entry['task']})"
    apart, low, high = (f"{100 * seen[key]:+.1f}".replace("-", "−") for key in ("difference", "low", "high"))
    points = f"{apart} points ({100 * confidence:g} % interval {low} to {high})"
    word = "found" if found else ("not found" if entry["certain"] else "not seen, which this bias allows")
    own = f"{100 * seen['value']:.1f} % in {entry['subgroup']} (n {seen['n']:,})"
    return f"{_title(entry)}: {word}. The {what} is {own} against {100 * seen['rest']:.1f} % for {against}: {points}."


def _axis_rows(metrics: pd.DataFrame, entry: Mapping[str, Any]) -> pd.DataFrame:
    """Return the task's rows of the audit's axis with the expected attributes, in whatever order it names them."""
    wanted = set(parse(entry["by"]))
    axes = [by for by in metrics["by"].unique() if by != OVERALL and set(parse(str(by))) == wanted]
    rows = metrics[(metrics["by"] == axes[0]) & (metrics["subgroup"] != UNKNOWN)] if axes else metrics.iloc[:0]
    return rows if entry["metric"] == "share" else rows[rows["task"] == entry["task"]]


def _name_on(rows: pd.DataFrame, entry: Mapping[str, Any]) -> str:
    """Return the subgroup's label with its values in the order in which the axis names its attributes."""
    if rows.empty:
        return str(entry["subgroup"])
    return CROSS.join(entry["where"][attribute] for attribute in parse(str(rows["by"].iloc[0])))


def _successes(rows: pd.DataFrame, entry: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return subgroup → (successes, denominator) of a metric that is a share."""
    rows = rows[(rows["metric"] == entry["metric"]) & (rows["class"].fillna("") == entry["class"])]
    rows = rows[rows["value"].notna() & (rows["denominator"] > 0)]
    return {
        str(subgroup): (round(float(value) * float(n)), round(float(n)))
        for subgroup, value, n in zip(rows["subgroup"], rows["value"], rows["denominator"], strict=True)
    }


def _shares(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return subgroup → (its faces, all faces of the axis)."""
    sizes = rows.groupby("subgroup", sort=False)["n"].max()
    return {str(subgroup): (round(n), round(sizes.sum())) for subgroup, n in sizes.items()}


def _wilson(hits: int, n: int, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _newcombe(a: int, n: int, b: int, m: int, confidence: float) -> tuple[float, float]:
    """Return Newcombe's hybrid score interval of a/n - b/m (Newcombe 1998, method 10)."""
    p, q = a / n, b / m
    (p_low, p_high), (q_low, q_high) = _wilson(a, n, confidence), _wilson(b, m, confidence)
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)
