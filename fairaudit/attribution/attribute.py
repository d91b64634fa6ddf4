"""attribute(): where in the face a checkpoint's heads look, by subgroup, and whether that may be believed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.attribution import describe
from fairaudit.attribution import maps as face_maps
from fairaudit.attribution.alignment import align
from fairaudit.attribution.backdrops import BASELINES, pool_of
from fairaudit.attribution.comparing import compare_groups
from fairaudit.attribution.curve_rows import curve_checks, curve_table
from fairaudit.attribution.curves import CURVED, STEPS, measure_curves
from fairaudit.attribution.drawing import draw_evenly
from fairaudit.attribution.methods import ATTRIBUTIONS
from fairaudit.attribution.networks import randomized, ready
from fairaudit.attribution.passes import NO_BASELINE, RANDOMIZED, Explained, Job, Pass, run_pass
from fairaudit.attribution.region_table import region_table
from fairaudit.attribution.regions import describe_regions, region_areas, region_masks
from fairaudit.attribution.sanity import CHECKED, RANDOM, compared, full_checks, measured, sanity_frame
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models.protocol import FaceModel
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.results import Attribution
from fairaudit.results.columns import ATTRIBUTION_COLUMNS, CONTRAST_COLUMNS, CURVE_COLUMNS
from fairaudit.spec import AttributionSpec
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

__all__ = ["attribute", "check_settings", "draw_evenly"]


def check_settings(attribution: AttributionSpec, tasks: Mapping[str, Sequence[str]] | None = None) -> None:
    """Raise UsageError for a method, baseline, head or target class that does not exist, before any model runs."""
    for method in attribution.methods:
        lookup(ATTRIBUTIONS, method, "attribution method")
    for baseline in attribution.baselines:
        lookup(BASELINES, baseline, "baseline")
    if tasks is None:
        return
    for task in attribution.tasks:
        lookup(tasks, task, "task of attribution.tasks")
    for task, name in attribution.target.items():
        lookup(dict.fromkeys(lookup(tasks, task, "task of attribution.target")), name, f"class of {task}")


def attribute(
    checkpoint: FaceModel,
    faces: FaceTable,
    *,
    by: Sequence[str],
    attribution: AttributionSpec,
    seed: int = 0,
    device: str = "auto",
    keep: Path | None = None,
    progress: Progress = silent,
) -> Attribution:
    """Attribute every head's score of a face's class to the face's pixels; average over the subgroups of each axis.

    At most `attribution.faces_per_head` faces, drawn evenly over the subgroups of the first axis with `seed`, one of
    each person where persons are known; every head and method sees the same ones. Heads that
    `attribution.tasks` leaves out are not explained. Axes in `attribution.contrasts` are
    compared as `contrasts` says. A face that cannot be read is left out and named in meta["warnings"]. `keep` is a
    folder for what is done, face by face: a call with the same one goes on where an earlier one was stopped.
    Raises UsageError for an axis that the faces lack, without any axis, and for an unknown method, baseline or class;
    DataError where no drawn face can be read.
    """
    network = checkpoint.network  # says now that a model without gradients has nothing to attribute
    check_settings(attribution, checkpoint.classes)
    groups = _groups(faces, by, attribution)
    subjects = faces.frame.get("subject_id")
    rows = draw_evenly(groups[by[0]], attribution.faces_per_head, seed, subjects)
    if not rows.size:
        raise UsageError("no face to attribute: raise attribution.faces_per_head above 0, or give faces")
    place = checkpoint.place(device)
    model = ready(network, place)
    pool = pool_of(checkpoint, model, [faces.root / str(faces.frame["image"].iloc[row]) for row in rows])
    if pool is None:
        raise DataError(
            f"none of {plural(len(rows), 'face')} drawn for attribution below {faces.root} can be read "
            f"({_why(checkpoint, faces, rows)}); check the images with `fairaudit data check`"
        )
    alignment = align(faces, checkpoint, attribution.alignment, attribution.landmarks)
    job = Job(
        checkpoint=checkpoint,
        faces=faces,
        settings=attribution,
        alignment=alignment,
        pool=pool,
        seed=seed,
        progress=progress,
        keep=keep,
    )
    shown = {axis: groups[axis] for axis in by}
    found: dict[str, list[Explained]] = {}
    checks: list[dict[str, object]] = []
    curves: list[dict[str, object]] = []
    for method in attribution.methods:
        one = Pass(method=method, baseline=_baseline(method, attribution.baselines[0]))
        found[method] = run_pass(job, one, model, rows.tolist(), f"attribute {method}")
        good = [face for face in found[method] if not face.unreadable]
        checks += _checks(job, one, network, place, good)
        beside_random, points = _curves(job, one, model, good)
        checks, curves = checks + beside_random, curves + points
    first = found[attribution.methods[0]]
    points_of_curves = pd.DataFrame(curves, columns=list(CURVE_COLUMNS))
    return _result(job, network, place, by, shown, groups, first, found, checks, points_of_curves)


def _groups(faces: FaceTable, by: Sequence[str], attribution: AttributionSpec) -> dict[str, pd.Categorical]:
    """Return the subgroup of every face on every axis that is shown or compared."""
    if not by:
        raise UsageError("attribution needs at least one subgroup axis, such as 'race': faces are drawn over the first")
    known = list(dict.fromkeys([*faces.attributes, *faces.tasks]))
    subgroups.require(known, by, "the faces")
    subgroups.require(known, attribution.contrasts, "the faces")
    return {axis: subgroups.assign(faces.frame, axis) for axis in dict.fromkeys([*by, *attribution.contrasts])}


def _baseline(method: str, wanted: str) -> str:
    return wanted if ATTRIBUTIONS[method].baseline else NO_BASELINE


def _why(checkpoint: Any, faces: FaceTable, rows: np.ndarray) -> str:
    try:
        checkpoint.read(faces.root / str(faces.frame["image"].iloc[rows[0]]))
    except DataError as error:
        return str(error)
    return "its pictures"


def _checks(job: Job, one: Pass, network: Any, place: Any, found: Sequence[Explained]) -> list[dict[str, object]]:
    """Return the rows of sanity.csv of one method."""
    rows = measured(one, found)
    level = job.settings.sanity
    if level == "none" or not found:
        return rows
    some = _some(found, CHECKED[level])
    random = ready(randomized(network, job.pool.faces, job.seed), place)
    other = Pass(method=one.method, baseline=one.baseline, variant=RANDOMIZED)
    stage = f"sanity {one.method}"
    rows += compared(one, RANDOM, "", some, run_pass(job, other, random, [face.row for face in some], stage))
    if level == "full":
        rows += full_checks(job, one, network, some, lambda made: ready(made, place))
    return rows


def _curves(
    job: Job, one: Pass, model: Any, found: Sequence[Explained]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return what deletion and insertion curves add to sanity.csv, and the rows of curves.csv, of one method."""
    level = job.settings.sanity
    if level == "none" or not found:
        return [], []
    some = _some(found, CURVED[level])
    curves = measure_curves(job, one, model, some, STEPS[level])
    return curve_checks(one, curves, len(some)), curve_table(one, curves)


