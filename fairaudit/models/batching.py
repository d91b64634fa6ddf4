"""How many faces go through a model at once: tried on the first batches, fewer where memory runs out."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairaudit.errors import FairauditError
from fairaudit.models.limits import free_memory, out_of_memory
from fairaudit.models.protocol import Forward
from fairaudit.wording import plural

TRIALS = 3  # batches of each size that are timed
CANDIDATES = {"cpu": (16, 32, 64)}  # on a CPU larger ones leave the processor's cache
ON_DEVICES = (64, 128, 256, 512)


def usual_size(device: torch.device) -> int:
    """Return the batch size that is used until another is known to be faster."""
    sizes = CANDIDATES.get(device.type, ON_DEVICES)
    return sizes[len(sizes) // 2]


class Batching:
    """Cuts a table of faces into batches and runs a model on them.

    Without a given `size` the first batches have different sizes; the one that took least time a face (on a CPU: time
    of one core) is used for the rest. Sizes change no result of our own networks on a CPU.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.sizes: Sequence[int] = (size,) if size else CANDIDATES.get(device.type, ON_DEVICES)
        self.size = size or usual_size(device)
        self.notes: list[str] = []
        self._clock = time.thread_time if device.type == "cpu" else time.perf_counter
        self._spent: dict[int, list[float]] = {size: [] for size in self.sizes}
        self._lock = threading.Lock()
        self._measured = len(self.sizes) == 1

    def slices(self, count: int, start: int = 0) -> Iterator[slice]:
        """Yield the batches of rows `start` … `count` in order, each as large as is known to be good by then."""
        trials = [] if self._measured else [size for size in self.sizes for _ in range(TRIALS)]
        while start < count:
            size = min(trials.pop(0), self.size) if trials and self.notes else trials.pop(0) if trials else self.size
            yield slice(start, min(start + size, count))
            start += size

    def run(self, forward: Forward, pixels: Tensor) -> dict[str, np.ndarray]:
        """Return what `forward` says of the faces; where memory runs out, of one half after the other.

        Raises FairauditError where memory does not suffice for a single face.
        """
        began = self._clock()
        try:
            answers = forward(pixels)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(pixels) == 1:
                raise FairauditError(
                    "memory ran out with a single face in the model; free some, or choose another --device"
                ) from error
        else:
            self._note_time(len(pixels), self._clock() - began)
            return answers
        self._halve(len(pixels))  # outside the except block, whose traceback holds on to the memory
        middle = (len(pixels) + 1) // 2
        halves = [self.run(forward, part) for part in (pixels[:middle], pixels[middle:])]
        return {task: np.concatenate([half[task] for half in halves]) for task in halves[0]}

    def describe(self) -> dict[str, Any]:
        """Return the size in use and the faces a second (on a CPU: of one core) of each size that was tried."""
        rates = {str(size): size / min(spent) for size, spent in self._spent.items() if spent and min(spent) > 0}
        return {"batch_size": self.size, "batch_sizes_tried": {} if len(self.sizes) == 1 else rates}

    def _note_time(self, size: int, seconds: float) -> None:
        with self._lock:
            if self._measured or size not in self._spent:
                return
            self._spent[size].append(seconds)
            if all(len(spent) >= TRIALS for spent in self._spent.values()):
                # the least of the trials: the first ones also pay for what is set up once
                self.size = min(self._spent, key=lambda size: min(self._spent[size]) / size)
                self._measured = True

    def _halve(self, size: int) -> None:
        with self._lock:
            half = (size + 1) // 2
            self._measured = True
            if half < self.size or not self.notes:
                self.size = min(half, self.size)
                self.notes.append(f"memory ran out with {plural(size, 'face')} at once: went on with {self.size}")
        free_memory()
