"""What each metric is; the count metrics as arithmetic on confusion cubes of shape (…, K, K).

Four kinds of these. A *proportion* is a share of faces, given by the cells of its numerator and its denominator; *f1*
is a function of such a share; an *average* is a weighted mean of recalls; a *composite* is any other function of the
cube. A metric of the kind *score* needs more than the cube: probabilities, or ages in years (see `measures`).
Undefined is NaN: no metric has a value for an empty denominator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fairaudit.errors import UsageError
from fairaudit.metrics import ordinal
from fairaudit.metrics.cube import OUTCOMES
from fairaudit.registry import lookup

Kind = Literal["count", "proportion", "f1", "average", "composite", "score"]


@dataclass(frozen=True)
class Table:
    """The cells of one task's table: `rows` labels (1 where the task has none), K classes, then the outcomes.

    Every property is a stack of 0/1 masks of shape (P, rows, K + outcomes): P = K for one mask a class, else 1.
    """

    classes: int
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """(labels, predictions and outcomes)."""
        return self.rows, self.classes + len(OUTCOMES)

    @cached_property
    def faces(self) -> np.ndarray:
        """Every face, with a prediction or without."""
        return np.ones((1, *self.shape))

    @cached_property
    def predicted(self) -> np.ndarray:
        """Faces with a prediction."""
        mask = self.faces.copy()
        mask[..., self.classes :] = 0
        return mask

    @cached_property
    def labelled_as(self) -> np.ndarray:
        """Faces with a prediction that are labelled as each class."""
        return self.predicted * np.eye(self.classes, self.rows)[:, :, None]

    @cached_property
    def predicted_as(self) -> np.ndarray:
        """Faces predicted as each class."""
        return self.predicted * np.eye(self.classes, self.shape[1])[:, None, :]

    @cached_property
    def right_as(self) -> np.ndarray:
        """Faces of each class that are predicted as that class."""
        return self.labelled_as * self.predicted_as

    @cached_property
    def right(self) -> np.ndarray:
        """Faces predicted as what they are labelled."""
        return self.right_as.sum(0, keepdims=True)

    def outcome(self, name: str) -> np.ndarray:
        """Faces without a prediction, for this reason."""
        mask = np.zeros_like(self.faces)
        mask[..., self.classes + OUTCOMES.index(name)] = 1
        return mask

    def near(self, j: int) -> np.ndarray:
        """Faces predicted at most `j` classes off."""
        mask = np.zeros_like(self.faces)
        mask[0, :, : self.classes] = ordinal.within(self.classes, j)
        return mask


class Margins:
    """A stack of confusion matrices (…, K, K) with the sums that several metrics share."""

    def __init__(self, cube: np.ndarray) -> None:
        self.cube = np.asarray(cube, dtype=float)
        self.rows = self.cube.sum(-1)
        self.columns = self.cube.sum(-2)
        self.total = self.rows.sum(-1)
        self.diagonal = np.diagonal(self.cube, axis1=-2, axis2=-1)

    @cached_property
    def recall(self) -> np.ndarray:
        """Recall of each class, (…, K)."""
        return ratio(self.diagonal, self.rows)

    @cached_property
    def precision(self) -> np.ndarray:
        """Precision of each class, (…, K)."""
        return ratio(self.diagonal, self.columns)

    @cached_property
    def f1(self) -> np.ndarray:
        """F1 of each class, (…, K)."""
        return ratio(2 * self.diagonal, self.rows + self.columns)


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return top / bottom, NaN where the bottom is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=float), np.asarray(bottom, dtype=float))
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean over the last axis; NaN where a class of positive weight is undefined or none has weight."""
    weights = np.broadcast_to(np.asarray(weights, dtype=float), values.shape)
    return ratio(np.where(weights > 0, weights * values, 0).sum(-1), weights.sum(-1))


