"""`verify` makes an audit again and names what was tampered with; audit.json keeps to its published schema."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from page_data import make_masking, make_robustness
from report_data import make_predictions
from typer.testing import CliRunner

from fairaudit.audit import run_audit
from fairaudit.cli import app
from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.environment import source_hash
from fairaudit.errors import DataError
from fairaudit.files import file_hash
from fairaudit.report.masking import write_masking_report
from fairaudit.report.render import render_audit
from fairaudit.report.robustness import write_robustness_report
from fairaudit.results.columns import (
    ATTRIBUTION_COLUMNS,
    CHURN_COLUMNS,
    COMPARISON_COLUMNS,
    CONFUSION_COLUMNS,
    CONTRAST_COLUMNS,
    CURVE_COLUMNS,
    GAP_CHANGE_COLUMNS,
    GAP_COLUMNS,
    MASKING_TABLES,
    METHOD_TABLES,
    METRIC_COLUMNS,
    MORE_TABLES,
    NON_INFERIORITY_COLUMNS,
    REGION_COLUMNS,
    REST_COLUMNS,
    ROBUSTNESS_TABLES,
    SANITY_COLUMNS,
)
from fairaudit.schemas import SCHEMAS, load_schema
from fairaudit.spec import AuditSpec
from fairaudit.verification import LATER, verify
from fairaudit.verified_tables import compare_tables

QUICK = AuditSpec(draws=100, min_group_size=20, confidence=0.9)


def predictions(kind: str) -> pd.DataFrame:
    """One demo table of each kind: plain, with outcomes and gaps, with weights and subjects, without labels."""
    tasks = ("gender", "age") if kind == "plain" else ("gender",)
    frame = make_predictions(240, tasks=tasks, races=("White", "Black"))
    if kind == "outcomes":
        frame = frame.assign(gender_status="").astype({"gender_pred": object, "race": object})
        frame.loc[:9, "gender_pred"] = None
        frame.loc[:5, "gender_status"] = "no_face"
        frame.loc[20:30, "race"] = None
    if kind == "weights":
        frame = frame.assign(weight=np.resize([1.0, 2.0, 0.3], 240), subject_id=np.arange(240) // 2)
    if kind == "unlabelled":
        frame = frame[["image", "gender_pred", "race"]]
    return frame


@pytest.fixture(scope="module", params=["plain", "outcomes", "weights", "unlabelled"])
def audit_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of each table, saved with its predictions."""
    table = read_predictions(predictions(request.param))
    folder = tmp_path_factory.mktemp("audits") / request.param
    by = ["race", "race:gender"] if request.param == "plain" else ["race"]
    run_audit(table, by=by, audit=QUICK, seed=5, meta={"question": "how?"}).save(folder, table)
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder to tamper with: the smallest audit, saved with its predictions."""
    table = read_predictions(predictions("plain"))
    run_audit(table, tasks=["gender"], by=["race"], audit=QUICK, seed=5).save(tmp_path / "audit", table)
    return tmp_path / "audit"


def rehash(folder: Path, *names: str) -> None:
    """Write the present hashes of files into audit.json, as somebody who covers their traces would."""
    meta = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    meta["files"] |= {name: file_hash(folder / name) for name in names}
    (folder / "audit.json").write_text(json.dumps(meta), encoding="utf-8")


def test_an_untouched_audit_is_as_stored(audit_folder: Path) -> None:
    """Every cell of every table is equal to the last digit, whatever the table held."""
    found = verify(audit_folder)
    assert found.differences == ()
    assert found.inexact == 0
    assert found.cells > 100
    assert found.files == len(list(audit_folder.iterdir())) - 1
    assert found.versions == {}


def test_every_analysis_that_may_be_asked_for_is_made_again(tmp_path: Path) -> None:
    """Policies, both halves, a population in any order, covariates, wrong labels, probabilities, persons, a metric."""
    frame = make_predictions(240, races=("White", "Black"))
    share = np.random.default_rng(0).uniform(0.5, 1, 240).round(3)
    male = np.where(frame["gender_pred"] == "Male", share, 1 - share)
    frame = frame.assign(gender_prob_Male=male, gender_prob_Female=1 - male, subject_id=np.arange(240) // 2)
    asked = {
        "policies": ["difference(recall, race) <= 0.05"],
        "exploratory": True,
        "population": {"race": {"White": 0.3, "Black": 0.7}, "gender": {"Male": 0.5, "Female": 0.5}},
        "adjust_for": ["age"],
        "label_noise": {"rate": 0.02, "subgroups": {"White": 0.01, "Black": 0.03}},
        "selection": {"task": "gender", "class": "Male"},
        "metrics": ["sklearn.metrics:balanced_accuracy_score"],
    }
    audit = AuditSpec.model_validate({**QUICK.model_dump(), **asked})
    table = read_predictions(frame)
    run_audit(table, by=["race", "gender"], audit=audit, seed=2).save(tmp_path / "a", table)
    names = {path.stem for path in (tmp_path / "a").glob("*.csv")}
    assert {"policies", "population", "adjusted", "label_noise", "impact", "custom", "calibration", "coverage"} <= names
    assert verify(tmp_path / "a", run_metrics=True).differences == ()


def test_audit_json_keeps_to_its_schema(audit_folder: Path) -> None:
    """What is written validates; each required key left out, or a key of another type, does not."""
    schema = load_schema("audit")
    jsonschema.Draft202012Validator.check_schema(schema)
    meta = json.loads((audit_folder / "audit.json").read_text(encoding="utf-8"))
    jsonschema.validate(meta, schema)
    for key in schema["required"]:
        with pytest.raises(jsonschema.ValidationError, match=key):
            jsonschema.validate({name: value for name, value in meta.items() if name != key}, schema)
    wrong = {"n": "12", "confidence": 1.5, "format": 2, "tasks": {}, "created": "yesterday", "warnings": "none"}
    for key, value in wrong.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**meta, key: value}, schema)
    broken = copy.deepcopy(meta)
    broken["files"]["metrics.csv"] = "abc"
    with pytest.raises(jsonschema.ValidationError, match="abc"):
        jsonschema.validate(broken, schema)


def test_every_key_of_an_audit_is_described_in_the_schema(plain: Path) -> None:
    """A new key of audit.json needs a line in the schema."""
    meta = json.loads((plain / "audit.json").read_text(encoding="utf-8"))
    assert set(meta) <= set(load_schema("audit")["properties"])
    assert all(path.is_file() for path in SCHEMAS.values())


def test_a_changed_number_is_named(plain: Path) -> None:
    """One digit of one cell: table, row, column, stored and recomputed value are named, and the file's hash."""
    path = plain / "metrics.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    row = int(table.index[(table["metric"] == "accuracy") & (table["subgroup"] == "Black")][0])
    true = table.loc[row, "value"]
    table.loc[row, "value"] = "0.99"
    table.to_csv(path, index=False)
    hashes, cell = verify(plain).differences
    assert (hashes.table, hashes.column) == ("metrics.csv", "SHA-256 of the file")
    assert (cell.table, cell.row, cell.column) == ("metrics.csv", "gender · race · Black · accuracy", "value")
    assert (float(cell.stored), float(cell.recomputed)) == (0.99, float(true))
    assert "stored 0.99" in cell.sentence()
    rehash(plain, "metrics.csv")
    assert verify(plain).differences == (cell,), "the number is found without the hash, too"


