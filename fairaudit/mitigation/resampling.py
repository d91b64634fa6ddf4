"""Balanced sampling: every subgroup × label cell that has faces is drawn equally often, by dropping or by repeating.

Source: Idrissi et al., "Simple data balancing achieves competitive worst-group-accuracy", CLeaR 2022 (SUBG and RWG).
Group labels: training (validation, too, to choose the epoch by worst subgroup); none at test time. Cost: one fit,
cheaper where faces are dropped. Faces of unknown subgroup are not drawn; a note counts them.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fairaudit.mitigation import cells
from fairaudit.mitigation.heads import FEWEST_STEPS, fit_head, shuffled
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.wording import plural

FEW = 20  # faces of a cell, below which an undersampled set is called small


def undersampling(problem: Problem) -> Fitted:
    """Return the head trained on a fixed random subset in which every cell has as many faces as the smallest one."""
    rows = undersampled(problem)
    # a small subset is gone through several times an epoch: else a head would hardly move before training ends
    passes = -(-FEWEST_STEPS * 32 // len(rows))
    fitted = fit_head(problem, batches=shuffled(problem, np.tile(rows, passes)))
    labelled = plural(int((problem.train.y >= 0).sum()), "labelled face")
    said = f"trained on {len(rows)} of {labelled}, the same ones in every epoch"
    return replace(fitted, notes=(*fitted.notes, said, *sampling_cautions(problem)))


def oversampling(problem: Problem) -> Fitted:
    """Return the head trained on balanced draws: faces of rare cells repeat, of frequent cells some wait for an epoch.

    An epoch is as long as without sampling; in expectation it is the same as repeating every cell up to the largest.
    """

    def batches(rng: np.random.Generator) -> Iterable[np.ndarray]:
        return shuffled(problem, balanced_draws(problem, rng))(rng)

    fitted = fit_head(problem, batches=batches)
    table = cells.counts(problem, problem.train)
    smallest = table[table > 0].min()
    said = f"a face of the smallest cell is drawn {draws_per_cell(problem) / smallest:.3g} times an epoch"
    return replace(fitted, notes=(*fitted.notes, said, *sampling_cautions(problem, dropping=False)))


def undersampled(problem: Problem) -> np.ndarray:
    """Return the rows of a random subset with equally many faces in every cell that has any; the seed decides which."""
    rng = np.random.default_rng([problem.seed, 2])
    members = _members(problem)
    size = min(len(rows) for rows in members)
    return np.sort(np.concatenate([rng.choice(rows, size, replace=False) for rows in members]))


def balanced_draws(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """Return an epoch's rows: equally many of every cell, each face of a cell equally often, give or take 1."""
    quota = draws_per_cell(problem)
    drawn = []
    for rows in _members(problem):
        whole, rest = divmod(quota, len(rows))
        drawn += [np.tile(rows, whole), rng.choice(rows, rest, replace=False)]
    return np.concatenate(drawn)


def draws_per_cell(problem: Problem) -> int:
    """Return how often an epoch of balanced draws takes a face of each cell: all cells together make one epoch."""
    table = cells.counts(problem, problem.train)
    return int(np.ceil(table.sum() / (table > 0).sum()))


def sampling_cautions(problem: Problem, dropping: bool = True) -> tuple[str, ...]:
    """Return sentences on cells without a face, faces that cannot be drawn and, where faces are dropped, small sets."""
    table = cells.counts(problem, problem.train)
    smallest = int(table[table > 0].min())
    small = None
    if dropping and smallest < FEW:
        small = (
            f"the smallest cell ({cells.names(problem, table == smallest)}) has "
            f"{plural(smallest, 'training face')}, so that "
            f"undersampling keeps {smallest * (table > 0).sum()} of {table.sum()}; a coarser axis keeps more"
        )
    said = (small, cells.empty(problem), cells.left_out(problem))
    return tuple(sentence for sentence in said if sentence)


def _members(problem: Problem) -> list[np.ndarray]:
    """Return the rows of each cell that has faces."""
    rows = cells.known(problem.train)
    packed = problem.train.g[rows] * len(problem.classes) + problem.train.y[rows]
    order = np.argsort(packed, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(packed[order])) + 1)
