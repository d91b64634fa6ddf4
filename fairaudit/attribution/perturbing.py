"""Methods that hide parts of a face and look what happens to the scores: occlusion, LIME, kernel SHAP."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, Lime, Occlusion
from torch import Tensor, nn

from fairaudit.attribution.effort import Effort, seeded
from fairaudit.attribution.scores import class_scores

RIDGE = 0.01  # LIME's penalty: enough to settle pieces that were always hidden together


def occlusion(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Occlusion (Zeiler & Fergus, ECCV 2014) by Captum: {task: (B, C, H, W)}.

    A square of side `window` takes the baseline's values, in steps of half its side; a pixel gets the mean loss of
    score over the squares that hide it, an equal part for each pixel of a square. All heads share the forward passes.
    """
    side = max(1, round(effort.window * min(faces.shape[-2:])))
    stride = max(1, side // 2)
    channels = faces.shape[1]
    found: dict[str, list[Tensor]] = {task: [] for task in targets}
    for i in range(len(faces)):
        classes = {task: index[i : i + 1] for task, index in targets.items()}
        parts = Occlusion(_all_scores(model, classes)).attribute(
            faces[i : i + 1],
            sliding_window_shapes=(channels, side, side),
            strides=(channels, stride, stride),
            baselines=baselines[i : i + 1],
            perturbations_per_eval=effort.rows,
        )
        for task, part in zip(targets, parts, strict=True):
            found[task].append(part.detach()[None] / (channels * side * side))
    return {task: torch.cat(each) for task, each in found.items()}


def lime(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """LIME (Ribeiro, Singh & Guestrin, KDD 2016) by Captum, a ridge regression on `segments`: {task: (B, C, H, W)}.

    Half of the pieces take the baseline's values at a time, `samples` times. A piece's weight is spread evenly over
    its pixels, so that a region's sum is that of its pieces.
    """
    return _over_segments(
        lambda score: Lime(score, SkLearnRidge(alpha=RIDGE)), model, faces, baselines, targets, effort
    )


def kernel_shap(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Kernel SHAP (Lundberg & Lee, NeurIPS 2017) by Captum on `segments`: {task: (B, C, H, W)}, adding up as LIME's
    do, and in sum to the change of the score from the baseline."""
    return _over_segments(KernelShap, model, faces, baselines, targets, effort)


def _over_segments(
    make: Callable[[Any], Any],
    model: nn.Module,
    faces: Tensor,
    baselines: Tensor,
    targets: Mapping[str, Tensor],
    effort: Effort,
) -> dict[str, Tensor]:
    """Explain every head from the same masked faces: the first head runs the network, the others read its answers."""
    if effort.segments is None:
        raise ValueError("LIME and kernel SHAP need segments")
    pixels = torch.bincount(effort.segments.flatten())[effort.segments].clamp(min=1) * faces.shape[1]
    found: dict[str, list[Tensor]] = {task: [] for task in targets}
    for i in range(len(faces)):
        answers = _Answers(model)
        for task, index in targets.items():
            answers.begin(task, index[i : i + 1])
            with seeded(effort.seed):
                weights = make(answers).attribute(
                    faces[i : i + 1],
                    baselines=baselines[i : i + 1],
                    feature_mask=effort.segments.expand_as(faces[i : i + 1]),
                    n_samples=effort.samples,
                    perturbations_per_eval=effort.rows,
                )
            found[task].append(weights.detach() / pixels)
    return {task: torch.cat(each) for task, each in found.items()}


class _Answers:
    """A head's scores of the images that come in; what comes again in the same order is read from memory."""

    def __init__(self, model: Callable[[Tensor], Mapping[str, Tensor]]) -> None:
        self.model = model
        self.kept: list[Mapping[str, Tensor]] = []
        self.at = 0

    def begin(self, task: str, classes: Tensor) -> None:
        """Turn to a head, from the first image on."""
        self.task, self.classes, self.at = task, classes, 0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the scores (n,) of images (n, C, H, W)."""
        if self.at == len(self.kept):
            with torch.no_grad():
                self.kept.append(self.model(images))
        logits = self.kept[self.at][self.task]
        self.at += 1
        return class_scores(logits, self.classes.expand(len(logits)))


def _all_scores(
    model: Callable[[Tensor], Mapping[str, Tensor]], targets: Mapping[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the function from images (n, C, H, W) of one face to every head's scores (n, heads)."""

    def scores(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits = model(images)
        return torch.stack([class_scores(logits[t], c.expand(len(images))) for t, c in targets.items()], dim=1)

    return scores
