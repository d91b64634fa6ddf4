"""Weights for training faces by subgroup × label: Kamiran–Calders reweighing and its root, joint and class balancing.

Each method is a function `(frame, task, by, *, cap) -> weights`, with one float a row of `frame`, mean 1 over the faces
it weighs and none above `cap`. A face whose subgroup is `unknown` has weight 1: nothing is known that could be
balanced. A face whose label of the task is masked has weight 1, too: that it has no part in that head's loss is the
trainer's matter.
"""

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.errors import UsageError

FAR = 2  # times the cap, from which on a weight exceeds it by far
_ROUNDS = 200


def reweigh(frame: pd.DataFrame, task: str, by: str, *, cap: float) -> np.ndarray:
    """Return Kamiran and Calders' weights w(g, y) = P(g)·P(y) / P(g, y) for the subgroups of `by` and labels of `task`.

    Weighted so, label and subgroup are independent: the weighted label shares are the same in every subgroup. A cap
    trades some of that for a smaller variance. Source: Kamiran & Calders, "Data preprocessing techniques for
    classification without discrimination", Knowledge and Information Systems 33, 2012.
    Raises UsageError on an axis on which the subgroup determines the label (the weight would be P(y) and favour the
    majority), for an unknown attribute or task, where no face can be weighed, and for a cap of 1 or less.
    """
    return _weights("reweighing", frame, task, by, cap)


def reweigh_sqrt(frame: pd.DataFrame, task: str, by: str, *, cap: float) -> np.ndarray:
    """Return the square roots of Kamiran and Calders' weights: half of the correction on a logarithmic scale.

    Rare cells weigh less than there, so the variance is smaller and some dependence of label and subgroup is left.
    Source of the square root: Mahajan et al., "Exploring the limits of weakly supervised pretraining", ECCV 2018, who
    sample classes so. Raises UsageError as `reweigh` does.
    """
    return _weights("reweighing-sqrt", frame, task, by, cap)


def joint_balancing(frame: pd.DataFrame, task: str, by: str, *, cap: float) -> np.ndarray:
    """Return weights under which every subgroup × label cell that has faces has the same total: w(g, y) ∝ 1 / n(g, y).

    Raises UsageError as `reweigh` does, except that an axis on which the subgroup determines the label is allowed.
    """
    return _weights("joint-balancing", frame, task, by, cap)


def class_balancing(frame: pd.DataFrame, task: str, by: str, *, cap: float) -> np.ndarray:
    """Return weights under which every class has the same total, whatever the subgroup: w(y) ∝ 1 / n(y).

    `by` only decides which faces are `unknown` and keep weight 1. Raises UsageError as `joint_balancing` does.
    """
    return _weights("class-balancing", frame, task, by, cap)


def raw_weights(name: str, groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights that the method `name` asks for, mean 1, before any cap.

    `groups` and `labels` (n,) are codes ≥ 0 of faces that have both.
    """
    width = labels.max() + 1
    cells = groups * width + labels
    n, per_group, per_label = np.bincount(cells)[cells], np.bincount(groups)[groups], np.bincount(labels)[labels]
    asked = {
        "reweighing": per_group * per_label / (len(groups) * n),
        "reweighing-sqrt": np.sqrt(per_group * per_label / (len(groups) * n)),
        "joint-balancing": 1 / n,
        "class-balancing": 1 / per_label,
    }[name]
    return np.asarray(asked / asked.mean())


def capped(raw: np.ndarray, known: np.ndarray, cap: float) -> np.ndarray:
    """Return weights for all rows: 1 where nothing is known, else `raw` scaled to mean 1 with none above `cap`.

    Cutting at the cap lowers the mean and scaling back lifts other weights, perhaps over the cap: repeated until both
    hold. That ends, because a cap above 1 leaves room and capped weights stay capped.
    """
    if cap <= 1:
        raise UsageError(f"cap = {cap:g}: the largest weight must be above 1, the mean weight")
    weights = raw / raw.mean()
    for _ in range(_ROUNDS):
        over = weights >= cap
        if not (weights > cap).any():
            break
        free = ~over
        weights = np.where(over, cap, weights * ((len(raw) - cap * over.sum()) / weights[free].sum()))
    result = np.ones(len(known))
    result[known] = weights
    return result


def beyond_cap(raw: np.ndarray, cap: float) -> str | None:
    """Return a sentence where weights (mean 1, before the cap) would exceed the cap by far, else None."""
    far = raw > FAR * cap
    if not far.any():
        return None
    return (
        f"{int(far.sum())} of {len(raw)} training faces would weigh more than {FAR} times the cap of {cap:g} (the "
        f"heaviest {raw.max():.3g}): held at the cap, their subgroups stay under-represented. Choose a coarser axis, "
        "collect more of these faces, take reweighing-sqrt, or raise cap and expect a few faces to decide much"
    )


def weighable(frame: pd.DataFrame, task: str, by: str) -> np.ndarray:
    """Return which rows a method weighs (bool, n): the label is there and the subgroup is known."""
    groups = np.asarray(subgroups.assign(frame, by), dtype=object)
    return (groups != subgroups.UNKNOWN) & frame[task].notna().to_numpy()


def _weights(name: str, frame: pd.DataFrame, task: str, by: str, cap: float) -> np.ndarray:
    """Return the capped weights of the method `name` for every row of `frame`."""
    groups, labels, known = codes(frame, task, by)
    if name in ("reweighing", "reweighing-sqrt"):
        _refuse_degenerate(frame, task, by)
    return capped(raw_weights(name, groups, labels), known, cap)


def codes(frame: pd.DataFrame, task: str, by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return subgroup and label codes of the faces to be weighed, and which rows of `frame` those are."""
    subgroups.require(frame.columns, [by, task])
    known = weighable(frame, task, by)
    if not known.any():
        raise UsageError(f"mitigation by {by!r}: no training face has both a subgroup and a label of {task}")
    groups = np.unique(np.asarray(subgroups.assign(frame, by), dtype=object)[known].astype(str), return_inverse=True)[1]
    labels = np.unique(frame[task].astype(object).to_numpy()[known].astype(str), return_inverse=True)[1]
    return groups, labels, known


def _refuse_degenerate(frame: pd.DataFrame, task: str, by: str) -> None:
    reason = subgroups.degenerate(subgroups.assign(frame, by), frame[task], by, task)
    if reason:
        raise UsageError(
            f"reweighing is refused: {reason}, so that every weight would collapse to the class's own share and favour "
            f"the largest class. Choose an axis without {task}, or method = 'joint-balancing' or 'class-balancing'"
        )
