"""Drawn faces: arrays of looks become small pictures, many at a time, with anti-aliased edges and no outside artwork.

The drawing is a set of arbitrary conventions and says nothing about people: it only gives a classifier something to
learn whose truth is known. Skin tones are the ten of the Monk Skin Tone scale (Monk, E., "The Monk Skin Tone Scale",
2023, doi:10.31235/osf.io/pdf4c).
"""

from dataclasses import dataclass, fields

import numpy as np

MONK_TONES = (
    *("#f6ede4", "#f3e7db", "#f7ead0", "#eadaba", "#d7bd96"),
    *("#a07e56", "#825c43", "#604134", "#3a312a", "#292420"),
)
HAIR = ("#2b2320", "#4d3426", "#7a4a2b", "#a9845a")
GREY = "#c9c9ce"
SHIRTS = ("#4f7cac", "#7a9e7e", "#b5838d", "#8d86c9", "#c9a227")
MARKS = ("#e4572e", "#17a398", "#f2c14e", "#5f4bb6")
_CORNERS = ((0.80, 0.80), (-0.80, 0.80), (0.80, -0.80), (-0.80, -0.80))


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What n drawn faces look like; every array has n rows.

    tone, hair, shirt, background: (n, 3) colours in 0…255. hair_length, collar, youth, lines, grey: (n,) in 0…1.
    shift: (n, 2) offset of the face, in half pictures; scale, light: (n,) near 1. marks: (n, 4) bool, one a corner.
    quality: (n,) in 0…1, how much blur, loss of contrast and noise the picture gets (0: none).
    """

    tone: np.ndarray
    hair: np.ndarray
    shirt: np.ndarray
    background: np.ndarray
    hair_length: np.ndarray
    collar: np.ndarray
    youth: np.ndarray
    lines: np.ndarray
    grey: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    light: np.ndarray
    marks: np.ndarray
    quality: np.ndarray

    def rows(self, part: slice) -> "Looks":
        """Return the looks of some of the faces."""
        return Looks(**{field.name: getattr(self, field.name)[part] for field in fields(self)})


def colours(names: tuple[str, ...]) -> np.ndarray:
    """Return "#rrggbb" colours as an array (len(names), 3) in 0…255."""
    return np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names], dtype=np.float32)


class _Canvas:
    """n pictures in float colours, painted shape by shape; coordinates run from -1 to 1, y downwards."""

    def __init__(self, background: np.ndarray, size: int, looks: Looks) -> None:
        axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        self.x, self.y = axis[None, None, :], axis[None, :, None]
        self.size = size
        self.looks = looks
        self.pixels = np.repeat(background[:, None, None, :], size, axis=1).repeat(size, axis=2)

    def paint(
        self,
        colour: np.ndarray,
        centre: tuple[np.ndarray | float, np.ndarray | float],
        radii: tuple[np.ndarray | float, np.ndarray | float],
        *,
        box: bool = False,
        opacity: np.ndarray | None = None,
        clip: np.ndarray | None = None,
        fixed: bool = False,
    ) -> np.ndarray:
        """Paint an ellipse (or a rounded box) that moves with the face, or is `fixed`.

        `clip` is a (n, size, size) mask to stay within. Returns such a mask: where the shape covers anything.
        """
        n = len(self.pixels)
        scale = 1.0 if fixed else self.looks.scale
        shift = np.zeros((n, 2)) if fixed else self.looks.shift
        cx, cy = (_column(centre[i] * scale + shift[:, i], n) for i in (0, 1))
        rx, ry = (_column(radii[i] * scale, n) for i in (0, 1))
        top = max(0, int((float((cy - ry).min()) + 1) * self.size / 2) - 1)
        bottom = min(self.size, int((float((cy + ry).max()) + 1) * self.size / 2) + 2)
        rows = slice(top, max(bottom, top))
        u, v = np.square((self.x - cx) / rx), np.square((self.y[:, rows] - cy) / ry)
        reach = np.sqrt(np.sqrt(np.square(u) + np.square(v))) if box else np.sqrt(u + v)
        coverage = np.clip(0.5 - (reach - 1) * np.minimum(rx, ry) * (self.size / 2), 0, 1)
        if clip is not None:
            coverage *= clip[:, rows]
        if opacity is not None:
            coverage *= _column(opacity, n)
        target = self.pixels[:, rows]
        target += coverage[..., None] * (colour[:, None, None, :] - target)
        covered = np.zeros(self.pixels.shape[:3], dtype=bool)
        np.greater(coverage, 0, out=covered[:, rows])
        return covered


def draw(looks: Looks, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n faces: uint8 (n, size, size, 3). `rng` gives the noise that every picture has."""
    canvas = _Canvas(looks.background.astype(np.float32), size, looks)
    hair = looks.hair + looks.grey[:, None] * (colours((GREY,)) - looks.hair)
    # A fixed step in brightness, upwards on dark tones, so that no tone hides the features that carry the labels.
    step = np.where(looks.tone.mean(axis=1) > 110, -55.0, 55.0)[:, None]
    feature = np.clip(looks.tone + step, 0, 255).astype(np.float32)
    bottom = -0.10 + 0.85 * looks.hair_length
    canvas.paint(hair, (0.0, (bottom - 0.80) / 2), (0.57, (bottom + 0.80) / 2), box=True)
    canvas.paint(looks.tone * 0.94, (0.0, 0.60), (0.17, 0.30), box=True)
    shirt = canvas.paint(looks.shirt, (0.0, 1.15), (0.85, 0.50), box=True)
    canvas.paint(looks.tone * 0.94, (0.0, 0.64), (0.30, 0.06 + 0.30 * looks.collar), clip=shirt)
    head = canvas.paint(looks.tone, (0.0, -0.05), (0.47, 0.60))
    canvas.paint(hair, (0.0, -0.72), (0.62, 0.36), clip=head)
    _paint_features(canvas, feature)
    for k, corner in enumerate(_CORNERS):
        if looks.marks[:, k].any():
            colour = np.broadcast_to(colours((MARKS[k],)), looks.tone.shape)
            canvas.paint(colour, corner, (0.14, 0.14), opacity=looks.marks[:, k].astype(np.float32), fixed=True)
    pixels = canvas.pixels * looks.light[:, None, None, None].astype(np.float32)
    pixels = _degrade(pixels, looks.quality, rng)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _paint_features(canvas: _Canvas, feature: np.ndarray) -> None:
    """Eyes (larger and lower in a younger drawing), nose, mouth, and lines that darken with drawn age."""
    looks = canvas.looks
    n = len(feature)
    eye_y = -0.12 + 0.20 * looks.youth
    eye = 0.065 + 0.075 * looks.youth
    white, dark = np.full((n, 3), 245, np.float32), np.full((n, 3), 35, np.float32)
    for side in (-1, 1):
        canvas.paint(white, (side * 0.20, eye_y), (eye * 1.25, eye))
        canvas.paint(dark, (side * 0.20, eye_y), (eye * 0.6, eye * 0.6))
        canvas.paint(feature, (side * 0.20, eye_y - eye - 0.07), (0.13, 0.022))
        canvas.paint(feature, (side * 0.30, 0.26), (0.022, 0.13), opacity=looks.lines)
    canvas.paint(feature, (0.0, 0.16 + 0.05 * looks.youth), (0.035, 0.08))
    canvas.paint(feature, (0.0, 0.36 + 0.03 * looks.youth), (0.16, 0.035))
    for height in (-0.33, -0.25):
        canvas.paint(feature, (0.0, height), (0.27, 0.020), opacity=looks.lines)


