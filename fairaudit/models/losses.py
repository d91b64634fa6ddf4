"""The loss of several heads with masked labels, weights and softened targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from fairaudit.data.tables import FaceTable
from fairaudit.spec import TrainingSpec


@dataclass(frozen=True, kw_only=True)
class Target:
    """One task's labels: class codes (n,) with −1 for a masked label, weights (n,), softened labels (K, K), and the
    task's share in the loss."""

    codes: Tensor
    weights: Tensor
    soft: Tensor
    share: float = 1.0

    def to(self, device: torch.device) -> "Target":
        """Return the target on another device."""
        return Target(
            codes=self.codes.to(device), weights=self.weights.to(device), soft=self.soft.to(device), share=self.share
        )


def label_codes(faces: FaceTable, task: str) -> np.ndarray:
    """Return the class codes of `task`, int64 (n,), −1 where the label is missing."""
    labels = pd.Categorical(faces.frame[task], categories=list(faces.tasks[task]))
    return np.asarray(labels.codes, dtype=np.int64)


def make_targets(
    faces: FaceTable, tasks: Sequence[str], spec: TrainingSpec, sample_weights: Mapping[str, np.ndarray]
) -> dict[str, Target]:
    """Return each task's target; class weights, where the spec asks for them, multiply the sample weights."""
    made = {}
    for task in tasks:
        codes = label_codes(faces, task)
        classes = len(faces.tasks[task])
        weights = np.array(sample_weights.get(task, np.ones(len(codes))), dtype=np.float64)
        if spec.class_weights:
            counts = np.bincount(codes[codes >= 0], minlength=classes)
            balanced = counts.sum() / (max((counts > 0).sum(), 1) * np.maximum(counts, 1))
            weights = weights * np.where(codes >= 0, balanced[codes], 1.0)
        made[task] = Target(
            codes=torch.from_numpy(codes),
            weights=torch.from_numpy(weights).float(),
            soft=soft_labels(classes, spec, ordered=task in faces.ordered),
            share=spec.task_weights.get(task, 1.0),
        )
    return made


def soft_labels(classes: int, spec: TrainingSpec, *, ordered: bool) -> Tensor:
    """Return the target distribution of each label, (K, K), rows summing to 1.

    With `ordinal_smoothing` s, ordered classes spread a label over its neighbours at distance d as exp(−d²/2s²);
    otherwise `label_smoothing` is shared out among all classes.
    """
    if ordered and spec.ordinal_smoothing:
        place = torch.arange(classes).float()
        return torch.softmax(-((place[:, None] - place) ** 2) / (2 * spec.ordinal_smoothing**2), 1)
    return torch.eye(classes) * (1 - spec.label_smoothing) + spec.label_smoothing / classes


def loss_of(logits: Mapping[str, Tensor], targets: Mapping[str, Target], rows: Tensor) -> Tensor:
    """Return the sum over tasks of the weighted mean cross-entropy of the faces `rows`; masked labels count nowhere.

    The mean divides by the number of labels, not by the sum of weights: a batch of light faces then counts lightly.
    """
    total = torch.zeros((), device=rows.device)
    for task, values in logits.items():
        target = targets[task]
        codes, weights = target.codes[rows], target.weights[rows]
        known = codes >= 0
        each = -(target.soft[codes.clamp(min=0)] * F.log_softmax(values.float(), 1)).sum(1)
        total = total + target.share * (each * weights * known).sum() / known.sum().clamp(min=1)
    return total
