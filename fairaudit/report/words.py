"""How numbers and names are written in a report: one place, so that the same figure reads the same on every page."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from fairaudit.subgroups import OVERALL, parse

Kind = Literal["percent", "bins", "years", "plain", "count"]
DASH = "–"
MINUS = "−"
# an interval, or a name such as 10-19
_RANGE = re.compile(
    r"(\(?−?[\d.,]+(?:–| to )[−\d.,]*\d(?:\u00a0(?:points|bins|years))?\)?"
    r"|(?<![\w#-])\d{1,4}(?:-\d{1,4}){1,2}(?![\w-]))"
)
# a number and its unit; n or p and its figure
_GLUED = re.compile(r"(?<=\d) (?=(?:%|points|bins|years)(?!\w))|(?<=\b[np]) (?== )|(?<=\b[np][ \u00a0]=) (?=[\d.])")
_BOUNDS = re.compile(r"(\(−?[\d.,]+(?:–| to )[−\d.,]*\d(?:\)|,(?= n\u00a0=)))(?: (n\u00a0=\u00a0[\d,.]+\)))?")


@dataclass(frozen=True, kw_only=True)
class MetricWords:
    """How one metric is named and written; `better` is the direction that a reader wishes for, if there is one."""

    label: str
    kind: Kind = "percent"
    better: Literal["high", "low", "none"] = "high"
    meaning: str = ""


METRICS: dict[str, MetricWords] = {
    "accuracy": MetricWords(label="accuracy", meaning="share of faces whose prediction equals the label"),
    "recall_by_labelled_class": MetricWords(
        label="recall by labelled class", meaning="where the subgroup is the class: the share predicted as it"
    ),
    "end_to_end_accuracy": MetricWords(
        label="end-to-end accuracy", meaning="accuracy in which a face without a prediction counts as wrong"
    ),
    "accuracy_standardized": MetricWords(
        label="standardized accuracy", meaning="accuracy at the label mix of all faces, so that composition drops out"
    ),
    "balanced_accuracy": MetricWords(label="balanced accuracy", meaning="mean of the recalls of the classes"),
    "recall": MetricWords(label="recall", meaning="of the faces labelled as the class, the share predicted as it"),
    "precision": MetricWords(
        label="precision", meaning="of the faces predicted as the class, the share labelled as it"
    ),
    "fnr": MetricWords(label="false negative rate", better="low", meaning="1 − recall"),
    "fpr": MetricWords(
        label="false positive rate",
        better="low",
        meaning="of the faces not labelled as the class, the share predicted as it",
    ),
    "tnr": MetricWords(label="true negative rate", meaning="1 − false positive rate"),
    "fdr": MetricWords(label="false discovery rate", better="low", meaning="1 − precision"),
    "npv": MetricWords(label="negative predictive value"),
    "f1": MetricWords(label="F1", meaning="harmonic mean of precision and recall"),
    "selection_rate": MetricWords(
        label="selection rate", better="none", meaning="share of all faces predicted as the class, right or wrong"
    ),
    "base_rate": MetricWords(label="base rate", better="none", meaning="share of faces labelled as the class"),
    "support": MetricWords(label="labelled faces", kind="count", better="none"),
    "n": MetricWords(label="faces", kind="count", better="none"),
    "macro_recall": MetricWords(label="macro recall"),
    "macro_precision": MetricWords(label="macro precision"),
    "macro_f1": MetricWords(label="macro F1", meaning="mean of the F1 of the classes"),
    "weighted_recall": MetricWords(label="weighted recall"),
    "weighted_precision": MetricWords(label="weighted precision"),
    "weighted_f1": MetricWords(label="weighted F1"),
    "kappa": MetricWords(
        label="Cohen’s kappa", kind="plain", meaning="agreement beyond chance; 1 is perfect, 0 chance"
    ),
    "mcc": MetricWords(label="Matthews correlation", kind="plain", meaning="between labels and predictions"),
    "quadratic_weighted_kappa": MetricWords(
        label="quadratic-weighted kappa", kind="plain", meaning="agreement beyond chance, far misses count more"
    ),
    "mae_bins": MetricWords(
        label="mean absolute error", kind="bins", better="low", meaning="distance between predicted and labelled bin"
    ),
    "signed_error_bins": MetricWords(
        label="mean signed error",
        kind="bins",
        better="none",
        meaning="above 0: predicted too high (too old) on average",
    ),
    "off_by_one_accuracy": MetricWords(
        label="off-by-one accuracy", meaning="share predicted in the labelled bin or beside it"
    ),
    "cumulative_score_1": MetricWords(label="within one bin", meaning="the same as off-by-one accuracy"),
    "cumulative_score_2": MetricWords(label="within two bins", meaning="share predicted at most two bins off"),
    "prediction_rate": MetricWords(label="prediction rate", meaning="share of faces for which there is a prediction"),
    "no_face_rate": MetricWords(label="no face found", better="low", meaning="share of faces"),
    "abstained_rate": MetricWords(label="abstained", better="none", meaning="share of faces"),
    "failed_rate": MetricWords(label="failed", better="low", meaning="share of faces"),
    "auc": MetricWords(
        label="ROC AUC",
        kind="plain",
        meaning="how often a face of the class has the higher probability of it than another face; ties count one half",
    ),
    "average_precision": MetricWords(
        label="average precision", kind="plain", meaning="precision averaged over the faces of the class, surest first"
    ),
    "log_loss": MetricWords(
        label="log loss", kind="plain", better="low", meaning="mean of −ln of the label’s probability; 0 is perfect"
    ),
    "brier": MetricWords(
        label="Brier score",
        kind="plain",
        better="low",
        meaning="mean squared distance of the probabilities from the label: 0 to 1 for two classes, 0 to 2 for more",
    ),
    "mean_labelled_probability": MetricWords(
        label="mean probability of the label", meaning="the probability that the class of the label is given"
    ),
    "ece": MetricWords(
        label="calibration error",
        better="low",
        meaning="distance of stated from true rates of being right, noise taken off; below 0 reads as 0",
    ),
    "calibration_slope": MetricWords(
        label="calibration slope", kind="plain", better="none", meaning="1 is right; below 1: too sure of itself"
    ),
    "calibration_intercept": MetricWords(
        label="calibration intercept", kind="plain", better="none", meaning="0 is right where the slope is 1"
    ),
    "mae_years": MetricWords(
        label="mean absolute error in years", kind="years", better="low", meaning="predicted against labelled age"
    ),
    "rmse_years": MetricWords(
        label="root mean squared error", kind="years", better="low", meaning="far misses count more"
    ),
    "signed_error_years": MetricWords(
        label="mean signed error in years", kind="years", better="none", meaning="above 0: predicted too old on average"
    ),
    "cumulative_score_5_years": MetricWords(
        label="within five years", meaning="share predicted at most five years off"
    ),
    "mae_years_18_to_30": MetricWords(
        label="NIST age error, 18 to 30",
        kind="years",
        better="low",
        meaning="mean absolute error averaged over both sexes and each age from 18 to 30 (NIST IR 8525)",
    ),
    "challenge_25_false_positive_rate": MetricWords(
        label="Challenge 25, false positives",
        better="low",
        meaning="of the faces labelled 14 to 17 years old, the share predicted 25 or older (NIST IR 8525)",
    ),
}
# What pages print of a whole head, in this order. The tables on disk hold every metric.
SHOWN = (
    *("accuracy", "recall_by_labelled_class", "accuracy_standardized", "balanced_accuracy", "macro_f1", "kappa", "mcc"),
    *("mae_bins", "signed_error_bins", "off_by_one_accuracy", "cumulative_score_2", "quadratic_weighted_kappa"),
    *("mae_years", "rmse_years", "signed_error_years", "cumulative_score_5_years"),
    *("mae_years_18_to_30", "challenge_25_false_positive_rate"),
    *("log_loss", "brier", "mean_labelled_probability", "ece", "calibration_slope", "calibration_intercept"),
    *("prediction_rate", "no_face_rate", "abstained_rate", "failed_rate", "end_to_end_accuracy"),
)
# Only worth a line where some face has no prediction, and where the subgroup determines the label.
OUTCOME = ("prediction_rate", "no_face_rate", "abstained_rate", "failed_rate", "end_to_end_accuracy")
DEGENERATE_ONLY = ("recall_by_labelled_class",)


def metric_words(metric: str) -> MetricWords:
    """Return how `metric` is written; a metric this list lacks is shown by its own name, as a plain number."""
    known = METRICS.get(metric)
    if known is not None:
        return known
    kind: Kind = "percent" if metric.endswith(("_rate", "_accuracy", "_recall", "_precision")) else "plain"
    return MetricWords(label=metric.replace("_", " "), kind=kind, better="none")


def metric_label(metric: str, class_: str = "") -> str:
    """Return "recall of Female", or "accuracy" for a metric of the whole task."""
    label = metric_words(metric).label
    return f"{label} of {class_}" if class_ else label


def axis_label(by: str) -> str:
    """Return "race × gender" for "race:gender"."""
    return "all faces" if by == OVERALL else " × ".join(parse(by))


def sentence_case(text: str) -> str:
    """Return `text` with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def is_number(value: Any) -> bool:
    """Tell whether `value` is a finite number, numpy's included."""
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def count(value: Any) -> str:
    """Return a count with thousands separators: 12,345; "–" where it is unknown; weighted counts keep a decimal."""
    if not is_number(value):
        return DASH
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else f"{value:,.1f}"


