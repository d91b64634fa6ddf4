"""Look a Problem over before anything is trained: what cannot teach is refused, what is thin is said in sentences."""

import numpy as np

from fairaudit.errors import DataError
from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import SMALLEST, check_select
from fairaudit.mitigation.problem import Part, Problem
from fairaudit.wording import plural


def check_problem(problem: Problem) -> tuple[str, ...]:
    """Return sentences on what every method lacks here: subgroups and classes with few faces or none, masked labels.

    Raises DataError for arrays that do not fit together, embeddings that are not finite, training faces of fewer than
    two classes, and validation faces that nothing can be chosen by; UsageError where equalized odds are to be chosen by
    on an axis that determines the label.
    """
    for name, part in (("training", problem.train), ("validation", problem.val)):
        _check_part(problem, name, part)
    if problem.train.x.shape[1] != problem.val.x.shape[1]:
        raise DataError(
            f"{problem.task}: training embeddings have {problem.train.x.shape[1]} numbers a face, validation "
            f"embeddings {problem.val.x.shape[1]}; both must come from the same model"
        )
    said = (*_classes(problem), *_groups(problem), *_unknown(problem))
    check_select(problem)
    return said


def _check_part(problem: Problem, name: str, part: Part) -> None:
    n = len(part.x)
    shapes = (part.x.ndim, part.y.shape, part.g.shape, *(view.shape for view in part.views))
    if shapes != (2, (n,), (n,), *(part.x.shape for _ in part.views)):
        raise DataError(
            f"{problem.task}: the {name} part has embeddings {part.x.shape}, labels {part.y.shape}, subgroups "
            f"{part.g.shape}; they must be (n, d), (n,) and (n,), and each view (n, d)"
        )
    for codes, names, what in ((part.y, problem.classes, "label"), (part.g, problem.groups, "subgroup")):
        if n and not (np.issubdtype(codes.dtype, np.integer) and codes.min() >= -1 and codes.max() < len(names)):
            raise DataError(
                f"{problem.task}: a {what} code of the {name} part is not a whole number from -1 (unknown) to "
                f"{len(names) - 1} ({names[-1] if names else 'no name'})"
            )
    broken = sum(int((~np.isfinite(values).all(1)).sum()) for values in (part.x, *part.views))
    if broken:
        raise DataError(
            f"{problem.task}: {broken} {name} embeddings hold NaN or infinity; embed the faces again, in full precision"
        )


def _classes(problem: Problem) -> list[str]:
    """Refuse training faces of one class and validation faces without labels; name classes without a training face."""
    n = np.bincount(problem.train.y[problem.train.y >= 0], minlength=len(problem.classes))
    there = [name for name, count in zip(problem.classes, n, strict=True) if count]
    if len(there) < 2:
        found = f"all {n.sum()} labelled training faces are {there[0]}" if there else "no training face has a label"
        raise DataError(f"{problem.task}: {found}; a head needs faces of two classes at least")
    if not (problem.val.y >= 0).any():
        raise DataError(f"{problem.task}: no validation face has a label; a larger split.val is needed")
    without = [name for name, count in zip(problem.classes, n, strict=True) if not count]
    return [f"no training face is labelled {', '.join(without)}: no method can learn it"] if without else []


def _groups(problem: Problem) -> list[str]:
    """Refuse a validation part without a subgroup to choose by; name subgroups that are missing or too small."""
    train, val = (
        np.bincount(part.g[cells.known(part)], minlength=len(problem.groups)) for part in (problem.train, problem.val)
    )
    if not (val >= SMALLEST).any():
        raise DataError(
            f"{problem.task}: no subgroup of {problem.by!r} has {SMALLEST} labelled validation faces, so that nothing "
            "can be chosen by them; choose a coarser axis or a larger split.val"
        )
    said = []
    absent = [problem.groups[g] for g in np.flatnonzero(train == 0)]
    if absent:
        said.append(
            f"no labelled training face in {', '.join(absent)}: no method can train for it, and it is still measured"
        )
    thin = [f"{problem.groups[g]} ({val[g]})" for g in np.flatnonzero(val < SMALLEST)]
    if thin:
        said.append(
            f"fewer than {SMALLEST} labelled validation faces in {', '.join(thin)}: no epoch and no candidate is "
            "chosen by it"
        )
    return said


def _unknown(problem: Problem) -> list[str]:
    """Count training and validation faces whose label is masked or whose subgroup is unknown."""
    said = []
    for name, part in (("training", problem.train), ("validation", problem.val)):
        masked, unknown = int((part.y < 0).sum()), int(((part.y >= 0) & (part.g < 0)).sum())
        if masked:
            of, have = plural(len(part), f"{name} face"), "has" if masked == 1 else "have"
            said.append(f"{masked} of {of} {have} no label of {problem.task}: left out")
        if unknown:
            are = plural(unknown, f"labelled {name} face is", f"labelled {name} faces are")
            said.append(f"{are} of unknown subgroup")
    return said
