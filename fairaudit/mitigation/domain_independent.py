"""Domain-independent heads: a head a subgroup on the same embeddings, whose answers are joined without the subgroup.

Source: Wang, Qinami, Karakozis, Genova, Nair, Hata & Russakovsky, "Towards fairness in visual recognition: effective
strategies for bias mitigation", CVPR 2020 (domain-independent training). Each face trains the head of its own
subgroup, so none learns to use the subgroup as a cue; at test time the heads' logits or their probabilities are
averaged: both are candidates, and the validation faces choose. A face of unknown subgroup trains the average of all.
A head never learns of a class that its subgroup lacks and abstains there; heads of fewer than `FEW` faces are left out
of the average, unless all are.
Group labels: training (validation, too, to choose by worst subgroup); none at test time. Cost: two fits.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import choose
from fairaudit.mitigation.heads import NEVER, fit_head
from fairaudit.mitigation.problem import Fitted, Problem

FEW = 10  # labelled training faces of a subgroup, below which its head is left out


def domain_independent(problem: Problem) -> Fitted:
    """Return a head a subgroup, joined by logits or by probabilities as the validation faces prefer."""
    has, used = known_classes(problem)
    shape = (len(problem.groups), len(problem.classes))

    def apart(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**arrays, "weight": arrays["weight"].reshape(*shape, -1), "bias": arrays["bias"].reshape(shape)}

    def by_logits(arrays: dict[str, np.ndarray]) -> Fitted:
        own = apart(arrays)
        share = np.where(used[:, None], has, False)
        share = share / np.maximum(share.sum(0), 1)
        joined = {name: np.einsum("gk,gk...->k...", share, own[name]) for name in ("weight", "bias")}
        # a class that no subgroup has is never answered
        joined["bias"] = np.where(has.any(0), joined["bias"], NEVER)
        return Fitted(kind="softmax", arrays={**own, **{k: v.astype(np.float32) for k, v in joined.items()}})

    def by_probabilities(arrays: dict[str, np.ndarray]) -> Fitted:
        return Fitted(kind="mixture", arrays={**apart(arrays), "has": has & used[:, None]})

    candidates = {
        f"joined by {name}": fit_head(problem, loss=OwnHead(problem), outputs=shape[0] * shape[1], finish=finish)
        for name, finish in (("logits", by_logits), ("probabilities", by_probabilities))
    }
    chosen = choose(problem, candidates)
    return replace(chosen, notes=(*chosen.notes, *domain_cautions(problem)))


class OwnHead:
    """Cross-entropy of each face under the head of its own subgroup; under the average of the heads where unknown."""

    def __init__(self, problem: Problem) -> None:
        """Keep which classes each subgroup has: the others take no part in its head's softmax."""
        has, used = known_classes(problem)
        self.y, self.g = torch.from_numpy(problem.train.y), torch.from_numpy(problem.train.g)
        self.lacks = torch.from_numpy(~has)
        share = (has & used[:, None]).astype(np.float32)
        self.share = torch.from_numpy(share / np.maximum(share.sum(0), 1))

    def __call__(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Return the mean loss of a batch; `logits` are (N, G·K)."""
        chosen = torch.from_numpy(rows)
        y, g = self.y[chosen], self.g[chosen]
        apart = logits.view(len(rows), *self.lacks.shape)
        known = g >= 0
        own = apart[known, g[known]].masked_fill(self.lacks[g[known]], -torch.inf)
        loss = F.cross_entropy(own, y[known], reduction="sum")
        if not known.all():
            joined = (apart[~known] * self.share).sum(1)
            loss = loss + F.cross_entropy(joined, y[~known], reduction="sum")
        return loss / len(rows)


def known_classes(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return which classes each subgroup has training faces of, bool (G, K), and which heads are used, bool (G,)."""
    table = cells.counts(problem, problem.train)
    used = table.sum(1) >= FEW
    # without this, a class that only small subgroups have could never be answered
    used |= (table[:, ~(table[used] > 0).any(0)] > 0).any(1)
    return table > 0, used


def domain_cautions(problem: Problem) -> tuple[str, ...]:
    """Return sentences on heads that are left out and on classes that a head abstains from."""
    has, used = known_classes(problem)
    out = [problem.groups[g] for g in np.flatnonzero(~used)]
    said = []
    if out:
        said.append(f"fewer than {FEW} training faces, so no head of their own in the average: {', '.join(out)}")
    if (used[:, None] & ~has).any():
        said.append(f"a head abstains where its subgroup has no face: {cells.names(problem, used[:, None] & ~has)}")
    return tuple(said)
