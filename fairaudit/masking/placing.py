"""Which part of each picture is hidden: the frame of its face by the data's own alignment, regions, and boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from fairaudit.attribution.regions import ALIGNMENTS, REGIONS, Frame, chip, region_masks
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.registry import lookup

AUTO = "auto"
BOX = "box"
_OF_DATA = {"utkface": "utkface", "fairface": "fairface", "synthetic": "avatars"}
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

    setting: "auto" (as the data set is aligned; dlib's chip where the model's description asks for one), or a name of
    regions.ALIGNMENTS. Faces of merged sets whose alignment is not known are left out. Raises UsageError for another
    setting, and where no face has a known place.
    """
    lookup(dict.fromkeys((AUTO, *ALIGNMENTS)), setting, "alignment of faces")
    described = getattr(getattr(model, "description", None), "input", None)
    images = [str(image) for image in faces.frame["image"]]
    if setting == AUTO and described is not None and described.align == "dlib":
        frame = chip(described.padding)
        said = f"dlib’s face chips with padding {described.padding:g}, as the model reads faces"
        return Placed(faces=faces, frames=dict.fromkeys(images, frame), said=said)
    zoom = described.resize / described.size if described is not None and described.resize else 1.0
    merged = faces.meta.get("dataset") == "merged" and "dataset" in faces.frame
    own = (
        [str(name) for name in faces.frame["dataset"]] if merged else [str(faces.meta.get("dataset", ""))] * len(faces)
    )
    names = [setting if setting != AUTO else _OF_DATA.get(dataset, "") for dataset in own]
    kept = [row for row, name in enumerate(names) if name]
    if not kept:
        what = " and ".join(dict.fromkeys(own)) or "these data"
        raise UsageError(
            f"how the faces of {what} lie in their pictures is not known, so no region can be hidden; name an "
            f"alignment ({', '.join(ALIGNMENTS)})"
        )
    frames = {images[row]: ALIGNMENTS[names[row]].zoomed(zoom) for row in kept}
    known = ", ".join(dict.fromkeys(names[row] for row in kept))
    table = replace(faces, frame=faces.frame.iloc[kept].reset_index(drop=True)) if len(kept) < len(images) else faces
    return Placed(faces=table, frames=frames, said=f"each face is taken to lie as in {known}")


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
