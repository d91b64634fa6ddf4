"""Where and how torch runs: device, number format, memory, and work done ahead of the model."""

import ctypes
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from fairaudit.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")
L = TypeVar("L")


def pick_device(name: str) -> torch.device:
    """Return the device: "auto" takes CUDA where it is at hand, else the CPU; "cpu", "cuda", "cuda:1", "mps" are taken
    at their word.

    Raises UsageError for a name that torch does not know or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:<number>, mps)") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise UsageError(f"device {name!r} is not available on this machine; give device = 'auto' or 'cpu'")
    return device


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format of the forward pass: "auto" takes bfloat16 where the hardware computes in it."""
    if precision == "auto":
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context in which a forward pass runs in `dtype`; the weights stay in float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for reuse: torch on a CPU otherwise spends up to half its time on page faults."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and the heap is not given back between batches


@dataclass
class Clock:
    """Counts images, how long the model waited for them, and how many threads loaded at once."""

    images: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    loaders: int = 0

    def per_second(self) -> float:
        """Return images a second, 0 before anything was timed."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    def share_waiting(self) -> float:
        """Return the share (0…1) of the time in which the model waited for data."""
        return self.waiting / self.seconds if self.seconds > 0 else 0.0


def ahead(
    load: Callable[[T], R],
    items: Iterable[T],
    clock: Clock | None = None,
    depth: int = 2,
    workers: int = 1,
    most: int | None = None,
) -> Iterator[R]:
    """Yield `load(item)` for each item in order, loading up to `depth` of them in `workers` threads meanwhile.

    At most `depth` results wait at any moment, so memory stays flat however many items there are. With `most`, one
    more is loaded at once, up to that many, each time that the caller had to wait.
    """
    clock = clock or Clock()
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(load, item) for item in itertools.islice(source, depth)]
        try:
            while waiting:
                began = time.perf_counter()
                late = not waiting[0].done()
                result = waiting.pop(0).result()
                clock.waiting += time.perf_counter() - began
                depth = min(depth + late, max(most or depth, depth))
                waiting += [pool.submit(load, item) for item in itertools.islice(source, depth - len(waiting))]
                clock.loaders = max(clock.loaders, min(depth, workers))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def flow(
    load: Callable[[T], L], compute: Callable[[L], R], items: Iterable[T], device: torch.device, clock: Clock
) -> Iterator[R]:
    """Yield `compute(load(item))` for each item in order: predictions, in which no item needs another.

    On a CPU every core takes a whole item, because cores that share one wait for each other after each layer: several
    times slower as soon as the machine has other work. For other devices as many cores load ahead as it takes to keep
    the device from waiting, and two batches are on their way through it, so that one is read while the other computes.
    """
    if device.type != "cpu":
        yield from _device_flow(load, compute, items, clock)
        return
    threads = torch.get_num_threads()

    def work(item: T) -> tuple[R, float]:
        began = time.perf_counter()
        loaded = load(item)
        waited = time.perf_counter() - began
        return compute(loaded), waited

    try:
        torch.set_num_threads(1)
        for result, waited in ahead(work, items, depth=threads + 1, workers=threads):
            clock.waiting += waited / threads
            yield result
    finally:
        torch.set_num_threads(threads)


def _device_flow(load: Callable[[T], L], compute: Callable[[L], R], items: Iterable[T], clock: Clock) -> Iterator[R]:
    cores = os.cpu_count() or 1
    loading, lock = Clock(), threading.Lock()
    active, idle_since = 0, time.perf_counter()

    def timed(loaded: L) -> R:
        nonlocal active, idle_since
        with lock:
            clock.waiting += 0 if active else time.perf_counter() - idle_since
            active += 1
        try:
            return compute(loaded)
        finally:
            with lock:
                active -= 1
                idle_since = time.perf_counter()

    loaded = ahead(load, items, loading, workers=cores, most=cores + 1)
    yield from ahead(timed, loaded, depth=2, workers=2)
    clock.loaders = loading.loaders
