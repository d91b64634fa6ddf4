"""Arrays on disk that models read again and again: decoded images, maps of frozen blocks, embeddings.

Each is one file, written in chunks and renamed when whole, found again by a hash of everything it depends on; it is
read through a memory map, so memory does not grow with the number of faces.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from fairaudit.errors import FairauditError
from fairaudit.files import ABANDONED, atomic_file, value_hash, write_json
from fairaudit.models.parallel import first_then_others
from fairaudit.models.pixels import DECODER
from fairaudit.models.runtime import Clock, flow
from fairaudit.progress import Progress, silent

CHUNK = 64  # images; larger forward passes are slower on a CPU
DTYPES = {"uint8": torch.uint8, "float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
MOST_KEPT = 20_000_000_000  # bytes that a folder keeps from one command to the next
_OURS = re.compile(r"\.?(faces|maps|embeddings)-[0-9a-f]{24}\.(bin|json)(\.[0-9a-f]{8}-\d+\.part)?")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ArrayCache:
    """A folder of such files, computed on `device`. `found` and `made` list the names of what was read and computed.

    With `limit` (bytes) the arrays that were not used for longest make room for a new one.
    """

    folder: Path
    progress: Progress = silent
    device: torch.device = CPU
    limit: int | None = None
    found: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def get(
        self,
        name: str,
        depends_on: Mapping[str, Any],
        count: int,
        load: Callable[[slice], T],
        compute: Callable[[T], Tensor],
    ) -> Tensor:
        """Return the array (count, …): read from its file, or computed chunk by chunk and written first.

        `load` prepares a chunk, `compute` returns (n, …) for it; chunks are worked on in several threads at once. The
        first word of `name` says what the array is, the rest is for whoever watches.
        """
        what = name.split()[0]
        key = value_hash({**depends_on, "what": what, "count": count, "decoder": DECODER})
        stem = self.folder / f"{what}-{key[:24]}"
        with first_then_others():
            if not _is_whole(stem):
                self._make(name, stem, count, load, compute)
                self.made.append(name)
            else:
                self.found.append(name)
        described = json.loads(stem.with_suffix(".json").read_text())
        os.utime(stem.with_suffix(".json"))  # what was used last is removed last
        return _open(stem.with_suffix(".bin"), described["shape"], DTYPES[described["dtype"]])

    def _make(
        self, name: str, stem: Path, count: int, load: Callable[[slice], T], compute: Callable[[T], Tensor]
    ) -> None:
        shape: list[int] = [count]
        dtype = "uint8"
        with atomic_file(stem.with_suffix(".bin")) as temporary, temporary.open("wb") as stream:
            chunks = [slice(a, min(a + CHUNK, count)) for a in range(0, count, CHUNK)]
            work = flow(load, lambda loaded: compute(loaded).detach().cpu().contiguous(), chunks, self.device, Clock())
            for part, values in zip(chunks, work, strict=True):
                shape, dtype = [count, *values.shape[1:]], str(values.dtype).removeprefix("torch.")
                if part.start == 0:
                    self._make_room(stem, math.prod(shape) * values.itemsize)
                # a plain write, because writing through a memory map dies without a word when the disk is full
                stream.write(values.view(torch.uint8).numpy().data)
                self.progress(f"cache {name}", part.stop, count)
        write_json(stem.with_suffix(".json"), {"shape": shape, "dtype": dtype, "name": name})

    def _make_room(self, stem: Path, needed: int) -> None:
        """Remove what was not used for longest until `needed` bytes fit into `limit`, and what was never finished."""
        if self.limit is None:
            return
        if needed > self.limit:
            raise FairauditError(f"{needed:,} bytes are more than a cache may hold ({self.limit:,})")
        held: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            if not _OURS.fullmatch(path.name) or path.is_symlink():
                continue
            state = path.stat()
            if path.name.endswith(".part"):
                if time.time() - state.st_mtime > ABANDONED:
                    path.unlink(missing_ok=True)
            elif path.suffix == ".json":
                body = path.with_suffix(".bin")
                held.append((state.st_mtime, body.stat().st_size if body.exists() else 0, path))
        total = sum(size for _, size, _ in held)
        for _, size, path in sorted(held):
            if total + needed <= self.limit and needed < shutil.disk_usage(self.folder).free:
                break
            for file in (path, path.with_suffix(".bin")):
                file.unlink(missing_ok=True)
            total -= size


def _is_whole(stem: Path) -> bool:
    try:
        described = json.loads(stem.with_suffix(".json").read_text())
        wanted = math.prod(described["shape"]) * DTYPES[described["dtype"]].itemsize
        return stem.with_suffix(".bin").stat().st_size == wanted
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open(path: Path, shape: list[int], dtype: torch.dtype) -> Tensor:
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)
