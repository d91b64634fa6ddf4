"""ROC curves and rates at other limits, by subgroup, against scikit-learn and masks of the faces; on the page, too."""

import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from test_measures import faces
from test_shards import scored, write_shards

from fairaudit.analyses import ANALYSES
from fairaudit.audit import run_audit
from fairaudit.data.shards import read_shards
from fairaudit.metrics.intervals import wilson
from fairaudit.metrics.roc import thinned
from fairaudit.report.render import write_report
from fairaudit.results import AuditResult
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100)


@pytest.fixture(scope="module")
def result() -> AuditResult:
    """The audit of 900 faces of three races, worse for one."""
    return run_audit(faces(), by=["race"], tasks=["gender"], audit=QUICK)


def both(table: object, **more: object) -> dict[str, pd.DataFrame]:
    """The two tables alone."""
    with patch("fairaudit.audit.ANALYSES", {name: ANALYSES[name] for name in ("roc", "thresholds")}):
        return dict(run_audit(table, by=["race", "y:race"], audit=QUICK, **more).more)  # type: ignore[arg-type]


@pytest.mark.parametrize("group", ["overall", "a", "b", "c"])
def test_every_point_lies_on_sklearns_curve(result: AuditResult, group: str) -> None:
    """Each kept point is a threshold of scikit-learn's whole curve; what lies between is near; the area is kept."""
    table, frame = result.table("roc"), faces()
    assert tuple(table.columns) == MORE_TABLES["roc"] and set(table["class"]) == {"Female"}  # the second of the two
    part = frame if group == "overall" else frame[frame["race"] == group]
    true, score = part["gender_true"] == "Female", part["gender_prob_Female"]
    fpr, tpr, limits = sk.roc_curve(true, score, drop_intermediate=False)
    rows = table[table["subgroup"] == group]
    places = [0, *(int(np.flatnonzero(np.isclose(limits, one))[0]) for one in rows["threshold"][1:])]
    np.testing.assert_allclose(rows["fpr"], fpr[places], atol=1e-12)
    np.testing.assert_allclose(rows["tpr"], tpr[places], atol=1e-12)
    assert np.isnan(rows["threshold"].iloc[0]) and len(rows) <= 41 < len(fpr)
    assert rows[["fpr", "tpr"]].iloc[0].tolist() == [0, 0] and rows[["fpr", "tpr"]].iloc[-1].tolist() == [1, 1]
    assert np.diff(rows["fpr"] + rows["tpr"]).max() < 0.05 + 2 / min(true.sum(), (~true).sum())
    assert abs(sk.auc(rows["fpr"], rows["tpr"]) - sk.roc_auc_score(true, score)) < 0.01
    assert (rows["n_class"] == true.sum()).all() and (rows["n_others"] == (~true).sum()).all()


def test_a_short_curve_is_kept_whole() -> None:
    """With few distinct scores every corner stays, in weights as in counts."""
    fpr, tpr, place = thinned(np.array([1.0, 0, 3]), np.array([2.0, 2, 0]))
    assert fpr.tolist() == [0, 0, 0.5, 1] and tpr.tolist() == [0, 0.75, 0.75, 1] and place.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("limit", [0.1, 0.5, 0.9])
def test_rates_at_a_limit_are_those_of_a_mask(result: AuditResult, limit: float) -> None:
    """Selection rate, true and false positive rate of one race, and Wilson's limits at n − 1 faces."""
    table, frame = result.table("thresholds"), faces()
    assert tuple(table.columns) == MORE_TABLES["thresholds"]
    part = frame[frame["race"] == "c"]
    true, called = (part["gender_true"] == "Female").to_numpy(), (part["gender_prob_Female"] >= limit).to_numpy()
    (row,) = table[(table["subgroup"] == "c") & np.isclose(table["threshold"], limit)].to_dict("records")
    for name, side in (("selection_rate", np.ones(len(true), bool)), ("tpr", true), ("fpr", ~true)):
        share = called[side].mean()
        assert row[name] == pytest.approx(share)
        limits = wilson(share, side.sum() - (0 < share < 1), 1.959964)
        np.testing.assert_allclose((row[f"{name}_low"], row[f"{name}_high"]), limits, 1e-4)
    assert (row["n"], row["n_class"], row["n_others"]) == (len(true), true.sum(), (~true).sum())
    assert len(table) == 9 * 4


def test_tables_on_disk_give_the_same(tmp_path: Path) -> None:
    """From counts of distinct scores: equal, of three classes and of two, with unusable rows and an unknown race."""
    frame = scored(700, 7)
    write_shards(frame, tmp_path / "table", [100, 260], ["csv", "parquet"])
    found, expected = both(read_shards(tmp_path / "table", most_held=0)), both(frame)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table)
    assert expected["roc"]["class"].nunique() == 4 and "unknown" in set(expected["thresholds"]["subgroup"])


