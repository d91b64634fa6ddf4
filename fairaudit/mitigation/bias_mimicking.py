"""Bias mimicking: each class is told from the others on a set in which these mimic its mix of subgroups.

Source: Qraitem, Saenko & Plummer, "Bias mimicking: a simple sampling approach for bias mitigation", CVPR 2023. For a
class c, the set d_c keeps every face of c, and of any other class as many as can be had with P(g | c′) = P(g | c):
within d_c label and subgroup are independent. One binary output a class is trained on its d_c, drawn anew each epoch.
Two departures, because the embeddings are given: the paper trains the network by the binary outputs and puts a softmax
layer trained with balanced cells on top, which on fixed embeddings would be joint balancing itself, so the binary
outputs decide here; and each class of d_c is weighted back to its number of faces (up to `settings.cap`), without
which the outputs would assume different shares of the classes.
Group labels: training (validation, too, to choose the epoch by worst subgroup); none at test time. Cost: one fit.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairaudit.mitigation import cells
from fairaudit.mitigation.heads import fit_head, shuffled
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.wording import plural

FEW = 10  # faces of a class in another's set, below which that output learns little


def bias_mimicking(problem: Problem) -> Fitted:
    """Return the head whose output for each class was trained where the other classes mimic that class's subgroups."""
    y = torch.from_numpy(problem.train.y)
    table, groups = _usable(problem)
    rows = cells.known(problem.train)
    rows = rows[groups[problem.train.g[rows]]]
    weights = np.zeros((len(y), len(problem.classes)), dtype=np.float32)

    def batches(rng: np.random.Generator) -> Iterable[np.ndarray]:
        weights[:] = 0
        for c in np.flatnonzero(table.sum(0)).tolist():
            quotas = mimicking_quotas(table, c)
            back = np.minimum(table.sum(0) / np.maximum(quotas.sum(0), 1), problem.settings.cap)
            drawn = _draw(problem, rows, quotas, rng)
            weights[drawn, c] = back[problem.train.y[drawn]]
        return shuffled(problem, rows)(rng)

    def loss(logits: Tensor, batch: np.ndarray) -> Tensor:
        target = F.one_hot(y[torch.from_numpy(batch)], len(problem.classes)).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (each * torch.from_numpy(weights[batch])).sum(1).mean()

    def finish(arrays: dict[str, np.ndarray]) -> Fitted:
        # an output that no face trained would answer one half, and might win
        arrays["bias"] = np.where(table.any(0), arrays["bias"], np.float32(-1e4))
        return Fitted(kind="one-vs-rest", arrays=arrays)

    fitted = fit_head(problem, loss=loss, batches=batches, finish=finish)
    kept = [int(mimicking_quotas(table, c).sum()) for c in np.flatnonzero(table.sum(0)).tolist()]
    said = f"an epoch trains the outputs on {min(kept)} to {max(kept)} of {plural(len(rows), 'face')}"
    return replace(fitted, notes=(*fitted.notes, said, *mimicking_cautions(problem)))


def mimicking_quotas(table: np.ndarray, c: int) -> np.ndarray:
    """Return how many faces of each cell, int (G, K), the set of class `c` takes of `table` (G, K), all cells > 0.

    Class c gives all it has; another class as many as it can in the proportions of c, rounded down but at least one
    face a cell (as the paper's own code does).
    """
    own = table[:, c]
    quotas = np.zeros_like(table)
    inside = own > 0
    for other in np.flatnonzero(table.sum(0)):
        tight = np.flatnonzero(inside)[np.argmin(table[inside, other] / own[inside])]
        # whole numbers: a proportion that divides evenly must not be rounded down by floating point
        quotas[:, other] = own * table[tight, other] // own[tight]
        quotas[inside, other] = np.maximum(quotas[inside, other], 1)
    return quotas


def no_common_subgroups(problem: Problem) -> str | None:
    """Return why the method cannot run: fewer than two subgroups with training faces of every class, or None."""
    _, groups = _usable(problem)
    if groups.sum() >= 2:
        return None
    full = cells.counts(problem, problem.train)
    none = (full == 0) & (full.sum(0) > 0)
    return (
        f"bias-mimicking needs two subgroups with training faces of every class of {problem.task}, and "
        f"{'only ' + problem.groups[int(np.argmax(groups))] if groups.any() else 'no subgroup'} has them (none of "
        f"{cells.names(problem, none)}). Choose a coarser axis, or joint-balancing, which allows empty cells"
    )


def mimicking_cautions(problem: Problem) -> tuple[str, ...]:
    """Return sentences on subgroups that cannot be mimicked, faces that cannot be drawn, and classes with few left."""
    full = cells.counts(problem, problem.train)
    table, groups = _usable(problem)
    lacking = full.sum(1).astype(bool) & ~groups
    without = None
    if lacking.any():
        named = ", ".join(problem.groups[g] for g in np.flatnonzero(lacking))
        lost, of = int(full[lacking].sum()), "of subgroups that lack a class"
        without = plural(lost, f"training face {of} is not drawn", f"training faces {of} are not drawn") + f" ({named})"
    classes = np.flatnonzero(table.sum(0)).tolist()
    fewest = {(c, k): int(mimicking_quotas(table, c)[:, k].sum()) for c in classes for k in classes if c != k}
    small = None
    if fewest and min(fewest.values()) < FEW:
        (c, k), left = min(fewest.items(), key=lambda item: item[1])
        small = (
            f"only {plural(left, 'face')} labelled {problem.classes[k]} can mimic the subgroups of "
            f"{problem.classes[c]}, so that "
            "output learns little of them; a coarser axis leaves more"
        )
    return tuple(sentence for sentence in (without, small, cells.left_out(problem)) if sentence)


def _usable(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the table of faces (G, K) with 0 for subgroups that lack a class, and which subgroups lack none."""
    table = cells.counts(problem, problem.train)
    groups = (table[:, table.sum(0) > 0] > 0).all(1) & (table.sum(1) > 0)
    return np.where(groups[:, None], table, 0), groups


def _draw(problem: Problem, rows: np.ndarray, quotas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random draw of `rows` with `quotas` faces of each cell: the first of each in a random order."""
    mixed = rng.permutation(rows)
    packed = problem.train.g[mixed] * quotas.shape[1] + problem.train.y[mixed]
    order = np.argsort(packed, kind="stable")
    first = np.searchsorted(packed[order], packed[order])
    return mixed[order[np.arange(len(order)) - first < quotas.ravel()[packed[order]]]]
