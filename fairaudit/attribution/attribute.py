"""attribute(): where in the face a checkpoint's heads look, by subgroup."""

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fairaudit import subgroups
from fairaudit.attribution import maps as face_maps
from fairaudit.attribution.methods import ATTRIBUTIONS, BLUR, blurred, completeness_error, rows_a_pass
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.folding import folds_exactly
from fairaudit.models.protocol import FaceModel
from fairaudit.models.runtime import keep_freed_memory
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.results import ATTRIBUTION_COLUMNS, Attribution
from fairaudit.spec import AttributionSpec
from fairaudit.subgroups import OVERALL, UNKNOWN

LARGEST_ERROR = 0.05
NAMED = 10  # subgroups or images named in one warning


@dataclass(frozen=True, kw_only=True)
class _Face:
    """What one face gave: each head's map and completeness error, the heads without its label; or why it gave none."""

    row: int
    image: str
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    unlabelled: frozenset[str] = frozenset()
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the attributed faces gave, head by head; `unreadable` says of each face that could not be read why."""

    rows: list[int]
    maps: dict[str, list[np.ndarray]]
    errors: dict[str, list[float]]
    unlabelled: dict[str, int]
    unreadable: dict[str, str]


def attribute(
    checkpoint: FaceModel,
    faces: FaceTable,
    *,
    by: Sequence[str],
    attribution: AttributionSpec,
    seed: int = 0,
    device: str = "auto",
    method: str = "integrated-gradients",
    progress: Progress = silent,
) -> Attribution:
    """Attribute every head's score of a face's class to the face's pixels; average over the subgroups of each axis.

    At most `attribution.faces_per_head` faces, drawn evenly over the subgroups of the first axis with `seed`; every
    head sees the same ones. A face that cannot be read is left out and named in meta["warnings"]. Nothing is written.
    Raises UsageError for an axis that the faces lack or without any axis, DataError where no drawn face can be read.
    """
    checkpoint.network  # noqa: B018 (says now that a model without gradients has nothing to attribute)
    if not by:
        raise UsageError("attribution needs at least one subgroup axis, such as 'race': faces are drawn over the first")
    known = list(dict.fromkeys([*faces.attributes, *faces.tasks]))
    subgroups.require(known, by, "the faces")
    groups = {axis: subgroups.assign(faces.frame, axis) for axis in by}
    rows = draw_evenly(groups[by[0]], attribution.faces_per_head, seed)
    found = _attribute_each(checkpoint, faces, rows, attribution.steps, method, device, progress)
    if rows.size and not found.rows:
        raise DataError(
            f"none of the {len(rows)} faces drawn for attribution below {faces.root} can be read "
            f"({next(iter(found.unreadable.values()))}); check the images with `fairaudit data check`"
        )
    table, mean_maps, warnings = _by_subgroup(found, groups)
    size = checkpoint.image_size
    return Attribution(
        shares=pd.DataFrame(table, columns=list(ATTRIBUTION_COLUMNS)),
        maps=mean_maps,
        meta={
            **_describe(checkpoint, faces, found, groups[by[0]], by[0]),
            "method": method,
            "steps": attribution.steps,
            "seed": seed,
            "images": [str(image) for image in faces.frame["image"].iloc[found.rows]],
            "image_size": size,
            "centre": face_maps.describe_centre(size, size),
            "warnings": [*_unreadable(found), *warnings, *_inaccurate(found, attribution.steps)],
        },
    )


def draw_evenly(groups: pd.Categorical, limit: int, seed: int) -> np.ndarray:
    """Return at most `limit` row numbers, ascending, drawn evenly over the subgroups.

    Where a subgroup has fewer faces than its part, the others give more. Rows of `unknown` are drawn only where no row
    has a known subgroup.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    shuffled = pd.Series(np.asarray(groups, dtype=object)[order])
    rank = shuffled.groupby(shuffled).cumcount().to_numpy()
    known = (shuffled != UNKNOWN).to_numpy()
    eligible = known if known.any() else ~known
    first_come = np.argsort(rank[eligible], kind="stable")  # every subgroup's first face, then every second one, …
    return np.sort(order[eligible][first_come][:limit])


