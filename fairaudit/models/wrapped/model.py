"""WrappedModel: a description and something that runs, together a FaceModel."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fairaudit.errors import DataError, UsageError
from fairaudit.models.classifier import probabilities
from fairaudit.models.protocol import Forward
from fairaudit.models.wrapped.description import ModelDescription
from fairaudit.models.wrapped.outputs import Outputs, logits_of, named_outputs, places
from fairaudit.models.wrapped.pictures import Reader, prepare
from fairaudit.named_code import first_line

Run = Callable[[Tensor], Any]


class Runner(Protocol):
    """What runs a wrapped model.

    `batch` is the only number of faces that it takes at once, None for any. `differentiable`: whether gradients flow
    from outputs to inputs. `prepares`: whether it wants float32 (n, C, S, S) as the description says, not uint8 faces.
    """

    @property
    def batch(self) -> int | None: ...

    @property
    def differentiable(self) -> bool: ...

    @property
    def prepares(self) -> bool: ...

    def place(self, device: str) -> torch.device:
        """Return the device that `device` means; UsageError for one on which this cannot run."""

    def on(self, device: torch.device, dtype: torch.dtype) -> Run:
        """Return the function from inputs on `device` to outputs; UsageError for a dtype that it cannot compute in."""


@dataclass(frozen=True, kw_only=True)
class WrappedModel:
    """Anybody's classifier as a FaceModel.

    `where` says in which output and columns each task is; `order` which of a task's classes are first, second, … for
    data that have them in another order than the outputs.
    """

    description: ModelDescription
    runner: Runner
    picture: Reader
    where: Mapping[str, tuple[str, slice]]
    meta: Mapping[str, Any]
    hash: str
    trained_on: Mapping[str, frozenset[str]] = field(default_factory=dict)
    order: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Each task's different classes: in the order of the description, or as `in_order` was told."""
        own = {task: described.merged for task, described in self.description.tasks.items()}
        return {task: tuple(names[i] for i in self.order.get(task, range(len(names)))) for task, names in own.items()}

    @property
    def ordered(self) -> frozenset[str]:
        """The tasks whose classes have an order."""
        return frozenset(task for task, described in self.description.tasks.items() if described.ordered)

    @property
    def image_size(self) -> int:
        """Side of the square pictures that it takes, in pixels."""
        return self.description.input.size

    @property
    def flip_test(self) -> bool:
        """Whether predictions are averaged with those of the mirrored face."""
        return self.description.flip_test

    @property
    def stated(self) -> bool:
        """True: somebody wrote the description."""
        return True

    @property
    def network(self) -> "WrappedNetwork":
        """The network for attribution. Raises UsageError where no gradients flow."""
        if not self.runner.differentiable:
            raise UsageError(
                f"attribution follows gradients, and a model of format {self.meta['file_format']!r} gives none; give "
                "the network as a state dict, TorchScript or torch.export program"
            )
        return WrappedNetwork(self)

    def in_order(self, tasks: Mapping[str, tuple[str, ...]]) -> "WrappedModel":
        """Return the model with its classes in the order of these tasks, where both know the same classes."""
        own = {task: described.merged for task, described in self.description.tasks.items()}
        order = {
            task: tuple(own[task].index(name) for name in names)
            for task, names in tasks.items()
            if task in own and sorted(names) == sorted(own[task])
        }
        return replace(self, order=order)

    def place(self, device: str) -> torch.device:
        """Return the device that `device` means for this model."""
        return self.runner.place(device)

    def read(self, path: Path) -> np.ndarray:
        """Return the picture as this model looks at it, uint8 RGB (S, S, 3)."""
        return self.picture(path)

    def on(self, device: torch.device, dtype: torch.dtype, *, flip: bool) -> Forward:
        """Return the function from uint8 faces to probabilities."""
        logits = self.logits_on(device, dtype)

        def forward(pixels: Tensor) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                views = (pixels, pixels.flip(2)) if flip else (pixels,)
                each = [probabilities(logits(self.prepare(view.to(device)))) for view in views]
            return {task: torch.stack([one[task] for one in each]).mean(0).cpu().numpy() for task in each[0]}

        return forward

    def prepare(self, images: Tensor) -> Tensor:
        """Turn uint8 faces (n, S, S, 3) into what `logits_on` takes."""
        return prepare(images, self.description.input) if self.runner.prepares else images

    def logits_on(self, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Outputs]:
        """Return the function from prepared faces to each task's logits."""
        run = self.runner.on(device, dtype)

        def logits(x: Tensor) -> Outputs:
            found = logits_of(self.outputs(run, x), self.where, self.description.tasks)
            return {task: v[:, list(self.order[task])] if task in self.order else v for task, v in found.items()}

        return logits

    def outputs(self, run: Run, x: Tensor) -> Outputs:
        """Return what `run` gives for prepared faces, laid out as it wants them."""
        last = self.runner.prepares and self.description.input.layout == "NHWC"
        return run_in_batches(run, x.permute(0, 2, 3, 1).contiguous() if last else x, self.runner.batch)


