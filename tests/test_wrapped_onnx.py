"""ONNX: what onnxruntime gives is what is predicted; sizes and paths in a stranger's file are looked at first."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tiny_faces import TASKS, make_faces

from fairaudit.data.images import load_rgb
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, FairauditError, UsageError
from fairaudit.models.inference import predict
from fairaudit.models.weights import read_weights
from fairaudit.models.wrapped import onnx_files
from fairaudit.models.wrapped.opening import open_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

torch.set_num_threads(1)
SIZE = 32
ROOT = Path(__file__).parents[1]
TEXT = f"""
[input]
size = {SIZE}
layout = "LAYOUT"
colour = "BGR"
divide_by = 1
[tasks.gender]
classes = ["Male", "Female"]
output = "probs"
values = "probabilities"
[tasks.race]
classes = ["A", "B", "C"]
output = "race"
"""
WEIGHTS = np.random.default_rng(0).normal(0, 0.05, (3, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures."""
    return make_faces(tmp_path_factory.mktemp("faces"))


def graph(
    batch: int | str = "n", *, last: bool = False, extra: tuple[Any, ...] = (), more: tuple[Any, ...] = ()
) -> Any:
    """Return a model of mean colours → gender's probabilities and race's logits, with further nodes and constants."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if last else [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["colours"], keepdims=0),
        helper.make_node("MatMul", ["colours", "weights"], ["all"]),
        helper.make_node("Split", ["all"], ["gender", "race"], axis=1, num_outputs=2),
        helper.make_node("Softmax", ["gender"], ["probs"], axis=1),
        *extra,
    ]
    nodes[2] = helper.make_node("Split", ["all", "sizes"], ["gender", "race"], axis=1)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [2, 3])
    shape = [batch, SIZE, SIZE, 3] if last else [batch, 3, SIZE, SIZE]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("race", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("probs", TensorProto.FLOAT, [batch, 2]),
        ],
        [numpy_helper.from_array(WEIGHTS, "weights"), axes, sizes, *more],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def save(model: Any, folder: Path, layout: str = "NCHW") -> Path:
    """Write a model and its description."""
    (folder / "model.toml").write_text(TEXT.replace("LAYOUT", layout))
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    return folder / "a.onnx"


@pytest.mark.parametrize(("batch", "last"), [("n", False), (1, False), (4, True)])
def test_predictions(faces: FaceTable, tmp_path: Path, batch: int | str, last: bool) -> None:
    """Named outputs, BGR, both layouts, and a batch size that the file fixes: all as numpy computes it."""
    model = open_model(save(graph(batch, last=last), tmp_path, "NHWC" if last else "NCHW"))
    frame = read_predictions(predict(model, faces, tmp_path / "p.parquet", batch_size=7)).frame
    x = np.stack([load_rgb(faces.root / name, SIZE)[..., ::-1].mean((0, 1)) for name in faces.frame["image"]])
    raised = np.exp(x @ WEIGHTS.astype(float))
    for task, columns in {"gender": slice(0, 2), "race": slice(2, 5)}.items():
        wanted = raised[:, columns] / raised[:, columns].sum(1, keepdims=True)
        got = frame[[f"{task}_prob_{name}" for name in TASKS[task]]].to_numpy(dtype=float)
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_it_runs_on_the_cpu_and_says_so(faces: FaceTable, tmp_path: Path) -> None:
    """Another device or precision by name is refused, attribution too."""
    model = open_model(save(graph(), tmp_path))
    with pytest.raises(UsageError, match="run on the CPU here"):
        model.place("cuda")
    with pytest.raises(UsageError, match="its own number format"):
        predict(model, faces, tmp_path / "p.parquet", precision="bf16")
    with pytest.raises(UsageError, match="format 'onnx' gives none"):
        _ = model.network


def external(location: str, shape: tuple[int, ...] = (4,), **entries: int) -> Any:
    """Return a constant whose values lie in another file."""
    tensor = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "sub/../../secret", "link", "C:\\secret", ""])
def test_paths_that_leave_the_folder(tmp_path: Path, location: str) -> None:
    """Absolute, with dots, linked: data outside the model's folder is never opened."""
    (tmp_path / "secret").write_bytes(bytes(64))
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="outside the model's own folder"):
        open_model(save(graph(more=(external(location),)), home))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (external("data", offset=32, length=64), r"asks for 32 \+ 64 bytes of 'data', which has 64"),
        (external("data", offset=-1, length=4), "asks for -1"),
        (external("nowhere"), "its data file 'nowhere' is missing"),
        (external("data", (2**20, 2**20)), r"declares 1,048,576 × 1,048,576 values"),
        (
            TensorProto(name="t", data_type=TensorProto.FLOAT, dims=(1000, 1000), raw_data=bytes(16)),
            r"declares 1,000 × 1,000 values and holds 16 bytes",
        ),
        (TensorProto(name="t", data_type=TensorProto.FLOAT, dims=(-1, 4), raw_data=b""), r"declares -1 × 4 values"),
    ],
)
def test_absurd_tensors(tmp_path: Path, tensor: Any, message: str) -> None:
    """What a tensor declares is compared with what there is, before onnxruntime sees the file."""
    (tmp_path / "data").write_bytes(bytes(64))
    with pytest.raises(DataError, match=message):
        open_model(save(graph(more=(tensor,)), tmp_path))


