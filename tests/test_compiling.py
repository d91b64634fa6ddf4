"""torch.compile: the same answers, one compilation, nothing renamed, and plain work where it fails."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from tiny_faces import make_faces, make_spec, small_weights
from torch._dynamo.backends.common import aot_autograd
from typer.testing import CliRunner

from fairaudit.cli import app
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import FairauditError, UsageError
from fairaudit.models import compiling, loop, training
from fairaudit.models.backbones import build_backbone
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import Compiled, CompiledBlocks, why_not
from fairaudit.models.inference import predict
from fairaudit.models.training import train
from fairaudit.spec import HeadSpec, ModelSpec

torch.set_num_threads(1)
CPU = torch.device("cpu")
PRETRAINED = {"model__weights": "small.pt", "model__trainable_blocks": 2, "training__head_epochs": 1}
Graph = Callable[..., Any]


class KilledError(Exception):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures, split."""
    return make_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def checkpoint(faces: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network that tells the classes apart."""
    return train(
        faces, make_spec(training__epochs=30, training__patience=30), tmp_path_factory.mktemp("checkpoint") / "c"
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights that make small_cnn a pretrained backbone."""
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compile for nothing, and keep how many operations each graph had that was to be compiled."""
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Graph:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    return graphs


def whole_networks(graphs: list[int]) -> int:
    """Return how many of the graphs were more than the trial on three numbers."""
    return sum(nodes > 6 for nodes in graphs)


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Return whether two models are equal to the last bit."""
    one, two = a.model.state_dict(), b.model.state_dict()
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("scratch", [True, False])
def test_training_gives_the_model_of_plain_steps(
    faces: FaceTable, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: bool
) -> None:
    """Losses and weights agree to float32's rounding, names in the checkpoint are the same, and it is said."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    changes: dict[str, object] = {"model__dropout": 0.0, **({} if scratch else PRETRAINED)}
    plain, compiled = (
        train(faces, make_spec(**changes, training__compile=on), tmp_path / str(on), weights_folders=(weights,))
        for on in (False, True)
    )
    assert [made.meta["speed"]["compiled"] for made in (plain, compiled)] == [False, True]
    for column in ("train_loss", "val_loss"):
        np.testing.assert_allclose(compiled.history[column], plain.history[column], rtol=1e-4)
    one, two = plain.model.state_dict(), compiled.model.state_dict()
    assert list(one) == list(two)
    for name, values in one.items():  # weights whose gradient is next to nothing may differ: Adam moves by its sign
        np.testing.assert_allclose(two[name], values, atol=2e-3, err_msg=name)


def test_all_epochs_are_compiled_once(faces: FaceTable, tmp_path: Path, counted: list[int]) -> None:
    """Blended or not, whatever epoch, and validated in between on fewer faces: one compilation."""
    changes = {"training__mixup": 0.4, "training__cutmix": 1.0, "training__epochs": 4, "training__patience": 9}
    made = train(faces, make_spec(training__compile=True, **changes), tmp_path / "c")
    assert len(made.history) == 4
    assert whole_networks(counted) == 1


def test_a_stopped_training_goes_on_and_does_not_mix(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill the model is that of a training nobody stopped; uncompiled epochs are not gone on with."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    on = make_spec(training__epochs=3, training__patience=9, training__compile=True)
    off = make_spec(training__epochs=3, training__patience=9)

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if (stage, done) == ("train all", 2):
            raise KilledError

    whole = train(faces, on, tmp_path / "whole")
    for name, first, notes in (("on", on, "continued after epoch 2"), ("off", off, "was discarded")):
        with pytest.raises(KilledError):
            train(faces, first, tmp_path / name, progress=kill)
        made = train(faces, on, tmp_path / name)
        assert same(made, whole)
        assert any(notes in note for note in made.meta["notes"])


def failing_forward(graph: torch.fx.GraphModule, inputs: list[Any]) -> Graph:
    """Compile the trial, and nothing larger."""
    if len(graph.graph.nodes) > 6:
        raise ValueError("no kernel for this\nand more about it")
    return graph.forward


def _no_backward(graph: torch.fx.GraphModule, inputs: list[Any]) -> Graph:
    raise ValueError("no kernel for this gradient")


failing_backward = aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=_no_backward)


def failing_always(graph: torch.fx.GraphModule, inputs: list[Any]) -> Graph:
    """Stands for a machine without a C++ compiler."""
    raise RuntimeError("No working C++ compiler found")


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (failing_forward, "a compiled step failed in stage all, epoch 1 .*no kernel for this.*runs uncompiled"),
        (failing_backward, "a compiled step failed in stage all, epoch 1 .*no kernel for this gradient"),
        (failing_always, "nothing can be compiled here .*No working C"),
    ],
)
def test_training_goes_on_where_compiling_fails(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Graph, words: str
) -> None:
    """Forward, backward, or no compiler at all: said once, and the model is that of plain steps, to the last bit."""
    plain = train(faces, make_spec(), tmp_path / "plain")
    monkeypatch.setattr(compiling, "BACKEND", backend)
    said: list[str] = []
    made = train(
        faces, make_spec(training__compile=True), tmp_path / "c",
        progress=lambda stage, done, total, note="": said.append(note),
    )  # fmt: skip
    assert same(made, plain)
    assert not made.meta["speed"]["compiled"]
    for found in (made.meta["notes"], said):
        assert sum(bool(pd.Series([note]).str.contains(words).all()) for note in found) == 1
    assert not any("\n" in note for note in made.meta["notes"])


def test_several_processes_take_one_way(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    """Where another process cannot compile, none does; where a step fails later, training ends in words."""

    def wrong(*args: object) -> float:
        raise ValueError("no kernel for this")

    spec = make_spec(training__compile=True)
    with monkeypatch.context() as patch:
        patch.setattr(training, "team", lambda: SimpleNamespace(total=float))
        assert training._compiling(spec, CPU) == (True, [])
        patch.setattr(training, "team", lambda: SimpleNamespace(total=lambda own: float(own) + 1))
        on, notes = training._compiling(spec, CPU)
    assert not on and "in another process" in notes[0]
    monkeypatch.setattr(loop, "_epoch", wrong)
    monkeypatch.setattr(loop, "team", lambda: SimpleNamespace(size=2))
    with pytest.raises(FairauditError, match=r"no kernel for this.*give training\.compile = false"):
        train(faces, spec, tmp_path / "c")


def test_another_error_comes_again_and_is_raised(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    """What is not the compiler's fault ends as it does without."""

    def wrong(*args: object) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("fairaudit.models.loop.loss_of", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(faces, make_spec(training__compile=True), tmp_path / "c")


def test_heads_alone_are_not_compiled(faces: FaceTable, weights: Path, tmp_path: Path, counted: list[int]) -> None:
    """Where nothing but heads on embeddings is trained, that compiling has nothing to do is said."""
    spec = make_spec(**{**PRETRAINED, "model__trainable_blocks": 0}, training__compile=True)
    made = train(faces, spec, tmp_path / "c", weights_folders=(weights,))
    assert any("nothing is compiled" in note for note in made.meta["notes"])
    assert not made.meta["speed"]["compiled"]
    assert whole_networks(counted) == 0


@pytest.mark.parametrize("backend", ["counted", "aot_eager"])
@pytest.mark.parametrize("flip", [False, True])
def test_prediction_gives_the_rows_of_the_plain_network(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int],
    backend: str, flip: bool,
) -> None:  # fmt: skip
    """60 faces in batches of 16, the last one of 12, seen from both sides: the same classes, compiled once, and the
    table says how many faces were asked both ways.
    """
    if backend == "aot_eager":
        monkeypatch.setattr(compiling, "BACKEND", backend)
    plain = read_predictions(predict(checkpoint, faces, tmp_path / "plain.parquet", flip_test=flip))
    said: list[str] = []
    out = predict(
        checkpoint, faces, tmp_path / "compiled.parquet", flip_test=flip, batch_size=16, compile=True,
        progress=lambda stage, done, total, note="": said.append(note),
    )  # fmt: skip
    read = read_predictions(out)
    for task, classes in faces.tasks.items():
        columns = [f"{task}_prob_{name}" for name in classes]
        np.testing.assert_allclose(read.frame[columns], plain.frame[columns], atol=1e-5)
        assert list(read.frame[f"{task}_pred"]) == list(plain.frame[f"{task}_pred"])
        assert f"compiling changes the predicted {task} of 0 of 60 faces asked uncompiled" in "\n".join(said)
    assert (read.meta["compile"], read.meta["compiled"]) == (True, True)
    assert (plain.meta["compile"], plain.meta["compiled"]) == (False, False)
    assert read.meta["precision_check"] == {"faces": 60, "flipped": {"gender": 0, "race": 0}}
    if backend == "counted":
        assert whole_networks(counted) == 1


def test_flips_of_a_network_that_was_compiled_wrongly_are_counted(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that makes another network of it is found out, on the sample and in the table."""

    def turned(graph: torch.fx.GraphModule, inputs: list[Any]) -> Graph:
        return lambda *values: tuple(-value for value in graph.forward(*values))

    monkeypatch.setattr(compiling, "BACKEND", turned)
    plain = read_predictions(predict(checkpoint, faces, tmp_path / "plain.parquet")).frame
    read = read_predictions(predict(checkpoint, faces, tmp_path / "turned.parquet", compile=True))
    for task in faces.tasks:
        changed = int((read.frame[f"{task}_pred"].astype(str) != plain[f"{task}_pred"].astype(str)).sum())
        assert read.meta["precision_check"]["flipped"][task] == changed
    assert sum(read.meta["precision_check"]["flipped"].values()) > 0


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (failing_forward, "compiling the network failed .*no kernel for this.*runs uncompiled"),
        (failing_always, "nothing can be compiled here .*No working C.*runs uncompiled"),
    ],
)
def test_prediction_goes_on_where_compiling_fails(
    checkpoint: Checkpoint,
    faces: FaceTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: Graph,
    words: str,
) -> None:
    """Said once, and the rows are those of the plain network, bit for bit."""
    plain = pq.read_table(predict(checkpoint, faces, tmp_path / "plain.parquet"))
    monkeypatch.setattr(compiling, "BACKEND", backend)
    out = predict(checkpoint, faces, tmp_path / "c.parquet", compile=True)
    assert pq.read_table(out).replace_schema_metadata().equals(plain.replace_schema_metadata())
    meta = read_predictions(out).meta
    assert (meta["compile"], meta["compiled"]) == (True, False)
    assert sum(bool(pd.Series([note]).str.contains(words).all()) for note in meta["notes"]) == 1


def test_full_memory_in_the_compiled_network_halves_the_batch(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain network goes on with fewer faces at once; every row is there."""

    def full(*values: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    backend = lambda graph, inputs: full if len(graph.graph.nodes) > 6 else graph.forward  # noqa: E731
    monkeypatch.setattr(compiling, "BACKEND", backend)
    plain = read_predictions(predict(checkpoint, faces, tmp_path / "plain.parquet")).frame
    read = read_predictions(predict(checkpoint, faces, tmp_path / "c.parquet", compile=True))
    pd.testing.assert_frame_equal(read.frame, plain)
    notes = "\n".join(read.meta["notes"])
    assert "memory ran out in the compiled network: the network runs uncompiled" in notes
    assert "went on with 16" in notes


def test_only_our_networks_are_compiled(faces: FaceTable, tmp_path: Path, counted: list[int]) -> None:
    """Forests and strangers' models refuse the option in words, before any work."""
    (tmp_path / "mine.py").write_text(
        "def ask(pixels):\n    return {'gender': [[0.5, 0.5]] * len(pixels)}\n", encoding="utf-8"
    )
    forest = make_spec(model={"backbone": "pca-random-forest", "image_size": 32}, training={"device": "cpu"})
    with pytest.raises(UsageError, match="for networks that `fairaudit train` trained"):
        predict(train(faces, forest, tmp_path / "forest"), faces, tmp_path / "p.parquet", compile=True)
    with pytest.raises(UsageError, match=r"no network and heeds no training\.compile"):
        train(
            faces, make_spec(model={"backbone": "pca-random-forest"}, training={"compile": True}), tmp_path / "f"
        )  # fmt: skip
    assert not counted


@pytest.mark.parametrize("backbone", ["small_cnn", "simple_cnn", "mobilenet_v2", "mobilefacenet", "resnet18"])
def test_every_kind_of_network_and_head_is_one_graph(backbone: str, counted: list[int]) -> None:
    """Training steps in bfloat16 and networks for prediction compile whole, with every kind of head."""
    why_not(CPU)
    spec = ModelSpec(backbone=backbone, weights="none", image_size=112 if backbone == "mobilefacenet" else 64)
    classes = {"gender": ("Male", "Female"), "age": ("0-9", "10-19", "20-29"), "race": ("A", "B", "C")}
    heads = {"age": HeadSpec(kind="coral", years="l1"), "race": HeadSpec(kind="cumulative", hidden=(8,))}
    model = FaceClassifier(build_backbone(spec), classes, heads=heads, trainable=2)
    x = model.prepare(torch.randint(0, 256, (4, model.image_size, model.image_size, 3), dtype=torch.uint8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Compiled(model.train().forward)(x)
        sum(values.sum() for values in found.values()).backward()
    assert list(found) == ["gender", "age", "race", "age_years"]
    with torch.inference_mode():
        blocks = CompiledBlocks(model.eval().blocks, 4)
        torch.testing.assert_close(blocks(x), model.blocks(x))
    assert blocks.on and not blocks.notes
    assert whole_networks(counted) == 2


def test_the_command_takes_the_option(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`predict --compile` compiles, and a part done without is done again with it."""
    faces.frame.drop(columns=["sha256", "split", "trainable"]).to_csv(faces.root / "manifest.csv", index=False)
    (tmp_path / "spec.toml").write_text(
        'name = "m"\n[data]\ndataset = "manifest"\nmanifest = "manifest.csv"\n', encoding="utf-8"
    )
    call = ["predict", str(checkpoint.folder), "--data", str(faces.root), "--spec", str(tmp_path / "spec.toml"),
            "--split", "all", "--shard", "1/2", "--out", str(tmp_path / "parts")]  # fmt: skip
    for options, networks in (([], 0), (["--compile"], 1), (["--compile"], 1)):
        done = CliRunner().invoke(app, [*call, *options])
        assert done.exit_code == 0, done.output
        assert whole_networks(counted) == networks
    assert "done before" in done.output


SCRIPT = """
import torch
from fairaudit.models.compiling import why_not
print(why_not(torch.device("cpu")))
"""


@pytest.mark.slow
def test_a_machine_without_a_compiler_says_so(tmp_path: Path) -> None:
    """torch's own compiler, asked where no C++ compiler is, is told apart by a sentence."""
    environment = {**os.environ, "CXX": "/nonexistent/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "ompiler" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_torchs_own_compiler_agrees(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """Real kernels: training agrees with plain steps to rounding, and repeats itself bit for bit; classes are equal."""
    if why := why_not(CPU):
        pytest.skip(f"torch cannot compile here: {why}")
    plain, *compiled = (
        train(faces, make_spec(model__dropout=0.0, training__compile=on), tmp_path / name)
        for name, on in (("plain", False), ("one", True), ("two", True))
    )
    assert compiled[0].meta["speed"]["compiled"]
    assert same(*compiled)
    np.testing.assert_allclose(compiled[0].history["train_loss"], plain.history["train_loss"], rtol=1e-3)
    eager = read_predictions(predict(plain, faces, tmp_path / "e.parquet")).frame
    read = read_predictions(predict(plain, faces, tmp_path / "c.parquet", compile=True))
    assert read.meta["compiled"]
    for task, classes in faces.tasks.items():
        columns = [f"{task}_prob_{name}" for name in classes]
        np.testing.assert_allclose(read.frame[columns], eager[columns], atol=1e-4)
        assert list(read.frame[f"{task}_pred"]) == list(eager[f"{task}_pred"])
