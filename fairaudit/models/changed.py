"""A model that sees every picture changed: what robustness and masking predict with, as with any other model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairaudit.files import value_hash
from fairaudit.models.protocol import FaceModel, Forward


@dataclass(frozen=True, kw_only=True)
class ChangedModel:
    """`model`, looking at `change(pixels, image)` instead of the pixels uint8 RGB (S, S, 3) of each picture.

    `image` is the picture's path relative to `root`, as the table of faces names it. `key` says in JSON-able words what
    the change is: the hash of the whole depends on it, so that no prediction is taken for another's.
    """

    model: FaceModel
    root: Path
    change: Callable[[np.ndarray, str], np.ndarray]
    key: Mapping[str, Any]

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The model's own."""
        return self.model.classes

    @property
    def ordered(self) -> frozenset[str]:
        """The model's own."""
        return self.model.ordered

    @property
    def image_size(self) -> int:
        """The model's own."""
        return self.model.image_size

    @property
    def flip_test(self) -> bool:
        """The model's own."""
        return self.model.flip_test

    @property
    def stated(self) -> bool:
        """False: whether its description looks wrong was asked on unchanged pictures."""
        return False

    @property
    def meta(self) -> Mapping[str, Any]:
        """The model's own, and the change."""
        return {**self.model.meta, "changed": dict(self.key)}

    @property
    def trained_on(self) -> Mapping[str, frozenset[str]]:
        """The model's own."""
        return self.model.trained_on

    @property
    def hash(self) -> str:
        """Of the model and the change together."""
        return value_hash([self.model.hash, dict(self.key)])

    @property
    def refitted(self) -> tuple[Any, ...]:
        """The heads that answer in place of the model's own, where it has such."""
        return tuple(getattr(self.model, "refitted", ()))

    @property
    def network(self) -> Any:
        """The model's own."""
        return self.model.network

    def in_order(self, tasks: Mapping[str, tuple[str, ...]]) -> "ChangedModel":
        """Return the same with the model's classes in this order."""
        return replace(self, model=self.model.in_order(tasks))

    def place(self, device: str) -> torch.device:
        """Return the device that `device` means for the model."""
        return self.model.place(device)

    def read(self, path: Path) -> np.ndarray:
        """Return the picture as the model sees it, changed. Raises DataError where it cannot be read."""
        return self.change(self.model.read(path), path.relative_to(self.root).as_posix())

    def on(self, device: torch.device, dtype: torch.dtype, *, flip: bool) -> Forward:
        """Return the model's own function from faces to probabilities."""
        return self.model.on(device, dtype, flip=flip)