def _kappa(m: Margins, classes: np.ndarray) -> np.ndarray:
    chance = (m.rows * m.columns).sum(-1)
    square = m.total**2
    return ratio(m.diagonal.sum(-1) * m.total - chance, square - chance)


def _mcc(m: Margins, classes: np.ndarray) -> np.ndarray:
    """Matthews' correlation for K classes (Gorodkin 2004)."""
    top = m.diagonal.sum(-1) * m.total - (m.rows * m.columns).sum(-1)
    spread = (m.total**2 - (m.rows**2).sum(-1)) * (m.total**2 - (m.columns**2).sum(-1))
    return ratio(top, np.sqrt(np.maximum(spread, 0)))


Composite = Callable[[Margins, np.ndarray], np.ndarray]
Cells = Callable[[Table], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. `worst`: which end is worse. `lacking`: what is missing where it is undefined.

    cells: numerator and denominator of a proportion (of J for f1). value: a composite's function of the margins and of
    the classes (a 0/1 mask) it averages over. `lacking` is completed with {class} and {subgroup}. needs: what a metric
    of the kind "score" is computed from. span: least and largest possible value, None: by the name (0…1, or −1…1 where
    `signed`). target: the value that is best, where neither end is.
    """

    name: str
    kind: Kind
    lacking: str
    per_class: bool = False
    ordered: bool = False
    averages: bool = False
    worst: Literal["low", "high"] = "low"
    signed: bool = False
    labels: bool = True
    outcome: bool = False
    degenerate: bool = False
    cells: Cells | None = None
    value: Composite | None = None
    needs: Literal["", "scores", "years"] = ""
    span: tuple[float, float] | None = None
    target: float | None = None


_NOBODY = "no face of {subgroup} has a label and a prediction"
_NO_LABEL = "no face labelled {class} in {subgroup}"
_NO_PREDICTION = "no face predicted as {class} in {subgroup}"
_ALL_LABEL = "every face in {subgroup} is labelled {class}"
_ALL_PREDICTED = "every face in {subgroup} is predicted as {class}"
_CONSTANT = "the labels or the predictions in {subgroup} are all of one class"
_NO_FACE = "{subgroup} has no face"
_NO_SCORE = "no face of {subgroup} has a label, a prediction and usable probabilities"
_NO_YEARS = "no face of {subgroup} has a labelled and a predicted age in years"
_ANY, _POSITIVE = (-np.inf, np.inf), (0.0, np.inf)


def _proportion(name: str, lacking: str, cells: Cells, **more: bool | str) -> Metric:
    return Metric(name=name, kind="proportion", lacking=lacking, cells=cells, **more)  # type: ignore[arg-type]


def _score(name: str, lacking: str, **more: object) -> Metric:
    return Metric(name=name, kind="score", lacking=lacking, needs="scores", **more)  # type: ignore[arg-type]


def _years(name: str, lacking: str, **more: object) -> Metric:
    return Metric(name=name, kind="score", lacking=lacking, needs="years", **more)  # type: ignore[arg-type]


def _composite(name: str, lacking: str, value: Composite, **more: object) -> Metric:
    return Metric(name=name, kind="composite", lacking=lacking, value=value, **more)  # type: ignore[arg-type]


_ALL: tuple[Metric, ...] = (
    Metric(name="n", kind="count", lacking=_NO_FACE, labels=False, degenerate=True, cells=lambda t: (t.faces, t.faces)),
    Metric(
        name="support",
        kind="count",
        lacking=_NO_FACE,
        per_class=True,
        degenerate=True,
        cells=lambda t: (t.labelled_as, t.predicted),
    ),
    _proportion("base_rate", _NOBODY, lambda t: (t.labelled_as, t.predicted), per_class=True),
    _proportion(
        "selection_rate",
        "no face of {subgroup} has a prediction",
        lambda t: (t.predicted_as, t.predicted),
        per_class=True,
        labels=False,
    ),
    _proportion("accuracy", _NOBODY, lambda t: (t.right, t.predicted)),
    Metric(name="accuracy_standardized", kind="average", lacking=_NO_LABEL, averages=True),
    Metric(name="balanced_accuracy", kind="average", lacking=_NO_LABEL, averages=True),
    _proportion("recall", _NO_LABEL, lambda t: (t.right_as, t.labelled_as), per_class=True, degenerate=True),
    _proportion("fnr", _NO_LABEL, lambda t: (t.labelled_as - t.right_as, t.labelled_as), per_class=True, worst="high"),
    _proportion(
        "fpr",
        _ALL_LABEL,
        lambda t: (t.predicted_as - t.right_as, t.predicted - t.labelled_as),
        per_class=True,
        worst="high",
    ),
    _proportion(
        "tnr",
        _ALL_LABEL,
        lambda t: (t.predicted - t.labelled_as - t.predicted_as + t.right_as, t.predicted - t.labelled_as),
        per_class=True,
    ),
    _proportion("precision", _NO_PREDICTION, lambda t: (t.right_as, t.predicted_as), per_class=True),
    _proportion(
        "fdr", _NO_PREDICTION, lambda t: (t.predicted_as - t.right_as, t.predicted_as), per_class=True, worst="high"
    ),
    _proportion(
        "npv",
        _ALL_PREDICTED,
        lambda t: (t.predicted - t.labelled_as - t.predicted_as + t.right_as, t.predicted - t.predicted_as),
        per_class=True,
    ),
    Metric(
        name="f1",
        kind="f1",
        lacking="no face in {subgroup} is labelled or predicted as {class}",
        per_class=True,
        cells=lambda t: (t.right_as, t.labelled_as + t.predicted_as - t.right_as),
    ),
    Metric(name="macro_recall", kind="average", lacking=_NO_LABEL, averages=True),
    _composite("macro_precision", _NO_PREDICTION, lambda m, k: average(m.precision, k), averages=True),
    _composite("macro_f1", _NO_LABEL, lambda m, k: average(m.f1, k), averages=True),
    _proportion("weighted_recall", _NOBODY, lambda t: (t.right, t.predicted)),
    _composite("weighted_precision", _NO_PREDICTION, lambda m, k: average(m.precision, m.rows)),
    _composite("weighted_f1", _NOBODY, lambda m, k: average(m.f1, m.rows)),
    _composite("kappa", _CONSTANT, _kappa, signed=True),
    _composite("mcc", _CONSTANT, _mcc, signed=True),
    _composite(
        "mae_bins",
        _NOBODY,
        lambda m, k: ordinal.mean_absolute_error(m.cube, m.total),
        ordered=True,
        worst="high",
    ),
    _composite(
        "signed_error_bins",
        _NOBODY,
        lambda m, k: ordinal.mean_signed_error(m.cube, m.total),
        ordered=True,
        signed=True,
        target=0.0,
    ),
    _proportion("off_by_one_accuracy", _NOBODY, lambda t: (t.near(1), t.predicted), ordered=True),
    _proportion("cumulative_score_1", _NOBODY, lambda t: (t.near(1), t.predicted), ordered=True),
    _proportion("cumulative_score_2", _NOBODY, lambda t: (t.near(2), t.predicted), ordered=True),
    _composite(
        "quadratic_weighted_kappa",
        _CONSTANT,
        lambda m, k: ordinal.quadratic_weighted_kappa(m.cube, m.rows, m.columns, m.total),
        ordered=True,
        signed=True,
    ),
    _proportion("recall_by_labelled_class", _NOBODY, lambda t: (t.right, t.predicted), degenerate=True),
    _proportion(
        "prediction_rate", _NO_FACE, lambda t: (t.predicted, t.faces), labels=False, outcome=True, degenerate=True
    ),
    *(
        _proportion(
            f"{name}_rate",
            _NO_FACE,
            lambda t, name=name: (t.outcome(name), t.faces),  # type: ignore[misc]
            labels=False,
            outcome=True,
            degenerate=True,
            worst="high",
        )
        for name in OUTCOMES
    ),
    _proportion("end_to_end_accuracy", _NO_FACE, lambda t: (t.right, t.faces), outcome=True, degenerate=True),
    _score("auc", "{subgroup} needs scored faces that are labelled {class} and others that are not", per_class=True),
    _score("average_precision", "no face labelled {class} in {subgroup} has usable probabilities", per_class=True),
    _score("log_loss", _NO_SCORE, worst="high", span=_POSITIVE),
    _score("brier", _NO_SCORE, worst="high", span=(0.0, 2.0)),
    _score("mean_labelled_probability", _NO_SCORE, degenerate=True),
    _score("ece", _NO_SCORE, worst="high", signed=True),
    _score("calibration_slope", _NO_SCORE, signed=True, span=_ANY, target=1.0),
    _score("calibration_intercept", _NO_SCORE, signed=True, span=_ANY, target=0.0),
    _years("mae_years", _NO_YEARS, worst="high", span=_POSITIVE),
    _years("rmse_years", _NO_YEARS, worst="high", span=_POSITIVE),
    _years("signed_error_years", _NO_YEARS, signed=True, span=_ANY, target=0.0),
    _years("cumulative_score_5_years", _NO_YEARS),
    _years("mae_years_18_to_30", _NO_YEARS, worst="high", span=_POSITIVE),
    _years("challenge_25_false_positive_rate", "no face labelled 14 to 17 years in {subgroup}", worst="high"),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}


def average_weights(name: str, classes: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Return the weight of each class's recall in the average `name`: equal, or `mix` where it is standardized.

    classes: 0/1 mask (…, K) of the classes averaged over; mix: shares (K,) of the labels in the whole set.
    """
    weights = np.asarray(classes, dtype=float) * (mix if name == "accuracy_standardized" else 1.0)
    return np.nan_to_num(ratio(weights, weights.sum(-1, keepdims=True)))


def evaluate(
    name: str, cube: np.ndarray, *, classes: np.ndarray | None = None, mix: np.ndarray | None = None
) -> np.ndarray:
    """Return the metric `name` of every matrix of `cube`: shape (…, K) for per-class metrics, else (…).

    cube: (…, K, K) counts or weights of labels × predictions. classes: 0/1 mask of the classes that averages run over
    (default: those labelled in each matrix). mix: label shares that `accuracy_standardized` refers to (default: the
    cube's own sum). Raises UsageError for an unknown metric, and for one that counts alone cannot give.
    """
    metric = lookup(METRICS, name, "metric")
    if metric.needs:
        raise UsageError(f"{name} needs {metric.needs} of faces; a table of counts does not hold them")
    margins = Margins(cube)
    k = margins.cube.shape[-1]
    chosen = margins.rows > 0 if classes is None else np.broadcast_to(classes, margins.rows.shape)
    if metric.value is not None:
        return metric.value(margins, chosen)
    if metric.kind == "average":
        pooled = margins.rows.reshape(-1, k).sum(0) if mix is None else mix
        # every class of the target mix counts: a subgroup without one of them has no standardized value
        chosen = (
            np.broadcast_to(pooled > 0, chosen.shape) if name.endswith("standardized") and classes is None else chosen
        )
        weights = average_weights(name, chosen, pooled)
        return np.where(weights.sum(-1) > 0, average(margins.recall, weights), np.nan)
    assert metric.cells is not None  # by construction of METRICS
    table = Table(k, k)
    top, bottom = (stack[..., :k] for stack in metric.cells(table))
    upper, lower = (np.einsum("...ij,pij->...p", margins.cube, stack) for stack in (top, bottom))
    values = upper if metric.kind == "count" else ratio(upper, lower)
    if metric.kind == "f1":
        values = 2 * values / (1 + values)
    return values if metric.per_class else values[..., 0]
