"""Tables on disk: whatever the shards, the audit is that of the same table in memory, to the last bit."""

import json
import shutil
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import fairaudit as fa
from fairaudit import cli, subgroups
from fairaudit.analyses import ANALYSES
from fairaudit.axes import choose_axes, excluded_rows, sample_of, sizes, task_rows, with_axis_columns
from fairaudit.data.bins import bin_codes, bin_names, quantile_bins
from fairaudit.data.predictions import read_predictions
from fairaudit.data.sharded import ShardedPredictions
from fairaudit.data.shards import read_shards
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.metrics.calibration import quantiles
from fairaudit.metrics.counted import precision_error_bound
from fairaudit.metrics.rates import METRICS
from fairaudit.metrics.scores import counted_table
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100, min_group_size=2)
# what an audit says of itself that comes from where the table lies, not from what it holds
OF_THE_FILES = ("hashes", "shards", "created")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A small table with outcomes, missing labels and attributes, ages in years, and words for "unknown"."""
    n, seed = draw(st.integers(20, 60)), draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)

    def cells(values: list[Any]) -> np.ndarray:
        return rng.choice(np.array(values, dtype=object), size=n)

    predicted = cells(["Man", "Woman", None])
    status = np.where(pd.isna(predicted), cells(["no_face", "abstained", None, ""]), cells(["ok", None, ""]))
    ages = rng.integers(-1, 90, size=n).astype(float)
    ages[rng.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in rng.permutation(n)],
            "gender_true": cells(["Man", "Woman", "Woman", None]),
            "sex": predicted,
            "gender_status": status,
            "size_true": rng.integers(0, 3, size=n),
            "size_pred": rng.integers(0, 3, size=n),
            "race": cells(["A", "Bé", "unknown", None, "A × x"]),
            "age": ages,
            "camera": rng.integers(1, 3, size=n),
            "name": [f"n{i}" for i in range(n)] if n > 50 else cells(["p", "q"]),
        }
    )


def write_shards(frame: pd.DataFrame, folder: Path, cuts: list[int], kinds: list[str]) -> None:
    """Write the table in parts, each a CSV file, a Parquet file, or one with categorical columns."""
    folder.mkdir(parents=True)
    ends = sorted({0, len(frame), *(cut % len(frame) for cut in cuts)})
    for number, (start, end) in enumerate(pairwise(ends)):
        part, kind = frame.iloc[start:end], kinds[number % len(kinds)]
        if kind == "csv":
            part.to_csv(folder / f"{number:02d}.csv", index=False)
        else:
            typed = {c: "category" for c in ("race", "gender_true") if c in frame and kind == "typed"}
            part.astype(typed).to_parquet(folder / f"{number:02d}.parquet", index=False)


OPTIONS: dict[str, Any] = {
    "rename": {"gender_pred": "sex"},
    "values": {"gender": {"Man": "Male", "Woman": "Female"}, "camera": {"1": "old"}},
}


def same_audit(found: AuditResult, expected: AuditResult) -> None:
    """Every table and everything that follows from the faces is equal, without any tolerance."""
    for name in ("metrics", "gaps", "confusion", "rest"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)
    assert found.more.keys() == expected.more.keys()
    for name, table in expected.more.items():
        pd.testing.assert_frame_equal(found.more[name], table, check_exact=True)
    for key in expected.meta.keys() - {*OF_THE_FILES, "warnings"}:
        assert found.meta[key] == expected.meta[key], key
    said = found.meta.get("shards", {}).get("said", [])
    assert [warning for warning in found.meta["warnings"] if warning not in said] == expected.meta["warnings"]


def counted(table: Predictions | ShardedPredictions, by: list[str]) -> list[Any]:
    """Return what an audit follows from: per task and axis the cube, who was left out, and what is said."""
    outline = table.outline(by)
    axes, said = choose_axes(outline, by)
    found: list[Any] = [said, len(table), table.tasks, table.attributes, table.ordered]
    found.append(sorted({(kind, action, detail) for kind, _, action, detail in table.findings.iloc[:, :4].values}))
    for task in table.tasks:
        own = table.of_task(task, axes)
        rows, frame = task_rows(own, task), with_axis_columns(own, axes)
        times = None if own.times is None else own.times[rows.position]
        groups = {axis: subgroups.assign(frame, axis) for axis in axes}
        found.append((rows.labelled, rows.classes, rows.ordered, excluded_rows(rows, own, groups)))
        for axis, labels in groups.items():
            sample = sample_of(rows, frame, labels, times)
            why = subgroups.degenerate(labels, frame[f"{task}_true"], axis, task, own.times)
            found.append((sample.groups, sample.counts.tolist(), sizes(labels, own.times), why))
    return found


@settings(max_examples=6, deadline=None)
@given(tables(), st.lists(st.integers(0, 200), max_size=4), st.permutations(["csv", "parquet", "typed"]))
def test_any_sharding_counts_the_same(
    tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame, cuts: list[int], kinds: list[str]
) -> None:
    """Cubes, classes, axes, findings and excluded faces with their images are those of the table in memory."""
    folder = tmp_path_factory.mktemp("shards") / "table"
    write_shards(frame, folder, cuts, kinds)
    sharded = read_shards(folder, **OPTIONS, most_held=0)
    assert isinstance(sharded, ShardedPredictions)
    axes = ["race", "camera", "age", "race:age", "gender:camera"]
    assert counted(sharded, axes) == counted(read_predictions(frame, **OPTIONS), axes)


def test_the_audit_is_equal_to_the_last_bit(tmp_path: Path) -> None:
    """Intervals, bootstrap, gaps, nulls, every further table and all that the audit says follow from the counts."""
    rng = np.random.default_rng(0)
    n = 400
    true = rng.integers(0, 3, size=n)
    frame = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "x_true": np.where(rng.random(n) < 0.05, None, true),
            "x_pred": np.where(rng.random(n) < 0.1, None, np.where(rng.random(n) < 0.7, true, 0)),
            "x_status": None,
            "race": rng.choice(np.array(["A", "B", "C", None], dtype=object), size=n, p=[0.4, 0.3, 0.28, 0.02]),
        }
    )
    frame.loc[frame["x_pred"].isna() & (rng.random(n) < 0.5), "x_status"] = "no_face"
    write_shards(frame, tmp_path / "table", [100, 103, 250], ["csv", "parquet", "typed"])
    found, expected = (
        fa.run_audit(table, audit=QUICK) for table in (read_shards(tmp_path / "table", most_held=0), frame)
    )
    same_audit(found, expected)


@settings(max_examples=4, deadline=None)
@given(tables(), st.lists(st.integers(0, 200), max_size=4), st.permutations(["csv", "parquet", "typed"]))
def test_small_tables_come_whole_into_memory(
    tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame, cuts: list[int], kinds: list[str]
) -> None:
    """A folder of few faces is the same table as its files one after another."""
    folder = tmp_path_factory.mktemp("shards") / "table"
    write_shards(frame.assign(gender_prob_Man=0.5), folder, cuts, kinds)
    whole, held = read_predictions(frame.assign(gender_prob_Man=0.5), **OPTIONS), read_shards(folder, **OPTIONS)
    assert isinstance(held, Predictions)
    assert held.hash() == whole.hash()
    pd.testing.assert_frame_equal(held.frame[whole.frame.columns], whole.frame, check_exact=True, check_dtype=False)
    assert sorted(held.findings.values.tolist()) == sorted(whole.findings.values.tolist())


@pytest.mark.parametrize("more", ["weight", "subject_id"])
def test_weights_and_subjects_are_held_and_change_nothing(tmp_path: Path, more: str) -> None:
    """With weights or subjects every face is held, in the order of the files, so every figure is the same."""
    rng = np.random.default_rng(1)
    n = 90
    frame = pd.DataFrame(
        {
            "image": range(n),
            "x_true": rng.integers(0, 2, size=n),
            "x_pred": rng.integers(0, 2, size=n),
            "race": rng.choice(["a", "b"], size=n),
            "weight": rng.random(n) + 0.5,
            "subject_id": [f"s{i}" if i % 7 else "" for i in rng.integers(0, 30, size=n)],
        }
    ).drop(columns={"weight", "subject_id"} - {more})
    write_shards(frame, tmp_path / "table", [10, 55], ["csv", "parquet"])
    sharded = read_shards(tmp_path / "table", most_held=0)
    found, expected = (fa.run_audit(table, audit=QUICK) for table in (sharded, read_predictions(frame)))
    same_audit(found, expected)
    grows = "subjects and faces" if more == "subject_id" else "of faces"
    (said,) = [text for text in found.meta["warnings"] if "held in memory" in text]
    assert grows in said and "(90 faces here)" in said
    assert not any("held in memory" in text for text in expected.meta["warnings"])


def test_many_different_ages_are_looked_at_by_whole_years(tmp_path: Path) -> None:
    """Thousands of different predicted ages give the bins and the impossible ages of the table in memory."""
    rng = np.random.default_rng(2)
    n = 3000
    frame = pd.DataFrame(
        {
            "image": [f"i{i}" for i in range(n)],
            "age_true": rng.integers(0, 90, size=n),
            "age_pred": np.where(rng.random(n) < 0.01, -0.5, rng.random(n) * 100),
            "race": rng.choice(["a", "b"], size=n),
        }
    )
    write_shards(frame, tmp_path / "table", [1000], ["csv", "parquet"])
    sharded = read_shards(tmp_path / "table", most_held=0)
    whole = read_predictions(frame)
    assert counted(sharded, ["race"]) == counted(whole, ["race"])
    impossible = [table.findings[table.findings["kind"] == "impossible_age"] for table in (sharded, whole)]
    assert impossible[0]["rows"].sum() == len(impossible[1]) > 20
    assert list(impossible[0]["image"])[:20] == list(impossible[1]["image"])[:20]


BASE = {"image": list("abcdef"), "x_true": list("uvuvuv"), "x_pred": list("uvvvuu"), "race": list("ppqqpq")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": ["a", "b", "c", "d", "e", "a"]}, "1 image occurs more than once \\('a'\\)"),
        ({"image": ["a", "b", "c", "d", "", "f"]}, "first: row 5"),
        ({"weight": [1, 1, 1, 1, 0, 1]}, "images 'e'"),
        ({"weight": [1, 1, 1, 1, 1e300, 1]}, "Divide all by one number"),
        ({"x_prob_u": [0.1, 0.2, 0.3, 0.4, 0.5, 1.2]}, "1 value of x_prob_u lies outside 0…1 \\('1.2'\\)"),
        ({"x_prob_u": ["0.1", "", "0.3", "0.4", "y", "0"]}, "1 value of x_prob_u is no number \\('y'\\)"),
        ({"x_status": ["", "", "", "", "", "no_face"]}, "images 'f'"),
        ({"x_status": ["gone", "", "", "", "", ""]}, "allowed: ok"),
        ({"x_pred": ["u", "v", "u", "v", "u", "U"]}, "differ only in case"),
        ({"x_true": [f"c{i}" for i in range(6)], "x_pred": [None] * 6}, "no face has both"),
    ],
)
def test_what_is_refused_in_memory_is_refused_on_disk(tmp_path: Path, change: dict[str, list[Any]], says: str) -> None:
    """Each impossible table is the same DataError, also where the fault needs two files to be seen."""
    write_shards(pd.DataFrame(BASE | change), tmp_path / "table", [3], ["parquet"])
    messages = []
    for read in (
        lambda: read_predictions(pd.DataFrame(BASE | change)),
        lambda: read_shards(tmp_path / "table", most_held=0),
    ):
        with pytest.raises(DataError, match=says) as error:
            fa.run_audit(read(), audit=QUICK)
        messages.append(str(error.value).replace(str(tmp_path / "table"), "the table"))
    assert messages[0] == messages[1]


def test_names_of_files_are_no_patterns_and_hidden_files_no_shards(tmp_path: Path) -> None:
    """`a[1].parquet` is that file; `_SUCCESS` and `.crc` files are no part of a table; another file is refused."""
    folder = tmp_path / "it's [1]*"
    folder.mkdir()
    pd.DataFrame(BASE).to_parquet(folder / "a[1]?.parquet", index=False)
    pd.DataFrame(BASE | {"image": list("ghijkl")}).to_parquet(folder / "a1x.parquet", index=False)
    (folder / "_SUCCESS").touch()
    table = read_shards(folder, most_held=0)
    assert len(table) == 12
    assert [shard["file"] for shard in table.meta["shards"]["files"]] == ["a1x.parquet", "a[1]?.parquet"]
    (folder / "notes.md").write_text("no table")
    with pytest.raises(DataError, match=r"notes.md is neither"):
        read_shards(folder)


def test_shards_with_different_columns_are_refused(tmp_path: Path) -> None:
    """A column that one file lacks is named, with both files."""
    pd.DataFrame(BASE).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(BASE | {"more": 1}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has a column 'more' that .*a\.parquet lacks"):
        read_shards(tmp_path)


def test_impossible_memory_and_empty_folders_are_refused(tmp_path: Path) -> None:
    """`--memory` needs a unit; a folder without files, or with files without rows, holds nothing to audit."""
    with pytest.raises(DataError, match="holds no file"):
        read_shards(tmp_path)
    pd.DataFrame(BASE).iloc[:0].to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no row"):
        read_shards(tmp_path)
    pd.DataFrame(BASE).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="500MB"):
        read_shards(tmp_path, memory="much")


@pytest.mark.parametrize("row", [0, 2, 7])
def test_the_first_row_without_an_image_is_named(row: int, tmp_path: Path) -> None:
    """By its number in the whole table, the very first row and a later file's rows too."""
    names = [f"{i}.jpg" for i in range(12)]
    names[row] = ""
    whole = pd.concat([pd.DataFrame(BASE)] * 2, ignore_index=True).assign(image=names)
    write_shards(whole, tmp_path / "table", [6], ["parquet"])
    with pytest.raises(DataError, match=rf"1 row has an empty `image` \(first: row {row + 1}\)"):
        read_shards(tmp_path / "table", most_held=0)


