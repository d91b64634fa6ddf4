"""What is explained: a class's logit above the mean of its head's logits, and its gradients for several heads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def class_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """Return (B,): each row's logit of its class above the mean of the row's logits (B, K)."""
    return logits.gather(1, classes[:, None])[:, 0] - logits.mean(1)


def score_of(model: Callable[[Tensor], Mapping[str, Tensor]], task: str, classes: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from images (k·B, C, H, W) to one head's scores (k·B,); `classes` (B,) are repeated."""

    def score(images: Tensor) -> Tensor:
        return class_scores(model(images)[task], classes.repeat(len(images) // len(classes)))

    return score


class Score(nn.Module):
    """One head's score as a module, for methods that hang hooks on the layers of `network`."""

    def __init__(self, model: Callable[[Tensor], Mapping[str, Tensor]], network: nn.Module, task: str, classes: Tensor):
        super().__init__()
        self.network = network
        self._score = score_of(model, task, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores (k·B,) of images (k·B, C, H, W)."""
        return self._score(images)


def gradients_of_heads(
    forward_fn: Callable[..., Mapping[str, Tensor]],
    inputs: tuple[Tensor, ...],
    target_ind: Any = None,
    additional_forward_args: tuple[Tensor, ...] = (),
    *,
    tasks: Sequence[str],
) -> tuple[Tensor, ...]:
    """Captum's gradient step for several heads: the gradient of each head's score with respect to the same images."""
    with torch.enable_grad():
        images = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()
        logits = forward_fn(images.contiguous(memory_format=torch.channels_last))
        scores = [
            class_scores(logits[task], classes).sum()
            for task, classes in zip(tasks, additional_forward_args, strict=True)
        ]
        last = len(scores) - 1
        return tuple(
            torch.autograd.grad(score, images, retain_graph=i < last, materialize_grads=True)[0]
            for i, score in enumerate(scores)
        )
