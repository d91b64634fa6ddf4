"""Impact ratios: against counts by mask and statsmodels, in the form and with the rules of Local Law 144."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from one_analysis import audit_with, frame_of
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fairaudit.errors import UsageError
from fairaudit.spec import AuditSpec, parse_spec

HIRED = {"task": "hired", "class": "yes"}


def applicants(rates: dict[str | None, tuple[int, int]]) -> pd.DataFrame:
    """People of each sex: how many were hired, of how many; nobody knows who should have been."""
    cubes = {name: [[0, 0], [n - hired, hired]] for name, (hired, n) in rates.items()}
    return frame_of(cubes, ["no", "yes"], "hired", "sex").drop(columns="hired_true")


def impact(frame: pd.DataFrame, **options: object) -> pd.DataFrame:
    """The impact table by sex, one row a subgroup."""
    table = audit_with(frame, "impact", by=["sex"], selection=HIRED, **options).table("impact")
    return table.set_index("subgroup")


def test_rates_and_ratios_equal_counts_and_score_limits() -> None:
    """Counts, rates (Wilson) and the ratio to the most selected (Koopman, one pair) equal recomputation."""
    table = impact(applicants({"Female": (40, 100), "Male": (60, 110)}))
    female, male = table.loc["Female"], table.loc["Male"]
    assert (female["applicants"], female["selected"], female["reference"]) == (100, 40, "Male")
    assert female["ratio"] == pytest.approx(0.4 / (60 / 110))
    assert (female["low"], female["high"]) == pytest.approx(proportion_confint(40, 100, method="wilson"))
    expected = confint_proportions_2indep(40, 100, 60, 110, compare="ratio", method="score", correction=False)
    assert (female["ratio_low"], female["ratio_high"]) == pytest.approx(expected, rel=1e-6)
    assert (male["ratio"], male["reason"]) == (1, "the most selected subgroup") and np.isnan(male["ratio_low"])
    assert female["reading"] == "not decided"


def test_four_fifths_is_three_valued() -> None:
    """A ratio surely below .8, surely above, and one that these numbers cannot decide."""
    table = impact(applicants({"a": (900, 1000), "b": (300, 1000), "c": (890, 1000), "d": (56, 70)}))
    assert table["reading"].tolist() == ["", "below four fifths", "at least four fifths", "not decided"]


def test_unknown_and_small_categories_are_counted_and_have_no_ratio() -> None:
    """Unknown is counted; under 2 % of the faces, or under the smallest group: rate, no ratio, no reference."""
    people = {"a": (2000, 4000), "b": (1500, 3000), "few": (60, 60), "tiny": (9, 9), None: (7, 11)}
    table = impact(applicants(people))
    assert (table.loc["unknown", "applicants"], table.loc["unknown", "selected"]) == (11, 7)
    assert "in no ratio" in table.loc["unknown", "reason"] and np.isnan(table.loc["unknown", "share"])
    assert "2 % rule" in table.loc["few", "reason"] and table.loc["few", "value"] == 1
    assert table.loc[["unknown", "few", "tiny"], "ratio"].isna().all()
    assert (table["reference"] == "a").all() and table.loc["b", "ratio"] == 1
    few = impact(applicants({"a": (20, 40), "b": (15, 30), "tiny": (9, 9)}))
    assert "fewer than 30" in few.loc["tiny", "reason"]


def test_faces_without_label_count_and_without_output_are_named() -> None:
    """Whether somebody was selected needs no label; somebody without an output is no applicant, but is counted."""
    frame = applicants({"a": (40, 80), "b": (30, 80)})
    frame["hired_true"] = [None] * 100 + ["yes"] * 60
    frame["hired_status"] = "ok"
    frame.loc[frame.index[:5], ["hired_pred", "hired_status"]] = [None, "no_face"]
    table = impact(frame)
    assert table["applicants"].sum() == 155 and table["no_output"].tolist() == [5, 0]


def test_nobody_selected_leaves_no_ratio() -> None:
    """With no one selected anywhere a ratio is undefined, not 1 and not 0."""
    table = impact(applicants({"a": (0, 40), "b": (0, 50)}).assign(hired_pred=["no"] * 89 + ["yes"]))
    assert table["ratio"].notna().all()
    frame = applicants({"a": (0, 40), "b": (0, 50)})
    frame.loc[len(frame)] = {"hired_pred": "yes", "sex": None, "image": "last.jpg"}
    assert (impact(frame).loc[["a", "b"], "reason"] == "no ratio: nobody is selected").all()


def test_a_label_head_is_no_selection(tmp_path: Path) -> None:
    """Without a declared selection there is no impact table; a wrong declaration is refused by name."""
    frame = applicants({"a": (40, 80), "b": (30, 80)})
    assert audit_with(frame, "impact", by=["sex"]).table("impact").empty
    with pytest.raises(UsageError, match=r"task 'hird' is not audited.*hired"):
        audit_with(frame, "impact", by=["sex"], selection={"task": "hird", "class": "yes"})
    with pytest.raises(UsageError, match="'yess'"):
        audit_with(frame, "impact", by=["sex"], selection={"task": "hired", "class": "yess"})


def test_the_spec_says_what_selects() -> None:
    """The key reads as in TOML, is written as it is read, and an unknown key names the known ones."""
    raw = {"name": "x", "data": {"dataset": "utkface"}, "audit": {"selection": HIRED}}
    audit = parse_spec(raw).audit
    assert audit.selection is not None and audit.selection.class_ == "yes"
    assert AuditSpec.model_validate(audit.model_dump(mode="json")) == audit
    assert audit.model_dump(mode="json")["selection"] == HIRED
    raw["audit"] = {"selection": {"task": "hired", "klass": "yes"}}
    with pytest.raises(UsageError, match=r"unknown key 'audit.selection.klass'.*class"):
        parse_spec(raw)


def test_weights_change_rates_and_widen_limits() -> None:
    """Weights make the rates; unequal ones widen the limits."""
    frame = applicants({"a": (40, 80), "b": (30, 80)})
    weighted = impact(frame.assign(weight=np.resize([0.2, 1.8], len(frame))))
    heavy = impact(frame.assign(weight=np.where(frame["hired_pred"] == "yes", 3.0, 1.0)))
    plain = impact(frame)
    assert heavy.loc["a", "value"] == pytest.approx(120 / 160)
    assert weighted.loc["b", "high"] - weighted.loc["b", "low"] > plain.loc["b", "high"] - plain.loc["b", "low"]
