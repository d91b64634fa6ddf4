"""Heads trained on weighted faces: reweighing, its square root, joint and class balancing, none above `settings.cap`.

Group labels: training (validation, too, to choose the epoch by worst subgroup); none at test time. Class balancing
needs none in training. Cost: one fit. Formulas: `fairaudit.mitigation.reweighing`. Sources: Kamiran & Calders (see
there); Idrissi et al., "Simple data balancing achieves competitive worst-group-accuracy", CLeaR 2022 (joint); King &
Zeng, "Logistic regression in rare events data", Political Analysis 9, 2001 (classes).
"""

from dataclasses import replace

import numpy as np

from fairaudit.mitigation import cells
from fairaudit.mitigation.heads import fit_head, weighted_cross_entropy
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.mitigation.reweighing import beyond_cap, capped, raw_weights


def reweighing(problem: Problem) -> Fitted:
    """Return the head trained with Kamiran and Calders' weights P(g)·P(y) / P(g, y)."""
    return _fit("reweighing", problem)


def reweighing_sqrt(problem: Problem) -> Fitted:
    """Return the head trained with the square roots of Kamiran and Calders' weights."""
    return _fit("reweighing-sqrt", problem)


def joint_balancing(problem: Problem) -> Fitted:
    """Return the head to which every subgroup × label cell that has faces counts the same."""
    return _fit("joint-balancing", problem)


def class_balancing(problem: Problem) -> Fitted:
    """Return the head to which every class counts the same."""
    return _fit("class-balancing", problem)


def weights_of(name: str, problem: Problem) -> np.ndarray:
    """Return the weights (n,) of the training faces: mean 1 over those that are weighed, 1 for all others.

    Weighed are faces with a label and a known subgroup; by class-balancing all that have a label.
    """
    inside = np.zeros(len(problem.train), dtype=bool)
    inside[_rows(name, problem)] = True
    return capped(_raw(name, problem), inside, problem.settings.cap)


def cautions(name: str, problem: Problem) -> tuple[str, ...]:
    """Return sentences on weights that the cap cuts by far and on cells without a training face."""
    nothing = None if name == "class-balancing" else cells.empty(problem)
    said = (beyond_cap(_raw(name, problem), problem.settings.cap), nothing)
    return tuple(sentence for sentence in said if sentence)


def _rows(name: str, problem: Problem) -> np.ndarray:
    return np.flatnonzero(problem.train.y >= 0) if name == "class-balancing" else cells.known(problem.train)


def _raw(name: str, problem: Problem) -> np.ndarray:
    rows = _rows(name, problem)
    groups = np.maximum(problem.train.g[rows], 0)  # class-balancing does not look at them
    return raw_weights(name, groups, problem.train.y[rows])


def _fit(name: str, problem: Problem) -> Fitted:
    weights = weights_of(name, problem)
    fitted = fit_head(problem, loss=weighted_cross_entropy(problem, weights))
    used = weights[_rows(name, problem)]
    effective = used.sum() ** 2 / np.square(used).sum()
    at_cap = int((used >= problem.settings.cap * (1 - 1e-12)).sum())
    note = (
        f"weights of {len(used)} training faces from {used.min():.3g} to {used.max():.3g}; {at_cap} reach the cap of "
        f"{problem.settings.cap:g}; the effective sample size is {effective:.0f}"
    )
    return replace(fitted, notes=(*fitted.notes, note, *cautions(name, problem)))
