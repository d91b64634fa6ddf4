"""Attribution methods: which pixels moved a head's score from its value at the baseline.

A method is a plain function `(model, faces, baselines, targets, effort) -> {task: (B, C or 1, H, W)}` with one line in
ATTRIBUTIONS. The score of class c is its logit above the mean of the head's logits: softmax does not see a shift that
all logits share, so an attribution must not see it either.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from captum.attr import GradientShap, InputXGradient, IntegratedGradients, Saliency
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.attribution.effort import Effort, seeded
from fairaudit.attribution.hooked import deep_lift, grad_cam, guided_grad_cam
from fairaudit.attribution.perturbing import kernel_shap, lime, occlusion
from fairaudit.attribution.scores import class_scores, gradients_of_heads, score_of

BLUR = 0.1  # standard deviation of the blur as a share of the image's shorter side
NOISE = 0.1  # standard deviation of gradient SHAP's noise, in the network's own units (about a tenth of the data's)


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


def integrated_gradients(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Integrated gradients (Sundararajan, Taly & Yan, ICML 2017) by Captum: {task: (B, C, H, W)}.

    `model(x)` gives {task: logits (B, K)}; `targets` gives each head's class indices (B,); the path integral from
    `baselines` to `faces` takes `steps` Gauss–Legendre nodes, at most `rows` images a forward pass (at least B).
    The path images are the same for every head: they run forward once, then once backward a head.
    """
    tasks = list(targets)
    method = IntegratedGradients(model)
    method.gradient_func = partial(gradients_of_heads, tasks=tasks)
    found = method.attribute(
        # Captum returns one attribution for each input: the same faces stand once for each head.
        tuple(faces for _ in tasks),
        tuple(baselines for _ in tasks),
        additional_forward_args=tuple(targets[task] for task in tasks),
        n_steps=effort.steps,
        internal_batch_size=max(effort.rows, len(faces)),
    )
    return {task: attribution.detach() for task, attribution in zip(tasks, found, strict=True)}


def saliency(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """The gradient of the score (Simonyan, Vedaldi & Zisserman, 2013) by Captum, signed; needs no baseline."""
    method = Saliency(model)
    method.gradient_func = partial(gradients_of_heads, tasks=list(targets))
    found = method.attribute(
        tuple(faces.clone().requires_grad_() for _ in targets),
        abs=False,
        additional_forward_args=tuple(targets.values()),
    )
    return {task: attribution.detach() for task, attribution in zip(targets, found, strict=True)}


def input_x_gradient(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Gradient times distance from the baseline (Shrikumar et al., 2016) by Captum: a path of a single step.

    Captum multiplies by the input, whose zero is the mean colour of the network's normalization and nothing of the
    face; the distance from the baseline is the same with a zero that is chosen.
    """
    method = InputXGradient(model)

    def gradients(forward_fn: Any, inputs: tuple[Tensor, ...], *rest: Any) -> tuple[Tensor, ...]:
        # Captum hands over the distances, to be multiplied by; the gradient is taken at the faces themselves.
        return gradients_of_heads(forward_fn, (inputs[0] + baselines,), *rest, tasks=list(targets))

    method.gradient_func = gradients
    found = method.attribute(
        tuple((faces - baselines).requires_grad_() for _ in targets), additional_forward_args=tuple(targets.values())
    )
    return {task: attribution.detach() for task, attribution in zip(targets, found, strict=True)}


def gradient_shap(
    model: nn.Module, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Gradient SHAP (Lundberg & Lee, NeurIPS 2017) by Captum: gradients at random places of the path, with noise.

    `steps` samples a face, `rows` a pass; the same seed gives the same samples for every head.
    """
    found: dict[str, Tensor] = {}
    for task, classes in targets.items():
        each = []
        for i in range(len(faces)):
            method = GradientShap(score_of(model, task, classes[i : i + 1]))
            total, done = torch.zeros_like(faces[i : i + 1]), 0
            with seeded(effort.seed):
                while done < effort.steps:
                    count = min(effort.rows, effort.steps - done)
                    part = method.attribute(
                        faces[i : i + 1], baselines[i : i + 1], n_samples=count, stdevs=NOISE * effort.noise
                    )
                    total, done = total + count * part.detach(), done + count
            each.append(total / done)
        found[task] = torch.cat(each)
    return found


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


ROW_PIXELS = {"cpu": 13 * 112 * 112, "cuda": 512 * 112 * 112}


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a method is called, and what may be asked of it.

    baseline: whether "absent" is a picture that has to be chosen. adds_up: whether its attributions sum to the change
    of the score from the baseline. shared: whether several faces may be explained at once in threads that share the
    network (no hooks, no random numbers). factor: what turns them into the predicted change where a place takes the
    baseline's values: "attribution" (they are it), "gradient" (times the distance), "none" (no such reading).
    """

    explain: Callable[..., dict[str, Tensor]]
    baseline: bool = True
    adds_up: bool = False
    shared: bool = False
    signed: bool = True
    factor: str = "attribution"


ATTRIBUTIONS: dict[str, Method] = {
    "integrated-gradients": Method(explain=integrated_gradients, adds_up=True, shared=True),
    "gradient-shap": Method(explain=gradient_shap, adds_up=True),
    "saliency": Method(explain=saliency, baseline=False, shared=True, factor="gradient"),
    "input-x-gradient": Method(explain=input_x_gradient, shared=True),
    "deep-lift": Method(explain=deep_lift, adds_up=True),
    "grad-cam": Method(explain=grad_cam, baseline=False, signed=False),
    "guided-grad-cam": Method(explain=guided_grad_cam, baseline=False),
    "occlusion": Method(explain=occlusion, shared=True),
    "lime": Method(explain=lime),
    "kernel-shap": Method(explain=kernel_shap, adds_up=True),
}
