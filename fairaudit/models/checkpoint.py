"""Checkpoints: a folder of model.safetensors, model.json, history.csv and trained_on.json, complete or absent.

Where heads were fitted again on the embeddings (`fairaudit mitigate`), heads.safetensors and heads.json hold them.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from fairaudit.errors import DataError, UsageError
from fairaudit.files import atomic_folder, claim, file_hash, value_hash, write_json
from fairaudit.mitigation.refitted import RefittedHead, check_head, load_heads, save_heads
from fairaudit.models.answers import with_heads
from fairaudit.models.backbones import build_backbone
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import CompiledBlocks
from fairaudit.models.folding import fold
from fairaudit.models.forest import FORESTS, ForestArchitecture, PixelForest, build_forest, on_cpu
from fairaudit.models.heads import AGE_YEARS, smallest_size
from fairaudit.models.limits import WithoutMemory
from fairaudit.models.network_forward import network_forward
from fairaudit.models.pixels import load_face
from fairaudit.models.protocol import Forward
from fairaudit.models.runtime import pick_device
from fairaudit.results.files import HISTORY
from fairaudit.spec.model import Activation, AlignFrom, HeadSpec, ModelSpec, Widths, Zooms, one_or_more

FORMAT = 1
WEIGHTS, DESCRIPTION, TRAINED_ON = "model.safetensors", "model.json", "trained_on.json"
HEADS = "heads"
LARGEST_JSON = 50_000_000  # bytes
_A = TypeVar("_A", bound=BaseModel)


class Architecture(BaseModel):
    """How the network of a checkpoint is built again, within sizes that a face classifier can have."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    backbone: str
    image_size: int = Field(ge=32, le=1024)
    pooling: Literal["average", "average+learned"]
    align_from: AlignFrom = None
    shared: int | tuple[int, ...]
    activation: Activation = "relu"
    dropout: float = Field(ge=0, lt=1)
    heads: dict[str, HeadSpec] = Field(default_factory=dict)
    widths: Widths = ()
    color: Literal["rgb", "grey", "bgr"] = "rgb"
    trainable_blocks: int = Field(ge=0, le=10_000)
    folded: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    _shared = field_validator("shared", mode="before")(one_or_more)