def test_the_command_line_counts_a_folder_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """audit.json names the files; verify counts them again and sees a change; compare says why it cannot."""
    write_shards(pd.concat([pd.DataFrame(BASE)] * 9).assign(image=range(54)), tmp_path / "table", [20], ["parquet"])
    out = tmp_path / "audit"
    told = ["--predictions", str(tmp_path / "table"), "--memory", "500MB", "--value", "race.p=P", "--out", str(out)]
    assert run("audit", *told) == 0
    meta = json.loads((out / "audit.json").read_text())
    assert meta["shards"]["folder"] == "../table" and [file["rows"] for file in meta["shards"]["files"]] == [20, 34]
    assert meta["subgroups"]["race"] == {"P": 27, "q": 27}
    assert not (out / "predictions.parquet").exists() and (out / "index.html").exists()
    assert run("verify", str(out)) == 0
    assert meta["shards"]["typed"] == str(tmp_path / "table")
    shutil.copytree(out, tmp_path / "other")
    shutil.copytree(out, tmp_path / "far" / "away" / "audit")  # from there only the way that was typed leads to it
    assert run("verify", str(tmp_path / "far" / "away" / "audit")) == 0
    capsys.readouterr()
    assert run("compare", str(out), str(tmp_path / "other"), "--out", str(tmp_path / "both")) == 4
    assert "keeps no predictions" in capsys.readouterr().err
    changed = pd.read_parquet(tmp_path / "table" / "00.parquet").assign(x_pred="u")
    changed.to_parquet(tmp_path / "table" / "00.parquet", index=False)
    capsys.readouterr()
    assert run("verify", str(out)) == 1
    said = capsys.readouterr().out
    assert "00.parquet, SHA-256 of a file of predictions" in said and "01.parquet, SHA" not in said
    (tmp_path / "table").rename(tmp_path / "moved")
    assert run("verify", str(out)) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "none of its 2 files is in" in said and "with --predictions" in said
    assert run("verify", str(out), "--predictions", str(tmp_path / "moved")) == 1


