"""Pictures inside a page: attribution maps as small PNGs and, only where asked for, thumbnails of faces."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fairaudit.data.images import load_rgb
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError

# Anchors of two colour scales: light to dark for shares (one hue, so greyscale keeps the order), and blue over white
# to orange for differences, which stays apart for the common forms of colour blindness.
_SEQUENTIAL = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107), (3, 19, 43))
_DIVERGING = ((5, 78, 130), (103, 169, 207), (247, 247, 247), (241, 163, 64), (150, 70, 0))
_LARGEST_MAP = 56


@dataclass(frozen=True, kw_only=True)
class FacePictures:
    """The faces a report may show, because a person asked for it (`--show-faces`).

    predictions: what was predicted for which image; locate: gives the file of an image name; at most `per_group`
    wrongly predicted faces a head and page are shown, each at most `size` pixels wide.
    """

    predictions: Predictions
    locate: Callable[[str], Path]
    per_group: int = 12
    size: int = 80


def map_png(values: np.ndarray, largest: float, *, diverging: bool = False) -> str:
    """Return a map (H, W) as a PNG data URI; 0…largest, or −largest…largest when diverging, span the colour scale."""
    scale = largest if largest > 0 else 1.0
    coarse = _coarse(values)
    unit = np.clip((coarse / scale + 1) / 2 if diverging else coarse / scale, 0, 1)
    anchors = np.array(_DIVERGING if diverging else _SEQUENTIAL, dtype=float)
    steps, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(anchors))
    palette = np.stack([np.interp(steps, stops, anchors[:, channel]) for channel in range(3)], axis=-1)
    picture = Image.fromarray((unit * 255).round().astype(np.uint8))
    picture.putpalette(palette.round().astype(np.uint8).tobytes())
    return _data_uri(picture, "PNG")


def thumbnail(path: Path, size: int) -> str | None:
    """Return a face as a small JPEG data URI, re-encoded so that no metadata travels with it; None if unreadable."""
    try:
        picture = Image.fromarray(load_rgb(path))
    except DataError:
        return None
    picture.thumbnail((size, size))
    return _data_uri(picture, "JPEG")


def _coarse(values: np.ndarray) -> np.ndarray:
    """Average a map down to at most 56 pixels a side, so that hundreds of them stay small."""
    height, width = values.shape
    if max(height, width) <= _LARGEST_MAP:
        return values
    ratio = _LARGEST_MAP / max(height, width)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _data_uri(image: Image.Image, form: str) -> str:
    stream = io.BytesIO()
    image.save(stream, form, optimize=True)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
