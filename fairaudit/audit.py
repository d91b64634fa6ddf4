"""Audit one model's predictions: every count metric per subgroup with its interval, and the gaps between subgroups."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import scipy

import fairaudit
from fairaudit import subgroups
from fairaudit.analyses import ANALYSES, AuditData
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
from fairaudit.covariates import LABEL_MIX, MEDIATOR, check_covariates
from fairaudit.custom_metrics import load_metrics
from fairaudit.data.predictions import read_predictions
from fairaudit.data.predictions_check import NO_PREDICTION, SUSPICIOUS
from fairaudit.data.sharded import AnyPredictions
from fairaudit.data.tables import Predictions
from fairaudit.disparity_tests import disparity_tests
from fairaudit.errors import DataError
from fairaudit.gap_tests import with_tests
from fairaudit.impact_table import check_selection
from fairaudit.label_noise_table import check_label_noise
from fairaudit.policy_checks import check_policies, declared_axes
from fairaudit.progress import Progress, silent
from fairaudit.results import (
    CONFUSION_COLUMNS,
    FORMAT_VERSION,
    GAP_COLUMNS,
    METRIC_COLUMNS,
    REST_COLUMNS,
    AuditResult,
)
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.task_measures import measures_of

FEW_FACES = 100
UNKNOWN_LABELS = "Where the labels come from is not known: every claim holds on this sample and these labels only."


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
    own, frame, groups = outline, *_on_axes(outline, axes)
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
    apart = audit.exploratory  # halves are drawn face by face
    group_sizes = {by: sizes(labels, outline.times) for by, labels in groups.items()}
    found: list[AxisTables] = []
    axes_data: list[AxisData] = []
    excluded: list[dict[str, Any]] = []
    unscored: list[dict[str, Any]] = []
    unlabelled = []
    for number, task in enumerate(names):
        if (counted := table.of_task(task, [*axes, *labels_of], numbers=numbers, every_face=apart)) is not own:
            own, frame, groups = counted, *_on_axes(counted, axes)
        rows = task_rows(own, task)
        if not len(rows.position):
            raise DataError(f"{task}: no face has both what is needed: {_why_empty(rows, own)}")
        excluded += excluded_rows(rows, own, groups)
        unlabelled += [] if rows.labelled else [task]
        part = frame if len(rows.position) == len(frame) else frame.iloc[rows.position]
        times = None if own.times is None else own.times[rows.position]
        measures, left, said = measures_of(own, rows, groups)
        unscored, left_out = [*unscored, *left], [*left_out, *said]
        for step, (axis, labels) in enumerate([(OVERALL, everyone(len(frame))), *groups.items()]):
            progress("audit", number * (len(axes) + 1) + step, len(names) * (len(axes) + 1), f"{task} by {axis}")
            sample = sample_of(rows, frame, labels, times)
            sample = replace(sample, measures=measures, interval=audit.interval)
            why = _degenerate(rows, frame, labels, axis, own.times)
            axes_data.append(AxisData(rows=rows, sample=sample, by=axis, degenerate=why, frame=part))
            found.append(axis_tables(rows, sample, axis, why, audit, [seed, number, step]))
    progress("audit", len(names) * (len(axes) + 1), len(names) * (len(axes) + 1))
    known = _meta(table, names, group_sizes, audit, seed, [*excluded, *unscored], found)
    known["warnings"] = [*_warnings(table, group_sizes, audit, excluded, unlabelled), *left_out]
    metrics, rest = _joined([t.metrics for t in found], METRIC_COLUMNS), _joined([t.rest for t in found], REST_COLUMNS)
    tests = disparity_tests(axes_data, audit, seed)
    gaps = with_tests(_joined([t.gaps for t in found], GAP_COLUMNS), tests, audit, seed)
    data = AuditData(
        predictions=table,
        axes=axes_data,
        audit=audit,
        seed=seed,
        metrics=metrics,
        gaps=gaps,
        rest=rest,
        tests=tests,
    )
    more = {name: analysis(data) for name, analysis in ANALYSES.items()}
    return AuditResult(
        metrics=metrics,
        gaps=gaps,
        confusion=_joined([t.confusion for t in found], CONFUSION_COLUMNS),
        rest=rest,
        more={name: found for name, found in more.items() if len(found)},
        meta=_merged(known, {"name": name, **(meta or {})}),
    )


def versions() -> dict[str, str]:
    """Return the versions of what the numbers come from."""
    return {
        "fairaudit": fairaudit.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def everyone(n: int) -> Any:
    """Return the labels of `n` faces that all belong to the one subgroup `overall`."""
    return pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), dtype=pd.CategoricalDtype([OVERALL]))


def independence(table: AnyPredictions) -> str:
    """Return what the intervals take as independent, in a sentence for the report."""
    if (people := table.subjects()) is not None:
        return (
            f"Pictures of one person are kept together: intervals come from the spread between {people} subjects, "
            "not between faces."
        )
    wider = {m: (1 + (m - 1) * 0.3) ** 0.5 for m in (2, 5)}
    return (
        "Intervals assume that the faces are independent, because the table names no subjects. With several pictures "
        f"of a person they would be wider: at an intraclass correlation of 0.3, say, by a factor of {wider[2]:.2f} "
        f"with 2 pictures a person and {wider[5]:.2f} with 5 (square root of the design effect 1 + (m − 1) · ICC)."
    )


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
    words = {NO_LABEL: "have no label", NO_PREDICTION: "have neither a prediction nor a status"}
    return ", ".join(f"{table.faces(found)} faces {words[reason]}" for reason, found in rows.excluded.items())


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return joined.reindex(columns=list(columns))


def _meta(
    table: AnyPredictions,
    names: Sequence[str],
    groups: Mapping[str, Mapping[str, int]],
    audit: AuditSpec,
    seed: int,
    excluded: list[dict[str, Any]],
    found: Sequence[AxisTables],
) -> dict[str, Any]:
    return {
        "created": date.today().isoformat(),
        "fairaudit": fairaudit.__version__,
        "format": FORMAT_VERSION,
        "n": len(table),
        "tasks": {t: {"classes": list(table.tasks[t]), "ordered": t in table.ordered} for t in names},
        "subgroups": groups,
        "degenerate": [{"task": t.task, "by": t.by, "reason": t.degenerate} for t in found if t.degenerate],
        "shared_classes": [
            {"task": t.task, "by": t.by, "classes": list(t.shared)} for t in found if t.by != OVERALL and t.shared
        ],
        "min_group_size": audit.min_group_size,
        "confidence": audit.confidence,
        "draws": audit.draws,
        "seed": seed,
        # all that `verify` needs to make the same audit again
        "settings": {
            "audit": audit.model_dump(mode="json"),
            "tasks": list(names),
            "by": list(groups),
            "seed": seed,
        },
        "versions": versions(),
        "label_source": table.label_source,
        "independence": independence(table),
        "excluded": [*excluded, *_findings(table)],
        "outcomes": [entry for t in found for entry in t.outcomes],
        "hashes": {"predictions": table.hash(), **_checkpoint_hash(table)},
        **{key: table.meta[key] for key in ("shards",) if key in table.meta},
        "model": table.meta.get("model", {}),
        "data": table.meta.get("data", {}),
        "mitigation": table.meta.get("mitigation"),
        "training": table.meta.get("training"),
    }


def _checkpoint_hash(table: AnyPredictions) -> dict[str, str]:
    """Return the hash of the checkpoint that made the predictions, where they say it."""
    return {"checkpoint": str(table.meta["checkpoint_hash"])} if table.meta.get("checkpoint_hash") else {}


def _findings(table: AnyPredictions) -> list[dict[str, Any]]:
    """Return what was met in the table or its faces, counted by kind; what a task left out is listed by the task."""
    entries = []
    met = table.findings[table.findings["kind"] != NO_PREDICTION]
    for (kind, action), rows in met.groupby(["kind", "action"], sort=False):
        images = [str(image) for image in rows["image"] if image][:20]
        details = list(dict.fromkeys(str(detail) for detail in rows["detail"]))[:5]
        entries.append(
            {
                "kind": kind,
                "action": action,
                "count": int(rows["rows"].sum()) if "rows" in rows else len(rows),
                "images": images,
                "details": details,
            }
        )
    return entries


def _warnings(
    table: AnyPredictions,
    groups: Mapping[str, Mapping[str, int]],
    audit: AuditSpec,
    excluded: Sequence[Mapping[str, Any]],
    unlabelled: Sequence[str],
) -> list[str]:
    said = list(table.meta.get("warnings", ()))
    if seen := table.meta.get("seen_in_training"):
        said.append(
            f"{seen} of the {len(table)} audited faces were in the model's training or validation data: what is found "
            "on them says little about new faces."
        )
    suspicious = table.findings[table.findings["kind"].isin(SUSPICIOUS)]
    said += [f"{detail}." for detail in dict.fromkeys(suspicious["detail"])]
    if len(table) < FEW_FACES:
        faces = "1 face was" if len(table) == 1 else f"{len(table)} faces were"
        said.append(f"Only {faces} audited: most differences cannot be seen at this size.")
    if unlabelled:
        said.append(f"No labels of {', '.join(unlabelled)}: only how often each class is predicted can be reported.")
    said += [f"{e['task']}: {e['count']} faces left out ({e['kind'].replace('_', ' ')})." for e in excluded]
    for by, members in groups.items():
        few = {name: n for name, n in members.items() if n < audit.min_group_size and name != UNKNOWN}
        if few:
            shown = ", ".join(f"{name} ({n})" for name, n in list(few.items())[:10])
            more = f" and {len(few) - 10} more" if len(few) > 10 else ""
            said.append(
                f"{by}: {len(few)} subgroups have fewer than {audit.min_group_size} faces and are shown, but not "
                f"assessed: {shown}{more}."
            )
        if unknown := members.get(UNKNOWN):
            said.append(
                f"{by}: {unknown} faces lack an attribute and form the subgroup {UNKNOWN!r}, outside comparisons."
            )
    said += table.meta.get("shards", {}).get("said", [])
    if table.meta.get("row_numbers"):
        said.append("The table names no images: rows are numbered, so this audit cannot be compared with another.")
    if audit.adjust_for:
        said.append(MEDIATOR)
    if table.weighted:
        said.append("Faces are weighted: intervals use the effective number of faces (Σw)² / Σw².")
    return said


def _merged(own: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete `own` by what the caller knows: hashes join, warnings are appended, anything else is replaced."""
    merged = {**own, **{key: value for key, value in given.items() if value is not None or key not in own}}
    merged["hashes"] = {**own["hashes"], **given.get("hashes", {})}
    merged["warnings"] = [*own["warnings"], *(w for w in given.get("warnings", []) if w not in own["warnings"])]
    merged["told"] = list(given.get("warnings", []))  # so that `verify` knows which of them it cannot make again
    merged["label_source"] = given.get("label_source") or own["label_source"]
    if not merged["label_source"]:
        merged["warnings"].append(UNKNOWN_LABELS)
    return merged
