"""Very many faces in memory become their distinct rows, each with how many faces it stands for.

Everything that an audit computes from counts is then the same, to the last bit, and no longer grows with the faces.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairaudit.data.columns import categorical
from fairaudit.data.predictions_check import NO_LABEL, NO_PREDICTION, STATUSES
from fairaudit.data.tables import Predictions

LARGE = 100_000  # faces below which nothing is gained
_MOST_CELLS = 20_000_000  # possible rows that may have a place in an array
FIRST = 20  # images that an audit names of the faces left out


def condensed(table: Predictions, task: str, labels: Sequence[str]) -> Predictions:
    """Return the distinct rows of a task's label, prediction, status, all attributes and the `labels` of other tasks.

    The table itself comes back where its faces must stay apart (weights, persons, probabilities or years of the task),
    where they are few, or where their distinct rows would be many.
    """
    frame = table.frame
    single = {"weight", "subject_id", *(f"{task}_prob_{name}" for name in table.tasks[task])}
    single |= {"age_true_years", "age_pred_years"} if task == "age" else set()
    columns = [c for c in (f"{task}_true", f"{task}_pred", *(f"{other}_true" for other in labels)) if c in frame]
    columns = list(dict.fromkeys([*columns, *table.attributes]))
    if table.times is not None or len(frame) < LARGE or single & set(frame.columns):
        return table
    if not all(isinstance(frame[c].dtype, pd.CategoricalDtype) for c in columns):
        return table
    sizes = [len(frame[c].cat.categories) + 1 for c in columns]
    if (len(STATUSES) + 1) * np.prod(sizes, dtype=float) > _MOST_CELLS:
        return table
    status = _status(frame, task)
    packed = status.astype(np.int64)
    for column, size in zip(columns, sizes, strict=True):
        packed *= size
        packed += frame[column].cat.codes.to_numpy()
        packed += 1  # −1, no value, becomes 0
    counts = np.bincount(packed)
    used = np.flatnonzero(counts)
    if len(used) > len(frame) // 4:
        return table
    out, rest = {}, used
    for column, size in zip(reversed(columns), reversed(sizes), strict=True):
        rest, code = np.divmod(rest, size)
        out[column] = categorical(code - 1, frame[column].cat.categories)
    told = np.array(["", *STATUSES], dtype=object)[rest]
    told[told == ""] = None
    told[out[f"{task}_pred"].codes >= 0] = "ok"
    rows = pd.DataFrame({column: out[column] for column in columns})
    rows[f"{task}_status"] = pd.Series(told, dtype=object)
    return Predictions(
        frame=rows,
        tasks=table.tasks,
        attributes=table.attributes,
        ordered=table.ordered,
        findings=table.findings,
        label_source=table.label_source,
        meta=table.meta,
        times=counts[used],
        left_out=_left_out(frame, task, status),
    )


def _status(frame: pd.DataFrame, task: str) -> np.ndarray:
    """Return the reason why a face has no prediction: 1 + its number in STATUSES, else 0."""
    status = np.zeros(len(frame), dtype=np.int8)
    empty = np.flatnonzero(frame[f"{task}_pred"].cat.codes.to_numpy() < 0)
    if f"{task}_status" in frame:
        told = frame[f"{task}_status"].iloc[empty].to_numpy(dtype=object)
        for number, name in enumerate(STATUSES):
            status[empty[told == name]] = number + 1
    return status


def _left_out(frame: pd.DataFrame, task: str, status: np.ndarray) -> dict[str, list[str]]:
    """Return the first images of the faces that the task cannot count, by reason."""
    missing = (frame[f"{task}_pred"].cat.codes.to_numpy() < 0) & (status == 0)
    without = {NO_PREDICTION: missing}
    if f"{task}_true" in frame and (known := frame[f"{task}_true"].cat.codes.to_numpy() >= 0).any():
        without = {NO_LABEL: ~known, NO_PREDICTION: missing & known}
    return {
        reason: [str(image) for image in frame["image"].iloc[np.flatnonzero(rows)[:FIRST]]]
        for reason, rows in without.items()
    }