def test_a_changed_prediction_is_named(plain: Path) -> None:
    """One flipped prediction: the file, what it does to each table, and what the audit says of itself."""
    table = read_predictions(plain / "predictions.parquet")
    frame = table.frame.copy()
    white = frame.index[(frame["race"] == "White") & (frame["gender_pred"] == "Male")][0]
    frame.loc[white, "gender_pred"] = "Female"
    type(table)(**{**table.__dict__, "frame": frame}).save(plain / "predictions.parquet")
    rehash(plain, "predictions.parquet")
    found = verify(plain).differences
    assert {"metrics.csv", "confusion.csv", "audit.json"} <= {d.table for d in found}
    cells = [d for d in found if d.table == "confusion.csv" and "White" in d.row]
    assert len(cells) == 2
    assert all(abs(float(d.stored) - float(d.recomputed)) == 1 for d in cells)
    assert any("what was predicted" in d.column for d in found)


def test_changed_words_and_lost_rows_are_named(plain: Path) -> None:
    """A verdict turned into another word, a row left out, a cell that is no number, a table that is missing."""
    gaps = pd.read_csv(plain / "gaps.csv", dtype=str, keep_default_na=False)
    gaps.loc[0, "reason"] = "trust us"
    gaps.iloc[:-1].to_csv(plain / "gaps.csv", index=False)
    text = (plain / "rest.csv").read_text(encoding="utf-8")
    (plain / "rest.csv").write_text(text.replace("0.", "zero.", 1), encoding="utf-8")
    (plain / "confusion.csv").unlink()
    found = verify(plain).differences
    assert any(d.column == "reason" and d.stored == "'trust us'" for d in found)
    assert any(d.table == "gaps.csv" and (d.stored, d.recomputed) == ("none", "a row") for d in found)
    assert any(d.table == "rest.csv" and "unreadable" in d.stored for d in found)
    assert any(d.table == "confusion.csv" and d.recomputed == "the file is missing" for d in found)


