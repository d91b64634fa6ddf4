"""measure(): a model's answers to the same faces, as they are and ever worse, on disk; and what follows from them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fairaudit.axes import choose_axes
from fairaudit.data.perturbations import PERTURBATIONS, STRENGTHS, Perturbation, seed_of
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.models.protocol import FaceModel
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.results import Robustness
from fairaudit.robustness.heads import CLEAN, Head, by_change
from fairaudit.robustness.probing import (
    Changing,
    asked_heads,
    axes_of,
    begin,
    common_meta,
    predict_all,
    sample,
    unlabelled,
)
from fairaudit.robustness.tables import robustness_tables
from fairaudit.spec import AuditSpec, RobustnessSpec


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
    axes = axes_of(faces, robustness.subgroups, audit)
    drawn, sampled = sample(faces, axes, robustness.faces, seed)
    begin(out, Robustness.MARKER)
    changes = _changes(ways, seed)
    paths = predict_all(model, drawn, out, changes, stage="robustness", device=device, progress=progress)
    clean = read_predictions(paths[CLEAN])
    axes, warnings = choose_axes(clean, axes)
    heads = {task: Head.of(clean, task, axes) for task in asked_heads(model, clean, tasks)}
    warnings += unlabelled(clean, heads)
    for way in ways:
        for strength in range(1, STRENGTHS + 1):
            by_change(heads, (way, strength), read_predictions(paths[f"{way}-{strength}"]))
    curves, gaps, tests = robustness_tables(heads, axes, list(ways), audit, seed)
    meta = common_meta(
        model, drawn, clean, heads, axes, audit, paths, name=name, sampled=sampled, seed=seed, warnings=warnings
    )
    meta["perturbations"] = {way: _described(given) for way, given in ways.items()}
    found = Robustness(curves=curves, gaps=gaps, tests=tests, meta=meta)
    found.save(out)
    return found


def check_perturbations(robustness: RobustnessSpec | None) -> dict[str, Perturbation]:
    """Return the perturbations that a spec names. Raises UsageError for an unknown one."""
    names = dict.fromkeys(robustness.perturbations) if robustness else ()
    return {name: lookup(PERTURBATIONS, name, "perturbation") for name in names}


def _changes(ways: dict[str, Perturbation], seed: int) -> dict[str, Changing]:
    """Return every perturbation at every strength, by the name of its file."""
    return {
        f"{way}-{strength}": Changing(
            change=partial(_perturbed, given, float(amount), seed),
            key={"perturbation": way, "amount": amount, "seed": seed},
        )
        for way, given in ways.items()
        for strength, amount in enumerate(given.amounts, start=1)
    }


def _perturbed(given: Perturbation, amount: float, seed: int, pixels: np.ndarray, image: str) -> np.ndarray:
    return given.change(pixels, amount, seed_of(image, seed))


def _described(given: Perturbation) -> dict[str, Any]:
    return {
        "amounts": list(given.amounts), "unit": given.unit, "shown": given.shown, "stands_for": given.stands_for,
    }  # fmt: skip
