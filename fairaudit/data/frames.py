"""Frames: where a face lies in its picture, and where the pictures of known data sets have it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fairaudit.registry import lookup


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where a face lies in its picture, in shares of the picture's width and height; x to the right, y downwards.

    origin: the middle between the two eyes; across: from the eye on the left of the picture to the one on the right;
    down: from the origin to the middle of the mouth. shapes: which template is drawn, "face" or "avatar".
    """

    origin: tuple[float, float]
    across: tuple[float, float]
    down: tuple[float, float]
    shapes: str = "face"

    @property
    def matrix(self) -> np.ndarray:
        """The affine map (2, 3) from face coordinates (u, v, 1) to shares of the picture (x, y)."""
        return np.array([self.across, self.down, self.origin], dtype=float).T

    def zoomed(self, factor: float) -> "Frame":
        """Return the frame after the middle of the picture was cut out: 1/`factor` of its width and height is left."""
        x, y = (0.5 + factor * (value - 0.5) for value in self.origin)
        across, down = ((factor * a, factor * b) for a, b in (self.across, self.down))
        return Frame(origin=(x, y), across=across, down=down, shapes=self.shapes)


# Measured with dlib's five landmarks on 244 UTKFace and 172 FairFace pictures (median; standard deviations .012–.027 of
# the width for UTKFace, .015–.038 for FairFace), the mouth on their mean pictures. ArcFace's frame is its published
# template of five points at 112 px, which MobileFaceNet's makers align to. Avatars: as they are drawn.
ALIGNMENTS: dict[str, Frame] = {
    "utkface": Frame(origin=(0.490, 0.305), across=(0.385, 0.0), down=(0.0, 0.385)),
    "fairface": Frame(origin=(0.491, 0.312), across=(0.357, 0.0), down=(0.0, 0.370)),
    "arcface": Frame(origin=(0.4992, 0.4607), across=(0.3146, 0.0), down=(0.0, 0.3633)),
    "avatars": Frame(origin=(0.5, 0.49), across=(0.2, 0.0), down=(0.0, 0.1975), shapes="avatar"),
}


def alignment(name: str) -> Frame:
    """Return the frame of a known alignment; UsageError for an unknown name, with the nearest one."""
    return lookup(ALIGNMENTS, name, "alignment of faces")


_OF_DATA = {"utkface": "utkface", "fairface": "fairface", "synthetic": "avatars"}


def usual_alignment(dataset: str, sizes: Mapping[str, int]) -> str:
    """Return the name in ALIGNMENTS of how a data set's faces lie in its pictures; "" where that is not known.

    sizes: how many pictures have which size, the commonest first. UTKFace's uncropped release and FairFace's wider one
    (padding 1.25) are told by it, and lie otherwise.
    """
    if dataset == "utkface" and sizes and next(iter(sizes)) != "200 × 200":
        return ""
    if dataset == "fairface" and "448 × 448" in sizes and "224 × 224" not in sizes:
        return ""
    return _OF_DATA.get(dataset, "")
