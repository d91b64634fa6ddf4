"""Regions of a face: masks of eyes, brows, nose, mouth, cheeks, forehead, chin, hair and background.

A frame says where a face lies in its picture: the middle between the eyes, the way from eye to eye, and the way from
there down to the mouth. The template is drawn once in these face coordinates: eyes at (−½, 0) and (½, 0), mouth at
(0, 1). Aligned data have one frame for all faces; landmarks give a frame for each face. Only numpy and scipy: the
report reads these without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from fairaudit.data.frames import ALIGNMENTS, Frame, alignment
from fairaudit.errors import UsageError

REGIONS = ("eyes", "brows", "nose", "mouth", "cheeks", "forehead", "chin", "hair", "background")
SPREAD = 0.02  # of the width: how far landmarks lie from their usual place in aligned pictures (measured, one sd)
NOSE_BASE = 0.75  # how far down from eyes to mouth the base of the nose lies (measured on both data sets: .74, .76)
_GRID = 4  # samples a pixel and side when a mask is drawn
_OTHERS = 5  # landmarks of dlib's small predictor


@dataclass(frozen=True)
class _Shape:
    """A region's ellipse (power 2) or rounded box (4) in face coordinates, between the heights `top` and `bottom`."""

    region: str
    u: float
    v: float
    wide: float
    high: float
    power: int = 2
    top: float = -np.inf
    bottom: float = np.inf

    def covers(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        reach = np.abs((u - self.u) / self.wide) ** self.power + np.abs((v - self.v) / self.high) ** self.power
        return (reach <= 1) & (v >= self.top) & (v < self.bottom)


def _both(region: str, u: float, v: float, wide: float, high: float) -> tuple[_Shape, _Shape]:
    return _Shape(region, -u, v, wide, high), _Shape(region, u, v, wide, high)


def _oval(u: float, v: float, wide: float, high: float, brow: float, lip: float) -> tuple[_Shape, ...]:
    """Return the rest of the face: the forehead down to the brows, cheeks beside eyes, nose and mouth, the chin."""
    return (
        _Shape("forehead", u, v, wide, high, bottom=brow),
        _Shape("cheeks", u, v, wide, high, top=brow, bottom=lip),
        _Shape("chin", u, v, wide, high, top=lip),
    )


# The first shape that covers a place has it; what none covers is background (with neck and clothes).
_TEMPLATES: dict[str, tuple[_Shape, ...]] = {
    "face": (
        *_both("eyes", 0.5, 0.0, 0.32, 0.17),
        *_both("brows", 0.5, -0.27, 0.38, 0.14),
        _Shape("nose", 0.0, 0.22, 0.15, 0.36),
        _Shape("nose", 0.0, 0.57, 0.29, 0.25),
        _Shape("mouth", 0.0, 1.04, 0.53, 0.25),
        *_oval(0.0, 0.40, 1.02, 1.27, -0.15, 1.28),
        _Shape("hair", 0.0, -0.15, 1.55, 1.25, power=4, bottom=0.70),
    ),
    "avatar": (
        *_both("eyes", 0.5, 0.0, 0.43, 0.38),
        *_both("brows", 0.5, -0.44, 0.37, 0.18),
        _Shape("nose", 0.0, 0.52, 0.18, 0.26),
        _Shape("mouth", 0.0, 1.0, 0.50, 0.18),
        _Shape("hair", 0.0, -1.77, 1.55, 0.91),
        *_oval(0.0, -0.08, 1.17, 1.52, -0.44, 1.18),
        _Shape("background", 0.0, 1.4, 0.60, 0.80, power=4),  # the neck, before the hair beside it
        _Shape("hair", 0.0, -0.10, 1.50, 1.95, power=4),
    ),
}

CHIP_PADDING = 0.25  # of FairFace's pictures, which are dlib's face chips


def chip(padding: float) -> Frame:
    """Return the frame of dlib's face chips with this padding (a share of the unpadded chip, at each side)."""
    return ALIGNMENTS["fairface"].zoomed((1 + 2 * CHIP_PADDING) / (1 + 2 * padding))


def region_masks(frame: Frame | str, height: int, width: int, *, soft: bool = False) -> np.ndarray:
    """Return masks (R, H, W) in the order of REGIONS, float64; at every pixel they sum to 1.

    Hard masks are 0 or 1: a pixel belongs to one region. Soft ones are 0…1: the share of the pixel that a region has,
    blurred by SPREAD of the width, which is how far features lie from their usual place in aligned pictures.
    A region of which nothing is in the picture has an empty mask.
    """
    frame = alignment(frame) if isinstance(frame, str) else frame
    y, x = ((np.arange(side * _GRID) + 0.5) / (side * _GRID) for side in (height, width))
    face = _to_face(frame, np.broadcast_to(x[None, :], (len(y), len(x))), np.broadcast_to(y[:, None], (len(y), len(x))))
    codes = np.full((len(y), len(x)), REGIONS.index("background"))
    free = np.ones(codes.shape, dtype=bool)
    for shape in _TEMPLATES[frame.shapes]:
        taken = free & shape.covers(*face)
        codes[taken] = REGIONS.index(shape.region)
        free &= ~taken
    fine = codes.reshape(height, _GRID, width, _GRID)
    shares = np.stack([(fine == code).mean(axis=(1, 3)) for code in range(len(REGIONS))])
    if not soft:
        return (shares.argmax(axis=0)[None] == np.arange(len(REGIONS))[:, None, None]).astype(float)
    blurred = np.stack([ndimage.gaussian_filter(share, SPREAD * width, mode="nearest") for share in shares])
    return np.asarray(blurred / blurred.sum(axis=0))


def region_areas(masks: np.ndarray) -> Mapping[str, float]:
    """Return each region's share of the picture (0…1): the share that evenly spread attribution would have there."""
    return dict(zip(REGIONS, masks.mean(axis=(1, 2)).tolist(), strict=True))


def frame_from_landmarks(points: np.ndarray) -> Frame:
    """Return the frame of dlib's 5 or 68 landmarks (n, 2), in shares of the picture's width and height.

    The five are the outer and the inner corner of the eye on the right of the picture, the same on the left, and the
    base of the nose; the mouth is then taken to lie where it usually does below the nose. Faces may be turned in the
    picture. Raises UsageError for another number of points, and for points without any distance between the eyes.
    """
    points = np.asarray(points, dtype=float)
    if points.shape == (_OTHERS, 2):
        right, left = points[0:2].mean(axis=0), points[2:4].mean(axis=0)
        reach, share = points[4], NOSE_BASE
    elif points.shape == (68, 2):
        left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
        reach, share = points[48:68].mean(axis=0), 1.0
    else:
        raise UsageError(f"landmarks of shape {points.shape} are not known; give dlib's 5 or 68 points (n, 2)")
    across, origin = right - left, (left + right) / 2
    length = float(np.hypot(*across))
    if not (np.isfinite(points).all() and length > 0):
        raise UsageError("landmarks without a distance between the eyes place no face")
    upright = np.array([-across[1], across[0]]) / length  # a turned head moves nose and mouth aside, not the template
    down = upright * float((reach - origin) @ upright) / share
    if float(down @ upright) <= 0:
        raise UsageError("landmarks with the nose above the eyes place no face")
    return Frame(origin=(origin[0], origin[1]), across=(across[0], across[1]), down=(down[0], down[1]))


def to_frame(maps: np.ndarray, own: Frame, common: Frame) -> np.ndarray:
    """Return maps (…, H, W) of a face in the frame `own` as they would lie in the frame `common`; outside it 0.

    Values are interpolated linearly and scaled by the change of area, so that what stays inside keeps its sum.
    """
    if own == common:
        return maps
    height, width = maps.shape[-2:]
    whole, back = (np.vstack([frame.matrix, (0, 0, 1)]) for frame in (own, common))
    pixels = np.diag([width, height, 1.0])
    move = pixels @ whole @ np.linalg.inv(back) @ np.linalg.inv(pixels)  # common (x, y) → own (x, y), in pixels
    turned = move[:2, :2][::-1, ::-1]  # ndimage counts (row, column)
    centre = np.array([0.5, 0.5])
    offset = move[:2, 2][::-1] + turned @ centre - centre
    area = abs(np.linalg.det(turned))
    flat = maps.reshape(-1, height, width)
    found = [ndimage.affine_transform(one, turned, offset, order=1, mode="constant") for one in flat]
    return np.asarray(np.stack(found) * area).reshape(maps.shape)


def describe_regions(frame: Frame | str, height: int, width: int, *, soft: bool = False) -> str:
    """Return the sentence that defines the regions, with the share that evenly spread attribution would have.

    `soft` as in `region_masks`: with the borders that the figures beside the sentence were made with.
    """
    areas = region_areas(region_masks(frame, height, width, soft=soft))
    listed = ", ".join(f"{name} {100 * area:.1f} %" for name, area in areas.items())
    return (
        "Regions come from a template placed by the eyes and the mouth of an average face; hair is where hair usually "
        "lies, background includes neck and clothes. Attribution spread evenly over the picture would have these "
        f"shares: {listed}."
    )


def _to_face(frame: Frame, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the face coordinates (u, v) of places in the picture."""
    turn = np.linalg.inv(frame.matrix[:, :2])
    dx, dy = x - frame.origin[0], y - frame.origin[1]
    return turn[0, 0] * dx + turn[0, 1] * dy, turn[1, 0] * dx + turn[1, 1] * dy
