"""Anybody's model: every format predicts what the network itself gives, and what does not fit is said in words."""

import json
import sys
import tomllib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from tiny_faces import TASKS, make_faces
from torch import Tensor, nn
from torchvision.transforms import v2

from fairaudit import cli
from fairaudit.attribution.attribute import attribute
from fairaudit.data.images import load_rgb
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models.inference import predict
from fairaudit.models.mobilefacenet import MobileFaceNet
from fairaudit.models.wrapped import networks
from fairaudit.models.wrapped.description import (
    InputDescription,
    ModelDescription,
    TaskDescription,
    load_description,
    parse_description,
    presets,
)
from fairaudit.models.wrapped.networks import build_head, build_network
from fairaudit.models.wrapped.opening import open_model
from fairaudit.models.wrapped.outputs import logits_of, named_outputs, places
from fairaudit.models.wrapped.pictures import prepare, reader
from fairaudit.resources import resource_dir
from fairaudit.spec import AttributionSpec

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
SIZE = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INPUT = f"""
[input]
size = {SIZE}
mean = {list(MEAN)}
std = {list(STD)}
"""
HEADS = """
[tasks.gender]
classes = ["Male", "Female"]
[tasks.race]
classes = ["A", "B", "C"]
"""


class Small(nn.Module):
    """Five outputs from the picture's mean colours."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.fc = nn.Linear(3, 5)
        self.fc.weight = nn.Parameter(torch.randn(5, 3, generator=generator))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class Named(nn.Module):
    """The same as a mapping from names to outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Small()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = self.inner(x)
        return {"race": out[:, 2:].softmax(1), "gender": out[:, :2]}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures."""
    return make_faces(tmp_path_factory.mktemp("faces"))


def write(folder: Path, text: str, name: str = "model.toml") -> Path:
    """Write a description."""
    path = folder / name
    path.write_text(text)
    return path


def by_hand(module: nn.Module, faces: FaceTable, size: int = SIZE) -> dict[str, np.ndarray]:
    """Return both tasks' probabilities by a plain loop over single pictures."""
    rows = []
    for name in faces.frame["image"]:
        pixels = (load_rgb(faces.root / name, size) / 255 - np.array(MEAN)) / np.array(STD)
        with torch.no_grad():
            rows.append(module.eval()(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float())[0])
    out = torch.stack(rows)
    return {"gender": out[:, :2].softmax(1).numpy(), "race": out[:, 2:].softmax(1).numpy()}


def probabilities(path: Path, task: str) -> np.ndarray:
    """Return a predictions file's probabilities of one task."""
    frame = read_predictions(path).frame
    return frame[[f"{task}_prob_{name}" for name in TASKS[task]]].to_numpy(dtype=float)


def check(model: object, faces: FaceTable, out: Path, wanted: dict[str, np.ndarray]) -> None:
    """Predict and compare both tasks with what is wanted."""
    path = predict(model, faces, out / "p.parquet", batch_size=7, device="cpu")  # type: ignore[arg-type]
    for task, values in wanted.items():
        np.testing.assert_allclose(probabilities(path, task), values, atol=2e-5)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".legacy"])
