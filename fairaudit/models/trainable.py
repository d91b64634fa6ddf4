"""Which faces, labels and weights a training starts from; checked before anything is trained."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.files import file_hash
from fairaudit.models.heads import AGE_YEARS
from fairaudit.models.losses import Target
from fairaudit.registry import lookup
from fairaudit.spec import Spec
from fairaudit.wording import plural


def heads_of(faces: FaceTable, spec: Spec) -> dict[str, tuple[str, ...]]:
    """Return the classes of every head that the spec asks for; UsageError for one that the faces lack."""
    names = spec.tasks or tuple(faces.tasks)
    return {name: lookup(faces.tasks, name, "task (head)") for name in names}


def checked_weights(
    given: Mapping[str, np.ndarray], faces: FaceTable, tasks: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return sample weights as float64; UsageError unless each trainable face has one that is finite and above 0."""
    rows = len(usable(faces.part("train"), "train"))
    for task, values in given.items():
        lookup(tasks, task, "task of sample_weights")
        if len(values) != rows or not np.isfinite(values).all() or (np.asarray(values) <= 0).any():
            raise UsageError(
                f"sample_weights[{task!r}] needs one finite weight above 0 for each of the "
                f"{plural(rows, 'trainable face')} "
                f"of the training split; it has {len(values)} values"
            )
    return {task: np.asarray(values, dtype=np.float64) for task, values in given.items()}


def usable(faces: FaceTable, name: str) -> FaceTable:
    """Return the faces that may be trained on, in order; raises DataError where the split `name` has none."""
    if "trainable" in faces.frame:
        keep = faces.frame["trainable"].to_numpy(dtype=bool)
        faces = replace(faces, frame=faces.frame[keep].reset_index(drop=True))
    if not len(faces):
        raise DataError(
            f"the split {name!r} holds no face that may be used for training; give more faces or change [split]"
        )
    return faces


def face_hashes(faces: FaceTable) -> tuple[str, ...]:
    """Return the SHA-256 of each face's file: as the table knows it, else computed."""
    if "sha256" in faces.frame and faces.frame["sha256"].notna().all():
        return tuple(map(str, faces.frame["sha256"]))
    return tuple(file_hash(faces.root / name) for name in faces.frame["image"])


def check_labels(targets: Mapping[str, Target]) -> None:
    """Raise DataError where a task has fewer than two different labels to learn."""
    for task, target in targets.items():
        if task == AGE_YEARS:  # a number, which has no classes
            continue
        seen = torch.unique(target.codes[target.codes >= 0])
        if len(seen) < 2:
            raise DataError(
                f"task {task!r}: the training faces have {plural(len(seen), 'different label')}, two are needed; "
                "leave it out of `tasks` or give more faces"
            )
