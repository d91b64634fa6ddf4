"""Baselines: pictures that stand for "nothing is there". What an attribution says depends on which one is chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairaudit.attribution.methods import BLUR, blurred
from fairaudit.errors import DataError

MOST = 256  # faces whose mean is taken


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The drawn faces as a whole, in the network's input: mean and black (1, C, H, W), the colours' centre and spread
    (1, C, 1, 1). faces (at most 64, C, H, W) are a few of them."""

    mean: Tensor
    centre: Tensor
    spread: Tensor
    black: Tensor
    faces: Tensor


def pool_of(checkpoint: Any, model: Any, paths: Sequence[Path]) -> Pool | None:
    """Return the pool of up to MOST of these faces, None where not one can be read."""
    total = squares = None
    some: list[Tensor] = []
    count = 0
    for path in paths[:MOST]:
        try:
            x = model.prepare(torch.from_numpy(checkpoint.read(path))[None])
        except DataError:
            continue
        count += 1
        total = x if total is None else total + x
        square = x.square().mean((2, 3), keepdim=True)
        squares = square if squares is None else squares + square
        if len(some) < 64:
            some.append(x)
    if total is None or squares is None:
        return None
    mean = total / count
    centre = mean.mean((2, 3), keepdim=True)
    size = model.image_size
    black = model.prepare(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    spread = (squares / count - centre.square()).clamp(min=0).sqrt()
    return Pool(mean=mean, centre=centre, spread=spread, black=black, faces=torch.cat(some))


def _blurred(x: Tensor, pool: Pool, seed: int) -> Tensor:
    return blurred(x)


def _mean(x: Tensor, pool: Pool, seed: int) -> Tensor:
    return pool.mean.expand_as(x)


def _noise(x: Tensor, pool: Pool, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pool.centre + pool.spread * torch.randn(x.shape, generator=generator).to(x.device)


def _black(x: Tensor, pool: Pool, seed: int) -> Tensor:
    return pool.black.expand_as(x)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """`make` gives the baseline of prepared faces (B, C, H, W) from the pool and a seed; `said` tells what it is."""

    make: Callable[[Tensor, Pool, int], Tensor]
    said: str


BASELINES: dict[str, Baseline] = {
    "blurred": Baseline(
        make=_blurred,
        said=f"the same face under a Gaussian blur of {100 * BLUR:g} % of its width: skin tone and lighting stay, "
        "features go (against black, dark skin would get little attribution by construction)",
    ),
    "mean": Baseline(make=_mean, said="the mean picture of the drawn faces"),
    "noise": Baseline(make=_noise, said="Gaussian noise with the drawn faces' mean colour and spread"),
    "black": Baseline(
        make=_black,
        said="black: dark skin lies near it and gets little attribution by construction, so it decides nothing",
    ),
}