def run(*words: str) -> int:
    """Run a command in this process and return its exit code."""
    with patch("sys.argv", ["fairaudit", *words]), pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def scored(n: int, seed: int) -> pd.DataFrame:
    """A table with probabilities of three classes, and of one of two, some of them missing or not adding up to 1."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(n)], "race": rng.choice(list("ABC"), size=n)})
    for task, classes in {"x": list("uvw"), "y": list("MF")}.items():
        true = rng.integers(len(classes), size=n)
        odds = np.exp(rng.normal(size=(n, len(classes))) + np.eye(len(classes))[true])
        given = np.round(odds / odds.sum(1, keepdims=True), 3 if task == "y" else 9)
        names = np.array(classes, dtype=object)
        frame[f"{task}_true"], frame[f"{task}_pred"] = names[true], names[given.argmax(1)]
        for c, name in enumerate(classes[: 3 if task == "x" else 1]):
            frame[f"{task}_prob_{name}"] = given[:, c]
    frame.loc[3, "x_prob_u"], frame.loc[[4, 5], "x_prob_v"] = np.nan, 0.99
    frame.loc[6, "y_pred"] = None
    frame.loc[7, "race"] = None
    return frame


def test_scores_are_counted_on_disk(tmp_path: Path) -> None:
    """AUC, average precision and their gaps are equal, sums of losses agree to 1e-12; unusable faces are listed."""
    frame = scored(500, 0)
    write_shards(frame, tmp_path / "table", [100, 260], ["csv", "parquet"])
    sharded = read_shards(tmp_path / "table", most_held=0)
    with patch("fairaudit.audit.ANALYSES", {}):
        found, expected = (fa.run_audit(table, by=["race", "y:race"], audit=QUICK) for table in (sharded, frame))
    assert set(found.metrics["metric"]) >= {"auc", "average_precision", "log_loss", "brier", "ece", "calibration_slope"}
    for name in ("metrics", "gaps", "rest"):
        one, two = getattr(found, name), getattr(expected, name)
        pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=1e-11, atol=1e-12)
        ranked = [table[table["metric"].isin(["auc", "average_precision"])] for table in (one, two)]
        pd.testing.assert_frame_equal(*ranked, check_exact=True)
    assert found.meta["excluded"] == expected.meta["excluded"]
    assert {entry["kind"] for entry in found.meta["excluded"]} >= {"probabilities_missing"}


def test_bins_of_scores_state_how_far_they_can_be_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit AUC and average precision come from bins, and are within the printed bound of the exact ones."""
    frame = scored(600, 1)
    write_shards(frame, tmp_path / "table", [200], ["parquet"])
    for name, value in {"MOST_EXACT": 100, "BINS": 32}.items():
        monkeypatch.setattr(f"fairaudit.data.score_counts.{name}", value)
    sharded = read_shards(tmp_path / "table", most_held=0)
    with patch("fairaudit.audit.ANALYSES", {}):
        results = [fa.run_audit(table, by=["race"], audit=QUICK) for table in (sharded, frame)]
    found, exact = (r.metrics[r.metrics["metric"].isin(["auc", "average_precision"])] for r in results)
    bound = found["reason"].str.extract(r"within ± ([\d.e-]+)")[0].astype(float)
    known = exact["value"].notna()
    bound = bound[known].fillna(0)  # where no face shares a bin with another there is nothing to say
    assert (bound > 0).mean() > 0.8 and bound.max() < 0.2
    off = (found["value"] - exact["value"]).abs()[known]
    assert (off <= bound + 1e-12).all()
    assert (off > 0).any()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30), st.booleans()), min_size=2, max_size=40))
