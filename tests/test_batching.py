"""Batches: sizes are tried and change nothing, memory that runs out halves them, a reduced precision is counted."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from tiny_faces import make_faces, make_spec

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import FairauditError
from fairaudit.models import reading
from fairaudit.models.backbones import build_backbone
from fairaudit.models.batching import TRIALS, Batching
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.inference import predict
from fairaudit.models.runtime import Clock, flow
from fairaudit.models.training import train
from fairaudit.spec import ModelSpec

CPU = torch.device("cpu")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures, split."""
    return make_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def checkpoint(faces: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network trained for one epoch."""
    return train(faces, make_spec(training__epochs=1), tmp_path_factory.mktemp("checkpoint") / "c")


def doubled(pixels: torch.Tensor) -> dict[str, np.ndarray]:
    """A model that says 2x."""
    return {"x": 2 * pixels.numpy()}


def test_the_fastest_size_is_used_for_the_rest() -> None:
    """Each size is tried; then the one with the least time a face stays, whatever it is."""
    batching = Batching(CPU)
    cost = {16: 3.0, 32: 1.0, 64: 2.0}
    now = [0.0]
    batching._clock = lambda: now[0]

    def forward(pixels: torch.Tensor) -> dict[str, np.ndarray]:
        now[0] += cost.get(len(pixels), 1.0) * len(pixels)
        return doubled(pixels)

    rows = []
    for part in batching.slices(1000):
        batching.run(forward, torch.zeros(part.stop - part.start, 1))
        rows += range(part.start, part.stop)
        if part.stop >= TRIALS * sum(cost) and part.stop < 1000:
            assert batching.size == 32
    assert rows == list(range(1000))
    assert batching.describe()["batch_sizes_tried"] == {"16": 1 / 3, "32": 1.0, "64": 0.5}
    assert Batching(CPU, 7).describe() == {"batch_size": 7, "batch_sizes_tried": {}}


def test_memory_that_runs_out_halves_the_batch() -> None:
    """The answers are those of whole batches, later batches are as small as was needed, and a note says so."""
    seen = []

    def forward(pixels: torch.Tensor) -> dict[str, np.ndarray]:
        seen.append(len(pixels))
        if len(pixels) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return doubled(pixels)

    batching = Batching(CPU, 64)
    answers = [batching.run(forward, torch.arange(part.start, part.stop)) for part in batching.slices(200)]
    np.testing.assert_array_equal(np.concatenate([answer["x"] for answer in answers]), 2 * np.arange(200))
    assert batching.size == 8 and seen[-17:] == [8] * 17
    assert batching.notes == [
        "memory ran out with 64 faces at once: went on with 32",
        "memory ran out with 32 faces at once: went on with 16",
        "memory ran out with 16 faces at once: went on with 8",
    ]


def test_memory_for_not_even_one_face_ends_plainly() -> None:
    """There is nothing left to halve; other errors are nobody's memory."""

    def forward(pixels: torch.Tensor) -> dict[str, np.ndarray]:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(FairauditError, match="a single face"):
        Batching(CPU).run(forward, torch.zeros(5, 1))
    with pytest.raises(ZeroDivisionError):
        Batching(CPU).run(lambda pixels: 1 // 0, torch.zeros(5, 1))


@pytest.mark.parametrize("backbone", ["small_cnn", "mobilefacenet", "mobilenet_v2"])
def test_no_batch_size_shows_in_the_answers(backbone: str) -> None:
    """Bit by bit the same probabilities, alone, in any batch and at any place in it."""
    torch.manual_seed(0)
    spec = ModelSpec(backbone=backbone, weights="none", image_size=64)
    model = FaceClassifier(build_backbone(spec), {"a": ("x", "y"), "b": tuple("pqrst")}).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    forward = Checkpoint(folder=Path(), model=model, meta={}, history=pd.DataFrame()).on(CPU, torch.float32, flip=False)
    pixels = torch.randint(0, 256, (45, 64, 64, 3), dtype=torch.uint8)
    whole = forward(pixels)
    for size in (1, 2, 7, 16, 32):
        parts = [forward(pixels[start : start + size]) for start in range(0, 45, size)]
        for task, probs in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[task] for part in parts]), probs)


