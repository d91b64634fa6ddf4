"""Compare models on the same faces: who gained, who lost, did the gaps close, how sure is that."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

import fairaudit
from fairaudit import subgroups
from fairaudit.audit import everyone
from fairaudit.audit_meta import independence
from fairaudit.audit_tables import axis_tables
from fairaudit.axes import TaskRows, choose_axes, choose_tasks, sample_of, task_rows, with_axis_columns
from fairaudit.comparison_harm import churn_rows, non_inferiority_rows
from fairaudit.comparison_summary import summarize
from fairaudit.comparison_tables import Named, PairedAxis, axis_changes
from fairaudit.data.predictions_check import examples
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.metrics.harm import MARGIN, check_margin
from fairaudit.metrics.measures import FaceScores, Measures
from fairaudit.metrics.paired import PairedSample
from fairaudit.metrics.sample import Sample
from fairaudit.progress import Progress, silent
from fairaudit.results import Comparison
from fairaudit.results.columns import CHURN_COLUMNS, COMPARISON_COLUMNS, GAP_CHANGE_COLUMNS, NON_INFERIORITY_COLUMNS
from fairaudit.results.files import FORMAT_VERSION
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.task_measures import measures_of
from fairaudit.wording import plural

FAMILY = "Holm within each model, task, axis and metric, over its subgroups (without unknown) and classes"
METHOD = (
    "Shares with a common denominator: Newcombe's paired interval (1998, method 10); averages of recalls: MOVER over "
    "it; other metrics: BCa bootstrap of the joint cells of both models' predictions. ROC AUC: DeLong for two "
    "curves on the same faces; average precision: infinitesimal jackknife; means of losses: Student's t of the "
    "differences face by face; calibration: limits as if unpaired. Tests: exact McNemar, by flipping whole subjects "
    "where subjects are known. The change of a gap (largest minus smallest value under each model) has a conservative "
    "interval from paired contrasts (intersection–union; Bonferroni where the pair is taken from the same faces); the "
    "change of the named pair's contrast is paired, without allowance for how the pair was chosen."
)
ON_TEST = (
    "The pairs of worst- and best-off subgroups were named on the baseline's own audited faces, because no validation "
    "predictions were given: such a pair's gap tends to shrink by itself (regression to the mean), so the change of "
    "its contrast flatters every other model. The intervals of the gaps themselves allow for this."
)
ON_VALIDATION = "The pairs of worst- and best-off subgroups were named on the baseline's validation predictions."


def compare(
    baseline: Predictions,
    models: Mapping[str, Predictions],
    *,
    by: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    audit: AuditSpec | None = None,
    seed: int = 0,
    validation: Predictions | None = None,
    margin: float = MARGIN,
    baseline_name: str = "baseline",
    progress: Progress = silent,
) -> Comparison:
    """Return what changes from the baseline to each model, paired by image; labels and attributes are the baseline's.

    Rates compare the faces that both models predicted; prediction rates and end-to-end accuracy all paired faces. The
    claim is about these checkpoints on these faces: whether a method is better needs several seeds. `validation`: the
    baseline's predictions of other faces, on which the subgroup to be helped is named; without it the pair is named on
    the compared faces, with a warning. `margin`: the loss of right predictions (a share, .02 is 2 points) below which a
    subgroup counts as not harmed. Metrics of probabilities are compared where both tables have them, on the faces for
    which both do. Raises UsageError for an unknown task or axis, or an impossible margin; DataError where images are
    not named, none is shared, labels contradict, or classes differ.
    """
    check_margin(margin)
    if not models:
        raise UsageError("a comparison needs at least one model beside the baseline")
    audit = audit or AuditSpec()
    axes, left_out = choose_axes(baseline, by if by is not None else audit.subgroups)
    shared_tasks = [t for t in baseline.tasks if all(t in m.tasks for m in models.values())]
    names = choose_tasks(baseline, tasks) if tasks else shared_tasks
    deltas: list[pd.DataFrame] = []
    gaps: list[pd.DataFrame] = []
    churn: list[pd.DataFrame] = []
    harm: list[pd.DataFrame] = []
    unpaired, paired, warnings = {}, {}, list(left_out)
    steps = len(models) * max(len(names), 1)
    for number, (model, other) in enumerate(models.items()):
        first, second, lost = pair_by_image(baseline, other, baseline_name, model)
        unpaired[model], paired[model] = lost, len(first)
        if lost:
            warnings.append(f"{model}: faces in one of the two tables only were left out: {lost:,}.")
        for step, task in enumerate(_tasks_of(names, other, model, tasks)):
            progress("compare", number * len(names) + step, steps, f"{model}: {task}")
            for pair_axis, named in _paired_axes(first, second, task, axes, audit, validation, model, warnings, seed):
                delta, change = axis_changes(pair_axis, model, named, [seed, number, step, len(deltas)])
                deltas.append(delta)
                gaps.append(change)
                churn.append(churn_rows(pair_axis, model))
                harm.append(non_inferiority_rows(pair_axis, model, margin))
    progress("compare", steps, steps)
    tables = (_joined(deltas, COMPARISON_COLUMNS), _joined(gaps, GAP_CHANGE_COLUMNS))
    losses = _joined(harm, NON_INFERIORITY_COLUMNS)
    warnings.append(ON_VALIDATION if validation is not None else ON_TEST)
    if "weight" in baseline.frame:
        warnings.append("Faces are weighted: rates and intervals use the weights, McNemar's test counts faces.")
    meta: dict[str, Any] = {
        "baseline": baseline_name,
        "models": list(models),
        "created": date.today().isoformat(),
        "fairaudit": fairaudit.__version__,
        "format": FORMAT_VERSION,
        "n_paired": min(paired.values()),
        "n_paired_by_model": paired,
        "n_unpaired": unpaired,
        "tasks": {t: {"classes": list(baseline.tasks[t]), "ordered": t in baseline.ordered} for t in names},
        "subgroups": _sizes(baseline, axes),
        "summary": {model: summarize(model, *tables, losses, audit.confidence) for model in models},
        "hashes": {baseline_name: baseline.hash(), **{model: other.hash() for model, other in models.items()}},
        "confidence": audit.confidence,
        "min_group_size": audit.min_group_size,
        "margin": margin,
        "draws": audit.draws,
        "seed": seed,
        "named_on": "validation" if validation is not None else "test",
        "family": FAMILY,
        "method": METHOD,
        "independence": independence(baseline),
        "label_source": baseline.label_source,
        "warnings": list(dict.fromkeys(warnings)),
    }
    return Comparison(
        deltas=tables[0],
        gap_changes=tables[1],
        churn=_joined(churn, CHURN_COLUMNS),
        non_inferiority=losses,
        meta=meta,
    )


def pair_by_image(
    baseline: Predictions, other: Predictions, baseline_name: str, model: str
) -> tuple[Predictions, Predictions, int]:
    """Return both tables with their common images in the baseline's order, and how many faces only one of them has."""
    for table, name in ((baseline, baseline_name), (other, model)):
        if table.meta.get("row_numbers"):
            raise DataError(f"{name}: the table has no column `image`, so its faces cannot be paired; add one")
    common = pd.Index(baseline.frame["image"]).intersection(pd.Index(other.frame["image"]), sort=False)
    if not len(common):
        raise DataError(
            f"{baseline_name} and {model} have no image in common (such as {examples(baseline.frame['image'], 1)} and "
            f"{examples(other.frame['image'], 1)}): compare models on the same faces, named the same"
        )
    parts = [
        table.frame.set_index("image", drop=False).loc[common].reset_index(drop=True) for table in (baseline, other)
    ]
    lost = len(baseline) + len(other) - 2 * len(common)
    return replace(baseline, frame=parts[0]), replace(other, frame=parts[1]), lost


