"""What training reads: decoded faces, maps of frozen blocks and embeddings, cached on disk, fed in batches."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairaudit.data.tables import FaceTable
from fairaudit.files import value_hash
from fairaudit.models.augment import augment_batch, draw
from fairaudit.models.cache import ArrayCache
from fairaudit.models.classifier import FaceClassifier, probabilities
from fairaudit.models.folding import folded, twin
from fairaudit.models.pixels import load_face
from fairaudit.models.runtime import autocast
from fairaudit.models.selection import to_numpy_ready
from fairaudit.spec import AugmentationSpec

Sampler = Callable[[np.ndarray], Tensor]
VALIDATION_BATCH = 64
# decoding and augmentation release the interpreter's lock
POOL = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="faces")


def decoded(
    faces: FaceTable, size: int, hashes: Sequence[str], cache: ArrayCache, part: str,
    read: Callable[[Path], np.ndarray] | None = None, key: Mapping[str, Any] | None = None,
) -> Tensor:  # fmt: skip
    """Return every face as uint8 (n, size, size, 3), read from disk on use.

    Faces are decoded by `load_face`, or by `read`, whose way `key` tells apart from it. Raises DataError naming an
    image that cannot be read.
    """
    paths = [faces.root / str(name) for name in faces.frame["image"]]
    read = read or partial(load_face, size=size)

    def load(rows: slice) -> Tensor:
        return torch.from_numpy(np.stack(list(POOL.map(read, paths[rows]))))

    depends = {"faces": list(hashes), "size": size, **(key or {})}
    return cache.get(f"faces ({part})", depends, len(paths), load, lambda x: x)


@dataclass(frozen=True, kw_only=True)
class Views:
    """Makes views of decoded faces: view 0 as they are, view 1 mirrored, every further one augmented."""

    pixels: Tensor
    augmentation: AugmentationSpec
    seed: int

    def load(self, view: int) -> Callable[[slice], Tensor]:
        """Return the function that loads a slice of faces, uint8 (n, S, S, 3), in one view."""
        if view == 0:
            return lambda rows: self.pixels[rows].clone()
        if view == 1:
            return lambda rows: self.pixels[rows].flip(2)
        changes = draw(self.augmentation, len(self.pixels), (self.seed, view))
        return lambda rows: augment_batch(self.pixels[rows], changes[rows], POOL)

    def on_the_fly(self, model: FaceClassifier, epoch: int) -> Sampler:
        """Return the function that loads prepared images of any rows, each with this epoch's own change."""
        changes = draw(self.augmentation, len(self.pixels), (self.seed, 1000 + epoch))
        return lambda rows: model.prepare(augment_batch(self.pixels[torch.from_numpy(rows)], changes[rows], POOL))


def lower_maps(
    model: FaceClassifier, views: Views, count: int, hashes: Sequence[str], key: Mapping[str, Any],
    dtype: torch.dtype, cache: ArrayCache, part: str,
) -> list[Tensor]:  # fmt: skip
    """Return the lower blocks' maps of `count` views of all faces, each (n, H, W, C) in `dtype`.

    They depend on faces, backbone, cut and augmentation only, so every model trained on these faces shares them.
    """
    frozen = frozen_blocks(model.blocks[: model.cut], model, dtype)
    made = []
    for view in range(count):
        depends = {**key, **_drawn(views, view), "faces": list(hashes), "cut": model.cut, "dtype": str(dtype)}

        def compute(images: Tensor) -> Tensor:
            with torch.inference_mode():
                out: Tensor = frozen(model.prepare(images).to(dtype))
            return out.permute(0, 2, 3, 1) if out.dim() == 4 else out

        name = f"maps ({part}, view {view + 1} of {count})"
        made.append(cache.get(name, depends, len(views.pixels), views.load(view), compute))
    return made


