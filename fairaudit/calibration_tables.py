"""The tables of stated probabilities against what came true, and of errors against how many faces are answered."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.metrics.calibration import equal_mass_bins, quantiles
from fairaudit.metrics.counted import CountedPools, pools_of
from fairaudit.metrics.intervals import Limits, z_value
from fairaudit.metrics.means import Means, logit_limits, means, means_of_sums, share_limits, shares_of_sums
from fairaudit.metrics.measures import Ranked
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.score_estimates import risk_curve
from fairaudit.metrics.scores import LEAST_OF_EACH
from fairaudit.subgroups import OVERALL, parse

MOST_BINS = 10
FACES_PER_BIN = 20
COVERAGES = np.arange(0.9, 0.05, -0.1)
FEW_ERRORS = f"no interval of the area: fewer than {LEAST_OF_EACH} right or {LEAST_OF_EACH} wrong predictions"
TOP, CLASS = "top", "class"
Risks = tuple[Means, Limits, Means, Limits]
Curve = tuple[np.ndarray, np.ndarray, Means]  # per bin: subgroup · MOST_BINS + bin, mean score, share that came true


def calibration_table(data: AuditData) -> pd.DataFrame:
    """Return the reliability curves: per bin of about equal mass, the mean probability and the share that came true.

    of: "top", the predicted class's probability against being right, or "class", that of one class against being
    labelled as it (single attributes and all faces only). Up to 10 bins of at least 20 faces; `low` and `high` are
    Wilson's limits of `observed`. Axes on which the subgroup determines the label have no curve.
    """
    tables = [table for axis in data.axes if axis.degenerate is None for table in _curves(axis, data.audit.confidence)]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def coverage_table(data: AuditData) -> pd.DataFrame:
    """Return how many faces each subgroup gets an answer for, and how often that is wrong.

    point: "own", the model's own answers, with the area under the risk–coverage curve (the mean error rate of the
    surest faces); or "threshold", were only faces of at least that confidence answered. The thresholds are those at
    which 90, 80, … 10 % of all the task's faces would be answered, and the same in every subgroup.
    """
    rows = [row for axis in data.axes if axis.rows.labelled for row in _coverages(axis, data)]
    return pd.DataFrame(rows)


def _scored(axis: AxisData) -> bool:
    """Tell whether the faces have probabilities, in memory or counted on disk."""
    measures = axis.sample.measures
    return measures is not None and (measures.scores is not None or measures.counted is not None)


def _curves(axis: AxisData, confidence: float) -> Iterator[pd.DataFrame]:
    if not _scored(axis):
        return
    pools = pools_of(axis.sample, np.zeros(len(axis.sample.groups), dtype=bool))
    yield _curve(axis, pools, None, confidence)
    if axis.by == OVERALL or len(parse(axis.by)) == 1:
        for c in range(len(axis.rows.classes)):
            yield _curve(axis, pools, c, confidence)


def _curve(axis: AxisData, pools: Pools, which: int | None, confidence: float) -> pd.DataFrame:
    """Return one row a subgroup and bin; which: a class, or None for the predicted class."""
    place, stated, found = _of_faces(axis, pools, which) if axis.sample.subject is not None else _of_sums(pools, which)
    low, high = share_limits(found)(z_value(confidence))
    used = np.flatnonzero(found.faces > 0)
    return pd.DataFrame(
        {
            "task": axis.task,
            "by": axis.by,
            "subgroup": np.array(axis.sample.groups, dtype=object)[place[used] // MOST_BINS],
            "of": TOP if which is None else CLASS,
            "class": "" if which is None else axis.rows.classes[which],
            "bin": place[used] % MOST_BINS + 1,
            "n": np.rint(found.faces[used]).astype(np.int64),
            "mean_score": stated[used],
            "observed": found.value[used],
            "low": low[used],
            "high": high[used],
        }
    )


def _of_sums(pools: Pools, which: int | None) -> Curve:
    """Return the bins of independent faces from the table of distinct scores, in memory or on disk alike."""
    table = pools.top_table() if which is None else pools.class_table(which)
    rows = [np.zeros((7, 0))]
    for g, (score, (right, wrong, right2, wrong2, rights, wrongs)) in enumerate(pools.tables(table)):
        if not len(score):
            continue
        bins = equal_mass_bins(score, right, wrong, _many(round(float((rights + wrongs).sum()))))
        place = g * MOST_BINS + np.arange(len(bins.mass))
        sums = [bins.sums(column) for column in (right2, right2 + wrong2, rights + wrongs)]
        rows.append(np.stack([place, bins.score / bins.mass, bins.right, bins.mass, *sums]))
    joined = np.concatenate(rows, axis=1)
    return joined[0].astype(np.int64), joined[1], shares_of_sums(*joined[2:])


def _of_faces(axis: AxisData, pools: Pools, which: int | None) -> Curve:
    """Return the bins of faces of subjects: every bin is a group of its own, so that subjects count there."""
    scores = pools.scores
    ranks, positive = (scores.top, scores.right) if which is None else (scores.classes[which], scores.label == which)
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
    one_column = {name: getattr(found, name)[:, 0] for name in ("value", "variance", "faces", "effective", "units")}
    return np.arange(len(stated)), stated, Means(**one_column)


def _many(faces: int) -> int:
    """Return how many bins so many faces are put into."""
    return int(np.clip(faces // FACES_PER_BIN, 1, MOST_BINS))


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
        bins = equal_mass_bins(ranks.score[distinct], right, wrong, _many(len(members)))
        number[members] = bins.number[at]
    return number


def _coverages(axis: AxisData, data: AuditData) -> Iterator[dict[str, Any]]:
    sample, k = axis.sample, axis.rows.table.classes
    answered = sample.column < k
    if not _scored(axis) and answered.all():
        return
    wrong = answered & (sample.row != sample.column)
    one = np.ones((len(answered), 1))
    own = _risks(sample, one, answered[:, None], wrong[:, None], data.audit.confidence)
    areas, reasons = _areas(axis, data.audit.confidence)
    curve, limits = None, np.zeros(0)
    if _scored(axis) and axis.degenerate is None:
        pools = pools_of(sample, np.zeros(len(sample.groups), dtype=bool))
        if isinstance(pools, CountedPools):
            limits, curve = _counted_thresholds(pools, answered, data.audit.confidence)
        else:
            limits, curve = _thresholds(pools, answered, wrong, data.audit.confidence)
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


def _limits_of(score: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the thresholds at which 90, 80, … 10 % of the faces with these confidences would be answered."""
    return np.unique(quantiles(score, faces, 1 - COVERAGES)) if faces.any() else np.zeros(0)