def test_torchvision_state_dict(faces: FaceTable, tmp_path: Path, suffix: str) -> None:
    """A ResNet's state dict, in every way to write it, predicts what the network gives; meta names file and hash."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5)
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}
        torch.save(wrapped, path, _use_new_zipfile_serialization=suffix == ".pt")
    write(tmp_path, f"name = 'Theirs'\nnetwork = 'resnet18'\n{INPUT}{HEADS}")
    model = open_model(path)
    check(model, faces, tmp_path, by_hand(network, faces))
    meta = read_predictions(tmp_path / "p.parquet").meta["model"]
    assert (meta["name"], meta["file_format"], meta["file"]) == ("Theirs", "state-dict", path.name)
    assert len(meta["sha256"]) == 64 and "32 × 32 px" in meta["preprocessing"]


def test_backbones_of_ours_and_heads_of_several_layers(faces: FaceTable, tmp_path: Path) -> None:
    """MobileFaceNet with a head of two layers, and a torchvision network whose classifier was replaced by three."""
    torch.manual_seed(0)
    whole = MobileFaceNet().eval()
    head = nn.Sequential(nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 5))
    state = {**whole.state_dict(), **{f"head.{key}": value for key, value in head.state_dict().items()}}
    torch.save(state, tmp_path / "mobilefacenet.pt")
    text = INPUT.replace(f"size = {SIZE}", "size = 112") + HEADS
    write(tmp_path, f"network = 'mobilefacenet'\nhead = ['linear 8', 'relu', 'linear']\n{text}", "mobilefacenet.toml")
    few = replace(faces, frame=faces.frame.iloc[:6].reset_index(drop=True))
    check(open_model(tmp_path / "mobilefacenet.pt"), few, tmp_path, by_hand(nn.Sequential(whole, head), few, 112))

    network = torchvision.models.mobilenet_v2(num_classes=7)
    network.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))
    torch.save({f"net.{key}": value for key, value in network.state_dict().items()}, tmp_path / "v2.pt")
    start = "network = 'mobilenet_v2'\nhead = ['dropout', 'linear 4', 'batchnorm', 'linear']\n"
    write(tmp_path, f"{start}prefix = 'net.'\n{INPUT}{HEADS}", "v2.toml")
    check(open_model(tmp_path / "v2.pt"), few, tmp_path, by_hand(network, few))
    write(tmp_path, f"{start}{INPUT}{HEADS}", "v2.toml")
    with pytest.raises(DataError, match=r"does not fit.*did you mean prefix = 'net\.'"):
        open_model(tmp_path / "v2.pt")


def test_a_network_of_ours_without_a_head_of_its_own(tmp_path: Path, faces: FaceTable) -> None:
    """Maps are averaged before the head."""
    from fairaudit.models.backbones import BACKBONES
    from fairaudit.spec import ModelSpec

    torch.manual_seed(0)
    whole, head = BACKBONES["small_cnn"](ModelSpec(backbone="small_cnn")).whole.eval(), nn.Linear(128, 5)
    state = {**whole.state_dict(), **{f"head.{key}": value for key, value in head.state_dict().items()}}
    torch.save(state, tmp_path / "x.pth")
    write(tmp_path, f"network = 'small_cnn'\n{INPUT}{HEADS}", "x.toml")
    pooled = nn.Sequential(whole, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    check(open_model(tmp_path / "x.pth"), faces, tmp_path, by_hand(pooled, faces))


def test_timm(faces: FaceTable, tmp_path: Path) -> None:
    """A timm network by its name; an unknown one is refused with a suggestion."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "t.pt")
    write(tmp_path, f"network = 'timm:resnet10t'\n{INPUT}{HEADS}", "t.toml")
    check(open_model(tmp_path / "t.pt"), faces, tmp_path, by_hand(network, faces))
    write(tmp_path, f"network = 'timm:resnet10x'\n{INPUT}{HEADS}", "t.toml")
    with pytest.raises(UsageError, match="no such model; did you mean 'resnet10t'"):
        open_model(tmp_path / "t.pt")