def _tasks_of(names: Sequence[str], other: Predictions, model: str, wanted: Sequence[str] | None) -> list[str]:
    for task in wanted or ():
        if task not in other.tasks:
            raise UsageError(f"{model} has no predictions of {task!r} (it has: {', '.join(other.tasks)})")
    if not names:
        raise DataError("the tables have no task in common: nothing to compare")
    return list(names)


def _paired_axes(
    first: Predictions,
    second: Predictions,
    task: str,
    axes: Sequence[str],
    audit: AuditSpec,
    validation: Predictions | None,
    model: str,
    warnings: list[str],
    seed: int,
) -> list[tuple[PairedAxis, Named | None]]:
    """Return one task under two models on every axis and on the whole set, with the subgroups named on validation."""
    first, second = same_labels(first, second, task, model)
    frame = with_axis_columns(first, axes)
    before, after = task_rows(first, task), task_rows(second, task)
    common = np.intersect1d(before.position, after.position)
    if not len(common):
        raise DataError(f"{task}: no face is labelled and predicted in both tables")
    if lost := len(first) - len(common):
        warnings.append(
            f"{model}, {task}: {plural(lost, 'paired face lacks', 'paired faces lack')} a label or one model's "
            "prediction: left out."
        )
    sides = [_at(rows, common) for rows in (before, after)]
    both = (sides[0].column < len(before.classes)) & (sides[1].column < len(before.classes))
    if not both.all():
        warnings.append(
            f"{model}, {task}: {plural(int((~both).sum()), 'face')} got no prediction from one of the models: "
            "counted in prediction rates and end-to-end accuracy only."
        )
    measures = _shared_scores((first, second), sides, both, model, warnings)
    whole = everyone(len(frame))
    found: list[tuple[PairedAxis, Named | None]] = []
    for by in (OVERALL, *axes):
        groups = whole if by == OVERALL else subgroups.assign(frame, by)
        pairs = [_pair(sides, frame, groups, keep) for keep in (both, np.ones(len(common), dtype=bool))]
        pairs[0] = PairedSample(*(replace(s, measures=m) for s, m in zip(_sides(pairs[0]), measures, strict=True)))
        why = None
        if before.labelled and by != OVERALL:
            why = subgroups.degenerate(groups, frame[f"{task}_true"], by, task)
        axis = PairedAxis(rows=before, by=by, degenerate=why, predicted=pairs[0], everyone=pairs[1], audit=audit)
        named = _named(validation, task, by, why, audit, seed) if validation is not None and by != OVERALL else None
        found.append((axis, named))
    return found


