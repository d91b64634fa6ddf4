"""Train one softmax head on embeddings with AdamW; the epoch is chosen on the validation faces."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.mitigation.choosing import score
from fairaudit.mitigation.problem import Fitted, Problem

Loss = Callable[[Tensor, np.ndarray], Tensor]
"""(logits (N, K), rows of the training part (N,)) → the batch's loss, a scalar."""
Batches = Callable[[np.random.Generator], Iterable[np.ndarray]]
"""An epoch's batches of rows of the training part; rows may repeat."""


FEWEST_STEPS = 16  # of an epoch, down to batches of 32


def shuffled(problem: Problem, rows: np.ndarray | None = None) -> Batches:
    """Return batches of all labelled training faces (or of `rows`), in a new order each epoch."""
    known = np.flatnonzero(problem.train.y >= 0) if rows is None else rows

    def batches(rng: np.random.Generator) -> Iterable[np.ndarray]:
        order = rng.permutation(known)
        # few faces get smaller batches: an epoch of two steps would teach next to nothing
        size = min(problem.settings.batch_size, max(32, len(known) // FEWEST_STEPS))
        return (order[a : a + size] for a in range(0, len(order), size))

    return batches


def weighted_cross_entropy(problem: Problem, weights: np.ndarray | None = None) -> Loss:
    """Return the mean over a batch of weight × cross-entropy; `weights` (n,) default to 1."""
    y = torch.from_numpy(problem.train.y)
    w = None if weights is None else torch.from_numpy(np.asarray(weights, dtype=np.float32))

    def loss(logits: Tensor, rows: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(rows)
        each = F.cross_entropy(logits, y[chosen], reduction="none")
        return each.mean() if w is None else (each * w[chosen]).mean()

    return loss


def fit_head(
    problem: Problem,
    *,
    loss: Loss | None = None,
    batches: Batches | None = None,
    views: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    outputs: int | None = None,
    select: str | None = None,
    weight_decay: float | None = None,
    finish: Callable[[dict[str, np.ndarray]], Fitted] | None = None,
) -> Fitted:
    """Return a softmax head trained on `problem.train`, of the epoch that scores best on `problem.val`.

    `loss` defaults to cross-entropy, `batches` to all labelled faces shuffled. `views(rows, rng)` returns the
    embeddings (N, d) of a batch where they are not the faces' own. `outputs` logits instead of one a class need a
    `finish`, which makes the Fitted of the arrays. The same seed gives the same head.
    """
    settings = problem.settings
    loss = loss or weighted_cross_entropy(problem)
    batches = batches or shuffled(problem)
    x = problem.train.x
    mean = x.mean(0)
    scale = np.maximum(x.std(0), 1e-6)
    rng = np.random.default_rng([problem.seed, 1])
    torch.manual_seed(problem.seed)
    layers: list[nn.Module] = []
    width = x.shape[1]
    if settings.hidden:
        layers, width = [nn.Linear(width, settings.hidden), nn.ReLU(), nn.Dropout(settings.dropout)], settings.hidden
    head = nn.Linear(width, outputs or len(problem.classes))
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    net = nn.Sequential(*layers, head)
    decay = settings.weight_decay if weight_decay is None else weight_decay
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    best: tuple[float, ...] | None = None
    kept: Fitted | None = None
    for _ in range(settings.epochs):
        net.train()
        for rows in batches(rng):
            own = x[rows] if views is None else views(rows, rng)
            value = loss(net(torch.from_numpy((own - mean) / scale)), rows)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        schedule.step()
        arrays = _arrays(net, mean, scale)
        fitted = finish(arrays) if finish else Fitted(kind="softmax", arrays=arrays)
        reached = score(problem, fitted, select or settings.select)
        if best is None or reached > best:
            best, kept = reached, fitted
    assert kept is not None
    return kept


def _arrays(net: nn.Sequential, mean: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    def own(values: Any) -> np.ndarray:
        return np.asarray(values.detach().numpy().copy())

    arrays = {"mean": mean, "scale": scale, "weight": own(net[-1].weight), "bias": own(net[-1].bias)}
    if len(net) > 1:
        arrays |= {"hidden_weight": own(net[0].weight), "hidden_bias": own(net[0].bias)}
    return arrays
