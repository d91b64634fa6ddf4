"""Backbones: networks from images to feature maps, as a list of blocks that can be cut anywhere."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import densenet, get_model, get_model_weights, list_models, maxvit, regnet, resnet, shufflenetv2

from fairaudit.data.frames import ALIGNMENTS
from fairaudit.errors import DataError, UsageError
from fairaudit.files import file_hash
from fairaudit.models.matching import Match, match, without_prefix
from fairaudit.models.mobilefacenet import MobileFaceNet
from fairaudit.models.realign import Realign
from fairaudit.models.weights import find_weights, imagenet_weights, read_weights
from fairaudit.registry import suggestion
from fairaudit.spec import ModelSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEAST_MATCHED = 0.5  # of a backbone's parameters; below, a file is taken to be of another network


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network without its last layer.

    `blocks` run one after the other: RGB images (N, 3, S, S) → maps (N, C, H, W), or embeddings (N, C) where the
    network cannot be cut. `trainable` is how many of the last blocks fine-tuning trains unless the spec says otherwise.
    `pool`, where the spec asks for it, is the network's learned pooling of the maps, used beside their average;
    `channels` is the width of what comes out. `weights` names what was loaded ("none": random), `weights_hash` is the
    file's SHA-256. `color` is "rgb", "bgr" or "grey" (luminance in all three channels); `mean` and `std` are in its
    order. `match` says which tensors of a weights file fitted, `random` which blocks hold others. Where the spec
    names how faces lie, the first block is a `Realign`.
    """

    blocks: nn.Sequential
    channels: int
    image_size: int
    trainable: int
    pool: nn.Module | None = None
    weights: str = "none"
    weights_hash: str = ""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: str = "rgb"
    match: Match | None = None
    random: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Net:
    """What a builder returns: the whole network, how it is cut, and what it is used to."""

    whole: nn.Module
    cut: Callable[[nn.Module], list[nn.Module]]
    image_size: int
    trainable: int
    usual_weights: str
    pool: nn.Module | None = None
    head: str = ""  # prefixes of the last layer, whose weights are not needed
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: str = "rgb"
    alignment: str = ""  # of ALIGNMENTS: how the faces lay that it was trained on, where that is known


def build_backbone(spec: ModelSpec, folders: Sequence[Path] = (), *, pretrained: bool = True) -> Backbone:
    """Build the backbone that the spec names, with its weights unless `pretrained` is False.

    Raises UsageError for an unknown name (the nearest one suggested), weights that cannot be had, or an image size that
    the network cannot take; DataError for a weights file that does not fit.
    """
    builder = BACKBONES.get(spec.backbone) or _torchvision
    partial = pretrained and spec.weights_match == "partial"
    with torch.random.fork_rng(devices=[], enabled=partial):
        if partial:
            torch.manual_seed(0)  # what the file lacks stays random, and must be the same in every run
        net = builder(spec)
    wanted = (spec.weights or net.usual_weights) if pretrained else "none"
    path = _weights_path(spec.backbone, wanted, folders, spec.backbone not in BACKBONES)
    found = _load(net, path, spec) if path is not None else None
    size = spec.image_size or net.image_size
    if spec.pooling == "average+learned" and net.pool is None:
        raise UsageError(f"backbone {spec.backbone!r} has no learned pooling; give model.pooling = 'average'")
    if spec.align_from and not net.alignment:
        raise UsageError(
            f"model.align_from: how the faces lay that backbone {spec.backbone!r} was trained on is not known "
            "(it is for mobilefacenet); leave the key out"
        )
    if spec.widths and spec.backbone != "simple_cnn":
        raise UsageError(f"model.widths belongs to the backbone 'simple_cnn'; {spec.backbone!r} has its own")
    color = spec.color or net.color
    turned = -1 if {color, net.color} == {"rgb", "bgr"} else 1  # mean and std follow the order of the channels
    first = [Realign(size, ALIGNMENTS[spec.align_from], ALIGNMENTS[net.alignment])] if spec.align_from else []
    blocks = nn.Sequential(*first, *net.cut(net.whole)).eval()
    pool = net.pool.eval() if net.pool is not None and spec.pooling == "average+learned" else None
    return Backbone(
        blocks=blocks,
        channels=_channels(blocks, pool, size, spec.backbone),
        image_size=size,
        trainable=net.trainable,
        pool=pool,
        weights=path.name if path else "none",
        weights_hash=file_hash(path) if path else "",
        mean=net.mean[::turned],
        std=net.std[::turned],
        color=color,
        match=found,
        random=_random_blocks(net.whole, blocks, found) if found else (),
    )


