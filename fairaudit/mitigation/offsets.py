"""Per-group offsets on log probabilities: thresholds of every class and subgroup, for any number of classes.

A face of subgroup g is given the class k with the largest log p_k + b[g, k]. The deterministic K-class counterpart of
Hardt, Price & Srebro, "Equality of opportunity in supervised learning", NeurIPS 2016. The offsets of a subgroup
maximise, on the fitting half of the validation faces,

    accuracy − μ · mean over classes of d(recall of the class, target of the class),

where the target is the mean recall over subgroups of the head as it is, and d is |recall − target| ("equal") or only
the shortfall max(0, target − recall) ("raise", which pulls no subgroup down for being better). Search: coordinate
ascent, one class after the other over a grid of offsets from −3 to 3 in steps of 0.1, until a round changes nothing;
of equal values the one nearest to 0. Candidates are μ = 0, 1 and 4 of both kinds and the head as it is, chosen on the
other half. A subgroup with few validation faces, or an unknown one, keeps the head's own decisions.
Group labels: validation; test (`group-offsets`), or training in place of test (`inferred-group-offsets`, which infers
a sensitive trait of every face and says how often it is right). Cost: one fit, or four, and the search.
"""

from dataclasses import replace

import numpy as np

from fairaudit.metrics.halves import halves
from fairaudit.mitigation.heads import fit_head
from fairaudit.mitigation.postprocessing import Start, decide, fitted_groups, start
from fairaudit.mitigation.problem import Fitted, Part, Problem

GRID = np.arange(-30, 31) / 10
ROUNDS = 20
FEWEST = 5  # faces of a subgroup × label cell whose recall counts
CANDIDATES = {
    "accuracy": ("raise", 0.0),
    "raise, 1": ("raise", 1.0),
    "raise, 4": ("raise", 4.0),
    "equal, 1": ("equal", 1.0),
    "equal, 4": ("equal", 4.0),
}


def group_offsets(problem: Problem) -> Fitted:
    """Return erm's head with offsets of each face's own subgroup, which it must be told at test time."""
    started = start(problem)
    made = {}
    for name, (kind, strength) in CANDIDATES.items():
        own = search_offsets(problem, started, kind, strength)
        offset = np.vstack([own, np.zeros(own.shape[1])])  # the last row is for unknown subgroups
        arrays = {**started.head.arrays, "slope": np.ones(len(offset)), "offset": offset}
        made[name] = Fitted(kind="group-adjusted", arrays=arrays, uses_group=True)
    return decide(started, made, "uses the subgroup of each face at test time")


def inferred_group_offsets(problem: Problem) -> Fitted:
    """Return erm's head with offsets averaged over a face's inferred probabilities of the subgroups."""
    started = start(problem)
    finder = subgroup_head(problem)
    arrays = {**started.head.arrays, **{f"group_{name}": values for name, values in finder.arrays.items()}}
    made = {}
    for name, (kind, strength) in CANDIDATES.items():
        offset = search_offsets(problem, started, kind, strength)
        made[name] = Fitted(kind="inferred-adjusted", arrays={**arrays, "offset": offset})
    right, n = found_subgroups(problem)
    said = (
        f"infers the subgroup of each face, an inference of a sensitive trait in itself, and finds that of {right} of "
        f"{n} validation faces, whose halves chose each other's epoch"
    )
    return decide(started, made, said)


def found_subgroups(problem: Problem) -> tuple[int, int]:
    """Return of how many validation faces the subgroup is found, and how many have one.

    The finder trains on training faces, but its epoch is chosen on validation faces, which would flatter it there: so
    each half of these is asked of a finder whose epoch the other half chose.
    """
    rows = np.flatnonzero(problem.val.g >= 0)
    first = halves(np.arange(len(rows)), problem.val.g[rows], (problem.seed, 4))
    right = 0
    for chooses, asked in ((first, ~first), (~first, first)):
        own, other = rows[chooses], rows[asked]
        if len(other):
            part = Part(x=problem.val.x[own], y=problem.val.y[own], g=problem.val.g[own])
            labels = subgroup_head(replace(problem, val=part)).predict(problem.val.x[other]).labels
            right += int((labels == problem.val.g[other]).sum())
    return right, len(rows)


def subgroup_head(problem: Problem) -> Fitted:
    """Return a head that tells the subgroup from the embedding, trained as `erm` trains a task."""
    train, val = (Part(x=part.x, y=part.g, g=part.g) for part in (problem.train, problem.val))
    asked = replace(problem, task=problem.by, classes=problem.groups, train=train, val=val)
    return fit_head(asked, select="overall")


def search_offsets(problem: Problem, started: Start, kind: str, strength: float) -> np.ndarray:
    """Return offsets (G, K), each row of mean 0, found on the fitting half; 0 for a subgroup with few faces there."""
    shape = (len(problem.groups), len(problem.classes))
    right = started.log_p.argmax(1) == started.y
    recall = np.full(shape, np.nan)
    for g, k in np.ndindex(*shape):
        rows = (started.g == g) & (started.y == k)
        if rows.sum() >= FEWEST:
            recall[g, k] = right[rows].mean()
    there = ~np.isnan(recall)
    target = np.where(there, recall, 0).sum(0) / np.maximum(there.sum(0), 1)
    offset = np.zeros(shape)
    for g in fitted_groups(problem, started.g):
        rows = started.g == g
        found = _ascend(started.log_p[rows], started.y[rows], np.where(there[g], target, np.nan), kind, strength)
        offset[g] = found - found.mean()
    return offset


def _ascend(log_p: np.ndarray, y: np.ndarray, target: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """Return the offsets (K,) of one subgroup's faces by coordinate ascent; classes of target NaN are not equalised."""
    classes = log_p.shape[1]
    offset = np.zeros(classes)
    for _ in range(ROUNDS):
        before = offset.copy()
        for k in range(classes):
            moved = log_p + offset
            moved[:, k] = -np.inf
            other, rival = moved.max(1), moved.argmax(1)
            labels = np.where(log_p[:, k] + GRID[:, None] > other, k, rival)
            value = objective(labels == y, y, target, kind, strength)
            best = np.flatnonzero(value >= value.max() - 1e-12)
            offset[k] = GRID[best[np.argmin(np.abs(GRID[best]))]]
        if (offset == before).all():
            break
    return offset


def objective(right: np.ndarray, y: np.ndarray, target: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """Return accuracy − strength · mean distance of the recalls to `target` (K,), for each row of `right` (R, n)."""
    value = np.asarray(right.mean(1))
    counted = np.flatnonzero(~np.isnan(target))
    if not strength or not len(counted):
        return value
    member = y[:, None] == counted
    recall = right @ (member / member.sum(0))
    apart = recall - target[counted]
    return value - strength * (np.abs(apart) if kind == "equal" else np.maximum(-apart, 0)).mean(1)
