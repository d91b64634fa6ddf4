"""Two rewrites of a convolutional network that change its speed and not its results."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

M = TypeVar("M", bound=nn.Module)
# where torch keeps the hooks and the names of a module's temporary buffers
_CONTAINERS = tuple(name for name, value in nn.Module().__dict__.items() if isinstance(value, dict | set))


class StridedDepthwise(nn.Conv2d):
    """A strided depthwise convolution whose gradient is fast in bfloat16 on a CPU.

    There oneDNN has only a reference kernel for its backward pass (three quarters of a training step of a mobile net).
    The same values come from the convolution of stride 1, of which every second row and column is kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        slow = x.device.type == "cpu" and torch.is_grad_enabled()
        if not slow or not (torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16):
            return super().forward(x)
        full = F.conv2d(x, self.weight, self.bias, 1, self.padding, self.dilation, self.groups)
        return full[:, :, :: self.stride[0], :: self.stride[1]].contiguous(memory_format=torch.channels_last)


def speed_up_depthwise(module: nn.Module) -> None:
    """Replace every strided depthwise convolution below `module` by `StridedDepthwise`; names and weights stay."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Conv2d and child.groups == child.in_channels > 1 and max(child.stride) > 1:
            if child.padding_mode == "zeros" and not isinstance(child.padding, str):
                setattr(module, name, _strided(child))
        else:
            speed_up_depthwise(child)


def _strided(conv: nn.Conv2d) -> StridedDepthwise:
    made = StridedDepthwise(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        bias=conv.bias is not None,
    )
    made.weight, made.bias = conv.weight, conv.bias
    return made.train(conv.training)


def fold(module: nn.Module) -> None:
    """Fold each batch norm that follows a convolution into that convolution, in place; `module` must be in eval mode.

    The norm's place is taken by an identity, so every other parameter keeps its name.
    """
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before and before[1].out_channels == child.num_features:
            setattr(module, before[0], _fused(before[1], child))
            setattr(module, name, nn.Identity())
        before = (name, child) if isinstance(child, nn.Conv2d) else None
        if before is None:
            fold(child)


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return the convolution that does both: torch's `fuse_conv_bn_eval`, without its deep copy."""
    made = conv.__class__.__new__(conv.__class__)
    made.__dict__ = {**conv.__dict__, "_parameters": {}}
    made.weight, made.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias  # type: ignore[arg-type]
    )  # fmt: skip
    return made


def twin(module: M, own: dict[int, nn.Module] | None = None) -> M:
    """Return a network for prediction that shares the weights of `module`, in eval mode and without gradients.

    Its modules and their hooks are its own: moving, converting, folding it or adding a hook leaves `module` alone. A
    deep copy takes thirty times as long (0.1 s of a mobile net), most of it for attributes. `own` names (by id) modules
    that take another's place. Any other attribute is the same object in both: a list of modules, or a method bound to
    a module (`self.run = self.slow`, hooks that are methods), still means those of `module`, with its mode and device.
    """
    seen: dict[int, Any] = dict(own or {})

    def tensor(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        if id(value) not in seen:  # tied weights stay tied
            same = value.detach()
            seen[id(value)] = nn.Parameter(same, requires_grad=False) if isinstance(value, nn.Parameter) else same
        found: Tensor = seen[id(value)]
        return found

    def each(part: Any) -> Any:
        if id(part) not in seen:
            made = part.__class__.__new__(part.__class__)
            seen[id(part)] = made
            made.__dict__ = {
                **part.__dict__,
                **{name: part.__dict__[name].copy() for name in _CONTAINERS if name in part.__dict__},
                "training": False,
                "_parameters": {name: tensor(value) for name, value in part._parameters.items()},
                "_buffers": {name: tensor(value) for name, value in part._buffers.items()},
                "_modules": {name: None if child is None else each(child) for name, child in part._modules.items()},
            }
        return seen[id(part)]

    made: M = each(module)
    return made


def folded(blocks: nn.Module, image_size: int) -> nn.Module | None:
    """Return a `twin` of the blocks in float32 on the CPU with batch norms folded; None where that would change the
    output, tried on two images of noise.

    A network whose modules are not called in the order in which they are declared would change; it is left alone.
    """
    plain = twin(blocks).to(device="cpu", dtype=torch.float32)
    made = twin(plain)
    fold(made)
    noise = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted, got = plain(noise), made(noise)
        scale = wanted.abs().max().clamp(min=1e-6)
        return made if bool((wanted - got).abs().max() / scale < 1e-3) else None


def folds_exactly(blocks: nn.Module, image_size: int) -> bool:
    """Return whether folding leaves the output of `blocks` unchanged."""
    return folded(blocks, image_size) is not None