def _random_blocks(whole: nn.Module, blocks: nn.Sequential, found: Match) -> tuple[int, ...]:
    """Return the blocks with a parameter that the weights file did not give."""
    matched = set(found.matched)
    lacking = {id(value) for name, value in whole.named_parameters() if name not in matched}
    return tuple(i for i, block in enumerate(blocks) if any(id(value) in lacking for value in block.parameters()))


def check_backbone(spec: ModelSpec, folders: Sequence[Path] = ()) -> None:
    """Raise UsageError now where `build_backbone` would later: an unknown name, or weights that cannot be had."""
    builder = BACKBONES.get(spec.backbone)
    net = builder(spec) if builder else _torchvision(spec)
    _weights_path(spec.backbone, spec.weights or net.usual_weights, folders, builder is None)


def _weights_path(backbone: str, wanted: str, folders: Sequence[Path], is_torchvision: bool) -> Path | None:
    if wanted == "none":
        return None
    if wanted != "imagenet":
        return find_weights(wanted, folders)
    if not is_torchvision:
        raise UsageError(
            f"backbone {backbone!r} has no ImageNet weights: give weights = 'none' or the name of a weights file"
        )
    return imagenet_weights(backbone)


def _load(net: _Net, path: Path, spec: ModelSpec) -> Match:
    """Load a state dict, apart from the last layer, which is not used: all of it, or what fits if the spec says so."""
    own, last = net.whole.state_dict(), tuple(net.head.split())
    state, prefix = without_prefix(own, read_weights(path))
    if last:
        state = {key: value for key, value in state.items() if not key.startswith(last)}
        own = {key: value for key, value in own.items() if not key.startswith(last)}
        state = {key: value for key, value in state.items() if "aux" not in key.split(".")[0].lower()}
    found = match(own, state, prefix)
    name = f"backbone {spec.backbone!r}"
    if spec.weights_match == "strict" and (len(found.matched) < len(own) or found.unexpected):
        raise DataError(
            f"weights file {path} does not fit {name}: of its {len(own)} tensors {found.sentence()}. "
            "model.weights_match = 'partial' takes those that fit"
        )
    if found.share < LEAST_MATCHED:
        raise DataError(
            f"weights file {path} does not fit {name}: {found.sentence()}; at least {LEAST_MATCHED:.0%} of the "
            "parameters must match. Are they the weights of this backbone?"
        )
    net.whole.load_state_dict({key: state[key] for key in found.matched}, strict=False)
    return found


def _channels(blocks: nn.Sequential, pool: nn.Module | None, size: int, name: str) -> int:
    if any(value.is_meta for value in blocks.parameters()):  # of `limits.WithoutMemory`; what it left numbers in, too
        blocks.to("meta")
    with torch.no_grad():
        try:
            out: Tensor = blocks(torch.zeros(1, 3, size, size))
            learned = pool(out).shape[1] if pool else 0
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(f"backbone {name!r} cannot take images of {size} px: {error}") from None
    return int(out.shape[1] + learned)


def _mobilefacenet(spec: ModelSpec) -> _Net:
    whole = MobileFaceNet()
    return _Net(
        whole=whole,
        pool=whole.gdconv,
        cut=lambda whole: whole.blocks(),  # type: ignore[operator]
        image_size=112,
        trainable=4,
        usual_weights="mobilefacenet.pt",
        alignment="arcface",
    )


def _small_cnn(spec: ModelSpec) -> _Net:
    """Four blocks of two convolutions, 0.3 M parameters: trained from scratch on a CPU in a minute or two."""
    widths = (3, 24, 48, 96, 128)
    blocks = [
        nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
        for inputs, outputs in itertools.pairwise(widths)
    ]
    return _Net(
        whole=nn.Sequential(*blocks), cut=lambda whole: list(whole.children()), image_size=64, trainable=4,
        usual_weights="none",
    )  # fmt: skip


def _simple_cnn(spec: ModelSpec) -> _Net:
    """The textbook network: stages of convolution, batch norm, ReLU and 2 × 2 max-pooling, trained from scratch."""
    widths = (3, *(spec.widths or (32, 64, 128, 128)))
    blocks = [
        nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        for inputs, outputs in itertools.pairwise(widths)
    ]
    return _Net(
        whole=nn.Sequential(*blocks), cut=lambda whole: list(whole.children()), image_size=128,
        trainable=len(blocks), usual_weights="none",
    )  # fmt: skip


