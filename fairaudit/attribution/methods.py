"""Attribution methods: which pixels moved a head's score from its value at the baseline.

A method is a plain function `(model, faces, baselines, targets, *, steps, rows) -> {task: (B, C, H, W)}` with one line
in ATTRIBUTIONS. The score of class c is its logit above the mean of the head's logits: softmax does not see a shift
that all logits share, so an attribution must not see it either.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from torch.nn import functional as F

BLUR = 0.1  # standard deviation of the blur as a share of the image's shorter side


def blurred(faces: Tensor, share: float = BLUR) -> Tensor:
    """Return the faces (B, C, H, W) under a Gaussian blur of standard deviation `share` × the shorter side.

    The blur keeps a face's skin tone and lighting and removes its features, so that "absent" means "without detail".
    A black baseline would give a dark pixel little attribution by construction: attribution is proportional to the
    pixel's distance from the baseline.
    """
    sigma = share * min(faces.shape[-2:])
    radius = min(math.ceil(3 * sigma), min(faces.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, device=faces.device, dtype=faces.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).repeat(faces.shape[1], 1, 1, 1)
    padded = F.pad(faces, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel, groups=faces.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=faces.shape[1])


def class_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """Return (B,): each row's logit of its class above the mean of the row's logits (B, K)."""
    return logits.gather(1, classes[:, None])[:, 0] - logits.mean(1)


def integrated_gradients(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], *, steps: int, rows: int
) -> dict[str, Tensor]:
    """Integrated gradients (Sundararajan, Taly & Yan, ICML 2017) by Captum: {task: (B, C, H, W)}.

    `model(x)` gives {task: logits (B, K)}; `targets` gives each head's class indices (B,); the path integral from
    `baselines` to `faces` takes `steps` Gauss–Legendre nodes, at most `rows` images a forward pass (at least B).
    The path images are the same for every head: they run forward once, then once backward a head.
    """
    tasks = list(targets)
    method = IntegratedGradients(model)
    method.gradient_func = partial(_gradients_of_heads, tasks=tasks)
    found = method.attribute(
        # Captum returns one attribution for each input: the same faces stand once for each head.
        tuple(faces for _ in tasks),
        tuple(baselines for _ in tasks),
        additional_forward_args=tuple(targets[task] for task in tasks),
        n_steps=steps,
        internal_batch_size=max(rows, len(faces)),
    )
    return {task: attribution.detach() for task, attribution in zip(tasks, found, strict=True)}


def completeness_error(
    model: nn.Module,
    faces: Tensor,
    baselines: Tensor,
    targets: Mapping[str, Tensor],
    attributions: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return {task: (B,)}: |sum of attributions − (score(face) − score(baseline))| relative to the score's change.

    Zero for an exact integral; where the score does not change at all, NaN.
    """
    with torch.no_grad():
        logits = model(torch.cat([faces, baselines]))
    errors = {}
    for task, classes in targets.items():
        scores = class_scores(logits[task], classes.repeat(2)).double()
        change = scores[: len(faces)] - scores[len(faces) :]
        total = attributions[task].double().sum((1, 2, 3))
        errors[task] = (total - change).abs() / torch.where(change == 0, torch.nan, change.abs())
    return errors


def rows_a_pass(steps: int, height: int, width: int, device: torch.device) -> int:
    """Return how many path images go through the network at once: bounded memory, chunks of even size.

    On a CPU about 13 images of 112 × 112 px: more are no faster there, and each core works on a face of its own.
    """
    pixels = ROW_PIXELS.get(device.type, ROW_PIXELS["cpu"])
    most = max(1, pixels // (height * width))
    return math.ceil(steps / math.ceil(steps / most))


def _gradients_of_heads(
    forward_fn: Callable[..., Mapping[str, Tensor]],
    inputs: tuple[Tensor, ...],
    target_ind: Any = None,
    additional_forward_args: tuple[Tensor, ...] = (),
    *,
    tasks: Sequence[str],
) -> tuple[Tensor, ...]:
    """Captum's gradient step for several heads: the gradient of each head's score with respect to the same images."""
    with torch.enable_grad():
        images = inputs[0]
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


ROW_PIXELS = {"cpu": 13 * 112 * 112, "cuda": 512 * 112 * 112}

ATTRIBUTIONS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "integrated-gradients": integrated_gradients,
}
