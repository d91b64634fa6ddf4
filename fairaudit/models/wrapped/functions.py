"""A Python function as a model: "module:function", uint8 RGB faces (n, S, S, 3) → {task: values (n, K)}."""

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairaudit.errors import DataError, UsageError
from fairaudit.files import file_hash, value_hash
from fairaudit.models.limits import out_of_memory
from fairaudit.models.wrapped.model import Run
from fairaudit.models.wrapped.networks import only_cpu, only_fp32
from fairaudit.named_code import find_named, first_line


@dataclass(frozen=True, kw_only=True)
class FunctionRunner:
    """Calls a user's function, one call at a time: nothing says that it may be called from several threads."""

    name: str
    function: Callable[[np.ndarray], Any]
    batch: int | None = None
    differentiable: bool = False
    prepares: bool = False
    lock: Any = field(default_factory=threading.Lock)

    def place(self, device: str) -> torch.device:
        """Return the CPU, where faces are handed over."""
        return only_cpu(device, "a function chooses its device itself")

    def on(self, device: torch.device, dtype: torch.dtype) -> Run:
        """Return the function from faces to its outputs; DataError naming what it raised."""
        only_fp32(dtype, "a function")

        def run(faces: Tensor) -> Any:
            with self.lock:
                try:
                    with torch.inference_mode(False):
                        found = self.function(faces.numpy().copy())
                except Exception as error:
                    if out_of_memory(error):
                        raise  # a smaller batch may do
                    raise DataError(f"{self.name} raised {type(error).__name__}: {first_line(error)}") from error
            if not isinstance(found, Mapping):
                raise DataError(
                    f"{self.name} returned {type(found).__name__}; a dict of task → values (n, K) is needed"
                )
            return {task: _detached(value) for task, value in found.items()}

        return run


def _detached(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def open_function(name: str) -> tuple[FunctionRunner, str]:
    """Import the function and return it with a hash of its source file. Raises UsageError where there is none."""
    function = find_named(name, "--checkpoint", "my_models:gender")
    if not callable(function):
        raise UsageError(f"--checkpoint {name!r} is {type(function).__name__}, no function of faces")
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an instance with __call__
        source = inspect.getsourcefile(type(function))
    known = file_hash(Path(source)) if source and Path(source).is_file() else ""
    return FunctionRunner(name=name, function=function), value_hash([name, known])
