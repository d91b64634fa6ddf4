"""Is this *method* better? Methods against a baseline, each with several seeds, on the same faces (seeds × faces)."""

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
from fairaudit.axes import choose_axes, choose_tasks, mean_weight, subjects_of, task_rows, with_axis_columns
from fairaudit.comparison import same_labels
from fairaudit.data.predictions_check import examples
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.method_axis import MethodAxis, Named, name_worst
from fairaudit.method_tables import effect_rows, harm_rows, pareto_rows, spread_rows
from fairaudit.method_words import recommendation_rows, summarize_method
from fairaudit.metrics.crossed import Faces
from fairaudit.metrics.harm import MARGIN, check_margin
from fairaudit.progress import Progress, silent
from fairaudit.results import MethodComparison
from fairaudit.results.columns import METHOD_TABLES
from fairaudit.results.files import FORMAT_VERSION
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.task_measures import usable_probabilities
from fairaudit.wording import plural

Seeds = Sequence[Predictions] | Mapping[str, Predictions]
METHOD = (
    "Seeds × faces crossed, both random: the variance of a mean over seeds is that between faces, plus that between "
    "seeds, minus their interaction, which both hold; each part enters an interval with Student's quantile at its own "
    "degrees of freedom (Banerjee 1960). Seeds of the same name are paired with the baseline's. The worst subgroup, "
    "the gap and equalized odds are those of the rates' means over seeds; their changes have intersection–union "
    "intervals from contrasts, never from draws of max − min. A face without a prediction counts as wrong. AUC enters "
    "by each face's influence on it (DeLong 1988). Rows of single checkpoints hold their seed fixed and recommend "
    "nothing."
)
ON_TEST = (
    "No validation predictions were given, so the subgroup to be helped was named on the compared faces: its gain is "
    "flattered by regression to the mean, and no method is recommended."
)
ON_VALIDATION = "The subgroup to be helped was named on the baseline's validation predictions, over their seeds."


def compare_methods(
    baseline: Seeds,
    methods: Mapping[str, Seeds],
    *,
    by: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    audit: AuditSpec | None = None,
    margin: float = MARGIN,
    validation: Seeds | Predictions | None = None,
    baseline_name: str = "baseline",
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = silent,
) -> MethodComparison:
    """Return what each method changes against the baseline, over seeds, on the faces that all tables hold.

    baseline, methods: one table of predictions a seed; in a sequence the seeds are called "1", "2", … A method that has
    the baseline's seeds is compared seed by seed. validation: the baseline's predictions of other faces, of any number
    of seeds, which name the subgroup to be helped. costs: facts that the report prints beside a name. A method is
    recommended only from three seeds on, with validation faces, where it helps beyond noise and harms no one (see
    `recommendation_rows`). Raises UsageError for no method, a name given twice, an unknown task or axis, an impossible
    margin; DataError where images are not named, none is shared, labels contradict or classes differ.
    """
    check_margin(margin)
    if not methods or baseline_name in methods:
        raise UsageError(f"give at least one method beside {baseline_name!r}, each with a name of its own")
    audit = audit or AuditSpec()
    arms = {baseline_name: _seeds(baseline, baseline_name), **{n: _seeds(m, n) for n, m in methods.items()}}
    first = next(iter(arms[baseline_name].values()))
    axes, left_out = choose_axes(first, by if by is not None else audit.subgroups)
    shared = [t for t in first.tasks if all(t in table.tasks for arm in arms.values() for table in arm.values())]
    names = choose_tasks(first, tasks) if tasks else shared
    warnings = [*left_out, ON_VALIDATION if validation is not None else ON_TEST]
    arms, lost = _aligned(arms)
    if lost:
        warnings.append(f"Faces that are not in every table were left out: {lost:,}.")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in METHOD_TABLES}
    named: dict[str, dict[str, Any]] = {}
    made = [axis for task in _labelled(names, arms, warnings) for axis in _axes(task, arms, axes, audit, warnings)]
    if not made:
        raise DataError("no task is labelled and predicted in every table: nothing to compare")
    for step, axis in enumerate(made):
        progress("compare methods", step, len(made), f"{axis.task} by {axis.by}")
        if validation is not None and axis.by != OVERALL:
            axis = replace(axis, named=_named(validation, axis))
        chosen = axis.chosen if axis.by != OVERALL and (validation is None or axis.named is not None) else None
        named.setdefault(axis.task, {})[axis.by] = {"worst": chosen.worst, "best": chosen.best} if chosen else {}
        _fill(found, axis, margin, by_validation=validation is not None)
    progress("compare methods", len(made), len(made))
    tables = {name: _table(rows, METHOD_TABLES[name]) for name, rows in found.items()}
    meta = _meta(arms, first, made, audit) | {
        "margin": margin,
        "named_on": "test" if validation is None else "validation",
    }
    meta |= {"named": named, "costs": {k: dict(v) for k, v in (costs or {}).items()}, "warnings": warnings}
    meta["summary"] = {name: summarize_method(name, tables, audit.confidence) for name in methods}
    effects, harm, spread, pareto, recommendations = (tables[name] for name in METHOD_TABLES)
    return MethodComparison(
        effects=effects, harm=harm, spread=spread, pareto=pareto, recommendations=recommendations, meta=meta
    )


