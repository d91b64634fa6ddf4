"""What methods share that adjust a trained head: its scores, and validation faces to fit on and others to choose by."""

from dataclasses import dataclass, replace

import numpy as np

from fairaudit.metrics.halves import halves
from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import SMALLEST, choose, no_odds
from fairaudit.mitigation.erm import erm
from fairaudit.mitigation.problem import Fitted, Part, Problem


@dataclass(frozen=True, kw_only=True)
class Start:
    """The unmitigated head, one half of the validation faces to fit an adjustment on, the other to choose by.

    `log_p` (m, K) are the head's log probabilities of the fitting half, `y` and `g` (m,) its labels and subgroups, all
    known. `rest` is the problem with the other half as its validation faces.
    """

    head: Fitted
    log_p: np.ndarray
    y: np.ndarray
    g: np.ndarray
    rest: Problem


def start(problem: Problem) -> Start:
    """Train the head of `erm` and halve the validation faces, every subgroup × label cell as evenly as it goes.

    The head is exactly that of `erm` with the same seed, so that the two differ by the adjustment alone; its epoch was
    chosen on all validation faces by log loss. Faces of unknown subgroup or label are in the choosing half.
    """
    first, rest = halved(problem)
    head = erm(problem)
    log_p = log_probabilities(head, problem.val.x[first])
    return Start(head=head, log_p=log_p, y=problem.val.y[first], g=problem.val.g[first], rest=rest)


def halved(problem: Problem) -> tuple[np.ndarray, Problem]:
    """Return the validation rows to fit on, and the problem whose validation faces are the others, to choose by."""
    rows = cells.known(problem.val)
    strata = problem.val.g[rows] * len(problem.classes) + problem.val.y[rows]
    first = rows[halves(np.arange(len(rows)), strata, (problem.seed, 3))]
    other = np.setdiff1d(np.arange(len(problem.val)), first)
    part = Part(x=problem.val.x[other], y=problem.val.y[other], g=problem.val.g[other])
    return first, replace(problem, val=part)


def log_probabilities(head: Fitted, x: np.ndarray) -> np.ndarray:
    """Return the head's log probabilities (n, K), none below log 1e-12."""
    return np.log(np.clip(head.predict(x).probabilities.astype(np.float64), 1e-12, None))


def decide(started: Start, candidates: dict[str, Fitted], *notes: str) -> Fitted:
    """Return the candidate that the choosing half prefers, the head as it is among them, and say how it was found."""
    chosen = choose(started.rest, {"as it is": _plain(started, candidates), **candidates})
    name = chosen.tried.loc[chosen.tried["chosen"], "candidate"].item()
    said = (
        f"erm's head, adjusted on {len(started.y)} validation faces; of {len(chosen.tried)} candidates {name!r} was "
        f"chosen on {int((started.rest.val.y >= 0).sum())} others"
    )
    return replace(chosen, notes=(said, *notes))


def _plain(started: Start, candidates: dict[str, Fitted]) -> Fitted:
    """Return the first candidate with its adjustment taken out: the same kind of head, deciding as the head does."""
    one = next(iter(candidates.values()))
    arrays = {**one.arrays, "offset": np.zeros_like(one.arrays["offset"])}
    if "slope" in arrays:
        arrays["slope"] = np.ones_like(arrays["slope"])
    return replace(one, arrays=arrays)


def fitted_groups(problem: Problem, g: np.ndarray) -> list[int]:
    """Return the codes of subgroups with at least `SMALLEST` faces among `g` (m,): others are not adjusted by them."""
    return [code for code in range(len(problem.groups)) if (g == code).sum() >= SMALLEST]


def too_few(problem: Problem) -> str | None:
    """Return why nothing can be fitted on one half of validation and chosen on the other, or None."""
    each = np.bincount(problem.val.g[cells.known(problem.val)], minlength=len(problem.groups))
    if not (each >= 2 * SMALLEST).any():
        return (
            f"no subgroup of {problem.by} has {2 * SMALLEST} labelled validation faces, half to fit on and half to "
            "choose by. Choose a coarser axis or a larger split.val"
        )
    return no_odds(halved(problem)[1], "the half of the validation faces to choose by")


def unadjusted(problem: Problem) -> tuple[str, ...]:
    """Return a sentence on subgroups with too few validation faces to be adjusted by their own, if there are any."""
    each = np.bincount(problem.val.g[cells.known(problem.val)], minlength=len(problem.groups))
    thin = [f"{problem.groups[code]} ({each[code]})" for code in np.flatnonzero(each < 2 * SMALLEST)]
    if not thin:
        return ()
    return (f"fewer than {2 * SMALLEST} labelled validation faces, so not adjusted by their own: {', '.join(thin)}",)
