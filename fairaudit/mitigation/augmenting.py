"""Group-aware augmentation: cells are drawn equally often, and a face that is drawn again comes as an augmented view.

Source: the sampling is that of Idrissi et al. (CLeaR 2022); augmenting the repeats in place of copying them is common
advice for imbalanced image sets (Shorten & Khoshgoftaar, Journal of Big Data 6, 2019). The rarer a subgroup × label
cell, the more of its draws are augmented; a cell with as many faces as draws is never augmented.
Group labels: training (validation, too, to choose the epoch by worst subgroup); none at test time. Cost: one fit, and
an embedding of every training face for each view.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fairaudit.mitigation import cells
from fairaudit.mitigation.heads import fit_head, shuffled
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.mitigation.resampling import balanced_draws, draws_per_cell, sampling_cautions


def group_aware_augmentation(problem: Problem) -> Fitted:
    """Return the head trained on balanced draws whose repeats are augmented views; needs `problem.train.views`."""
    chance = augmented_share(problem)
    own, others = problem.train.x, problem.train.views

    def batches(rng: np.random.Generator) -> Iterable[np.ndarray]:
        return shuffled(problem, balanced_draws(problem, rng))(rng)

    def views(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        taken = own[rows].copy()
        which = np.where(rng.random(len(rows)) < chance[rows], rng.integers(len(others), size=len(rows)), -1)
        for number, view in enumerate(others):
            taken[which == number] = view[rows[which == number]]
        return taken

    fitted = fit_head(problem, batches=batches, views=views)
    highest = chance[cells.known(problem.train)].max()
    said = f"up to {highest:.0%} of a cell's draws are augmented views, of which there are {len(others)} a face"
    return replace(fitted, notes=(*fitted.notes, said, *sampling_cautions(problem, dropping=False)))


def augmented_share(problem: Problem) -> np.ndarray:
    """Return for each training face (n,) the share of its draws that are views: 1 − faces of its cell / draws, ≥ 0.

    0 for faces that are never drawn.
    """
    table = cells.counts(problem, problem.train)
    rows = cells.known(problem.train)
    share = np.zeros(len(problem.train))
    share[rows] = np.maximum(0, 1 - table[problem.train.g[rows], problem.train.y[rows]] / draws_per_cell(problem))
    return share


def no_views(problem: Problem) -> str | None:
    """Return why the method cannot run: no embeddings of augmented versions of the training faces."""
    if problem.train.views:
        return None
    return (
        "group-aware-augmentation needs embeddings of augmented versions of the training faces, and there are none: "
        "embed the faces with views, or choose oversampling, which repeats the faces as they are"
    )
