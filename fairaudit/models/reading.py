"""Faces for prediction: decoded from their files, or once for all commands into a cache on disk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairaudit.data.quality import QUALITY, image_quality
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, FairauditError
from fairaudit.models.cache import MOST_KEPT, ArrayCache
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.feeds import decoded
from fairaudit.models.pixels import load_faces
from fairaudit.models.protocol import FaceModel
from fairaudit.models.trainable import face_hashes
from fairaudit.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Decoded faces of a slice of the table: uint8 (n, S, S, 3), their QUALITY (n, 3), NaN where a face could not be
    read, and per row why not, else "".
    """

    rows: slice
    pixels: Tensor
    quality: np.ndarray
    trouble: list[str]


def batches(
    checkpoint: FaceModel, faces: FaceTable, device: torch.device, cache: Path | None, progress: Progress
) -> tuple[Callable[[slice], Batch], list[str]]:
    """Return the function that reads a slice of the faces as `checkpoint` sees them, and what is to be said.

    With `cache`, a folder, the faces are decoded into it first, and found there by the next command.
    """
    paths = [faces.root / str(name) for name in faces.frame["image"]]
    stored, notes = _stored(checkpoint, faces, cache, progress) if cache and len(paths) else (None, [])

    def load(rows: slice) -> Batch:
        if stored is not None:
            pixels = stored[rows].clone()
            read = [(face, image_quality(face), "") for face in pixels.numpy()]
        else:
            read = [_measured(found, checkpoint.image_size) for found in _read(checkpoint, paths[rows])]
            pixels = torch.from_numpy(np.stack([face for face, *_ in read]))
        return Batch(
            rows=slice(rows.start, rows.start + len(read)),
            pixels=pixels.pin_memory() if device.type == "cuda" else pixels,
            quality=np.stack([quality for _, quality, _ in read]),
            trouble=[trouble for *_, trouble in read],
        )

    return load, notes


def _stored(
    checkpoint: FaceModel, faces: FaceTable, folder: Path, progress: Progress
) -> tuple[Tensor | None, list[str]]:
    """Return all faces from the cache, decoded into it where it lacks them; None where that cannot be, and why."""
    store = ArrayCache(folder=folder, progress=progress, limit=MOST_KEPT)
    # our own checkpoints of one size see the same picture; how anybody else's crops it is part of that model
    key = {} if isinstance(checkpoint, Checkpoint) else {"model": checkpoint.hash}
    try:
        hashes = face_hashes(faces)
        return decoded(faces, checkpoint.image_size, hashes, store, "prediction", checkpoint.read, key), []
    except (FairauditError, OSError) as error:
        note = f"the cache {folder} is not used, every face is decoded from its file: {error}"
        progress("predict", 0, 0, note)
        return None, [note]


def _read(checkpoint: FaceModel, paths: Sequence[Path]) -> Iterator[np.ndarray | DataError | OSError]:
    """Yield each face as the model sees it, or why it cannot be read."""
    if isinstance(checkpoint, Checkpoint):  # its `read` is `load_face`
        yield from load_faces(paths, checkpoint.image_size)
        return
    for path in paths:
        try:
            yield checkpoint.read(path)
        except (DataError, OSError) as error:
            yield error


def _measured(found: np.ndarray | DataError | OSError, size: int) -> tuple[np.ndarray, np.ndarray, str]:
    if isinstance(found, np.ndarray):
        return found, image_quality(found), ""
    nothing = np.full(len(QUALITY), np.nan, dtype=np.float32)
    return np.zeros((size, size, 3), dtype=np.uint8), nothing, str(found)
