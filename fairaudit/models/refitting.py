"""Checkpoints of refitted heads: on the backbone of a trained checkpoint, or on a pretrained one as it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fairaudit.data.tables import FaceTable
from fairaudit.mitigation.refitted import RefittedHead
from fairaudit.models import feeds
from fairaudit.models.backbones import build_backbone
from fairaudit.models.checkpoint import Checkpoint, save_checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.record import backbone_meta, provenance
from fairaudit.models.stages import Part
from fairaudit.models.trainable import face_hashes, usable
from fairaudit.spec import ModelSpec, Spec


def head_notes(heads: Sequence[RefittedHead]) -> list[str]:
    """Return the sentences of each head, and of those that decide by subgroup that they do."""
    said = []
    for head in heads:
        if head.fitted.uses_group:
            said.append(f"{head.task}: {head.method} needs each face's {head.by} when it predicts, and decides by it")
        said += [f"{head.task}: {note}" for note in head.fitted.notes]
    return said


def described(heads: Sequence[RefittedHead]) -> dict[str, Any]:
    """Return what model.json says of a mitigation that refitted these heads."""
    return {
        "method": heads[0].method,
        "by": heads[0].by,
        "tasks": [head.task for head in heads],
        "heads_only": True,
        "seed": heads[0].seed,
        "sentences": head_notes(heads),
    }


def refitted_checkpoint(base: Checkpoint, heads: Sequence[RefittedHead], out: Path) -> Checkpoint:
    """Write the checkpoint `out`: the network of `base` with these heads in place of its own of the same tasks.

    Heads of `base` that were themselves refitted, of other tasks, stay what they are.
    """
    new = {head.task for head in heads}
    every = [*heads, *(head for head in base.refitted if head.task not in new)]
    assert isinstance(base.model, FaceClassifier)
    made = base.meta["architecture"]
    spec = ModelSpec.model_validate({key: made[key] for key in made if key in ModelSpec.model_fields})
    known = {key: value for key, value in base.meta.items() if key not in ("format", "architecture", "predicts_years")}
    meta = {**known, "mitigation": {**described(heads), "sentences": head_notes(every)}, "base": base.hash}
    trained_on = {part: sorted(names) for part, names in base.trained_on.items()}
    return save_checkpoint(base.model, spec, meta, base.history, trained_on, out, refitted=every)


def pretrained_checkpoint(
    spec: Spec, weights_folders: Sequence[Path], faces: FaceTable, heads: Sequence[RefittedHead], out: Path
) -> Checkpoint:
    """Write the checkpoint `out`: the spec's pretrained backbone as it is, with these heads.

    `faces` are split as the heads were fitted; their `meta["split_hash"]` names the division whose test faces are ours.
    """
    backbone = build_backbone(spec.model, weights_folders)
    classes = {head.task: head.classes for head in heads}
    model = FaceClassifier(backbone, classes, shared=0, dropout=0)
    for layer in model.heads:  # never asked: the refitted heads answer
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    parts = [_part(faces, name, spec) for name in ("train", "val")]
    own = spec.model_copy(update={"tasks": tuple(classes)})
    meta: Mapping[str, Any] = {
        **provenance(faces, own, parts, mitigation=described(heads), weighted=[], notes=head_notes(heads)),
        **backbone_meta(backbone, spec),
        "parameters": sum(values.numel() for values in model.blocks.parameters())
        + sum(np.size(values) for head in heads for values in head.fitted.arrays.values()),
        "seconds": sum(head.seconds for head in heads),
    }
    hashes = {part.name: sorted({name[:16] for name in part.hashes}) for part in parts}
    plain = spec.model.model_copy(update={"shared": 0, "dropout": 0.0, "heads": {}})
    return save_checkpoint(model.eval(), plain, meta, pd.DataFrame(), hashes, out, refitted=heads)


def _part(faces: FaceTable, name: str, spec: Spec) -> Part:
    own = usable(faces.part(name), name)
    views = feeds.Views(pixels=torch.empty(0), augmentation=spec.training.augmentation, seed=spec.seed)
    return Part(name=name, faces=own, hashes=face_hashes(own), views=views)
