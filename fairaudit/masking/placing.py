"""Which part of each picture is hidden: the frame of its face by the data's own alignment, regions, and boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from fairaudit.attribution.alignment import align
from fairaudit.attribution.regions import REGIONS, region_masks
from fairaudit.data.frames import ALIGNMENTS, Frame
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.registry import lookup

AUTO = "auto"
BOX = "box"
_FEATHER = 2.0  # how many times a region's soft share is hidden: all of the region, fading out beyond its border


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The faces whose place in the picture is known, the frame of each by image name, and how they lie, in words."""

    faces: FaceTable
    frames: Mapping[str, Frame]
    said: str

    @property
    def distinct(self) -> list[Frame]:
        """Every frame once."""
        return list(dict.fromkeys(self.frames.values()))


def place_faces(faces: FaceTable, model: Any, setting: str) -> Placed:
    """Return how faces lie in the pictures that `model` reads.

    setting: "auto" or a name of regions.ALIGNMENTS, as `attribution.alignment.align` reads them. Faces of merged sets
    whose alignment is not known are left out. Raises UsageError for another setting, and where no face has a known
    place.
    """
    lookup(dict.fromkeys((AUTO, *ALIGNMENTS)), setting, "alignment of faces")
    found = align(faces, model, setting)
    images = [str(image) for image in faces.frame["image"]]
    frames = {image: frame for row, image in enumerate(images) if (frame := found.of(row)) is not None}
    if not frames:
        raise UsageError(
            f"how the faces of {faces.meta.get('dataset') or 'these data'} lie in their pictures is not known, so no "
            f"region can be hidden; name an alignment ({', '.join(ALIGNMENTS)})"
        )
    kept = [row for row, image in enumerate(images) if image in frames]
    table = replace(faces, frame=faces.frame.iloc[kept].reset_index(drop=True)) if len(kept) < len(images) else faces
    return Placed(faces=table, frames=frames, said=found.said)


def check_region(name: str) -> str:
    """Return the name of a region, or of a box ("box 0.8 0 1 0.2": left, top, right, bottom in shares of the picture).

    Raises UsageError for anything else.
    """
    if not name.startswith(BOX):
        return lookup({region: region for region in REGIONS}, name, "region")
    try:
        left, top, right, bottom = map(float, name.split()[1:])
    except ValueError:
        left = top = right = bottom = 0.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UsageError(
            f"region {name!r}: write 'box left top right bottom' in shares of the picture, such as 'box 0.8 0 1 0.2'"
        )
    return name


def hidden_part(frame: Frame, region: str, height: int, width: int) -> np.ndarray:
    """Return how far each pixel is hidden (height, width), 0…1.

    A region is hidden all over and fades out beyond its border; of a box, the pixels whose middle lies in it.
    """
    if region.startswith(BOX):
        left, top, right, bottom = map(float, region.split()[1:])
        y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
        return np.outer((y >= top) & (y < bottom), (x >= left) & (x < right)).astype(float)
    share: np.ndarray = _soft(frame, height, width)[REGIONS.index(region)]
    return np.minimum(1.0, _FEATHER * share)


@lru_cache(maxsize=64)
def _soft(frame: Frame, height: int, width: int) -> np.ndarray:
    return region_masks(frame, height, width, soft=True)
