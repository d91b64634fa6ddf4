"""Deletion and insertion curves: does the explained class depend most on what is said to matter most?

Cells of a face are taken away from the most to the least attributed (deletion), or shown in that order (insertion), and
the probability of the explained class is followed (Samek et al. 2017; RISE, Petsiuk et al. 2018). The same is done in
random orders of the same face, because any taken away part costs something.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from fairaudit.attribution.backdrops import BASELINES
from fairaudit.attribution.maps import cell_of
from fairaudit.attribution.methods import rows_a_pass
from fairaudit.attribution.passes import Explained, Job, Pass, each_face, on_cpu, targets_of
from fairaudit.files import atomic_file

CHECKS = ("deletion", "insertion")
FILLS = ("blurred", "mean")  # of BASELINES: what a part that is taken away becomes; both must agree
ORDERS = ("attribution", "scattered", "blocks")  # the attribution's own, and two kinds of random ones
DRAWN = 3  # random orders of each kind and face; their mean is what counts
CURVED = {"quick": 12, "full": 24}  # faces, by AttributionSpec.sanity
STEPS = {"quick": 7, "full": 14}
_BLOCK = 2.0  # standard deviation, in cells, of the random field whose heights order cells in blocks


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One face's curves: {task: (2 of CHECKS, 2 of FILLS, 3 of ORDERS, S + 1)}, the probability (0…1) of the explained
    class after 0, 1/S … 1 of the cells; heads without any attribution for this face are not in it."""

    row: int
    values: Mapping[str, np.ndarray]


def measure_curves(job: Job, one: Pass, model: Any, found: Sequence[Explained], steps: int) -> list[Curves]:
    """Return the curves of faces that the trained pass `one` has explained, in order; what is kept is read instead."""
    folder = job.keep / job.key(one) / f"curves {steps}" if job.keep is not None else None
    cells = {face.row: face.cells for face in found}

    def work(row: int) -> Curves:
        file = folder / f"{row}.npz" if folder is not None else None
        curves = _read(file, row, cells[row]) if file is not None else None
        if curves is None:
            curves = Curves(row=row, values=_of_face(job, one, model, row, cells[row], steps))
            if file is not None:
                _write(file, curves, cells[row])
        return curves

    return each_face(job, work, [face.row for face in found], f"curves {one.method}", apart=on_cpu(model))


def _of_face(
    job: Job, one: Pass, model: Any, row: int, cells: Mapping[str, np.ndarray], steps: int
) -> dict[str, np.ndarray]:
    record = job.faces.frame.iloc[row]
    x = model.prepare(torch.from_numpy(job.checkpoint.read(job.faces.root / str(record["image"])))[None])
    targets, _, _ = targets_of(model, x, record, one.target, job.heads)
    fills = [BASELINES[name].make(x, job.pool, job.seed + row) for name in FILLS]
    return curves_of(model, x, fills, targets, cells, steps=steps, seed=job.seed + row)


