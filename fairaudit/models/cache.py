"""Arrays on disk that training reads again and again: decoded images, maps of frozen blocks, embeddings.

Each is one file, written in chunks and renamed when whole, found again by a hash of everything it depends on; it is
read through a memory map, so memory does not grow with the number of faces.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from fairaudit.files import atomic_file, value_hash, write_json
from fairaudit.models.runtime import Clock, flow
from fairaudit.progress import Progress, silent

CHUNK = 64  # images; larger forward passes are slower on a CPU
DTYPES = {"uint8": torch.uint8, "float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ArrayCache:
    """A folder of such files, computed on `device`. `found` and `made` list the names of what was read and computed."""

    folder: Path
    progress: Progress = silent
    device: torch.device = CPU
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

        `load` prepares a chunk, `compute` returns (n, …) for it; chunks are worked on in several threads at once.
        """
        stem = self.folder / f"{name.split()[0]}-{value_hash({**depends_on, 'what': name, 'count': count})[:24]}"
        if not _is_whole(stem):
            self._make(name, stem, count, load, compute)
            self.made.append(name)
        else:
            self.found.append(name)
        described = json.loads(stem.with_suffix(".json").read_text())
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
                # a plain write, because writing through a memory map dies without a word when the disk is full
                stream.write(values.view(torch.uint8).numpy().data)
                self.progress(f"cache {name}", part.stop, count)
        write_json(stem.with_suffix(".json"), {"shape": shape, "dtype": dtype, "name": name})


def _is_whole(stem: Path) -> bool:
    try:
        described = json.loads(stem.with_suffix(".json").read_text())
        wanted = math.prod(described["shape"]) * DTYPES[described["dtype"]].itemsize
        return stem.with_suffix(".bin").stat().st_size == wanted
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open(path: Path, shape: list[int], dtype: torch.dtype) -> Tensor:
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)
