"""Backbones: names, cuts, weights files, folding."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

from fairaudit.errors import DataError, UsageError
from fairaudit.models.backbones import build_backbone, check_backbone
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.folding import StridedDepthwise, fold, folds_exactly, speed_up_depthwise, twin
from fairaudit.models.mobilefacenet import MobileFaceNet
from fairaudit.models.weights import find_weights, read_weights
from fairaudit.spec import ModelSpec

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Point TORCH_HOME to an empty folder and let every download fail at once."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*args: object, **options: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def test_mobilefacenet_loads_all_307_keys_strictly(shared: Path) -> None:
    """The recognition weights fit the layout key by key, and give 512 maps of 7 × 7 from 112 px."""
    file = shared / "weights" / "mobilefacenet.pt"
    state = read_weights(file)
    assert len(state) == 307
    MobileFaceNet().load_state_dict(state, strict=True)
    backbone = build_backbone(ModelSpec(backbone="mobilefacenet"), [file.parent])
    assert (len(backbone.blocks), backbone.channels, backbone.image_size) == (18, 512, 112)
    assert backbone.weights == "mobilefacenet.pt"
    assert len(backbone.weights_hash) == 64
    with torch.no_grad():
        assert backbone.blocks(torch.zeros(1, 3, 112, 112)).shape == (1, 512, 7, 7)


def test_torchvision_weights_load_from_torch_home(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`weights = "imagenet"` takes the file that lies in TORCH_HOME, and nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(shared / "weights"))
    backbone = build_backbone(ModelSpec(backbone="mobilenet_v2", weights="imagenet", image_size=64))
    assert backbone.weights == "mobilenet_v2-b0353104.pth"
    raw = torch.load(shared / "weights" / "hub" / "checkpoints" / backbone.weights, weights_only=True)
    assert torch.equal(backbone.blocks[0][0].weight, raw["features.0.0.weight"])


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_x_400mf"])
def test_cut_blocks_compute_what_the_whole_model_does(name: str) -> None:
    """Blocks in a row, pooled and given to the model's own last layer, equal the uncut model."""
    torch.manual_seed(0)
    spec = ModelSpec(backbone=name, weights="none", image_size=64)
    backbone = build_backbone(spec)
    torch.manual_seed(0)  # the same draws again
    whole = get_model(name, weights=None).eval()
    last = getattr(whole, "fc", None) or whole.classifier
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = whole(x)
        got = last(backbone.blocks(x).mean((2, 3)))
    assert len(backbone.blocks) > 5
    torch.testing.assert_close(got, wanted)


def test_a_network_without_blocks_stays_whole() -> None:
    """GoogLeNet's branches are not cut: its embeddings come out of one block, of which none is fine-tuned."""
    backbone = build_backbone(ModelSpec(backbone="googlenet", weights="none", image_size=64))
    assert (len(backbone.blocks), backbone.trainable, backbone.channels) == (1, 0, 1024)
    assert backbone.mean == (0.5, 0.5, 0.5)


def test_unknown_backbone_suggests_the_nearest() -> None:
    """A misspelt name is a usage error that names the nearest one, ours or torchvision's."""
    with pytest.raises(UsageError, match="did you mean 'mobilefacenet'"):
        check_backbone(ModelSpec(backbone="mobilfacenet"))
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        build_backbone(ModelSpec(backbone="resnet_18"))


def test_missing_weights_name_every_place(tmp_path: Path) -> None:
    """A weights file that is nowhere is a usage error with the three places, in the order of the search."""
    with pytest.raises(UsageError) as caught:
        check_backbone(ModelSpec(backbone="mobilefacenet", weights="absent.pt"), [tmp_path / "beside"])
    text = str(caught.value)
    places = [str(tmp_path / "beside"), str(tmp_path / "torch"), str(tmp_path / "torch" / "hub" / "checkpoints")]
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)
    assert caught.value.exit_code == 2


def test_weights_beside_the_spec_come_first(tmp_path: Path) -> None:
    """The first of the three places wins."""
    for place in ("beside", "torch", "torch/hub/checkpoints"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "w.pt").write_bytes(b"")
        assert find_weights("w.pt", [tmp_path / "beside"]).parent == tmp_path / "beside"


@pytest.mark.parametrize("name", ["../w.pt", "/tmp/w.pt"])
def test_weights_outside_the_folders_are_refused(name: str) -> None:
    """A spec cannot name a file outside its own folder and TORCH_HOME."""
    with pytest.raises(UsageError, match="not a path"):
        find_weights(name, [])


