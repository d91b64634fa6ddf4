"""Predictions that were stopped go on: the same rows as those of a call that nobody stopped, or predicted again."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from test_killed import fairaudit
from tiny_faces import make_faces, make_spec
from typer.testing import CliRunner

from fairaudit.cli import app
from fairaudit.data.parts import Part
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import FairauditError, UsageError
from fairaudit.files import held
from fairaudit.models import compiling, inference, prediction_keys, unfinished
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.inference import predict
from fairaudit.models.training import train

torch.set_num_threads(1)
Said = list[str]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures, one of which cannot be read."""
    root = tmp_path_factory.mktemp("faces")
    table = make_faces(root)
    (root / "pictures" / "003.png").write_bytes(b"nothing")
    return table


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network trained for one epoch."""
    folder = tmp_path_factory.mktemp("checkpoint")
    return train(make_faces(folder / "faces"), make_spec(training__epochs=1), folder / "c")


@pytest.fixture
def ten_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows are worth keeping."""
    monkeypatch.setattr(inference, "ROW_GROUP", 10)


def stopped(at: int) -> Callable[..., None]:
    """Return a progress that ends the work with Ctrl-C once `at` faces are predicted."""

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "predict" and total and done >= at:
            raise KeyboardInterrupt

    return progress


def stop(checkpoint: Checkpoint, faces: FaceTable, out: Path, at: int, **options: Any) -> Path:
    """Predict `at` faces and stop; return the folder of what is kept."""
    with pytest.raises(KeyboardInterrupt):
        predict(checkpoint, faces, out, batch_size=5, progress=stopped(at), **options)
    assert not out.exists()
    return out.with_name(f"{out.name}.predicting")


def watching(monkeypatch: pytest.MonkeyPatch) -> tuple[Said, list[int]]:
    """Return what predict says (a list that grows), and the first row of every batch that is decoded from now on."""
    said: Said = []
    read: list[int] = []
    real = inference.batches

    def batches(*given: Any) -> Any:
        load, notes = real(*given)

        def watched(rows: slice) -> Any:
            read.append(rows.start)
            return load(rows)

        return watched, notes

    monkeypatch.setattr(inference, "batches", batches)
    return said, read


def saying(said: Said) -> Callable[..., None]:
    """Return a progress that only listens to remarks."""
    return lambda stage, done, total, note="": said.append(note) if not total else None