def test_data_beside_the_model(faces: FaceTable, tmp_path: Path) -> None:
    """Weights in a second file of the same folder are read, and are part of what names the model."""
    model = graph()
    del model.graph.initializer[0]
    model.graph.initializer.append(external("sub/data", (3, 5), offset=0, length=60))
    model.graph.initializer[-1].name = "weights"
    path = save(model, tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data").write_bytes(WEIGHTS.tobytes())
    first = open_model(path)
    frame = read_predictions(predict(first, faces, tmp_path / "p.parquet")).frame
    path = save(graph(), tmp_path)
    whole = read_predictions(predict(open_model(path), faces, tmp_path / "q.parquet")).frame
    pd.testing.assert_frame_equal(frame, whole)
    path = save(model, tmp_path)
    (tmp_path / "sub" / "data").write_bytes((2 * WEIGHTS).tobytes())
    assert open_model(path).hash != first.hash
    assert list(first.meta["further_files"]) == ["data"]


def test_absurd_results_in_between(tmp_path: Path) -> None:
    """A few bytes can ask for a result of a terabyte; the shapes are worked out before anything runs."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2**20, 2**20])
    node = helper.make_node("ConstantOfShape", ["shape"], ["huge"])
    with pytest.raises(DataError, match=r"'huge' would have 1,048,576 × 1,048,576 values"):
        open_model(save(graph(extra=(node,), more=(shape,)), tmp_path))


def endless() -> Any:
    """A loop of 2⁶² turns that doubles what it was given."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["a", "a"], ["b"])], "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("a", TensorProto.FLOAT, ["n", 2])],
        [info("on", TensorProto.BOOL, []), info("b", TensorProto.FLOAT, ["n", 2])],
    )  # fmt: skip
    node = helper.make_node("Loop", ["turns", "yes", "gender"], ["doubled"], body=body)
    made = graph(
        extra=(node,),
        more=(
            helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ),
    )
    made.graph.output.append(info("doubled", TensorProto.FLOAT, ["n", 2]))
    return made


