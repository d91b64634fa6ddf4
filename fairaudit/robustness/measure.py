"""measure(): a model's answers to the same faces, as they are and ever worse, on disk; and what follows from them."""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fairaudit
from fairaudit import subgroups
from fairaudit.attribution.attribute import draw_evenly
from fairaudit.audit_meta import independence
from fairaudit.axes import choose_axes, sizes
from fairaudit.data.parts import is_done
from fairaudit.data.perturbations import PERTURBATIONS, STRENGTHS, Perturbation, seed_of
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable, Predictions
from fairaudit.errors import UsageError
from fairaudit.files import file_hash, write_json
from fairaudit.models.changed import ChangedModel
from fairaudit.models.inference import DESCRIBED, part_key, predict
from fairaudit.models.protocol import FaceModel
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.results import FORMAT_VERSION, Robustness
from fairaudit.robustness.heads import Head, by_change
from fairaudit.robustness.tables import CLEAN, robustness_tables
from fairaudit.spec import AuditSpec, RobustnessSpec

FOLDER = "predictions"
PRECISION = "fp32"


def measure(
    model: FaceModel,
    faces: FaceTable,
    out: Path,
    *,
    robustness: RobustnessSpec,
    audit: AuditSpec | None = None,
    tasks: Sequence[str] | None = None,
    name: str = "",
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Robustness:
    """Perturb the faces in every way and strength, predict, and save tables and `predictions/` into the folder `out`.

    At most `robustness.faces` faces, drawn evenly over the first axis with `seed`. Pictures are perturbed as the model
    looks at them: after cropping and resizing. Every table of predictions is written whole; one that is there from an
    interrupted call, of this very model, these faces and this perturbation, is not made again. Raises UsageError for an
    unknown perturbation or axis, DataError where the faces' classes are not the model's or no face is answered.
    """
    audit = audit or AuditSpec()
    ways = check_perturbations(robustness)
    axes = list(robustness.subgroups or audit.subgroups or dict.fromkeys([*faces.tasks, *faces.attributes]))
    subgroups.require(dict.fromkeys([*faces.tasks, *faces.attributes]), axes, "the faces")
    drawn, sampled = sample(faces, axes, robustness.faces, seed)
    if not (out / Robustness.MARKER).exists():
        write_json(out / Robustness.MARKER, {"unfinished": "the same command goes on"})
    paths = _predict_all(model, drawn, out / FOLDER, ways, seed, device, progress)
    clean = read_predictions(paths[CLEAN])
    axes, warnings = choose_axes(clean, axes)
    heads = {task: Head.of(clean, task, axes) for task in _asked(model, clean, tasks)}
    for way in ways:
        for strength in range(1, STRENGTHS + 1):
            by_change(heads, (way, strength), read_predictions(paths[f"{way}-{strength}"]))
    curves, gaps, tests = robustness_tables(heads, axes, list(ways), audit, seed)
    frame = next(iter(heads.values())).frame
    meta: dict[str, Any] = {
        "name": name or str(model.meta.get("name") or "model"),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "fairaudit": fairaudit.__version__,
        "format": FORMAT_VERSION,
        "n": len(drawn),
        "sampled": sampled,
        "tasks": {task: list(head.rows.classes) for task, head in heads.items()},
        "subgroups": {by: sizes(subgroups.assign(frame, by)) for by in axes},
        "perturbations": {way: _described(given) for way, given in ways.items()},
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
    found = Robustness(curves=curves, gaps=gaps, tests=tests, meta=meta)
    found.save(out)
    return found


def check_perturbations(robustness: RobustnessSpec | None) -> dict[str, Perturbation]:
    """Return the perturbations that a spec names. Raises UsageError for an unknown one."""
    names = dict.fromkeys(robustness.perturbations) if robustness else ()
    return {name: lookup(PERTURBATIONS, name, "perturbation") for name in names}


def sample(faces: FaceTable, axes: Sequence[str], limit: int, seed: int) -> tuple[FaceTable, str]:
    """Return at most `limit` of the faces (0: all), drawn evenly over the first axis, and a sentence that says so."""
    if not limit or limit >= len(faces):
        return faces, f"all {len(faces):,} faces"
    rows = draw_evenly(subgroups.assign(faces.frame, axes[0]), limit, seed)
    drawn = replace(faces, frame=faces.frame.iloc[rows].reset_index(drop=True))
    return drawn, (
        f"{len(rows):,} of {len(faces):,} faces, drawn evenly over {axes[0]} (seed {seed}): figures of all faces "
        "together are of this mix"
    )


def _predict_all(
    model: FaceModel, faces: FaceTable, folder: Path, ways: dict[str, Perturbation], seed: int, device: str,
    progress: Progress,
) -> dict[str, Path]:  # fmt: skip
    """Write a table for the faces as they are and for each perturbation and strength; return their paths by name."""
    jobs: dict[str, FaceModel] = {CLEAN: model}
    for way, given in ways.items():
        for strength, amount in enumerate(given.amounts, start=1):
            key = {"perturbation": way, "amount": amount, "seed": seed}
            change = partial(_perturbed, given, float(amount), seed)
            jobs[f"{way}-{strength}"] = ChangedModel(model=model, root=faces.root, change=change, key=key)
    paths = {name: folder / f"{name}.parquet" for name in jobs}
    for number, (name, job) in enumerate(jobs.items()):
        if not is_done(paths[name], part_key(job.in_order(faces.tasks), faces, PRECISION)):
            step = _step(progress, number, len(jobs), len(faces), name)
            predict(job, faces, paths[name], device=device, precision=PRECISION, progress=step)
        progress("robustness", (number + 1) * len(faces), len(jobs) * len(faces), name)
    return paths


def _perturbed(given: Perturbation, amount: float, seed: int, pixels: np.ndarray, image: str) -> np.ndarray:
    return given.change(pixels, amount, seed_of(image, seed))


def _step(progress: Progress, number: int, jobs: int, faces: int, name: str) -> Progress:
    """Return the progress of one table as a part of the whole; remarks pass as they are."""

    def step(stage: str, done: int, total: int, note: str = "") -> None:
        if total:
            progress("robustness", min(number * faces + done, jobs * faces - 1), jobs * faces, name)
        else:
            progress(stage, done, total, note)

    return step


def _asked(model: FaceModel, clean: Predictions, tasks: Sequence[str] | None) -> list[str]:
    """Return the heads to measure: those asked for, else every one with labels. UsageError where there is none."""
    able = [task for task in clean.tasks if f"{task}_true" in clean.frame]
    for task in tasks or ():
        lookup({name: name for name in model.classes}, task, "head")
        if task not in able:
            raise UsageError(f"the faces have no labels of {task!r} (they have: {', '.join(able) or 'none'})")
    if not able:
        raise UsageError(f"the faces have no labels of any head ({', '.join(model.classes)}): nothing can be right")
    return list(tasks or able)


def _described(given: Perturbation) -> dict[str, Any]:
    return {
        "amounts": list(given.amounts), "unit": given.unit, "shown": given.shown, "stands_for": given.stands_for,
    }  # fmt: skip


def _said(clean: Predictions, heads: dict[str, Head]) -> list[str]:
    """Return what a reader must know: faces left out, what looks wrong with the model, weights that tests ignore."""
    said = list(clean.meta.get("warnings", ()))
    for task, head in heads.items():
        if lost := len(clean) - len(head.rows.position):
            said.append(f"{task}: {lost} faces have no label or no answer as they are, and are left out.")
    if "weight" in clean.frame:
        said.append("Faces are weighted: accuracy, drops and gaps use the weights, the tests count faces.")
    return said
