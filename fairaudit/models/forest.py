"""PixelForest: principal components of the pixels, and decision trees on them; a classical baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairaudit.errors import DataError, UsageError
from fairaudit.models.trees import Trees, checked_trees
from fairaudit.spec import ForestSpec, ModelSpec, Spec, TrainingSpec

RANDOM_FOREST, BOOSTED = "pca-random-forest", "pca-xgboost"
FORESTS = (RANDOM_FOREST, BOOSTED)
IMAGE_SIZE = 64
# Of a spec, what a forest heeds; anything else there would be read by nothing.
_HEEDED = {"model": {"backbone", "image_size", "color", "forest"}, "training": {"class_weights", "flip_test", "device"}}
_OF_ONE = {RANDOM_FOREST: "min_leaf", BOOSTED: "learning_rate"}


class ForestArchitecture(BaseModel):
    """What `load_checkpoint` needs to build a forest again, within sizes that one can have."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    backbone: Literal["pca-random-forest", "pca-xgboost"]
    image_size: int = Field(ge=8, le=1024)
    colour: bool


@dataclass(frozen=True, kw_only=True)
class PixelForest:
    """Faces → probabilities of every task.

    Pixels in 0…1, greyscale or RGB, lie flat in a row (n, P); `mean` (P,) and `components` (C, P), float32, turn them
    into C features; `trees` holds one head's trees by its task.
    """

    backbone: Literal["pca-random-forest", "pca-xgboost"]
    image_size: int
    colour: bool
    classes: Mapping[str, tuple[str, ...]]
    mean: np.ndarray
    components: np.ndarray
    trees: Mapping[str, Trees]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The heads in order."""
        return tuple(self.classes)

    def answer(self, pixels: np.ndarray, *, flip: bool = False) -> dict[str, np.ndarray]:
        """Return each task's probabilities (n, K), float32, of uint8 faces (n, S, S, 3); `flip`: averaged with those
        of the mirrored faces."""
        each = [self._one(view) for view in ((pixels, pixels[:, :, ::-1]) if flip else (pixels,))]
        return {task: np.mean([one[task] for one in each], axis=0).astype(np.float32) for task in self.tasks}

    def _one(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        x = features(flat(pixels, colour=self.colour), self.mean, self.components)
        if self.backbone == BOOSTED:
            scores = {task: self.trees[task].total(x, len(names)) for task, names in self.classes.items()}
            return {task: _softmax(values) for task, values in scores.items()}
        return {task: self.trees[task].mean(x) for task in self.tasks}

    def state_dict(self) -> dict[str, Tensor]:
        """Return every array as a tensor, for model.safetensors."""
        state = {"mean": self.mean, "components": self.components}
        for number, task in enumerate(self.tasks):
            state |= {f"trees.{number}.{name}": values for name, values in self.trees[task].arrays().items()}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in state.items()}

    def architecture(self) -> ForestArchitecture:
        """Return what `build_forest` needs beside the tensors and the classes."""
        return ForestArchitecture(backbone=self.backbone, image_size=self.image_size, colour=self.colour)


def flat(pixels: np.ndarray, *, colour: bool) -> np.ndarray:
    """Return uint8 RGB faces (n, S, S, 3) as rows of float32 in 0…1; greyscale is ITU-R BT.601's luma."""
    values = pixels.astype(np.float32) / np.float32(255)
    if not colour:
        values = values @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return values.reshape(len(pixels), -1)


def features(rows: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return the components (n, C) of flat faces, float32; summed in float64, so that batches of any size agree."""
    centred = rows.astype(np.float64) - mean
    return (centred @ components.T.astype(np.float64)).astype(np.float32)


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    made: np.ndarray = raised / raised.sum(1, keepdims=True)
    return made


def build_forest(
    made: ForestArchitecture, classes: Mapping[str, tuple[str, ...]], state: Mapping[str, Tensor], where: str
) -> PixelForest:
    """Return the forest of a checkpoint's tensors; raises DataError where they do not fit each other."""
    arrays = {name: value.numpy() for name, value in state.items() if value.dtype != torch.bfloat16}
    nothing = np.zeros(0, dtype=np.float32)
    mean, components = arrays.get("mean", nothing), arrays.get("components", nothing)
    width = made.image_size**2 * (3 if made.colour else 1)
    finite = all(values.dtype.kind == "f" and np.isfinite(values).all() for values in (mean, components))
    if mean.shape != (width,) or components.ndim != 2 or components.shape[1] != width or not finite:
        raise DataError(f"{where}: the principal components do not fit faces of {made.image_size} px")
    trees = {}
    for number, (task, names) in enumerate(classes.items()):
        prefix = f"trees.{number}."
        own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        trees[task] = checked_trees(
            own, len(components), len(names), boosted=made.backbone == BOOSTED, where=f"{where}, task {task!r}"
        )
    return PixelForest(
        backbone=made.backbone, image_size=made.image_size, colour=made.colour, classes=classes, mean=mean,
        components=components, trees=trees,
    )  # fmt: skip


def is_forest(spec: ModelSpec) -> bool:
    """Return whether the spec asks for a forest, not for a network."""
    return spec.backbone in FORESTS


def in_colour(spec: ModelSpec) -> bool:
    """Return whether the forest sees RGB pixels; the default is greyscale."""
    return spec.color == "rgb"


def check_keys(spec: Spec) -> None:
    """Raise UsageError for a key that the kind of model asked for would not heed."""
    if not is_forest(spec.model):
        if spec.model.forest is not None:
            raise UsageError(f"[model.forest] belongs to {' and '.join(FORESTS)}, not to {spec.model.backbone!r}")
        return
    ignored = [f"model.{key}" for key in _changed(spec.model, _HEEDED["model"])]
    ignored += [f"training.{key}" for key in _changed(spec.training, _HEEDED["training"])]
    other = next(key for name, key in _OF_ONE.items() if name != spec.model.backbone)
    ignored += [f"model.forest.{key}" for key in _changed(spec.model.forest or ForestSpec(), set()) if key == other]
    if ignored:
        raise UsageError(
            f"{spec.model.backbone} is no network and heeds no {', '.join(ignored)}; leave these out (it heeds "
            "model.image_size, model.color, [model.forest], training.class_weights and training.flip_test)"
        )
    if spec.model.color == "bgr":
        raise UsageError(
            f"{spec.model.backbone} takes model.color = 'grey' (its default) or 'rgb': the order is nothing"
        )
    on_cpu(spec.model.backbone, spec.training.device)


def on_cpu(backbone: str, device: str) -> str:
    """Return "cpu"; raises UsageError where another device is asked for."""
    if device not in ("auto", "cpu"):
        raise UsageError(f"{backbone} runs on the CPU only; give device auto or cpu, not {device!r}")
    return "cpu"


def _changed(part: ModelSpec | TrainingSpec | ForestSpec, heeded: Sequence[str] | set[str]) -> list[str]:
    kept = type(part)().model_dump()
    return [key for key, value in part.model_dump().items() if key not in heeded and value != kept[key]]