def _some(found: Sequence[Explained], count: int) -> Sequence[Explained]:
    """Return about `count` of the faces, spread over all of them."""
    return found[:: max(1, len(found) // count)][:count]


def _result(
    job: Job,
    network: Any,
    place: Any,
    by: Sequence[str],
    shown: Mapping[str, pd.Categorical],
    groups: Mapping[str, pd.Categorical],
    drawn: Sequence[Explained],
    found: Mapping[str, Sequence[Explained]],
    checks: Sequence[dict[str, object]],
    curves: pd.DataFrame,
) -> Attribution:
    """Put the tables, maps and sentences together."""
    settings, alignment, size = job.settings, job.alignment, job.checkpoint.image_size
    first = [face for face in drawn if not face.unreadable]
    shares, mean_maps, warnings = _by_subgroup(first, shown)
    regions = [_regions(job, method, faces, shown) for method, faces in found.items()]
    pictures = {key: value for method, faces in found.items() for key, value in _pictures(job, method, faces, shown)}
    contrasts, compared_maps, said, more = (
        compare_groups(job, network, place, groups) if settings.contrasts else ([], {}, "", [])
    )
    sanity = sanity_frame([*checks, *more])
    return Attribution(
        shares=pd.DataFrame(shares, columns=list(ATTRIBUTION_COLUMNS)),
        maps=mean_maps,
        regions=pd.concat(regions, ignore_index=True) if alignment.common is not None else regions[0].iloc[:0],
        contrasts=pd.concat(contrasts, ignore_index=True)
        if contrasts
        else pd.DataFrame(columns=list(CONTRAST_COLUMNS)),
        sanity=sanity,
        curves=curves,
        pictures={**pictures, **compared_maps},
        meta={
            **describe.meta_of(job.checkpoint, job.faces, first, settings, job.seed, by[0]),
            "sampled": describe.sampled(first, job.faces, shown[by[0]], by[0]),
            "baseline": _against(settings),
            "baselines": describe.baselines_said(settings.baselines),
            "centre": face_maps.describe_centre(size, size),
            "alignment": alignment.said,
            "regions": "" if alignment.common is None else describe_regions(alignment.common, size, size, soft=True),
            "contrasts": said,
            "unreadable": [face.image for face in drawn if face.unreadable],
            "warnings": [
                *describe.unreadable(drawn),
                *warnings,
                *describe.failures(sanity, settings.steps),
            ],
        },
    )


def _against(settings: AttributionSpec) -> str:
    name = _baseline(settings.methods[0], settings.baselines[0])
    return BASELINES[name].said if name else "nothing: the method needs no baseline"


def _by_subgroup(
    found: Sequence[Explained], groups: Mapping[str, pd.Categorical]
) -> tuple[list[dict[str, object]], dict[tuple[str, str, str], np.ndarray], list[str]]:
    """Return the rows of the table, the mean maps, and what has to be said about them."""
    axes = _axes(found, groups)
    table: list[dict[str, object]] = []
    mean_maps: dict[tuple[str, str, str], np.ndarray] = {}
    warnings: list[str] = []
    for task in found[0].maps if found else ():
        every = np.stack([face.maps[task][0] for face in found])
        centre = np.array([face.centre[task] for face in found])
        mapped = np.isfinite(every).all(axis=(1, 2))
        warnings += describe.without_maps(task, mapped)
        for axis, labels in axes.items():
            mapped_labels = _take(labels, np.flatnonzero(mapped))
            table += face_maps.share_rows(centre[mapped], task, axis, mapped_labels)
            of_groups = face_maps.mean_maps(every[mapped], mapped_labels)
            mean_maps |= {(task, axis, group): mean for group, mean in of_groups.items()}
    return (
        table,
        mean_maps,
        warnings + [said for axis, labels in axes.items() for said in describe.without_faces(axis, labels)],
    )


def _axes(found: Sequence[Explained], groups: Mapping[str, pd.Categorical]) -> dict[str, pd.Categorical]:
    everyone: Any = pd.Categorical([OVERALL] * len(found), categories=[OVERALL])
    return {OVERALL: everyone} | {axis: _take(labels, [face.row for face in found]) for axis, labels in groups.items()}


def _take(labels: pd.Categorical, rows: Sequence[int] | np.ndarray) -> pd.Categorical:
    """Return the labels of some rows, every category kept."""
    return pd.Categorical.from_codes(labels.codes[rows], dtype=labels.dtype)


def _regions(job: Job, method: str, faces: Sequence[Explained], groups: Mapping[str, pd.Categorical]) -> pd.DataFrame:
    good = [face for face in faces if not face.unreadable]
    shares = {task: np.stack([face.shares[task] for face in good]) for task in (good[0].maps if good else ())}
    axes = {axis: labels for axis, labels in _axes(good, groups).items() if axis != OVERALL}
    size, frame = job.checkpoint.image_size, job.alignment.common
    areas = region_areas(region_masks(frame if frame is not None else "utkface", size, size, soft=True))
    baseline = _baseline(method, job.settings.baselines[0])
    return region_table(shares, axes, areas, method=method, baseline=baseline, seed=job.seed)


def _pictures(
    job: Job, method: str, faces: Sequence[Explained], groups: Mapping[str, pd.Categorical]
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Return the mean signed maps, and the absolute ones of every method but the first."""
    good = [face for face in faces if not face.unreadable]
    kinds = {"signed": 1} if method == job.settings.methods[0] else {"absolute": 0, "signed": 1}
    made: list[tuple[tuple[str, ...], np.ndarray]] = []
    for task in good[0].maps if good else ():
        every = np.stack([face.maps[task] for face in good])
        mapped = np.flatnonzero(np.isfinite(every).all(axis=(1, 2, 3)))
        for axis, labels in _axes(good, groups).items():
            for what, kind in kinds.items():
                means = face_maps.mean_maps(every[mapped, kind], _take(labels, mapped))
                made += [((method, what, task, axis, group), mean) for group, mean in means.items()]
    return made