def test_imagenet_weights_that_cannot_be_had_say_what_to_do(tmp_path: Path) -> None:
    """The message names the file and the folder it belongs in."""
    with pytest.raises(UsageError, match=r"mobilenet_v2-b0353104\.pth.*checkpoints"):
        build_backbone(ModelSpec(backbone="mobilenet_v2", weights="imagenet"))
    with pytest.raises(UsageError, match="has no ImageNet weights"):
        build_backbone(ModelSpec(backbone="small_cnn", weights="imagenet"))


class _Evil:
    """What a pickle can do: run code when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_plain_pickle_is_never_opened(tmp_path: Path) -> None:
    """A pickle, also one saved by torch, is a data error in plain words, and its code does not run."""
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"a": _Evil()}))
    torch.save({"a": _Evil()}, tmp_path / "torch.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "cut.safetensors").write_bytes(b"xx")
    for name in ("evil.pt", "torch.pt", "cut.pt", "cut.safetensors"):
        with pytest.raises(DataError, match=r"not opened|damaged zip file"):
            read_weights(tmp_path / name)


def test_safetensors_and_wrapped_state_dicts_are_read(tmp_path: Path) -> None:
    """Weights may be safetensors, wrapped in `state_dict`, or saved from a parallel model."""
    own = build_backbone(ModelSpec(backbone="small_cnn")).blocks.state_dict()
    save_file(own, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in own.items()}}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        made = build_backbone(ModelSpec(backbone="small_cnn", weights=name), [tmp_path])
        assert all(torch.equal(value, own[key]) for key, value in made.blocks.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """A state dict that does not fit is a data error that counts what is missing."""
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "w.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="does not fit"):
        build_backbone(ModelSpec(backbone="small_cnn", weights="w.pt"), [tmp_path])
    with pytest.raises(DataError, match="no state dict"):
        build_backbone(ModelSpec(backbone="small_cnn", weights="list.pt"), [tmp_path])


def test_an_image_size_too_small_is_a_usage_error() -> None:
    """A network that cannot take the size says so."""
    with pytest.raises(UsageError, match="32 px"):
        build_backbone(ModelSpec(backbone="alexnet", weights="none", image_size=32))


def test_folding_keeps_the_results() -> None:
    """Batch norms folded into convolutions change nothing, on a network with real statistics in them."""
    torch.manual_seed(0)
    blocks = nn.Sequential(*MobileFaceNet().blocks())
    blocks.train()(torch.randn(4, 3, 64, 64))  # statistics other than 0 and 1
    blocks.eval()
    assert folds_exactly(blocks, 64)
    folded = copy.deepcopy(blocks)
    fold(folded)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), blocks(x), rtol=1e-3, atol=1e-4)


def test_a_twin_shares_weights_and_nothing_else() -> None:
    """A twin computes the same bits in eval mode; converting, folding or cutting it leaves the original as it was."""
    torch.manual_seed(0)
    blocks = nn.Sequential(*MobileFaceNet().blocks(), nn.Sequential())
    blocks.train()(torch.randn(4, 3, 64, 64))
    before = {name: value.clone() for name, value in blocks.state_dict().items()}
    wanted = copy.deepcopy(blocks).eval()
    made = twin(blocks)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(made(x), wanted(x)) and not made(x).requires_grad
    assert made[0] is not blocks[0] and made[-1] is not blocks[-1]
    shared = {value.data_ptr() for value in blocks.parameters()}
    assert all(value.data_ptr() in shared for value in made.parameters())
    fold(wanted)
    fold(made)
    assert torch.equal(made(x), wanted(x))
    made.to(torch.bfloat16)
    made[0] = nn.Identity()
    assert all(part.training for part in blocks.modules())
    assert all(value.requires_grad for value in blocks.parameters())
    assert all(torch.equal(value, before[name]) for name, value in blocks.state_dict().items())
    assert before.keys() == blocks.state_dict().keys()


def test_a_hook_on_a_twin_is_not_on_the_original() -> None:
    """Hooks and temporary buffers that one of the two gets later are its own; those from before are in both."""
    module, called = nn.Sequential(nn.Linear(2, 2)), []
    first = module[0].register_forward_hook(lambda *given: called.append("before"))
    made = twin(module)
    made[0].register_forward_hook(lambda *given: called.append("twin"))
    made.register_buffer("temporary", torch.zeros(1), persistent=False)
    module.register_buffer("temporary", torch.zeros(1))
    first.remove()
    module(torch.zeros(1, 2))
    assert called == [] and "temporary" in module.state_dict()
    made(torch.zeros(1, 2))
    assert called == ["before", "twin"] and "temporary" not in made.state_dict()


def test_a_twin_keeps_what_is_tied_and_takes_what_it_is_given() -> None:
    """A module or a weight used twice is one in the twin, too; a module may be replaced by another."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    made = twin(nn.Sequential(first, second, first))
    assert made[0] is made[2] and made[0] is not first and made[0].weight is made[1].weight
    other = nn.Identity()
    assert twin(nn.Sequential(first, second), {id(first): other})[0] is other


