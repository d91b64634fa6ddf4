"""hide_regions(): a model's answers to the same faces, whole and with a region hidden; and what follows from them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fairaudit.attribution.regions import REGIONS, describe_regions
from fairaudit.axes import choose_axes
from fairaudit.data.fills import FILLS, Palette, hide, palette_of
from fairaudit.data.frames import Frame
from fairaudit.data.perturbations import seed_of
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.masking.placing import check_region, hidden_part, place_faces
from fairaudit.masking.tables import masking_tables
from fairaudit.models.protocol import FaceModel
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.results import Masking
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
from fairaudit.spec import AuditSpec, MaskingSpec
from fairaudit.wording import plural

_COLOURS = 200  # faces whose mean colour is taken for that of the data


def hide_regions(
    model: FaceModel,
    faces: FaceTable,
    out: Path,
    *,
    masking: MaskingSpec,
    audit: AuditSpec | None = None,
    tasks: Sequence[str] | None = None,
    name: str = "",
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Masking:
    """Hide each region with each fill, predict, and save masking.csv, masking_tests.csv and `predictions/` into `out`.

    At most `masking.faces` faces, drawn evenly over the first axis with `seed`. Regions come from the template of
    `attribution.regions`, laid on each face as its data set is aligned. Predictions that are there
    from an interrupted call are not made again. Raises UsageError for unknown regions, fills and axes, fewer than two
    fills, and where it is not known how the faces lie.
    """
    audit = audit or AuditSpec()
    regions, fills = check_masking(masking)
    axes = axes_of(faces, masking.subgroups, audit)
    drawn, sampled = sample(faces, axes, masking.faces, seed)
    placed = place_faces(drawn, model, masking.alignment)
    unplaced = len(drawn) - len(placed.faces)
    lost = [f"{plural(unplaced, 'face')} left out: where it lies in its picture is not known."] if unplaced else []
    palette = _palette(model, placed.faces, seed)
    begin(out, Masking.MARKER)
    changes = {
        f"{region}-{fill}": _hiding(region, fill, placed.frames, palette, seed) for region in regions for fill in fills
    }
    paths = predict_all(model, placed.faces, out, changes, stage="masking", device=device, progress=progress)
    clean = read_predictions(paths[CLEAN])
    axes, warnings = choose_axes(clean, axes)
    heads = {task: Head.of(clean, task, axes) for task in asked_heads(model, clean, tasks)}
    warnings += unlabelled(clean, heads)
    for region in regions:
        for fill in fills:
            by_change(heads, (region, fill), read_predictions(paths[f"{region}-{fill}"]))
    areas = _areas(regions, placed.distinct, model.image_size)
    table, tests = masking_tables(heads, axes, areas, fills, audit, seed)
    meta = common_meta(
        model, placed.faces, clean, heads, axes, audit, paths, name=name, sampled=sampled, seed=seed,
        warnings=[*warnings, *lost],
    )  # fmt: skip
    size = model.image_size
    meta |= {
        "regions": areas,
        "fills": {fill: SAID[fill] for fill in fills},
        "palette": {"mean": list(palette.mean), "spread": list(palette.spread)},
        "alignment": placed.said,
        "template": describe_regions(placed.distinct[0], size, size),
    }
    found = Masking(table=table, tests=tests, meta=meta)
    found.save(out)
    return found


SAID = {
    "blur": "what lies around the region, blurred into it",
    "mean": "the mean colour of the data",
    "noise": "noise with the mean colour and spread of the data",
}


def check_masking(masking: MaskingSpec | None) -> tuple[list[str], list[str]]:
    """Return the regions and fills of a spec. Raises UsageError for an unknown one, or fewer than two fills."""
    if masking is None:
        return [], []
    regions = [check_region(region) for region in masking.regions or REGIONS]
    fills = [lookup({fill: fill for fill in FILLS}, fill, "fill") for fill in masking.fills]
    if len(set(fills)) < 2:
        raise UsageError(
            f"masking.fills = {', '.join(fills)}: give at least two of {', '.join(FILLS)}; a region is named only "
            "where they agree, because every fill is a picture content of its own"
        )
    return list(dict.fromkeys(regions)), list(dict.fromkeys(fills))


def _palette(model: FaceModel, faces: FaceTable, seed: int) -> Palette:
    """Return the mean colour and spread of some of the faces as the model sees them."""
    rows = np.random.default_rng(seed).permutation(len(faces))[:_COLOURS]
    pictures = []
    for image in faces.frame["image"].iloc[np.sort(rows)]:
        try:
            pictures.append(model.read(faces.root / str(image)))
        except (DataError, OSError):
            continue  # it is counted as failed when it is predicted
    if not pictures:
        raise DataError(
            f"none of {plural(len(rows), 'face')} below {faces.root} can be read; see `fairaudit data check`"
        )
    return palette_of(pictures)


def _hiding(region: str, fill: str, frames: Mapping[str, Frame], palette: Palette, seed: int) -> Changing:
    distinct = {frame: frame.matrix.round(6).tolist() for frame in dict.fromkeys(frames.values())}
    key = {
        "hidden": region, "fill": fill, "palette": [palette.mean, palette.spread], "seed": seed,
        "frames": list(distinct.values()) if len(distinct) == 1 else {i: distinct[f] for i, f in frames.items()},
    }  # fmt: skip
    return Changing(change=partial(_hidden, region, fill, frames, palette, seed), key=key)


def _hidden(
    region: str, fill: str, frames: Mapping[str, Frame], palette: Palette, seed: int, pixels: np.ndarray, image: str
) -> np.ndarray:
    mask = hidden_part(frames[image], region, *pixels.shape[:2])
    return hide(pixels, mask, FILLS[fill], palette, seed_of(image, seed))


def _areas(regions: Sequence[str], frames: Sequence[Frame], size: int) -> dict[str, float]:
    """Return the mean share of the picture that is hidden with each region."""
    return {
        region: float(np.mean([hidden_part(frame, region, size, size).mean() for frame in frames]))
        for region in regions
    }
