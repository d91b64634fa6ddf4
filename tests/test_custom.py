"""A user's own metric: by name or function, with intervals, and undefined where the function has no answer."""

import sys
from pathlib import Path
from unittest.mock import patch

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from one_analysis import audit_with, frame_of

from fairaudit.custom_metrics import load_metrics
from fairaudit.custom_table import NOT_CELLS, UNWEIGHTED
from fairaudit.errors import UsageError
from fairaudit.spec import AuditSpec

CUBES = {"x": [[90, 10], [20, 80]], "y": [[70, 30], [10, 90]], "tiny": [[3, 2], [1, 4]]}
OPTIONS = {"tasks": ["gender"], "by": ["race"]}


def accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """The share of equal labels: what a user may write."""
    return float((y_true == y_pred).mean())


def custom(frame: pd.DataFrame, *metrics: object, calls: int = 0, **more: object) -> pd.DataFrame:
    """The custom table of these metrics; without `calls` to spare for draws, by the (quicker) jackknife."""
    with patch("fairaudit.custom_table.CALLS", calls):
        return audit_with(frame, "custom", metrics=metrics, **{**OPTIONS, **more}).table("custom")


def faces() -> pd.DataFrame:
    """Three subgroups of known confusion, one of them tiny."""
    return frame_of(CUBES, ["Female", "Male"])


def value_rows(table: pd.DataFrame, by: str = "race") -> pd.DataFrame:
    """The rows of values on one axis, by subgroup."""
    return table[(table["kind"] == "value") & (table["by"] == by)].set_index("subgroup")


def test_values_equal_the_function_on_each_subgroup() -> None:
    """A function of the whole task sees the labels as they are; its values equal the function on a mask."""
    frame = faces()
    table = custom(frame, "sklearn.metrics:matthews_corrcoef", accuracy, calls=600, draws=400)
    assert set(table["metric"]) == {"sklearn.metrics:matthews_corrcoef", "test_custom:accuracy"}
    mcc = value_rows(table[table["metric"].str.contains("matthews")])
    for name, part in frame.groupby("race"):
        expected = sk.matthews_corrcoef(part["gender_true"], part["gender_pred"])
        assert mcc.loc[name, "value"] == pytest.approx(expected, abs=1e-12)
        assert mcc.loc[name, "n"] == len(part)
    assert mcc.loc["x", "low"] < mcc.loc["x", "value"] < mcc.loc["x", "high"]
    assert (mcc.loc["x", "method"], mcc.loc["x", "draws"]) == ("bootstrap (BCa)", 200)
    assert mcc.loc["tiny", "small"] and np.isnan(mcc.loc["tiny", "low"])
    assert "fewer than 30" in mcc.loc["tiny", "reason"]
    overall = value_rows(table[table["metric"].str.contains("accuracy")], "overall")
    assert overall.loc["overall", "value"] == pytest.approx((90 + 80 + 70 + 90 + 7) / 410)


def test_a_function_of_one_class_is_evaluated_for_each() -> None:
    """What takes pos_label gets each class against the rest, as sklearn and fairlearn compute it."""
    frame = faces()
    table = custom(frame, "sklearn.metrics:f1_score", "fairlearn.metrics:selection_rate")
    for class_ in ("Female", "Male"):
        f1 = value_rows(table[table["metric"].str.contains("f1") & (table["class"] == class_)])
        rate = value_rows(table[table["metric"].str.contains("selection") & (table["class"] == class_)])
        for name, part in frame.groupby("race"):
            y, p = part["gender_true"], part["gender_pred"]
            assert f1.loc[name, "value"] == pytest.approx(sk.f1_score(y, p, pos_label=class_))
            assert rate.loc[name, "value"] == pytest.approx(fl.selection_rate(y, p, pos_label=class_))