def test_folding_notices_modules_that_are_called_in_another_order() -> None:
    """Where declaration order is not call order, folding would change results, and that is found out."""

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            nn.init.constant_(self.norm.running_mean, 2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(x).relu())

    assert not folds_exactly(Crossed(), 8)


@pytest.mark.parametrize("size", [8, 9])
def test_fast_strided_depthwise_equals_the_plain_one(size: int) -> None:
    """Stride 1 and every second value is the strided convolution: values and gradients."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1, groups=6))
    fast = copy.deepcopy(plain)
    speed_up_depthwise(fast)
    assert isinstance(fast[0], StridedDepthwise)
    assert list(fast.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 6, size, size)
    with torch.autocast("cpu", torch.bfloat16):
        a, b = plain(x), fast(x)
    torch.testing.assert_close(a, b)
    a.float().square().sum().backward()
    b.float().square().sum().backward()
    torch.testing.assert_close(plain[0].weight.grad, fast[0].weight.grad, rtol=2e-2, atol=2e-2)


def test_learned_pooling_stands_beside_the_average(shared: Path) -> None:
    """MobileFaceNet's own pooling of the maps gives 512 further values; other networks have none and say so."""
    spec = ModelSpec(backbone="mobilefacenet", pooling="average+learned")
    backbone = build_backbone(spec, [shared / "weights"])
    assert backbone.channels == 1024
    model = FaceClassifier(backbone, {"t": ("a", "b")}, shared=0).eval()
    x = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        maps = backbone.blocks(x)
        assert model.embed(x).shape == (1, 1024)
        torch.testing.assert_close(model.embed(x)[:, :512], maps.mean((2, 3)))
        torch.testing.assert_close(model.embed(x)[:, 512:], backbone.pool(maps).flatten(1))
    with pytest.raises(UsageError, match="no learned pooling"):
        build_backbone(ModelSpec(backbone="small_cnn", pooling="average+learned"))
    with pytest.raises(UsageError, match="64 px"):
        build_backbone(spec.model_copy(update={"image_size": 64}), [shared / "weights"])


