"""What a task's faces carry beyond label and prediction: usable probabilities, ages in years; and what is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import TaskRows, excluded_rows
from fairaudit.data.score_counts import TOLERANCE
from fairaudit.data.tables import Predictions
from fairaudit.data.year_counts import OLDEST
from fairaudit.metrics.counted import CountedScores, CountedYears
from fairaudit.metrics.measures import FaceScores, Measures
from fairaudit.wording import plural

MISSING, OUTSIDE, UNEQUAL = "probabilities_missing", "probabilities_outside_0_to_1", "probabilities_not_adding_up_to_1"
LEFT_OUT = "left out of scores and calibration"
BINS_ONLY = "refused: only age bins are known; ages in years of labels and predictions are needed for this"


def measures_of(
    predictions: Predictions, rows: TaskRows, axes: Mapping[str, pd.Categorical]
) -> tuple[Measures | None, list[dict[str, Any]], list[str]]:
    """Return the measures of the task's faces (`rows.position`); what the audit lists as left out of them; sentences.

    Probabilities of a face count where all are within 0…1 and add up to 1 (± 0.001); see `class_probabilities` for
    classes that have no column. Ages in years: `age_true_years` and `age_pred_years`, for the task `age`. No measures
    for a task without labels. Of a table on disk probabilities and ages are known as counts and sums.
    """
    if not rows.labelled:
        return None, [], []
    if predictions.times is not None:
        return _counted(predictions, rows, axes)
    frame = predictions.frame
    values = class_probabilities(frame, rows.task, rows.classes)
    scores, listed = None, []
    if values is not None:
        values, predicted = values[rows.position], rows.column < len(rows.classes)
        faults = np.where(predicted, _faults(values), "")
        scores = FaceScores(
            values=np.where((predicted & (faults == ""))[:, None], values, np.nan),
            label=rows.row,
            prediction=rows.column,
        )
        kinds = {kind: rows.position[faults == kind] for kind in (MISSING, OUTSIDE, UNEQUAL)}
        left = replace(rows, excluded={kind: faces for kind, faces in kinds.items() if len(faces)})
        listed = [{**entry, "action": LEFT_OUT} for entry in excluded_rows(left, predictions, axes)]
    years, why = _years(frame, rows)
    sex, sexes = _sexes(frame) if years is not None else (None, ())
    measures = Measures(
        scores=scores,
        years=years,
        sex=None if sex is None else sex[rows.position],
        sexes=sexes,
        why_no_years=why,
    )
    return measures, listed, _said(listed)


def _said(listed: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{e['task']}: {plural(e['count'], 'face')} {LEFT_OUT} ({e['kind'].replace('_', ' ')})." for e in listed]


def _counted(
    predictions: Predictions, rows: TaskRows, axes: Mapping[str, pd.Categorical]
) -> tuple[Measures | None, list[dict[str, Any]], list[str]]:
    """Return what `measures_of` does for a table on disk."""
    store, ages = predictions.scores, predictions.years
    why = BINS_ONLY if ages is None and rows.task == "age" and rows.ordered else ""
    sex, sexes = _sexes(predictions.frame) if ages is not None else (None, ())
    measures = Measures(
        counted=None if store is None else CountedScores(store=store, cell=store.cell[rows.position]),
        counted_years=None if ages is None else CountedYears(store=ages, cell=ages.cell[rows.position]),
        sex=None if sex is None else sex[rows.position],
        sexes=sexes,
        why_no_years=why,
    )
    if store is None:
        return measures, [], []
    listed = []
    for kind, name in ((MISSING, "missing"), (UNEQUAL, "unequal")):
        if name not in store.faults:
            continue
        faces, images = store.faults[name]
        of_axes = {}
        for by, groups in axes.items():
            group = np.zeros(store.cells, dtype=np.int64)
            group[store.cell] = groups.codes
            counts = np.bincount(group, weights=faces, minlength=len(groups.categories))
            of_axes[by] = {str(g): round(n) for g, n in zip(groups.categories, counts, strict=True) if n}
        entry = {"kind": kind, "task": rows.task, "count": int(faces.sum()), "action": LEFT_OUT}
        listed.append({**entry, "images": images, "subgroups": of_axes})
    return measures, listed, _said(listed)


def class_probabilities(frame: pd.DataFrame, task: str, classes: Sequence[str]) -> np.ndarray | None:
    """Return the probability of each class as given, (N, K), None where the table has no column of any.

    Of two classes one column is enough: the other has the rest. With more, a class without a column has probability 0:
    the model does not know it.
    """
    names = [f"{task}_prob_{name}" for name in classes]
    given = [name in frame for name in names]
    if not any(given):
        return None
    values = np.zeros((len(frame), len(classes)))
    for i, (name, known) in enumerate(zip(names, given, strict=True)):
        if known:
            values[:, i] = frame[name].to_numpy(dtype=float)
    if len(classes) == 2 and sum(given) == 1:
        values[:, given.index(False)] = 1 - values[:, given.index(True)]
    return values


def usable_probabilities(frame: pd.DataFrame, task: str, classes: Sequence[str]) -> np.ndarray | None:
    """Return what `class_probabilities` does, with NaN for a face whose probabilities are no probabilities."""
    values = class_probabilities(frame, task, classes)
    return None if values is None else np.where((_faults(values) == "")[:, None], values, np.nan)


def _faults(values: np.ndarray) -> np.ndarray:
    """Return what is wrong with each row of probabilities, "" for nothing."""
    faults = np.full(len(values), "", dtype=object)
    missing = np.isnan(values).any(1)
    with np.errstate(invalid="ignore"):
        faults[np.abs(values.sum(1) - 1) > TOLERANCE] = UNEQUAL
        faults[((values < 0) | (values > 1)).any(1)] = OUTSIDE
    faults[missing] = MISSING
    return faults


def _years(frame: pd.DataFrame, rows: TaskRows) -> tuple[np.ndarray | None, str]:
    """Return labelled and predicted ages (N, 2), impossible ones NaN; or None, and why, for a task of age bins."""
    if rows.task != "age":
        return None, ""
    names = ("age_true_years", "age_pred_years")
    if not all(name in frame for name in names):
        return None, BINS_ONLY if rows.ordered else ""
    years = frame[list(names)].to_numpy(dtype=float)[rows.position]
    with np.errstate(invalid="ignore"):
        possible = (years >= 0) & (years <= OLDEST)
    return np.where(possible & (rows.column < len(rows.classes))[:, None], years, np.nan), ""


def _sexes(frame: pd.DataFrame) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the code of each face's sex and both names, where the faces are labelled as exactly two."""
    for name in ("gender", "gender_true", "sex"):
        if name in frame:
            codes, values = pd.factorize(frame[name].astype(object), sort=True)
            return (codes.astype(np.int64), tuple(map(str, values))) if len(values) == 2 else (None, ())
    return None, ()