class _Use(BaseModel):
    """How a checkpoint is used: what of model.json is neither its network nor a record of its making."""

    model_config = ConfigDict(frozen=True)
    ordered: tuple[str, ...] = ()
    flip_test: bool = False
    zoom_test: Zooms = ()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained classifier (a network in eval mode, on the CPU, or a forest) with all that is known of its making.

    `meta` is model.json; `history` has a row an epoch; `trained_on` maps "train" and "val" to the first 16 hex digits
    of the SHA-256 of each face; `hash` names this very checkpoint. `refitted` heads, fitted on the network's
    embeddings, answer in place of its own; what `on` returns then holds those embeddings, for `answers.decider`.
    """

    folder: Path
    model: FaceClassifier | PixelForest
    meta: Mapping[str, Any]
    history: pd.DataFrame
    trained_on: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hash: str = ""
    refitted: tuple[RefittedHead, ...] = ()

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Each task's classes, in the order of its logits."""
        return dict(self.model.classes)

    @property
    def ordered(self) -> frozenset[str]:
        """The tasks whose classes have an order."""
        return frozenset(self.meta.get("ordered", ()))

    @property
    def flip_test(self) -> bool:
        """Whether predictions are averaged with those of the mirrored face."""
        return bool(self.meta.get("flip_test", False))

    @property
    def zoom_test(self) -> tuple[float, ...]:
        """The sizes, beside its own, in which a face is looked at; predictions are averaged over them."""
        return tuple(self.meta.get("zoom_test", ()))

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the network takes, in pixels."""
        return self.model.image_size

    @property
    def stated(self) -> bool:
        """False: classes and preprocessing were written down by training."""
        return False

    @property
    def network(self) -> FaceClassifier:
        """The network, for attribution. Raises UsageError where the model is none, or a refitted head is no layer."""
        if isinstance(self.model, FaceClassifier):
            return with_heads(self.model, self.refitted)
        raise UsageError(
            f"attribution follows gradients, and {self.model.backbone} is no network and has none: nothing to attribute"
        )

    def in_order(self, tasks: Mapping[str, tuple[str, ...]]) -> "Checkpoint":
        """Return this checkpoint: its classes stay in the order of training."""
        return self

    def place(self, device: str) -> torch.device:
        """Return the device that `device` means; UsageError where a forest is sent to another than the CPU."""
        if isinstance(self.model, PixelForest):
            device = on_cpu(self.model.backbone, device)
        return pick_device(device)

    def read(self, path: Path) -> np.ndarray:
        """Return the whole picture, uint8 RGB (S, S, 3)."""
        return load_face(path, self.image_size)

    def on(self, device: torch.device, dtype: torch.dtype, *, flip: bool) -> Forward:
        """Return the function from uint8 faces to probabilities: batch norms folded, channels last, no gradients."""
        if isinstance(forest := self.model, PixelForest):
            return lambda pixels: forest.answer(pixels.numpy(), flip=flip)
        return self._network_forward(device, dtype, flip)[0]

    def compiled_on(
        self, device: torch.device, dtype: torch.dtype, *, flip: bool, size: int
    ) -> tuple[Forward, CompiledBlocks]:
        """Return what `on` returns with a network's blocks compiled for batches of `size` faces, and those, which say
        how it went.
        """
        forward, blocks = self._network_forward(device, dtype, flip, size)
        assert blocks is not None
        return forward, blocks

    def _network_forward(
        self, device: torch.device, dtype: torch.dtype, flip: bool, size: int | None = None
    ) -> tuple[Forward, CompiledBlocks | None]:
        assert isinstance(self.model, FaceClassifier)
        return network_forward(
            self.model,
            device,
            dtype,
            flip=flip,
            zooms=self.zoom_test,
            embeddings=bool(self.refitted),
            compiled_for=size,
        )


def architecture_of(model: FaceClassifier, spec: ModelSpec) -> Architecture:
    """Return what `load_checkpoint` needs to build `model` again."""
    return Architecture(
        backbone=spec.backbone,
        image_size=model.image_size,
        pooling=spec.pooling,
        align_from=spec.align_from,
        shared=spec.shared,
        activation=spec.activation,
        dropout=spec.dropout,
        heads=spec.heads,
        widths=spec.widths,
        color=model.color,
        trainable_blocks=len(model.blocks) - model.cut,
        folded=model.folded,
        mean=tuple(model.mean.flatten().tolist()),
        std=tuple(model.std.flatten().tolist()),
    )


def save_checkpoint(
    model: FaceClassifier | PixelForest,
    spec: ModelSpec,
    meta: Mapping[str, Any],
    history: pd.DataFrame,
    trained_on: Mapping[str, Sequence[str]],
    out: Path,
    refitted: Sequence[RefittedHead] = (),
) -> Checkpoint:
    """Write the checkpoint folder `out`, whole or not at all, and return it as `load_checkpoint` would."""
    made = model.architecture() if isinstance(model, PixelForest) else architecture_of(model, spec)
    described = {
        **meta,
        "format": FORMAT,
        "architecture": made.model_dump(mode="json"),
        "tasks": list(model.tasks),
        "classes": {task: list(names) for task, names in model.classes.items()},
    }
    claim(out, "checkpoint", DESCRIPTION)  # what is replaced whole must have been ours
    with atomic_folder(out) as folder:
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        (folder / WEIGHTS).write_bytes(save(state))  # save_file hides a full disk, and shuts out other users
        write_json(folder / DESCRIPTION, described)
        write_json(folder / TRAINED_ON, {part: sorted(names) for part, names in trained_on.items()})
        if len(history.columns):
            history.to_csv(folder / HISTORY, index=False)
        if refitted:
            save_heads(refitted, folder / HEADS)
    return load_checkpoint(out)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; nothing in it is executed, and sizes are checked before memory is taken.

    Raises DataError in plain words for a missing or incomplete folder, damaged JSON or weights, weights that are no
    safetensors file (such as a pickle), and weights that do not fit the description.
    """
    if not folder.is_dir():
        raise DataError(f"checkpoint {folder} is not a folder; give one that `fairaudit train` wrote")
    missing = [name for name in (DESCRIPTION, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} is no checkpoint: {' and '.join(missing)} missing; give one that `fairaudit train` wrote"
        )
    meta = _read_json(folder / DESCRIPTION)
    model = _model(folder, meta)
    use = _checked(_Use, meta, folder / DESCRIPTION).model_dump(exclude_unset=True)
    trained_on = _read_json(folder / TRAINED_ON) if (folder / TRAINED_ON).exists() else {}
    try:
        history = pd.read_csv(folder / HISTORY) if (folder / HISTORY).exists() else pd.DataFrame()
    except (ValueError, OSError) as error:
        raise DataError(f"{folder / HISTORY} cannot be read: {error}") from None
    refitted, files = _refitted(folder, model)
    return Checkpoint(
        folder=folder,
        model=model,
        refitted=refitted,
        meta={**meta, **use, "predicts_years": AGE_YEARS in getattr(model, "outputs", ())},
        history=history,
        trained_on={str(part): frozenset(map(str, names)) for part, names in trained_on.items()},
        hash=value_hash([file_hash(path) for path in (folder / WEIGHTS, folder / DESCRIPTION, *files)]),
    )


