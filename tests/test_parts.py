"""Parts of one prediction: together the whole, each done once, never audited while some are missing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_faces import make_faces, make_spec
from typer.testing import CliRunner

from fairaudit.cli import app
from fairaudit.data.parts import Part, check_complete, claim_part, faces_of, is_done, join_parts, parse_part
from fairaudit.data.predictions import read_predictions
from fairaudit.data.shards import read_shards
from fairaudit.data.tables import META_KEY, FaceTable, findings_table
from fairaudit.errors import DataError, UsageError
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.inference import predict
from fairaudit.models.prediction_keys import part_key
from fairaudit.models.training import train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures, one of them damaged, with an attribute of plain words that not every part has all values of."""
    table = make_faces(tmp_path_factory.mktemp("faces"))
    (table.root / table.frame["image"][33]).write_bytes(b"")
    words = np.array(["short"] * 59 + ["long"], dtype=object)
    findings = findings_table([("duplicate", "a.png", "listed", "twice")])
    return replace(table, frame=table.frame.assign(hair=words), findings=findings)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A network trained for one epoch."""
    folder = tmp_path_factory.mktemp("checkpoint")
    return train(make_faces(folder / "faces"), make_spec(training__epochs=1), folder / "c")


@pytest.mark.parametrize("of", [1, 3, 7])
def test_the_parts_are_the_whole(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path, of: int) -> None:
    """Bit by bit the table of one process: rows, order, columns and dictionaries; and what is said of it."""
    whole = pq.read_table(predict(checkpoint, faces, tmp_path / "whole.parquet"))
    for number in range(of, 0, -1):
        part = Part(number, of)
        predict(checkpoint, faces_of(faces, part), claim_part(tmp_path / "parts", part))
    paths = sorted((tmp_path / "parts").iterdir())
    assert len(paths) == of
    joined = pa.concat_tables([pq.read_table(path) for path in paths])
    assert joined.schema.remove_metadata() == whole.schema.remove_metadata()
    assert joined.replace_schema_metadata().combine_chunks().equals(whole.replace_schema_metadata().combine_chunks())
    check_complete(tmp_path / "parts")
    assert join_parts(tmp_path / "parts", tmp_path / "joined.parquet") == len(faces)
    made = pq.read_table(tmp_path / "joined.parquet")
    assert made.replace_schema_metadata().combine_chunks().equals(whole.replace_schema_metadata().combine_chunks())
    told, wanted_of = (json.loads(table.schema.metadata[META_KEY]) for table in (made, whole))
    own = {"faces_hash", "images_per_second", "share_waiting_for_data", "batch_size", "batch_sizes_tried", "loaders"}
    for key in told.keys() | wanted_of.keys():
        if key != "meta":
            assert told[key] == wanted_of[key], key
    assert told["meta"].keys() | own == wanted_of["meta"].keys() | own
    for key in wanted_of["meta"].keys() - own:
        assert told["meta"][key] == wanted_of["meta"][key], key
    (tmp_path / "one").mkdir()
    (tmp_path / "whole.parquet").rename(tmp_path / "one" / "whole.parquet")
    read, wanted = read_shards(tmp_path / "parts"), read_shards(tmp_path / "one")
    assert list(read.findings["kind"]) == list(wanted.findings["kind"]) == ["duplicate", "unreadable"]
    for key in ("failed", "seen_in_training", "checkpoint_hash"):
        assert read.meta[key] == wanted.meta[key], key


def test_more_parts_than_faces(faces: FaceTable) -> None:
    """Every face is in one part; some parts are empty."""
    few = replace(faces, frame=faces.frame[:3].reset_index(drop=True))
    parts = [faces_of(few, Part(number, 5)) for number in range(1, 6)]
    assert [name for part in parts for name in part.frame["image"]] == list(few.frame["image"])


def test_findings_are_told_once_however_few_the_faces(faces: FaceTable) -> None:
    """The part with the first face has them, also where the first part has none."""
    few = replace(faces, frame=faces.frame[:3].reset_index(drop=True))
    told = [part for part in range(1, 6) if len(faces_of(few, Part(part, 5)).findings)]
    first = next(part for part in range(1, 6) if len(faces_of(few, Part(part, 5))))
    assert told == [first] and first > 1


def test_what_is_not_joined(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """No parts, a missing, damaged or strange one, parts of two models or two sets of faces: a sentence, no file."""
    parts, out = tmp_path / "parts", tmp_path / "joined.parquet"
    parts.mkdir()
    with pytest.raises(DataError, match="holds no parts"):
        join_parts(parts, out)
    paths = [predict(checkpoint, faces_of(faces, Part(number, 2)), parts / Part(number, 2).name) for number in (1, 2)]
    good = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(DataError, match="missing: 2"):
        join_parts(parts, out)
    paths[1].write_bytes(good[:-9])
    with pytest.raises(DataError, match="no readable Parquet file"):
        join_parts(parts, out)
    damaged = bytearray(good)
    damaged[4 : len(good) // 2] = bytes(len(good) // 2 - 4)  # the footer is whole, the pages are not
    paths[1].write_bytes(damaged)
    with pytest.raises(DataError, match="no readable Parquet file"):
        join_parts(parts, out)
    pq.write_table(pa.table({"g_true": ["a"], "g_pred": ["a"]}), paths[1])
    with pytest.raises(DataError, match="different columns"):
        join_parts(parts, out)
    strangers = {
        "the model": (replace(checkpoint, hash="another"), faces),
        "the faces": (checkpoint, replace(faces, meta={**faces.meta, "data_hash": "another"})),
    }
    for what, (model, table) in strangers.items():
        predict(model, faces_of(table, Part(2, 2)), paths[1])
        with pytest.raises(DataError, match=f"differ in {what}"):
            join_parts(parts, out)
    assert not out.exists()
    paths[1].write_bytes(good)
    assert join_parts(parts, out) == len(faces)


def test_joining_as_it_is_typed(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """One file that an audit reads; into the folder of the parts it is not written, where it would count twice."""
    for number in (1, 2):
        predict(checkpoint, faces_of(faces, Part(number, 2)), tmp_path / "parts" / Part(number, 2).name)
    inside = CliRunner().invoke(app, ["join", str(tmp_path / "parts"), "--out", str(tmp_path / "parts" / "a.parquet")])
    assert isinstance(inside.exception, UsageError) and len(list((tmp_path / "parts").iterdir())) == 2
    result = CliRunner().invoke(app, ["join", str(tmp_path / "parts"), "--out", str(tmp_path / "a.parquet")])
    assert result.exit_code == 0 and "(60 faces)" in result.output
    assert len(read_predictions(tmp_path / "a.parquet").frame) == 60


def test_a_part_is_done_once(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """A part is known by its faces, labels, model and precision; a half-written or foreign file is none."""
    part = faces_of(faces, Part(1, 2))
    path = predict(checkpoint, part, tmp_path / "p.parquet")
    key = part_key(checkpoint, part, "fp32")
    assert is_done(path, key)
    assert not is_done(path, part_key(checkpoint, part, "bf16"))
    assert not is_done(path, part_key(replace(checkpoint, hash="other"), part, "fp32"))
    assert not is_done(path, part_key(checkpoint, faces_of(faces, Part(2, 2)), "fp32"))
    path.write_bytes(path.read_bytes()[:-9])
    assert not is_done(path, key)
    pq.write_table(pa.table({"a": [1]}), path)
    assert not is_done(path, key)
    assert not is_done(tmp_path / "nowhere.parquet", key)


@pytest.mark.parametrize("text", ["", "2", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/99999", "1/4/2"])
def test_what_is_no_part(text: str) -> None:
    """Anything but k/n with 1 ≤ k ≤ n ends in a sentence with an example."""
    with pytest.raises(UsageError, match="2/4"):
        parse_part(text)


def test_names_sort_as_the_parts_do() -> None:
    """With ten parts or more, too."""
    names = [Part(number, 12).name for number in range(1, 13)]
    assert names == sorted(names) and parse_part("3/12") == Part(3, 12)


def test_divisions_are_not_mixed(tmp_path: Path) -> None:
    """A folder takes the parts of one division and nothing else."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "part-1-of-3.parquet").write_bytes(b"")
    assert claim_part(tmp_path / "a", Part(2, 3)).name == "part-2-of-3.parquet"
    with pytest.raises(UsageError, match="none of 4 parts"):
        claim_part(tmp_path / "a", Part(2, 4))
    with pytest.raises(UsageError, match="is a file"):
        claim_part(tmp_path / "a" / "part-1-of-3.parquet", Part(1, 3))
    with pytest.raises(DataError, match=r"1 of 3 parts of a prediction; missing: 2, 3.*--shard 2/3"):
        check_complete(tmp_path / "a")


