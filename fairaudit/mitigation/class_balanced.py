"""Class-balanced loss: a class weighs by the inverse of its effective number of faces.

Source: Cui, Jia, Lin, Song & Belongie, "Class-balanced loss based on effective number of samples", CVPR 2019: the
weight of class y is (1 − β) / (1 − βⁿ) for its n training faces, scaled to a mean of 1 over classes; β = 0 weighs all
alike, β → 1 is the inverse of the frequency. The loss is cross-entropy; no face weighs more than `settings.cap` times
the mean face. β is chosen on validation faces.
Group labels: validation only; none at training and test time. Cost: four fits.
"""

from dataclasses import replace

import numpy as np

from fairaudit.mitigation.choosing import choose
from fairaudit.mitigation.heads import fit_head, weighted_cross_entropy
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.mitigation.reweighing import capped

BETAS = (0.99, 0.999, 0.9999, 1.0)  # the paper's, but for 0.9, which weighs classes of 50 faces and more alike


def class_balanced(problem: Problem) -> Fitted:
    """Return the head trained with the class-balanced loss whose β the validation faces prefer."""
    labelled = problem.train.y >= 0
    y = problem.train.y[labelled]
    n = np.bincount(y, minlength=len(problem.classes))
    candidates = {}
    for beta in BETAS:
        weights = capped(effective_weights(n, beta)[y], labelled, problem.settings.cap)
        candidates[f"beta {beta:g}"] = fit_head(problem, loss=weighted_cross_entropy(problem, weights))
    chosen = choose(problem, candidates)
    share = n[n > 0] / n.sum()
    said = f"the classes have {share.min():.3g} to {share.max():.3g} of the labelled training faces"
    return replace(chosen, notes=(*chosen.notes, said))


def effective_weights(n: np.ndarray, beta: float) -> np.ndarray:
    """Return the weight of each class (K,) for its number of faces `n` (K,): mean 1 over classes that have any, else 0.

    `beta` in 0…1; 1 is the limit 1 / n.
    """
    n = np.asarray(n, dtype=np.float64)
    there = n > 0
    inverse = np.zeros(len(n))
    inverse[there] = 1 / n[there] if beta == 1 else (1 - beta) / (1 - beta ** n[there])
    return np.asarray(inverse * there.sum() / inverse.sum())
