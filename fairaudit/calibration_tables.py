"""The tables of stated probabilities against what came true, and of errors against how many faces are answered."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.metrics.calibration import equal_mass_bins
from fairaudit.metrics.counted import pools_of
from fairaudit.metrics.intervals import Limits, z_value
from fairaudit.metrics.means import Means, logit_limits, means, share_limits
from fairaudit.metrics.measures import FaceScores, Ranked
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.score_estimates import risk_curve
from fairaudit.metrics.scores import LEAST_OF_EACH
from fairaudit.subgroups import OVERALL, parse

MOST_BINS = 10
FACES_PER_BIN = 20
COVERAGES = np.arange(0.9, 0.05, -0.1)
FEW_ERRORS = f"no interval of the area: fewer than {LEAST_OF_EACH} right or {LEAST_OF_EACH} wrong predictions"
TOP, CLASS = "top", "class"


def calibration_table(data: AuditData) -> pd.DataFrame:
    """Return the reliability curves: per bin of about equal mass, the mean probability and the share that came true.

    of: "top", the predicted class's probability against being right, or "class", that of one class against being
    labelled as it (single attributes and all faces only). Up to 10 bins of at least 20 faces; `low` and `high` are
    Wilson's limits of `observed`. Axes on which the subgroup determines the label have no curve.
    """
    tables = [table for axis in data.axes if axis.degenerate is None for table in _curves(axis, data.audit.confidence)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def coverage_table(data: AuditData) -> pd.DataFrame:
    """Return how many faces each subgroup gets an answer for, and how often that is wrong.

    point: "own", the model's own answers, with the area under the risk–coverage curve (the mean error rate of the
    surest faces); or "threshold", were only faces of at least that confidence answered. The thresholds are those at
    which 90, 80, … 10 % of all the task's faces would be answered, and the same in every subgroup.
    """
    rows = [row for axis in data.axes if axis.rows.labelled for row in _coverages(axis, data)]
    return pd.DataFrame(rows)


def _scores(axis: AxisData) -> FaceScores | None:
    measures = axis.sample.measures
    return measures.scores if measures is not None and measures.scores is not None else None


def _scored(axis: AxisData) -> bool:
    """Tell whether the faces have probabilities, in memory or counted on disk."""
    measures = axis.sample.measures
    return measures is not None and (measures.scores is not None or measures.counted is not None)


def _curves(axis: AxisData, confidence: float) -> Iterator[pd.DataFrame]:
    scores = _scores(axis)
    if scores is None or not scores.usable.any():
        return
    yield _curve(axis, scores.top, scores.right, confidence, TOP, "")
    if axis.by == OVERALL or len(parse(axis.by)) == 1:
        for c, name in enumerate(axis.rows.classes):
            yield _curve(axis, scores.classes[c], scores.label == c, confidence, CLASS, name)


def _curve(
    axis: AxisData, ranks: Ranked, positive: np.ndarray, confidence: float, of: str, class_: str
) -> pd.DataFrame:
    """Return one row a subgroup and bin: every bin is a group of its own, so that weights and subjects count there."""
    number = _bins(axis, ranks, positive)
    faces = np.flatnonzero(number >= 0)
    sample = replace(
        axis.sample,
        groups=tuple(map(str, range(len(axis.sample.groups) * MOST_BINS))),
        group=axis.sample.group[faces] * MOST_BINS + number[faces],
        row=axis.sample.row[faces],
        column=axis.sample.column[faces],
        weight=None if axis.sample.weight is None else axis.sample.weight[faces],
        subject=None if axis.sample.subject is None else axis.sample.subject[faces],
        measures=None,
    )
    place = np.zeros(len(positive), dtype=np.int64)
    place[ranks.faces] = ranks.place
    one = np.ones((len(faces), 1))
    stated = means(sample, None, ranks.score[place[faces]][:, None], one).value[:, 0]
    found = means(sample, None, positive[faces, None].astype(float), one)
    low, high = (side[:, 0] for side in share_limits(found)(z_value(confidence)))
    used = np.flatnonzero(found.faces[:, 0] > 0)
    return pd.DataFrame(
        {
            "task": axis.task,
            "by": axis.by,
            "subgroup": np.array(axis.sample.groups, dtype=object)[used // MOST_BINS],
            "of": of,
            "class": class_,
            "bin": used % MOST_BINS + 1,
            "n": found.faces[used, 0].astype(np.int64),
            "mean_score": stated[used],
            "observed": found.value[used, 0],
            "low": low[used],
            "high": high[used],
        }
    )


def _bins(axis: AxisData, ranks: Ranked, positive: np.ndarray) -> np.ndarray:
    """Return the bin of each face within its subgroup, −1 without a score, (N,)."""
    number = np.full(len(positive), -1, dtype=np.int64)
    pools = Pools(axis.sample, np.zeros(len(axis.sample.groups), dtype=bool))
    place = np.full(len(positive), -1)
    place[ranks.faces] = ranks.place
    for members in pools.members:
        members = members[place[members] >= 0]
        if not len(members):
            continue
        distinct, at = np.unique(place[members], return_inverse=True)
        right, wrong = (
            np.bincount(at[side], weights=pools.weight[members][side], minlength=len(distinct))
            for side in (positive[members], ~positive[members])
        )
        many = int(np.clip(len(members) // FACES_PER_BIN, 1, MOST_BINS))
        number[members] = equal_mass_bins(ranks.score[distinct], right, wrong, many).number[at]
    return number


def _coverages(axis: AxisData, data: AuditData) -> Iterator[dict[str, Any]]:
    sample, k = axis.sample, axis.rows.table.classes
    scores, answered = _scores(axis), sample.column < k
    if not _scored(axis) and answered.all():
        return
    wrong = answered & (sample.row != sample.column)
    one = np.ones((len(answered), 1))
    own = _risks(sample, one, answered[:, None], wrong[:, None], data.audit.confidence)
    areas, reasons = _areas(axis, data.audit.confidence)
    curve, limits = None, np.zeros(0)
    if scores is not None and axis.degenerate is None and scores.usable.any():
        limits = np.unique(np.quantile(scores.confidence[scores.usable], 1 - COVERAGES))
        asked = scores.usable | ~answered
        with np.errstate(invalid="ignore"):
            sure = scores.confidence[:, None] >= limits
        counted = np.broadcast_to(asked[:, None], sure.shape)
        curve = _risks(sample, counted, sure, sure & wrong[:, None], data.audit.confidence)
    least = data.audit.min_group_size
    for g, name in enumerate(sample.groups):
        lead = {"task": axis.task, "by": axis.by, "subgroup": name}
        area = dict(zip(("aurc", "aurc_low", "aurc_high"), areas[g], strict=True))
        row = _row(own, g, 0) | area
        yield {**lead, "point": "own", "threshold": np.nan, **row, "small": row["n"] < least, "reason": reasons[g]}
        for v, limit in enumerate(limits):
            assert curve is not None  # where there are limits
            row = _row(curve, g, v) | dict.fromkeys(("aurc", "aurc_low", "aurc_high"), np.nan)
            why = "" if row["answered"] else "no face of it would be answered"
            yield {**lead, "point": "threshold", "threshold": limit, **row, "small": row["n"] < least, "reason": why}


Risks = tuple[Means, Limits, Means, Limits]


def _risks(sample: Any, asked: np.ndarray, answered: np.ndarray, wrong: np.ndarray, confidence: float) -> Risks:
    """Return coverage and risk of each subgroup at each of V rules, with Wilson's limits."""
    z, plain = z_value(confidence), replace(sample, measures=None)
    coverage = means(plain, None, answered.astype(float), asked.astype(float))
    risk = means(plain, None, wrong.astype(float), answered.astype(float))
    return coverage, share_limits(coverage)(z), risk, share_limits(risk)(z)


