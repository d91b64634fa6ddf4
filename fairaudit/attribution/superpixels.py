"""Pieces of a face that LIME and kernel SHAP hide: patches of like colour, or the regions of the face. No torch."""

import math

import numpy as np
from scipy import ndimage

from fairaudit.attribution.regions import region_masks
from fairaudit.data.frames import Frame

COUNT = 40  # pieces of a face, about
_COMPACT = 1.0  # what the way to the next centre counts, in spreads of the picture's colours
_ROUNDS = 5


def superpixels(pixels: np.ndarray, count: int = COUNT) -> np.ndarray:
    """Return pieces (H, W), integers from 0, of a picture uint8 (H, W, 3): SLIC (Achanta et al., TPAMI 2012).

    Centres on a grid of `count` draw the pixels near them that are most alike in place and colour, and move to the
    middle of those, five times. A piece need not be connected.
    """
    height, width = pixels.shape[:2]
    step = math.sqrt(height * width / count)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    y, x = np.mgrid[:height, :width] + 0.5
    colour = ndimage.gaussian_filter(pixels.astype(float), (1, 1, 0))
    colour /= colour.std() or 1.0
    place = np.stack([y, x], axis=-1) * (_COMPACT / step)
    features = np.concatenate([place, colour], axis=-1).reshape(height * width, -1)
    pieces = (np.arange(height) * rows // height)[:, None] * columns + (np.arange(width) * columns // width)[None, :]
    near = _neighbours(rows, columns)[pieces.ravel()]  # each pixel may join the pieces around its own place only
    found = pieces.ravel()
    for _ in range(_ROUNDS):
        sizes = np.bincount(found, minlength=rows * columns)
        sums = np.stack([np.bincount(found, weights=f, minlength=rows * columns) for f in features.T], axis=-1)
        centres = np.divide(sums, sizes[:, None], out=np.full(sums.shape, np.inf), where=sizes[:, None] > 0)
        distance = np.full(near.shape, np.inf)
        for k in range(near.shape[1]):
            known = near[:, k] >= 0
            distance[known, k] = ((features[known] - centres[near[known, k]]) ** 2).sum(axis=1)
        found = near[np.arange(len(near)), distance.argmin(axis=1)]
    return np.unique(found, return_inverse=True)[1].reshape(height, width)


def region_pieces(frame: Frame, height: int, width: int) -> np.ndarray:
    """Return the regions of the face as pieces (H, W), integers from 0, those that are in the picture."""
    codes = region_masks(frame, height, width).argmax(axis=0)
    return np.unique(codes, return_inverse=True)[1].reshape(height, width)


def _neighbours(rows: int, columns: int) -> np.ndarray:
    """Return for each cell of a grid the cells around it and itself, −1 for those outside: (cells, 9)."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    found = []
    for down in (0, -1, 1):
        for right in (0, -1, 1):
            r, c = row + down, column + right
            inside = (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
            found.append(np.where(inside, r * columns + c, -1))
    return np.stack(found, axis=1)