def test_code_runs_only_when_trusted(faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchScript, torch.export, a pickled module and a function are refused by default, and agree when trusted."""
    small, wanted = Small().eval(), by_hand(Small(), faces)
    monkeypatch.chdir(tmp_path)
    torch.jit.trace(small, torch.zeros(1, 3, SIZE, SIZE)).save(tmp_path / "script.pt")
    batch = torch.export.Dim("n", min=1, max=512)
    torch.export.save(
        torch.export.export(small, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},)),
        tmp_path / "free.pt2",
    )
    torch.export.save(torch.export.export(small, (torch.zeros(3, 3, SIZE, SIZE),)), tmp_path / "fixed.pt2")
    torch.save(small, tmp_path / "module.pt")
    (tmp_path / "their_model.py").write_text(
        "import numpy as np\n"
        "def both(faces):\n"
        "    assert faces.dtype == np.uint8 and faces.shape[1:] == (32, 32, 3)\n"
        "    x = faces.mean((1, 2)) / 255\n"
        "    p = 1 / (1 + np.exp(-x[:, 0]))\n"
        "    return {'race': x, 'gender': np.stack([1 - p, p], 1)}\n"
    )
    spec = write(tmp_path, INPUT + HEADS)
    described = write(
        tmp_path,
        f"[input]\nsize = {SIZE}\n{HEADS}".replace("[tasks.race]", "values = 'probabilities'\n[tasks.race]"),
        "f.toml",
    )
    for name in ("script.pt", "free.pt2", "fixed.pt2", "module.pt", "their_model:both"):
        with pytest.raises(UsageError, match=r"carries code.*--trust-code"):
            open_model(name, spec)
    assert "their_model" not in sys.modules
    for name in ("script.pt", "free.pt2", "fixed.pt2", "module.pt"):
        check(open_model(tmp_path / name, spec, trust_code=True), faces, tmp_path, wanted)
    model = open_model("their_model:both", described, trust_code=True)
    path = predict(model, faces, tmp_path / "f.parquet")
    colours = np.stack([load_rgb(faces.root / name, SIZE).mean((0, 1)) for name in faces.frame["image"]]) / 255
    np.testing.assert_allclose(probabilities(path, "gender")[:, 1], 1 / (1 + np.exp(-colours[:, 0])), atol=1e-6)
    raised = np.exp(colours) / np.exp(colours).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(path, "race"), raised, atol=1e-6)
    named = write(tmp_path, f"network = 'resnet18'\n{INPUT}{HEADS}", "named.toml")
    with pytest.raises(
        UsageError, match=r"'torchscript' is a whole network, so network would not be read.*--model-spec"
    ):
        open_model(tmp_path / "script.pt", named, trust_code=True)
    with pytest.raises(UsageError, match="gives none"):
        _ = model.network
    with pytest.raises(UsageError, match="computes in its own number format"):
        predict(model, faces, tmp_path / "no.parquet", precision="bf16")
    sys.modules.pop("their_model", None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return np.zeros((len(faces), 3))", "named_once:answer returned ndarray; a dict of"),
        ("raise KeyError('eyes')", "named_once:answer raised KeyError: 'eyes'"),
        ("return {'race': np.zeros((1, 3))}", "named_once:answer: the model gave 1 rows"),
    ],
)
def test_the_name_of_a_function_stands_once_in_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    """Whether the function's own words or the model's name it, nobody reads the name twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "named_once", raising=False)
    (tmp_path / "named_once.py").write_text(f"import numpy as np\ndef answer(faces):\n    {body}\n")
    described = write(tmp_path, f"[input]\nsize = {SIZE}\n{HEADS}", "f.toml")
    with pytest.raises(DataError) as caught:
        open_model("named_once:answer", described, trust_code=True)
    sys.modules.pop("named_once", None)
    assert str(caught.value).startswith(said) and str(caught.value).count("named_once") == 1


def test_attribution_follows_a_wrapped_network(faces: FaceTable, tmp_path: Path) -> None:
    """Integrated gradients of TorchScript are complete, and equal to those of the same module pickled."""
    torch.jit.trace(Small().eval(), torch.zeros(1, 3, SIZE, SIZE)).save(tmp_path / "script.pt")
    torch.save(Small(), tmp_path / "module.pt")
    spec = write(tmp_path, INPUT + HEADS)
    found = [
        attribute(
            open_model(tmp_path / name, spec, trust_code=True), faces, by=("race",),
            attribution=AttributionSpec(faces_per_head=6, steps=8), device="cpu",
        )
        for name in ("script.pt", "module.pt")
    ]  # fmt: skip
    assert all(error < 1e-3 for error in found[0].meta["completeness"].values())
    for key, values in found[0].maps.items():
        np.testing.assert_allclose(values, found[1].maps[key], atol=1e-5)


