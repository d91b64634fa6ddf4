"""How much work an attribution may take, and random numbers that nothing else can shift."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What methods are told besides the faces.

    steps: nodes of a path, or samples along it; samples: masked faces of LIME and kernel SHAP; rows: images in one
    forward pass, which bounds the memory; window: side of occlusion's square as a share of the picture; segments:
    (1, 1, H, W) integers 0…S−1, the pieces that LIME and kernel SHAP hide; noise: scale of gradient SHAP's noise (0:
    none); seed: of everything random.
    """

    steps: int = 50
    samples: int = 200
    rows: int = 13
    window: float = 0.125
    segments: Tensor | None = None
    noise: float = 1.0
    seed: int = 0


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's and numpy's global generators seeded, and put back what they were.

    Captum draws from both. They belong to the process: only one thread at a time may do this.
    """
    before = np.random.get_state()  # noqa: NPY002 (the generator that Captum uses)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
