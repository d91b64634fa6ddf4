"""Findings as plain sentences with their numbers: what differs, by how much, how surely, or what was findable."""

import math
from collections.abc import Mapping
from typing import Any

from fairaudit.metrics.detectable import POWER
from fairaudit.metrics.rates import METRICS

REST = "the rest"
MARGINS = "what its margins predict"
SAME_FACES = " Of the same faces "
_NAMES = {
    "recall_by_labelled_class": "recall by labelled class",
    "balanced_accuracy": "balanced accuracy",
    "accuracy_standardized": "standardized accuracy",
    "fpr": "false positive rate",
    "f1": "F1",
    "npv": "negative predictive value",
    "selection_rate": "selection rate",
    "mae_bins": "mean absolute error",
    "signed_error_bins": "mean signed error",
    "off_by_one_accuracy": "off-by-one accuracy",
    "cumulative_score_2": "share within two bins",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "kappa": "Cohen’s kappa",
    "mcc": "Matthews correlation",
    "no_face_rate": "share without a face found",
    "abstained_rate": "share abstained",
    "failed_rate": "share failed",
    "end_to_end_accuracy": "end-to-end accuracy",
}


def metric_name(metric: str, class_: str) -> str:
    """Return "recall of Female", or "accuracy" for a metric of the whole task."""
    name = _NAMES.get(metric, metric.replace("_", " "))
    return f"{name} of {class_}" if class_ else name


def in_percent(metric: str) -> bool:
    """Tell whether a metric is written in percent."""
    known = METRICS.get(metric)
    if known is None or known.kind == "score":
        return False
    return not known.signed and metric != "mae_bins"


def sentence(row: Mapping[str, Any], confidence: float) -> str:
    """Return what one row of findings says, "" where it has no value; of what is none, with the reason."""
    if not _number(row["difference"]):
        return ""
    words = {"gap": _gap, "interaction": _interaction}.get(row["kind"], _contrast)
    labels = _labels(row) if row["finding"] or row["shown"] else ""
    return f"{row['task']} by {' × '.join(row['by'].split(':'))}: {words(row, confidence)}{labels}{_caveat(row)}"


def before_labels(row: Mapping[Any, Any]) -> str:
    """Return a row's sentence without how often the same faces are labelled so, which earlier audits did not say."""
    said, found, _ = str(row["sentence"]).partition(SAME_FACES)
    return f"{said}{_caveat(row)}" if found else said


def _caveat(row: Mapping[str, Any]) -> str:
    return f" No finding: {row['reason']}." if row["reason"] and not row["finding"] else ""


def _labels(row: Mapping[str, Any]) -> str:
    """Say how often the same faces are labelled as the class; "" where that is no question or not known."""
    own, other = (row.get(name, math.nan) for name in ("labelled", "other_labelled"))
    if not _number(own):
        return ""
    beside = f" against {_value(other, row['metric'])}" if _number(other) else ""
    return f"{SAME_FACES}{_value(own, row['metric'])}{beside} are labelled {row['class']}."


def _contrast(row: Mapping[str, Any], confidence: float) -> str:
    name, unit = metric_name(row["metric"], row["class"]), row["metric"]
    other = row["other"] if row["other"].startswith(REST) else f"faces labelled {row['other']}"
    if row["finding"] or row["shown"]:
        way = "higher" if row["difference"] > 0 else "lower"
        return (
            f"{name} is {way} for faces labelled {row['subgroup']} than for {other}: {_value(row['value'], unit)} "
            f"(n = {_count(row['n'])}) against {_value(row['other_value'], unit)} (n = {_count(row['n_other'])}), "
            f"{_size(row, confidence)}; {_p(row)}."
        )
    return (
        f"no difference in {name} between faces labelled {row['subgroup']} (n = {_count(row['n'])}) and {other} "
        f"(n = {_count(row['n_other'])}) is shown: {_size(row, confidence)}; {_p(row)}. {_reach(row)}"
    )


def _interaction(row: Mapping[str, Any], confidence: float) -> str:
    name, unit = metric_name(row["metric"], row["class"]), row["metric"]
    figures = (
        f"{_value(row['value'], unit)} (n = {_count(row['n'])}) against {_value(row['other_value'], unit)}, "
        f"{_size(row, confidence)}; {_p(row)}"
    )
    if row["shown"]:
        way = "higher" if row["difference"] > 0 else "lower"
        return f"{name} of faces labelled {row['subgroup']} is {way} than its margins predict: {figures}."
    return f"{name} of faces labelled {row['subgroup']} is not shown to differ from its margins: {figures}."


def _gap(row: Mapping[str, Any], confidence: float) -> str:
    name, unit = metric_name(row["metric"], row["class"]), row["metric"]
    noise = f"{_points(row['expected'], unit)} expected by noise alone; " if _number(row["expected"]) else ""
    if row["finding"] or row["shown"]:
        return (
            f"{name} differs between subgroups: {_value(row['value'], unit)} for faces labelled {row['subgroup']} "
            f"(n = {_count(row['n'])}), {_value(row['other_value'], unit)} for faces labelled {row['other']} "
            f"(n = {_count(row['n_other'])}), {_size(row, confidence)}; {noise}{_p(row)}."
        )
    return f"no gap in {name} is shown: {_size(row, confidence)}; {noise}{_p(row)}. {_reach(row)}"


def _size(row: Mapping[str, Any], confidence: float) -> str:
    what = "a gap of" if row["kind"] == "gap" else "a difference of"
    signed = row["kind"] != "gap"
    size = f"{what} {_points(row['difference'], row['metric'], signed=signed)}"
    if not (_number(row["low"]) and _number(row["high"])):
        return f"{size} without an interval"
    low, high = (_points(row[side], row["metric"], signed=signed, unit=False) for side in ("low", "high"))
    return f"{size} ({100 * confidence:g} % interval {low} to {high})"


def _p(row: Mapping[str, Any]) -> str:
    if not _number(row["p_adjusted"]):
        return "not tested"
    text = "below .001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}".lstrip("0")
    return f"adjusted p {text if text.startswith('below') else '= ' + text}, family of {int(row['family_size']):,}"


def _reach(row: Mapping[str, Any]) -> str:
    if not _number(row["detectable"]):
        return f"No difference would have been found with {POWER:.0%} power at this size.".replace("%", " %")
    reach = _points(row["detectable"], row["metric"])
    what = "A gap to the rest" if row["kind"] == "gap" else "A difference"
    return f"{what} above {reach} would have been found with {POWER:.0%} power.".replace("80%", "80 %")


def _value(value: float, metric: str) -> str:
    if not _number(value):
        return "undefined"
    if in_percent(metric):
        return f"{100 * value:.1f} %"
    return f"{value:.2f} bins" if metric.endswith("_bins") else f"{value:.3f}"


def _points(value: float, metric: str, *, signed: bool = False, unit: bool = True) -> str:
    sign = "+" if signed else ""
    if in_percent(metric):
        text, name = f"{100 * value:{sign}.1f}", " points"
    else:
        text, name = f"{value:{sign}.2f}" if metric.endswith("_bins") else f"{value:{sign}.3f}", ""
        name = " bins" if metric.endswith("_bins") else ""
    return text.replace("-", "−") + (name if unit else "")


def _count(value: float) -> str:
    return f"{value:,.0f}" if _number(value) else "unknown"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
