"""Choose an epoch or a candidate on the validation faces: by overall accuracy, the worst subgroup, both (Pareto), or
the equalized-odds difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.errors import DataError, UsageError
from fairaudit.mitigation import cells
from fairaudit.mitigation.problem import Answers, Fitted, Problem

SMALLEST = 10  # labelled validation faces; the accuracy of fewer jumps too much to choose by
TOLERANCE = 0.01  # how much overall accuracy may be given up ("pareto", "equalized-odds")


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


def odds_difference(problem: Problem, labels: np.ndarray) -> float:
    """Return the equalized-odds difference (0…1) of answers on validation faces, NaN where no rate has two subgroups.

    The largest difference of two subgroups' recalls or false positive rates of a class, one-vs-rest; a rate counts in
    subgroups that have `SMALLEST` faces for it. For two classes fairlearn's equalized_odds_difference.
    """
    rows = cells.known(problem.val)
    y, g, said = problem.val.y[rows], problem.val.g[rows], labels[rows]
    most = np.nan
    for k in range(len(problem.classes)):
        for of in (y == k, y != k):
            n = np.bincount(g[of], minlength=len(problem.groups))
            rates = np.bincount(g[of & (said == k)], minlength=len(n))[n >= SMALLEST] / n[n >= SMALLEST]
            if len(rates) > 1:
                most = np.fmax(most, np.ptp(rates))
    return float(most)


def check_select(problem: Problem) -> None:
    """Raise UsageError where equalized odds are to be chosen by and mean nothing; DataError for too few faces."""
    if problem.settings.select != "equalized-odds":
        return
    if problem.degenerate:
        raise UsageError(
            f"{problem.task}: equalized odds mean nothing here, because {problem.degenerate}; choose by "
            "mitigate.select = 'worst-subgroup' or 'pareto'"
        )
    _odds(problem, problem.val.y)


def no_odds(problem: Problem, faces: str) -> str | None:
    """Return why equalized odds, where they are to be chosen by, cannot be had of these validation faces; or None.

    faces: what they are called, such as "the half of the validation faces to choose by".
    """
    if problem.settings.select != "equalized-odds" or not np.isnan(odds_difference(problem, problem.val.y)):
        return None
    return (
        f"no label has {SMALLEST} faces of {faces} in two subgroups of {problem.by}, so that there is no "
        "equalized-odds difference; choose by mitigate.select = 'worst-subgroup' or 'pareto', or take a larger "
        "split.val"
    )


def _odds(problem: Problem, labels: np.ndarray) -> float:
    if reason := no_odds(problem, "those to choose by"):
        raise DataError(f"{problem.task}: {reason}")
    return odds_difference(problem, labels)


def _seen(problem: Problem, fitted: Fitted, how: str) -> dict[str, Any]:
    """Return the validation scores that a way of choosing looks at; the odds only where they are chosen by."""
    answers = fitted.predict(problem.val.x, problem.val.g)
    seen = validation_scores(problem, answers)
    return seen | ({"odds_difference": _odds(problem, answers.labels)} if how == "equalized-odds" else {})


def _best(rows: Sequence[Mapping[str, Any]], how: str) -> int:
    """Return the place of the best row, of equals the first."""
    highest = max(row["accuracy"] for row in rows)
    allowed = [
        place
        for place, row in enumerate(rows)
        if how not in ("pareto", "equalized-odds") or row["accuracy"] >= highest - TOLERANCE
    ]

    def worse(place: int) -> tuple[float, ...]:
        row = rows[place]
        if how == "overall":
            return (-row["accuracy"], -row["worst_accuracy"], row["log_loss"])
        if how == "equalized-odds":
            return (row["odds_difference"], -row["accuracy"], row["log_loss"])
        return (-row["worst_accuracy"], -row["accuracy"], row["log_loss"])

    return min(allowed, key=worse)


def best_epoch(problem: Problem, epochs: Sequence[Fitted], how: str) -> Fitted:
    """Return the epoch that the validation faces prefer, as `choose` does, of equals the earliest.

    But "overall" means the lowest log loss: accuracies of neighbouring epochs differ by chance, and an early,
    half-trained epoch would win often.
    """
    rows = [_seen(problem, fitted, how) for fitted in epochs]
    if how == "overall":
        return epochs[min(range(len(rows)), key=lambda place: (rows[place]["log_loss"], -rows[place]["accuracy"]))]
    return epochs[_best(rows, how)]


def choose(problem: Problem, candidates: Mapping[str, Fitted], select: str | None = None) -> Fitted:
    """Return the candidate that the validation faces prefer, with the table of all of them in `tried`.

    "overall": the highest accuracy; "worst-subgroup": the highest worst-subgroup accuracy; "pareto": of those that no
    other beats in both, the highest worst-subgroup accuracy whose accuracy lies within `TOLERANCE` of the best;
    "equalized-odds": the smallest equalized-odds difference of those within `TOLERANCE` of the best accuracy (without
    that bound whoever answers everybody alike would win).
    """
    how = select or problem.settings.select
    names = list(candidates)
    rows = [{"candidate": name, **_seen(problem, candidates[name], how)} for name in names]
    best, table = _best(rows, how), pd.DataFrame(rows)
    table["pareto"] = [_on_front(table, row) for row in range(len(table))]
    table["chosen"] = table.index == best
    kept = candidates[names[best]]
    return Fitted(kind=kept.kind, arrays=kept.arrays, uses_group=kept.uses_group, notes=kept.notes, tried=table)


def _on_front(table: pd.DataFrame, row: int) -> bool:
    """Tell whether no candidate is at least as good in both accuracies and better in one."""
    a, w = table["accuracy"].to_numpy(), table["worst_accuracy"].to_numpy()
    beaten = (a >= a[row]) & (w >= w[row]) & ((a > a[row]) | (w > w[row]))
    return not beaten.any()
