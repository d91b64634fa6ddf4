"""Which epoch is kept: accuracy on the validation faces, overall or of the worst subgroup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fairaudit import subgroups
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models.heads import AGE_YEARS
from fairaudit.models.losses import known_years, label_codes
from fairaudit.spec import TrainingSpec

SMALLEST = 10  # labelled validation faces; the accuracy of fewer jumps too much to choose an epoch by


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one epoch reached on the validation faces: the score it is chosen by, accuracies (0…1), mean loss,
    and the mean absolute error of ages in years where they are predicted.
    """

    score: float
    accuracy: dict[str, float]
    loss: float
    mae: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores predictions of the validation faces; `members` holds, per task, each subgroup's rows, `years` the
    faces' ages, NaN where unknown.
    """

    codes: Mapping[str, np.ndarray]
    members: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    years: np.ndarray = field(default_factory=lambda: np.empty(0))

    def judge(self, probs: Mapping[str, Tensor]) -> Verdict:
        """Return the verdict on probabilities (n, K) of every task, masked labels left out.

        The score is the mean over tasks of the accuracy, or of the worst subgroup's accuracy.
        """
        accuracy, losses, scores = {}, [], []
        for task, codes in self.codes.items():
            known = codes >= 0
            if not known.any():
                continue
            values = probs[task].numpy()
            right = values.argmax(1) == codes
            accuracy[task] = float(right[known].mean())
            losses.append(float(-np.log(values[known, codes[known]].clip(1e-12)).mean()))
            groups = self.members.get(task)
            scores.append(min(float(right[rows].mean()) for rows in groups) if groups else accuracy[task])
        return Verdict(
            score=float(np.mean(scores)), accuracy=accuracy, loss=float(np.sum(losses)), mae=self._error(probs)
        )

    def _error(self, probs: Mapping[str, Tensor]) -> float | None:
        """Return the mean absolute error in years; None where none are predicted or no validation face has them."""
        known = ~np.isnan(self.years)
        if AGE_YEARS not in probs or not known.any():
            return None
        return float(np.abs(probs[AGE_YEARS][:, 0].numpy() - self.years)[known].mean())


def make_judge(faces: FaceTable, tasks: Sequence[str], spec: TrainingSpec) -> tuple[Judge, list[str]]:
    """Return the judge for these validation faces, and notes on subgroups too small to choose by.

    Raises UsageError where the worst subgroup is asked for without an axis or on one that the data lack,
    DataError where no validation face has a label or no subgroup is large enough.
    """
    codes = {task: label_codes(faces, task) for task in tasks}
    if not any((values >= 0).any() for values in codes.values()):
        raise DataError("no validation face has a usable label: give more faces, or a larger split.val")
    if spec.select == "overall":
        if spec.select_by is not None:
            raise UsageError("training.select_by is used with training.select = 'worst-subgroup' only; set that, too")
        return Judge(codes=codes, years=known_years(faces)), []
    if spec.select_by is None:
        raise UsageError("training.select = 'worst-subgroup' needs training.select_by, an axis such as 'race:gender'")
    groups = subgroups.assign(faces.frame, spec.select_by)
    members, notes = {}, []
    for task, values in codes.items():
        rows = {g: np.flatnonzero((groups == g) & (values >= 0)) for g in groups.categories if g != subgroups.UNKNOWN}
        small = [f"{group} ({len(found)})" for group, found in rows.items() if len(found) < SMALLEST]
        members[task] = tuple(found for found in rows.values() if len(found) >= SMALLEST)
        if small:
            notes.append(f"{task}: under {SMALLEST} validation faces, not used to choose the epoch: {', '.join(small)}")
        if not members[task]:
            raise DataError(
                f"no subgroup of {spec.select_by!r} has {SMALLEST} validation faces labelled for {task!r}; choose a "
                "coarser training.select_by or training.select = 'overall'"
            )
    return Judge(codes=codes, members=members, years=known_years(faces)), notes


def to_numpy_ready(probs: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Join batches of probabilities on the CPU."""
    return {task: torch.cat([part.float().cpu() for part in parts]) for task, parts in probs.items()}
