"""Where each face lies in its picture: the data's own alignment, or landmarks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairaudit.attribution.regions import chip, frame_from_landmarks
from fairaudit.data.frames import ALIGNMENTS, Frame, usual_alignment
from fairaudit.data.images import load_rgb
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models.landmarks import landmarks_in, load_predictor
from fairaudit.registry import lookup

_WIDE = 1.25  # FairFace's other release: dlib's chips of this padding, 448 px wide


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Where faces lie. `of` gives a face's frame by its row, None where it is not known; mean maps are in `common`.

    Raises DataError for a face on which landmarks are not found. `said` is the sentence for the reader.
    """

    of: Callable[[int], Frame | None]
    common: Frame | None
    said: str


def align(faces: FaceTable, model: Any, setting: str, landmarks: str = "") -> Alignment:
    """Return how faces lie in the pictures that `model` reads.

    setting: "auto" (what the data set is known for), "none", "landmarks" (dlib's, from the file `landmarks`), or a name
    of regions.ALIGNMENTS. Raises UsageError for another one, and where dlib or its file is not there.
    """
    lookup(dict.fromkeys(("auto", "none", "landmarks", *ALIGNMENTS)), setting, "alignment of faces")
    described = getattr(getattr(model, "description", None), "input", None)
    if setting != "none" and described is not None and described.align == "dlib":
        frame = chip(described.padding)
        return _fixed(frame, f"dlib's face chip with padding {described.padding:g}, as the model reads faces")
    zoom = described.resize / described.size if described is not None and described.resize else 1.0
    if setting == "none":
        return _unknown("attribution.alignment = 'none'")
    if setting == "landmarks":
        return _by_landmarks(faces, landmarks, zoom)
    if setting != "auto":
        return _fixed(ALIGNMENTS[setting].zoomed(zoom), f"all faces are taken to lie as in {setting}")
    return _of_data(faces, zoom)


def _of_data(faces: FaceTable, zoom: float) -> Alignment:
    sizes = faces.meta.get("image_sizes") or {}
    dataset = str(faces.meta.get("dataset", ""))
    if dataset == "merged" and "dataset" in faces.frame:
        names = [str(name) for name in faces.frame["dataset"]]
        frames = {name: _frame(name, sizes, whole=False) for name in set(names)}
        known = sorted(name for name, frame in frames.items() if frame is not None)
        if not known:
            return _unknown("none of the merged sets has a known alignment")
        without = sorted(set(frames) - set(known))
        said = f"each face as its set is aligned ({', '.join(known)})"
        said += f"; faces of {', '.join(without)} have no known alignment and are in no region" if without else ""
        found = {name: frame.zoomed(zoom) if frame else None for name, frame in frames.items()}
        return Alignment(of=lambda row: found[names[row]], common=ALIGNMENTS["fairface"].zoomed(zoom), said=said)
    frame = _frame(dataset, sizes, whole=True)
    if frame is None:
        return _unknown(f"pictures of {dataset or 'these data'} have no known alignment")
    return _fixed(frame.zoomed(zoom), f"all faces lie as {dataset} aligns them")


def _frame(dataset: str, sizes: Mapping[str, int], *, whole: bool) -> Frame | None:
    """Return a data set's frame; None where it has none, or pictures of another size say that it is another release."""
    name = usual_alignment(dataset, sizes if whole or dataset == "fairface" else {})
    if dataset == "fairface" and not name:
        return chip(_WIDE)
    return ALIGNMENTS[name] if name else None


def _by_landmarks(faces: FaceTable, landmarks: str, zoom: float) -> Alignment:
    dlib, predictor = load_predictor(landmarks, (), "attribution.alignment = 'landmarks'")
    images = list(faces.frame["image"])

    def frame(row: int) -> Frame:
        path = Path(faces.root) / images[row]
        picture = load_rgb(path)
        points = landmarks_in(picture, dlib, predictor)
        places = np.array([(points.part(i).x, points.part(i).y) for i in range(points.num_parts)], dtype=float)
        try:
            return frame_from_landmarks(places / picture.shape[1::-1]).zoomed(zoom)
        except UsageError as error:
            raise DataError(f"{path}: {error}") from None

    said = f"each face as dlib's landmarks place it ({landmarks}); mean maps are moved to FairFace's alignment"
    return Alignment(of=frame, common=ALIGNMENTS["fairface"].zoomed(zoom), said=said)


def _fixed(frame: Frame, said: str) -> Alignment:
    return Alignment(of=lambda row: frame, common=frame, said=said)


def _unknown(why: str) -> Alignment:
    said = (
        f"{why}: nothing is said of regions of the face; name one with attribution.alignment "
        f"({', '.join(ALIGNMENTS)}), or let landmarks find it (attribution.alignment = 'landmarks')"
    )
    return Alignment(of=lambda row: None, common=None, said=said)
