"""Last-layer retraining: the last layer is trained anew on validation faces with equally many of every cell.

Source: Kirichenko, Izmailov & Wilson, "Last layer re-training is sufficient for robustness to spurious correlations",
ICLR 2023 (DFR): logistic regression on a random subset of the validation faces in which every subgroup × label cell
has as many as the smallest; weights of ten such fits are averaged. The embeddings are as they are; behind a hidden
layer, this is trained first as without mitigation, and the last layer alone is replaced. The penalty is on squared
weights, where the paper has absolute ones; its strength is chosen on validation faces.
What is chosen on is never trained on: the validation faces are split in halves by the seed, cell by cell; one trains,
the other chooses. Cells of fewer than `FEW` faces in the training half give what they have.
Group labels: validation only; none at training and test time. Cost: forty fits of a few hundred faces each, and one
fit more with a hidden layer.
"""

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import SMALLEST, choose, no_odds
from fairaudit.mitigation.heads import NEVER, fit_head
from fairaudit.mitigation.problem import Arrays, Fitted, Part, Problem, hidden

STRENGTHS = (0.1, 0.01, 0.001, 0.0001)  # scikit-learn's C: smaller is stronger
MEMBERS = 10
FEW = 10  # faces of a cell in the training half, below which it does not decide how many the others give


def last_layer_retraining(problem: Problem) -> Fitted:
    """Return the average of ten last layers, each fitted on another balanced subset of half of the validation faces."""
    half, other = halves(problem)
    rest = replace(problem, val=take(problem.val, other))
    base: Arrays = fit_head(rest, select="overall").arrays if problem.settings.hidden else {}
    below = {name: values for name, values in base.items() if name.startswith("hidden_")}
    x, y = hidden(below, problem.val.x), problem.val.y
    subsets = balanced_subsets(problem, half)
    candidates = {f"C {strength:g}": _average(x, y, subsets, strength, problem, below) for strength in STRENGTHS}
    chosen = choose(rest, candidates)
    notes = [
        f"{MEMBERS} last layers, each trained on {len(subsets[0])} of the {len(half)} faces of one half of the "
        f"validation faces; the {len(other)} others chose the strength of the penalty"
    ]
    return replace(chosen, notes=(*chosen.notes, *notes, *half_cautions(problem)))


def halves(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the validation rows to train on and those to choose by: each cell is halved at random by the seed.

    Faces without a label or with an unknown subgroup cannot be balanced and are among the others.
    """
    rng = np.random.default_rng([problem.seed, 4])
    rows = rng.permutation(cells.known(problem.val))
    packed = problem.val.g[rows] * len(problem.classes) + problem.val.y[rows]
    order = np.argsort(packed, kind="stable")
    place = np.arange(len(rows)) - np.searchsorted(packed[order], packed[order])
    half = np.sort(rows[order[place % 2 == 0]])
    return half, np.setdiff1d(np.arange(len(problem.val)), half)


def balanced_subsets(problem: Problem, half: np.ndarray) -> list[np.ndarray]:
    """Return `MEMBERS` random subsets of the validation rows `half`, with equally many faces of every cell."""
    rng = np.random.default_rng([problem.seed, 5])
    packed = problem.val.g[half] * len(problem.classes) + problem.val.y[half]
    members = [half[packed == cell] for cell in np.unique(packed)]
    sizes = np.array([len(rows) for rows in members])
    size = int(sizes[sizes >= FEW].min())
    return [
        np.concatenate([rng.choice(rows, min(size, len(rows)), replace=False) for rows in members])
        for _ in range(MEMBERS)
    ]


def take(part: Part, rows: np.ndarray) -> Part:
    """Return the faces `rows` of a part."""
    views = tuple(view[rows] for view in part.views)
    return Part(x=part.x[rows], y=part.y[rows], g=part.g[rows], views=views)


def too_few(problem: Problem) -> str | None:
    """Return why the validation faces cannot be halved: no cell, or one class only, has enough; or None."""
    half, other = halves(problem)
    table = cells.counts(problem, take(problem.val, half))
    left = take(problem.val, other)
    seen = np.bincount(left.g[cells.known(left)], minlength=1)
    if ((table >= FEW).any(0)).sum() >= 2 and seen.max() >= SMALLEST:
        return no_odds(replace(problem, val=left), "the half of the validation faces to choose by")
    return (
        f"last-layer-retraining trains on half of the validation faces and needs {2 * FEW} faces of a subgroup in two "
        f"classes of {problem.task} at least; there are {cells.counts(problem, problem.val).max(0).tolist()} in the "
        "largest subgroups of its classes. Choose a coarser axis or a larger split.val"
    )


def half_cautions(problem: Problem) -> tuple[str, ...]:
    """Return a sentence on cells with so few validation faces that they cannot be balanced, where there are any."""
    table = cells.counts(problem, take(problem.val, halves(problem)[0]))
    small = table < FEW
    if problem.degenerate:
        small &= cells.counts(problem, problem.train) > 0
    if not small.any():
        return ()
    return (f"fewer than {FEW} validation faces to train the last layer on in {cells.names(problem, small)}",)


def _average(
    x: np.ndarray, y: np.ndarray, subsets: list[np.ndarray], strength: float, problem: Problem, below: Arrays
) -> Fitted:
    """Return the head whose weights are the mean of the members', with the standardising folded in."""
    used = np.unique(np.concatenate(subsets))
    mean, scale = x[used].mean(0), x[used].std(0)
    scale = np.where(scale > 1e-6 + 1e-4 * np.abs(mean), scale, 1)
    weight = np.zeros((len(problem.classes), x.shape[1]))
    bias = np.zeros(len(problem.classes))
    for rows in subsets:
        fitted = LogisticRegression(C=strength, max_iter=500).fit((x[rows].astype(np.float64) - mean) / scale, y[rows])
        own, shift = fitted.coef_, fitted.intercept_
        if len(fitted.classes_) == 2:  # one row for the second class, against nothing for the first
            own, shift = np.vstack([0 * own, own]), np.array([0.0, shift[0]])
        weight[fitted.classes_] += own / len(subsets)
        bias[fitted.classes_] += shift / len(subsets)
    weight = weight / scale
    bias = np.where(np.isin(np.arange(len(bias)), y[used]), bias - weight @ mean, NEVER)
    arrays = {**below, "weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return Fitted(kind="softmax", arrays=arrays)
