"""MobileFaceNet, a network of 1 M parameters made for face recognition (Chen, Liu, Gao & Han, CCBR 2018)."""

from torch import Tensor, nn

# expansion, output channels, number of blocks, stride of the first one
LAYOUT = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Sequential:
    """Return convolution, batch norm and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter by depthwise 3×3, narrow by 1×1 without activation; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.skip = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv_bn(inputs, wide, 1),
            conv_bn(wide, wide, 3, stride, 1, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class DepthwiseSeparable(nn.Module):
    """Depthwise 3×3 and pointwise 1×1, each with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()  # modules, so that attribution can hang hooks on them

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.depthwise(x)))
        return self.relu2(self.bn2(self.pointwise(x)))


class GlobalDepthwise(nn.Module):
    """One learned weight for each place and channel of the last 7 × 7 maps, instead of their mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))


class MobileFaceNet(nn.Module):
    """The whole recognition network, whose state dict has 307 keys; 112 px in, 128 values out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv_bn(3, 64, 3, 2, 1)
        self.dw_conv = DepthwiseSeparable(64)
        blocks: list[nn.Module] = []
        channels = 64
        for expansion, outputs, count, stride in LAYOUT:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion))
                channels = outputs
        self.features = nn.Sequential(*blocks)
        self.conv2 = conv_bn(channels, 512, 1)
        self.gdconv = GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)

    def blocks(self) -> list[nn.Module]:
        """Return what leads to the 512 maps of 7 × 7, in order: 18 blocks."""
        return [self.conv1, self.dw_conv, *self.features, self.conv2]