def same_labels(first: Predictions, second: Predictions, task: str, model: str) -> tuple[Predictions, Predictions]:
    """Give both tables the same classes and the baseline's labels; DataError where they contradict each other."""
    one, two = first.tasks[task], second.tasks[task]
    if not (set(one) <= set(two) or set(two) <= set(one)):
        raise DataError(
            f"{task}: the classes differ: {', '.join(one)} against {', '.join(two)} of {model}; compare models of the "
            "same classes, or map one table's values to the other's"
        )
    classes, name = (one if len(one) >= len(two) else two), f"{task}_true"
    left, right = first.frame.get(name), second.frame.get(name)
    if left is not None and right is not None:
        differ = left.notna() & right.notna() & (left.astype(object) != right.astype(object))
        if differ.any():
            raise DataError(
                f"{task}: {plural(int(differ.sum()), 'face is', 'faces are')} labelled differently in {model} (such as "
                f"{examples(first.frame['image'][differ])}); compare models on the same labels"
            )
    frame = second.frame.drop(columns=[name], errors="ignore")
    if left is not None:
        frame = frame.assign(**{name: left})
    widened = {**first.tasks, task: classes}
    return replace(first, tasks=widened), replace(second, frame=frame, tasks={**second.tasks, task: classes})


def _at(rows: TaskRows, common: np.ndarray) -> TaskRows:
    where = np.searchsorted(rows.position, common)
    return replace(rows, position=common, row=rows.row[where], column=rows.column[where])


def _sides(pair: PairedSample) -> tuple[Sample, Sample]:
    return pair.before, pair.after


def _shared_scores(
    tables: Sequence[Predictions], sides: Sequence[TaskRows], both: np.ndarray, model: str, warnings: list[str]
) -> list[Measures | None]:
    """Return both models' probabilities of the faces that both predicted; blank where either has none that count."""
    found = []
    for table, rows in zip(tables, sides, strict=True):
        kept = replace(rows, position=rows.position[both], row=rows.row[both], column=rows.column[both])
        measures, _, said = measures_of(table, kept, {})
        warnings.extend(f"{model}, {sentence}" for sentence in said)
        found.append(None if measures is None else measures.scores)
    if any(scores is None or not scores.usable.any() for scores in found):
        return [None, None]
    usable = np.logical_and(*(scores.usable for scores in found if scores is not None))
    return [
        Measures(scores=FaceScores(values=np.where(usable[:, None], s.values, np.nan), label=s.label,
                                   prediction=s.prediction))
        for s in found if s is not None
    ]  # fmt: skip


def _pair(sides: Sequence[TaskRows], frame: pd.DataFrame, groups: pd.Categorical, keep: np.ndarray) -> PairedSample:
    samples: list[Sample] = []
    for rows in sides:
        kept = replace(rows, position=rows.position[keep], row=rows.row[keep], column=rows.column[keep])
        samples.append(sample_of(kept, frame, groups))
    return PairedSample(samples[0], samples[1])


def _named(validation: Predictions, task: str, by: str, degenerate: str | None, audit: AuditSpec, seed: int) -> Named:
    """Return the worst and the best subgroup of every metric and class, named on the validation predictions."""
    if task not in validation.tasks:
        raise DataError(f"the validation predictions have no task {task!r} (they have: {', '.join(validation.tasks)})")
    frame = with_axis_columns(validation, [by])
    rows = task_rows(validation, task)
    if not len(rows.position):
        return {}
    # only the estimates matter here, so the fewest draws do
    quick = audit.model_copy(update={"draws": 100})
    sample = replace(sample_of(rows, frame, subgroups.assign(frame, by)), measures=measures_of(validation, rows, {})[0])
    gaps = axis_tables(rows, sample, by, degenerate, quick, [seed]).gaps
    found = gaps[gaps["worst"] != ""] if len(gaps) else gaps
    return {(row["metric"], row["class"]): (row["worst"], row["best"]) for row in found.to_dict("records")}


def _sizes(baseline: Predictions, axes: Sequence[str]) -> dict[str, dict[str, int]]:
    frame = with_axis_columns(baseline, axes)
    found = {}
    for by in axes:
        labels = subgroups.assign(frame, by)
        counts = np.bincount(labels.codes, minlength=len(labels.categories))
        found[by] = {str(name): int(n) for name, n in zip(labels.categories, counts, strict=True)}
    return found


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[list(columns)] if filled else pd.DataFrame(columns=list(columns))