def test_named_outputs_and_the_datas_order(faces: FaceTable, tmp_path: Path) -> None:
    """Outputs by name, probabilities and logits side by side; classes come out in the data's order, not the model's."""
    torch.save(Named(), tmp_path / "named.pt")
    text = INPUT + (
        "[tasks.gender]\nclasses = ['Female', 'Male']\noutput = 'gender'\n"
        "[tasks.race]\nclasses = ['C', 'A', 'B']\noutput = 'race'\nvalues = 'probabilities'\n"
    )
    model = open_model(tmp_path / "named.pt", write(tmp_path, text), trust_code=True)
    wanted = by_hand(Small(), faces)
    swapped = {"gender": wanted["gender"][:, [1, 0]], "race": wanted["race"][:, [1, 2, 0]]}
    check(model, faces, tmp_path, swapped)
    assert read_predictions(tmp_path / "p.parquet").tasks == TASKS
    check(model, faces, tmp_path, swapped)


def describe(**task: object) -> ModelDescription:
    """Return a description with one task."""
    return parse_description({"tasks": {"t": task}})


def test_layouts_of_outputs() -> None:
    """Columns, single logits and probabilities, and classes of one name, against formulas."""
    raw = torch.tensor([[0.2, -1.0, 3.0, 0.5], [1.0, 2.0, -2.0, 0.1]])
    outputs = named_outputs([raw[:, :, None, None], {"x": 1}["x"] * raw.numpy()])

    def values(**task: object) -> np.ndarray:
        tasks = describe(**task).tasks
        where = places(tasks, {name: value.shape[1] for name, value in outputs.items()})
        return logits_of(outputs, where, tasks)["t"].softmax(1).numpy()

    np.testing.assert_allclose(
        values(classes=("a", "b"), columns=(1, 3), output=1), raw[:, 1:3].softmax(1).numpy(), atol=1e-6
    )
    single = values(classes=("a", "b"), columns=(2, 3), values="logit")
    np.testing.assert_allclose(single[:, 1], raw[:, 2].sigmoid().numpy(), atol=1e-6)
    np.testing.assert_allclose(
        values(classes=("a", "b"), columns=(3, 4), values="probability")[:, 1], raw[:, 3].numpy(), atol=1e-6
    )
    merged = values(classes=("a", "b", "a", "c"))
    whole = raw.softmax(1).numpy()
    np.testing.assert_allclose(merged, np.stack([whole[:, 0] + whole[:, 2], whole[:, 1], whole[:, 3]], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"classes": ("a", "b", "c")}, r"has 4 columns, but the description needs 3"),
        ({"classes": tuple("abcdef")}, r"has 4 columns, but the description needs 6"),
        ({"classes": ("a", "b"), "output": "logits"}, r"no such output \(it has: 0\)"),
        ({"classes": ("a", "b"), "columns": (3, 5)}, r"needs 5"),
        ({"classes": tuple("abcd"), "values": "probabilities"}, r"no probabilities of these classes; are they logits"),
    ],
)
def test_mismatched_outputs_are_refused(task: dict[str, object], message: str) -> None:
    """What the classes need and what the model gives are both named."""
    outputs = named_outputs(torch.tensor([[0.2, -1.0, 3.0, 0.5]]))
    tasks = describe(**task).tasks
    with pytest.raises(DataError, match=message):
        logits_of(outputs, places(tasks, {name: value.shape[1] for name, value in outputs.items()}), tasks)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"tasks": {}}, "tasks"),
        ({"task": {}}, r"unknown key 'task'; did you mean 'tasks'"),
        ({"tasks": {"g": {"clases": ["a", "b"]}}}, r"unknown key 'tasks.g.clases'; did you mean 'classes'"),
        ({"tasks": {"g": {"classes": ["a", "a"]}}}, "two or more different names"),
        ({"tasks": {"g": {"classes": ["a", "b", "c"], "values": "logit"}}}, "is for two classes; there are 3"),
        ({"tasks": {"g": {"classes": ["a", "b"], "columns": [0, 3]}}}, "are 3 columns, but the head has 2"),
        ({"tasks": {"g": {"classes": ["a", "b"]}}, "input": {"mean": [1, 2]}}, "one value, or one for each of 3"),
        ({"tasks": {"g": {"classes": ["a", "b"]}}, "input": {"std": [0]}}, "std must be above 0"),
        ({"tasks": {"g": {"classes": ["a", "b"]}}, "input": {"size": 64, "resize": 32}}, "smaller than size"),
        ({"tasks": {"g": {"classes": ["a", "b"]}}, "input": {"padding": 0.2}}, "align = 'dlib' only"),
        (
            {"tasks": {"g": {"classes": ["a", "b"]}}, "format": "function", "input": {"mean": [1]}},
            "prepares them itself",
        ),
    ],
)
def test_bad_descriptions(raw: dict[str, object], message: str) -> None:
    """Every mistake ends in a sentence with the key."""
    with pytest.raises(UsageError, match=message):
        parse_description(raw)


