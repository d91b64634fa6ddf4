"""Choose an epoch or a candidate on the validation faces: by overall accuracy, the worst subgroup, or both (Pareto)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.errors import DataError
from fairaudit.mitigation.problem import Answers, Fitted, Problem

SMALLEST = 10  # labelled validation faces; the accuracy of fewer jumps too much to choose by
TOLERANCE = 0.01  # how much overall accuracy a candidate of the Pareto front may give up


def validation_scores(problem: Problem, answers: Answers) -> dict[str, Any]:
    """Return overall and worst-subgroup accuracy (0…1) on validation faces, n, the worst subgroup and mean log loss.

    Subgroups of fewer than `SMALLEST` labelled faces do not count; on an axis that determines the label, a subgroup's
    accuracy is the recall of its label. Raises DataError where no validation face is labelled, or no subgroup counts.
    """
    y, g = problem.val.y, problem.val.g
    known = y >= 0
    if not known.any():
        raise DataError(f"{problem.task}: no validation face has a label; a larger split.val is needed")
    right = answers.labels == y
    each = {}
    for code, name in enumerate(problem.groups):
        rows = known & (g == code)
        if rows.sum() >= SMALLEST:
            each[name] = float(right[rows].mean())
    if not each:
        raise DataError(
            f"{problem.task}: no subgroup of {problem.by!r} has {SMALLEST} labelled validation faces; choose a coarser "
            "axis or a larger split.val"
        )
    worst = min(each, key=lambda name: each[name])
    picked = answers.probabilities[known, y[known]].clip(1e-12)
    return {
        "accuracy": float(right[known].mean()),
        "n": int(known.sum()),
        "worst_accuracy": each[worst],
        "worst_subgroup": worst,
        "log_loss": float(-np.log(picked).mean()),
    }


def score(problem: Problem, fitted: Fitted, select: str) -> tuple[float, ...]:
    """Return what an epoch is chosen by, larger is better.

    "overall": the lower log loss, because accuracies of neighbouring epochs differ by chance and an early, half-trained
    epoch would win often; else worst-subgroup accuracy, then accuracy, then log loss.
    """
    seen = validation_scores(problem, fitted.predict(problem.val.x, problem.val.g))
    if select == "overall":
        return (-seen["log_loss"], seen["accuracy"])
    return (seen["worst_accuracy"], seen["accuracy"], -seen["log_loss"])


def choose(problem: Problem, candidates: Mapping[str, Fitted], select: str | None = None) -> Fitted:
    """Return the candidate that the validation faces prefer, with the table of all of them in `tried`.

    "overall": the highest accuracy; "worst-subgroup": the highest worst-subgroup accuracy; "pareto": of those that no
    other beats in both, the highest worst-subgroup accuracy whose accuracy lies within `TOLERANCE` of the best.
    """
    how = select or problem.settings.select
    rows = []
    for name, fitted in candidates.items():
        seen = validation_scores(problem, fitted.predict(problem.val.x, problem.val.g))
        rows.append({"candidate": name, **seen})
    table = pd.DataFrame(rows)
    allowed = table
    if how == "pareto":
        allowed = table[table["accuracy"] >= table["accuracy"].max() - TOLERANCE]
    keys = ["accuracy", "worst_accuracy"] if how == "overall" else ["worst_accuracy", "accuracy"]
    best = allowed.sort_values([*keys, "log_loss"], ascending=[False, False, True], kind="stable").index[0]
    table["pareto"] = [_on_front(table, row) for row in range(len(table))]
    table["chosen"] = table.index == best
    kept = candidates[str(table["candidate"][best])]
    return Fitted(kind=kept.kind, arrays=kept.arrays, uses_group=kept.uses_group, notes=kept.notes, tried=table)


def _on_front(table: pd.DataFrame, row: int) -> bool:
    """Tell whether no candidate is at least as good in both accuracies and better in one."""
    a, w = table["accuracy"].to_numpy(), table["worst_accuracy"].to_numpy()
    beaten = (a >= a[row]) & (w >= w[row]) & ((a > a[row]) | (w > w[row]))
    return not beaten.any()
