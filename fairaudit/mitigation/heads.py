"""Train one softmax head on embeddings with AdamW; the epoch is chosen on the validation faces."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.mitigation.choosing import best_epoch
from fairaudit.mitigation.problem import Fitted, Part, Problem

Loss = Callable[[Tensor, np.ndarray], Tensor]
"""(logits (N, K), rows of the training part (N,)) → the batch's loss, a scalar."""
Batches = Callable[[np.random.Generator], Iterable[np.ndarray]]
"""An epoch's batches of rows of the training part; rows may repeat."""

FEWEST_STEPS = 16  # of an epoch, down to batches of 32
NEVER = -1e4  # the bias of a class without a training face: it is never answered


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
    `finish`, which makes the Fitted of the arrays: weight (outputs, d), bias (outputs,), before them hidden_weight and
    hidden_bias where the head has a hidden layer, all for embeddings as they come. The same seed gives the same head.
    """
    settings = problem.settings
    loss = loss or weighted_cross_entropy(problem)
    batches = batches or shuffled(problem)
    how = select or settings.select
    mean, scale, x = standardised(problem.train)
    rng = np.random.default_rng([problem.seed, 1])
    decay = settings.weight_decay if weight_decay is None else weight_decay
    absent = np.bincount(problem.train.y[problem.train.y >= 0], minlength=len(problem.classes)) == 0
    seen: list[Fitted] = []
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(problem.seed)
        net = _network(problem, outputs or len(problem.classes))
        optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=decay, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
        for _ in range(settings.epochs):
            net.train()
            for rows in batches(rng):
                own = x[torch.from_numpy(rows)] if views is None else _scaled(views(rows, rng), mean, scale)
                value = loss(net(own), rows)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                optimizer.step()
            schedule.step()
            arrays = _arrays(net, mean, scale)
            if outputs is None:
                arrays["bias"][absent] = NEVER
            seen.append(finish(arrays) if finish else Fitted(kind="softmax", arrays=arrays))
    return best_epoch(problem, seen, how)


def _network(problem: Problem, outputs: int) -> nn.Sequential:
    """Return a linear head, behind a hidden layer (ReLU, dropout) where the settings ask for one."""
    layers: list[nn.Module] = []
    width, hidden = problem.train.x.shape[1], problem.settings.hidden
    if hidden:
        layers, width = [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(problem.settings.dropout)], hidden
    head = nn.Linear(width, outputs)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, head)


_STANDARDISED: WeakKeyDictionary[Part, tuple[np.ndarray, np.ndarray, Tensor]] = WeakKeyDictionary()


def standardised(part: Part) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Return the mean (d,) and scale (d,) of the embeddings and the standardised embeddings (n, d).

    Kept as long as the part lives: every method, candidate and seed trains on the same faces.
    """
    if part not in _STANDARDISED:
        mean, scale = part.x.mean(0), part.x.std(0)
        # a coordinate that hardly moves says nothing: divided by next to nothing it would only magnify rounding
        scale = np.where(scale > 1e-6 + 1e-4 * np.abs(mean), scale, np.float32(1))
        _STANDARDISED[part] = mean, scale, _scaled(part.x, mean, scale)
    return _STANDARDISED[part]


def _scaled(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    z = x - mean
    z /= scale
    return torch.from_numpy(z)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: a batch of a head is too small to be shared, and threads only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _arrays(net: nn.Sequential, mean: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Return copies of the net's weights, with the standardising folded into the first layer."""
    weights = [values.detach().numpy().astype(np.float64) for values in net.parameters()]
    weights[0] = weights[0] / scale
    weights[1] = weights[1] - weights[0] @ mean
    names = ("hidden_weight", "hidden_bias", "weight", "bias")[-len(weights) :]
    return {name: values.astype(np.float32) for name, values in zip(names, weights, strict=True)}
