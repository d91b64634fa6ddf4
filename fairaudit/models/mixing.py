"""Faces of a batch blended in pairs: mixup of whole inputs, cutmix of a rectangle."""

import numpy as np
import torch
from torch import Tensor

from fairaudit.spec import TrainingSpec


def blend(x: Tensor, spec: TrainingSpec, draw: np.random.Generator) -> tuple[Tensor, Tensor | None, float]:
    """Return a batch blended in pairs, the place of each face's partner (None: not blended), and the share of its own.

    mixup (Zhang et al., ICLR 2018) averages two inputs; cutmix (Yun et al., ICCV 2019) puts a rectangle of the partner
    in, at the same place, and the share is the area left. Cutmix needs images or maps (N, C, H, W); with both, one of
    them is drawn for each batch.
    """
    cut = bool(spec.cutmix) and x.dim() == 4 and (not spec.mixup or draw.random() < 0.5)
    beta = spec.cutmix if cut else spec.mixup
    if not beta:
        return x, None, 1.0
    share = float(draw.beta(beta, beta))
    partner = torch.from_numpy(draw.permutation(len(x))).to(x.device)
    if not cut:
        return share * x + (1 - share) * x[partner], partner, share
    height, width = x.shape[2:]
    top, bottom = _side(height, share, draw)
    left, right = _side(width, share, draw)
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    return mixed, partner, 1 - (bottom - top) * (right - left) / (height * width)


def _side(size: int, share: float, draw: np.random.Generator) -> tuple[int, int]:
    """Return where a rectangle begins and ends: √(1 − share) of the side around a random place, cut at its ends."""
    half = round(size * float(np.sqrt(1 - share)) / 2)
    middle = int(draw.integers(size))
    return max(0, middle - half), min(size, middle + half)
