"""GroupDRO: the loss of the worst subgroup × label cell is minimised, with strong regularisation and early stopping.

Source: Sagawa, Koh, Hashimoto & Liang, "Distributionally robust neural networks for group shifts", ICLR 2020: each
cell has a share q of the loss, q ← q · exp(step · (mean loss of the cell + C / √n of the cell)), scaled to sum to 1
(their algorithm 1 and generalisation adjustment C); cells are drawn equally often, held by `settings.cap`. The paper
finds that it helps only with strong regularisation or early stopping: the epoch is chosen on validation faces, and so
are the step and the regularisation.
Group labels: training and validation; none at test time. On an axis that determines the label the cells are the
classes. Faces of unknown subgroup keep their share of the loss as plain cross-entropy. Cost: four fits.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import choose
from fairaudit.mitigation.heads import Batches, fit_head, shuffled
from fairaudit.mitigation.problem import Fitted, Problem
from fairaudit.mitigation.reweighing import capped

STEPS = (0.01, 0.1)  # of q; the paper's 0.01, and ten times it, because a head sees few batches
REGULARISED = {"": (0.0, None), ", regularised": (1.0, 1.0)}  # the adjustment C and the weight decay of AdamW


class WorstCells:
    """The loss of one fit: keeps the share `q` of every subgroup × label cell that has training faces."""

    def __init__(self, problem: Problem, step: float, adjustment: float) -> None:
        """Start with equal shares; `step` is the step size of q, `adjustment` the paper's C."""
        self.y = torch.from_numpy(problem.train.y)
        codes, n = cell_codes(problem)
        labelled = problem.train.y >= 0
        self.cells = torch.from_numpy(codes)
        self.unknown = float((codes[labelled] < 0).mean())
        self.step = step
        self.extra = adjustment / torch.from_numpy(np.sqrt(n))
        self.q = torch.full((len(n),), 1 / len(n), dtype=torch.float64)

    def __call__(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Return Σ q · mean loss of each cell in the batch, after q moved by these losses."""
        chosen = torch.from_numpy(rows)
        each = F.cross_entropy(logits, self.y[chosen], reduction="none")
        own = self.cells[chosen]
        placed = own >= 0
        n = torch.bincount(own[placed], minlength=len(self.q))
        sums = torch.zeros(len(self.q)).index_add(0, own[placed], each[placed])
        means = sums / n.clamp(min=1)
        self._move(means.detach(), n > 0)
        worst = (self.q.to(means.dtype) * means).sum()
        if not self.unknown or placed.all():
            return worst
        return (1 - self.unknown) * worst + self.unknown * each[~placed].mean()

    def _move(self, means: Tensor, seen: Tensor) -> None:
        """Raise q of the cells that are in the batch by their losses, and scale it to sum to 1."""
        raised = self.q * torch.exp(self.step * (means + self.extra))
        self.q = torch.where(seen, raised, self.q)
        self.q = self.q / self.q.sum()


def group_dro(problem: Problem) -> Fitted:
    """Return the head of GroupDRO whose step size and regularisation the validation faces prefer."""
    chance = drawing_weights(problem)
    candidates, shares = {}, {}
    for step in STEPS:
        for name, (adjustment, decay) in REGULARISED.items():
            loss = WorstCells(problem, step, adjustment)
            key = f"step {step:g}{name}"
            candidates[key] = fit_head(problem, loss=loss, batches=drawn(problem, chance), weight_decay=decay)
            shares[key] = loss.q
    chosen = choose(problem, candidates)
    key = str(chosen.tried.loc[chosen.tried["chosen"], "candidate"].item())
    heaviest = int(shares[key].argmax())
    table = cells.counts(problem, problem.train)
    said = np.zeros(table.shape, dtype=bool)
    said.ravel()[np.flatnonzero(table.ravel())[heaviest]] = True
    notes = [f"at the end of training {cells.names(problem, said)} has {float(shares[key][heaviest]):.0%} of the loss"]
    notes += [sentence for sentence in (cells.empty(problem),) if sentence]
    return replace(chosen, notes=(*chosen.notes, *notes))


def cell_codes(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each training face, int (n,), −1 where it has none, and the faces of each, all > 0, (C,).

    Cells without a training face have no code.
    """
    table = cells.counts(problem, problem.train).ravel()
    number = np.cumsum(table > 0) - 1
    rows = cells.known(problem.train)
    codes = np.full(len(problem.train), -1, dtype=np.int64)
    codes[rows] = number[problem.train.g[rows] * len(problem.classes) + problem.train.y[rows]]
    return codes, table[table > 0]


def drawing_weights(problem: Problem) -> np.ndarray:
    """Return how often each training face (n,) is drawn, mean 1: cells alike, none above the cap, masked labels 0."""
    codes, n = cell_codes(problem)
    weights = capped(1 / n[codes[codes >= 0]], codes >= 0, problem.settings.cap)
    return np.where(problem.train.y >= 0, weights, 0)


def drawn(problem: Problem, weights: np.ndarray) -> Batches:
    """Return batches of an epoch as long as without drawing, each face drawn in proportion to `weights` (n,)."""
    share = weights / weights.sum()
    size = int((problem.train.y >= 0).sum())

    def batches(rng: np.random.Generator) -> Iterable[np.ndarray]:
        return shuffled(problem, rng.choice(len(share), size=size, p=share))(rng)

    return batches
