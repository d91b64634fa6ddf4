"""Weights files: where they are looked for, and how they are read without running anything that they contain."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import Weights, get_model_weights

from fairaudit.errors import DataError, UsageError
from fairaudit.models.pickled import UntrustedError, check_torch_file

_STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")  # of others' checkpoints
DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer after which a download is given up


def torch_home() -> Path:
    """Return the folder in which torch keeps downloaded weights: $TORCH_HOME, else the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.environ.get("TORCH_HOME") or default).expanduser()


def find_weights(name: str, folders: Sequence[Path]) -> Path:
    """Return the weights file `name`: looked for in `folders`, then $TORCH_HOME, then $TORCH_HOME/hub/checkpoints.

    Raises UsageError naming every place, also for a name that would leave these folders.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(f"weights = {name!r}: give the file's name, not a path that leads out of the spec's folder")
    places = [*folders, torch_home(), torch_home() / "hub" / "checkpoints"]
    for place in places:
        if (place / name).is_file():
            return place / name
    listed = ", ".join(str(place) for place in places)
    raise UsageError(
        f"weights file {name!r} was not found in: {listed}. "
        "Put it into one of these folders, or set TORCH_HOME to the folder that holds it"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a torch (.pt, .pth) or .safetensors file, on the CPU; nothing in it is executed.

    Raises DataError for a plain pickle, a damaged file, or one that holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        check_torch_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes torch raise anything
        if isinstance(error, DataError) and not isinstance(error, UntrustedError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path} holds more than weights or is damaged, and was not opened: a pickle can run code when it is read. "
            f"Save the plain state dict (torch.save(model.state_dict(), …) or safetensors) and use that ({first[:160]})"
        ) from None
    return state_dict_of(loaded, path)


def state_dict_of(loaded: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file of weights held: itself, or under one of the usual keys of a checkpoint.

    Raises DataError where there is none.
    """
    state = loaded
    if isinstance(loaded, dict):
        state = next((loaded[key] for key in _STATE_KEYS if isinstance(loaded.get(key), dict)), loaded)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} holds no state dict (a mapping from parameter names to tensors)")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def imagenet_weights(name: str) -> Path:
    """Return the file of torchvision's ImageNet weights for the model `name`, downloaded where it is not there yet.

    Raises UsageError saying what was tried, and where a file fetched by hand belongs.
    """
    kinds: list[Weights] = list(get_model_weights(name))
    if not kinds:
        raise UsageError(f"torchvision has no ImageNet weights for {name!r}; give weights = 'none' or a weights file")
    folder = torch_home() / "hub" / "checkpoints"
    for kind in sorted(kinds, key=lambda kind: kind is not get_model_weights(name).DEFAULT):
        if (folder / _file_name(kind)).is_file():
            return folder / _file_name(kind)
    wanted = get_model_weights(name).DEFAULT
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(wanted.url, str(folder / _file_name(wanted)), progress=False)
    except (URLError, OSError, RuntimeError) as error:
        names = " or ".join(dict.fromkeys(_file_name(kind) for kind in kinds))
        raise UsageError(
            f"ImageNet weights for {name!r} are not in {folder} and could not be downloaded from {wanted.url} "
            f"({error}). Fetch {names} elsewhere and put it into {folder}, set TORCH_HOME to a folder "
            "whose hub/checkpoints holds it, or give weights = 'none' to train from scratch"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return folder / _file_name(wanted)


def _file_name(kind: Weights) -> str:
    return kind.url.rsplit("/", 1)[-1]