def _thresholds(
    pools: Pools, answered: np.ndarray, wrong: np.ndarray, confidence: float
) -> tuple[np.ndarray, Risks | None]:
    """Return the thresholds (V,), and coverage and risk of each subgroup at each; None where no probability counts."""
    scores = pools.scores
    limits = _limits_of(scores.top.score, np.bincount(scores.top.place, minlength=len(scores.top.score)))
    if not len(limits):
        return limits, None
    asked = scores.usable | ~answered
    with np.errstate(invalid="ignore"):
        sure = scores.confidence[:, None] >= limits
    counted = np.broadcast_to(asked[:, None], sure.shape)
    return limits, _risks(pools.sample, counted, sure, sure & wrong[:, None], confidence)


def _counted_thresholds(pools: CountedPools, answered: np.ndarray, confidence: float) -> tuple[np.ndarray, Risks]:
    """Return what `_thresholds` does from the counts of a table on disk; of bins of scores, thresholds are ends."""
    table, bins = pools.top_table(), pools.store.bins
    faces = table.positive_faces + table.negative_faces
    limits = _limits_of(table.score, np.bincount(table.place, weights=faces, minlength=len(table.score)))
    if bins is not None:
        limits = np.unique(np.floor(limits * bins) / bins)
    sure = table.score[table.place][:, None] >= limits
    found, missed = (
        np.stack([table.sums(column * rule) for rule in sure.T], axis=-1)
        if len(limits)
        else np.zeros((table.groups, 0))
        for column in (faces, table.negative_faces)
    )
    times = np.ones(len(answered)) if pools.sample.times is None else pools.sample.times
    others = np.bincount(pools.sample.group, weights=times * ~answered, minlength=table.groups)
    asked = np.broadcast_to((table.sums(faces) + others)[:, None], found.shape)
    return limits, _with_limits(means_of_sums(found, found, asked), means_of_sums(missed, missed, found), confidence)


def _risks(sample: Any, asked: np.ndarray, answered: np.ndarray, wrong: np.ndarray, confidence: float) -> Risks:
    """Return coverage and risk of each subgroup at each of V rules, with Wilson's limits."""
    plain = replace(sample, measures=None)
    coverage = means(plain, None, answered.astype(float), asked.astype(float))
    risk = means(plain, None, wrong.astype(float), answered.astype(float))
    return _with_limits(coverage, risk, confidence)


def _with_limits(coverage: Means, risk: Means, confidence: float) -> Risks:
    z = z_value(confidence)
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