def _row(found: Risks, g: int, v: int) -> dict[str, Any]:
    coverage, (low, high), risk, (risk_low, risk_high) = found
    return {
        "n": int(coverage.faces[g, v]),
        "answered": int(risk.faces[g, v]),
        "coverage": coverage.value[g, v],
        "coverage_low": low[g, v],
        "coverage_high": high[g, v],
        "risk": risk.value[g, v],
        "risk_low": risk_low[g, v],
        "risk_high": risk_high[g, v],
    }


def _areas(axis: AxisData, confidence: float) -> tuple[np.ndarray, list[str]]:
    """Return the area under each subgroup's risk–coverage curve with its limits, (G, 3), and why they are missing."""
    groups = len(axis.sample.groups)
    blank = np.full((groups, 3), np.nan)
    if axis.degenerate is not None:
        return blank, [axis.degenerate] * groups
    if not _scored(axis):
        return blank, ["no probabilities, so no curve"] * groups
    curve = risk_curve(pools_of(axis.sample, np.zeros(groups, dtype=bool)))
    few = np.minimum(curve.positives, curve.negatives) < LEAST_OF_EACH
    low, high = logit_limits(curve.value, np.where(few, np.nan, curve.variance))(z_value(confidence))
    empty = np.isnan(curve.value)
    reasons = np.where(empty, "no face of it has usable probabilities", np.where(few, FEW_ERRORS, ""))
    return np.column_stack([curve.value, low, high]), [str(reason) for reason in reasons]
