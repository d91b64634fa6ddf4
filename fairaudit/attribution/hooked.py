"""Methods that hang hooks on a network's layers: DeepLift, Grad-CAM, guided Grad-CAM. One face at a time, one thread.

They work on copies whose activations are modules of a kind that Captum's hooks know, none of them in place.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from captum.attr import DeepLift, GuidedBackprop, LayerAttribution, LayerGradCam
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.attribution.effort import Effort
from fairaudit.attribution.networks import last_maps, module_of, with_module
from fairaudit.attribution.scores import Score
from fairaudit.errors import UsageError
from fairaudit.models.realign import Realign

# DeepLift's rescale rule holds for any function of single numbers; Captum applies it to fewer than networks have.
for _kind in (nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU):
    SUPPORTED_NON_LINEAR.setdefault(_kind, SUPPORTED_NON_LINEAR[nn.ReLU])


class CappedReLU(nn.ReLU):
    """ReLU6 as a kind of ReLU, so that guided backpropagation, which looks for ReLUs, finds it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x within 0…6."""
        return F.relu6(x)


def deep_lift(
    model: Any, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """DeepLift, rescale rule (Shrikumar, Greenside & Kundaje, ICML 2017) by Captum: {task: (B, C, H, W)}.

    Activations that are functions and no modules, and products of two activations, are followed by their gradient
    instead; the completeness error says how much that costs. Raises UsageError where a network calls one activation
    module several times, which the method cannot follow.
    """
    ready = _hookable(model, nn.ReLU6)
    try:
        with _quiet():
            return {
                task: DeepLift(Score(ready, module_of(ready), task, classes))
                .attribute(_tracked(faces), baselines)
                .detach()
                for task, classes in targets.items()
            }
    except (AssertionError, RuntimeError) as error:
        if "more than once" not in str(error):
            raise
        raise UsageError(
            "deep-lift cannot explain this network: it calls the same activation module several times; choose another "
            "method, such as integrated-gradients"
        ) from None


def grad_cam(
    model: Any, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Grad-CAM (Selvaraju et al., ICCV 2017) by Captum: {task: (B, 1, H, W)}, never negative, as coarse as the last
    maps; needs no baseline. Raises UsageError for a network without maps."""
    ready = _hookable(model, nn.ReLU6)
    found = {}
    for task, classes in targets.items():
        method = LayerGradCam(Score(ready, module_of(ready), task, classes), last_maps(ready))
        coarse = method.attribute(_tracked(faces), relu_attributions=True).detach()
        found[task] = _in_place(ready, coarse, faces)
    return found


def _in_place(model: Any, coarse: Tensor, faces: Tensor) -> Tensor:
    """Return the last maps as large as the pictures, each value at the place in the picture that it speaks of."""
    fine = LayerAttribution.interpolate(coarse, tuple(faces.shape[-2:]), "bilinear")
    moved = next((part for part in module_of(model).modules() if isinstance(part, Realign)), None)
    return fine if moved is None else moved.back(fine)


def guided_grad_cam(
    model: Any, faces: Tensor, baselines: Tensor, targets: Mapping[str, Tensor], effort: Effort
) -> dict[str, Tensor]:
    """Guided Grad-CAM (Selvaraju et al., ICCV 2017) by Captum: {task: (B, C, H, W)}; needs no baseline.

    Known to look the same for a randomized model (Adebayo et al., NeurIPS 2018): the sanity checks say so. Raises
    UsageError for a network without maps or without a single ReLU to guide by.
    """
    ready = _hookable(model, CappedReLU)
    if not any(isinstance(part, nn.ReLU) for part in module_of(ready).modules()):
        raise UsageError("guided-grad-cam guides gradients by ReLU modules, and this network has none; choose grad-cam")
    found = {}
    with _quiet():
        for task, classes in targets.items():
            score = Score(ready, module_of(ready), task, classes)
            coarse = LayerGradCam(score, last_maps(ready)).attribute(_tracked(faces), relu_attributions=True).detach()
            guided = GuidedBackprop(score).attribute(_tracked(faces)).detach()
            found[task] = guided * _in_place(ready, coarse, faces)
    return found


def _hookable(model: Any, capped: Callable[[], nn.Module]) -> Any:
    """Return the model around a copy in which no activation works in place and every ReLU6 is `capped`."""
    network = copy.deepcopy(module_of(model))
    if isinstance(network, torch.jit.ScriptModule):
        raise UsageError("a TorchScript program takes no hooks; choose another method, such as integrated-gradients")
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.ReLU6:
                setattr(parent, name, capped())
    for part in network.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010 (a plain attribute, which mypy takes for a tensor)
    return with_module(model, network)


def _tracked(faces: Tensor) -> Tensor:
    """Return the faces with a gradient: frozen parameters alone would leave nothing to hang a hook on."""
    return faces.detach().clone().requires_grad_()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting (forward|backward)")
        yield