def _vggface2_resnet50(spec: ModelSpec) -> _Net:
    """ResNet-50 as it was trained on VGGFace2 in Caffe (Cao et al., FG 2018: resnet50_ft), and ported to PyTorch.

    Torchvision's names of parameters, but blocks halve their maps in the first 1 × 1 convolution, the first pooling has
    no border, and images are BGR, 0…255, minus the mean.
    """
    whole = resnet.resnet50()
    whole.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
    for stage in (whole.layer2, whole.layer3, whole.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return _Net(
        whole=whole,
        cut=lambda whole: _cut(whole) or [],
        image_size=224,
        trainable=4,
        usual_weights="resnet50_ft.pt",
        head="fc.",
        mean=tuple(value / 255 for value in (91.4953, 103.8827, 131.0912)),
        std=(1 / 255,) * 3,
        color="bgr",
    )


def _torchvision(spec: ModelSpec) -> _Net:
    names = list_models(module=torchvision.models)
    if spec.backbone not in names:
        near = suggestion(spec.backbone, [*BACKBONES, *names])
        raise UsageError(
            f"unknown backbone {spec.backbone!r}{near} (allowed: {', '.join(BACKBONES)}, or any classification model "
            f"of torchvision: {', '.join(names)})"
        )
    kinds = list(get_model_weights(spec.backbone))
    usual = int(kinds[0].transforms().crop_size[0]) if kinds else 224
    size = spec.image_size or usual
    inception = spec.backbone in ("googlenet", "inception_v3")  # trained on values in -1…1
    options: dict[str, object] = {}
    if inception:
        options = {"aux_logits": False, "init_weights": False, "transform_input": False}
    if spec.backbone.startswith("vit_"):
        options = {"image_size": size}
    if spec.backbone == "maxvit_t":
        options = {"input_size": (size, size)}
    try:
        whole = get_model(spec.backbone, weights=None, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f"backbone {spec.backbone!r} cannot be built for images of {size} px: {error}") from None
    cuttable = _cut(whole) is not None
    halves = (0.5, 0.5, 0.5)
    return _Net(
        whole=whole,
        mean=halves if inception else IMAGENET_MEAN,
        std=halves if inception else IMAGENET_STD,
        cut=lambda whole: _cut(whole) or [_without_head(whole)],
        image_size=usual,
        trainable=4 if cuttable else 0,
        usual_weights="imagenet",
        head="classifier. fc. heads. head.",
    )


def _cut(model: nn.Module) -> list[nn.Module] | None:
    """Return a torchvision model's blocks up to its last maps, or None where it has no such list."""
    if isinstance(model, resnet.ResNet):
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return [stem, *model.layer1, *model.layer2, *model.layer3, *model.layer4]
    if isinstance(model, regnet.RegNet):
        return [model.stem, *(block for stage in model.trunk_output for block in stage)]
    if isinstance(model, shufflenetv2.ShuffleNetV2):
        stem = nn.Sequential(model.conv1, model.maxpool)
        return [stem, *model.stage2, *model.stage3, *model.stage4, model.conv5]
    if isinstance(model, maxvit.MaxVit):
        return [model.stem, *model.blocks]
    if isinstance(model, densenet.DenseNet):
        return [*model.features, nn.ReLU()]
    for name in ("features", "layers"):
        blocks = getattr(model, name, None)
        if isinstance(blocks, nn.Sequential):
            tail = [getattr(model, part) for part in ("norm", "permute") if hasattr(model, part)]  # Swin's
            return [*blocks, *tail]
    return None


def _without_head(model: nn.Module) -> nn.Module:
    """Return a network that has no list of blocks, ending in its embeddings (N, C): only heads are trained on it."""
    for name in ("heads", "head", "fc", "classifier"):
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, nn.Identity())
            return model
    raise UsageError(f"torchvision's {type(model).__name__} has no last layer that could be taken off")


BACKBONES: dict[str, Callable[[ModelSpec], _Net]] = {
    "mobilefacenet": _mobilefacenet,
    "small_cnn": _small_cnn,
    "simple_cnn": _simple_cnn,
    "vggface2_resnet50": _vggface2_resnet50,
}
