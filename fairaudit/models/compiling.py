"""torch.compile where it is asked for: one shape, one graph, nothing renamed; and the plain network where it fails."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fairaudit.models.limits import out_of_memory

BACKEND = "inductor"
PLAIN = "the network runs uncompiled"


def why_not(device: torch.device) -> str:
    """Return why nothing can be compiled for this device, tried on three numbers; empty where it can.

    What was compiled in this process before is forgotten: networks of one make share a bounded number of places.
    """
    torch.compiler.reset()
    try:
        _compiled(_trial)(torch.ones(3, device=device))
    except Exception as error:  # a missing compiler, Triton or header each has its own class, in private modules
        return in_a_line(error)
    return ""


def in_a_line(error: BaseException) -> str:
    """Return the first line of an error, or of what a compiler wrapped in one, with its kind."""
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _trial(x: Tensor) -> Tensor:
    return x * 2 + 1


def _compiled(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `plain`, compiled at its first call: as one graph, so that a failure cannot come in the middle of it."""
    made: Callable[..., Any] = torch.compile(plain, fullgraph=True, dynamic=False, backend=BACKEND)
    return made


class Compiled:
    """A call that is compiled at its first use, for tensors of one shape; `off` makes it the plain one again.

    The module that `plain` belongs to stays what it is: no parameter gets another name.
    """

    def __init__(self, plain: Callable[[Tensor], Any]) -> None:
        self.plain = plain
        self.on = True
        self._compiled = _compiled(plain)

    def __call__(self, x: Tensor) -> Any:
        """Return what the plain call returns, but for roundings."""
        if not self.on:
            return self.plain(x)
        # whatever made a batch, it lies in memory as the others do: for another layout it would be compiled anew
        return self._compiled(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x)

    def off(self) -> None:
        """Use the plain call from now on."""
        self.on = False


class CompiledBlocks(Compiled):
    """A network's blocks, compiled for batches of exactly `size` faces, for prediction by several threads.

    The first call compiles while the others wait: two threads must not do so at once. Where that fails, or memory runs
    out, `notes` says so and the plain blocks go on.
    """

    def __init__(self, plain: Callable[[Tensor], Any], size: int) -> None:
        super().__init__(plain)
        self.size = size
        self.notes: list[str] = []
        self._lock = threading.Lock()
        self._ready = False

    def filled(self, rows: int) -> int:
        """Return how many faces a batch of `rows` has to be filled up to: batches of one size are compiled once."""
        return self.size if self.on and rows <= self.size else rows

    def __call__(self, x: Tensor) -> Any:
        """Return the maps of prepared faces; of other numbers than `size` by the plain blocks."""
        if not self.on or len(x) != self.size:
            return self.plain(x)
        with nullcontext() if self._ready else self._lock:
            try:
                made = super().__call__(x)
            except Exception as error:
                if out_of_memory(error):
                    self._stop("memory ran out in the compiled network")
                    raise  # whoever halves batches has to know
                self._stop(f"compiling the network failed ({in_a_line(error)})")
                return self.plain(x)
            self._ready = True
            return made

    def _stop(self, why: str) -> None:
        if self.on:
            self.notes.append(f"{why}: {PLAIN}")
        self.off()