OTHER_CODE: list[dict[str, str]] = [{}, {"source": "ab" * 32}]


def shown(folder: Path) -> tuple[int, str]:
    """Return the exit code of `fairaudit verify` and its last line."""
    done = CliRunner().invoke(app, ["verify", str(folder)])
    return done.exit_code, done.output.splitlines()[-1]


@pytest.mark.parametrize("environment", OTHER_CODE)
def test_a_gutted_audit_that_says_other_code_wrote_it_is_found(plain: Path, environment: dict[str, str]) -> None:
    """What code wrote it is a line of audit.json like any other: it excuses no table and no warning that went."""
    gone = ("confusion.csv", "findings.csv", "gaps.csv", "metrics.csv", "rest.csv")
    meta = json.loads((plain / "audit.json").read_text(encoding="utf-8"))
    before = list(meta["warnings"])
    forget(plain, *gone, environment=environment, warnings=["All is well; no gap was found."])
    found = verify(plain)
    assert set(gone) <= {d.table for d in found.differences}
    said = [d for d in found.differences if d.column == "warnings"]
    assert {d.recomputed for d in said} == {"no such warning", *before} and before
    assert any("All is well" in d.stored for d in said)
    code, line = shown(plain)
    assert code == 1 and "NOT as stored" in line


@pytest.mark.parametrize("environment", OTHER_CODE)
def test_each_table_but_the_later_ones_must_be_there(plain: Path, environment: dict[str, str]) -> None:
    """One table at a time, taken out of the folder and of audit.json's list."""
    names = sorted(path.name for path in plain.glob("*.csv"))
    assert not LATER & set(names), "no probabilities, so none of the later tables"
    assert len(names) > 5
    for name in names:
        audit, content = (plain / "audit.json").read_text(encoding="utf-8"), (plain / name).read_bytes()
        forget(plain, name, environment=environment)
        assert [(d.table, d.stored) for d in verify(plain).differences] == [(name, "no table")]
        (plain / "audit.json").write_text(audit, encoding="utf-8")
        (plain / name).write_bytes(content)


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """An audit of probabilities, which has the later tables, too."""
    frame = make_predictions(240, tasks=("gender",), races=("White", "Black"))
    share = np.random.default_rng(0).uniform(0.5, 1, 240).round(3)
    male = np.where(frame["gender_pred"] == "Male", share, 1 - share)
    table = read_predictions(frame.assign(gender_prob_Male=male, gender_prob_Female=1 - male))
    run_audit(table, tasks=["gender"], by=["race"], audit=QUICK, seed=5).save(tmp_path / "scored", table)
    return tmp_path / "scored"


@pytest.mark.parametrize("environment", OTHER_CODE)
def test_an_audit_of_earlier_code_need_not_have_later_tables(scored: Path, environment: dict[str, str]) -> None:
    """They are named as not checked, and the audit is not called as stored; listed or lying there, they count."""
    path = scored / "roc.csv"
    content = path.read_bytes()
    assert shown(scored)[1].startswith(f"{scored}: as stored; ")
    said = forget(scored, *sorted(LATER), environment=environment)
    found = verify(scored)
    assert found.differences == () and found.unchecked == ("roc.csv", "thresholds.csv")
    assert [note.partition(". ")[0] for note in found.notes] == ["Not checked: roc.csv, thresholds.csv"]
    code, line = shown(scored)
    assert code == 0 and "NOT fully verified (not checked: roc.csv, thresholds.csv)" in line
    path.write_bytes(content)
    assert [d.table for d in verify(scored).differences] == ["roc.csv"], "a table that is there is not passed over"
    path.unlink()
    (scored / "audit.json").write_text(json.dumps({**said, "files": {**said["files"], "roc.csv": "0" * 64}}))
    assert {(d.table, d.recomputed) for d in verify(scored).differences} == {("roc.csv", "the file is missing")}
    forget(scored, environment={"source": source_hash()})
    assert {"roc.csv", "thresholds.csv"} <= {d.table for d in verify(scored).differences}