def embeddings_of_maps(
    model: FaceClassifier, maps: Sequence[Tensor], views: Views, hashes: Sequence[str], key: Mapping[str, Any],
    dtype: torch.dtype, cache: ArrayCache, part: str,
) -> list[Tensor]:  # fmt: skip
    """Return the untrained upper blocks' pooled embeddings, float32 (n, C), of each view's maps."""
    device = model.mean.device
    model.eval()
    made = []
    for view, stored in enumerate(maps):
        depends = {**key, **_drawn(views, view), "faces": list(hashes), "cut": model.cut, "dtype": str(dtype)}

        def compute(z: Tensor) -> Tensor:
            with torch.inference_mode(), autocast(device, dtype):
                return model.upper(as_maps(z.to(device)))

        name = f"embeddings ({part}, view {view + 1} of {len(maps)})"
        made.append(cache.get(name, depends, len(stored), partial(_rows, stored), compute))
    return made


def embeddings_of_faces(
    model: FaceClassifier, views: Views, count: int, hashes: Sequence[str], key: Mapping[str, Any],
    dtype: torch.dtype, cache: ArrayCache, part: str,
) -> list[Tensor]:  # fmt: skip
    """Return the whole frozen backbone's pooled embeddings, float32 (n, C), of `count` views of all faces."""
    frozen = frozen_blocks(model.blocks, model, dtype)
    made = []
    for view in range(count):
        depends = {**key, **_drawn(views, view), "faces": list(hashes), "cut": "all", "dtype": str(dtype)}

        def compute(images: Tensor) -> Tensor:
            with torch.inference_mode():
                out: Tensor = frozen(model.prepare(images).to(dtype))
                return model.pooled(out.float())

        name = f"embeddings ({part}, view {view + 1} of {count})"
        made.append(cache.get(name, depends, len(views.pixels), views.load(view), compute))
    return made


def frozen_blocks(blocks: nn.Sequential, model: FaceClassifier, dtype: torch.dtype) -> nn.Module:
    """Return `blocks` for prediction only: batch norms folded where that changes nothing, in `dtype`.

    Weights that neither folding nor `dtype` changes are shared with `blocks`.
    """
    made = None if model.folded else folded(blocks, model.image_size)
    frozen = twin(blocks) if made is None else made
    return frozen.to(device=model.mean.device, dtype=dtype).to(memory_format=torch.channels_last)


def cached_batches(views: Sequence[Tensor], seed: int, device: torch.device) -> Callable[[int], Sampler]:
    """Return, for an epoch, the function that loads any rows, each in a view drawn anew for that epoch."""
    flat = [view.view(len(view), -1) for view in views]

    def inputs(epoch: int) -> Sampler:
        choice = np.random.default_rng([seed, 77, epoch]).integers(len(views), size=len(views[0]))

        def sample(rows: np.ndarray) -> Tensor:
            batch = torch.empty((len(rows), flat[0].shape[1]), dtype=flat[0].dtype)
            for view, values in enumerate(flat):
                places = np.flatnonzero(choice[rows] == view)
                if len(places):
                    batch[torch.from_numpy(places)] = values[torch.from_numpy(rows[places])]
            return as_maps(batch.view(len(rows), *views[0].shape[1:]).to(device))

        return sample

    return inputs


def _rows(stored: Tensor, rows: slice) -> Tensor:
    return stored[rows].clone()


def as_maps(stored: Tensor) -> Tensor:
    """Return stored maps (n, H, W, C) as (n, C, H, W) with channels last; embeddings (n, C) as they are."""
    return stored.permute(0, 3, 1, 2) if stored.dim() == 4 else stored


def validate_on(
    forward: Callable[[Tensor], dict[str, Tensor]], views: Sequence[Callable[[slice], Tensor]], count: int,
    device: torch.device, dtype: torch.dtype,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the probabilities (n, K) of every task, averaged over the views that the loaders give."""
    probs: dict[str, list[Tensor]] = {}
    for start in range(0, count, VALIDATION_BATCH):
        rows = slice(start, start + VALIDATION_BATCH)
        with torch.inference_mode(), autocast(device, dtype):
            each = [probabilities(forward(load(rows))) for load in views]
        for task in each[0]:
            probs.setdefault(task, []).append(torch.stack([one[task] for one in each]).mean(0))
    return to_numpy_ready(probs)


def _drawn(views: Views, view: int) -> dict[str, Any]:
    """Return what a view depends on: nothing for the plain and the mirrored one."""
    drawn = {"augmentation": views.augmentation.model_dump(mode="json"), "seed": views.seed} if view > 1 else {}
    return {"view": view, "pixels": value_hash(list(views.pixels.shape[1:])), **drawn}