def test_simple_cnn_halves_its_maps_in_every_stage() -> None:
    """Convolution, batch norm, ReLU and max-pooling a stage, in the widths of the spec."""
    backbone = build_backbone(ModelSpec(backbone="simple_cnn"))
    assert (len(backbone.blocks), backbone.channels, backbone.image_size) == (4, 128, 128)
    backbone = build_backbone(ModelSpec(backbone="simple_cnn", widths=(8, 12, 16), image_size=64))
    assert [type(part) for part in backbone.blocks[1]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    with torch.no_grad():
        assert backbone.blocks(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 8, 8)
    with pytest.raises(UsageError, match="belongs to the backbone 'simple_cnn'"):
        build_backbone(ModelSpec(backbone="small_cnn", widths=(8,)))
    with pytest.raises(UsageError, match="cannot take images of 32 px"):
        build_backbone(ModelSpec(backbone="simple_cnn", widths=(4,) * 6, image_size=32))


def test_grey_pictures_are_luminance_in_every_channel() -> None:
    """The weights of BT.601, whatever the colour; a picture that is grey already stays as it is."""
    spec = ModelSpec(backbone="small_cnn", image_size=32)
    colour = FaceClassifier(build_backbone(spec), {"x": ("a", "b")})
    grey = FaceClassifier(build_backbone(spec.model_copy(update={"color": "grey"})), {"x": ("a", "b")})
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    value = (pixels.double() @ torch.tensor([0.299, 0.587, 0.114]).double() / 255)[:, None]
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(grey.prepare(pixels), ((value - mean) / std).float())
    plain = pixels[..., :1].repeat(1, 1, 1, 3)
    torch.testing.assert_close(grey.prepare(plain), colour.prepare(plain))
    assert grey.prepare(pixels).is_contiguous(memory_format=torch.channels_last)


def test_vggface2_resnet50_is_caffes(tmp_path: Path) -> None:
    """Made-up weights in torchvision's names load strictly; blocks stride in their first convolution; BGR, a mean."""
    torch.manual_seed(1)
    whole = get_model("resnet50", weights=None, num_classes=8631).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet50_ft.pt")
    backbone = build_backbone(ModelSpec(backbone="vggface2_resnet50", image_size=64), [tmp_path])
    assert (len(backbone.blocks), backbone.channels, backbone.weights) == (17, 2048, "resnet50_ft.pt")
    assert torch.equal(backbone.blocks[5].conv2.weight, whole.layer2[1].conv2.weight)
    x = torch.randn(2, 3, 64, 64)
    first = backbone.blocks[4]  # layer2's first block, written out
    with torch.no_grad():
        before = backbone.blocks[:4](x)
        assert before.shape == (2, 256, 16, 16)  # pooled without a border, rounded up
        inner = functional.conv2d(before, first.conv1.weight, stride=2)
        inner = functional.conv2d(first.bn1(inner).relu(), first.conv2.weight, padding=1)
        inner = first.bn3(functional.conv2d(first.bn2(inner).relu(), first.conv3.weight))
        torch.testing.assert_close(first(before), (inner + first.downsample(before)).relu())
    model = FaceClassifier(backbone, {"x": ("a", "b")})
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    wanted = pixels.flip(3).permute(0, 3, 1, 2).float() - torch.tensor([91.4953, 103.8827, 131.0912]).view(3, 1, 1)
    torch.testing.assert_close(model.prepare(pixels), wanted, atol=1e-3, rtol=1e-4)
    turned = build_backbone(ModelSpec(backbone="vggface2_resnet50", image_size=64, color="rgb"), [tmp_path])
    other = FaceClassifier(turned, {"x": ("a", "b")}).prepare(pixels)
    torch.testing.assert_close(other.flip(1), wanted, atol=1e-3, rtol=1e-4)
    assert build_backbone(ModelSpec(backbone="vggface2_resnet50"), [tmp_path]).image_size == 224


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.", "module.backbone."])
@pytest.mark.parametrize("how", ["strict", "partial"])
def test_wrapped_names_match_without_their_prefix(tmp_path: Path, prefix: str, how: str) -> None:
    """What another project wrapped in a module of its own loads all the same, in either way."""
    torch.manual_seed(2)
    state = get_model("resnet18", weights=None).state_dict()
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "w.pt")
    spec = ModelSpec(backbone="resnet18", weights="w.pt", weights_match=how, image_size=64)  # type: ignore[arg-type]
    backbone = build_backbone(spec, [tmp_path])
    assert torch.equal(backbone.blocks[0][0].weight, state["conv1.weight"])
    assert backbone.match is not None
    assert backbone.match.share == 1.0
    assert backbone.random == ()


def test_what_fits_of_a_weights_file_is_taken_and_reported(tmp_path: Path) -> None:
    """Partial: missing, misshapen and unexpected tensors are counted and named, the rest loaded; strict refuses."""
    torch.manual_seed(3)
    state = get_model("resnet18", weights=None).state_dict()
    del state["layer1.0.conv1.weight"]
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    state["extra.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pt")
    spec = ModelSpec(backbone="resnet18", weights="w.pt", image_size=64)
    with pytest.raises(DataError, match=r"1 missing \(layer1\.0\.conv1\.weight\).*weights_match = 'partial'"):
        build_backbone(spec, [tmp_path])
    partial = spec.model_copy(update={"weights_match": "partial"})
    one, two = build_backbone(partial, [tmp_path]), build_backbone(partial, [tmp_path])
    found = one.match
    assert found is not None
    assert found.missing == ("layer1.0.conv1.weight",)
    assert found.misshapen == ("conv1.weight: 64 × 1 × 7 × 7, expected 64 × 3 × 7 × 7",)
    assert found.unexpected == ("extra.weight",)
    own = {name: value.numel() for name, value in get_model("resnet18").state_dict().items() if name[:3] != "fc."}
    lacking = own["layer1.0.conv1.weight"] + own["conv1.weight"]
    assert found.share == pytest.approx(1 - lacking / sum(own.values()))
    assert found.report()["matched"]["count"] == len(own) - 2
    assert one.random == (0, 1)
    assert torch.equal(one.blocks[2].conv1.weight, state["layer1.1.conv1.weight"])
    assert torch.equal(one.blocks[0][0].weight, two.blocks[0][0].weight)  # random, but always the same


def test_a_file_of_another_network_is_refused_even_in_part(tmp_path: Path) -> None:
    """Less than half of the parameters: it is no weights file of this backbone."""
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "w.pt")
    spec = ModelSpec(backbone="resnet50", weights="w.pt", weights_match="partial", image_size=64)
    with pytest.raises(DataError, match="at least 50% of the parameters must match"):
        build_backbone(spec, [tmp_path])
