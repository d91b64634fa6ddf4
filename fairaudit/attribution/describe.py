"""What an attribution says of itself: sentences that stand beside its maps and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.attribution.backdrops import BASELINES
from fairaudit.attribution.passes import Explained
from fairaudit.attribution.sanity import FAILED
from fairaudit.data.tables import FaceTable
from fairaudit.wording import plural

NAMED = 10  # subgroups or images named in one warning


def sampled(found: Sequence[Explained], faces: FaceTable, groups: pd.Categorical, by: str) -> str:
    """Return how many of how many faces were attributed."""
    drawn = pd.Series(np.asarray(groups, dtype=object)[[face.row for face in found]]).value_counts()
    spread = f"{drawn.min()}" if len(set(drawn)) == 1 else f"{drawn.min()} to {drawn.max()}" if len(drawn) else "0"
    parts = set(faces.frame["split"]) if "split" in faces.frame.columns else set()
    kind = f"{next(iter(parts))} faces" if len(parts) == 1 else "faces"
    single = ", at most one of each person" if "subject_id" in faces.frame else ""
    return f"{len(found)} of {len(faces):,} {kind}, {spread} a subgroup of {by}{single}; every head sees the same"


def explained(found: Sequence[Explained], tasks: Sequence[str], *, flipped: bool, zoomed: bool) -> str:
    """Return what the attribution explains, of a model whose predictions look at a face `flipped` or `zoomed`, too."""
    counts = {task: sum(task in face.unlabelled for face in found) for task in tasks}
    instead = [f"{task} ({count})" for task, count in counts.items() if count]
    target = "the logit of a face's labelled class above the mean of the head's logits"
    if instead:
        target += f"; of its predicted class where the head has no such label: {', '.join(instead)}"
    others = [*(["the mirrored face"] if flipped else []), *(["the face in other sizes"] if zoomed else [])]
    if others:
        target += f"; of the face as it is alone, while predictions are averaged with {' and '.join(others)}"
    return target


def contrasts_said(axes: Sequence[str], targets: Mapping[str, str], faces: int, baselines: Sequence[str]) -> str:
    """Return how subgroups were compared, "" where they were not."""
    if not axes:
        return ""
    against = f"against {', '.join(baselines)}" if baselines else "without a baseline, as the method needs none"
    wanted = ", ".join(f"{name} ({task})" for task, name in targets.items())
    return (
        f"{plural(faces, 'face')}, drawn evenly over {', '.join(axes)}; one "
        f"class explained in all of them ({wanted}), {against}; "
        "matched on label and correctness, and compared once more in a model with shuffled weights. p-values by "
        "exchanging faces within strata, Benjamini–Hochberg over the regions and subgroups of an axis; BCa bootstrap "
        "limits, faces drawn again"
    )


def unreadable(found: Sequence[Explained]) -> list[str]:
    """Return the warning that names the faces that could not be read."""
    names = [face.image for face in found if face.unreadable]
    if not names:
        return []
    more = " …" if len(names) > NAMED else ""
    said = plural(
        len(names), "drawn face cannot be read and is left out", "drawn faces cannot be read and are left out"
    )
    return [f"{said}: {', '.join(names[:NAMED])}{more}"]


def without_faces(axis: str, labels: pd.Categorical) -> list[str]:
    """Return the warning that names the subgroups of which no face was attributed."""
    present = set(np.asarray(labels, dtype=object))
    empty = [str(group) for group in labels.categories if group not in present]
    if not empty:
        return []
    more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
    return [f"no face was attributed for these subgroups of {axis}: {', '.join(empty[:NAMED])}{more}"]


def without_maps(task: str, mapped: np.ndarray) -> list[str]:
    """Return the warning that a head did not react to some faces."""
    if mapped.all():
        return []
    return [
        f"no attribution at all for {task} in {int((~mapped).sum())} of {plural(len(mapped), 'face')}, to whose pixels "
        "its score does not react: none of its maps holds them"
    ]


def failures(sanity: pd.DataFrame, steps: int) -> list[str]:
    """Return a warning for every sanity check that failed."""
    said = []
    for row in sanity[sanity["outcome"] == FAILED].to_dict("records"):
        mend = f": raise attribution.steps above {steps}" if row["check"] == "completeness" else ""
        said.append(f"{row['method']} fails the check of {row['check']}: {row['sentence']}{mend}")
    return said


def completeness(found: Sequence[Explained], tasks: Sequence[str]) -> dict[str, float | None]:
    """Return each head's median completeness error, None where it is unknown."""
    medians: dict[str, float | None] = {}
    for task in tasks:
        errors = [face.errors[task] for face in found if np.isfinite(face.errors.get(task, np.nan))]
        medians[task] = float(np.median(errors)) if errors else None
    return medians


def baselines_said(names: Sequence[str]) -> dict[str, str]:
    """Return what each baseline is."""
    return {name: BASELINES[name].said for name in names}


INTERVALS = (
    "95 %, of centre and border Student t over the attributed faces of a subgroup and Welch against everyone else's, "
    "of regions BCa bootstrap with faces drawn again; each for itself, not adjusted for how many stand side by side; "
    "faces are taken as independent"
)


def meta_of(
    checkpoint: Any, faces: FaceTable, found: Sequence[Explained], settings: Any, seed: int, by: str
) -> dict[str, Any]:
    """Return what does not depend on contrasts, regions or checks."""
    tasks = list(found[0].maps) if found else []
    zoomed = bool(getattr(checkpoint, "zoom_test", ()))  # strangers' models have none
    return {
        "sampled_by": by,
        "faces": {task: sum(bool(np.isfinite(face.maps[task]).all()) for face in found) for task in tasks},
        "target": explained(found, tasks, flipped=checkpoint.flip_test, zoomed=zoomed),
        "method": settings.methods[0],
        "methods": list(settings.methods),
        "steps": settings.steps,
        "seed": seed,
        "images": [face.image for face in found],
        "image_size": checkpoint.image_size,
        "completeness": completeness(found, tasks),
        "intervals": INTERVALS,
        "checkpoint": checkpoint.hash,
    }