def curves_of(
    model: Any,
    face: Tensor,
    fills: Sequence[Tensor],
    targets: Mapping[str, Tensor],
    cells: Mapping[str, np.ndarray],
    *,
    steps: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return {task: (2, fills, 3, steps + 1)} as Curves has them, of one face (1, C, H, W).

    fills: what takes the place of what is taken away, each (1, C, H, W); targets: the explained class (1,) of each
    head; cells: {task: (h, w)}, what each cell adds to the score. Equal cells are ordered at random. The random orders
    are the same for every head: cells scattered over the picture, and cells in blocks (by the height of a smooth random
    field), so that an attribution is not judged by how it clusters. Both kinds are as likely backwards, so that a
    random insertion is a random deletion read from its end. Memory: a batch of pictures as large as a path's.
    """
    rng = np.random.default_rng([seed, 6151])
    able = {task: values for task, values in cells.items() if np.isfinite(values).all() and np.ptp(values) > 0}
    if not able:
        return {}
    shape = next(iter(able.values())).shape
    taken = np.rint(np.prod(shape) * np.arange(1, steps) / steps).astype(int)
    random = [_order(_heights(rng, shape, kind), rng) for kind in ORDERS[1:] for _ in range(DRAWN)]
    own = {task: _order(values, rng) for task, values in able.items()}
    hidden = [np.zeros(shape, bool), np.ones(shape, bool)]
    hidden += [order < count for order in random for count in taken]
    for order in own.values():
        hidden += [order < count for count in taken]  # deletion
        hidden += [order >= count for count in taken]  # insertion
    answers = [_probabilities(model, face, fill, np.stack(hidden), targets) for fill in fills]
    return {
        task: np.stack([_arranged(each[task], place, len(random), steps) for each in answers], axis=1)
        for place, task in enumerate(own)
    }


def _heights(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    field = rng.standard_normal(shape)
    return field if kind == "scattered" else ndimage.gaussian_filter(field, _BLOCK, mode="wrap")


def _order(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rank of each cell (h, w), 0 for the largest; equal values in a random order."""
    flat = values.ravel()
    ranks = np.empty(flat.size, dtype=int)
    ranks[np.lexsort((rng.random(flat.size), -flat))] = np.arange(flat.size)
    return ranks.reshape(values.shape)


def _probabilities(
    model: Any, face: Tensor, fill: Tensor, hidden: np.ndarray, targets: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """Return {task: (n,)}, the probability of its class for the face with each set of cells (n, h, w) filled."""
    found: dict[str, list[np.ndarray]] = {task: [] for task in targets}
    for masks in _batches(hidden, face):
        with torch.no_grad():
            logits = model((face * ~masks + fill * masks).contiguous(memory_format=torch.channels_last))
        for task, classes in targets.items():
            found[task].append(logits[task].double().softmax(1)[:, int(classes)].cpu().numpy())
    return {task: np.concatenate(each) for task, each in found.items()}


def _batches(hidden: np.ndarray, face: Tensor) -> Iterator[Tensor]:
    """Yield masks (b, 1, H, W) of cells (n, h, w), as many at once as a path's pictures."""
    height, width = face.shape[-2:]
    rows, columns = (np.unique(cell_of(side), return_inverse=True)[1] for side in (height, width))
    size = rows_a_pass(len(hidden), height, width, face.device)
    for start in range(0, len(hidden), size):
        masks = hidden[start : start + size][:, rows][:, :, columns]
        yield torch.from_numpy(masks).to(face.device)[:, None]


def _arranged(answers: np.ndarray, place: int, random: int, steps: int) -> np.ndarray:
    """Return (2 of CHECKS, 3 of ORDERS, steps + 1) of the answers (n,) to the face whole, all filled, in random orders,
    and in the orders of every head, of which this one is at `place`."""
    whole, nothing = answers[:2]
    parts = answers[2:].reshape(-1, steps - 1)
    drawn = parts[:random].reshape(len(ORDERS) - 1, DRAWN, -1).mean(axis=1)
    removed, shown = parts[random + 2 * place], parts[random + 2 * place + 1]
    ends = np.array([[whole, nothing], [nothing, whole]])
    between = np.stack([np.stack([removed, *drawn]), np.stack([shown, *drawn[:, ::-1]])])
    first, last = (np.broadcast_to(ends[:, side, None, None], (2, len(ORDERS), 1)) for side in (0, 1))
    return np.concatenate([first, between, last], axis=2)


def area(curve: np.ndarray) -> np.ndarray:
    """Return the area under curves (…, S + 1) over shares 0…1 by the trapezoidal rule: their mean height, 0…1."""
    return np.asarray(np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1))


def _write(file: Path, curves: Curves, cells: Mapping[str, np.ndarray]) -> None:
    arrays = {
        "tasks": np.array(list(curves.values)),
        "values": np.stack(list(curves.values.values())) if curves.values else np.zeros(0),
        "cells": np.stack(list(cells.values())),
    }
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _read(file: Path, row: int, cells: Mapping[str, np.ndarray]) -> Curves | None:
    """Return what is kept of a face, None where nothing is, or it is damaged, or it was of another attribution."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            if not np.array_equal(kept["cells"], np.stack(list(cells.values())), equal_nan=True):
                return None
            return Curves(row=row, values=dict(zip(map(str, kept["tasks"]), kept["values"], strict=True)))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
