"""Which tasks and axes an audit covers, and a task's faces on an axis as the codes that metrics count."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.data.predictions_check import NO_LABEL, NO_PREDICTION
from fairaudit.data.sharded import AnyPredictions
from fairaudit.data.tables import Predictions
from fairaudit.errors import UsageError
from fairaudit.metrics.cube import OUTCOMES
from fairaudit.metrics.rates import Table
from fairaudit.metrics.sample import Sample
from fairaudit.registry import suggestion
from fairaudit.spec import AuditSpec

MOST_VALUES = 50
MOST_SUBGROUPS = 1000


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """The audited faces of one task: positions in the table, label and prediction codes; and who was left out, why.

    Without any label `labelled` is False and every row code is 0. Columns from K on are the outcomes of cube.OUTCOMES.
    """

    task: str
    classes: tuple[str, ...]
    ordered: bool
    labelled: bool
    table: Table
    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    excluded: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class AxisData:
    """One task on one axis, as every analysis reads it.

    `frame` holds the rows of the predictions table that `sample` counts, in the sample's order; `degenerate` says why
    the subgroup determines the label, or is None. The axis `overall` has the one subgroup `overall`.
    """

    rows: TaskRows
    sample: Sample
    by: str
    degenerate: str | None
    frame: pd.DataFrame

    @property
    def task(self) -> str:
        """The task's name."""
        return self.rows.task

    @property
    def known(self) -> np.ndarray:
        """Which subgroups have a name, bool (G,): all but `unknown`, which is in no extreme, test or rest."""
        return np.array([name != subgroups.UNKNOWN for name in self.sample.groups], dtype=bool)


@dataclass(frozen=True, kw_only=True)
class AuditData:
    """All that an analysis may read: every task on every axis (`overall` first), the spec, and the tables so far."""

    predictions: AnyPredictions
    axes: Sequence[AxisData]
    audit: AuditSpec
    seed: int
    metrics: pd.DataFrame
    gaps: pd.DataFrame
    rest: pd.DataFrame = field(default_factory=pd.DataFrame)
    tests: Mapping[str, Any] = field(default_factory=dict)  # of disparity_tests, by task


def choose_tasks(predictions: AnyPredictions, wanted: Sequence[str] | None) -> list[str]:
    """Return the tasks to audit; UsageError for one that the table lacks."""
    for task in wanted or ():
        if task not in predictions.tasks:
            raise UsageError(
                f"the predictions have no task {task!r}{suggestion(task, predictions.tasks)} "
                f"(they have: {', '.join(predictions.tasks)})"
            )
    return list(wanted) if wanted else list(predictions.tasks)


def with_axis_columns(predictions: Predictions, axes: Sequence[str]) -> pd.DataFrame:
    """Return the table with every attribute that `axes` names; a task's labels serve where no such column exists."""
    frame = predictions.frame
    for by in axes:
        for attribute in subgroups.parse(by):
            if attribute not in frame and f"{attribute}_true" in frame:
                frame = frame.assign(**{attribute: frame[f"{attribute}_true"]})
    subgroups.require([c for c in frame.columns if c in predictions.attributes or c not in predictions.frame], axes)
    return frame