def _fill(found: dict[str, list[dict[str, Any]]], axis: MethodAxis, margin: float, *, by_validation: bool) -> None:
    """Add the rows of one task and axis to every table."""
    for name in axis.predictions:
        found["seed_spread"] += spread_rows(axis, name)
    effects, harms = [], []
    for method in axis.methods:
        effects += effect_rows(axis, method)
        harms += harm_rows(axis, method, margin)
        if axis.paired(axis.first, method):
            for seed in axis.seeds[axis.first]:
                effects += effect_rows(axis, method, seed)
    found["method_effects"] += effects
    found["method_harm"] += harms
    if axis.by != OVERALL:
        found["pareto"] += pareto_rows(axis)
        found["recommendations"] += recommendation_rows(axis, effects, harms, margin, by_validation=by_validation)


def _seeds(tables: Seeds, name: str) -> dict[str, Predictions]:
    made = dict(tables) if isinstance(tables, Mapping) else {str(i): t for i, t in enumerate(tables, start=1)}
    if not made:
        raise UsageError(f"{name} has no predictions: give one table a seed")
    for seed, table in made.items():
        if table.meta.get("row_numbers"):
            raise DataError(f"{name}, seed {seed}: the table has no column `image`, so its faces cannot be paired")
    return {str(seed): table for seed, table in made.items()}


def _aligned(arms: Mapping[str, Mapping[str, Predictions]]) -> tuple[dict[str, dict[str, Predictions]], int]:
    """Return every table with the images that all hold, in the first one's order, and how many images were lost."""
    indexes = {(n, s): pd.Index(table.frame["image"]) for n, arm in arms.items() for s, table in arm.items()}
    common, every = None, None
    for (name, seed), index in indexes.items():
        common = index if common is None else common.intersection(index, sort=False)
        every = index if every is None else every.union(index, sort=False)
        if not len(common):
            raise DataError(
                f"{name}, seed {seed}, has no image in common with the tables before it (such as "
                f"{examples(arms[name][seed].frame['image'], 1)}): compare methods on the same faces, named the same"
            )
    assert common is not None and every is not None  # there is a baseline
    made: dict[str, dict[str, Predictions]] = {name: {} for name in arms}
    for (name, seed), index in indexes.items():
        table = arms[name][seed]
        places = index.get_indexer(common)
        made[name][seed] = replace(table, frame=table.frame.iloc[places].reset_index(drop=True))
    return made, len(every) - len(common)


def _labelled(names: Sequence[str], arms: Mapping[str, Mapping[str, Predictions]], warnings: list[str]) -> list[str]:
    first = next(iter(next(iter(arms.values())).values()))
    kept = []
    for task in names:
        lacking = [n for n, arm in arms.items() if any(task not in table.tasks for table in arm.values())]
        if lacking:
            raise UsageError(f"{', '.join(lacking)} has no predictions of {task!r}")
        if first.frame.get(f"{task}_true") is None or not first.frame[f"{task}_true"].notna().any():
            warnings.append(f"{task} has no labels: which method is right more often cannot be said.")
            continue
        kept.append(task)
    return kept