def counted(value: Any, one: str) -> str:
    """Return "1 face", "1,204 faces", "12.5 faces" (weighted) or "– faces" (hidden)."""
    return f"{count(value)} {one if value == 1 else one + 's'}"


def number(value: Any, kind: Kind = "percent", *, signed: bool = False) -> str:
    """Return a value without its unit: 90.1 for .901 (percent), 0.45 (bins, years), 0.812 (plain), "–" if undefined."""
    if not is_number(value):
        return DASH
    if kind == "count":
        return count(value)
    digits = {"percent": 1, "bins": 2, "years": 2}.get(kind, 3)
    text = f"{value * (100 if kind == 'percent' else 1):+.{digits}f}"
    if not float(text) or (not signed and text[0] == "+"):
        text = text[1:]
    return text.replace("-", MINUS)


def unit(kind: Kind, *, difference: bool = False) -> str:
    """Return the unit that follows a value of this kind, with its leading (no-break) space."""
    if kind == "percent":
        return "\u00a0points" if difference else "\u00a0%"
    return f"\u00a0{kind}" if kind in ("bins", "years") else ""


def interval(low: Any, high: Any, kind: Kind = "percent", *, signed: bool = False) -> str:
    """Return "87.9–92.0", with "to" where a bound has a sign; "" where there is no interval."""
    if not (is_number(low) and is_number(high)):
        return ""
    joint = " to " if signed or low < 0 or high < 0 else "–"
    return f"{number(low, kind, signed=signed)}{joint}{number(high, kind, signed=signed)}"


