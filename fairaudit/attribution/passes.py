"""A pass: every drawn face explained by one method against one baseline in one model; what is done is kept on disk."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fairaudit.attribution.alignment import Alignment
from fairaudit.attribution.backdrops import BASELINES, Pool
from fairaudit.attribution.effort import Effort
from fairaudit.attribution.infidelity import infidelity
from fairaudit.attribution.maps import cell_sums, coarse, normalized, share_of_centre
from fairaudit.attribution.methods import ATTRIBUTIONS, completeness_error, rows_a_pass
from fairaudit.attribution.regions import REGIONS, region_masks, to_frame
from fairaudit.attribution.superpixels import region_pieces, superpixels
from fairaudit.data.frames import Frame
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError
from fairaudit.files import atomic_file, claim, remove_claimed, value_hash, write_json
from fairaudit.progress import Progress
from fairaudit.spec import AttributionSpec

_MARKER = "attributing.json"
NO_BASELINE = ""  # of methods that have none
TRAINED, RANDOMIZED, RELABELLED = "trained", "randomized", "relabelled"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What one face gave in one pass; or, in `unreadable`, why it gave nothing.

    maps: {task: (2, h, w)}, absolute attribution scaled to sum 1 and signed attribution by the same factor, in common
    face coordinates, at most 56 pixels wide; NaN where a face has no attribution at all. shares: {task: (2, R)}, the
    same in the face's own coordinates, summed over each region; NaN where its place is not known. centre: {task: share
    of absolute attribution in the centre}. errors: {task: completeness error}. predicted: {task: class}. unlabelled:
    the tasks whose label the head does not know, so that the predicted class was explained. cells: {task: (14, 14)}, of
    the trained model: what each cell of the picture as it is adds to the score by this attribution.
    """

    row: int
    image: str
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)
    centre: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    infidelity: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, str] = field(default_factory=dict)
    unlabelled: frozenset[str] = frozenset()
    cells: Mapping[str, np.ndarray] = field(default_factory=dict)
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What is explained how: `variant` names the model ("trained", "randomized", …); `target` the class explained in
    every face, by head; where a head is not in it, a face's own label is."""

    method: str
    baseline: str
    variant: str = TRAINED
    target: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """The drawn faces, and all that passes share. keep: the folder of what is done; None: nothing is kept."""

    checkpoint: Any
    faces: FaceTable
    settings: AttributionSpec
    alignment: Alignment
    pool: Pool
    seed: int
    progress: Progress
    keep: Path | None = None

    @property
    def heads(self) -> tuple[str, ...]:
        """The tasks whose scores are explained, in the model's order."""
        return tuple(task for task in self.checkpoint.classes if task in (self.settings.tasks or (task,)))

    def key(self, one: Pass) -> str:
        """Return the name of a pass's folder: it changes with everything that its results depend on."""
        of = {
            "model": self.checkpoint.hash,
            "pass": [one.method, one.baseline, one.variant, sorted(one.target.items())],
            "effort": [self.settings.steps, self.settings.samples, self.settings.pieces],
            "tasks": self.heads,
            "alignment": self.alignment.said,
            "pool": float(self.pool.mean.double().sum()),
            "data": self.faces.meta.get("data_hash", ""),
            "seed": self.seed,
        }
        return value_hash(of)[:16]