def _degrade(pixels: np.ndarray, quality: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add the noise that every picture has; blur, flatten and add noise where `quality` is above 0."""
    low = np.flatnonzero(quality > 0)
    if len(low):
        size = pixels.shape[1]
        strength = quality[low, None, None, None].astype(np.float32)
        soft = pixels[low]
        for axis in (1, 2):
            for _ in range(3):  # three box filters come close to a Gaussian
                soft = soft + strength * (_box(soft, axis, max(1, round(size * 0.045))) - soft)
        middle = soft.mean(axis=(1, 2), keepdims=True)
        pixels[low] = middle + (soft - middle) * (1 - 0.7 * strength)
    spread = (3.0 + 20.0 * quality).astype(np.float32)
    noise = rng.standard_normal(pixels.shape[:3], dtype=np.float32)
    return pixels + (noise * spread[:, None, None])[..., None]


def _box(pixels: np.ndarray, axis: int, half: int) -> np.ndarray:
    """Return the running mean over 2·half + 1 pixels along `axis`, edges repeated."""
    pad = [(0, 0)] * pixels.ndim
    pad[axis] = (half + 1, half)
    total = np.cumsum(np.pad(pixels, pad, mode="edge"), axis=axis, dtype=np.float64)
    width = 2 * half + 1
    upper = np.take(total, np.arange(width, total.shape[axis]), axis=axis)
    lower = np.take(total, np.arange(total.shape[axis] - width), axis=axis)
    return ((upper - lower) / width).astype(np.float32)


def _column(value: np.ndarray | float, n: int) -> np.ndarray:
    """Return a number a face, shaped to broadcast over its picture."""
    return np.broadcast_to(np.asarray(value, dtype=np.float32), (n,))[:, None, None]
