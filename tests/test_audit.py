"""An audit from end to end, against recomputation by mask."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from statsmodels.stats.proportion import proportion_confint

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.results import AuditResult
from fairaudit.results.columns import GAP_COLUMNS, METRIC_COLUMNS, REST_COLUMNS
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=200)


def faces(n: int = 800, seed: int = 0) -> pd.DataFrame:
    """Predictions of gender and age with one planted bias: gender is often wrong for Asian faces."""
    rng = np.random.default_rng(seed)
    race = rng.choice(["White", "Black", "Asian"], n, p=[0.5, 0.3, 0.2])
    gender = rng.choice(["Male", "Female"], n)
    other = np.where(gender == "Male", "Female", "Male")
    right = rng.random(n) < np.where(race == "Asian", 0.7, 0.95)
    age = rng.integers(0, 90, n)
    return pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "gender_true": gender,
            "gender_pred": np.where(right, gender, other),
            "age_true": age,
            "age_pred": np.clip(age + rng.integers(-12, 12, n), 0, 99),
            "race": race,
            "gender": gender,
        }
    )


@pytest.fixture(scope="module")
def result() -> AuditResult:
    """The audit of those faces with every default axis."""
    return run_audit(faces(), audit=QUICK, seed=3)


def one(table: pd.DataFrame, **where: str) -> pd.Series:
    """The single row that has these values."""
    found = table
    for column, value in {"class": "", **{k.rstrip("_"): v for k, v in where.items()}}.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


def test_columns_and_axes(result: AuditResult) -> None:
    """The tables have the public columns; axes are the attributes and their pairs."""
    assert tuple(result.metrics.columns) == METRIC_COLUMNS
    assert tuple(result.gaps.columns) == GAP_COLUMNS
    assert tuple(result.rest.columns) == REST_COLUMNS
    assert list(result.meta["subgroups"]) == ["race", "gender", "race:gender"]
    assert "overall" in set(result.metrics["by"])


def test_values_equal_recomputation_by_mask(result: AuditResult) -> None:
    """Accuracy, recall and their Wilson limits per subgroup equal a mask over the table."""
    frame = faces()
    for race in ("White", "Black", "Asian"):
        part = frame[frame["race"] == race]
        right = (part["gender_true"] == part["gender_pred"]).sum()
        row = one(result.metrics, task="gender", by="race", subgroup=race, metric="accuracy")
        assert (row["value"], row["n"], row["denominator"]) == (right / len(part), len(part), len(part))
        np.testing.assert_allclose(
            row[["low", "high"]].astype(float), proportion_confint(right, len(part), method="wilson")
        )
        recall = one(result.metrics, task="gender", by="race", subgroup=race, metric="recall", class_="Female")
        expected = sk.recall_score(part["gender_true"], part["gender_pred"], pos_label="Female")
        assert recall["value"] == pytest.approx(expected, abs=1e-12)
        balanced = one(result.metrics, task="gender", by="race", subgroup=race, metric="balanced_accuracy")
        assert balanced["value"] == pytest.approx(sk.balanced_accuracy_score(part["gender_true"], part["gender_pred"]))


def test_the_planted_bias_is_found(result: AuditResult) -> None:
    """The accuracy gap over race names Asian as the worst, and its interval excludes 0."""
    row = one(result.gaps, task="gender", by="race", metric="accuracy")
    assert row["worst"] == "Asian"
    assert 0 < row["difference_low"] < row["difference"] < row["difference_high"]
    rest = one(result.rest, task="gender", by="race", subgroup="Asian", metric="accuracy")
    frame = faces()
    others = frame[frame["race"] != "Asian"]
    assert rest["rest"] == pytest.approx((others["gender_true"] == others["gender_pred"]).mean())
    assert rest["high"] < 0
    assert rest["n_rest"] == len(others)


def test_degenerate_axes_keep_only_recall(result: AuditResult) -> None:
    """Where gender is part of the axis, gender's precision is undefined with that reason, its recall is not."""
    rows = result.metrics[(result.metrics["task"] == "gender") & (result.metrics["by"] == "gender")]
    precision = rows[rows["metric"] == "precision"]
    assert precision["value"].isna().all()
    assert precision["reason"].str.contains("determines the label").all()
    by_class = one(result.metrics, task="gender", by="gender", subgroup="Male", metric="recall_by_labelled_class")
    recall = one(result.metrics, task="gender", by="gender", subgroup="Male", metric="recall", class_="Male")
    assert by_class["value"] == recall["value"]
    assert {(d["task"], d["by"]) for d in result.meta["degenerate"]} == {
        ("gender", "gender"),
        ("gender", "race:gender"),
    }
    crossed = one(result.gaps, task="gender", by="race:gender", metric="recall", class_="Male")
    assert crossed["worst"] == "Asian × Male"


