"""The stages of training, in the source projects' manner: heads, then the upper blocks; or everything at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.models import feeds
from fairaudit.models.cache import ArrayCache
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import Compiled
from fairaudit.models.loop import Stage
from fairaudit.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Part:
    """The faces of one split that training uses, the SHA-256 of each file, and their decoded pixels."""

    name: str
    faces: FaceTable
    hashes: tuple[str, ...]
    views: feeds.Views

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def images(self) -> list[str]:
        """The name of each face's file."""
        return [str(name) for name in self.faces.frame["image"]]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every stage needs: the model, its faces, and where and in which format maps are cached.

    `key` names the backbone and its weights; `pretrained` is False for a backbone that is trained from scratch. With
    `compiled` the steps of the stages that train blocks are compiled; heads on embeddings gain nothing by it, and
    validation, whose last batch is smaller, is not.
    """

    model: FaceClassifier
    train: Part
    val: Part
    spec: Spec
    store: ArrayCache
    key: Mapping[str, Any]
    dtype: torch.dtype
    pretrained: bool
    compiled: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.mean.device

    @property
    def val_views(self) -> int:
        """How many views of a validation face are averaged."""
        return 2 if self.spec.training.flip_test else 1


def plan(setup: Setup) -> list[str]:
    """Return the stages in order: "heads" and "upper" for a pretrained backbone, "all" where nothing stays frozen.

    Raises UsageError where the spec leaves nothing to train.
    """
    training, model = setup.spec.training, setup.model
    names = ["heads"] if setup.pretrained and training.head_epochs else []
    if training.epochs and model.cut < len(model.blocks):
        names.append("upper" if setup.pretrained and model.cut else "all")
    if not names:
        raise UsageError("nothing to train: head_epochs is 0, and epochs or trainable_blocks is 0, too")
    return names


def make_stage(setup: Setup, name: str, maps: tuple[list[Tensor], list[Tensor]] | None) -> Stage:
    """Return the stage `name`; `maps` are those of `lower_maps`, where the plan holds the stage "upper"."""
    if name == "heads":
        return _heads(setup, maps)
    if name == "upper" and maps is not None:
        return _upper(setup, maps)
    return _everything(setup)


def lower_maps(setup: Setup) -> tuple[list[Tensor], list[Tensor]]:
    """Return the lower blocks' maps of every view of the training and of the validation faces."""
    views = setup.spec.training.augmented_views
    return _lower(setup, setup.train, views), _lower(setup, setup.val, setup.val_views)


def _lower(setup: Setup, part: Part, count: int) -> list[Tensor]:
    return feeds.lower_maps(setup.model, part.views, count, part.hashes, setup.key, setup.dtype, setup.store, part.name)


def _heads(setup: Setup, maps: tuple[list[Tensor], list[Tensor]] | None) -> Stage:
    """Shared layer and heads on embeddings; where fine-tuning follows, those of the plain and the mirrored face do."""
    if maps is not None:
        train, val = (_from_maps(setup, part, of[:2]) for part, of in zip((setup.train, setup.val), maps, strict=True))
    else:
        count = setup.spec.training.augmented_views if not _tuned_later(setup) else 2
        train, val = _from_faces(setup, setup.train, count), _from_faces(setup, setup.val, setup.val_views)
    model, device = setup.model, setup.device
    loads = [lambda rows, view=view: view[rows].to(device) for view in val]
    heads: list[nn.Module] = [model.shared, model.heads]
    return Stage(
        name="heads",
        epochs=setup.spec.training.head_epochs,
        inputs=feeds.cached_batches(train, setup.spec.seed, device),
        forward=model.classify,
        validate=lambda: feeds.validate_on(model.classify, loads, len(setup.val), device, torch.float32),
        learns=heads,
        groups=[_group(heads, setup.spec.training.head_learning_rate)],
        prefixes=("shared.", "heads."),
        dtype=torch.float32,
        images=setup.train.images,
    )


def _tuned_later(setup: Setup) -> bool:
    return bool(setup.spec.training.epochs) and setup.model.cut < len(setup.model.blocks)


def _from_maps(setup: Setup, part: Part, maps: list[Tensor]) -> list[Tensor]:
    return feeds.embeddings_of_maps(
        setup.model, maps, part.views, part.hashes, setup.key, setup.dtype, setup.store, part.name
    )


def _from_faces(setup: Setup, part: Part, count: int) -> list[Tensor]:
    return feeds.embeddings_of_faces(
        setup.model, part.views, count, part.hashes, setup.key, setup.dtype, setup.store, part.name
    )


def _upper(setup: Setup, maps: tuple[list[Tensor], list[Tensor]]) -> Stage:
    """Upper blocks and heads on cached maps of the lower blocks."""
    model, device, training = setup.model, setup.device, setup.spec.training
    upper = model.upper_modules()
    heads: list[nn.Module] = [model.shared, model.heads]
    loads = [lambda rows, view=view: feeds.as_maps(view[rows].to(device)) for view in maps[1]]
    return Stage(
        name="upper",
        epochs=training.epochs,
        inputs=feeds.cached_batches(maps[0], setup.spec.seed, device),
        forward=_stepping(setup, model.from_maps),
        validate=lambda: feeds.validate_on(model.from_maps, loads, len(setup.val), device, setup.dtype),
        learns=[*heads, *upper] if training.batch_norm == "train" else heads,
        groups=[_group(heads, training.head_learning_rate), _group(upper, training.learning_rate)],
        prefixes=("shared.", "heads.", "pool.", *(f"blocks.{i}." for i in range(model.cut, len(model.blocks)))),
        dtype=setup.dtype,
        images=setup.train.images,
    )


def _everything(setup: Setup) -> Stage:
    """The whole network, on images that are augmented as they are read."""
    model, device, training = setup.model, setup.device, setup.spec.training
    pixels = setup.val.views.pixels
    loads = [lambda rows: model.prepare(pixels[rows]), lambda rows: model.prepare(pixels[rows].flip(2))]
    heads: list[nn.Module] = [model.shared, model.heads]
    fixed = setup.pretrained and training.batch_norm != "train"
    return Stage(
        name="all",
        epochs=training.epochs,
        inputs=lambda epoch: setup.train.views.on_the_fly(model, epoch),
        forward=_stepping(setup, model.forward),
        validate=lambda: feeds.validate_on(
            model.forward, loads[: setup.val_views], len(setup.val), device, setup.dtype
        ),
        learns=heads if fixed else [*heads, *model.upper_modules()],
        groups=[_group(heads, training.head_learning_rate), _group(model.upper_modules(), training.learning_rate)],
        prefixes=("shared.", "heads.", "pool.", "blocks."),
        dtype=setup.dtype,
        images=setup.train.images,
    )


def _stepping(setup: Setup, forward: Callable[[Tensor], dict[str, Tensor]]) -> Callable[[Tensor], dict[str, Tensor]]:
    return Compiled(forward) if setup.compiled else forward


def _group(modules: list[nn.Module], rate: float) -> dict[str, Any]:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return {"params": parameters, "lr": rate, "height": rate}