def test_predictions_do_not_depend_on_the_size(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """Tried or given, the table is the same; the file says which size it was."""
    tables = {}
    for size in (None, 1, 13):
        read = read_predictions(predict(checkpoint, faces, tmp_path / f"{size}.parquet", batch_size=size))
        tables[size] = read.frame
        assert read.meta["batch_size"] == (size or read.meta["batch_size"])
        assert read.meta["precision_check"] is None and read.meta["notes"] == []
    pd.testing.assert_frame_equal(tables[None], tables[1])
    pd.testing.assert_frame_equal(tables[None], tables[13])


def test_a_reduced_precision_is_counted(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """bf16 says on how many faces it was compared with float32, and the count is that of the two tables."""
    said: list[str] = []
    full = read_predictions(predict(checkpoint, faces, tmp_path / "a.parquet")).frame
    read = read_predictions(
        predict(
            checkpoint, faces, tmp_path / "b.parquet", precision="bf16", progress=lambda *a: said.append(str(a[-1]))
        )
    )
    check = read.meta["precision_check"]
    assert check["faces"] == len(faces)
    for task in checkpoint.classes:
        changed = int((read.frame[f"{task}_pred"].astype(str) != full[f"{task}_pred"].astype(str)).sum())
        assert check["flipped"][task] == changed
        assert any(f"the predicted {task} of {changed} of 60 faces" in note for note in said)
    assert len(read.meta["notes"]) == len(checkpoint.classes)


def test_the_cache_gives_the_same_predictions(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time no image is decoded, and the table is the same; without a cache, too."""
    plain = read_predictions(predict(checkpoint, faces, tmp_path / "a.parquet")).frame
    first = read_predictions(predict(checkpoint, faces, tmp_path / "b.parquet", cache=tmp_path / "cache")).frame
    for where, name in ((Checkpoint, "read"), (reading, "load_faces")):
        monkeypatch.setattr(where, name, lambda *a: pytest.fail("an image was decoded"))
    again = read_predictions(predict(checkpoint, faces, tmp_path / "c.parquet", cache=tmp_path / "cache")).frame
    pd.testing.assert_frame_equal(first, plain)
    pd.testing.assert_frame_equal(again, plain)


def test_changed_faces_are_decoded_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The cache is keyed by what the files hold, not by their names."""
    first, second = make_faces(tmp_path / "a"), make_faces(tmp_path / "b", size=48)
    for faces in (first, second):
        predict(checkpoint, faces, tmp_path / "x.parquet", cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("faces-*.bin"))) == 2


def test_a_cache_that_cannot_be_had_is_done_without(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable image, a file in the folder's place, too little room: the note says why, the answers are there."""
    faces = make_faces(tmp_path / "faces")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "faces" / "pictures" / "007.png").write_bytes(b"")
    for folder, why in (("cache", "007.png"), ("file", "file")):
        read = read_predictions(predict(checkpoint, faces, tmp_path / "x.parquet", cache=tmp_path / folder))
        assert read.meta["failed"] == 1 and why in read.meta["notes"][0]
    monkeypatch.setattr(reading, "MOST_KEPT", 1000)
    faces = make_faces(tmp_path / "faces")
    read = read_predictions(predict(checkpoint, faces, tmp_path / "x.parquet", cache=tmp_path / "cache"))
    assert read.meta["failed"] == 0 and "more than a cache may hold" in read.meta["notes"][0]
    assert not list((tmp_path / "cache").glob("*"))


def test_a_device_is_kept_busy() -> None:
    """Off the CPU loaders are added while the device waits, results keep their order, and waiting is measured."""
    device, clock, at_once, most = torch.device("meta"), Clock(), [0], [0]
    lock = threading.Lock()

    def load(item: int) -> int:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        return item

    assert list(flow(load, lambda item: 2 * item, range(30), device, clock)) == [2 * item for item in range(30)]
    assert clock.loaders == most[0] > 1
    assert clock.waiting > 0.1
    idle, clock = clock.waiting, Clock()

    def compute(item: int) -> int:
        time.sleep(0.02)
        return item

    assert list(flow(lambda item: item, compute, range(30), device, clock)) == list(range(30))
    assert clock.waiting < idle


def test_no_faces_at_all(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """Without faces nothing is tried and nothing divided by zero, in any precision, with a cache or without."""
    empty = replace(faces, frame=faces.frame[:0])
    path = predict(checkpoint, empty, tmp_path / "x.parquet", precision="bf16", cache=tmp_path / "cache")
    assert pq.read_table(path).num_rows == 0
