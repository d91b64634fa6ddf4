"""Embeddings of faces by a backbone that stays as it is: streamed from the files, each computed once and kept."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.models.augment import augment_batch, draw
from fairaudit.models.backbones import build_backbone
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.feeds import POOL, frozen_blocks
from fairaudit.models.forest import is_forest
from fairaudit.models.pixels import load_face
from fairaudit.models.realign import looks, zooming
from fairaudit.models.runtime import pick_device
from fairaudit.models.trainable import face_hashes
from fairaudit.spec import AugmentationSpec, Spec


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """A backbone that turns faces into embeddings: the mean over a face as it is, in the sizes `zooms`, and with `flip`
    their mirror images, as predictions are averaged.

    `model` is in eval mode; its heads are not used. `key` names the backbone and its weights; `words` says which it is.
    """

    model: FaceClassifier
    flip: bool
    key: Mapping[str, Any]
    words: str
    zooms: tuple[float, ...] = ()


def pretrained_embedder(spec: Spec, weights_folders: Sequence[Path], device: str = "auto") -> Embedder:
    """Return the spec's backbone with its pretrained weights, none of them trained on these faces.

    Raises UsageError for a forest, which has no embeddings, and for a backbone without weights.
    """
    if is_forest(spec.model):
        raise UsageError(f"{spec.model.backbone} is no network and has no embeddings; name another model.backbone")
    backbone = build_backbone(spec.model, weights_folders)
    if not backbone.weights_hash:
        raise UsageError(
            f"backbone {spec.model.backbone!r} has no pretrained weights, so its embeddings would be random numbers: "
            "train it first (`fairaudit train`) and give --checkpoint, or name another model.backbone"
        )
    model = FaceClassifier(backbone, {}, shared=0).eval().requires_grad_(False)
    key = {
        "backbone": spec.model.backbone,
        "weights": backbone.weights_hash,
        "match": spec.model.weights_match,
        "size": model.image_size,
        "pooling": spec.model.pooling,
        **({"align_from": spec.model.align_from} if spec.model.align_from else {}),
        "color": model.color,
    }
    words = f"{spec.model.backbone} with the weights {backbone.weights}, as they are"
    flip, zooms = spec.training.flip_test, spec.training.zoom_test
    return Embedder(model=model.to(pick_device(device)), flip=flip, zooms=zooms, key=key, words=words)


def checkpoint_embedder(checkpoint: Checkpoint, device: str = "auto") -> Embedder:
    """Return the backbone of a trained checkpoint. Raises UsageError where the model is no network."""
    if not isinstance(checkpoint.model, FaceClassifier):
        raise UsageError(f"{checkpoint.model.backbone} is no network and has no embeddings; give another checkpoint")
    model = copy.deepcopy(checkpoint.model).eval().requires_grad_(False)
    words = f"the backbone of the checkpoint {checkpoint.hash[:12]} ({checkpoint.meta['architecture']['backbone']})"
    key = {"checkpoint": checkpoint.hash}
    flip, zooms = checkpoint.flip_test, checkpoint.zoom_test
    return Embedder(model=model.to(checkpoint.place(device)), flip=flip, zooms=zooms, key=key, words=words)


def embeddings_of(embedder: Embedder, faces: FaceTable, store: ArrayCache, part: str) -> Tensor:
    """Return the embeddings of all faces, float32 (n, d), read from disk on use.

    Raises DataError naming an image that cannot be read.
    """
    depends = {**embedder.key, "flip": embedder.flip, "faces": list(face_hashes(faces))}
    depends |= {"zooms": list(embedder.zooms)} if embedder.zooms else {}
    compute = forward_of(embedder, averaged=True)
    return store.get(f"embeddings ({part})", depends, len(faces), _load(faces, embedder), compute)


def views_of(
    embedder: Embedder,
    faces: FaceTable,
    store: ArrayCache,
    part: str,
    *,
    augmentation: AugmentationSpec,
    count: int,
    seed: int,
) -> list[Tensor]:
    """Return the embeddings of `count` changed versions of all faces, each float32 (n, d).

    Each face in each version has its own draw of the spec's augmentation.
    """
    forward, hashes, made = forward_of(embedder), list(face_hashes(faces)), []
    load = _load(faces, embedder)
    for number in range(1, count + 1):
        changes = draw(augmentation, len(faces), (seed, 5000 + number))
        depends = {**embedder.key, "faces": hashes, "augmentation": augmentation.model_dump(mode="json")}
        depends |= {"seed": seed, "version": number}
        changed = partial(_changed, load, changes)
        made.append(
            store.get(f"embeddings ({part}, version {number} of {count})", depends, len(faces), changed, forward)
        )
    return made


def forward_of(embedder: Embedder, *, averaged: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the function from uint8 faces (n, S, S, 3) to embeddings, float32 (n, d): of the faces as they are, or
    `averaged` as the embedder says.
    """
    model = embedder.model
    blocks = frozen_blocks(model.blocks, model, torch.float32)
    zooms = [zooming(model.image_size, zoom).to(model.mean.device) for zoom in embedder.zooms] if averaged else []

    def forward(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            views = looks(model.prepare(pixels), zooms, flip=averaged and embedder.flip)
            return torch.stack([model.pooled(blocks(view)) for view in views]).mean(0)

    return forward


def _load(faces: FaceTable, embedder: Embedder) -> Callable[[slice], Tensor]:
    paths = [faces.root / str(name) for name in faces.frame["image"]]
    read = partial(load_face, size=embedder.model.image_size)
    return lambda rows: torch.from_numpy(np.stack(list(POOL.map(read, paths[rows]))))


def _changed(load: Callable[[slice], Tensor], changes: np.ndarray, rows: slice) -> Tensor:
    return augment_batch(load(rows), changes[rows], POOL)
