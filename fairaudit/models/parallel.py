"""Training in several processes that `torchrun` starts: each computes its share of every batch, gradients are added up.

Every process reads the same faces and draws the same batches, so the sum of the shares' gradients is the gradient of
the whole batch. The first process alone writes files.
"""

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fairaudit.errors import UsageError

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=12)  # the others wait while the first computes maps of a large data set


@dataclass(frozen=True)
class Team:
    """This process's `rank` among `size` that train together."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch's rows."""
        return rows if self.size == 1 else rows[self.rank :: self.size]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over the processes."""
        if self.size == 1:
            return
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in found])
        dist.all_reduce(flat)
        start = 0
        for gradient in found:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def total(self, value: Tensor) -> float:
        """Return the sum over the processes of a loss that each computed for its share."""
        summed = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(summed)
        return float(summed.item())

    def average_buffers(self, model: nn.Module) -> None:
        """Give all processes the mean of the batch norms' running statistics, which each took from its own shares."""
        if self.size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer.div_(self.size)

    def agree(self, value: T) -> T:
        """Return the first process's value to all."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.size > 1:
            dist.barrier()


def team() -> Team:
    """Return the team this process is in: alone, unless `joined`."""
    if dist.is_available() and dist.is_initialized():
        return Team(dist.get_rank(), dist.get_world_size())
    return Team()


def processes() -> int:
    """Return how many processes torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Tell whether this process is the one that speaks to the user, before any team is joined."""
    return os.environ.get("RANK", "0") == "0"


def own_device(device: torch.device) -> torch.device:
    """Return this process's own GPU where torchrun started several processes on a machine."""
    local = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or local is None or device.index is not None:
        return device
    if int(local) >= torch.cuda.device_count():
        raise UsageError(
            f"torchrun started more processes than there are GPUs ({torch.cuda.device_count()}): "
            "give --nproc-per-node no larger number"
        )
    return torch.device("cuda", int(local))


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Join the processes that torchrun started, if it did, for the time of the block."""
    if processes() < 2 or dist.is_initialized():
        yield team()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield team()
    finally:
        dist.destroy_process_group()


@contextmanager
def first_then_others() -> Iterator[None]:
    """Run the block in the first process, then in the others: what the first has written, they find."""
    own = team()
    if not own.first:
        own.wait()
    try:
        yield
    finally:
        if own.first:
            own.wait()


def check_batch(size: int, own: Team) -> None:
    """Raise UsageError where a share of a batch would be too small for batch norm."""
    if own.size > 1 and size < 2 * own.size:
        raise UsageError(
            f"batches of {size} faces are too small for {own.size} processes, which need two faces each: give a larger "
            "training.batch_size, or fewer processes"
        )