@pytest.mark.parametrize("environment", OTHER_CODE)
def test_warnings_in_the_words_of_other_code_are_shown_and_added_ones_are_not_verified(
    plain: Path, environment: dict[str, str]
) -> None:
    """A lost or reworded one is a difference whoever wrote it; of other code one more is named as not checked."""
    own = json.loads((plain / "audit.json").read_text(encoding="utf-8"))["warnings"]
    forget(plain, warnings=[*own, "1 faces were left out."])
    assert {d.column for d in verify(plain).differences} == {"warnings"}
    forget(plain, environment=environment)
    found = verify(plain)
    assert found.differences == () and found.unchecked == ("1 warning",)
    assert "“1 faces were left out.”" in found.notes[0]
    code, line = shown(plain)
    assert code == 0 and "NOT fully verified (not checked: 1 warning)" in line
    forget(plain, warnings=[f"In other words: {own[0]}", *own[1:]])
    found = verify(plain)
    assert {(d.column, d.recomputed) for d in found.differences} == {
        ("warnings", w) for w in (own[0], "no such warning")
    }
    assert found.notes[0].startswith("Warnings differ in wording: not verified, made by other code")
    assert shown(plain)[0] == 1


@pytest.mark.parametrize("environment", OTHER_CODE)
def test_sentences_of_earlier_code_need_not_say_how_faces_are_labelled(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """So an audit made before that was said is as stored; another change of a sentence, or of its caveat, is not."""
    folder, labels = tmp_path / "audit", re.compile(r" Of the same faces .*? are labelled (?:Male|Female)\.")
    race, male = np.repeat(["White", "Black"], 200), np.resize([True, False, False, False], 200)
    gender = np.where(np.concatenate([male, ~male]), "Male", "Female")
    frame = pd.DataFrame({"image": map(str, range(400)), "gender_true": gender, "gender_pred": gender, "race": race})
    frame["place"] = np.resize(["in", "in", "out"], 400)
    table = read_predictions(frame)
    run_audit(table, tasks=["gender"], by=["race", "race:place"], audit=QUICK, seed=5).save(folder, table)
    sentences = pd.read_csv(folder / "findings.csv")["sentence"]
    told = sentences[sentences.str.contains(labels)]
    assert len(told) > 2 and told.str.contains(" No finding: ").any() and not told.str.contains(" No finding: ").all()
    rewrite(folder, lambda text: labels.sub("", text))
    assert {d.column for d in verify(folder).differences} == {"sentence"}, "this code would have said so"
    forget(folder, environment=environment)
    found = verify(folder)
    assert found.differences == () and found.unchecked == ()
    assert found.notes[0].startswith(f"findings.csv: {len(told)} sentences of earlier code, which did not say")
    rewrite(folder, lambda text: text.replace(" is lower for ", " is higher for "))
    changed = sentences.str.contains(" is lower for ").sum()
    assert len(verify(folder).differences) == changed > 0
    rewrite(folder, lambda text: text.partition(" No finding: ")[0])
    assert sum(" No finding: " in d.recomputed for d in verify(folder).differences) == (
        sentences.str.contains(" No finding: ").sum()
    )


def rewrite(folder: Path, change: Callable[[str], str]) -> None:
    """Change every sentence of findings.csv, and its hash in audit.json."""
    table = pd.read_csv(folder / "findings.csv", dtype=str, keep_default_na=False)
    table.assign(sentence=table["sentence"].map(change)).to_csv(folder / "findings.csv", index=False)
    meta = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    meta["files"]["findings.csv"] = file_hash(folder / "findings.csv")
    (folder / "audit.json").write_text(json.dumps(meta), encoding="utf-8")


def test_what_was_told_to_an_audit_is_counted_in_the_last_line(plain: Path) -> None:
    """Anybody may write into `told`: the line does not pass over it; what is no list there tells nothing."""
    own = json.loads((plain / "audit.json").read_text(encoding="utf-8"))["warnings"]
    forget(plain, told=["All is well."], warnings=[*own, "All is well."])
    assert shown(plain)[1].endswith("; 1 warning told to the audit taken as given")
    forget(plain, told="All is well.")
    assert any("All is well." in d.stored for d in verify(plain).differences)


def test_a_table_that_the_same_code_made_is_missed(plain: Path) -> None:
    """Taken out of the folder and of the list in audit.json, it is a difference: this code writes it."""
    forget(plain, "findings.csv")
    assert [(d.table, d.stored, d.recomputed) for d in verify(plain).differences] == [
        ("findings.csv", "no table", "a table")
    ]


def forget(folder: Path, *names: str, **more: object) -> dict[str, Any]:
    """Remove files from a folder and from the list in its audit.json; return what that says now."""
    meta = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    meta = {**meta, **more, "files": {name: told for name, told in meta["files"].items() if name not in names}}
    for name in names:
        (folder / name).unlink()
    (folder / "audit.json").write_text(json.dumps(meta), encoding="utf-8")
    return meta


def test_changed_claims_in_audit_json_are_named(plain: Path) -> None:
    """Counts that audit.json states are recomputed, too; a seed that was changed shows in the drawn limits."""
    meta = json.loads((plain / "audit.json").read_text(encoding="utf-8"))
    meta["subgroups"]["race"]["White"] += 1
    (plain / "audit.json").write_text(json.dumps(meta), encoding="utf-8")
    (only,) = verify(plain).differences
    assert (only.table, only.column) == ("audit.json", "subgroups")
    assert "White" in only.stored
    meta["subgroups"]["race"]["White"] -= 1
    meta["settings"]["seed"] = 6
    (plain / "audit.json").write_text(json.dumps(meta), encoding="utf-8")
    found = verify(plain).differences
    assert found
    assert {d.column for d in found if d.table == "metrics.csv"} <= {"low", "high"}


def test_what_cannot_be_verified_says_why(plain: Path, tmp_path: Path) -> None:
    """No predictions, no settings, no result, a file outside the folder: DataError; a given table stands in."""
    moved = tmp_path / "moved.parquet"
    shutil.move(plain / "predictions.parquet", moved)
    with pytest.raises(DataError, match=r"stores no predictions\.parquet"):
        verify(plain)
    (lost,) = verify(plain, predictions=moved).differences
    assert lost.recomputed == "the file is missing"
    whole = json.loads((plain / "audit.json").read_text(encoding="utf-8"))
    breaks = {
        "no settings": {key: value for key, value in whole.items() if key != "settings"},
        "are damaged": {**whole, "settings": {"audit": {"draws": -1}, "tasks": [], "by": [], "seed": 0}},
        "has format 9": {**whole, "format": 9},
        "outside the folder": {**whole, "files": {"../x.csv": "0"}},
        "is damaged": {**whole, "files": []},
    }
    for why, meta in breaks.items():
        (plain / "audit.json").write_text(json.dumps(meta), encoding="utf-8")
        with pytest.raises(DataError, match=why):
            verify(plain, predictions=moved)
    with pytest.raises(DataError, match="holds none of"):
        verify(tmp_path / "nothing")


def test_code_that_an_audit_names_is_not_run(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric named in audit.json would be imported: only --run-metrics does so, else its table is said to be left."""
    meta = json.loads((plain / "audit.json").read_text(encoding="utf-8"))
    meta["settings"]["audit"]["metrics"] = ["planted_code:run"]
    (plain / "audit.json").write_text(json.dumps(meta), encoding="utf-8")
    (tmp_path / "planted_code.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = verify(plain)
    assert found.differences == ()
    assert "planted_code:run" in found.notes[0]
    with pytest.raises(SystemExit, match="ran"):
        verify(plain, run_metrics=True)


def test_a_comparison_is_checked_by_hash(tmp_path: Path) -> None:
    """Of a comparison only hashes can be checked, and that is said."""
    table = read_predictions(predictions("plain"))
    compare(table, {"same": table}, by=["race"], tasks=["gender"], audit=QUICK).save(tmp_path / "c")
    found = verify(tmp_path / "c")
    assert found.differences == ()
    assert "Only hashes" in found.notes[0]
    with (tmp_path / "c" / "gap_changes.csv").open("a", encoding="utf-8") as stream:
        stream.write("\n")
    assert [d.table for d in verify(tmp_path / "c").differences] == ["gap_changes.csv"]


def test_pages_are_checked_and_a_second_report_brings_them_up_to_date(plain: Path, tmp_path: Path) -> None:
    """A page that was changed, removed or added is named; rendered again, here or elsewhere, all is well."""
    assert verify(plain).notes == ()
    render_audit(plain, plain)
    pages = json.loads((plain / "pages.json").read_text(encoding="utf-8"))["pages"]
    documents = {"model-card.md", "summary.md", "junit.xml"}
    assert set(pages) == {"index.html", *documents, *(f"groups/{path.name}" for path in (plain / "groups").iterdir())}
    found = verify(plain)
    assert found.differences == () and found.files == len(pages) + len(list(plain.glob("*.csv"))) + 1
    page = plain / "groups" / sorted(path.name for path in (plain / "groups").iterdir())[0]
    page.write_text(page.read_text(encoding="utf-8").replace("%", "‰"), encoding="utf-8")
    (plain / "index.html").unlink()
    (plain / "groups" / "more.html").write_text("more", encoding="utf-8")
    named = {d.table: d.recomputed for d in verify(plain).differences}
    assert set(named) == {"index.html", f"groups/{page.name}", "groups/more.html"}
    assert named["index.html"] == "the file is missing" and "did not write" in named["groups/more.html"]
    render_audit(plain, plain)
    assert verify(plain).differences == ()
    render_audit(plain, tmp_path / "report")
    found = verify(tmp_path / "report")
    assert (found.kind, found.differences, found.files) == ("report", (), len(pages))
    (tmp_path / "report" / "index.html").write_text("", encoding="utf-8")
    assert [d.table for d in verify(tmp_path / "report").differences] == ["index.html"]


def test_pages_of_another_audit_and_pages_without_a_record_are_told(plain: Path) -> None:
    """Pages that show an earlier audit.json are named; without pages.json there is a note; a damaged one is refused."""
    render_audit(plain, plain)
    meta = json.loads((plain / "audit.json").read_text(encoding="utf-8"))
    (plain / "audit.json").write_text(json.dumps(meta | {"name": "another"}), encoding="utf-8")
    (told,) = verify(plain).differences
    assert told.table == "pages.json" and "audit.json" in told.column
    (plain / "pages.json").write_text('{"pages": {"../x.html": ""}, "shown": null}', encoding="utf-8")
    with pytest.raises(DataError, match="outside the folder"):
        verify(plain)
    (plain / "pages.json").write_text(json.dumps({"pages": {"a\0": ""}, "shown": None}), encoding="utf-8")
    with pytest.raises(DataError, match="lies outside"):
        verify(plain)
    (plain / "pages.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        verify(plain)
    (plain / "pages.json").unlink()
    found = verify(plain)
    assert found.differences == () and "pages were not checked" in found.notes[0]


def test_warnings_are_compared_and_what_was_told_is_taken_as_given(tmp_path: Path) -> None:
    """A warning that vanished or was slipped in is named; one that the caller gave is no difference."""
    table = read_predictions(predictions("plain"))
    told = {"warnings": ["the plan is late"], "label_source": "annotators"}
    run_audit(table, tasks=["gender"], by=["race"], audit=QUICK, meta=told).save(tmp_path / "a", table)
    assert verify(tmp_path / "a").differences == ()
    meta = json.loads((tmp_path / "a" / "audit.json").read_text(encoding="utf-8"))
    run_audit(table, tasks=["gender"], by=["age"], audit=QUICK).save(tmp_path / "b", table)
    few = json.loads((tmp_path / "b" / "audit.json").read_text(encoding="utf-8"))
    assert any("not assessed" in text for text in few["warnings"])
    for folder, stored in (
        ("a", meta | {"warnings": [*meta["warnings"], "nothing to see"]}),
        ("b", few | {"warnings": []}),
    ):
        (tmp_path / folder / "audit.json").write_text(json.dumps(stored), encoding="utf-8")
        wrong = verify(tmp_path / folder).differences
        assert wrong and {d.column for d in wrong} == {"warnings"}
    earlier = {key: value for key, value in meta.items() if key != "told"}
    (tmp_path / "a" / "audit.json").write_text(json.dumps(earlier), encoding="utf-8")
    assert verify(tmp_path / "a").differences == ()


def test_last_digits_are_counted_and_more_is_a_difference() -> None:
    """A relative difference of 1e-12 is counted as inexact, one of 1e-7 is named; repeated row names are numbered."""
    stored = pd.DataFrame({"task": ["a", "a", "b"], "value": [1.0, 2.0, np.nan], "small": [True, False, True]})
    again = stored.assign(value=[1.0 + 1e-12, 2.0 + 1e-7, np.nan], small=[True, False, False])
    wrong, close = compare_tables("t", stored, again)
    assert close == 1
    assert [(d.row, d.column) for d in wrong] == [("a · no. 2", "value"), ("b", "small")]
    assert compare_tables("t", stored, stored.iloc[::-1])[0][0].column == "value", "equal names are told by place"
    shuffled = stored.iloc[[2, 0, 1]].reset_index(drop=True)
    assert compare_tables("t", stored, shuffled) == ([], 0)
    (gained,) = compare_tables("t", stored, stored.assign(more=1))[0]
    assert (gained.column, gained.stored, gained.recomputed) == ("more", "absent", "present")


def test_every_column_is_documented() -> None:
    """docs/tables.md names each column of each table in the table's section, or among those of every table."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
    common, *sections = text.split("\n## ")
    told = {name: part for part in sections for name in part.partition("\n")[0].replace(".csv", "").split(", ")}
    tables = {"metrics": METRIC_COLUMNS, "gaps": GAP_COLUMNS, "rest": REST_COLUMNS, "confusion": CONFUSION_COLUMNS}
    tables |= {"comparison": COMPARISON_COLUMNS, "gap_changes": GAP_CHANGE_COLUMNS, **MORE_TABLES}
    tables |= METHOD_TABLES
    tables |= {"churn": CHURN_COLUMNS, "non_inferiority": NON_INFERIORITY_COLUMNS}
    tables |= {"attribution": ATTRIBUTION_COLUMNS, "regions": REGION_COLUMNS}
    tables |= {"contrasts": CONTRAST_COLUMNS, "sanity": SANITY_COLUMNS, "curves": CURVE_COLUMNS}
    tables |= {**ROBUSTNESS_TABLES, **MASKING_TABLES}
    assert set(tables) == set(told)
    missing = [
        f"{name}.csv: {column}"
        for name, columns in tables.items()
        for column in columns
        if f"`{column}`"
        not in told[name] + common + text.partition("# The tables of a comparison")[2].partition("## ")[0]
    ]
    assert not missing


@pytest.mark.parametrize("kind", ["robustness", "masking"])
def test_the_files_of_robustness_and_masking_are_checked(tmp_path: Path, kind: str) -> None:
    """Tables, page and the answers they come from, by their hashes; each that changed is named; a begun one is said."""
    found = {"robustness": make_robustness, "masking": make_masking}[kind]({"White": 60, "Black": 50})
    answers = tmp_path / "predictions" / "clean.parquet"
    answers.parent.mkdir()
    answers.write_bytes(b"answers")
    found = replace(found, meta={**found.meta, "predictions": {answers.name: file_hash(answers)}})
    found.save(tmp_path)
    {"robustness": write_robustness_report, "masking": write_masking_report}[kind](found, tmp_path)
    checked = verify(tmp_path)
    assert checked.kind == kind and not checked.differences
    assert checked.files == len(list(tmp_path.glob("*.csv"))) + 2
    for path in (answers, tmp_path / f"{kind}.csv", tmp_path / "index.html"):
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        assert any(path.name in d.table for d in verify(tmp_path).differences), path
        path.write_bytes(before)
    (tmp_path / f"{kind}.json").write_text('{"unfinished": true}', encoding="utf-8")
    with pytest.raises(DataError, match="unfinished"):
        verify(tmp_path)


@pytest.mark.parametrize("told", ["5", '["a"]', "null"])
def test_a_damaged_list_of_answers_is_said(tmp_path: Path, told: str) -> None:
    """What names the answers of a robustness run is anybody's text."""
    (tmp_path / "robustness.json").write_text(f'{{"files": {{}}, "predictions": {told}}}', encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        verify(tmp_path)
