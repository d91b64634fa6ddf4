"""Bad tables through the command line: a sentence with the right exit code and no traceback, or a counted exclusion."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fairaudit import cli
from fairaudit.audit import run_audit
from fairaudit.spec import AuditSpec

N = 120
Change = Callable[[pd.DataFrame], pd.DataFrame]


def table() -> pd.DataFrame:
    """A sound table with probabilities, weights and one attribute."""
    rng = np.random.default_rng(0)
    label = rng.choice(["Female", "Male"], N)
    share = np.round(rng.uniform(0.05, 0.95, N), 3)
    return pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(N)],
            "gender_true": label,
            "gender_pred": np.where(share > 0.5, "Male", "Female"),
            "gender_prob_Female": 1 - share,
            "gender_prob_Male": share,
            "weight": 1.0,
            "race": rng.choice(["A", "B", "C"], N),
        }
    )


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Write a table (CSV, or Parquet where its types matter), audit it, return exit code, messages and audit.json."""

    def run(frame: pd.DataFrame, *words: str, parquet: bool = False) -> tuple[int, str, dict[str, Any]]:
        path = tmp_path / ("table.parquet" if parquet else "table.csv")
        frame.to_parquet(path) if parquet else frame.to_csv(path, index=False)
        out = tmp_path / "audit"
        monkeypatch.setattr(sys, "argv", ["fairaudit", "audit", "--predictions", str(path), "--out", str(out), *words])
        code = cli._guarded()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        found = json.loads((out / "audit.json").read_text(encoding="utf-8")) if code == 0 else {}
        assert code == 0 or not out.exists(), "nothing half-written is left"
        return code, said, found

    return run


def put(column: str, value: object, rows: int = 1) -> Change:
    """Set the first rows of a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[: rows - 1, column] = value
        return frame

    return change


REFUSED: dict[str, tuple[Change, int, str]] = {
    "weight 0": (put("weight", 0), 4, "every weight must be positive"),
    "weight below 0": (put("weight", -1.0), 4, "every weight must be positive"),
    "weight missing": (put("weight", ""), 4, "every weight must be positive"),
    "weight infinite": (put("weight", "inf"), 4, "every weight must be positive"),
    "weight a word": (put("weight", "heavy"), 4, "is no number"),
    "probability above 1": (put("gender_prob_Male", 1.2), 4, "lies outside 0…1"),
    "probability below 0": (put("gender_prob_Male", -0.2), 4, "lies outside 0…1"),
    "probability infinite": (put("gender_prob_Male", "inf"), 4, "lies outside 0…1"),
    "probability a word": (put("gender_prob_Male", "high"), 4, "is no number"),
    "image twice": (put("image", "5.jpg"), 4, "occurs more than once"),
    "image empty": (put("image", ""), 4, "empty `image`"),
    "class spelled twice": (put("gender_pred", "male"), 4, "differ only in case or spaces"),
    "unknown status": (lambda f: put("gender_status", "eaten")(f.assign(gender_status="ok")), 4, "allowed: ok"),
    "status beside a prediction": (
        lambda f: put("gender_status", "no_face")(f.assign(gender_status="")),
        4,
        "leave gender_pred empty",
    ),
    "no prediction at all": (lambda f: f.assign(gender_pred="", gender_true=""), 4, "nothing to audit"),
    "no row": (lambda f: f.iloc[:0], 4, "holds no row"),
    "no prediction column": (lambda f: f.drop(columns="gender_pred"), 4, "no column of predictions"),
    "ids as classes": (lambda f: f.assign(gender_pred=f["image"]), 4, "at most 50 classes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str, audit: Callable[..., Any]) -> None:
    """The exit code is that of bad data, and the message says what is wrong."""
    change, code, words = REFUSED[name]
    found = audit(change(table()))
    assert found[0] == code, found[1]
    assert words in found[1]


def test_labels_outside_given_classes_are_refused(audit: Callable[..., Any], tmp_path: Path) -> None:
    """A table that says its classes, and holds another: exit 4 with the value and the classes."""
    from fairaudit.data.predictions import read_predictions
    from fairaudit.errors import DataError

    frame = put("gender_true", "Other")(table())
    with pytest.raises(DataError, match="1 value of gender_true is none of its classes"):
        read_predictions(frame, classes={"gender": ["Female", "Male"]})
    assert audit(frame, "--by", "race")[2]["tasks"]["gender"]["classes"] == ["Female", "Male", "Other"]


def test_probabilities_that_do_not_sum_to_one_are_counted(audit: Callable[..., Any]) -> None:
    """Three rows that sum to .7, two without a number: counted and left out of score metrics only."""
    frame = table()
    frame.loc[:2, "gender_prob_Male"] = 0.7 - frame.loc[:2, "gender_prob_Female"].clip(upper=0.6)
    frame.loc[:2, "gender_prob_Female"] = frame.loc[:2, "gender_prob_Female"].clip(upper=0.6)
    frame.loc[5:6, ["gender_prob_Male", "gender_prob_Female"]] = np.nan
    code, said, found = audit(frame, "--by", "race")
    assert code == 0, said
    assert found["n"] == N
    unusable = [e for e in found["excluded"] if "prob" in e["kind"] or "score" in e["kind"]]
    assert sum(entry["count"] for entry in unusable) == 5, found["excluded"]


def test_mixed_types_are_one_name(audit: Callable[..., Any]) -> None:
    """1, 1.0, "1" and True: the first three are one class, True is another and said to be."""
    label = [1, 1.0, "1", "2"] * 30
    frame = pd.DataFrame(
        {"image": range(N), "t_true": label, "t_pred": ["1", 2, 1.0, "2.0"] * 30, "race": ["A", "B"] * 60}
    )
    code, said, found = audit(frame.astype(str), "--by", "race")
    assert code == 0, said
    assert found["tasks"]["t"]["classes"] == ["1", "2"]


def test_a_task_of_one_class(audit: Callable[..., Any]) -> None:
    """Everything that needs a second class is undefined with a reason; accuracy is 1."""
    code, said, found = audit(
        table().assign(gender_true="Male", gender_pred="Male", gender_prob_Male=1.0).drop(columns="gender_prob_Female"),
        "--by",
        "race",
    )
    assert code == 0, said
    assert found["tasks"]["gender"]["classes"] == ["Male"]


def test_ten_thousand_subgroups(audit: Callable[..., Any]) -> None:
    """An attribute of 10,000 values is no axis: left out with a word, and a sentence where it is asked for."""
    n = 10_000
    frame = pd.DataFrame({"image": range(n), "camera": [f"c{i}" for i in range(n)]})
    frame = frame.assign(t_true="a", t_pred=np.resize(["a", "a", "b"], n), race=np.resize(["A", "B"], n))
    found = run_audit(frame, audit=AuditSpec(draws=100))
    assert list(found.meta["subgroups"]) == ["race"]
    assert any("'camera' has 10000 values" in str(entry) for entry in found.meta["excluded"])
    code, said, _ = audit(frame, "--by", "camera")
    assert code in (2, 4)
    assert "camera" in said


def test_an_intersection_of_too_many_subgroups_is_refused(audit: Callable[..., Any]) -> None:
    """Three attributes of 40 values each make over 1,000 subgroups: exit 2 with their number."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"image": range(4000), "t_true": "a", "t_pred": rng.choice(["a", "b"], 4000)})
    frame = frame.assign(**{name: rng.integers(0, 40, 4000).astype(str) for name in ("x", "y", "z")})
    code, said, _ = audit(frame, "--by", "x:y:z")
    assert code == 2
    assert "subgroups; at most 1000" in said
