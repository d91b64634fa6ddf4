"""Logit-adjusted losses: a head learns to add to the logs of the class shares, which are left out of its answers.

Source: Menon, Jayasumana, Rawat, Jain, Veit & Kumar, "Long-tail learning via logit adjustment", ICLR 2021: the loss is
cross-entropy of logits + τ · log π of the class shares π; without them the head decides as if classes were equally
frequent (τ = 1). The group-wise variant takes the shares within the face's own subgroup, π of y given g: the head
learns nothing of how subgroups differ in their labels, as with reweighing but without weights; it is the additive part
of the vector-scaling loss by group of Kini, Paraskevas, Oymak & Thrampoulidis, "Label-imbalanced and group-sensitive
classification under overparameterization", NeurIPS 2021.
A class without a face counts as half of one. τ is chosen on validation faces.
Group labels: validation (group-wise: training, too; a face of unknown subgroup gets the shares of all); none at test
time. Cost: three fits.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import choose
from fairaudit.mitigation.heads import Loss, fit_head
from fairaudit.mitigation.problem import Fitted, Problem

TAUS = (0.5, 1.0, 1.5)


def logit_adjusted(problem: Problem) -> Fitted:
    """Return the head trained with logits adjusted by the shares of the classes."""
    return _fit(problem, np.tile(log_shares(_classes(problem)), (len(problem.train), 1)))


def group_logit_adjusted(problem: Problem) -> Fitted:
    """Return the head trained with logits adjusted by the shares of the classes within each face's subgroup."""
    table = np.vstack([cells.counts(problem, problem.train), _classes(problem)])
    fitted = _fit(problem, log_shares(table)[problem.train.g])  # −1, unknown, takes the last row: all faces
    empty = cells.empty(problem)
    return replace(fitted, notes=(*fitted.notes, empty)) if empty else fitted


def log_shares(n: np.ndarray) -> np.ndarray:
    """Return the log of each class's share (…, K) of the counts `n` (…, K); a class without a face is half a one."""
    held = np.maximum(np.asarray(n, dtype=np.float64), 0.5)
    return np.asarray(np.log(held / held.sum(-1, keepdims=True)))


def adjusted_cross_entropy(problem: Problem, added: np.ndarray) -> Loss:
    """Return the mean cross-entropy of logits + `added` (n, K), a row a training face."""
    y, offset = torch.from_numpy(problem.train.y), torch.from_numpy(np.asarray(added, dtype=np.float32))

    def loss(logits: Tensor, rows: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(rows)
        return F.cross_entropy(logits + offset[chosen], y[chosen])

    return loss


def _fit(problem: Problem, added: np.ndarray) -> Fitted:
    candidates: Mapping[str, Fitted] = {
        f"tau {tau:g}": fit_head(problem, loss=adjusted_cross_entropy(problem, tau * added)) for tau in TAUS
    }
    return choose(problem, candidates)


def _classes(problem: Problem) -> np.ndarray:
    return np.bincount(problem.train.y[problem.train.y >= 0], minlength=len(problem.classes))