def test_preparation_equals_torchvision(tmp_path: Path) -> None:
    """Resize, crop, normalization and greyscale are torchvision's; BGR and other divisors are by formula."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (90, 61, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")

    def made(**keys: object) -> Tensor:
        described = parse_description({"input": keys, "tasks": {"g": {"classes": ["a", "b"]}}}).input
        return prepare(torch.from_numpy(reader(described, [])(tmp_path / "a.png"))[None], described)[0]

    theirs = v2.Compose(
        [v2.Resize(40), v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    own = made(size=32, resize=40, mean=MEAN, std=STD)
    torch.testing.assert_close(own, torch.Tensor(theirs(picture)), atol=1e-5, rtol=0)
    rgb, bgr = made(size=32, divide_by=1, mean=(1, 2, 3)), made(size=32, colour="BGR", divide_by=1, mean=(3, 2, 1))
    torch.testing.assert_close(rgb.flip(0), bgr)
    grey = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR).convert("L"), dtype=np.float32)
    assert (made(size=32, colour="grey", divide_by=1)[0].numpy() - grey).max() < 1


def test_what_does_not_fit_is_said(tmp_path: Path, faces: FaceTable) -> None:
    """Missing and wrong files, other outputs, other classes, keys that nothing reads."""
    network = torchvision.models.resnet18(num_classes=5)
    path = tmp_path / "net.pt"
    torch.save(network.state_dict(), path)
    with pytest.raises(UsageError, match=r"what are its classes.*model\.toml"):
        open_model(path)
    with pytest.raises(UsageError, match=r"no such file or preset; did you mean 'fairface-resnet34'"):
        open_model(path, "fairface-resnet43")
    with pytest.raises(DataError, match="does not exist"):
        open_model(tmp_path / "nothing.pt")
    with pytest.raises(UsageError, match="without a network"):
        open_model(path, write(tmp_path, HEADS))
    with pytest.raises(UsageError, match="'resnet19' is not known; did you mean 'resnet18'"):
        open_model(path, write(tmp_path, f"network = 'resnet19'\n{HEADS}"))
    with pytest.raises(DataError, match="its last layer gives 5 outputs: name as many classes"):
        open_model(path, write(tmp_path, "network = 'resnet18'\n" + HEADS.replace(', "C"', "")))
    with pytest.raises(UsageError, match="head: unknown layer 'rellu'; did you mean 'relu'"):
        open_model(path, write(tmp_path, f"network = 'resnet18'\nhead = ['rellu']\n{HEADS}"))
    with pytest.raises(UsageError, match=r"format = 'onnx', but .* is 'state-dict'"):
        open_model(path, write(tmp_path, f"format = 'onnx'\n{HEADS}"))
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(DataError, match=r"a Keras file \(HDF5\); allowed"):
        open_model(tmp_path / "keras.h5", write(tmp_path, HEADS))
    other = HEADS.replace('"C"', '"D"')
    model = open_model(path, write(tmp_path, f"network = 'resnet18'\n{INPUT}{other}"))
    with pytest.raises(DataError, match=r"'race' knows the classes A, B, D.*give the model's classes the data's names"):
        predict(model, faces, tmp_path / "p.parquet")


def test_a_face_without_a_number_is_failed(faces: FaceTable, tmp_path: Path) -> None:
    """A row of NaN is no prediction of the first class."""

    class Odd(Small):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x[:, :1, 0, 0] > 0, torch.nan, self.fc(x.mean((2, 3))))

    torch.jit.script(Odd()).save(tmp_path / "odd.pt")
    model = open_model(tmp_path / "odd.pt", write(tmp_path, INPUT + HEADS), trust_code=True)
    read = read_predictions(predict(model, faces, tmp_path / "p.parquet"))
    corner = np.array([load_rgb(faces.root / name, SIZE)[0, 0, 0] for name in faces.frame["image"]]) / 255 > MEAN[0]
    assert 0 < corner.sum() < len(faces)
    assert (read.frame["gender_status"] == "failed").tolist() == corner.tolist()
    assert read.frame["gender_pred"].isna().tolist() == corner.tolist()
    assert set(read.findings["kind"]) == {"no_number"}


def test_presets_are_sound(tmp_path: Path) -> None:
    """Every preset parses; FairFace's fits a ResNet-34 of 18 outputs, as its authors' file is."""
    assert presets() == ["fairface-resnet34", "gender-v1", "gender-v1-chips"]
    torch.manual_seed(0)
    network = torchvision.models.resnet34(num_classes=18)
    torch.save(network.state_dict(), tmp_path / "res34.pt", _use_new_zipfile_serialization=False)
    model = open_model(tmp_path / "res34.pt", "fairface-resnet34")
    pixels = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    got = model.on(torch.device("cpu"), torch.float32, flip=False)(pixels)
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        out = network.eval()(x)
    for task, columns in {"race": slice(0, 7), "gender": slice(7, 9), "age": slice(9, 18)}.items():
        np.testing.assert_allclose(got[task], out[:, columns].softmax(1).numpy(), atol=1e-5)
    assert model.classes["age"][-1] == "70+" and model.ordered == {"age"}


def test_a_checkpoint_with_other_objects_around_its_weights(faces: FaceTable, tmp_path: Path) -> None:
    """A Namespace beside the state dict needs --trust-code; then the weights are those of the described network."""
    network = torchvision.models.resnet18(num_classes=5)
    torch.save({"args": Namespace(lr=1), "state_dict": network.state_dict()}, tmp_path / "a.pt")
    spec = write(tmp_path, f"network = 'resnet18'\nformat = 'state-dict'\n{INPUT}{HEADS}")
    with pytest.raises(UsageError, match="a pickle that holds more than weights"):
        open_model(tmp_path / "a.pt", spec)
    few = replace(faces, frame=faces.frame.iloc[:6].reset_index(drop=True))
    check(open_model(tmp_path / "a.pt", spec, trust_code=True), few, tmp_path, by_hand(network, few))


def test_a_program_of_torch_export_is_attributed(faces: FaceTable, tmp_path: Path) -> None:
    """Gradients flow through a program that takes any number of faces."""
    free = torch.export.Dim("n", min=1, max=512)
    example = (torch.zeros(2, 3, SIZE, SIZE),)
    torch.export.save(torch.export.export(Small().eval(), example, dynamic_shapes=({0: free},)), tmp_path / "a.pt2")
    model = open_model(tmp_path / "a.pt2", write(tmp_path, INPUT + HEADS), trust_code=True)
    spec = AttributionSpec(faces_per_head=4, steps=8)
    found = attribute(model, faces, by=("race",), attribution=spec, device="cpu")
    assert all(error < 1e-3 for error in found.meta["completeness"].values())
    with pytest.raises(UsageError, match="keeps the device"):
        model.place("cuda")


def test_the_page_shows_what_the_preset_says() -> None:
    """The complete example of docs/your-own-model.md is the FairFace preset, and its table has every key."""
    page = (Path(__file__).parents[1] / "docs" / "your-own-model.md").read_text(encoding="utf-8")
    example = parse_description(tomllib.loads(page.split("```toml\n")[1].split("```")[0]))
    preset = load_description(resource_dir("presets") / "fairface-resnet34.toml")
    assert (example.input, example.tasks, example.network) == (preset.input, preset.tasks, preset.network)
    for part, fields in {
        "": set(ModelDescription.model_fields) - {"input", "tasks"},
        "input.": set(InputDescription.model_fields) - {"landmarks", "padding"},
        "tasks.<task>.": set(TaskDescription.model_fields),
    }.items():
        assert [name for name in fields if f"`{part}{name}`" not in page] == []


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`audit --checkpoint` takes a foreign file, warns of its swapped classes, and names it in audit.json."""

    def fairaudit(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fairaudit", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    table = make_faces(tmp_path / "faces", count=90)
    table.frame[["image", "gender", "race", "hair"]].to_csv(tmp_path / "faces" / "manifest.csv", index=False)
    (tmp_path / "spec.toml").write_text(
        "name = 'x'\ntasks = ['gender', 'race', 'hair']\n[data]\ndataset = 'manifest'\nmanifest = 'manifest.csv'\n"
        "[audit]\nsubgroups = ['hair']\ndraws = 100\n"
    )
    small = Small()
    small.fc.weight = nn.Parameter(torch.tensor([[-9.0, 9, 0], [9, -9, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    torch.jit.trace(small.eval(), torch.zeros(1, 3, SIZE, SIZE)).save(tmp_path / "theirs.pt")
    (tmp_path / "theirs.toml").write_text(f"name = 'Their model'\n{INPUT}{HEADS}")
    words = (
        "audit",
        "--checkpoint",
        tmp_path / "theirs.pt",
        "--data",
        tmp_path / "faces",
        "--spec",
        tmp_path / "spec.toml",
    )
    code, said = fairaudit(*words, "--out", tmp_path / "audit")
    assert code == 2 and "--trust-code" in said and not (tmp_path / "audit").exists()
    code, said = fairaudit(*words, "--out", tmp_path / "audit", "--trust-code")
    assert code == 0, said
    assert "no head for hair: not audited" in said
    assert "'Male' as 'Female', 'Female' as 'Male'" in said
    meta = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert meta["name"] == "Their model" and meta["model"]["file_format"] == "torchscript"
    assert any("read in another order" in text for text in meta["warnings"])
    page = (tmp_path / "audit" / "index.html").read_text()
    assert meta["model"]["sha256"] in page and "whole picture to 32 × 32 px" in page
    assert fairaudit("verify", tmp_path / "audit")[0] == 0
    assert "fairface-resnet34" in fairaudit("list", "presets")[1]


def test_absurd_heads_take_no_memory() -> None:
    """Nine words that ask for 120 GB."""
    with pytest.raises(UsageError, match=r"'linear 65536' it would hold 4,\d+,\d+,\d+ values"):
        build_head(("linear 65536",) * 8 + ("linear",), 512, 2)


def test_a_named_giant_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny file that says it is a network of 645 million parameters, or of a million classes: compared by shape."""
    built: list[set[str]] = []

    def noted(description: ModelDescription) -> torch.nn.Module:
        network = build_network(description)
        built.append({value.device.type for value in network.parameters()})
        return network

    monkeypatch.setattr(networks, "build_network", noted)
    torch.save({"stem.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "a.pt")
    many = [f"c{number}" for number in range(10_000)]
    gender = {"gender": {"classes": ["a", "b"]}}
    heads = {f"t{number}": {"classes": many} for number in range(100)}
    for network, tasks in (("regnet_y_128gf", gender), ("vit_h_14", gender), ("resnet50", heads)):
        description = parse_description({"network": network, "tasks": tasks})
        with pytest.raises(DataError, match=f"does not fit {network}"):
            networks.open_state_dict(tmp_path / "a.pt", description)
    assert built == [{"meta"}] * 3


def test_a_very_long_picture_is_refused(tmp_path: Path) -> None:
    """A shorter side of 1 pixel turned into 256 would make a line of 40,000 pixels ten million long."""
    Image.new("RGB", (40_000, 1)).save(tmp_path / "line.png")
    read = reader(InputDescription(size=224, resize=256), [])
    with pytest.raises(DataError, match="too long for resize = 256: it has 40,000 × 1 pixels"):
        read(tmp_path / "line.png")