def choose_axes(predictions: Predictions, wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the axes to audit, and a sentence for each that was left out.

    Default: each attribute, then all pairs, then race:gender:age where all three exist. An axis of over
    1,000 subgroups, or of an attribute of over 50 values, is refused: with a word, or as a UsageError when asked for.
    """
    if wanted is not None:
        axes = [":".join(subgroups.parse(by)) for by in wanted]
        frame = with_axis_columns(predictions, axes)
        for by in axes:
            if why := _too_many(frame, by):
                raise UsageError(why)
        return axes, []
    attributes: list[str] = []
    left_out: list[str] = []
    for attribute in predictions.attributes:
        known = predictions.frame[attribute].nunique()
        why = _too_many(predictions.frame, attribute)
        if why is None and known == 1:
            why = f"{attribute!r} has one value only, so it is no subgroup axis"
        (attributes if why is None else left_out).append(attribute if why is None else why)
    left_out += [
        f"{name}_true gives labels, but there is no attribute column {name!r}, so no axis; --by {name} asks for it"
        for name in ("race", "gender", "age")
        if f"{name}_true" in predictions.frame and name not in predictions.attributes
    ]
    axes = [*attributes, *(":".join(pair) for pair in combinations(attributes, 2))]
    if {"race", "gender", "age"} <= set(attributes):
        axes.append("race:gender:age")
    reasons = {by: _too_many(predictions.frame, by) for by in axes}
    return [by for by in axes if reasons[by] is None], [*left_out, *(why for why in reasons.values() if why)]


def _too_many(frame: pd.DataFrame, by: str) -> str | None:
    attributes = list(subgroups.parse(by))
    for attribute in attributes:
        if frame[attribute].nunique() > MOST_VALUES:
            return (
                f"axis {by!r}: {attribute!r} has {frame[attribute].nunique()} values; an axis has at most {MOST_VALUES}"
            )
    groups = subgroups.count(frame, by)
    return (
        f"axis {by!r} has {groups} subgroups; at most {MOST_SUBGROUPS} can be compared"
        if groups > MOST_SUBGROUPS
        else None
    )


def task_rows(predictions: Predictions, task: str) -> TaskRows:
    """Return the faces of a task that can be counted: labelled (where the task has labels), predicted or an outcome.

    A face without a label, or without both prediction and status, is left out and kept in `excluded` by its reason.
    """
    frame, classes = predictions.frame, predictions.tasks[task]
    predicted = _codes(frame[f"{task}_pred"], classes)
    empty = np.flatnonzero(predicted < 0)
    if len(empty) and f"{task}_status" in frame:
        status = frame[f"{task}_status"].iloc[empty].to_numpy(dtype=object)
        for number, outcome in enumerate(OUTCOMES):
            predicted[empty[status == outcome]] = len(classes) + number
    has_labels = f"{task}_true" in frame and bool(frame[f"{task}_true"].notna().any())
    true = _codes(frame[f"{task}_true"], classes) if has_labels else np.zeros(len(frame), dtype=np.int64)
    keep = (predicted >= 0) & (true >= 0)
    excluded = {NO_LABEL: np.flatnonzero(true < 0), NO_PREDICTION: np.flatnonzero((true >= 0) & (predicted < 0))}
    return TaskRows(
        task=task,
        classes=classes,
        ordered=task in predictions.ordered,
        labelled=has_labels,
        table=Table(len(classes), len(classes) if has_labels else 1),
        position=np.flatnonzero(keep),
        row=true[keep],
        column=predicted[keep],
        excluded={reason: rows for reason, rows in excluded.items() if len(rows)},
    )


def _codes(column: pd.Series, classes: Sequence[str]) -> np.ndarray:
    if isinstance(column.dtype, pd.CategoricalDtype) and list(column.cat.categories) == list(classes):
        return column.cat.codes.to_numpy().astype(np.int64)
    return pd.Index(classes).get_indexer(pd.Index(column.astype(object))).astype(np.int64)


def sample_of(rows: TaskRows, frame: pd.DataFrame, groups: pd.Categorical, times: np.ndarray | None = None) -> Sample:
    """Return a task's faces on an axis whose subgroup of every face is `groups`, with weights and subjects if known.

    Weights are scaled to mean 1, so that no tolerance depends on the unit in which they were given. times: how many
    faces each of the task's rows stands for.
    """
    weight = frame["weight"].to_numpy(dtype=float)[rows.position] if "weight" in frame else None
    if weight is not None and len(weight):
        weight = weight / mean_weight(weight)
    return Sample(
        table=rows.table,
        groups=tuple(str(name) for name in groups.categories),
        group=groups.codes.astype(np.int64)[rows.position],
        row=rows.row,
        column=rows.column,
        weight=weight,
        subject=subjects_of(frame)[rows.position] if "subject_id" in frame else None,
        times=times,
    )


def mean_weight(weight: np.ndarray) -> float:
    """Return the mean to the last bit, in whatever order the weights stand: every other sum depends on it."""
    values, count = np.unique(weight, return_counts=True)
    return math.fsum(values * count) / len(weight)


def subjects_of(frame: pd.DataFrame) -> np.ndarray:
    """Return a code for each face's subject; a face whose subject is not known is a subject of its own."""
    codes, _ = pd.factorize(frame["subject_id"])
    unknown = codes < 0
    codes = codes.astype(np.int64)
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(unknown.sum())
    return codes


def sizes(groups: pd.Categorical, times: np.ndarray | None = None) -> dict[str, int]:
    """Return how many faces each subgroup holds; times: how many each row stands for."""
    counts = np.bincount(groups.codes, weights=times, minlength=len(groups.categories))
    return {str(name): round(n) for name, n in zip(groups.categories, counts, strict=True)}


def excluded_rows(rows: TaskRows, predictions: Predictions, axes: Mapping[str, pd.Categorical]) -> list[dict[str, Any]]:
    """Return one entry a reason: how many faces of a task were left out, the first 20, and how many per subgroup."""
    entries = []
    for reason, positions in rows.excluded.items():
        times = None if predictions.times is None else predictions.times[positions]
        per_axis = {
            by: {name: n for name, n in sizes(groups[positions], times).items() if n} for by, groups in axes.items()
        }
        images = predictions.first_images(reason, positions)
        entries.append(
            {
                "kind": reason,
                "task": rows.task,
                "count": predictions.faces(positions),
                "action": "excluded",
                "images": images,
                "subgroups": per_axis,
            }
        )
    return entries