@pytest.mark.usefixtures("ten_rows")
@pytest.mark.parametrize(("at", "precision"), [(5, "fp32"), (15, "fp32"), (35, "fp32"), (35, "bf16"), (60, "fp32")])
def test_goes_on_to_the_same_table(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, precision: str
) -> None:
    """Stopped at any point, twice: rows, row groups, findings and counts are those of one call; the folder goes."""
    whole = predict(checkpoint, faces, tmp_path / "whole.parquet", batch_size=5, precision=precision)
    kept = stop(checkpoint, faces, tmp_path / "p.parquet", at, precision=precision)
    done = min(at // 10, 5)  # the last stretch goes into the table itself
    assert len(list(kept.glob("rows-*"))) == done
    if at == 35:
        stop(checkpoint, faces, tmp_path / "p.parquet", 45, precision=precision)
        done = 4
    said, read = watching(monkeypatch)
    out = predict(
        checkpoint, faces, tmp_path / "p.parquet", batch_size=5, precision=precision, progress=saying(said)
    )  # fmt: skip
    assert read == list(range(done * 10, 60, 5))
    assert any("going on there" in text for text in said) == (done > 0)
    assert pq.read_table(out).replace_schema_metadata().equals(pq.read_table(whole).replace_schema_metadata())
    one, other = read_predictions(out), read_predictions(whole)
    pd.testing.assert_frame_equal(one.findings, other.findings)
    assert one.meta["failed"] == other.meta["failed"] == 1
    assert one.meta["precision_check"] == other.meta["precision_check"]
    groups = [
        [f.metadata.row_group(i).num_rows for i in range(f.num_row_groups)] for f in map(pq.ParquetFile, (out, whole))
    ]
    assert groups[0] == groups[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.parquet", "whole.parquet"]


def test_short_work_leaves_nothing(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """A table that is made in seconds is not kept in pieces; where it takes long, it is after SECONDS."""
    stop(checkpoint, faces, tmp_path / "p.parquet", 30)
    assert list(tmp_path.iterdir()) == []


def test_slow_models_are_kept_by_time(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also few rows are kept once they took long; in the finished table they are together again."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    assert len(list(stop(checkpoint, faces, tmp_path / "p.parquet", 30).glob("rows-*"))) == 6
    out = predict(checkpoint, faces, tmp_path / "p.parquet", batch_size=5)
    assert pq.ParquetFile(out).num_row_groups == 1


@pytest.mark.usefixtures("ten_rows")
@pytest.mark.parametrize(
    "what",
    ["model", "faces", "labels", "flip", "zoom", "precision", "compile", "cut", "bit", "missing", "version", "source"],
)
def test_what_is_stale_or_damaged_is_predicted_again(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Another model, other faces, labels or options, and damaged files: discarded, and said; the rest is used."""
    kept = stop(checkpoint, faces, tmp_path / "p.parquet", 35)
    files = sorted(kept.glob("rows-*"))
    model, table, first = checkpoint, faces, 0
    options: dict[str, Any] = {}
    if what == "model":
        model = replace(checkpoint, hash="another")
    elif what == "faces":
        table = replace(faces, frame=faces.frame.assign(sha256="0"))
    elif what == "labels":
        table = replace(faces, frame=faces.frame.assign(hair="long"))
    elif what == "flip":
        options = {"flip_test": True}
    elif what == "precision":
        options = {"precision": "bf16"}
    elif what == "compile":
        monkeypatch.setattr(compiling, "BACKEND", "eager")
        options = {"compile": True}
    elif what == "cut":
        files[1].write_bytes(files[1].read_bytes()[:-20])
        first = 10
    elif what == "bit":
        content = bytearray(files[1].read_bytes())
        content[100] ^= 1
        files[1].write_bytes(content)
        first = 10
    elif what == "missing":
        files[0].unlink()
    elif what == "zoom":
        model = replace(checkpoint, meta={**checkpoint.meta, "zoom_test": [0.8]})
    elif what == "source":
        monkeypatch.setattr(prediction_keys, "source_hash", lambda: "0")
    elif what == "version":
        monkeypatch.setattr(prediction_keys.fairaudit, "__version__", "0")
    whole = predict(model, table, tmp_path / "whole.parquet", batch_size=5, **options)
    said, read = watching(monkeypatch)
    out = predict(
        model, table, tmp_path / "p.parquet", batch_size=5, progress=saying(said), **options
    )  # fmt: skip
    assert read[0] == first
    assert any("discarded" in text for text in said)
    assert pq.read_table(out).replace_schema_metadata().equals(pq.read_table(whole).replace_schema_metadata())


@pytest.mark.usefixtures("ten_rows")
def test_faces_without_hashes_are_known_by_their_files(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a table knows no hashes, a picture that was changed meanwhile is not taken for the one predicted."""
    table = make_faces(tmp_path / "faces")
    table = replace(table, frame=table.frame.drop(columns="sha256"))
    stop(checkpoint, table, tmp_path / "p.parquet", 35)
    os.utime(tmp_path / "faces" / "pictures" / "000.png", ns=(0, 0))
    _, read = watching(monkeypatch)
    predict(checkpoint, table, tmp_path / "p.parquet", batch_size=5)
    assert read[0] == 0


@pytest.mark.usefixtures("ten_rows")
def test_folders_of_others_are_left_alone(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """A folder of that name that is not ours is refused before the work; rows that vanish under us end plainly."""
    other = tmp_path / "p.parquet.predicting"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="not a fairaudit prediction"):
        predict(checkpoint, faces, tmp_path / "p.parquet")
    with pytest.raises(UsageError, match="is a folder"):
        predict(checkpoint, faces, other)

    def vanish(stage: str, done: int, total: int, note: str = "") -> None:
        if done == 40:
            (tmp_path / "q.parquet.predicting" / "rows-000000000000.parquet").unlink()

    with pytest.raises(FairauditError, match="cannot be read any more"):
        predict(checkpoint, faces, tmp_path / "q.parquet", batch_size=5, progress=vanish)
    assert not (tmp_path / "q.parquet").exists()


@pytest.mark.usefixtures("ten_rows")
@pytest.mark.parametrize("other", ["same", "another model"])
def test_two_calls_on_one_output(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, other: str) -> None:
    """The second is refused while the first goes on; the first's table is whole and its own."""
    out, refused = tmp_path / "p.parquet", []
    model = checkpoint if other == "same" else replace(checkpoint, hash="another")

    def meanwhile(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "predict" and total and done in (5, 45):
            with pytest.raises(UsageError, match="another call is writing") as error:
                predict(model, faces, out, batch_size=5)
            refused.append(error)

    whole = predict(checkpoint, faces, tmp_path / "whole.parquet", batch_size=5)
    predict(checkpoint, faces, out, batch_size=5, progress=meanwhile)
    assert len(refused) == 2
    assert pq.read_table(out).replace_schema_metadata().equals(pq.read_table(whole).replace_schema_metadata())


@pytest.mark.usefixtures("ten_rows")
@pytest.mark.parametrize("what", ["model", "rows", "fewer"])
def test_rows_of_another_call_are_never_written(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Where a disk knows no locks: rows of another model, or other rows, end the call and write nothing."""
    monkeypatch.setattr("fairaudit.files.fcntl", None)
    out = tmp_path / "p.parquet"
    done_once: list[int] = []
    other = replace(checkpoint, hash="another") if what == "model" else checkpoint

    def meanwhile(stage: str, done: int, total: int, note: str = "") -> None:
        if stage != "predict" or done != 45 or done_once:
            return
        done_once.append(done)
        kept = out.with_name(f"{out.name}.predicting")
        if what == "model":
            stop(other, faces, out, 45)
        else:
            path = sorted(kept.glob("rows-*"))[1]
            table = pq.read_table(path)
            told = table.schema.metadata[b"fairaudit-unfinished"].replace(b'"stop": 20', b'"stop": 15')
            pq.write_table(table.slice(0, 5).replace_schema_metadata({b"fairaudit-unfinished": told}), path)

    if what == "fewer":
        real = unfinished.Unfinished.tables
        monkeypatch.setattr(unfinished.Unfinished, "tables", lambda self: list(real(self))[1:])
    with pytest.raises(FairauditError, match="another call"):
        predict(checkpoint, faces, out, batch_size=5, progress=meanwhile)
    assert not out.exists()


@pytest.mark.usefixtures("ten_rows")
@pytest.mark.parametrize("first", [False, True])
def test_auto_precision_on_another_machine(
    checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Rows in float32 and in bfloat16 are not mixed where "auto" means another format than before."""
    monkeypatch.setattr("fairaudit.models.runtime._has_bf16", lambda device: first)
    stop(checkpoint, faces, tmp_path / "p.parquet", 35, precision="auto")
    monkeypatch.setattr("fairaudit.models.runtime._has_bf16", lambda device: not first)
    _, read = watching(monkeypatch)
    out = predict(checkpoint, faces, tmp_path / "p.parquet", batch_size=5, precision="auto")
    assert read[0] == 0 and (read_predictions(out).meta["precision_check"] is None) == first


def test_killed_before_the_marker(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """Only a piece of the marker was left: the same call goes on."""
    kept = tmp_path / "p.parquet.predicting"
    kept.mkdir()
    (kept / ".predicting.json.deadbeef-3.part").touch()
    assert predict(checkpoint, faces, tmp_path / "p.parquet").is_file()


@pytest.fixture
def typed(checkpoint: Checkpoint, tmp_path: Path) -> list[str]:
    """Return the options of a checkpoint and a folder of faces as a user types them."""
    table = make_faces(tmp_path / "faces")
    table.frame[["image", "gender", "race"]].to_csv(tmp_path / "faces" / "manifest.csv", index=False)
    return [str(checkpoint.folder), "--data", str(tmp_path / "faces"), "--split", "all"]


@pytest.mark.usefixtures("ten_rows")
def test_a_part_goes_on_beside_the_others(typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --shard what is kept is hidden, so that the folder still holds nothing but parts."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    call = ["predict", *typed, "--out", str(tmp_path / "parts"), "--shard"]
    with monkeypatch.context() as patch:
        patch.setattr("fairaudit.console.Bars.__call__", lambda self, *given: stopped(20)(*given))
        assert CliRunner().invoke(app, [*call, "1/2"]).exit_code == 130
    assert list((tmp_path / "parts" / f".{Part(1, 2).name}.predicting").glob("rows-*"))
    assert CliRunner().invoke(app, [*call, "2/2"]).exit_code == 0
    done = CliRunner().invoke(app, [*call, "1/2"])
    assert done.exit_code == 0 and "going on there" in done.output
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [Part(n, 2).name for n in (1, 2)]


@pytest.mark.usefixtures("ten_rows")
def test_an_audit_goes_on(typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit of a checkpoint, stopped while it predicts or after, asks the model about no face twice."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    call = ["audit", "--checkpoint", *typed, "--by", "race", "--out"]
    assert CliRunner().invoke(app, [*call, str(tmp_path / "whole")]).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr("fairaudit.console.Bars.__call__", lambda self, *given: stopped(40)(*given))
        assert CliRunner().invoke(app, [*call, str(tmp_path / "a")]).exit_code == 130
    with monkeypatch.context() as patch:
        patch.setattr("fairaudit.audit.run_audit", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped_later = CliRunner().invoke(app, [*call, str(tmp_path / "a")])
    assert stopped_later.exit_code == 130 and "were predicted by a call that was stopped" in stopped_later.output
    with monkeypatch.context() as patch:
        patch.setattr(prediction_keys, "DECODER", "another")
        patch.setattr("fairaudit.audit.run_audit", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        again = CliRunner().invoke(app, [*call, str(tmp_path / "a")])
    assert again.exit_code == 130 and "every face was predicted" not in again.output
    with monkeypatch.context() as patch:
        patch.setattr("fairaudit.audit.run_audit", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        assert CliRunner().invoke(app, [*call, str(tmp_path / "a")]).exit_code == 130
    with held(tmp_path / "a.predicting", tmp_path / "a"):
        second = CliRunner().invoke(app, [*call, str(tmp_path / "a")])
    assert isinstance(second.exception, UsageError) and "another call is writing" in str(second.exception)
    done = CliRunner().invoke(app, [*call, str(tmp_path / "a")])
    assert done.exit_code == 0 and "every face was predicted" in done.output
    for name in ("metrics.csv", "gaps.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(tmp_path.glob("*.predicting"))


@pytest.mark.slow
def test_killed_by_the_system(typed: list[str], tmp_path: Path) -> None:
    """SIGKILL, again and again, without a moment to tidy up: the table is that of one call."""
    assert fairaudit(tmp_path, "predict", *typed, "--out", "whole.parquet") == 0
    for at in (16, 30, 58):
        killed = fairaudit(tmp_path, "predict", *typed, "--out", "p.parquet", kill=("predict", at), rows=8)
        assert killed == -signal.SIGKILL and not (tmp_path / "p.parquet").exists()
    assert len(list((tmp_path / "p.parquet.predicting").glob("rows-*"))) > 1
    assert fairaudit(tmp_path, "predict", *typed, "--out", "p.parquet") == 0
    tables = [pq.read_table(tmp_path / name).replace_schema_metadata() for name in ("p.parquet", "whole.parquet")]
    assert tables[0].equals(tables[1])
    assert not list(tmp_path.glob("*.predicting")) and not list(tmp_path.glob(".*.part"))
