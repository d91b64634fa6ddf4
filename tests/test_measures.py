"""Probabilities and years in an audit: what counts, what is left out, and the tables of calibration and coverage."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.report.render import write_report
from fairaudit.results import AuditResult
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100)
SCORES = ("auc", "average_precision", "log_loss", "brier", "ece", "calibration_slope", "calibration_intercept")


def faces(n: int = 900, seed: int = 0) -> pd.DataFrame:
    """Gender predictions with probabilities, less sure and less right for one group; ages in years."""
    rng = np.random.default_rng(seed)
    race = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    female = rng.random(n) < 0.5
    logit = np.where(race == "c", 0.8, 2.0) * np.where(female, 1, -1) + rng.normal(0, 1.5, n)
    up = 1 / (1 + np.exp(-logit))
    age = rng.integers(10, 60, n).astype(float)
    return pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "gender_true": np.where(female, "Female", "Male"),
            "gender_pred": np.where(up > 0.5, "Female", "Male"),
            "gender_prob_Female": up,
            "gender_prob_Male": 1 - up,
            "age_true": age,
            "age_pred": np.clip(age + rng.normal(2, 5, n), 0, 99).round(1),
            "race": race,
        }
    )


@pytest.fixture(scope="module")
def result() -> AuditResult:
    """The audit of those faces by race."""
    return run_audit(faces(), by=["race"], audit=QUICK)


def one(table: pd.DataFrame, **where: object) -> pd.Series:
    """The single row that has these values."""
    found = table
    for column, value in {"class": "", **{key.rstrip("_"): value for key, value in where.items()}}.items():
        found = found[found[column] == value] if column in found else found
    assert len(found) == 1
    return found.iloc[0]


def test_scores_stand_in_every_table(result: AuditResult) -> None:
    """Values equal scikit-learn's on a mask, and gaps and everyone else's values exist for each score metric."""
    frame = faces()
    part = frame[frame["race"] == "c"]
    row = one(result.metrics, task="gender", by="race", subgroup="c", metric="auc", class_="Female")
    expected = sk.roc_auc_score(part["gender_true"] == "Female", part["gender_prob_Female"])
    assert row["value"] == pytest.approx(expected, abs=1e-12)
    assert row["low"] < row["value"] < row["high"]
    others = frame[frame["race"] != "c"]
    rest = one(result.rest, task="gender", by="race", subgroup="c", metric="log_loss")
    labels = others["gender_true"].map({"Female": 0, "Male": 1})
    loss = sk.log_loss(labels, others[["gender_prob_Female", "gender_prob_Male"]].to_numpy())
    assert rest["rest"] == pytest.approx(loss, abs=1e-12) and rest["n_rest"] == len(others)
    for metric in SCORES:
        assert len(result.gaps[(result.gaps["metric"] == metric) & (result.gaps["task"] == "gender")])
        assert len(result.rest[(result.rest["metric"] == metric) & (result.rest["task"] == "gender")])
    for metric in ("calibration_intercept", "calibration_slope", "log_loss"):
        gap = one(result.gaps, task="gender", by="race", metric=metric)
        assert 0 <= gap["difference_low"] <= gap["difference"] < gap["difference_high"]  # not cut off at 1
    assert one(result.gaps, task="age", by="race", metric="mae_years")["difference_high"] > 1
    gap = one(result.gaps, task="gender", by="race", metric="mean_labelled_probability")
    assert gap["worst"] == "c" and gap["difference_low"] > 0


def test_years_are_measured_and_bins_refused(result: AuditResult) -> None:
    """Ages in years give MAE in years; a table of bins gets empty values with the reason, on all faces only."""
    frame = faces()
    row = one(result.metrics, task="age", by="overall", metric="mae_years")
    assert row["value"] == pytest.approx((frame["age_pred"] - frame["age_true"]).abs().mean(), abs=1e-9)
    assert one(result.metrics, task="age", by="race", subgroup="a", metric="signed_error_years")["low"] > 0
    error = (frame["age_pred"] - frame["age_true"]).abs()
    young = frame["age_true"].between(18, 30)
    cells = error[young].groupby([frame["gender_true"], frame["age_true"]]).mean()
    nist = one(result.metrics, task="age", by="overall", metric="mae_years_18_to_30")
    assert len(cells) == 26 and nist["value"] == pytest.approx(cells.mean(), abs=1e-9)
    bins = read_predictions(frame).frame.drop(columns=["age_true_years", "age_pred_years"])
    refused = run_audit(bins, by=["race"], tasks=["age"], audit=QUICK).metrics
    refused = refused[refused["metric"] == "mae_years"]
    assert refused["by"].tolist() == ["overall"] and np.isnan(refused["value"].iloc[0])
    assert "only age bins are known" in refused["reason"].iloc[0]


def test_unusable_probabilities_are_left_out_and_counted() -> None:
    """Rows whose probabilities are missing or do not add up to 1 keep their place in counts, not in scores."""
    frame = faces(300)
    frame.loc[:4, "gender_prob_Male"] = np.nan
    frame.loc[5:11, "gender_prob_Male"] += np.where(frame.loc[5:11, "gender_prob_Male"] > 0.5, -0.2, 0.2)
    frame.loc[12, "gender_prob_Male"] += 0.0005 if frame.loc[12, "gender_prob_Male"] < 0.9 else -0.0005
    found = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK)
    assert one(found.metrics, task="gender", by="overall", metric="accuracy")["denominator"] == 300
    assert one(found.metrics, task="gender", by="overall", metric="log_loss")["denominator"] == 288
    entries = {entry["kind"]: entry for entry in found.meta["excluded"]}
    assert entries["probabilities_missing"]["count"] == 5
    unequal = entries["probabilities_not_adding_up_to_1"]
    assert unequal["count"] == 7 and "scores" in unequal["action"] and sum(unequal["subgroups"]["race"].values()) == 7
    assert unequal["images"] == [f"{i}.jpg" for i in range(5, 12)]
    assert sum("left out of scores" in text for text in found.meta["warnings"]) == 2


def test_one_column_is_enough_for_two_classes_and_none_gives_no_scores() -> None:
    """The other class has the rest; a table without probabilities has no score metric and no such table."""
    frame = faces(300)
    both = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK)
    single = run_audit(frame.drop(columns="gender_prob_Male"), by=["race"], tasks=["gender"], audit=QUICK)
    for metric in ("auc", "brier"):
        first, second = (r.metrics.loc[r.metrics["metric"] == metric, "value"] for r in (both, single))
        np.testing.assert_allclose(first, second, atol=1e-12)
    none = run_audit(frame.filter(regex="^(?!.*prob)"), by=["race"], tasks=["gender"], audit=QUICK)
    assert not set(none.metrics["metric"]) & {*SCORES, "mean_labelled_probability"}
    assert none.table("calibration").empty and none.table("coverage").empty


def test_degenerate_axes_keep_only_the_probability_of_the_label() -> None:
    """Where the subgroup is the label, AUC and calibration are empty with that reason; no curve is drawn."""
    frame = faces(400).assign(gender=lambda f: f["gender_true"])
    found = run_audit(frame, by=["gender"], tasks=["gender"], audit=QUICK)
    rows = found.metrics[found.metrics["by"] == "gender"]
    for metric in SCORES:
        part = rows[rows["metric"] == metric]
        assert part["value"].isna().all() and part["reason"].str.contains("determines the label").all()
    assert rows.loc[rows["metric"] == "mean_labelled_probability", "value"].notna().all()
    assert set(found.table("calibration")["by"]) == {"overall"}
    own = found.table("coverage")
    assert own.loc[own["by"] == "gender", "aurc"].isna().all()


def test_reliability_curves_equal_recomputation(result: AuditResult) -> None:
    """Bins hold every scored face once; mean score and share are those of sorted faces; limits enclose the share."""
    table, frame = result.table("calibration"), faces()
    assert tuple(table.columns) == MORE_TABLES["calibration"]
    part = frame[frame["race"] == "b"]
    confidence = part[["gender_prob_Female", "gender_prob_Male"]].max(axis=1).to_numpy()
    right = (part["gender_true"] == part["gender_pred"]).to_numpy()[np.argsort(confidence)]
    rows = table[(table["subgroup"] == "b") & (table["of"] == "top") & (table["task"] == "gender")]
    assert len(rows) == 10 and rows["n"].sum() == len(part)
    ends = np.cumsum(rows["n"])
    for low, high, (_, row) in zip([0, *ends[:-1]], ends, rows.iterrows(), strict=True):
        assert row["mean_score"] == pytest.approx(np.sort(confidence)[low:high].mean(), abs=1e-12)
        assert row["observed"] == pytest.approx(right[low:high].mean(), abs=1e-12)
        assert row["low"] <= row["observed"] <= row["high"]
    female = table[(table["by"] == "overall") & (table["class"] == "Female")]
    assert (female["n"] * female["observed"]).sum() == pytest.approx((frame["gender_true"] == "Female").sum())


def test_coverage_counts_abstention_and_errors_among_the_answered() -> None:
    """Own coverage and risk equal a mask; thresholds answer the surest faces of all; the area is a plain mean."""
    frame = faces()
    frame["gender_status"] = ""
    gone = frame.index[frame["race"] == "c"][:40]
    frame.loc[gone, "gender_status"], frame.loc[gone, "gender_pred"] = "abstained", ""
    found = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK).table("coverage")
    assert tuple(found.columns) == MORE_TABLES["coverage"]
    c = frame[frame["race"] == "c"]
    answered = c[c["gender_pred"] != ""]
    wrong = answered["gender_true"] != answered["gender_pred"]
    own = one(found, by="race", subgroup="c", point="own")
    assert own["coverage"] == pytest.approx(1 - 40 / len(c)) and own["risk"] == pytest.approx(wrong.mean())
    confidence = answered[["gender_prob_Female", "gender_prob_Male"]].max(axis=1)
    order = wrong.to_numpy()[np.argsort(-confidence.to_numpy())]
    assert own["aurc"] == pytest.approx((np.cumsum(order) / np.arange(1, len(order) + 1)).mean(), abs=1e-12)
    assert own["aurc_low"] < own["aurc"] < own["aurc_high"]
    for _, row in found[(found["subgroup"] == "c") & (found["point"] == "threshold")].iterrows():
        sure = confidence >= row["threshold"]
        assert row["answered"] == sure.sum() and row["coverage"] == pytest.approx(sure.sum() / len(c))
        assert row["risk"] == pytest.approx(wrong[sure].mean(), nan_ok=True)
    whole = found[(found["by"] == "overall") & (found["point"] == "threshold")]
    np.testing.assert_allclose(whole["answered"] / (900 - 40), np.arange(0.9, 0.05, -0.1), atol=0.01)


@pytest.mark.parametrize("column", ["weight", "subject_id"])
def test_weights_and_subjects_run_through(column: str) -> None:
    """Intervals of scores widen with weights and with persons, and no value of a score is lost."""
    frame = faces(600)
    rng = np.random.default_rng(1)
    more = rng.choice([0.2, 3.0], 600) if column == "weight" else np.repeat(np.arange(150), 4).astype(str)
    plain = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK)
    found = run_audit(frame.assign(**{column: more}), by=["race"], tasks=["gender"], audit=QUICK)
    for metric in (*SCORES, "mean_labelled_probability"):
        rows, before = (r.metrics[r.metrics["metric"] == metric] for r in (found, plain))
        np.testing.assert_array_equal(rows["value"].isna(), before["value"].isna())
        assert (rows["n_effective"] <= rows["denominator"] + 1e-9).all()
        assert rows["n_effective"].sum() < before["n_effective"].sum()
        if column == "weight":
            wider = (rows["high"] - rows["low"]).sum() / (before["high"] - before["low"]).sum()
            assert wider > 1.02, metric
    assert len(found.table("calibration")) and found.table("coverage")["aurc_low"].notna().any()


def test_the_report_draws_curves_and_the_tables_survive_saving(result: AuditResult, tmp_path: Path) -> None:
    """A section with a curve for every group; a hostile name is escaped; saved tables come back alike."""
    result.save(tmp_path / "audit")
    again = AuditResult.load(tmp_path / "audit")
    for name in ("calibration", "coverage"):
        pd.testing.assert_frame_equal(again.table(name), result.table(name), check_dtype=False)
    frame = faces(300).replace({"race": {"c": "<script>c"}})
    hostile = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK)
    text = write_report(hostile, tmp_path / "report").read_text(encoding="utf-8")
    section = text[text.index('id="calibration"') :]
    assert section.count('class="reliability"') == 4
    assert "<script>c" not in text and "calibration error" in section and "area under risk" in section
    bare = write_report(run_audit(frame.filter(regex="^(?!.*prob)"), by=["race"], audit=QUICK), tmp_path / "bare")
    assert 'class="reliability"' not in bare.read_text(encoding="utf-8")