def test_saved_and_loaded_alike_and_repeatable(result: AuditResult, tmp_path: Path) -> None:
    """Saving keeps floats to the last digit; the same seed gives the same audit."""
    result.save(tmp_path / "audit", read_predictions(faces()))
    again = AuditResult.load(tmp_path / "audit")
    for name in ("metrics", "gaps", "rest", "confusion"):
        pd.testing.assert_frame_equal(getattr(result, name), getattr(again, name), check_dtype=False, check_exact=True)
    assert {"metrics.csv", "gaps.csv", "rest.csv", "predictions.parquet"} <= {
        p.name for p in (tmp_path / "audit").iterdir()
    }
    repeated = run_audit(faces(), audit=QUICK, seed=3)
    pd.testing.assert_frame_equal(result.to_frame(), repeated.to_frame())


def test_outcomes_and_missing_predictions_are_counted() -> None:
    """No face: an outcome that end-to-end accuracy counts as wrong. No prediction at all: listed by subgroup."""
    frame = faces(200)
    frame["gender_status"] = ""
    frame["gender_pred"] = frame["gender_pred"].astype(object)
    frame.loc[:9, "gender_pred"] = None
    frame.loc[:4, "gender_status"] = "no_face"
    found = run_audit(frame, tasks=["gender"], by=["race"], audit=QUICK)
    rate = one(found.metrics, task="gender", by="overall", metric="prediction_rate")
    assert rate["value"] == 190 / 195
    right = (frame["gender_true"] == frame["gender_pred"]).sum()
    assert one(found.metrics, task="gender", by="overall", metric="end_to_end_accuracy")["value"] == right / 195
    assert one(found.metrics, task="gender", by="overall", metric="accuracy")["value"] == right / 190
    entry = next(e for e in found.meta["excluded"] if e["kind"] == "no_prediction_given")
    assert entry["count"] == 5
    assert sum(entry["subgroups"]["race"].values()) == 5
    assert sum(o["count"] for o in found.meta["outcomes"] if o["by"] == "race") == 5


def test_without_labels_only_selection_rates() -> None:
    """A table without labels gets selection rates and counts, and a warning."""
    frame = faces(200)[["image", "gender_pred", "race"]]
    found = run_audit(frame, audit=QUICK)
    assert set(found.metrics["metric"]) == {"n", "selection_rate"}
    assert any("No labels" in warning for warning in found.meta["warnings"])
    expected = (frame.loc[frame["race"] == "Black", "gender_pred"] == "Male").mean()
    row = one(found.metrics, task="gender", by="race", subgroup="Black", metric="selection_rate", class_="Male")
    assert row["value"] == expected


def test_small_and_unknown_subgroups_stand_outside_extremes() -> None:
    """A subgroup under 30 is shown and marked, a missing attribute is `unknown`; neither is worst or in the rest."""
    frame = faces(300)
    frame["race"] = frame["race"].astype(object)
    frame.loc[:4, ["race", "gender_pred"]] = ["Indian", "Male"]
    frame.loc[5:50, "race"] = None
    found = run_audit(frame, tasks=["gender"], by=["race"], audit=QUICK)
    row = one(found.metrics, task="gender", by="race", subgroup="Indian", metric="accuracy")
    assert row["small"]
    gap = one(found.gaps, task="gender", by="race", metric="accuracy")
    assert "Indian" in gap["not_assessed"]
    assert "unknown" not in gap["not_assessed"]
    assert "unknown" in set(found.metrics["subgroup"])
    assert "unknown" not in set(found.rest["subgroup"])
    white = one(found.rest, task="gender", by="race", subgroup="White", metric="accuracy")
    assert white["n_rest"] == (frame["race"].notna() & (frame["race"] != "White")).sum()


def test_undefined_values_have_reasons(result: AuditResult) -> None:
    """Every undefined value stands with a reason in words, and every defined rate with an interval."""
    undefined = result.metrics[result.metrics["value"].isna()]
    assert (undefined["reason"] != "").all()
    defined = result.metrics[result.metrics["value"].notna() & ~result.metrics["metric"].isin(["n", "support"])]
    assert ((defined["low"] <= defined["value"]) | (defined["reason"] != "")).all()


