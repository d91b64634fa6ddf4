"""Per-group thresholds of a binary head by fairlearn's ThresholdOptimizer, kept as numbers.

Source: Hardt, Price & Srebro, "Equality of opportunity in supervised learning", NeurIPS 2016. Constraint: equalized
odds (equal true and false positive rates), objective: accuracy, on all labelled validation faces of known subgroup;
nothing is chosen afterwards, so no second half is needed. The solution is randomised: a face between two thresholds is
positive with a probability. That draw is made of the face's embedding and the seed (`face_draws`), so the same face
always gets the same answer, and the rates hold over faces. Probabilities stay those of the head: they are scores, and
the decision is no longer which of them is larger.
Group labels: validation and test: it decides by each face's subgroup, and says so. A subgroup with fewer than `FEWEST`
validation faces of either class, or an unknown one, keeps the threshold of one half. Cost: one fit.
"""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from fairaudit.mitigation import cells
from fairaudit.mitigation.erm import erm
from fairaudit.mitigation.problem import Fitted, Problem

FEWEST = 5  # validation faces of either class, fewer of which make no ROC curve worth the name
KEPT = {"p0": 1.0, "threshold0": 0.5, "p1": 0.0, "threshold1": 0.5, "ignore": 0.0, "constant": 0.0}


def group_thresholds(problem: Problem) -> Fitted:
    """Return erm's head deciding by fairlearn's thresholds of each face's subgroup; two classes only."""
    head = erm(problem)
    rows = cells.known(problem.val)
    rows = rows[np.isin(problem.val.g[rows], _able(problem))]
    scores = head.predict(problem.val.x[rows]).probabilities[:, 1]
    found = optimise(scores, problem.val.y[rows], problem.val.g[rows])
    table = {name: np.full(len(problem.groups) + 1, kept) for name, kept in KEPT.items()}
    for g, values in found.items():
        for name in table:
            table[name][g] = values[name]
    arrays = {**head.arrays, **table, "salt": np.array([problem.seed])}
    blurred = np.mean([_randomised(scores[problem.val.g[rows] == g], found[g]) for g in found])
    said = (
        f"thresholds of {len(found)} subgroups fitted on {len(rows)} validation faces; the answer of {blurred:.0%} of "
        "the faces of a subgroup, on average, is drawn by chance, always the same for the same face"
    )
    use = "uses the subgroup of each face at test time"
    return Fitted(kind="group-thresholds", arrays=arrays, uses_group=True, notes=(said, use, *thin_subgroups(problem)))


def optimise(scores: np.ndarray, y: np.ndarray, g: np.ndarray) -> dict[int, dict[str, float]]:
    """Return fairlearn's solution for scores of class 1 (n,), labels 0 or 1 and subgroups: numbers by subgroup.

    A face is positive with probability ignore · constant + (1 − ignore) · (p0 · [score > threshold0] + p1 · [score >
    threshold1]). Every subgroup needs faces of both labels.
    """
    from fairlearn.postprocessing import ThresholdOptimizer

    optimizer = ThresholdOptimizer(
        estimator=_Given(), constraints="equalized_odds", prefit=True, predict_method="predict_proba"
    )
    optimizer.fit(np.asarray(scores, dtype=np.float64)[:, None], y, sensitive_features=g)
    return {int(code): _numbers(rule) for code, rule in optimizer.interpolated_thresholder_.interpolation_dict.items()}


def no_curves(problem: Problem) -> str | None:
    """Return why no thresholds can be fitted: fewer than two subgroups have validation faces of both classes."""
    if len(_able(problem)) >= 2:
        return None
    return (
        f"group-thresholds needs {FEWEST} validation faces of {' and of '.join(problem.classes)} each in two subgroups "
        f"of {problem.by} at least. Choose a coarser axis or a larger split.val"
    )


def thin_subgroups(problem: Problem) -> tuple[str, ...]:
    """Return a sentence on subgroups that keep the threshold of one half, if there are any."""
    kept = [name for code, name in enumerate(problem.groups) if code not in _able(problem)]
    if not kept:
        return ()
    words = f"fewer than {FEWEST} validation faces of a class"
    return (f"{words}, so the threshold stays at one half: {', '.join(kept)}",)


def _able(problem: Problem) -> list[int]:
    table = cells.counts(problem, problem.val)
    return np.flatnonzero((table >= FEWEST).all(1)).tolist()


def _numbers(rule: Any) -> dict[str, float]:
    """Return one subgroup's rule as numbers; infinite thresholds become ones just outside of 0…1."""
    low, high = (float(np.clip(op.threshold, -1, 2)) for op in (rule.operation0, rule.operation1))
    ignore, constant = float(rule.p_ignore), float(rule.prediction_constant)
    return dict(zip(KEPT, (float(rule.p0), low, float(rule.p1), high, ignore, constant), strict=True))


def _randomised(scores: np.ndarray, rule: dict[str, float]) -> float:
    """Return the share of scores whose answer is drawn: neither surely positive nor surely negative."""
    plain = rule["p0"] * (scores > rule["threshold0"]) + rule["p1"] * (scores > rule["threshold1"])
    chance = rule["ignore"] * rule["constant"] + (1 - rule["ignore"]) * plain
    return float(((chance > 1e-9) & (chance < 1 - 1e-9)).mean())


class _Given(BaseEstimator):
    """An estimator whose scores are the single feature it is given."""

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, *_: Any) -> "_Given":
        return self

    def predict_proba(self, x: Any) -> np.ndarray:
        score = np.asarray(x, dtype=np.float64)[:, 0]
        return np.column_stack([1 - score, score])