class WrappedNetwork(nn.Module):
    """A wrapped model as the network that attribution asks for: prepared faces → logits of every task."""

    mean: Tensor

    def __init__(self, model: WrappedModel) -> None:
        super().__init__()
        self.classes, self.tasks, self.image_size = model.classes, tuple(model.classes), model.image_size
        self._model = model
        self._ready: dict[torch.device, Callable[[Tensor], Outputs]] = {}
        self._lock = threading.Lock()
        self.register_buffer("mean", torch.zeros(1))  # says on which device this is

    @property
    def module(self) -> nn.Module | None:
        """The torch module that runs, None where something else does."""
        found = getattr(self._model.runner, "module", None)
        return found if isinstance(found, nn.Module) else None

    def with_module(self, module: nn.Module) -> "WrappedNetwork":
        """Return the network with another module of the same make, on the same device."""
        runner = replace(self._model.runner, module=module)  # type: ignore[type-var]
        return WrappedNetwork(replace(self._model, runner=runner)).to(self.mean.device)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn uint8 faces (n, S, S, 3) into float32 (n, C, S, S)."""
        return self._model.prepare(images.to(self.mean.device))

    def forward(self, x: Tensor) -> Outputs:
        """Return each task's logits (n, K) of prepared faces."""
        with self._lock:
            if x.device not in self._ready:
                self._ready[x.device] = self._model.logits_on(x.device, torch.float32)
        return self._ready[x.device](x)


def run_in_batches(run: Run, x: Tensor, batch: int | None) -> Outputs:
    """Return the outputs of all faces of `x`, from a model that takes only `batch` faces at once (None: any number).

    Raises DataError where the model does not give a row a face.
    """
    if batch is None:
        outputs = named_outputs(run(x))
    else:
        parts = []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            filled = torch.cat([part, part[-1:].expand(batch - len(part), *part.shape[1:])])
            parts.append({name: value[: len(part)] for name, value in named_outputs(run(filled)).items()})
        outputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    wrong = [name for name, value in outputs.items() if len(value) != len(x)]
    if wrong:
        raise DataError(f"the model gave {len(outputs[wrong[0]])} rows in output {wrong[0]!r} for {len(x)} faces")
    return outputs


def assemble(
    description: ModelDescription, runner: Runner, picture: Reader, meta: Mapping[str, Any], model_hash: str
) -> WrappedModel:
    """Try the model on two pictures of noise, and return it with the places of its outputs.

    Raises DataError in plain words where it cannot run, or its outputs do not fit the classes.
    """
    size, file = description.input.size, meta["file"]
    noise = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draft = WrappedModel(description=description, runner=runner, picture=picture, where={}, meta=meta, hash=model_hash)
    try:
        with torch.inference_mode():
            run = runner.on(torch.device("cpu"), torch.float32)
            outputs = draft.outputs(run, draft.prepare(noise))
        where = places(description.tasks, {name: value.shape[1] for name, value in outputs.items()})
        logits_of(outputs, where, description.tasks)
    except DataError as error:
        said = str(error)  # of a function it begins with the name already
        raise DataError(said if said.startswith(f"{file} ") else f"{file}: {said}") from None
    except UsageError:
        raise
    except Exception as error:
        wanted = f"{description.input.colour}, {description.input.layout}" if runner.prepares else "uint8 RGB"
        raise DataError(
            f"{file} cannot take faces of {size} × {size} px as {wanted} ({type(error).__name__}: "
            f"{first_line(error)}); see [input] of its description"
        ) from None
    return replace(draft, where=where)