def figure(value: Any, low: Any = None, high: Any = None, kind: Kind = "percent") -> str:
    """Return "90.1 % (87.9–92.0)", "90.1 %" without an interval, "–" where undefined."""
    if not is_number(value):
        return DASH
    bounds = interval(low, high, kind)
    return number(value, kind) + unit(kind) + (f" ({bounds})" if bounds else "")


def difference(value: Any, low: Any = None, high: Any = None, kind: Kind = "percent", *, signed: bool = True) -> str:
    """Return "−5.1 points (−8.0 to −2.2)"; `signed=False` for gaps, which are never negative."""
    if not is_number(value):
        return DASH
    bounds = interval(low, high, kind)
    return number(value, kind, signed=signed) + unit(kind, difference=True) + (f" ({bounds})" if bounds else "")


def p_words(p: Any) -> str:
    """Return "below .001", "= .012" or "–" for a p-value."""
    if not is_number(p):
        return DASH
    return "below .001" if p < 0.001 else "= " + f"{p:.3f}".lstrip("0")


def unbroken(text: str) -> Markup:
    """Return `text`, escaped, with every "87.9–92.0", "10-19", "5.1 %" and "n = 12" kept on one line.

    What is markup already (a chart) stays as it is.
    """
    if isinstance(text, Markup):
        return text
    return Markup(_RANGE.sub(r'<span class="nb">\1</span>', _GLUED.sub("\u00a0", str(escape(text)))))


def bounds(text: str) -> Markup:
    """Return the text of a figure, escaped, with its interval in softer print, so that the estimate stands out."""
    return Markup(_BOUNDS.sub(_in_small, str(escape(text))))


def _in_small(found: re.Match[str]) -> str:
    return " ".join(f"<small>{part}</small>" for part in found.groups() if part)


def listing(names: list[str], most: int = 6) -> str:
    """Return "A, B and C"; beyond `most` names the rest is counted: "A, B and 12 more"."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