def _attribute_each(
    checkpoint: FaceModel,
    faces: FaceTable,
    rows: np.ndarray,
    steps: int,
    method: str,
    device: str,
    progress: Progress,
) -> _Found:
    """Attribute every drawn face. On a CPU each core works on a face of its own, so that no core waits for another."""
    explain = lookup(ATTRIBUTIONS, method, "attribution method")
    model = _ready(checkpoint.network, checkpoint.place(device))
    size, where = model.image_size, model.mean.device
    at_once = rows_a_pass(steps, size, size, where)
    one = partial(_attribute_one, checkpoint, model, faces, partial(explain, steps=steps, rows=at_once))
    threads = torch.get_num_threads()
    results: list[_Face] = []
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads if where.type == "cpu" else 1) as pool:
            for result in pool.map(one, rows.tolist()):
                results.append(result)
                progress("attribute", len(results), len(rows))
    finally:
        torch.set_num_threads(threads)
    good = [face for face in results if not face.unreadable]
    return _Found(
        rows=[face.row for face in good],
        maps={task: [face.maps[task] for face in good] for task in model.tasks},
        errors={task: [face.errors[task] for face in good] for task in model.tasks},
        unlabelled={task: sum(task in face.unlabelled for face in good) for task in model.tasks},
        unreadable={face.image: face.unreadable for face in results if face.unreadable},
    )


def _attribute_one(
    checkpoint: FaceModel, model: Any, faces: FaceTable, explain: Callable[..., dict[str, Tensor]], row: int
) -> _Face:
    """Attribute every head's score of one face; its path images alone fill a forward pass."""
    record = faces.frame.iloc[row]
    image = str(record["image"])
    try:
        pixels = checkpoint.read(faces.root / image)
    except DataError as error:
        return _Face(row=row, image=image, unreadable=str(error))
    x = model.prepare(torch.from_numpy(pixels)[None])
    baseline = blurred(x)
    targets, unlabelled = _targets(model, x, record)
    attributions = explain(model, x, baseline, targets)
    errors = completeness_error(model, x, baseline, targets, attributions)
    return _Face(
        row=row,
        image=image,
        maps={task: face_maps.face_maps(values.cpu().numpy())[0] for task, values in attributions.items()},
        errors={task: float(error) for task, error in errors.items()},
        unlabelled=unlabelled,
    )


def _ready(model: Any, device: torch.device) -> Any:
    """Return a copy that computes the same scores faster: no parameter gradients, batch norms folded, channels last.

    Anybody else's network is taken as it is.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if not isinstance(model, FaceClassifier):
        return model.to(device)
    ready = copy.deepcopy(model).eval().requires_grad_(False)
    if not ready.folded and folds_exactly(ready.blocks, ready.image_size):
        ready.fold_batch_norm().requires_grad_(False)
    return ready.to(device).to(memory_format=torch.channels_last)


def _targets(model: Any, x: Tensor, record: pd.Series) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Return each head's class (1,): the labelled one, or the predicted one for the heads also returned, which do not
    know the label."""
    labels = {task: record.get(task) for task in model.tasks}
    unlabelled = frozenset(task for task, names in model.classes.items() if labels[task] not in names)
    with torch.no_grad():
        logits = model(x) if unlabelled else {}
    classes = {
        task: logits[task].argmax(1) if task in unlabelled else torch.tensor([names.index(labels[task])])
        for task, names in model.classes.items()
    }
    return {task: index.to(x.device) for task, index in classes.items()}, unlabelled


