"""Ways to train a fairer model: a method is a function of the training faces that returns a weight for each."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.errors import UsageError
from fairaudit.mitigation.reweighing import (
    beyond_cap,
    class_balancing,
    codes,
    joint_balancing,
    raw_weights,
    reweigh,
    reweigh_sqrt,
    weighable,
)
from fairaudit.registry import lookup
from fairaudit.spec import MitigationSpec
from fairaudit.wording import plural

Weigh = Callable[..., np.ndarray]


def mitigation_weights(
    frame: pd.DataFrame, mitigation: MitigationSpec, tasks: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return a weight a training face for every head that is mitigated, and sentences that say what was done.

    `frame` holds the training faces; `tasks` are the model's heads. Without `mitigation.tasks` every head is weighed
    whose label the axis does not determine, and a sentence names those that are left as they are.
    Raises UsageError for an unknown method, axis or head, for a head that is named but cannot be weighed on this axis,
    and where no head is left.
    """
    method = lookup(MITIGATIONS, mitigation.method, "mitigation")
    subgroups.require(frame.columns, [mitigation.by], "the training set")
    heads = tuple(tasks)
    named = mitigation.tasks is not None
    for task in mitigation.tasks or ():
        lookup(dict.fromkeys(heads), task, "head in mitigations.tasks")
    weights: dict[str, np.ndarray] = {}
    sentences: list[str] = []
    for task in mitigation.tasks if mitigation.tasks is not None else heads:
        try:
            weights[task] = method(frame, task, mitigation.by, cap=mitigation.cap)
        except UsageError as error:
            if named:
                raise
            sentences.append(f"{task}: not mitigated; {error}.")
            continue
        sentences.extend(_describe(frame, task, mitigation, weights[task]))
    if not weights:
        raise UsageError(
            f"mitigation {mitigation.method!r} by {mitigation.by!r} leaves no head to mitigate: " + " ".join(sentences)
        )
    return weights, sentences


def _describe(frame: pd.DataFrame, task: str, mitigation: MitigationSpec, weights: np.ndarray) -> list[str]:
    """Return sentences on one head's weights: their range, the cap, the effective sample size, empty cells."""
    known = weighable(frame, task, mitigation.by)
    used = weights[known]
    at_cap = int((used >= mitigation.cap * (1 - 1e-12)).sum())
    effective = float(used.sum() ** 2 / np.square(used).sum())
    sentences = [
        f"{task}: {mitigation.method} by {mitigation.by} weighs {plural(len(used), 'training face')} from "
        f"{used.min():.3g} to "
        f"{used.max():.3g}; {at_cap} reach the cap of {mitigation.cap:g}; the effective sample size is {effective:.0f}."
    ]
    groups, labels, _ = codes(frame, task, mitigation.by)
    far = beyond_cap(raw_weights(mitigation.method, groups, labels), mitigation.cap)
    if far:
        sentences.append(f"{task}: {far}.")
    unlabelled = int(frame[task].isna().sum())
    unknown = len(frame) - len(used) - unlabelled
    if unlabelled or unknown:
        sentences.append(
            f"{task}: {plural(unlabelled, 'training face')} without a label and {unknown} of unknown subgroup keep "
            "weight 1."
        )
    empty = _empty_cells(frame[known], task, mitigation.by)
    if empty:
        sentences.append(f"{task}: no training face, so nothing to weigh up, in {'; '.join(empty)}.")
    return sentences


def _empty_cells(frame: pd.DataFrame, task: str, by: str) -> list[str]:
    """Return the subgroup × label cells without a training face, in words; none where the axis holds the task."""
    if task in subgroups.parse(by):
        return []
    labels = pd.Series(frame[task].astype(object).to_numpy())
    counts = pd.crosstab(pd.Series(np.asarray(subgroups.assign(frame, by), dtype=object)), labels)
    return [
        f"{group} labelled {label}" for group in counts.index for label in counts.columns if not counts[label][group]
    ]


MITIGATIONS: dict[str, Weigh] = {
    "reweighing": reweigh,
    "reweighing-sqrt": reweigh_sqrt,
    "joint-balancing": joint_balancing,
    "class-balancing": class_balancing,
}