def test_the_interval_of_accuracy_agrees_with_wilson() -> None:
    """Bootstrap and jackknife limits of a user's accuracy are near Wilson's; many subgroups make it the jackknife."""
    frame = faces()
    table = audit_with(frame, "custom", metrics=(accuracy,), draws=2000, **OPTIONS)
    row = value_rows(table.table("custom")).loc["x"]
    wilson = table.metrics[(table.metrics["metric"] == "accuracy") & (table.metrics["subgroup"] == "x")].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((wilson["low"], wilson["high"]), abs=0.015)
    many = frame.assign(image=range(len(frame)), camera=np.resize([f"c{i}" for i in range(12)], len(frame)))
    cameras = audit_with(many, "custom", metrics=(accuracy,), tasks=["gender"], by=["camera"], draws=2000)
    few = value_rows(cameras.table("custom"), "camera")
    assert set(few["method"]) == {"bootstrap (BCa)"} and (few["draws"] == 6000 // 13).all()
    with patch("fairaudit.custom_table.CALLS", 1000):
        cheap = audit_with(many, "custom", metrics=(accuracy,), tasks=["gender"], by=["camera"], draws=2000)
    row = value_rows(cheap.table("custom"), "camera").iloc[0]
    exact = cheap.metrics[(cheap.metrics["metric"] == "accuracy") & (cheap.metrics["by"] == "camera")].iloc[0]
    assert (row["method"], row["draws"]) == ("jackknife", 0)
    assert (row["low"], row["high"]) == pytest.approx((exact["low"], exact["high"]), abs=0.005)


def test_gaps_hold_for_all_pairs() -> None:
    """The gap is highest − lowest of the assessed subgroups; its limits enclose it; a tiny subgroup is named."""
    table = custom(faces(), accuracy)
    gap = table[table["kind"] == "difference"].iloc[0]
    assert gap["value"] == pytest.approx(170 / 200 - 160 / 200)
    assert (gap["lowest"], gap["highest"], gap["not_assessed"]) == ("y", "x", "tiny")
    assert gap["low"] == 0 and gap["high"] > gap["value"]
    ratio = table[table["kind"] == "ratio"].iloc[0]
    assert ratio["value"] == pytest.approx(160 / 170) and ratio["low"] < ratio["value"]


def test_undefined_stays_undefined() -> None:
    """sklearn's zero_division, fairlearn's silent 0, NaN and an exception are all empty, each with its reason."""

    def fails(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        raise ValueError("no idea")

    cubes = {"x": [[40, 5], [5, 40]], "women": [[50, 0], [0, 0]]}
    frame = frame_of(cubes, ["Female", "Male"])
    assert fl.true_positive_rate([0, 0], [0, 0], pos_label=1) == 0
    table = custom(
        frame,
        "sklearn.metrics:precision_score",
        "fairlearn.metrics:true_positive_rate",
        fails,
        lambda y, p: float("nan"),
    )
    men = table[(table["kind"] == "value") & (table["subgroup"] == "women") & (table["class"].isin(["Male", ""]))]
    assert men["value"].isna().all() and len(men) == 4
    reasons = dict(zip(men["metric"], men["reason"], strict=True))
    assert reasons["sklearn.metrics:precision_score"].startswith("undefined: Precision is ill-defined")
    assert reasons["fairlearn.metrics:true_positive_rate"] == "no face is labelled so"
    assert "it raised ValueError: no idea" in reasons.values() and "it returned nan" in reasons.values()
    recall = table[(table["metric"].str.contains("true_pos")) & (table["kind"] == "difference")]
    assert (recall["not_assessed"] == "women").any()


def test_weights_are_passed_or_refused() -> None:
    """A function with sample_weight gets the weights; one without is refused by a word, not silently unweighted."""
    frame = faces().assign(weight=lambda f: np.where(f["gender_pred"] == "Male", 3.0, 1.0))
    table = custom(frame, "sklearn.metrics:accuracy_score", accuracy)
    weighted = value_rows(table[table["metric"].str.contains("sklearn")])
    part = frame[frame["race"] == "x"]
    expected = sk.accuracy_score(part["gender_true"], part["gender_pred"], sample_weight=part["weight"])
    assert weighted.loc["x", "value"] == pytest.approx(expected)
    assert weighted.loc["x", "low"] < expected < weighted.loc["x", "high"]
    own = table[table["metric"].str.contains("test_custom")]
    assert own["value"].isna().all() and (own["reason"] == UNWEIGHTED).all()


def test_persons_are_drawn_whole() -> None:
    """Several alike pictures of a person widen the interval."""
    frame = faces()
    people = frame.assign(subject_id=[f"p{i // 10}" for i in range(len(frame))])
    plain, clustered = (
        value_rows(custom(f, accuracy, calls=6000, draws=400, min_group_size=5)).loc["x"] for f in (frame, people)
    )
    assert plain["value"] == clustered["value"]
    assert clustered["high"] - clustered["low"] > 2 * (plain["high"] - plain["low"])


def test_a_metric_of_the_order_of_faces_has_no_interval() -> None:
    """A function that depends on more than counts has its value, and no interval from counts."""
    table = custom(faces(), lambda y, p: float((y[: len(y) // 2] == p[: len(y) // 2]).mean()), draws=200)
    assert value_rows(table).loc["x", "reason"] == NOT_CELLS
    assert value_rows(table).loc["x", "value"] == pytest.approx(0.9)


def test_axes_and_tasks_without_meaning_are_refused() -> None:
    """Where the subgroup determines the label, and without labels, there is a reason instead of values."""
    frame = faces().assign(gender=lambda f: f["gender_true"])
    table = custom(frame, accuracy, by=["gender"])
    row = table[table["by"] == "gender"].iloc[0]
    assert np.isnan(row["value"]) and "determines the label" in row["reason"]
    unlabelled = custom(faces().drop(columns="gender_true"), accuracy)
    assert (unlabelled["reason"] == "the table has no labels of this task").all()


def test_modules_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder is found, after installed ones, and the search path is left as it was."""
    (tmp_path / "own_metrics_for_a_test.py").write_text("def share(y, p):\n    return float((y == p).mean())\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    (found,) = load_metrics(["own_metrics_for_a_test:share"])
    assert found(np.array(["a", "b"]), np.array(["a", "a"]), None) == (0.5, "")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("accuracy", "write module:function"),
        ("/tmp/x.py:f", "write module:function"),
        ("no_such_module_anywhere:f", "there is no module 'no_such_module_anywhere'"),
        ("sklearn.metrics:f1", "sklearn.metrics has no 'f1'"),
        ("math:pi", "is float, no function"),
        ("fairlearn.metrics:demographic_parity_difference", "needs sensitive_features"),
    ],
)
def test_what_cannot_be_used_is_refused(name: str, words: str) -> None:
    """A name that leads to no metric ends in a sentence that says what was given and what to do."""
    with pytest.raises(UsageError, match=words):
        load_metrics([name])


def test_a_module_that_fails_and_a_metric_of_many_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that raises, and a function that returns an array, are said in a sentence."""
    (tmp_path / "broken_metrics_for_a_test.py").write_text("raise RuntimeError('on purpose')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"importing .* failed \(RuntimeError: on purpose\)"):
        load_metrics(["broken_metrics_for_a_test:f"])
    with pytest.raises(UsageError, match="returned ndarray, but a metric returns one number"):
        custom(faces(), lambda y, p: np.array([1.0, 2.0]))
    with pytest.raises(UsageError, match="each metric can be named once"):
        load_metrics([accuracy, accuracy])


def test_the_spec_keeps_names() -> None:
    """A function given in Python is written to audit.json by its name."""
    audit = AuditSpec(metrics=("sklearn.metrics:f1_score", accuracy))
    assert audit.model_dump(mode="json")["metrics"] == ["sklearn.metrics:f1_score", "test_custom:accuracy"]