def _by_subgroup(
    found: _Found, groups: Mapping[str, pd.Categorical]
) -> tuple[list[dict[str, object]], dict[tuple[str, str, str], np.ndarray], list[str]]:
    """Return the rows of the table, the mean maps, and what has to be said about them."""
    axes: dict[str, Any] = {OVERALL: pd.Categorical([OVERALL] * len(found.rows), categories=[OVERALL])}
    axes |= {axis: _take(labels, found.rows) for axis, labels in groups.items()}
    table: list[dict[str, object]] = []
    mean_maps: dict[tuple[str, str, str], np.ndarray] = {}
    warnings: list[str] = []
    for task, stack in found.maps.items() if found.rows else ():
        every = np.stack(stack)
        mapped = np.isfinite(every).all(axis=(1, 2))
        if not mapped.all():
            warnings.append(
                f"{int((~mapped).sum())} of {len(mapped)} faces have no attribution at all for {task} "
                "(its score does not react to the image): they are in none of its maps"
            )
        for axis, labels in axes.items():
            mapped_labels = _take(labels, np.flatnonzero(mapped))
            table += face_maps.share_rows(every[mapped], task, axis, mapped_labels)
            found_maps = face_maps.mean_maps(every[mapped], mapped_labels)
            mean_maps |= {(task, axis, group): mean for group, mean in found_maps.items()}
    for axis, labels in axes.items():
        empty = [str(group) for group in labels.categories if not (np.asarray(labels, dtype=object) == group).any()]
        if empty:
            more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
            warnings.append(f"no face was attributed for these subgroups of {axis}: {', '.join(empty[:NAMED])}{more}")
    return table, mean_maps, warnings


def _take(labels: pd.Categorical, rows: Sequence[int] | np.ndarray) -> pd.Categorical:
    """Return the labels of some rows, every category kept."""
    return pd.Categorical.from_codes(labels.codes[rows], dtype=labels.dtype)


def _describe(
    checkpoint: FaceModel, faces: FaceTable, found: _Found, groups: pd.Categorical, by: str
) -> dict[str, Any]:
    """Return the sentences that say what was attributed to what."""
    drawn = pd.Series(np.asarray(groups, dtype=object)[found.rows]).value_counts()
    spread = f"{drawn.min()}" if len(set(drawn)) == 1 else f"{drawn.min()} to {drawn.max()}" if len(drawn) else "0"
    parts = set(faces.frame["split"]) if "split" in faces.frame.columns else set()
    kind = f"{next(iter(parts))} faces" if len(parts) == 1 else "faces"
    instead = [f"{task} ({count})" for task, count in found.unlabelled.items() if count]
    target = "the logit of a face's labelled class above the mean of the head's logits"
    if instead:
        target += f"; of its predicted class where the head has no such label: {', '.join(instead)}"
    if checkpoint.flip_test:
        target += "; of the upright face alone, while predictions are averaged with the mirrored face"
    return {
        "sampled": f"{len(found.rows)} of {len(faces):,} {kind}, {spread} a subgroup of {by}; every head sees the same",
        "sampled_by": by,
        "faces": {task: sum(bool(np.isfinite(one).all()) for one in stack) for task, stack in found.maps.items()},
        "target": target,
        "baseline": (
            f"the same face under a Gaussian blur of {100 * BLUR:g} % of its width: skin tone and lighting stay, "
            "features go (against black, dark skin would get little attribution by construction)"
        ),
        "completeness": {task: _median(errors) for task, errors in found.errors.items()},
        "intervals": (
            "95 %, Student t over the attributed faces of a subgroup and Welch against everyone else's; each for "
            "itself, not adjusted for how many stand side by side; faces are taken as independent"
        ),
        "unreadable": list(found.unreadable),
        "checkpoint": checkpoint.hash,
    }


def _median(errors: Sequence[float]) -> float | None:
    known = [error for error in errors if np.isfinite(error)]
    return float(np.median(known)) if known else None


def _unreadable(found: _Found) -> list[str]:
    if not found.unreadable:
        return []
    names = ", ".join(list(found.unreadable)[:NAMED])
    more = " …" if len(found.unreadable) > NAMED else ""
    return [f"{len(found.unreadable)} drawn faces cannot be read and are left out: {names}{more}"]


def _inaccurate(found: _Found, steps: int) -> list[str]:
    """Name the heads whose attributions do not add up to the change of the score."""
    medians = {task: _median(errors) for task, errors in found.errors.items()}
    return [
        f"attributions of {task} miss the change of its score by {100 * error:.1f} % (median over faces; at most "
        f"{100 * LARGEST_ERROR:g} % is wanted): raise attribution.steps above {steps}"
        for task, error in medians.items()
        if error is not None and error > LARGEST_ERROR
    ]
