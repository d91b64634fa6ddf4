"""Prediction: the same numbers as a plain loop, in the public format, whole or not at all."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy import ndimage
from tiny_faces import make_faces, make_spec

from fairaudit.data.predictions import read_predictions
from fairaudit.data.quality import QUALITY
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models import inference, reading
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.inference import predict
from fairaudit.models.pixels import load_face
from fairaudit.models.training import train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures, split."""
    return make_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def checkpoint(faces: FaceTable, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network trained for one epoch."""
    return train(faces, make_spec(training__epochs=1), tmp_path_factory.mktemp("checkpoint") / "c")


def plain_loop(checkpoint: Checkpoint, faces: FaceTable, flip: bool) -> dict[str, np.ndarray]:
    """Return probabilities by the plainest loop there is: one image at a time, nothing folded."""
    made: dict[str, list[np.ndarray]] = {task: [] for task in checkpoint.classes}
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for name in faces.frame["image"]:
        pixels = (load_face(faces.root / name, 32) / 255 - mean) / std
        x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float()
        with torch.no_grad():
            views = [checkpoint.model(x), *([checkpoint.model(x.flip(3))] if flip else [])]
        for task in made:
            made[task].append(np.mean([view[task].softmax(1)[0].numpy() for view in views], axis=0))
    return {task: np.array(rows) for task, rows in made.items()}


@pytest.mark.parametrize("flip", [False, True])
def test_equals_a_plain_loop(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, flip: bool) -> None:
    """Folded, batched and read ahead, probabilities agree with a loop over single images to 1e-5."""
    out = predict(checkpoint, faces, tmp_path / "p.parquet", batch_size=7, flip_test=flip)
    frame = read_predictions(out).frame
    wanted = plain_loop(checkpoint, faces, flip)
    assert list(frame["image"]) == list(faces.frame["image"])
    for task, classes in checkpoint.classes.items():
        got = frame[[f"{task}_prob_{name}" for name in classes]].to_numpy()
        np.testing.assert_allclose(got, wanted[task], atol=1e-5)
        assert list(frame[f"{task}_pred"].astype(str)) == [classes[i] for i in wanted[task].argmax(1)]


def test_a_face_is_looked_at_in_other_sizes(checkpoint: Checkpoint) -> None:
    """With zoom_test probabilities are the mean over every size and both sides, the sizes as torch's own sampling."""

    def zoomed(x: torch.Tensor, zoom: float) -> torch.Tensor:
        grid = torch.nn.functional.affine_grid(
            torch.eye(2, 3).expand(len(x), 2, 3) / zoom, list(x.shape), align_corners=False
        )
        return torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    zooms = [1.1, 1.5]  # larger only: torch's sampling does not smooth what it makes smaller
    pixels = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = copy.deepcopy(checkpoint.model)
    norm = next(part for part in model.shared if isinstance(part, torch.nn.BatchNorm1d))
    norm.momentum = 1.0  # after one epoch answers hardly depend on the face; normed on these, they do
    with torch.no_grad():
        norm.train()
        model(model.prepare(pixels))
        model.eval()
    plain = replace(checkpoint, model=model)
    looking = replace(plain, meta={**checkpoint.meta, "zoom_test": zooms})
    got = looking.on(torch.device("cpu"), torch.float32, flip=True)(pixels)
    with torch.no_grad():
        x = model.prepare(pixels)
        views = [side for size in (x, *(zoomed(x, zoom) for zoom in zooms)) for side in (size, size.flip(3))]
        each = [model(view) for view in views]
    for task in checkpoint.classes:
        wanted = torch.stack([one[task].softmax(1) for one in each]).mean(0).numpy()
        np.testing.assert_allclose(got[task], wanted, atol=1e-5)
    once = plain.on(torch.device("cpu"), torch.float32, flip=True)(pixels)
    assert any(np.abs(once[task] - got[task]).max() > 1e-3 for task in checkpoint.classes)


def test_the_public_format(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns, classes in order, attributes, and what the file says of model and data; also over several row groups."""
    monkeypatch.setattr(inference, "ROW_GROUP", 10)
    frame = faces.frame.assign(subject_id=np.arange(len(faces)) // 2, weight=2.0)
    table = replace(faces, frame=frame)
    read = read_predictions(predict(checkpoint, table, tmp_path / "p.parquet", batch_size=5))
    assert read.tasks == faces.tasks
    assert list(read.tasks) == list(faces.tasks)
    assert set(read.attributes) == {"gender", "race", "hair"}
    assert list(read.frame["race"].cat.categories) == ["A", "B", "C"]
    for name in ("race", "gender", "hair"):
        assert list(read.frame[name].astype(str)) == list(faces.frame[name].astype(str))
    assert list(read.frame["race_true"].astype(str)) == list(faces.frame["race"].astype(str))
    assert list(read.frame["subject_id"].astype(str)) == [str(index // 2) for index in range(len(faces))]
    assert (read.frame["weight"] == 2.0).all()
    assert read.label_source == "drawn"
    assert read.meta["checkpoint_hash"] == checkpoint.hash
    assert read.meta["seen"] == {part: len(names) for part, names in checkpoint.trained_on.items()}
    assert read.meta["seen_in_training"] == sum(read.meta["seen"].values())
    assert read.meta["images_per_second"] > 0
    assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups > 1


def test_pictures_are_measured_as_the_model_sees_them(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """Brightness, contrast and sharpness are the last columns, no axes, and equal scipy's on the resized picture; an
    attribute of the same name stays the user's.
    """
    path = predict(checkpoint, faces, tmp_path / "p.parquet")
    assert pq.read_schema(path).names[-3:] == list(QUALITY)
    read = read_predictions(path)
    assert not set(QUALITY) & set(read.attributes)
    for row in (0, 7):
        luma = load_face(faces.root / faces.frame["image"][row], 32) @ np.array([0.299, 0.587, 0.114]) / 255
        edges = ndimage.laplace(luma)[1:-1, 1:-1]
        np.testing.assert_allclose(
            read.frame.loc[row, list(QUALITY)].astype(float), [luma.mean(), luma.std(), edges.var()], rtol=1e-4
        )
    own = replace(faces, frame=faces.frame.assign(brightness="dim"), attributes=("hair", "brightness"))
    read = read_predictions(predict(checkpoint, own, tmp_path / "own.parquet"))
    assert "brightness" in read.attributes and set(read.frame["brightness"]) == {"dim"}


def test_images_that_cannot_be_read_fail_alone(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """A missing or broken file is "failed" with an empty prediction and a finding; its neighbours are as before."""
    table = make_faces(tmp_path / "faces")
    whole = read_predictions(predict(checkpoint, table, tmp_path / "a.parquet")).frame
    (tmp_path / "faces" / "pictures" / "003.png").unlink()
    (tmp_path / "faces" / "pictures" / "005.png").write_bytes(b"")
    read = read_predictions(predict(checkpoint, table, tmp_path / "b.parquet"))
    bad = read.frame.index.isin([3, 5])
    assert list(read.frame["gender_status"]) == np.where(bad, "failed", "ok").tolist()
    assert read.frame["race_pred"].isna().tolist() == bad.tolist()
    assert read.frame["race_prob_A"].isna().tolist() == bad.tolist()
    assert read.frame["sharpness"].isna().tolist() == bad.tolist()
    pd.testing.assert_frame_equal(read.frame[~bad], whole[~bad])
    assert list(read.findings["image"]) == ["pictures/003.png", "pictures/005.png"]
    assert read.meta["failed"] == 2


def test_other_classes_are_refused_before_any_image(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes that are not the checkpoint's are named, both of them, and nothing is read or written."""
    for where, name in ((Checkpoint, "read"), (reading, "load_faces")):
        monkeypatch.setattr(where, name, lambda *a: pytest.fail("an image was read"))
    frame = faces.frame.assign(race=faces.frame["race"].cat.rename_categories({"A": "X"}))
    table = replace(faces, frame=frame, tasks={**faces.tasks, "race": ("X", "B", "C")})
    with pytest.raises(DataError, match=r"'race' knows the classes A, B, C.*X, B, C"):
        predict(checkpoint, table, tmp_path / "p.parquet")
    assert list(tmp_path.iterdir()) == []


def test_tasks_that_the_data_lack_are_predicted_all_the_same(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path
) -> None:
    """Without labels there is no `_true` column, but a prediction."""
    table = replace(faces, frame=faces.frame.drop(columns="race"), tasks={"gender": faces.tasks["gender"]})
    read = read_predictions(predict(checkpoint, table, tmp_path / "p.parquet"))
    assert "race_true" not in read.frame
    assert read.frame["race_pred"].notna().all()


def test_masked_labels_stay_empty(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """A missing label is missing in `_true` and in the attribute."""
    frame = faces.frame.copy()
    frame.loc[2, "race"] = None
    read = read_predictions(predict(checkpoint, replace(faces, frame=frame), tmp_path / "p.parquet"))
    assert read.frame["race_true"].isna().tolist() == [index == 2 for index in range(len(faces))]
    assert read.frame["race_pred"].notna().all()


def test_an_interrupt_leaves_nothing(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """Ctrl-C in the middle leaves neither a file nor a temporary one."""

    def interrupt(stage: str, done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(checkpoint, faces, tmp_path / "p.parquet", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_no_faces_give_an_empty_table(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """A split without faces becomes a table without rows, with all its columns."""
    empty = replace(faces, frame=faces.frame[:0])
    table = pq.read_table(predict(checkpoint, empty, tmp_path / "p.parquet"))
    assert table.num_rows == 0
    assert "race_prob_A" in table.column_names


def test_bf16_on_request(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """Reduced precision stays near the full one, and the file says which it was."""
    full = read_predictions(predict(checkpoint, faces, tmp_path / "a.parquet")).frame
    read = read_predictions(predict(checkpoint, faces, tmp_path / "b.parquet", precision="bf16"))
    np.testing.assert_allclose(read.frame["race_prob_A"], full["race_prob_A"], atol=0.05)
    assert read.meta["precision"] == "bf16"
    with pytest.raises(UsageError, match="precision"):
        predict(checkpoint, faces, tmp_path / "c.parquet", precision="fp8")
