"""The passes that contrasts are made of: every baseline, in the model and in one with shuffled weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.attribution import describe
from fairaudit.attribution.contrasts import (
    ERRORS,
    SUBGROUPS,
    Sample,
    common_target,
    contrast_table,
    difference_map,
    pairs,
)
from fairaudit.attribution.drawing import draw_evenly
from fairaudit.attribution.methods import ATTRIBUTIONS
from fairaudit.attribution.networks import randomized, ready
from fairaudit.attribution.passes import NO_BASELINE, RANDOMIZED, TRAINED, Explained, Job, Pass, run_pass
from fairaudit.attribution.sanity import complete_for_each
from fairaudit.subgroups import UNKNOWN

Pictures = dict[tuple[str, ...], np.ndarray]


def compare_groups(
    job: Job, network: Any, place: Any, groups: Mapping[str, pd.Categorical]
) -> tuple[list[pd.DataFrame], Pictures, str, list[dict[str, object]]]:
    """Return the contrasts of every method and head, the difference maps, the sentence that says how, and the rows
    that sanity.csv has of the compared faces.

    `network` is the model as it came, `place` its device; `groups` the subgroup of every face on every axis.
    """
    settings = job.settings
    rows = _drawn(job, groups)
    targets = _targets(job, rows)
    models = {
        TRAINED: ready(network, place),
        RANDOMIZED: ready(randomized(network, job.pool.faces, job.seed), place),
    }
    tables: list[pd.DataFrame] = []
    pictures: Pictures = {}
    checks: list[dict[str, object]] = []
    for method in settings.methods:
        baselines = settings.baselines if ATTRIBUTIONS[method].baseline else (NO_BASELINE,)
        found: dict[str, dict[str, list[Explained]]] = {variant: {} for variant in models}
        for baseline in baselines:
            for variant, model in models.items():
                one = Pass(method=method, baseline=baseline, variant=variant, target=targets)
                stage = f"contrasts {method} {baseline} {variant}".replace("  ", " ")
                results = run_pass(job, one, model, rows.tolist(), stage)
                found[variant][baseline] = [face for face in results if not face.unreadable]
                if variant == TRAINED:
                    checks += complete_for_each(one, found[variant][baseline])
        for task, target in targets.items():
            sample = _sample(job, task, target, next(iter(found[TRAINED].values())), groups)
            trained, random = (
                {baseline: np.stack([face.shares[task] for face in faces]) for baseline, faces in each.items()}
                for each in (found[TRAINED], found[RANDOMIZED])
            )
            if job.alignment.common is not None:
                tables.append(contrast_table(sample, trained, random, method=method, seed=job.seed))
            pictures |= _difference_maps(sample, method, found)
    shown = [name for name in settings.baselines if any(ATTRIBUTIONS[m].baseline for m in settings.methods)]
    return tables, pictures, describe.contrasts_said(settings.contrasts, targets, len(rows), shown), checks


def _drawn(job: Job, groups: Mapping[str, pd.Categorical]) -> np.ndarray:
    """Return the rows of the faces that are compared: as many of every subgroup of every compared axis."""
    frame = job.faces.frame
    subjects = frame.get("subject_id")
    drawn: list[np.ndarray] = []
    for axis in job.settings.contrasts:
        names = [name for name in groups[axis].categories if name != UNKNOWN]
        limit = len(names) * job.settings.faces_per_subgroup
        drawn.append(draw_evenly(groups[axis], limit, job.seed, subjects))
    return np.unique(np.concatenate(drawn))


def _targets(job: Job, rows: np.ndarray) -> dict[str, str]:
    """Return the class that is explained in every face, for each head whose labels the faces have."""
    frame = job.faces.frame.iloc[rows]
    return {
        task: job.settings.target.get(task) or common_target(list(frame[task]), job.checkpoint.classes[task])
        for task in job.heads
        if task in frame
    }


def _sample(job: Job, task: str, target: str, faces: list[Explained], groups: Mapping[str, pd.Categorical]) -> Sample:
    rows = [face.row for face in faces]
    labels = job.faces.frame[task].iloc[rows]
    return Sample(
        task=task,
        target=target,
        label=np.array([value if isinstance(value, str) else None for value in labels], dtype=object),
        predicted=np.array([face.predicted[task] for face in faces], dtype=object),
        groups={
            axis: pd.Categorical.from_codes(groups[axis].codes[rows], dtype=groups[axis].dtype)
            for axis in job.settings.contrasts
        },
    )


def _difference_maps(sample: Sample, method: str, found: Mapping[str, Mapping[str, list[Explained]]]) -> Pictures:
    """Return the matched difference maps of absolute attribution, mean over all baselines but black."""
    names = [baseline for baseline in found[TRAINED] if baseline != "black"]
    trained, random = (
        np.mean([[face.maps[sample.task][0] for face in found[variant][name]] for name in names], axis=0)
        for variant in (TRAINED, RANDOMIZED)
    )
    made: Pictures = {}
    for pair in pairs(sample):
        key = (sample.task, pair.by, pair.subgroup)
        kinds = {SUBGROUPS: {"difference": trained, "net": trained - random}, ERRORS: {"wrong": trained}}
        for what, maps in kinds[pair.comparison].items():
            apart = difference_map(pair, maps)
            if apart is not None:
                made[method, what, *key] = apart
    return made
