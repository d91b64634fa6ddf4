"""Where hardware sets limits: the same result on a GPU again, and what to do when its memory is full."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fairaudit.errors import UsageError

_WEIGHTS = frozenset((torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn))  # as layers make them
_FULL = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def deterministic(device: torch.device, *, wanted: bool) -> Iterator[None]:
    """Within the context, where it is wanted, torch takes only ways of computing that repeat to the last bit.

    Raises UsageError, in the context, for an operation that has no such way on this device.
    """
    if not wanted:
        yield
        return
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses without it; read at its first use
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise UsageError(
            f"training.deterministic = true cannot be kept on {device}: {str(error).splitlines()[0]} "
            "Give deterministic = false, device = 'cpu' or another backbone"
        ) from None
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


class WithoutMemory(TorchFunctionMode):
    """Within the context a network is built of names and shapes: its weights take no memory and hold nothing.

    torch.device("meta") does the same and more: it leaves no numbers either that a network's own sizes are computed of.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WEIGHTS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the device or of the machine, is full."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _FULL)


def free_memory() -> None:
    """Give back what failed work has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
