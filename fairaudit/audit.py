"""Audit one model's predictions: every count metric per subgroup with its interval, and the gaps between subgroups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.analyses import ANALYSES, AuditData
from fairaudit.audit_meta import merged, meta_of, warnings_of
from fairaudit.audit_tables import AxisTables, axis_tables
from fairaudit.axes import (
    NO_LABEL,
    AxisData,
    TaskRows,
    choose_axes,
    choose_tasks,
    excluded_rows,
    sample_of,
    sizes,
    task_rows,
    with_axis_columns,
)
from fairaudit.covariates import LABEL_MIX, check_covariates
from fairaudit.custom_metrics import load_metrics
from fairaudit.data.predictions import read_predictions
from fairaudit.data.predictions_check import NO_PREDICTION
from fairaudit.data.sharded import AnyPredictions
from fairaudit.data.tables import Predictions
from fairaudit.disparity_tests import disparity_tests
from fairaudit.errors import DataError
from fairaudit.gap_tests import with_tests
from fairaudit.impact_table import check_selection
from fairaudit.label_noise_table import check_label_noise
from fairaudit.policy_checks import check_policies, declared_axes
from fairaudit.progress import Progress, silent
from fairaudit.results import AuditResult
from fairaudit.results.columns import CONFUSION_COLUMNS, GAP_COLUMNS, METRIC_COLUMNS, REST_COLUMNS
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.task_measures import measures_of
from fairaudit.wording import plural

_OnAxes = tuple[Predictions, pd.DataFrame, dict[str, pd.Categorical]]


def run_audit(
    predictions: AnyPredictions | pd.DataFrame,
    *,
    tasks: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    audit: AuditSpec | None = None,
    seed: int = 0,
    name: str = "",
    meta: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> AuditResult:
    """Return the audit of a predictions table (a DataFrame is read by `read_predictions` first, a folder of shards by
    `read_shards`).

    tasks: default all; by: axes such as "race:gender" (default: the spec's, else each attribute, all pairs, and
    race:gender:age). Two audits of equal tables with equal seeds are equal. `meta` completes the result's meta (name,
    model, data, mitigation, training, hashes, label_source) and adds its warnings. Raises UsageError for an unknown
    task or axis, DataError where no face of a task can be counted.
    """
    audit = audit or AuditSpec()
    table = read_predictions(predictions) if isinstance(predictions, pd.DataFrame) else predictions
    names = choose_tasks(table, tasks)
    wanted = by if by is not None else audit.subgroups
    outline = table.outline(wanted)
    axes, left_out = choose_axes(outline, wanted)
    axes = declared_axes(outline, axes, audit)
    frame, groups = _on_axes(outline, axes)
    check_policies(outline, names, groups, audit)
    check_selection(outline, names, audit)
    load_metrics(audit.metrics)  # what cannot be used is refused before anything is counted
    beside = [name for name in audit.adjust_for if name not in {*outline.attributes, LABEL_MIX}]
    columns = [*frame.columns, *table.measured(beside)]
    check_covariates(columns, audit.adjust_for, list(table.tasks), audit.adjust_to)
    labels_of = [name for name in table.tasks if ":" not in name and {name, f"{name}_true"} & set(beside)]
    numbers = [name for name in beside if name.removesuffix("_true") not in labels_of]
    named = {by: [str(name) for name in labels.categories] for by, labels in groups.items()}
    check_label_noise(audit.label_noise, {task: table.tasks[task] for task in names}, named)
    group_sizes = {by: sizes(labels, outline.times) for by, labels in groups.items()}
    counted = _counted(table, (outline, frame, groups), names, (labels_of, numbers), audit, seed, progress)
    found = counted.tables
    known = meta_of(table, names, group_sizes, audit, seed, [*counted.excluded, *counted.unscored], found)
    said = warnings_of(table, group_sizes, audit, counted.excluded, counted.unlabelled)
    known["warnings"] = [*said, *left_out, *counted.said]
    tests = disparity_tests(counted.axes, audit, seed)
    data = AuditData(
        predictions=table,
        axes=counted.axes,
        audit=audit,
        seed=seed,
        metrics=_joined([t.metrics for t in found], METRIC_COLUMNS),
        gaps=with_tests(_joined([t.gaps for t in found], GAP_COLUMNS), tests, audit, seed),
        rest=_joined([t.rest for t in found], REST_COLUMNS),
        tests=tests,
    )
    more = {name: analysis(data) for name, analysis in ANALYSES.items()}
    return AuditResult(
        metrics=data.metrics,
        gaps=data.gaps,
        confusion=_joined([t.confusion for t in found], CONFUSION_COLUMNS),
        rest=data.rest,
        more={name: found for name, found in more.items() if len(found)},
        meta=merged(known, {"name": name, **(meta or {})}),
    )


@dataclass(kw_only=True)
class _Counted:
    """What counting every task on every axis gave, and what was met on the way."""

    tables: list[AxisTables] = field(default_factory=list)
    axes: list[AxisData] = field(default_factory=list)
    excluded: list[dict[str, Any]] = field(default_factory=list)
    unscored: list[dict[str, Any]] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def _counted(
    table: AnyPredictions,
    outline: _OnAxes,
    names: Sequence[str],
    beside: tuple[Sequence[str], Sequence[str]],
    audit: AuditSpec,
    seed: int,
    progress: Progress,
) -> _Counted:
    """Count the tasks `names` on all axes of `outline`; beside: labels and numbers that gaps are adjusted for."""
    done = _Counted()
    (own, frame, groups), (labels_of, numbers) = outline, beside
    axes, steps = list(groups), len(names) * (len(groups) + 1)
    for number, task in enumerate(names):
        # halves are drawn face by face
        counted = table.of_task(task, [*axes, *labels_of], numbers=numbers, every_face=audit.exploratory)
        if counted is not own:
            own, frame, groups = counted, *_on_axes(counted, axes)
        rows = task_rows(own, task)
        if not len(rows.position):
            raise DataError(f"{task}: no face has both what is needed: {_why_empty(rows, own)}")
        done.excluded += excluded_rows(rows, own, groups)
        done.unlabelled += [] if rows.labelled else [task]
        part = frame if len(rows.position) == len(frame) else frame.iloc[rows.position]
        times = None if own.times is None else own.times[rows.position]
        measures, left, said = measures_of(own, rows, groups)
        done.unscored, done.said = [*done.unscored, *left], [*done.said, *said]
        for step, (axis, labels) in enumerate([(OVERALL, everyone(len(frame))), *groups.items()]):
            progress("audit", number * (len(axes) + 1) + step, steps, f"{task} by {axis}")
            sample = sample_of(rows, frame, labels, times)
            sample = replace(sample, measures=measures, interval=audit.interval)
            why = _degenerate(rows, frame, labels, axis, own.times)
            done.axes.append(AxisData(rows=rows, sample=sample, by=axis, degenerate=why, frame=part))
            done.tables.append(axis_tables(rows, sample, axis, why, audit, [seed, number, step]))
    progress("audit", steps, steps)
    return done


def everyone(n: int) -> Any:
    """Return the labels of `n` faces that all belong to the one subgroup `overall`."""
    return pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), dtype=pd.CategoricalDtype([OVERALL]))


def _on_axes(table: Predictions, axes: Sequence[str]) -> tuple[pd.DataFrame, dict[str, pd.Categorical]]:
    """Return the table with every attribute of the axes, and each row's subgroup on each."""
    frame = with_axis_columns(table, axes)
    return frame, {by: subgroups.assign(frame, by) for by in axes}


def _degenerate(
    rows: TaskRows, frame: pd.DataFrame, labels: pd.Categorical, axis: str, times: np.ndarray | None
) -> str | None:
    if not rows.labelled or axis == OVERALL:
        return None
    return subgroups.degenerate(labels, frame[f"{rows.task}_true"], axis, rows.task, times)


def _why_empty(rows: TaskRows, table: Predictions) -> str:
    words = {NO_LABEL: "without a label", NO_PREDICTION: "with neither a prediction nor a status"}
    return ", ".join(f"{plural(table.faces(found), 'face')} {words[why]}" for why, found in rows.excluded.items())


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return joined.reindex(columns=list(columns))
