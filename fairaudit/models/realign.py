"""Faces moved to where a backbone knows them: as wide apart, and as high in the picture, as when it was trained."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.data.frames import Frame


def similarity(start: Frame, end: Frame) -> tuple[float, float, float]:
    """Return the scale s and the shifts x, y (shares of the picture) that bring both eyes and the mouth of `start`
    nearest to those of `end`, by least squares: a place p of the first picture goes to s p + (x, y).

    Faces are aligned by such a similarity when recognition networks are trained (Deng et al., ArcFace, CVPR 2019). The
    frames are upright; nothing is turned, and width and height keep their proportion.
    """
    places = [[-0.5, 0, 1], [0.5, 0, 1], [0, 1, 1], [0, 1, 1]]  # both eyes, and the mouth as heavy as they are
    before, after = (np.array(places) @ frame.matrix.T for frame in (start, end))
    own, wanted = before - before.mean(0), after - after.mean(0)
    scale = float((own * wanted).sum() / (own**2).sum())
    x, y = after.mean(0) - scale * before.mean(0)
    return scale, float(x), float(y)


class Moved(nn.Module):
    """Resample pictures (N, C, S, S): a place p (shares of the picture) goes to `scale` p + (`x`, `y`); no parameters.

    Antialiased bilinear, as two matrices; beyond its edges a picture goes on as its last row or column.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int, scale: float, x: float, y: float) -> None:
        super().__init__()
        self.scale, self.x, self.y = scale, x, y
        self.register_buffer("rows", _resampling(size, self.scale, self.y), persistent=False)
        self.register_buffer("columns", _resampling(size, self.scale, self.x), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pictures, moved, channels last."""
        moved = self.rows @ x @ self.columns.T
        return moved.contiguous(memory_format=torch.channels_last)

    def back(self, maps: Tensor) -> Tensor:
        """Return maps (N, C, S, S) of moved pictures in the places of the pictures as they came; 0 where the network
        saw nothing."""
        size = maps.shape[-1]
        at = (torch.arange(size, device=maps.device) + 0.5) / size
        across, down = (2 * (self.scale * at + shift) - 1 for shift in (self.x, self.y))
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).expand(len(maps), -1, -1, -1)
        return F.grid_sample(maps, grid.to(maps.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


class Realign(Moved):
    """Resample pictures so that faces which lie as in `start` lie as in `end`."""

    def __init__(self, size: int, start: Frame, end: Frame) -> None:
        super().__init__(size, *similarity(start, end))


def zooming(size: int, zoom: float) -> Moved:
    """Return what makes pictures larger (`zoom` above 1) or smaller about their middle."""
    return Moved(size, zoom, (1 - zoom) / 2, (1 - zoom) / 2)


def looks(x: Tensor, zooms: Sequence[Moved], *, flip: bool) -> list[Tensor]:
    """Return the pictures a prediction is averaged over: as they are, in other sizes, and with `flip` each mirrored."""
    views = [x, *(zoom(x) for zoom in zooms)]
    return [*views, *(view.flip(3) for view in views)] if flip else views


def _resampling(size: int, scale: float, shift: float) -> Tensor:
    """Return the matrix (S, S) whose row i holds the weights of the old pixels in the new pixel i; rows sum to 1."""
    reach = max(1.0, 1 / scale)
    weights = np.zeros((size, size))
    for row in range(size):
        centre = ((row + 0.5) / size - shift) / scale * size - 0.5
        for pixel in range(math.floor(centre - reach), math.ceil(centre + reach) + 1):
            weights[row, min(max(pixel, 0), size - 1)] += max(0.0, 1 - abs(pixel - centre) / reach)
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).float()
