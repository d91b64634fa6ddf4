"""How numbers and names are written in a report: one place, so that the same figure reads the same on every page."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from fairaudit.subgroups import OVERALL, parse

Kind = Literal["percent", "bins", "plain", "count"]
DASH = "–"
MINUS = "−"
_RANGE = re.compile(r"(\(?−?[\d.,]+(?:–| to )[−\d.,]*\d(?:\u00a0(?:points|bins))?\)?)")


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
}
# What pages print of a whole head, in this order. The tables on disk hold every metric.
SHOWN = (
    *("accuracy", "recall_by_labelled_class", "accuracy_standardized", "balanced_accuracy", "macro_f1", "kappa", "mcc"),
    *("mae_bins", "signed_error_bins", "off_by_one_accuracy", "cumulative_score_2", "quadratic_weighted_kappa"),
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


def number(value: Any, kind: Kind = "percent", *, signed: bool = False) -> str:
    """Return a value without its unit: 90.1 for .901 (percent), 0.45 (bins), 0.812 (plain), "–" where undefined."""
    if not is_number(value):
        return DASH
    if kind == "count":
        return count(value)
    text = f"{value * 100:+.1f}" if kind == "percent" else f"{value:+.2f}" if kind == "bins" else f"{value:+.3f}"
    if not float(text) or (not signed and text[0] == "+"):
        text = text[1:]
    return text.replace("-", MINUS)


def unit(kind: Kind, *, difference: bool = False) -> str:
    """Return the unit that follows a value of this kind, with its leading (no-break) space."""
    if kind == "percent":
        return "\u00a0points" if difference else "\u00a0%"
    return "\u00a0bins" if kind == "bins" else ""


def interval(low: Any, high: Any, kind: Kind = "percent", *, signed: bool = False) -> str:
    """Return "87.9–92.0", with "to" where a bound is negative; "" where there is no interval."""
    if not (is_number(low) and is_number(high)):
        return ""
    joint = " to " if low < 0 or high < 0 else "–"
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


def unbroken(text: str) -> Markup:
    """Return `text`, escaped, with every interval "87.9–92.0" kept on one line: a dash invites a break."""
    return Markup(_RANGE.sub(r'<span class="nb">\1</span>', str(escape(text))))


def listing(names: list[str], most: int = 6) -> str:
    """Return "A, B and C"; beyond `most` names the rest is counted: "A, B and 12 more"."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return "1 face" or "1,204 faces"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
