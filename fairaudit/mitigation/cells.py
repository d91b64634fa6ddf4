"""Subgroup × label cells of the faces of a Problem: who is in them, and which are empty, in words."""

import numpy as np

from fairaudit.mitigation.problem import Part, Problem
from fairaudit.wording import plural

_NAMED = 5  # cells spelled out in a sentence; more are counted


def known(part: Part) -> np.ndarray:
    """Return the rows (int, ascending) of faces with a label and a known subgroup."""
    return np.flatnonzero((part.y >= 0) & (part.g >= 0))


def counts(problem: Problem, part: Part) -> np.ndarray:
    """Return the faces of each subgroup × label cell, int (G, K)."""
    rows = known(part)
    shape = (len(problem.groups), len(problem.classes))
    packed = part.g[rows] * shape[1] + part.y[rows]
    return np.bincount(packed, minlength=shape[0] * shape[1]).reshape(shape)


def names(problem: Problem, cells: np.ndarray) -> str:
    """Return the cells that are true in bool (G, K) in words: "Aspen labelled Male; Birch labelled Male; 3 more"."""
    said = [f"{problem.groups[g]} labelled {problem.classes[k]}" for g, k in np.argwhere(cells)]
    more = [f"{len(said) - _NAMED} more"] if len(said) > _NAMED else []
    return "; ".join([*said[:_NAMED], *more])


def empty(problem: Problem) -> str | None:
    """Return a sentence on the cells without a training face, or None; such cells teach nothing in any method."""
    none = counts(problem, problem.train) == 0
    if problem.degenerate or not none.any():
        return None
    return f"no training face, so nothing to balance, in {names(problem, none)}"


def left_out(problem: Problem) -> str | None:
    """Return a sentence that counts labelled training faces of unknown subgroup, which a drawn set cannot hold."""
    unknown = int(((problem.train.y >= 0) & (problem.train.g < 0)).sum())
    return f"{labelled_of_unknown(unknown)} not drawn" if unknown else None


def labelled_of_unknown(n: int) -> str:
    """Return "4 labelled training faces of unknown subgroup are"."""
    return plural(n, "labelled training face of unknown subgroup is", "labelled training faces of unknown subgroup are")
