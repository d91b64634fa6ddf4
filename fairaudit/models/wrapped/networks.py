"""Torch networks: state dicts of torchvision, fairaudit's own backbones and timm, and anything that is a module."""

import copy
import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from fairaudit.errors import DataError, UsageError
from fairaudit.models.backbones import BACKBONES
from fairaudit.models.limits import WithoutMemory
from fairaudit.models.runtime import autocast, pick_device
from fairaudit.models.weights import read_weights
from fairaudit.models.wrapped.description import ModelDescription
from fairaudit.models.wrapped.model import Run
from fairaudit.registry import suggestion
from fairaudit.spec import ModelSpec

TIMM = "timm:"
LARGEST_HEAD = 2**28  # values, 1 GiB: a description of a few words could ask for more memory than any machine has
_LAST = ("fc", "classifier", "heads", "head")  # what torchvision's and timm's networks call their last layer
_PLAIN_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "dropout": nn.Dropout,
    "flatten": nn.Flatten,
    "identity": nn.Identity,
}


@dataclass(frozen=True, kw_only=True)
class TorchRunner:
    """A module in eval mode on the CPU, whose call gives the outputs. `movable`: whether it runs on other devices."""

    module: Any
    batch: int | None = None
    movable: bool = True
    differentiable: bool = True
    prepares: bool = True

    def place(self, device: str) -> torch.device:
        """Return the device that `device` means."""
        if self.movable:
            return pick_device(device)
        return only_cpu(device, "a torch.export program keeps the device it was exported for")

    def on(self, device: torch.device, dtype: torch.dtype) -> Run:
        """Return the module on `device`, under autocast where `dtype` is not float32."""
        module = self.module if device.type == "cpu" else copy.deepcopy(self.module).to(device)

        def run(x: Tensor) -> Any:
            with autocast(device, dtype):
                return module(x)

        return run


def only_cpu(device: str, why: str) -> torch.device:
    """Return the CPU; UsageError where another device was asked for by name."""
    if device not in ("auto", "cpu"):
        raise UsageError(f"device {device!r}: {why}; give cpu or auto")
    return torch.device("cpu")


def only_fp32(dtype: torch.dtype, what: str) -> None:
    """Raise UsageError for a precision that a foreign runtime would not heed."""
    if dtype != torch.float32:
        raise UsageError(f"precision: {what} computes in its own number format; leave --precision out")


def open_state_dict(path: Path, description: ModelDescription) -> TorchRunner:
    """Build the network that the description names and fill it; the tensors are compared before any is copied.

    Raises UsageError for a network that cannot be had, DataError for a file that does not fit it.
    """
    if not description.network:
        raise UsageError(
            f"{path} holds tensors without a network: name it in the description (network = 'resnet34', a backbone of "
            f"`fairaudit list backbones`, or 'timm:<name>')"
        )
    return fill_network(read_weights(path), path, description)


def fill_network(state: Mapping[str, Tensor], path: Path, description: ModelDescription) -> TorchRunner:
    """Return the described network with the tensors of `state`; errors as in `open_state_dict`."""
    with WithoutMemory():  # a few words can name billions of parameters
        own = build_network(description).state_dict()
    if description.prefix:
        start = description.prefix
        state = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    state = {name: value for name, value in state.items() if not _is_aux(name, own)}
    counters = {name: own[name] for name in own.keys() - state.keys() if name.endswith("num_batches_tracked")}
    wrong = _differences({**counters, **state}, own)
    if wrong:
        shown = "; ".join(wrong[:4])
        raise DataError(
            f"{path} does not fit {description.network} with {outputs_of(description)} outputs: {len(wrong)} tensors "
            f"differ ({shown}){_hint(state, own, description)}"
        )
    network = build_network(description)
    network.load_state_dict({**{name: network.state_dict()[name] for name in counters}, **state})
    return TorchRunner(module=network.float().eval().requires_grad_(False))


def outputs_of(description: ModelDescription) -> int:
    """Return how many outputs the heads need: their last column."""
    last, most = 0, 0
    for task in description.tasks.values():
        last = task.columns[1] if task.columns else last + task.width
        most = max(most, last)
    return most


def build_network(description: ModelDescription) -> nn.Module:
    """Return the network with random weights: its last layer gives one output a column, or is the described head."""
    name, channels = str(description.network), description.input.channels
    outputs = outputs_of(description)
    if name.startswith(TIMM):
        return _with_head(_timm(name.removeprefix(TIMM), outputs, channels), description, outputs)
    if channels != 3:
        raise UsageError(
            f"network {name!r} takes three channels; input.colour = 'grey' gives one (timm networks take it)"
        )
    if name in BACKBONES:
        whole = BACKBONES[name](ModelSpec(backbone=name)).whole
        return _on_embedding(whole, description, outputs)
    names = list_models(module=torchvision.models)
    if name not in names:
        near = suggestion(name, [*BACKBONES, *names])
        raise UsageError(
            f"network = {name!r} is not known{near} (allowed: {', '.join(BACKBONES)}, timm:<name>, or a classification "
            f"model of torchvision: {', '.join(names)})"
        )
    options: dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "transform_input": False}
    if name.startswith("vit_"):
        options = {"image_size": description.input.size}
    try:
        return _with_head(get_model(name, weights=None, num_classes=outputs, **options), description, outputs)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f"network {name!r} cannot be built for {description.input.size} px: {error}") from None