def _refitted(folder: Path, model: FaceClassifier | PixelForest) -> tuple[tuple[RefittedHead, ...], list[Path]]:
    """Return the refitted heads of a checkpoint, checked against its network, and their files."""
    files = [folder / f"{HEADS}{end}" for end in (".safetensors", ".json")]
    if not any(path.exists() for path in files):
        return (), []
    heads = load_heads(folder / HEADS)
    if isinstance(model, PixelForest):
        raise DataError(
            f"{folder}: a forest has no embeddings for refitted heads; the files belong to different models"
        )
    for head in heads:
        if tuple(model.classes.get(head.task, ())) != head.classes:
            raise DataError(f"{folder}: the refitted head of {head.task!r} has other classes than {DESCRIPTION}")
        check_head(head, model.width)
    return heads, files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise DataError(f"{path} is larger than any description of a checkpoint ({path.stat().st_size} bytes)")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it holds no table of keys")
    return value


def _model(folder: Path, meta: Mapping[str, Any]) -> FaceClassifier | PixelForest:
    shapes, path = _shapes(folder / WEIGHTS), folder / DESCRIPTION
    described = meta.get("architecture")
    if isinstance(described, dict) and described.get("backbone") in FORESTS:
        _check_format(meta, path)
        made = _checked(ForestArchitecture, meta.get("architecture"), path, "architecture")
        return build_forest(made, _classes(meta, path), load_file(folder / WEIGHTS), str(folder / WEIGHTS))
    size = sum(map(math.prod, shapes.values()))
    with WithoutMemory():  # a few words of JSON can name billions of parameters
        _check_fit(_build(meta, path, size), folder / WEIGHTS, shapes)
    model = _build(meta, path, size)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def _check_format(meta: Mapping[str, Any], path: Path) -> None:
    if meta.get("format") != FORMAT:
        raise DataError(
            f"{path}: format {meta.get('format')!r} is not {FORMAT}, the one this version of fairaudit reads"
        )


def _checked(kind: type[_A], values: Any, path: Path, *place: str) -> _A:
    """Return what model.json says at `place`; DataError where it is not of this kind."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join([*place, *map(str, first['loc'])])}: {first['msg']}") from None


def _build(meta: Mapping[str, Any], path: Path, size: int) -> FaceClassifier:
    """Build the network that model.json describes, without its weights, of which there are `size` values."""
    _check_format(meta, path)
    made = _checked(Architecture, meta.get("architecture"), path, "architecture")
    classes = _classes(meta, path)
    spec = ModelSpec.model_validate(made.model_dump(include=set(ModelSpec.model_fields)))
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(made.widths))
    if smallest_size(spec.shared_widths, made.heads, classes) + convolutions > size:
        raise DataError(f"{path}: its heads alone are larger than {WEIGHTS}; the two files belong to different models")
    try:
        backbone = build_backbone(spec, pretrained=False)
        model = FaceClassifier(
            backbone,
            classes,
            shared=spec.shared_widths,
            dropout=made.dropout,
            activation=made.activation,
            heads=made.heads,
            trainable=made.trainable_blocks,
        )
    except UsageError as error:
        raise DataError(f"{path}: {error}") from None
    if made.folded:
        fold(model.blocks.eval())
        model.folded = True
    model.set_normalization(made.mean, made.std)
    return model


def _classes(meta: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    tasks, classes = meta.get("tasks"), meta.get("classes")
    good = isinstance(tasks, list) and isinstance(classes, dict) and 0 < len(tasks) <= 1000
    if good:
        good = all(isinstance(t, str) and isinstance(classes.get(t), list) for t in tasks)  # type: ignore[union-attr]
    if not good:
        raise DataError(f"{path}: `tasks` and `classes` must name every task and its list of classes")
    made = {task: tuple(map(str, classes[task])) for task in tasks}  # type: ignore[union-attr, index]
    for task, names in made.items():
        if len(set(names)) != len(names) or not 1 < len(names) <= 10_000:
            raise DataError(f"{path}: task {task!r} needs two or more different classes, it has {len(names)}")
    return made


def _shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor that the file's header names."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is no safetensors file ({error}); a pickle is never opened, because reading one can run code"
        ) from None


def _check_fit(model: FaceClassifier, path: Path, found: Mapping[str, list[int]]) -> None:
    """Raise DataError unless every name and shape in the header of the weights file, `found`, is the model's."""
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    wrong = [
        f"{name}: {found.get(name, 'missing')}, expected {wanted.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if wrong:
        raise DataError(
            f"{path} does not fit {DESCRIPTION}: {len(wrong)} tensors differ ({'; '.join(wrong[:3])}); "
            "the two files belong to different models"
        )