def test_the_bound_of_average_precision_holds(faces: list[tuple[int, int, bool]]) -> None:
    """For scores in bins of eight, scikit-learn's values of scores and of bins are no farther apart than the bound."""
    group, score, side = (np.array(column) for column in zip(*faces, strict=True))
    coarse = counted_table(2, group, score // 8, side.astype(float), (~side).astype(float))
    bound = precision_error_bound(coarse)
    for g in (0, 1):
        here = group == g
        if side[here].any():
            values = [average_precision_score(side[here], column[here]) for column in (score, score // 8)]
            assert abs(values[0] - values[1]) <= bound[g] + 1e-12


KINDS: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "flags with gaps": ([True, False, None], ("boolean", "boolean")),
    "whole numbers with gaps": ([1, 2, None], ("Int64", "float64")),
    "numbers and their text": ([1, 2, 2], ("int64", "str")),
    "fractions and two zeros": ([1.5, -0.0, 0.0], ("float64", "float32")),
    "dates": ([date(2020, 1, 1), date(2021, 1, 1), None], ("object", "object")),
    "decimals": ([Decimal("1.10"), Decimal("2.00"), None], ("object", "object")),
    "infinities": ([np.inf, 1.0, np.nan], ("float64", "float64")),
    "nothing": ([None, None, None], ("object", "object")),
}


@pytest.mark.parametrize("name", KINDS)
def test_columns_of_any_type_are_read_as_their_concatenation(tmp_path: Path, name: str) -> None:
    """Also where two files give a column different types: what pandas makes of both together is what is counted."""
    values, types = KINDS[name]
    frame = pd.DataFrame(BASE).assign(more=pd.Series(values * 2, dtype=object))
    parts = [frame.iloc[i : i + 3].astype({"more": kind}) for i, kind in zip((0, 3), types, strict=True)]
    for number, part in enumerate(parts):
        part.to_parquet(tmp_path / f"{number}.parquet", index=False)
    whole = pd.concat([pd.read_parquet(tmp_path / f"{number}.parquet") for number in (0, 1)], ignore_index=True)
    tables = [read_predictions(whole), *(read_shards(tmp_path, most_held=held) for held in (0, 100))]
    expected, *found = (counted(table, list(table.attributes)) for table in tables)
    assert found == [expected, expected]


def test_many_faces_in_memory_become_their_distinct_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table without weights, persons and probabilities is condensed; its audit is the same to the last bit."""
    rng = np.random.default_rng(3)
    n = 700
    frame = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "age_true": rng.choice(np.array(["0-2", "3-9", None], dtype=object), size=n),
            "age_pred": rng.choice(np.array(["0-2", "3-9", None], dtype=object), size=n),
            "race": rng.choice(np.array(["A", "B", None], dtype=object), size=n, p=[0.5, 0.45, 0.05]),
        }
    )
    frame["age_status"] = np.where(frame["age_pred"].isna() & (rng.random(n) < 0.5), "failed", None)
    table = read_predictions(frame)
    expected = fa.run_audit(table, audit=QUICK)
    monkeypatch.setattr("fairaudit.data.condense.LARGE", 100)
    rows = table.of_task("age", ["race"])
    assert rows.times is not None and len(rows) == n and len(rows.frame) < 60
    found = fa.run_audit(table, audit=QUICK)
    same_audit(found, expected)
    assert found.meta["warnings"] == expected.meta["warnings"]
    apart = read_predictions(frame.assign(weight=1.0))
    assert apart.of_task("age", ["race"]) is apart


def measurements(n: int, seed: int) -> pd.DataFrame:
    """A table with columns of numbers: many and few values, gaps, infinities, one in text, one all but empty."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(n)], "race": rng.choice(list("ABC"), size=n)})
    for task in "xy":
        true = rng.choice(np.array(["u", "v", None], dtype=object), size=n, p=[0.5, 0.45, 0.05])
        frame[f"{task}_true"] = true
        frame[f"{task}_pred"] = np.where(rng.random(n) < 0.7, true, rng.choice(["u", "v"], size=n))
    light = rng.normal(size=n) + (frame["race"] == "A")
    frame["light"] = np.where(rng.random(n) < 0.04, np.nan, light)
    frame["crop"] = np.where(rng.random(n) < 0.5, 0.0, rng.integers(0, 300, size=n) / 7)  # half are the smallest
    frame["turn"] = np.where(rng.random(n) < 0.1, np.inf, rng.integers(-90, 90, size=n))
    frame["note"] = [f"word {i}" for i in range(n)]
    frame["age_true"], frame["age_pred"] = rng.integers(0, 90, size=n), rng.integers(0, 90, size=n)
    return frame


@pytest.mark.parametrize("more", ["", "weight", "subject_id"])
def test_gaps_are_adjusted_for_numbers_on_disk_as_in_memory(tmp_path: Path, more: str) -> None:
    """Quantile bins are of the faces that a task counts, so adjusted gaps are equal to the last bit; so is a model."""
    frame = measurements(700, 4)
    if more:
        frame[more] = np.random.default_rng(0).integers(1, 150, size=len(frame))
    write_shards(frame, tmp_path / "table", [150, 410], ["csv", "parquet", "typed"])
    tables = [read_shards(tmp_path / "table", most_held=0), read_shards(tmp_path / "table"), read_predictions(frame)]
    assert isinstance(tables[0], ShardedPredictions)
    audit = QUICK.model_copy(update={"adjust_for": ("light", "crop", "turn", "age_true_years", "label_mix", "y")})
    with patch("fairaudit.audit.ANALYSES", {"adjusted": ANALYSES["adjusted"]}):
        results = [fa.run_audit(table, tasks=["x"], by=["race"], audit=audit) for table in tables]
        single = [
            fa.run_audit(
                table, tasks=["x", "y"], by=["race"], audit=QUICK.model_copy(update={"adjust_for": ("light",)})
            )
            for table in tables
        ]
    for on_disk, folder, expected in (results, single):
        adjusted = expected.more["adjusted"]
        pd.testing.assert_frame_equal(on_disk.more["adjusted"], adjusted, check_exact=True)
        pd.testing.assert_frame_equal(folder.more["adjusted"], adjusted, check_exact=True)
    assert "light in 5 bins" in set(single[2].more["adjusted"]["covariates"])
    assert single[2].more["adjusted"]["adjusted"].notna().any() and single[2].more["adjusted"]["modelled"].notna().any()
    assert "light in 5 bins; crop in 4 bins; turn in 5 bins" in results[2].more["adjusted"]["covariates"].iloc[0]


def test_what_is_no_column_of_numbers_cannot_be_adjusted_for_on_disk(tmp_path: Path) -> None:
    """Words are refused with what there is, as in memory; a number that no counted face has leaves nothing over."""
    frame = measurements(120, 5).assign(gone=np.nan)
    frame.loc[frame["x_true"].isna(), "gone"] = 1.5
    write_shards(frame, tmp_path / "table", [50], ["csv", "parquet"])
    tables = [read_shards(tmp_path / "table", most_held=0), read_predictions(frame.astype({"gone": float}))]
    for table in tables:
        for name in ("note", "lightt"):
            with pytest.raises(UsageError, match=r"the table has no such column.*light, crop, turn"):
                fa.run_audit(table, tasks=["x"], audit=QUICK.model_copy(update={"adjust_for": (name,)}))
    with patch("fairaudit.audit.ANALYSES", {"adjusted": ANALYSES["adjusted"]}):
        audit = QUICK.model_copy(update={"adjust_for": ("turn",)})
        found = [fa.run_audit(table, tasks=["x"], by=["race"], audit=audit).more["adjusted"] for table in tables]
    pd.testing.assert_frame_equal(*found, check_exact=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 9), min_size=1, max_size=60), st.integers(1, 7))
