"""The losses of several heads with masked labels, weights and softened targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr
from torch import Tensor
from torch.nn import functional as F

from fairaudit.data.tables import FaceTable
from fairaudit.data.taxonomy import age_starts
from fairaudit.errors import UsageError
from fairaudit.models.heads import AGE, AGE_YEARS, PLAIN, has_years
from fairaudit.registry import lookup
from fairaudit.spec import HeadSpec, TrainingSpec

DECADE = 10.0  # years, the unit of the loss of ages: it is then of the size of a cross-entropy
HUBER = 0.5  # decades: a larger error counts in proportion, a smaller one by its square


@dataclass(frozen=True, kw_only=True)
class Target:
    """One output's labels: class codes (n,) with −1 for a masked label, weights (n,), softened labels (K, K), its share
    in the loss, and which of LOSSES it is.

    `own` holds what each face is taught, (n, K), where that is not the softened label of its class. Ages in years have
    the code 0 where they are known, and `own` (n, 1) in years.
    """

    codes: Tensor
    weights: Tensor
    soft: Tensor
    share: float = 1.0
    own: Tensor | None = None
    loss: str = "softmax"

    def to(self, device: torch.device) -> "Target":
        """Return the target on another device."""
        return Target(
            codes=self.codes.to(device),
            weights=self.weights.to(device),
            soft=self.soft.to(device),
            share=self.share,
            own=None if self.own is None else self.own.to(device),
            loss=self.loss,
        )

    def aims(self, rows: Tensor) -> Tensor:
        """Return what each face of `rows` is taught: a distribution over the classes, (N, K), or years, (N, 1)."""
        return self.soft[self.codes[rows].clamp(min=0)] if self.own is None else self.own[rows]


def label_codes(faces: FaceTable, task: str) -> np.ndarray:
    """Return the class codes of `task`, int64 (n,), −1 where the label is missing."""
    labels = pd.Categorical(faces.frame[task], categories=list(faces.tasks[task]))
    return np.asarray(labels.codes, dtype=np.int64)


def make_targets(
    faces: FaceTable,
    tasks: Sequence[str],
    spec: TrainingSpec,
    sample_weights: Mapping[str, np.ndarray],
    heads: Mapping[str, HeadSpec] | None = None,
) -> dict[str, Target]:
    """Return each output's target; class weights, where the spec asks for them, multiply the sample weights.

    Raises UsageError for a head that these faces cannot teach: an ordinal one whose classes have no order, years where
    no face has them.
    """
    made, heads = {}, heads or {}
    outputs = [*tasks, AGE_YEARS] if has_years(heads) else tasks
    for name in spec.task_weights:
        lookup(dict.fromkeys(outputs), name, "task of training.task_weights")
    for task in tasks:
        codes = label_codes(faces, task)
        classes = len(faces.tasks[task])
        weights = np.array(sample_weights.get(task, np.ones(len(codes))), dtype=np.float64)
        if spec.class_weights:
            counts = np.bincount(codes[codes >= 0], minlength=classes)
            balanced = counts.sum() / (max((counts > 0).sum(), 1) * np.maximum(counts, 1))
            weights = weights * np.where(codes >= 0, balanced[codes], 1.0)
        soft = soft_labels(classes, spec, ordered=task in faces.ordered)
        made[task] = Target(
            codes=torch.from_numpy(codes),
            weights=torch.from_numpy(weights).float(),
            soft=soft,
            share=spec.task_weights.get(task, 1.0),
            own=_aged(faces, codes, soft, spec.age_smoothing) if spec.age_smoothing and task == AGE else None,
            loss=_loss_kind(faces, task, heads.get(task, PLAIN)),
        )
    if has_years(heads):
        made[AGE_YEARS] = _years_target(faces, made[AGE], spec, heads[AGE].years)
    if spec.age_smoothing and AGE not in tasks:
        raise UsageError("training.age_smoothing softens the head 'age', which is not among the trained tasks")
    return made


def _loss_kind(faces: FaceTable, task: str, head: HeadSpec) -> str:
    if head.kind != "softmax" and task not in faces.ordered:
        raise UsageError(
            f"model.heads.{task}.kind = {head.kind!r} needs classes in an order, and those of {task!r} have none: "
            f"{', '.join(faces.tasks[task])}. Give kind = 'softmax'"
        )
    return head.kind


def _years_target(faces: FaceTable, age: Target, spec: TrainingSpec, loss: str) -> Target:
    """Return the target of ages in years: of every face that has them, whatever its bin."""
    years = known_years(faces)
    known = ~np.isnan(years)
    if not known.any():
        raise UsageError(
            "model.heads.age.years needs faces whose age in years is known (UTKFace, or a manifest with a column of "
            "years); no training face has one"
        )
    return Target(
        codes=torch.from_numpy(np.where(known, 0, -1)),
        weights=age.weights,
        soft=torch.ones(1, 1),
        share=spec.task_weights.get(AGE_YEARS, 1.0),
        own=torch.from_numpy(np.nan_to_num(years)).float()[:, None],
        loss=loss,
    )


def known_years(faces: FaceTable) -> np.ndarray:
    """Return each face's age in years, float64 (n,), NaN where it is unknown."""
    return faces.frame[AGE_YEARS].to_numpy(dtype=float) if AGE_YEARS in faces.frame else np.full(len(faces), np.nan)