def _timm(name: str, outputs: int, channels: int) -> nn.Module:
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError:
        raise UsageError(f"network = 'timm:{name}' needs timm: pip install 'fairaudit[timm]'") from None
    if name.split(".")[0] not in timm.list_models():
        near = suggestion(name, timm.list_models())
        raise UsageError(f"network = 'timm:{name}': timm {timm.__version__} has no such model{near}")
    made: nn.Module = timm.create_model(name, pretrained=False, num_classes=outputs, in_chans=channels)
    return made


def _with_head(network: nn.Module, description: ModelDescription, outputs: int) -> nn.Module:
    """Put the described head, where there is one, in place of the network's last layer."""
    if not description.head:
        return network
    for name in _LAST:
        last = getattr(network, name, None)
        linear = [layer for layer in last.modules() if isinstance(layer, nn.Linear)] if last is not None else []
        if linear:
            setattr(network, name, build_head(description.head, linear[0].in_features, outputs))
            return network
    raise UsageError(f"network {description.network!r} has no last linear layer that a head could take the place of")


def _on_embedding(whole: nn.Module, description: ModelDescription, outputs: int) -> nn.Module:
    """A backbone of ours gives maps or an embedding: the file's other tensors, named head.…, are a head on it."""
    size = description.input.size
    with torch.no_grad():
        try:
            made = whole.eval()(torch.zeros(1, 3, size, size))
        except RuntimeError as error:
            raise UsageError(f"network {description.network!r} cannot take faces of {size} px: {error}") from None
    return _Headed(whole, build_head(description.head or ("linear",), made.shape[1], outputs))


class _Headed(nn.Module):
    """A backbone, whose tensors keep their names, and `head` on its (averaged) output."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        for name, child in backbone.named_children():
            self.add_module(name, child)
        self.head = head
        self._inner = [backbone]  # in a list: its tensors must not be counted twice

    def forward(self, x: Tensor) -> Tensor:
        z = self._inner[0](x)
        logits: Tensor = self.head(z.mean((2, 3)) if z.dim() == 4 else z)
        return logits


def build_head(words: tuple[str, ...], inputs: int, outputs: int) -> nn.Module:
    """Return the layers that the words name: a lone "linear" as itself, several as a Sequential.

    "linear 256" has 256 outputs; the last "linear" has what the tasks need. Raises UsageError for an unknown word, a
    linear layer in between without its width, a head whose last linear layer has another width, or an absurd size.
    """
    layers: list[nn.Module] = []
    width, values = inputs, 0
    linear = [number for number, word in enumerate(words) if word.split()[:1] == ["linear"]]
    for number, word in enumerate(words):
        kind, *rest = word.split()
        if kind == "linear" and len(rest) <= 1 and all(part.isdigit() and 0 < int(part) <= 65536 for part in rest):
            if not rest and number != linear[-1]:
                raise UsageError("head: only the last 'linear' may leave its width out; write 'linear 256'")
            following = int(rest[0]) if rest else outputs
            values += width * following
            if values > LARGEST_HEAD:
                raise UsageError(f"head: up to {word!r} it would hold {values:,} values, more than {LARGEST_HEAD:,}")
            layers.append(nn.Linear(width, following))
            width = following
        elif kind == "batchnorm" and not rest:
            layers.append(nn.BatchNorm1d(width))
        elif kind in _PLAIN_LAYERS and not rest:
            layers.append(_PLAIN_LAYERS[kind]())
        else:
            allowed = ", ".join(["linear", "linear <width>", "batchnorm", *_PLAIN_LAYERS])
            raise UsageError(f"head: unknown layer {word!r}{suggestion(kind, _PLAIN_LAYERS)} (allowed: {allowed})")
    if width != outputs:
        raise UsageError(f"head: its last layer gives {width} outputs, the tasks need {outputs}")
    return (
        layers[0] if len(layers) == 1 else nn.Sequential(OrderedDict((str(i), layer) for i, layer in enumerate(layers)))
    )


def _is_aux(name: str, own: Mapping[str, Tensor]) -> bool:
    """Return whether a tensor belongs to an auxiliary classifier, which GoogLeNet and Inception only train with."""
    return name not in own and "aux" in name.split(".")[0].lower()


def _differences(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return a phrase for each tensor that is missing, unknown or of another shape: those of other shapes first."""
    other = [
        f"{name}: {list(state[name].shape)}, expected {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    missing = [f"{name}: missing" for name in own if name not in state]
    return [*other, *missing, *(f"{name}: unknown" for name in state if name not in own)]


def _hint(state: Mapping[str, Tensor], own: Mapping[str, Tensor], description: ModelDescription) -> str:
    """Return what would probably help."""
    for name in own:
        found = next((key for key in state if key.endswith(f".{name}")), None)
        if found and not description.prefix and name not in state:
            return f"; did you mean prefix = {found.removesuffix(name)!r}?"
    last = [name for name in state if name.endswith("weight") and state[name].dim() == 2]
    if last and last[-1] in own and len(state[last[-1]]) != len(own[last[-1]]):
        return f"; its last layer gives {len(state[last[-1]])} outputs: name as many classes"
    if last and any(name.startswith(_LAST) for name in state if name not in own):
        return '; is its last layer more than one linear layer? Say so with head = ["linear 256", "relu", …]'
    return ""
