"""Why each metric stands in a report, when it misleads, which harm it speaks of; only for metrics that are there."""

from dataclasses import dataclass
from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.words import is_number, metric_words, sentence_case

SERVICE = "Quality of service: the model works worse for some people."
ALLOCATION = "Allocation: something is given or refused by the output."
REPRESENTATION = "Representation: people are seen as what they are not, or not seen at all."


@dataclass(frozen=True, kw_only=True)
class Rationale:
    """Metrics that stand in a report for one reason: the reason, when they mislead, and the harm they speak of."""

    metrics: tuple[str, ...]
    why: str
    misleads: str
    harm: str


RATIONALES: tuple[Rationale, ...] = (
    Rationale(
        metrics=("accuracy",),
        why="The first question of any user: how often is it right? Comparable between groups where their labels are "
        "mixed alike.",
        misleads="Where one class is frequent, always naming it is accurate. Groups with another mix of labels differ "
        "in accuracy though each class is recognised equally well.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("accuracy_standardized", "balanced_accuracy"),
        why="They take the mix of labels out of accuracy, so that groups are compared class by class.",
        misleads="A class with few faces weighs as much as a large one and makes the figure unsteady; nobody meets the "
        "equal mix that balanced accuracy supposes.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("recall_by_labelled_class", "recall", "fnr"),
        why="Of the people with a label, how many does the model see as such? Equal recall is equal opportunity. "
        "Where the subgroup is the class, it is the only rate that means anything.",
        misleads="A class that the model names too often has high recall and low precision. Recall against a perceived "
        "label is agreement with the annotators, not truth about people.",
        harm=SERVICE + " " + REPRESENTATION,
    ),
    Rationale(
        metrics=("precision", "fdr", "npv"),
        why="Of the people called a class, how many are labelled so? It is what the receiver of the output relies on.",
        misleads="It changes with how frequent the class is: groups differ in precision although the model errs "
        "equally often in each. With other base rates elsewhere it is another figure.",
        harm=REPRESENTATION,
    ),
    Rationale(
        metrics=("fpr", "tnr"),
        why="Of the people without the label, how many are called it? Together with recall it makes equalized odds.",
        misleads="With many classes it is small for each of them, so that a doubled rate looks like nothing; read the "
        "directed confusions beside it.",
        harm=REPRESENTATION,
    ),
    Rationale(
        metrics=("selection_rate", "base_rate"),
        why="How often a class is predicted, right or wrong, beside how often it is labelled: demographic parity, and "
        "all that can be said without labels.",
        misleads="Equal rates say nothing about being right; unequal ones are right where the labels differ. Only "
        "where the output selects people do they bear on the four-fifths rule.",
        harm=ALLOCATION,
    ),
    Rationale(
        metrics=(
            "f1",
            "macro_f1",
            "weighted_f1",
            "macro_recall",
            "macro_precision",
            "weighted_recall",
            "weighted_precision",
        ),
        why="One figure for recall and precision together, as others report it.",
        misleads="It hides which of the two is low, changes with the base rate, and has no meaning for a person.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("kappa", "mcc", "quadratic_weighted_kappa"),
        why="Agreement beyond what the margins alone give: they cannot be had by naming the frequent class.",
        misleads="They depend on the mix of labels, so that groups of unequal composition cannot be compared by them.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("mae_bins", "mae_years", "rmse_years", "mae_years_18_to_30"),
        why="How far off an age is, on average; the root mean square counts far misses more. NIST’s form averages "
        "over sexes and ages, so that composition drops out.",
        misleads="Old faces are missed by more years, so that an older group looks worse served. In bins, a miss by "
        "one year at an edge counts as much as one by nine.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("signed_error_bins", "signed_error_years"),
        why="Whether ages are guessed too old or too young: for a person that is not the same.",
        misleads="Errors both ways cancel: 0 does not mean exact. Every regression draws the young up and the old "
        "down.",
        harm=REPRESENTATION + " " + ALLOCATION,
    ),
    Rationale(
        metrics=("off_by_one_accuracy", "cumulative_score_1", "cumulative_score_2", "cumulative_score_5_years"),
        why="How often an age is near enough; the way in which age estimation is usually reported.",
        misleads="Near the ends of the scale there are fewer ways to be wrong. Bins differ in width.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("challenge_25_false_positive_rate",),
        why="How often somebody under 18 would pass for 25: the error that an age check must not make (NIST IR 8525).",
        misleads="It says nothing about adults who are turned away, and depends on the ages from 14 to 17 in the "
        "sample.",
        harm=ALLOCATION,
    ),
    Rationale(
        metrics=("auc", "average_precision"),
        why="Whether the scores rank people rightly, whatever the threshold.",
        misleads="Equal AUC can go with unequal error rates at the one threshold that is used. Within a group it never "
        "compares people of different groups.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("log_loss", "brier", "mean_labelled_probability"),
        why="Whether the stated probabilities are good ones: right, and sure where they may be.",
        misleads="They mix ranking and calibration; a few very sure errors rule the log loss.",
        harm=SERVICE,
    ),
    Rationale(
        metrics=("ece", "calibration_slope", "calibration_intercept"),
        why="Whether “80 % sure” is right four times of five in every group: who uses the probability relies on it.",
        misleads="A model that always states the base rate is calibrated and useless. With unequal base rates, "
        "calibration and equal error rates cannot both hold. In small groups the error is mostly noise.",
        harm=ALLOCATION,
    ),
    Rationale(
        metrics=("prediction_rate", "no_face_rate", "abstained_rate", "failed_rate", "end_to_end_accuracy"),
        why="Who gets no answer at all: a face that is not found is missing from every other figure. End-to-end "
        "accuracy counts it as wrong.",
        misleads="Not to be classified can be what a person wishes for; where the output harms, a low rate is no loss.",
        harm=SERVICE + " " + REPRESENTATION,
    ),
)
GAP = Rationale(
    metrics=("gap",),
    why="The distance between the worst-off and the best-off group, in the metric’s own unit: the size of the problem.",
    misleads="Noise alone makes the largest of many differences large, the more so the more and the smaller the "
    "groups are: read it beside the gap expected by noise, its simultaneous interval and its adjusted p. Making "
    "everybody worse off closes it, too.",
    harm=SERVICE,
)


def rationale_data(context: Context) -> dict[str, Any] | None:
    """Return what "Why these metrics" prints: each reason with those of its metrics that this audit has."""
    cells = (item for figures in context.figures.values() for item in figures.items())
    present = {metric for (metric, _), cell in cells if is_number(cell.value)}
    blocks = [_block(r, [m for m in r.metrics if m in present]) for r in RATIONALES if present & {*r.metrics}]
    if not blocks:
        return None
    gap = [{"title": "Gap", "why": GAP.why, "meanings": [], "misleads": GAP.misleads, "harm": GAP.harm}]
    known = {metric for r in RATIONALES for metric in r.metrics} | {"n", "support"}
    return {"blocks": [*(gap if context.gaps else []), *blocks], "others": sorted(present - known)}


def _block(rationale: Rationale, present: list[str]) -> dict[str, Any]:
    words = {metric: metric_words(metric) for metric in present}
    meanings = [(sentence_case(w.label), w.meaning) for w in words.values() if w.meaning]
    title = sentence_case(", ".join(w.label for w in words.values()))
    return {
        "title": title,
        "why": rationale.why,
        "meanings": meanings,
        "misleads": rationale.misleads,
        "harm": rationale.harm,
    }