def soft_labels(classes: int, spec: TrainingSpec, *, ordered: bool) -> Tensor:
    """Return the target distribution of each label, (K, K), rows summing to 1.

    With `ordinal_smoothing` s, ordered classes spread a label over its neighbours at distance d as exp(−d²/2s²);
    otherwise `label_smoothing` is shared out among all classes.
    """
    if ordered and spec.ordinal_smoothing:
        place = torch.arange(classes).float()
        return torch.softmax(-((place[:, None] - place) ** 2) / (2 * spec.ordinal_smoothing**2), 1)
    return torch.eye(classes) * (1 - spec.label_smoothing) + spec.label_smoothing / classes


def _aged(faces: FaceTable, codes: np.ndarray, soft: Tensor, spread: float) -> Tensor:
    """Return the distribution over age bins, (n, K), that each face is taught, softened by its age in years.

    A face whose years are unknown, or lie outside the bin it is labelled with, keeps the target of its label.
    Raises UsageError where the classes are no age bins, or no face has its age in years.
    """
    starts = age_starts(faces.tasks[AGE])
    if starts is None:
        raise UsageError(
            "training.age_smoothing needs a head 'age' whose classes are age bins in order, such as 0-2, 3-9, … 70+; "
            f"here they are {', '.join(faces.tasks[AGE])}"
        )
    years, fits = _known_years(faces, codes, starts)
    if not fits.any():
        raise UsageError(
            "training.age_smoothing needs faces whose age in years is known (UTKFace, or a manifest with a column of "
            "years) and lies in the bin they are labelled with; no training face has one. Use ordinal_smoothing"
        )
    own = soft[torch.from_numpy(codes).clamp(min=0)].clone()
    own[torch.from_numpy(fits)] = torch.from_numpy(years_over_bins(years[fits], starts, spread)).float()
    return own


def _known_years(faces: FaceTable, codes: np.ndarray, starts: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return each face's age in years, and whether it is known and lies in the bin that the face is labelled with."""
    years = known_years(faces)
    return years, (codes >= 0) & ~np.isnan(years) & (np.searchsorted(starts, years, side="right") - 1 == codes)


def softening_notes(faces: FaceTable, targets: Mapping[str, Target]) -> list[str]:
    """Return a sentence that says how many faces are taught by their years, where any are."""
    notes = []
    for task, target in targets.items():
        if target.own is not None and task == AGE:
            codes = target.codes.cpu().numpy()
            _, fits = _known_years(faces, codes, age_starts(faces.tasks[task]) or ())
            notes.append(
                f"{task}: {fits.sum():,} of {(codes >= 0).sum():,} labelled training faces are taught by their years, "
                "the others by their bin"
            )
    return notes


def years_over_bins(years: np.ndarray, starts: Sequence[float], spread: float) -> np.ndarray:
    """Return the mass, (n, K), that a normal of standard deviation `spread` around each age puts into each age bin.

    Bins begin at `starts` and the last is open; what falls below the first is shared out in proportion. A whole number
    means completed years: 29 stands for all of 29…30, so the normal is centred on the middle of that year.
    """
    centre = np.where(years == np.floor(years), years + 0.5, years)
    below = ndtr((np.array([*starts, np.inf]) - centre[:, None]) / spread)
    mass = np.diff(below, axis=1)
    return np.asarray(mass / mass.sum(1, keepdims=True))


def cross_entropy(values: Tensor, aims: Tensor) -> Tensor:
    """Return each face's cross-entropy (N,) of logits or log probabilities (N, K) against distributions (N, K)."""
    return -(aims * F.log_softmax(values, 1)).sum(1)


def coral(values: Tensor, aims: Tensor) -> Tensor:
    """Return each face's sum (N,) of K − 1 binary cross-entropies, "is it class k or a later one?", of log
    probabilities (N, K) against distributions (N, K): the loss of CORAL (Cao, Mirjalili & Raschka, PRL 2020).
    """
    later = torch.ones(values.shape[1], values.shape[1], device=values.device).triu()[1:]  # (K − 1, K): class ≥ k
    after = values[:, None].masked_fill(later == 0, -torch.inf).logsumexp(2)
    before = values[:, None].masked_fill(later == 1, -torch.inf).logsumexp(2)
    reached = aims @ later.T
    return -(reached * after + (1 - reached) * before).sum(1)


def l1(values: Tensor, aims: Tensor) -> Tensor:
    """Return each face's absolute error (N,) of ages (N, 1), in decades."""
    return (values - aims).abs()[:, 0] / DECADE


def huber(values: Tensor, aims: Tensor) -> Tensor:
    """Return each face's Huber loss (N,) of ages (N, 1): their error in decades, squared below half a decade."""
    return F.huber_loss(values / DECADE, aims / DECADE, reduction="none", delta=HUBER)[:, 0]


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": cross_entropy,
    "cumulative": cross_entropy,  # of log probabilities: the likelihood of the ordered logit model
    "coral": coral,
    "l1": l1,
    "huber": huber,
}


def loss_of(
    logits: Mapping[str, Tensor], targets: Mapping[str, Target], rows: Tensor, batch: Tensor | None = None
) -> Tensor:
    """Return the sum over tasks of the weighted mean loss of the faces `rows`; masked labels count nowhere.

    The mean divides by the number of labels, not by the sum of weights: a batch of light faces then counts lightly.
    Where `rows` are a share of a `batch`, by the number of the batch's labels: the shares' losses then add up.
    """
    total = torch.zeros((), device=rows.device)
    for task, values in logits.items():
        target = targets[task]
        codes, weights = target.codes[rows], target.weights[rows]
        known = codes >= 0
        each = LOSSES[target.loss](values.float(), target.aims(rows))
        count = known.sum() if batch is None else (target.codes[batch] >= 0).sum()
        total = total + target.share * (each * weights * known).sum() / count.clamp(min=1)
    return total
