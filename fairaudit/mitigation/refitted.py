"""Heads fitted on embeddings: made of faces and their embeddings, kept as safetensors and JSON, asked again."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fairaudit import subgroups
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, FairauditError
from fairaudit.files import atomic_file, write_json
from fairaudit.mitigation.methods import fit_method
from fairaudit.mitigation.problem import PREDICTORS, Answers, Fitted, Part, Problem
from fairaudit.spec import MitigateSpec

FORMAT = 1
LARGEST_JSON = 50_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class RefittedHead:
    """One head of one method: `fitted` answers for the classes of `task`; `groups` are the subgroups of the axis `by`
    in the order of their codes. `seconds` is CPU time.
    """

    task: str
    classes: tuple[str, ...]
    method: str
    by: str
    groups: tuple[str, ...]
    fitted: Fitted
    seed: int = 0
    seconds: float = 0.0

    def answer(self, x: np.ndarray, frame: pd.DataFrame) -> Answers:
        """Return the answers for embeddings (n, d) of the faces in `frame`, whose subgroups are read where needed."""
        return self.fitted.predict(x, group_codes(frame, self.by, self.groups) if self.fitted.uses_group else None)


def group_codes(frame: pd.DataFrame, by: str, groups: Sequence[str]) -> np.ndarray:
    """Return each row's place (n,) in `groups`, −1 for an unknown subgroup or one that is not among them."""
    labels = subgroups.assign(frame, by)
    place = {name: code for code, name in enumerate(groups)}
    codes = np.array([*(place.get(str(name), -1) for name in labels.categories), -1], dtype=np.int64)
    return codes[labels.codes]


def axis_groups(frame: pd.DataFrame, by: str) -> tuple[str, ...]:
    """Return the known subgroups of the axis that occur in `frame`, in its order."""
    labels = subgroups.assign(frame, by)
    return tuple(str(name) for name in labels.categories if name != subgroups.UNKNOWN)


def make_problem(
    faces: FaceTable,
    x: np.ndarray,
    task: str,
    by: str,
    *,
    seed: int,
    settings: MitigateSpec,
    views: Sequence[np.ndarray] = (),
) -> Problem:
    """Return the problem of one head: `faces` are split, and row i of `x` (n, d) and of each view is face i's.

    Faces that are not `trainable` are in neither part. Raises DataError where a part has no face with a label.
    """
    frame = faces.frame
    groups = axis_groups(frame, by)
    y, g = frame[task].cat.codes.to_numpy().astype(np.int64), group_codes(frame, by, groups)
    usable = frame["trainable"].to_numpy(dtype=bool) if "trainable" in frame else np.ones(len(frame), dtype=bool)
    parts = {}
    for name in ("train", "val"):
        rows = np.flatnonzero((frame["split"] == name).to_numpy() & usable)
        if not (y[rows] >= 0).any():
            raise DataError(f"{task}: no face of the split {name!r} has a label and may be used for training")
        seen = tuple(view[rows] for view in views) if name == "train" else ()
        parts[name] = Part(x=x[rows], y=y[rows], g=g[rows], views=seen)
    train = frame[(frame["split"] == "train").to_numpy() & usable]
    return Problem(
        task=task,
        classes=faces.tasks[task],
        by=by,
        groups=groups,
        train=parts["train"],
        val=parts["val"],
        seed=seed,
        settings=settings,
        degenerate=subgroups.degenerate(subgroups.assign(train, by), train[task], by, task),
    )


def refit(method: str, problem: Problem) -> RefittedHead:
    """Fit a method's head and time it. Raises as `fit_method`."""
    began = time.process_time()
    fitted = fit_method(method, problem)
    return RefittedHead(
        task=problem.task,
        classes=problem.classes,
        method=method,
        by=problem.by,
        groups=problem.groups,
        fitted=fitted,
        seed=problem.seed,
        seconds=time.process_time() - began,
    )


def save_heads(heads: Sequence[RefittedHead], stem: Path, failed: Mapping[str, str] | None = None) -> None:
    """Write `stem`.safetensors and `stem`.json; nothing in them can be executed.

    failed: why a head could not be fitted, by task.
    """
    arrays = {
        f"{place}.{name}": np.asarray(values, order="C")
        for place, head in enumerate(heads)
        for name, values in head.fitted.arrays.items()
    }
    with atomic_file(stem.with_name(f"{stem.name}.safetensors")) as temporary:
        temporary.write_bytes(save(arrays))
    described = {"format": FORMAT, "heads": [_described(head) for head in heads], "failed": dict(failed or {})}
    write_json(stem.with_name(f"{stem.name}.json"), described)


def _described(head: RefittedHead) -> dict[str, Any]:
    tried = head.fitted.tried.astype(object)
    return {
        **{name: getattr(head, name) for name in ("task", "method", "by", "seed", "seconds")},
        "classes": list(head.classes),
        "groups": list(head.groups),
        "kind": head.fitted.kind,
        "uses_group": head.fitted.uses_group,
        "notes": list(head.fitted.notes),
        "tried": json.loads(tried.where(tried.notna(), None).to_json(orient="records")) if len(tried) else [],
    }


def load_heads(stem: Path) -> tuple[RefittedHead, ...]:
    """Read what `save_heads` wrote. Raises DataError in plain words for files that are damaged or do not fit."""
    path, weights = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.safetensors")
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise DataError(f"{path} is larger than any description of heads ({path.stat().st_size} bytes)")
        described = json.loads(path.read_text(encoding="utf-8"))
        arrays = load_file(weights)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise DataError(f"the heads {stem} cannot be read: {error}") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise DataError(f"{path}: this version of fairaudit reads format {FORMAT}")
    try:
        return tuple(_head(place, entry, arrays) for place, entry in enumerate(described["heads"]))
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, FairauditError) as error:
        raise DataError(f"{path} does not describe the heads in {weights.name}: {error!r}") from None


def _head(place: int, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> RefittedHead:
    prefix = f"{place}."
    if entry["kind"] not in PREDICTORS:
        raise ValueError(f"unknown kind of head {entry['kind']!r}")
    return RefittedHead(
        task=str(entry["task"]),
        classes=tuple(map(str, entry["classes"])),
        method=str(entry["method"]),
        by=str(entry["by"]),
        groups=tuple(map(str, entry["groups"])),
        seed=int(entry["seed"]),
        seconds=float(entry["seconds"]),
        fitted=Fitted(
            kind=str(entry["kind"]),
            arrays={name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)},
            uses_group=bool(entry["uses_group"]),
            notes=tuple(map(str, entry["notes"])),
            tried=pd.DataFrame(entry["tried"]),
        ),
    )


def check_head(head: RefittedHead, width: int) -> None:
    """Raise DataError unless the head answers embeddings of this width with one probability a class."""
    groups = np.array([0, len(head.groups) - 1, -1, -1, -1])  # the first, the last, unknown
    count, classes = len(groups), len(head.classes)
    try:
        values, labels = head.fitted.predict(np.zeros((count, width), dtype=np.float32), groups)
        good = values.shape == (count, classes) and labels.shape == (count,)
        good = good and bool((values >= 0).all() and np.allclose(values.sum(1), 1, atol=1e-3))
        good = good and bool(np.isin(labels, np.arange(classes)).all())
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, AssertionError, FairauditError) as error:
        raise DataError(f"the head of {head.task} ({head.method}) cannot be asked: {error!r}") from None
    if not good:
        raise DataError(
            f"the head of {head.task} ({head.method}) does not give {len(head.classes)} probabilities for embeddings "
            f"of {width} numbers; the files belong to different models"
        )
