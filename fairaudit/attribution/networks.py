"""The network behind a model: made fast, copied, randomized, and where its last maps are."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fairaudit.errors import UsageError
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.folding import folds_exactly
from fairaudit.models.runtime import keep_freed_memory
from fairaudit.models.wrapped.model import WrappedNetwork


def ready(model: Any, device: torch.device) -> Any:
    """Return a copy that computes the same scores faster: no parameter gradients, batch norms folded, channels last.

    Anybody else's network is taken as it is.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if not isinstance(model, FaceClassifier):
        return model.to(device)
    made = copy.deepcopy(model).eval().requires_grad_(False)
    if not made.folded and folds_exactly(made.blocks, made.image_size):
        made.fold_batch_norm().requires_grad_(False)
    return made.to(device).to(memory_format=torch.channels_last)


def module_of(model: Any) -> nn.Module:
    """Return the network with the weights; UsageError where a function hides it."""
    if not isinstance(model, WrappedNetwork):
        return model
    found = model.module
    if found is None:
        raise UsageError(
            "this method and the randomized model need the network itself, and a function hides it; give the network "
            "as a state dict, or choose integrated-gradients without contrasts and with sanity = 'none'"
        )
    return found


def with_module(model: Any, module: nn.Module) -> Any:
    """Return the model with another network of the same make in place of its own."""
    return model.with_module(module) if isinstance(model, WrappedNetwork) else module


def last_maps(model: Any) -> nn.Module:
    """Return the layer whose output are the last maps (N, C, H, W) of a network.

    Raises UsageError where there is none: a network that ends in tokens or embeddings has no place for each of them.
    """
    network = module_of(model)
    if isinstance(network, FaceClassifier):
        size = network.image_size
        with torch.no_grad():
            maps = network.blocks(torch.zeros(1, 3, size, size, device=network.mean.device))
        found: nn.Module | None = network.blocks[-1] if maps.dim() == 4 and maps.shape[-1] > 1 else None
    else:
        convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
        found = convolutions[-1] if convolutions else None
    if found is None:
        raise UsageError("Grad-CAM needs a network whose last layers are maps; choose another method for this one")
    return found


def randomized(model: Any, faces: Tensor, seed: int, blocks: int | None = None) -> Any:
    """Return a copy whose weights are shuffled within each tensor: as many, as large, and without what was learned.

    `blocks` randomizes only the last so many of `parts` (None: all of them). Batch norms are measured anew on `faces`
    (prepared, (N, C, H, W)), as for a network that had been made that way.
    """
    network = copy.deepcopy(module_of(model)).eval()
    generator = torch.Generator().manual_seed(seed)
    touched = [network] if blocks is None else parts(network)[-blocks:] if blocks else []
    with torch.no_grad():
        for part in touched:
            for value in part.parameters():
                order = torch.randperm(value.numel(), generator=generator).to(value.device)
                value.copy_(value.flatten()[order].view_as(value))
    for value in network.parameters():  # one by one: a TorchScript module refuses `requires_grad_` as a whole
        (value if value.is_leaf else value.detach_()).requires_grad_(False)
    made = with_module(model, network)
    _measure_batch_norms(made, network, faces)
    return made


def parts(network: nn.Module) -> list[nn.Module]:
    """Return the parts of a network from the image to the heads, for randomizing it bit by bit."""
    if isinstance(network, FaceClassifier):
        return [*network.blocks, *([network.pool] if network.pool is not None else []), network.shared, network.heads]
    return [part for part in network.modules() if not list(part.children()) and list(part.parameters(recurse=False))]


def _measure_batch_norms(model: Any, network: nn.Module, faces: Tensor) -> None:
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    norms = [part for part in norms if part.track_running_stats]
    if not norms or len(faces) < 2:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of what it sees
        norm.train()
    with torch.no_grad():
        model(faces)
    for norm in norms:
        norm.eval()
