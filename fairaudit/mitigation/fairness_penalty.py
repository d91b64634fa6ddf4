"""A penalty on differences of recall: every subgroup's faces of a label shall get the same mean probability of it.

Criterion: for each class k, the soft recall R(g, k), which is the mean probability of k over faces of subgroup g
labelled k, shall not depend on g: equal opportunity for every class; for two classes that is equalized odds.
Source: the squared-difference penaliser of Bechavod & Ligett, "Penalizing unfairness in binary classification", 2017
(arXiv:1707.00044), here over all subgroups and classes: loss = cross-entropy + λ · mean over cells of (R(g, k) − mean
over g of R(g, k))². A batch has few faces of a cell, and chance alone makes squared differences of noisy means: their
expected share is subtracted, so that the penalty is unbiased (it may be negative in a batch). A cell with fewer than
two faces in a batch takes no part in it. λ is chosen on validation faces.
Group labels: training and validation; none at test time. Cost: three fits.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import choose
from fairaudit.mitigation.heads import Loss, fit_head
from fairaudit.mitigation.problem import Fitted, Problem

LAMBDAS = (1.0, 10.0, 100.0)


def fairness_penalty(problem: Problem) -> Fitted:
    """Return the head trained with the penalty whose weight λ the validation faces prefer."""
    candidates = {f"lambda {weight:g}": fit_head(problem, loss=penalised(problem, weight)) for weight in LAMBDAS}
    chosen = choose(problem, candidates)
    empty = cells.empty(problem)
    return replace(chosen, notes=(*chosen.notes, empty)) if empty else chosen


def penalised(problem: Problem, weight: float) -> Loss:
    """Return cross-entropy + `weight` × the penalty on a batch; faces of unknown subgroup are in the first only."""
    y, g = torch.from_numpy(problem.train.y), torch.from_numpy(problem.train.g)
    shape = (len(problem.groups), len(problem.classes))

    def loss(logits: Tensor, rows: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(rows)
        fit = F.cross_entropy(logits, y[chosen])
        return fit + weight * recall_differences(logits.softmax(1), y[chosen], g[chosen], shape)

    return loss


def recall_differences(probabilities: Tensor, y: Tensor, g: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the mean over cells of squared differences of soft recalls from the class's mean, less what chance makes.

    `probabilities` (N, K), `y` (N,) label codes ≥ 0, `g` (N,) subgroup codes with −1 for unknown, `shape` (G, K).
    0 where no class has two subgroups with two faces each.
    """
    known = g >= 0
    own = probabilities[known, y[known]]
    cell = g[known] * shape[1] + y[known]
    zeros = own.new_zeros(shape[0] * shape[1])
    n = torch.bincount(cell, minlength=len(zeros)).to(own.dtype)
    means = zeros.index_add(0, cell, own) / n.clamp(min=1)
    squares = zeros.index_add(0, cell, (own - means[cell]) ** 2)
    chance = (squares / (n - 1).clamp(min=1) / n.clamp(min=1)).view(shape)
    there = (n >= 2).view(shape)
    there = there & (there.sum(0) >= 2)
    if not there.any():
        return own.sum() * 0
    groups = there.sum(0).clamp(min=1)
    centre = (means.view(shape) * there).sum(0) / groups
    apart = (means.view(shape) - centre) ** 2 - chance * (1 - 1 / groups)
    return (apart * there).sum() / there.sum()
