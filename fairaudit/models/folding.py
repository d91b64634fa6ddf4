"""Two rewrites of a convolutional network that change its speed and not its results."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


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
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        before = (name, child) if isinstance(child, nn.Conv2d) else None
        if before is None:
            fold(child)


def folds_exactly(blocks: nn.Module, image_size: int) -> bool:
    """Return whether folding leaves the output of `blocks` unchanged, by trying it on two images of noise.

    A network whose modules are not called in the order in which they are declared would not; it is then left alone.
    """
    plain = copy.deepcopy(blocks).float().cpu().eval()
    folded = copy.deepcopy(plain)
    fold(folded)
    noise = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, got = plain(noise), folded(noise)
    scale = wanted.abs().max().clamp(min=1e-6)
    return bool((wanted - got).abs().max() / scale < 1e-3)