@contextmanager
def keeping(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` for what is done face by face; it is removed when all is well, and else stays, so
    that the same call goes on. Raises UsageError where a folder of that name is not ours."""
    folder = out.with_name(out.name + ".attributing")
    claim(folder, "attribution under way", _MARKER)
    write_json(folder / _MARKER, {"of": out.name})
    yield folder
    remove_claimed(folder, _MARKER)


def run_pass(job: Job, one: Pass, model: Any, rows: Sequence[int], stage: str) -> list[Explained]:
    """Explain the faces of `rows` in `model`; what an earlier call has kept is read instead.

    On a CPU each core works on a face of its own, so that no core waits for another, where the method allows it.
    Returns one result a row, in order.
    """
    folder = job.keep / job.key(one) if job.keep is not None else None
    explain = _explainer(job, one, model)

    def work(row: int) -> Explained:
        file = folder / f"{row}.npz" if folder is not None else None
        found = _read(file, job.faces, row) if file is not None else None
        if found is None:
            found = explain(row)
            if file is not None and not found.unreadable:
                _write(file, found)
        return found

    return each_face(job, work, rows, stage, apart=on_cpu(model) and ATTRIBUTIONS[one.method].shared)


def on_cpu(model: Any) -> bool:
    """Return whether a model computes on the CPU."""
    return bool(model.mean.device.type == "cpu")


def each_face(job: Job, work: Callable[[int], T], rows: Sequence[int], stage: str, *, apart: bool) -> list[T]:
    """Return work(row) for each row, in order; `apart`: as many faces at once as there are cores, one core each."""
    threads = torch.get_num_threads()
    results: list[T] = []
    try:
        torch.set_num_threads(1 if apart else threads)
        with ThreadPoolExecutor(threads if apart else 1) as pool:
            futures = [pool.submit(work, int(row)) for row in rows]
            try:
                for future in futures:
                    results.append(future.result())
                    job.progress(stage, len(results), len(rows))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # the faces begun are finished and kept
                raise
    finally:
        torch.set_num_threads(threads)
    return results


def _explainer(job: Job, one: Pass, model: Any) -> Callable[[int], Explained]:
    """Return the function that explains the face of a row."""
    method, size = ATTRIBUTIONS[one.method], model.image_size
    effort = Effort(
        steps=job.settings.steps,
        samples=job.settings.samples,
        rows=rows_a_pass(job.settings.steps, size, size, model.mean.device),
        seed=job.seed,
    )

    def explain(row: int) -> Explained:
        record = job.faces.frame.iloc[row]
        image = str(record["image"])
        try:
            pixels = job.checkpoint.read(job.faces.root / image)
            frame = job.alignment.of(row)
        except DataError as error:
            return Explained(row=row, image=image, unreadable=str(error))
        x = model.prepare(torch.from_numpy(pixels)[None])
        baseline = BASELINES[one.baseline or "blurred"].make(x, job.pool, job.seed + row)
        targets, unlabelled, predicted = targets_of(model, x, record, one.target, job.heads)
        told = effort
        if one.method in ("lime", "kernel-shap"):
            pieces = superpixels(pixels)
            if job.settings.pieces == "regions" and frame is not None:
                pieces = region_pieces(frame, *pixels.shape[:2])
            told = replace(effort, segments=torch.from_numpy(pieces)[None, None].to(x.device))
        found = method.explain(model, x, baseline, targets, told)
        errors = completeness_error(model, x, baseline, targets, found) if method.adds_up else {}
        unfaithful: dict[str, float] = {}
        cells: dict[str, np.ndarray] = {}
        if one.variant == TRAINED:
            readable = {task: v * (x - baseline) if method.factor == "gradient" else v for task, v in found.items()}
            unfaithful = infidelity(model, x, baseline, targets, readable, seed=job.seed + row)
            cells = {task: cell_sums(v[0].double().sum(0).cpu().numpy()) for task, v in readable.items()}
        maps = {task: normalized(values.cpu().numpy())[:, 0] for task, values in found.items()}
        return Explained(
            row=row,
            image=image,
            maps={task: _common(both, frame, job.alignment.common) for task, both in maps.items()},
            shares={task: _shares(both, frame) for task, both in maps.items()},
            centre={task: share_of_centre(both[0]) for task, both in maps.items()},
            errors={task: float(error) for task, error in errors.items()},
            infidelity=unfaithful,
            predicted=predicted,
            unlabelled=unlabelled,
            cells=cells,
        )

    return explain


def targets_of(
    model: Any, x: Tensor, record: Any, target: Mapping[str, str], heads: Sequence[str]
) -> tuple[dict[str, Tensor], frozenset[str], dict[str, str]]:
    """Return the class (1,) of each of `heads`: the wanted one, else the labelled one, else the predicted one; for
    which of them it was the predicted one; and what each of them predicts."""
    with torch.no_grad():
        logits = model(x)
    classes = {task: model.classes[task] for task in heads}
    predicted = {task: names[int(logits[task].argmax(1))] for task, names in classes.items()}
    wanted = {task: target.get(task, record.get(task)) for task in heads}
    unlabelled = frozenset(task for task, names in classes.items() if wanted[task] not in names)
    chosen = {task: predicted[task] if task in unlabelled else wanted[task] for task in heads}
    targets = {task: torch.tensor([names.index(str(chosen[task]))], device=x.device) for task, names in classes.items()}
    return targets, unlabelled, predicted


def _common(both: np.ndarray, frame: Frame | None, common: Frame | None) -> np.ndarray:
    return coarse(both if frame is None or common is None else to_frame(both, frame, common))


def _shares(both: np.ndarray, frame: Frame | None) -> np.ndarray:
    if frame is None:
        return np.full((2, len(REGIONS)), np.nan)
    return np.einsum("khw,rhw->kr", both, _masks(frame, *both.shape[1:]))


@lru_cache(maxsize=16)
def _masks(frame: Frame, height: int, width: int) -> np.ndarray:
    return region_masks(frame, height, width, soft=True)


def _write(file: Path, found: Explained) -> None:
    tasks = list(found.maps)
    arrays = {
        "maps": np.stack([found.maps[task] for task in tasks]).astype(np.float32),
        "shares": np.stack([found.shares[task] for task in tasks]),
        "centre": np.array([found.centre[task] for task in tasks]),
        "errors": np.array([found.errors.get(task, np.nan) for task in tasks]),
        "tasks": np.array(tasks),
        "predicted": np.array([found.predicted[task] for task in tasks]),
        "unlabelled": np.array([task in found.unlabelled for task in tasks]),
        "measured": np.array([task in found.errors for task in tasks]),
        "infidelity": np.array([found.infidelity.get(task, np.nan) for task in tasks]),
        "cells": np.stack([found.cells[task] for task in tasks]) if found.cells else np.zeros(0),
        "image": np.array(found.image),
    }
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _read(file: Path, faces: FaceTable, row: int) -> Explained | None:
    """Return what is kept of a face, None where nothing is, or it is damaged, or it belongs to another picture."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            image = str(kept["image"])
            tasks = [str(task) for task in kept["tasks"]]
            if image != str(faces.frame["image"].iloc[row]):
                return None
            return Explained(
                row=row,
                image=image,
                maps=dict(zip(tasks, kept["maps"].astype(float), strict=True)),
                shares=dict(zip(tasks, kept["shares"], strict=True)),
                centre=dict(zip(tasks, kept["centre"].tolist(), strict=True)),
                errors={
                    task: float(error)
                    for task, error, known in zip(tasks, kept["errors"], kept["measured"], strict=True)
                    if known
                },
                infidelity=dict(zip(tasks, kept["infidelity"].tolist(), strict=True)),
                predicted=dict(zip(tasks, map(str, kept["predicted"]), strict=True)),
                unlabelled=frozenset(task for task, is_so in zip(tasks, kept["unlabelled"], strict=True) if is_so),
                cells=dict(zip(tasks, kept["cells"], strict=True)) if kept["cells"].size else {},
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