def _axes(
    task: str, arms: Mapping[str, Mapping[str, Predictions]], axes: Sequence[str], audit: AuditSpec, warnings: list[str]
) -> list[MethodAxis]:
    """Return a task on the whole set and on every axis, with the codes of every arm's predictions."""
    first_name, first_arm = next(iter(arms.items()))
    base = next(iter(first_arm.values()))
    for name, arm in arms.items():
        for seed, table in arm.items():
            base, _ = same_labels(base, table, task, f"{name}, seed {seed}")
    rows = {
        name: [task_rows(same_labels(base, table, task, name)[1], task) for table in arm.values()]
        for name, arm in arms.items()
    }
    common = np.arange(len(base))
    for arm_rows in rows.values():
        for one in arm_rows:
            common = np.intersect1d(common, one.position)
    if lost := len(base) - len(common):
        warnings.append(
            f"{task}: {plural(lost, 'face lacks', 'faces lack')} a label or some model's prediction: left out."
        )
    if not len(common):
        return []
    scores = _scores(task, base, arms, common, warnings)
    codes = {n: np.stack([one.column[np.searchsorted(one.position, common)] for one in r]) for n, r in rows.items()}
    truth = task_rows(base, task)
    label = truth.row[np.searchsorted(truth.position, common)]
    if missing := sum(int((c >= len(truth.classes)).any(0).sum()) for c in codes.values()):
        warnings.append(f"{task}: {missing} times a face got no prediction from a model, which counts as wrong.")
    frame = with_axis_columns(base, axes)
    weight = frame["weight"].to_numpy(dtype=float)[common] if "weight" in frame else np.ones(len(common))
    made = []
    for by in (OVERALL, *axes):
        groups = everyone(len(frame)) if by == OVERALL else subgroups.assign(frame, by)
        kept = groups[common].remove_unused_categories() if by != OVERALL else groups[common]
        faces = Faces(
            label=label,
            classes=len(truth.classes),
            group=np.asarray(kept.codes, dtype=np.int64),
            groups=tuple(str(name) for name in kept.categories),
            weight=weight / mean_weight(weight),
            subject=subjects_of(frame)[common] if "subject_id" in frame else None,
        )
        why = subgroups.degenerate(groups, frame[f"{task}_true"], by, task) if by != OVERALL else None
        seeds = {name: tuple(arm) for name, arm in arms.items()}
        made.append(MethodAxis(task=task, by=by, first=first_name, faces=faces, predictions=codes, seeds=seeds,
                               degenerate=why, named=None, audit=audit, scores=scores))  # fmt: skip
    return made


def _scores(
    task: str, base: Predictions, arms: Mapping[str, Mapping[str, Predictions]], common: np.ndarray, warnings: list[str]
) -> dict[str, np.ndarray] | None:
    """Return every arm's probabilities (S, N, K) of the faces `common`, None where a table has none."""
    found = {}
    for name, arm in arms.items():
        tables = [same_labels(base, table, task, name)[1] for table in arm.values()]
        own = [usable_probabilities(table.frame, task, table.tasks[task]) for table in tables]
        there = [values[common] for values in own if values is not None]
        if len(there) < len(own):
            return None
        found[name] = np.stack(there)
    if lost := int(np.any([np.isnan(v).any((0, 2)) for v in found.values()], axis=0).sum()):
        warnings.append(
            f"{task}: {plural(lost, 'face lacks', 'faces lack')} usable probabilities in some table: left out of AUC."
        )
    return found


def _named(validation: Seeds | Predictions, axis: MethodAxis) -> Named | None:
    """Return whom the baseline's validation predictions name on an axis, None where they name nobody."""
    tables = {"": validation} if isinstance(validation, Predictions) else _seeds(validation, "validation")
    for table in tables.values():
        if axis.task not in table.tasks:
            raise DataError(
                f"the validation predictions have no task {axis.task!r} (they have: {', '.join(table.tasks)})"
            )
    aligned, _ = _aligned({"validation": tables})
    found = _axes(axis.task, aligned, [axis.by], axis.audit, [])
    return name_worst(replace(found[1], degenerate=axis.degenerate)) if found else None


def _meta(
    arms: Mapping[str, Mapping[str, Predictions]], first: Predictions, made: Sequence[MethodAxis], audit: AuditSpec
) -> dict[str, Any]:
    names = list(arms)
    tasks = list(dict.fromkeys(axis.task for axis in made))
    sizes = {
        axis.by: dict(zip(axis.faces.groups, np.bincount(axis.faces.group).tolist(), strict=True))
        for axis in made
        if axis.by != OVERALL
    }
    return {
        "baseline": names[0],
        "methods": names[1:],
        "seeds": {name: list(arm) for name, arm in arms.items()},
        "paired": {name: set(arms[name]) == set(arms[names[0]]) for name in names[1:]},
        "created": date.today().isoformat(),
        "fairaudit": fairaudit.__version__,
        "format": FORMAT_VERSION,
        "n": max(len(axis.faces.label) for axis in made),
        "tasks": {task: {"classes": list(first.tasks[task]), "ordered": task in first.ordered} for task in tasks},
        "subgroups": sizes,
        "hashes": {name: {seed: table.hash() for seed, table in arm.items()} for name, arm in arms.items()},
        "confidence": audit.confidence,
        "min_group_size": audit.min_group_size,
        "method": METHOD,
        "independence": independence(first),
        "label_source": first.label_source,
    }


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