def test_quantile_bins_do_not_depend_on_portions(numbers: list[int], size: int) -> None:
    """Five bins end where a fifth of the faces is reached, however the distinct numbers come in portions."""
    distinct, counts = np.unique(np.array(numbers, dtype=float) / 3, return_counts=True)
    parts = [(distinct[i : i + size], counts[i : i + size]) for i in range(0, len(distinct), size)]
    found = quantile_bins(parts, len(distinct), len(numbers))
    whole = quantile_bins([(distinct, counts)], len(distinct), len(numbers))
    assert found.equals(whole)
    ends = distinct
    if len(distinct) > 5:
        ends = np.unique(np.quantile(np.array(numbers) / 3, [0.2, 0.4, 0.6, 0.8, 1], method="inverted_cdf"))
    np.testing.assert_array_equal(found.right, ends)
    assert (np.diff(bin_codes(np.sort(np.array(numbers) / 3), found)) >= 0).all()


def close(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal but for the order in which numbers were added."""
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-11, atol=1e-12)


def curves(table: Any, **more: Any) -> dict[str, pd.DataFrame]:
    """The reliability curves and coverages of an audit by two attributes, one of which is the label of a task."""
    with patch("fairaudit.audit.ANALYSES", {name: ANALYSES[name] for name in ("calibration", "coverage")}):
        return dict(fa.run_audit(table, by=["race", "y:race"], audit=QUICK, **more).more)


def test_reliability_curves_and_coverages_of_tables_on_disk(tmp_path: Path) -> None:
    """From the counts of distinct scores they are those of the table in memory to the last bit, outcomes included."""
    frame = scored(700, 7)
    frame["y_status"] = None
    frame.loc[[6, 9, 11], "y_pred"], frame.loc[[9, 11], "y_status"] = None, ["no_face", "abstained"]
    write_shards(frame, tmp_path / "table", [100, 260], ["csv", "parquet"])
    found, expected = curves(read_shards(tmp_path / "table", most_held=0)), curves(frame)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True)
    assert set(expected["calibration"]["of"]) == {"top", "class"} and set(expected["calibration"]["bin"]) >= {1, 8}
    thresholds = expected["coverage"][expected["coverage"]["point"] == "threshold"]
    assert (thresholds["answered"] < thresholds["n"]).any() and thresholds["threshold"].nunique() > 12


def test_equal_weights_of_one_and_persons_of_one_face_change_no_curve() -> None:
    """The curves of independent faces come from sums; weights of one, and persons of one face, give the same."""
    frame = scored(400, 8)
    plain, weighted, single = (
        curves(table) for table in (frame, frame.assign(weight=1.0), frame.assign(subject_id=range(len(frame))))
    )
    for name, table in plain.items():
        close(weighted[name], table)
        close(
            single[name].drop(columns=["low", "high"], errors="ignore"),
            table.drop(columns=["low", "high"], errors="ignore"),
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_quantiles_of_counts_are_numpys(numbers: list[float]) -> None:
    """Thresholds are numpy's quantiles of all confidences, to the last bit, from distinct ones and their counts."""
    score, faces = np.unique(np.array(numbers) + 0.0, return_counts=True)
    shares = np.arange(0.1, 1, 0.1)
    np.testing.assert_array_equal(quantiles(score, faces, shares), np.quantile(np.array(numbers) + 0.0, shares))


def test_thresholds_of_binned_scores_are_ends_of_bins_where_counts_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit the coverage at each printed threshold is that of the scores themselves; the audit says so."""
    frame = scored(600, 9)
    write_shards(frame, tmp_path / "table", [200], ["parquet"])
    for name, value in {"MOST_EXACT": 100, "BINS": 32}.items():
        monkeypatch.setattr(f"fairaudit.data.score_counts.{name}", value)
        monkeypatch.setattr(f"fairaudit.data.sharded.{name}", value)
    sharded = read_shards(tmp_path / "table", most_held=0)
    assert any("Thresholds of coverage are ends of bins" in said for said in sharded.meta["shards"]["said"])
    found = curves(sharded, tasks=["x"])
    table = found["coverage"].query("by == 'race' and point == 'threshold'")
    own = np.select([frame["x_pred"] == c for c in "uvw"], [frame[f"x_prob_{c}"] for c in "uvw"])
    usable = (frame[[f"x_prob_{c}" for c in "uvw"]].sum(axis=1, skipna=False) - 1).abs() < 1e-3
    for row in table.itertuples():
        here = usable & (frame["race"] == row.subgroup if row.subgroup != "unknown" else frame["race"].isna())
        assert row.threshold * 32 == int(row.threshold * 32)
        assert row.answered == (own[here] >= row.threshold).sum() and row.n == here.sum()
    exact = curves(frame, tasks=["x"])["calibration"].query("by == 'overall' and of == 'top'")
    binned = found["calibration"].query("by == 'overall' and of == 'top'")
    assert binned["n"].sum() == exact["n"].sum()
    total = [(part["mean_score"] * part["n"]).sum() / part["n"].sum() for part in (binned, exact)]
    assert 0 < abs(total[0] - total[1]) <= 0.5 / 32


def aged(n: int, seed: int) -> pd.DataFrame:
    """A table of ages in years with impossible and missing ones, two sexes as a task's labels, and young faces."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(n)], "race": rng.choice(list("AB"), size=n)})
    true = rng.integers(12, 34, size=n).astype(float)
    frame["age_true"] = np.where(rng.random(n) < 0.03, np.nan, true)
    frame["age_pred"] = np.where(rng.random(n) < 0.03, -1, np.round(np.abs(true + rng.normal(0, 4, size=n)), 2))
    frame.loc[:2, "age_pred"] = 200.0
    frame["gender_true"] = rng.choice(["F", "M"], size=n)
    frame["gender_pred"] = rng.choice(["F", "M"], size=n)
    return frame


@pytest.mark.parametrize("form", ["years", "beside the bins", "an attribute"])
def test_errors_in_years_of_tables_on_disk(tmp_path: Path, form: str) -> None:
    """MAE, RMSE, signed error, CS(5) and NIST's measures come from sums by cell, and agree to 1e-12."""
    frame = aged(1500, 2)
    if form == "beside the bins":
        frame = frame.rename(columns={"age_true": "age_true_years", "age_pred": "age_pred_years"})
        frame["age_true"], frame["age_pred"] = "20-29", np.where(frame["age_pred_years"] > 25, "20-29", "10-19")
    if form == "an attribute":
        frame = frame.rename(columns={"gender_true": "gender"}).drop(columns="gender_pred")
    write_shards(frame, tmp_path / "table", [400, 900], ["csv", "parquet"])
    sharded = read_shards(tmp_path / "table", most_held=0)
    with patch("fairaudit.audit.ANALYSES", {}):
        found, expected = (fa.run_audit(table, tasks=["age"], by=["race"], audit=QUICK) for table in (sharded, frame))
    names = {name for name, metric in METRICS.items() if metric.needs == "years"}
    assert names <= set(expected.metrics["metric"])
    nist = expected.metrics.query("metric == 'mae_years_18_to_30' and by == 'overall'")
    assert nist["value"].notna().all() and nist["low"].notna().all()
    for name in ("metrics", "gaps", "rest"):
        close(getattr(found, name), getattr(expected, name))
    assert not sharded.meta["shards"]["said"]


def test_exploration_on_disk_is_refused_in_words(tmp_path: Path) -> None:
    """Halves are dealt face by face, which a counted table has not: a refusal that says what to do, not silence."""
    write_shards(pd.DataFrame(BASE), tmp_path / "table", [3], ["parquet"])
    sharded = read_shards(tmp_path / "table", most_held=0)
    with pytest.raises(UsageError, match="leave --exploratory out"):
        fa.run_audit(sharded, audit=QUICK.model_copy(update={"exploratory": True}))


def test_ages_that_a_map_changed_are_not_measured_in_years_on_disk(tmp_path: Path) -> None:
    """A map of values that makes other years is not followed: the audit says so, and gives no number."""
    frame = aged(300, 3)
    write_shards(frame, tmp_path / "table", [100], ["parquet"])
    sharded = read_shards(tmp_path / "table", most_held=0, values={"age": {"20": "60"}})
    assert any("errors in years are not reported" in said for said in sharded.meta["shards"]["said"])
    with patch("fairaudit.audit.ANALYSES", {}):
        found = fa.run_audit(sharded, tasks=["age"], by=["race"], audit=QUICK).metrics
    years = found[found["metric"] == "mae_years"]
    assert len(years) and years["value"].isna().all() and years["reason"].str.contains("refused").all()


def test_bins_of_large_numbers_have_names_of_their_own() -> None:
    """Three digits do not tell 1,000,000.1 from 1,000,000.2, six not two numbers of seven."""
    numbers = 1e6 + np.arange(10) / 10
    named = bin_names(quantile_bins([(numbers, np.ones(10))], 10, 10))
    assert named[:2] == ("1000000–1000000.1", "1000000.1–1000000.3")
    assert len(set(bin_names(quantile_bins([(numbers[:3], np.ones(3))], 3, 3)))) == 3
    assert bin_names(quantile_bins([(np.arange(100.0), np.ones(100))], 100, 100))[0] == "0–19"