def test_weights_and_persons(tmp_path: Path) -> None:
    """Weights move the curve as scikit-learn's do; persons of several faces widen the limits of rates."""
    frame = scored(600, 8).drop(columns=["x_true", "x_pred", *(f"x_prob_{c}" for c in "uvw")])
    weight = np.random.default_rng(0).uniform(0.2, 4, 600)
    rows = both(frame.assign(weight=weight))["roc"].query("by == 'overall'")
    usable = (frame["y_pred"].notna() & frame["y_prob_M"].notna()).to_numpy()
    kind = str(rows["class"].iloc[0])
    score = frame["y_prob_M"] if kind == "M" else 1 - frame["y_prob_M"]
    theirs = sk.roc_curve(
        frame["y_true"][usable] == kind, score[usable], sample_weight=weight[usable], drop_intermediate=False
    )
    for x, y in zip(rows["fpr"], rows["tpr"], strict=True):
        assert np.hypot(theirs[0] - x, theirs[1] - y).min() < 1e-9
    same = pd.concat([frame.iloc[20:120]] * 6, ignore_index=True)  # six equal pictures of each person
    same["image"] = [f"{i}.jpg" for i in range(len(same))]
    plain = both(same)["thresholds"]
    persons = both(same.assign(subject_id=np.tile(np.arange(100), 6)))["thresholds"]
    np.testing.assert_allclose(persons["tpr"], plain["tpr"])
    wide = [(t["tpr_high"] - t["tpr_low"]).sum() for t in (persons, plain)]
    assert wide[0] > 2 * wide[1]


def test_what_has_no_curve_has_none_and_the_page_says_why(result: AuditResult, tmp_path: Path) -> None:
    """No probabilities: no table. A subgroup without the class: no curve, and a rate that is empty with its reason."""
    frame = faces(400)
    bare = run_audit(frame.filter(regex="^(?!.*prob)"), by=["race"], tasks=["gender"], audit=QUICK)
    assert bare.table("roc").empty and bare.table("thresholds").empty
    frame.loc[frame["race"] == "c", "gender_true"] = "Male"
    found = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK)
    assert set(found.table("roc")["subgroup"]) == {"overall", "a", "b"}
    rows = found.table("thresholds").query("subgroup == 'c'")
    assert (
        rows["tpr"].isna().all()
        and rows["reason"].eq("no face of it labelled Female").all()
        and rows["fpr"].notna().all()
    )
    text = write_report(found, tmp_path / "r").read_text(encoding="utf-8")
    section = text[text.index('<section id="roc"') :].split("</section>")[0]
    assert "No curve for c:" in section and section.count('class="reliability roc') == 3


def test_what_lacks_probabilities_is_not_said_to_lack_a_label(tmp_path: Path) -> None:
    """A subgroup without probabilities says so; where nobody has any there is no table; one class alone is said."""
    frame = faces(400)
    probs = ["gender_prob_Female", "gender_prob_Male"]
    frame.loc[frame["race"] == "c", probs] = np.nan
    rows = run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK).table("thresholds").query("subgroup == 'c'")
    assert len(rows) == 9 and rows["n"].eq(0).all() and rows["selection_rate"].isna().all()
    assert rows["reason"].eq("no face of it has probabilities").all()
    frame[probs] = np.nan
    assert run_audit(frame, by=["race"], tasks=["gender"], audit=QUICK).table("thresholds").empty
    single = run_audit(faces(400).assign(gender_true="Male"), by=["race"], tasks=["gender"], audit=QUICK)
    text = write_report(single, tmp_path / "r").read_text(encoding="utf-8")
    assert single.table("roc").empty and "each head has probabilities of one class’s faces alone" in text


def test_the_page_has_a_curve_and_its_area_for_every_subgroup(result: AuditResult, tmp_path: Path) -> None:
    """A panel for all faces and each race, its area with the interval of metrics.csv and n of both sides."""
    text = write_report(result, tmp_path / "r").read_text(encoding="utf-8")
    section = text[text.index('<section id="roc"') :].split("</section>")[0]
    assert section.count('class="reliability roc') == 4 and section.count('<use class="all" href="#roc-0-0"/>') == 3
    metrics = result.metrics
    for row in metrics[(metrics["metric"] == "auc") & (metrics["class"] == "Female")].itertuples():
        assert f"{row.value:.3f} ({row.low:.3f}–{row.high:.3f})" in section
    panels = re.findall(r"<br>n ([\d,]+) : ([\d,]+)</figcaption>", section)
    assert sum(int(a) + int(b) for a, b in panels) == 2 * 900