def test_an_audit_waits_for_all_parts(tmp_path: Path) -> None:
    """As a user types it: a folder that lacks a part is refused with exit code 4."""
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(pa.table({"g_true": ["a"], "g_pred": ["a"], "race": ["x"]}), folder / "part-1-of-2.parquet")
    result = CliRunner().invoke(app, ["audit", "--predictions", str(folder), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, DataError) and "missing: 2" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_doubts_of_one_part_are_doubts_of_the_whole(checkpoint: Checkpoint, faces: FaceTable, tmp_path: Path) -> None:
    """What each part says of the model carries its own figures, so that no two parts say the same."""
    for number in (1, 2):
        path = predict(checkpoint, faces_of(faces, Part(number, 2)), tmp_path / Part(number, 2).name)
        table = pq.read_table(path)
        described = json.loads(table.schema.metadata[META_KEY])
        described["meta"] |= {"warnings": ["the same", f"{number} of 30 faces"], "notes": [f"halved to {number}"]}
        pq.write_table(table.replace_schema_metadata({META_KEY: json.dumps(described)}), path)
    read = read_shards(tmp_path)
    assert read.meta["warnings"] == ["the same", "1 of 30 faces", "2 of 30 faces"]
    assert read.meta["notes"] == ["halved to 1", "halved to 2"]