@pytest.mark.parametrize("extra", ["subject_id", "weight"])
def test_subjects_and_weights_run_through(extra: str) -> None:
    """Both change the effective number of faces; the sentence on independence says so."""
    frame = faces(150)
    # three pictures a person, mostly all right or all wrong
    frame = frame.iloc[np.argsort(frame["gender_true"] == frame["gender_pred"], kind="stable")].reset_index(drop=True)
    frame[extra] = np.arange(150) // 3 if extra == "subject_id" else np.resize([1.0, 2.0, 5.0], 150)
    found = run_audit(frame, tasks=["gender"], by=["race"], audit=QUICK)
    rows = found.metrics[(found.metrics["metric"] == "accuracy") & (found.metrics["by"] == "overall")]
    assert (rows["n_effective"] < rows["denominator"]).all()
    assert ("50 subjects" in found.meta["independence"]) == (extra == "subject_id")


def test_wrong_use_is_named() -> None:
    """Unknown axes and tasks, axes of too many values, and nothing to count."""
    frame = faces(60)
    with pytest.raises(UsageError, match="did you mean 'race'"):
        run_audit(frame, by=["rase"])
    with pytest.raises(UsageError, match="no task 'race'"):
        run_audit(frame, tasks=["race"])
    with pytest.raises(UsageError, match="at most 50"):
        run_audit(read_predictions(frame.assign(name=frame["image"]), attributes=["name"]), by=["name"])
    with pytest.raises(DataError, match="neither a prediction nor a status"):
        run_audit(frame.assign(gender_pred=""), tasks=["gender"], by=["race"])


def test_meta_tells_what_was_seen_in_training() -> None:
    """Faces that the model was trained on are a warning with their number; given meta joins."""
    table = read_predictions(faces(120))
    seen = type(table)(**{**table.__dict__, "meta": {"seen_in_training": 7}})
    found = run_audit(seen, by=["race"], tasks=["gender"], audit=QUICK, name="x", meta={"hashes": {"spec": "1"}})
    assert any("7 of the 120" in warning for warning in found.meta["warnings"])
    assert found.meta["name"] == "x"
    assert set(found.meta["hashes"]) == {"predictions", "spec"}


def test_the_unit_of_weights_changes_nothing() -> None:
    """Weights of 1e-12 and of 1 give the same values and the same limits, the bootstrap's included."""
    weight = np.random.default_rng(3).random(300) + 0.2
    first, second = (
        run_audit(faces(300).assign(weight=weight * unit), by=["race"], audit=QUICK) for unit in (1.0, 1e-12)
    )
    for name in ("metrics", "gaps", "rest"):
        one, two = (getattr(result, name) for result in (first, second))
        pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=1e-9, atol=1e-12)


def test_labels_that_are_no_axis_are_named() -> None:
    """With another attribute at hand a race head's labels are no axis by default: the audit says how to ask."""
    rows = {"race_true": ["A", "B"] * 40, "race_pred": ["A", "A"] * 40, "camera": ["x"] * 40 + ["y"] * 40}
    table = pd.DataFrame({"image": [str(i) for i in range(80)], **rows})
    plain, asked = run_audit(table), run_audit(table, by=["race"])
    assert any("--by race" in sentence for sentence in plain.meta["warnings"])
    assert not any("--by race" in sentence for sentence in asked.meta["warnings"])


def test_clopper_pearson_on_request() -> None:
    """The spec's interval is that of every proportion: exact limits are those of statsmodels, wider than Wilson's."""
    frame = pd.DataFrame({"kind_true": ["a"] * 40, "kind_pred": ["a"] * 33 + ["b"] * 7, "race": ["x", "y"] * 20})
    made = {
        name: run_audit(frame, audit=AuditSpec(draws=100, interval=name)).metrics
        for name in ("wilson", "clopper-pearson")
    }
    row = {
        name: table[(table["by"] == "overall") & (table["metric"] == "accuracy")].iloc[0]
        for name, table in made.items()
    }
    exact = proportion_confint(33, 40, method="beta")
    assert (row["clopper-pearson"]["low"], row["clopper-pearson"]["high"]) == pytest.approx(exact, abs=1e-10)
    assert row["clopper-pearson"]["low"] < row["wilson"]["low"]
