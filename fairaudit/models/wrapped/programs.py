"""Formats that carry code: TorchScript, torch.export programs, pickled modules. Opened only for who trusts them."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairaudit.errors import DataError
from fairaudit.models.pickled import zip_records
from fairaudit.models.weights import state_dict_of
from fairaudit.models.wrapped.description import ModelDescription
from fairaudit.models.wrapped.networks import TorchRunner, fill_network
from fairaudit.named_code import current_folder_last, first_line


def open_torchscript(path: Path) -> TorchRunner:
    """Load a TorchScript program. Raises DataError where it is damaged or a zip bomb."""
    zip_records(path, compressed=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is old is no news to who has a file of it
            module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as TorchScript: {first_line(error)}") from None
    return TorchRunner(module=module.eval())


def open_export(path: Path) -> TorchRunner:
    """Load a torch.export program. Raises DataError where it is damaged or a zip bomb."""
    zip_records(path, compressed=True)
    try:
        program = torch.export.load(path)
        module = program.module()
    except Exception as error:  # its own errors are many, and none of them is a common base class
        raise DataError(f"{path} cannot be read as a torch.export program: {first_line(error)}") from None
    return TorchRunner(module=module, batch=_fixed_batch(program), movable=False)


def _fixed_batch(program: Any) -> int | None:
    """Return the number of faces that the program was exported for; None where it is free."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.name in inputs and "val" in node.meta:
            first = node.meta["val"].shape[0] if len(node.meta["val"].shape) else None
            return first if isinstance(first, int) else None
    return None


def open_pickled(path: Path, description: ModelDescription) -> TorchRunner:
    """Unpickle a torch file that holds more than weights: a whole module, or a checkpoint with other objects around
    the state dict of the described network. Its code runs. Raises DataError where it holds neither.
    """
    try:
        with current_folder_last():
            loaded = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling may raise anything
        raise DataError(f"{path} cannot be unpickled: {type(error).__name__}: {first_line(error)}") from None
    if isinstance(loaded, nn.Module):
        return TorchRunner(module=loaded.float().eval().requires_grad_(False))
    if isinstance(loaded, dict):
        whole = next((value for value in loaded.values() if isinstance(value, nn.Module)), None)
        if whole is not None:
            return TorchRunner(module=whole.float().eval().requires_grad_(False))
    if description.network:
        return fill_network(state_dict_of(loaded, path), path, description)
    raise DataError(f"{path} holds neither a module nor a state dict with a `network` in its description")