def test_a_loop_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a loop runs only its running shows: it is stopped after a time, with a sentence."""
    monkeypatch.setattr(onnx_files, "LONGEST", 0.2)
    monkeypatch.setattr(onnx_files, "A_FACE", 0.1)
    with pytest.raises(DataError, match=r"no answer for 2 faces in 0 s"):
        open_model(save(endless(), tmp_path))


def test_sizes_that_hang_on_pixels_are_bounded(tmp_path: Path) -> None:
    """A size computed from the picture is known to nobody before: memory beyond the limit is refused, not taken.

    In a process of its own, because the limit holds for all models of a process, and memory is measured.
    """
    number = numpy_helper.from_array(np.array(3e8, dtype=np.float32), "number")  # 1.2 GB of floats
    nothing = numpy_helper.from_array(np.array(0, dtype=np.float32), "nothing")
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    nodes = (
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "number"], ["many"]),
        helper.make_node("Cast", ["many"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"], value=value),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
    )
    made = graph(extra=nodes, more=(number, nothing, one))
    made.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, []))
    path = save(made, tmp_path)
    code = (
        "import resource, sys\nfrom fairaudit.models.wrapped import onnx_files, opening\n"
        "onnx_files.LARGEST_MEMORY = 200_000_000\npeak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try:\n    opening.open_model(sys.argv[1])\n"
        "except Exception as error:\n    print(type(error).__name__, (peak() - before) >> 10, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], text=True, capture_output=True, check=True, cwd=ROOT)
    kind, taken, said = done.stdout.split(" ", 2)
    assert kind == "DataError" and "MemoryError" in said and int(taken) < 600, done.stdout


def test_absurd_results_in_branches(tmp_path: Path) -> None:
    """What only a branch of an If would make is looked at, too."""
    shape = helper.make_tensor("t", TensorProto.INT64, [2], [2**20, 2**20])
    nodes = [helper.make_node("Constant", [], ["s"], value=shape), helper.make_node("ConstantOfShape", ["s"], ["huge"])]
    inner = helper.make_graph(nodes, "inner", [], [helper.make_tensor_value_info("huge", TensorProto.FLOAT, None)])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(DataError, match="is refused"):
        open_model(save(graph(extra=(node,), more=(yes,)), tmp_path))


def test_foreign_operators_and_no_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators that need foreign code, other inputs, rubbish, a large file, and a missing package."""
    odd = helper.make_node("Evil", ["all"], ["x"], domain="evil.com")
    with pytest.raises(DataError, match=r"operator 'Evil' of 'evil\.com' needs foreign code"):
        open_model(save(graph(extra=(odd,)), tmp_path))
    two = graph()
    two.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    with pytest.raises(DataError, match="one input of pictures is needed"):
        open_model(save(two, tmp_path))
    path = save(graph(), tmp_path)
    whole = path.read_bytes()
    for rubbish in (whole[: len(whole) // 2], b"\x08" + bytes(100), b"\x08\x09" + bytes(range(256))):
        path.write_bytes(rubbish)
        with pytest.raises(DataError):
            open_model(path)
    path.write_bytes(whole)
    monkeypatch.setattr(onnx_files, "LARGEST_FILE", 100)
    with pytest.raises(DataError, match="more than 100"):
        open_model(path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'fairaudit\[onnx\]'"):
        open_model(path)


def test_nested_graphs_are_looked_through(tmp_path: Path) -> None:
    """A constant inside a branch of an If is as foreign as any."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["x"], value=external("../secret"))], "inner", [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    )  # fmt: skip
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(DataError, match="outside the model's own folder"):
        open_model(save(graph(extra=(node,), more=(yes,)), tmp_path))


def test_damaged_files_end_in_a_sentence(tmp_path: Path) -> None:
    """Bytes changed, lost or added anywhere in any kind of file: refused in words or read, nothing else."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    save_file(network.state_dict(), tmp_path / "s.safetensors")
    torch.save(network.state_dict(), tmp_path / "zip.pt")
    torch.save(network.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save(graph(), tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in ("s.safetensors", "zip.pt", "old.pt", "a.onnx")}
    rng = np.random.default_rng(0)
    refused = 0
    for turn in range(400):
        name = list(whole)[turn % 4]
        data = bytearray(whole[name])
        for _ in range(int(rng.integers(1, 6))):
            place, kind = int(rng.integers(len(data))), int(rng.integers(3))
            if kind == 0:
                data[place] = int(rng.integers(256))
            elif kind == 1:
                del data[place : place + int(rng.integers(1, 30))]
            else:
                data[place:place] = rng.bytes(3)
        (tmp_path / name).write_bytes(data)
        for opened in (open_model,) if name == "a.onnx" else (open_model, read_weights):
            try:
                opened(tmp_path / name)
            except FairauditError:
                refused += 1
    assert refused > 300


def agreement(shared: Path, preset: str, out: Path, count: int) -> tuple[float, np.ndarray]:
    """Return the share of equal labels and the differences of probabilities between us and the table's maker."""
    model_file = shared / "weights" / "external" / "gender-v1.onnx"
    table = shared / "tables" / "dlibonnx_on_fairface_val.csv"
    if not model_file.exists() or not table.exists():
        pytest.skip("needs gender-v1.onnx and its outputs in ../shared, which are not there")
    theirs = pd.read_csv(table).set_index("file")
    labels = pd.read_csv(shared / "faces" / "fairface" / "fairface_label_val.csv").head(count)
    gender = pd.Categorical(labels["gender"], categories=["Male", "Female"])
    frame = pd.DataFrame({"image": labels["file"], "gender": gender})
    root = shared / "faces" / "fairface"
    faces = FaceTable(frame=frame, root=root, tasks={"gender": ("Male", "Female")}, attributes=())
    ours = read_predictions(predict(open_model(model_file, preset), faces, out / "p.parquet")).frame
    known = theirs.loc[ours["image"].astype(str)]
    equal = float((ours["gender_pred"].astype(str).to_numpy() == known["pred_gender"].to_numpy()).mean())
    return equal, np.abs(ours["gender_prob_Male"].to_numpy(dtype=float) - known["p_male"].to_numpy())


def test_gender_v1_on_whole_pictures(shared: Path, tmp_path: Path) -> None:
    """Without dlib's alignment: the same label for nine of ten faces."""
    equal, difference = agreement(shared, "gender-v1", tmp_path, 300)
    assert equal > 0.9
    assert np.median(difference) < 0.02


def test_gender_v1_on_dlibs_chips(shared: Path, tmp_path: Path) -> None:
    """On the chips that the table was made from: every label and every probability."""
    pytest.importorskip("dlib", reason="needs fairaudit[dlib]")
    try:
        equal, difference = agreement(shared, "gender-v1-chips", tmp_path, 300)
    except UsageError as error:
        pytest.skip(f"needs dlib's landmarks file: {error}")
    assert equal == 1
    assert difference.max() < 1e-5


def test_a_network_of_bytes_gets_bytes(tmp_path: Path) -> None:
    """Values in 0…1 would all be cut down to 0: the description must leave bytes as they are."""
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("GlobalAveragePool", ["f"], ["y"])]
    ends = [
        [helper.make_tensor_value_info(name, kind, shape)]
        for name, kind, shape in (
            ("x", TensorProto.UINT8, ["n", 3, SIZE, SIZE]),
            ("y", TensorProto.FLOAT, ["n", 3, 1, 1]),
        )
    ]
    made = helper.make_graph(nodes, "g", *ends)
    path = tmp_path / "m.onnx"
    path.write_bytes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    )
    task = "[tasks.race]\nclasses = ['A', 'B', 'C']\n"
    (tmp_path / "model.toml").write_text(f"[input]\nsize = {SIZE}\n{task}")
    with pytest.raises(UsageError, match=r"takes bytes.*divide_by = 1"):
        open_model(path)
    (tmp_path / "model.toml").write_text(f"[input]\nsize = {SIZE}\ndivide_by = 1\n{task}")
    assert open_model(path).classes == {"race": ("A", "B", "C")}


def test_full_memory_of_onnxruntime_is_full_memory() -> None:
    """So that a smaller batch is tried, as with every other model."""

    class Full:
        def run(self, *_: object) -> None:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9")

    runner = onnx_files.OnnxRunner(session=Full(), input="x", numpy_type="float32", outputs=("y",))
    with pytest.raises(MemoryError):
        runner.on(torch.device("cpu"), torch.float32)(torch.zeros(1, 3, 8, 8))
