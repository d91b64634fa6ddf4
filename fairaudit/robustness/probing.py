"""What every probe of a model has in common: its faces, their changed predictions on disk, what is said of them."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fairaudit
from fairaudit import subgroups
from fairaudit.attribution.attribute import draw_evenly
from fairaudit.audit_meta import independence
from fairaudit.axes import sizes
from fairaudit.data.parts import is_done
from fairaudit.data.tables import FaceTable, Predictions
from fairaudit.errors import UsageError
from fairaudit.files import file_hash, write_json
from fairaudit.models.changed import ChangedModel
from fairaudit.models.inference import DESCRIBED, predict
from fairaudit.models.prediction_keys import part_key, ran_on
from fairaudit.models.protocol import FaceModel
from fairaudit.progress import Progress
from fairaudit.registry import lookup
from fairaudit.results.files import FORMAT_VERSION
from fairaudit.robustness.heads import CLEAN, Head
from fairaudit.spec import AuditSpec
from fairaudit.wording import plural

FOLDER = "predictions"
PRECISION = "fp32"


@dataclass(frozen=True, kw_only=True)
class Changing:
    """One way to change every picture: `change(pixels, image)`, and what it is in JSON-able words (`key`)."""

    change: Callable[[np.ndarray, str], np.ndarray]
    key: Mapping[str, Any]


def begin(out: Path, marker: str) -> None:
    """Mark the folder `out` as ours before anything else is in it, so that an interrupted call goes on."""
    if not (out / marker).exists():
        write_json(out / marker, {"unfinished": "the same command goes on"})


def axes_of(faces: FaceTable, wanted: Sequence[str] | None, audit: AuditSpec) -> list[str]:
    """Return the axes: those wanted, else the audit's, else each attribute by itself. UsageError for an unknown one."""
    known = list(dict.fromkeys([*faces.tasks, *faces.attributes]))
    axes = list(wanted or audit.subgroups or known)
    subgroups.require(known, axes, "the faces")
    return axes


def sample(faces: FaceTable, axes: Sequence[str], limit: int, seed: int) -> tuple[FaceTable, str]:
    """Return at most `limit` of the faces (0: all), drawn evenly over the first axis, and a sentence that says so."""
    if not limit or limit >= len(faces):
        return faces, f"all {plural(len(faces), 'face')}"
    rows = draw_evenly(subgroups.assign(faces.frame, axes[0]), limit, seed)
    drawn = replace(faces, frame=faces.frame.iloc[rows].reset_index(drop=True))
    return drawn, (
        f"{len(rows):,} of {plural(len(faces), 'face')}, drawn evenly over {axes[0]} (seed {seed}): figures of all "
        "faces "
        "together are of this mix"
    )


def predict_all(
    model: FaceModel, faces: FaceTable, out: Path, changes: Mapping[str, Changing], *, stage: str, device: str,
    progress: Progress,
) -> dict[str, Path]:  # fmt: skip
    """Write a table for the faces as they are (CLEAN) and one for each change into `out`/predictions; return the paths.

    A table that is there already, of this model, these faces, this change and this device, is not made again.
    """
    jobs: dict[str, FaceModel] = {CLEAN: model}
    for name, given in changes.items():
        jobs[name] = ChangedModel(model=model, root=faces.root, change=given.change, key=given.key)
    paths = {name: out / FOLDER / f"{name}.parquet" for name in jobs}
    for number, (name, job) in enumerate(jobs.items()):
        key = {**part_key(job.in_order(faces.tasks), faces, PRECISION), **ran_on(job.place(device))}
        if not is_done(paths[name], key):
            step = _step(progress, stage, number, len(jobs), len(faces), name)
            predict(job, faces, paths[name], device=device, precision=PRECISION, progress=step)
        progress(stage, (number + 1) * len(faces), len(jobs) * len(faces), name)
    return paths


def _step(progress: Progress, probe: str, number: int, jobs: int, faces: int, name: str) -> Progress:
    """Return the progress of one table as a part of the whole; remarks pass as they are."""

    def step(stage: str, done: int, total: int, note: str = "") -> None:
        if total:
            progress(probe, min(number * faces + done, jobs * faces - 1), jobs * faces, name)
        else:
            progress(stage, done, total, note)

    return step


def asked_heads(model: FaceModel, clean: Predictions, tasks: Sequence[str] | None) -> list[str]:
    """Return the heads to probe: those asked for, else every one with labels. UsageError where there is none."""
    able = [task for task in clean.tasks if clean.frame.get(f"{task}_true", pd.Series(dtype=object)).notna().any()]
    for task in tasks or ():
        lookup({name: name for name in model.classes}, task, "head")
        if task not in able:
            raise UsageError(f"the faces have no labels of {task!r} (they have: {', '.join(able) or 'none'})")
    if not able:
        raise UsageError(f"the faces have no labels of any head ({', '.join(model.classes)}): nothing can be right")
    return list(tasks or able)


def unlabelled(clean: Predictions, heads: Iterable[str]) -> list[str]:
    """Return a sentence for each head of the table that is left out because no face has its label."""
    return [
        f"{task}: no face is labelled, so nothing can fall; left out."
        for task in clean.tasks
        if task not in heads and not clean.frame.get(f"{task}_true", pd.Series(dtype=object)).notna().any()
    ]


def common_meta(
    model: FaceModel, faces: FaceTable, clean: Predictions, heads: Mapping[str, Head], axes: Sequence[str],
    audit: AuditSpec, paths: Mapping[str, Path], *, name: str, sampled: str, seed: int, warnings: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Return what every probe says of itself: model, faces, axes, settings, and the hash of every table."""
    frame = next(iter(heads.values())).frame
    return {
        "name": name or str(model.meta.get("name") or "model"),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "fairaudit": fairaudit.__version__,
        "format": FORMAT_VERSION,
        "n": len(faces),
        "sampled": sampled,
        "tasks": {task: list(head.rows.classes) for task, head in heads.items()},
        "subgroups": {by: sizes(subgroups.assign(frame, by)) for by in axes},
        "degenerate": [
            {"task": task, "by": by, "reason": why}
            for task, head in heads.items()
            for by in axes
            if (why := head.on(by).degenerate)
        ],
        "image_size": model.image_size,
        "confidence": audit.confidence,
        "draws": audit.draws,
        "seed": seed,
        "min_group_size": audit.min_group_size,
        "independence": independence(clean),
        "label_source": faces.label_source,
        "model": {key: model.meta[key] for key in DESCRIBED if key in model.meta},
        "checkpoint": model.hash,
        "predictions": {path.name: file_hash(path) for path in paths.values()},
        "warnings": [*warnings, *_said(clean, heads)],
    }


def _said(clean: Predictions, heads: Mapping[str, Head]) -> list[str]:
    """Return what a reader must know: faces left out, what looks wrong with the model, weights that tests ignore."""
    said = list(clean.meta.get("warnings", ()))
    for task, head in heads.items():
        if lost := len(clean) - len(head.rows.position):
            said.append(f"{task}: {plural(lost, 'face')} without a label, or without an answer as shown, left out.")
    if "weight" in clean.frame:
        said.append("Faces are weighted: accuracy, drops and gaps use the weights, the tests count faces.")
    return said
