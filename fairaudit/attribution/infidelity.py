"""Infidelity: does an attribution say how far the score falls when a part of the face is taken away?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairaudit.attribution.scores import class_scores

SQUARES = 16  # squares taken away from a face
SIDE = 0.25  # of the picture


def infidelity(
    model: Any,
    faces: Tensor,
    baselines: Tensor,
    targets: Mapping[str, Tensor],
    attributions: Mapping[str, Tensor],
    *,
    seed: int,
    squares: int = SQUARES,
) -> dict[str, float]:
    """Return {task: 0…1} of one face (1, C, H, W): 0 where sums over squares foretell the loss of score, 1 where they
    are no better than saying nothing; NaN where the score does not change at all.

    Infidelity of Yeh et al. (NeurIPS 2019) with squares that take the baseline's values and the best scale that is not
    negative, divided by its value for an attribution of 0: min over β ≥ 0 of Σ (β · sum − loss)² / Σ loss².
    """
    height, width = faces.shape[-2:]
    side = max(1, round(SIDE * min(height, width)))
    rng = np.random.default_rng(seed)
    tops, lefts = rng.integers(0, height - side + 1, squares), rng.integers(0, width - side + 1, squares)
    masks = torch.zeros(squares, 1, height, width, device=faces.device)
    for mask, top, left in zip(masks, tops, lefts, strict=True):
        mask[:, top : top + side, left : left + side] = 1
    with torch.no_grad():
        logits = model(torch.cat([faces, faces * (1 - masks) + baselines * masks]))
    found = {}
    for task, classes in targets.items():
        scores = class_scores(logits[task], classes.expand(squares + 1)).double()
        loss = scores[0] - scores[1:]
        sums = (attributions[task].double() * masks).sum((1, 2, 3))
        scale = ((sums * loss).sum() / sums.square().sum().clamp(min=1e-300)).clamp(min=0)
        size = float(loss.square().sum())
        found[task] = float((scale * sums - loss).square().sum()) / size if size > 0 else float("nan")
    return found
