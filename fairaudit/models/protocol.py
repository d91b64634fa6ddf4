"""FaceModel: what prediction and attribution need of a classifier of faces, whoever trained it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Forward = Callable[[Tensor], dict[str, np.ndarray]]
"""Faces as uint8 RGB (n, S, S, 3) → each task's probabilities, float32 (n, K); and ages in years, where the model
predicts them, as `age_years` (n, 1)."""


class FaceModel(Protocol):
    """A classifier of faces: our own `Checkpoint`, or anybody's model in `models.wrapped`."""

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Each task's classes, in the order of its probabilities."""

    @property
    def ordered(self) -> frozenset[str]:
        """The tasks whose classes have an order."""

    @property
    def image_size(self) -> int:
        """S, the side of the square pictures that it takes, in pixels."""

    @property
    def flip_test(self) -> bool:
        """Whether predictions are averaged with those of the mirrored face."""

    @property
    def stated(self) -> bool:
        """Whether somebody stated its classes and preprocessing: then a sample of the data says if they look wrong."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What is known of it, for the reports; `predicts_years` where `on` gives ages in years, too."""

    @property
    def trained_on(self) -> Mapping[str, frozenset[str]]:
        """The first 16 hex digits of the SHA-256 of each face of "train" and "val"; empty where they are not known."""

    @property
    def hash(self) -> str:
        """Names this very model: its files and how they are used."""

    @property
    def network(self) -> Any:
        """The network for attribution: has `prepare` (uint8 faces → x), `forward` (x → {task: logits}), `tasks`,
        `classes`, `image_size` and a buffer `mean` on its device. Raises UsageError where gradients cannot be had.
        """

    def in_order(self, tasks: Mapping[str, tuple[str, ...]]) -> "FaceModel":
        """Return the model with the classes of these tasks in this order, where it knows the same and may be turned."""

    def place(self, device: str) -> torch.device:
        """Return the device that `device` ("auto", "cpu", "cuda", …) means for this model; UsageError for none."""

    def read(self, path: Path) -> np.ndarray:
        """Return the picture as this model looks at it, uint8 RGB (S, S, 3); DataError where it cannot be read."""

    def on(self, device: torch.device, dtype: torch.dtype, *, flip: bool) -> Forward:
        """Return the function that predicts on `device`, computing in `dtype`; several threads may call it at once."""
