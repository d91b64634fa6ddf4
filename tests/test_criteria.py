"""Fairness criteria against fairlearn, AIF360's definitions, recomputation by mask, and the peers' known errors."""

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_analysis import audit_with, frame_of

from fairaudit.metrics.criteria import Member, joint_gap
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import wilson
from fairaudit.metrics.rates import METRICS

K = ["a", "b", "c"]
FACES = st.lists(st.tuples(st.sampled_from(K), st.sampled_from(K), st.sampled_from("xyz")), min_size=8, max_size=70)


def one(table: pd.DataFrame, criterion: str, class_: str = "") -> pd.Series:
    """The row of one criterion and class."""
    found = table[(table["criterion"] == criterion) & (table["class"] == class_)]
    assert len(found) == 1
    return found.iloc[0]


def same(ours: float, theirs: float) -> None:
    """Equal to 1e-12, or both undefined."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


@settings(max_examples=6, deadline=None)
@given(FACES)
def test_criteria_equal_fairlearn_one_against_the_rest(rows: list[tuple[str, str, str]]) -> None:
    """Difference and ratio of each class equal fairlearn's on the class against the rest, where every rate exists."""
    frame = pd.DataFrame(rows, columns=["race_true", "race_pred", "camera"]).assign(image=range(len(rows)))
    if frame["camera"].nunique() < 2:
        return
    table = audit_with(frame, "criteria", tasks=["race"], by=["camera"], min_group_size=1).table("criteria")
    if (table["reason"].str.contains("determines the label")).any():
        return
    for class_ in sorted({*frame["race_true"], *frame["race_pred"]}):
        y, p = (frame["race_true"] == class_).astype(int), (frame["race_pred"] == class_).astype(int)
        groups = {"sensitive_features": frame["camera"]}
        parity = one(table, "demographic_parity", class_)
        same(parity["difference"], fl.demographic_parity_difference(y, p, **groups))
        same(parity["ratio"], fl.demographic_parity_ratio(y, p, **groups) if p.any() else np.nan)
        positives = y.groupby(frame["camera"]).agg(["min", "max"])
        if not (positives["max"] == 1).all() or not (positives["min"] == 0).all():
            continue  # fairlearn gives the missing rate the value 0
        same(one(table, "equal_opportunity", class_)["difference"], fl.equal_opportunity_difference(y, p, **groups))
        odds = one(table, "equalized_odds", class_)
        same(odds["difference"], fl.equalized_odds_difference(y, p, **groups))
        ratios = fl.equal_opportunity_ratio(y, p, **groups), fl.equalized_odds_ratio(y, p, **groups)
        if not np.isnan(ratios).any():
            same(odds["ratio"], ratios[1])


@settings(max_examples=6, deadline=None)
@given(FACES)
def test_the_worst_class_is_the_largest_difference(rows: list[tuple[str, str, str]]) -> None:
    """The worst class has the largest difference and the smallest ratio of all, with an interval no narrower."""
    frame = pd.DataFrame(rows, columns=["race_true", "race_pred", "camera"]).assign(image=range(len(rows)))
    if frame["camera"].nunique() < 2:
        return
    table = audit_with(frame, "criteria", tasks=["race"], by=["camera"], min_group_size=2).table("criteria")
    for criterion in ("demographic_parity", "equal_opportunity", "equalized_odds", "predictive_parity"):
        rows_of = table[(table["criterion"] == criterion) & (table["class"] != "")]
        if rows_of["difference"].notna().any():
            worst = one(table, criterion)
            same(worst["difference"], rows_of["difference"].max())
            same(worst["ratio"], rows_of["ratio"].min())
            assert worst["difference_high"] >= rows_of["difference_high"].max() - 1e-9
            named = one(table, criterion, worst["at_class"])
            same(worst["difference"], named["difference"])


def test_aif360_definitions_by_hand() -> None:
    """With two groups the criteria are AIF360's figures, without their sign: recomputed here from its definitions."""
    cubes = {"privileged": [[80, 20], [15, 85]], "other": [[70, 30], [40, 60]]}
    frame = frame_of(cubes, ["no", "yes"], "hired", "group")
    table = audit_with(frame, "criteria", tasks=["hired"], by=["group"]).table("criteria")
    rate = {name: (np.array(c)[:, 1].sum() / 200) for name, c in cubes.items()}
    tpr = {name: c[1][1] / sum(c[1]) for name, c in cubes.items()}
    fpr = {name: c[0][1] / sum(c[0]) for name, c in cubes.items()}
    statistical_parity = rate["other"] - rate["privileged"]
    parity = one(table, "demographic_parity", "yes")
    same(parity["difference"], abs(statistical_parity))
    same(parity["ratio"], rate["other"] / rate["privileged"])  # its disparate_impact
    same(one(table, "equal_opportunity", "yes")["difference"], abs(tpr["other"] - tpr["privileged"]))
    odds = max(abs(tpr["other"] - tpr["privileged"]), abs(fpr["other"] - fpr["privileged"]))
    same(one(table, "equalized_odds", "yes")["difference"], odds)
    assert one(table, "equalized_odds", "yes")["metric"] == "recall"
    ppv = {name: c[1][1] / (c[0][1] + c[1][1]) for name, c in cubes.items()}
    same(one(table, "predictive_parity", "yes")["difference"], abs(ppv["other"] - ppv["privileged"]))
    same(one(table, "accuracy_equality")["difference"], (165 - 130) / 200)


def test_one_member_is_the_gap_of_the_gap_table() -> None:
    """A joint gap with one member has the limits of `disparity.gap`; another member only widens them."""
    value, n = np.array([0.9, 0.75, 0.8]), np.array([120.0, 80.0, 300.0])
    estimate = Estimate(
        metric=METRICS["accuracy"],
        value=value[:, None],
        denominator=n[:, None],
        effective=n[:, None],
        limits=lambda z: wilson(value[:, None], n[:, None], z),
        notes=np.full((3, 1), "", dtype=object),
    )
    known = gap(estimate, 0, np.arange(3), 0.95)
    member = Member(value=value, effective=n)
    alone = joint_gap([member], 0.95)
    for name in ("difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high"):
        same(getattr(alone, name), getattr(known, name))
    beside = joint_gap([member, Member(value=np.array([0.5, 0.52]), effective=np.array([900.0, 900.0]))], 0.95)
    assert (beside.member, beside.difference) == (0, alone.difference)
    assert beside.difference_low < alone.difference_low and beside.difference_high > alone.difference_high
    assert beside.ratio_low < alone.ratio_low


def test_three_classes_have_one_parity_each() -> None:
    """Known answer: fairlearn's three-class demographic parity is silently .333 here; ours is 0 for every class."""
    cube = np.diag([40, 40, 40])
    frame = frame_of({"x": cube, "y": cube}, K, "race", "camera")
    table = audit_with(frame, "criteria", tasks=["race"], by=["camera"]).table("criteria")
    for class_ in ("a", "b", "c", ""):
        assert one(table, "demographic_parity", class_)["difference"] == 0


def test_a_group_without_positives_has_no_recall() -> None:
    """Known answer: a group without positives is not given recall 0 and an equalized odds difference of 1."""
    cubes = {"x": [[50, 0], [0, 50]], "y": [[50, 0], [0, 50]], "z": [[50, 0], [0, 0]]}
    frame = frame_of(cubes, ["no", "yes"], "hired", "group")
    y, p = (frame["hired_true"] == "yes").astype(int), (frame["hired_pred"] == "yes").astype(int)
    assert fl.equalized_odds_difference(y, p, sensitive_features=frame["group"]) == 1.0
    table = audit_with(frame, "criteria", tasks=["hired"], by=["group"]).table("criteria")
    odds = one(table, "equalized_odds", "yes")
    assert (odds["difference"], odds["not_assessed"]) == (0, "z")
    assert one(table, "equal_opportunity", "yes")["assessed"] == 2


def test_recall_is_over_the_groups_own_positives() -> None:
    """Known answer: AI Verify divides a group's hits by all positives (.4 and .1 here); ours are .8 and .8."""
    cubes = {"large": [[100, 0], [40, 160]], "small": [[100, 0], [10, 40]]}
    frame = frame_of(cubes, ["no", "yes"], "hired", "group")
    table = audit_with(frame, "criteria", tasks=["hired"], by=["group"]).table("criteria")
    assert one(table, "equal_opportunity", "yes")["difference"] == 0


def test_faces_of_unknown_group_and_small_groups_stay_out() -> None:
    """`unknown` enters nothing; a small group is named as not assessed."""
    cubes = {"x": [[50, 10], [10, 50]], "y": [[50, 10], [10, 50]], "tiny": [[0, 9], [9, 0]], None: [[0, 60], [60, 0]]}
    frame = frame_of(cubes, ["no", "yes"], "hired", "group")
    table = audit_with(frame, "criteria", tasks=["hired"], by=["group"]).table("criteria")
    for _, row in table.iterrows():
        assert row["difference"] == pytest.approx(0) or row["criterion"] == "base_rates"
        assert row["not_assessed"] == "tiny"


def test_degenerate_axes_keep_equal_opportunity_only() -> None:
    """On gender × race gender's recall is compared within each class; all else is refused with the reason."""
    frame = frame_of({"x": [[45, 5], [5, 45]], "y": [[30, 20], [5, 45]]}, ["Female", "Male"])
    frame["gender"] = frame["gender_true"]
    table = audit_with(frame, "criteria", tasks=["gender"], by=["race:gender"]).table("criteria")
    row = one(table, "equal_opportunity", "Female")
    assert (row["difference"], row["worst"]) == (pytest.approx(0.3), "y × Female")
    assert row["not_assessed"] == ""
    others = table[table["criterion"] != "equal_opportunity"]
    assert others["difference"].isna().all()
    assert others["reason"].str.contains("determines the label").all()


def test_base_rates_say_whether_the_criteria_exclude_each_other() -> None:
    """Unequal label mixes are named as the reason why the criteria cannot all hold; equal ones are not."""
    unequal = frame_of({"x": [[150, 10], [10, 30]], "y": [[30, 10], [10, 150]]}, ["no", "yes"], "hired", "group")
    equal = frame_of({"x": [[90, 10], [10, 90]], "y": [[90, 10], [10, 90]]}, ["no", "yes"], "hired", "group")
    for frame, words in ((unequal, "cannot all hold"), (equal, "no difference of base rates is shown")):
        table = audit_with(frame, "criteria", tasks=["hired"], by=["group"]).table("criteria")
        assert words in one(table, "base_rates")["reason"]


def test_without_labels_only_parity_remains() -> None:
    """A table of predictions alone has demographic parity; the other criteria are empty, for want of labels."""
    frame = frame_of({"x": [[50, 10], [10, 50]], "y": [[60, 10], [10, 90]]}, ["no", "yes"], "hired", "group")
    table = audit_with(frame.drop(columns="hired_true"), "criteria", by=["group"]).table("criteria")
    assert one(table, "demographic_parity", "yes")["difference"] == pytest.approx(100 / 170 - 60 / 120)
    others = table[table["criterion"] != "demographic_parity"]
    assert others["difference"].isna().all() and (others["reason"] == "the table has no labels of this task").all()


def test_subjects_and_weights_widen_the_limits() -> None:
    """Ten pictures of each person, or unequal weights, give wider limits than as many independent faces."""
    frame = frame_of({"x": [[90, 10], [10, 90]], "y": [[70, 30], [30, 70]]}, ["no", "yes"], "hired", "group")
    plain = audit_with(frame, "criteria", tasks=["hired"], by=["group"], min_group_size=5).table("criteria")
    people = frame.assign(subject_id=[f"p{i // 10}" for i in range(len(frame))])
    weighted = frame.assign(weight=np.resize([0.2, 1.8], len(frame)))
    for other in (people, weighted):
        table = audit_with(other, "criteria", tasks=["hired"], by=["group"], min_group_size=5).table("criteria")
        for criterion in ("demographic_parity", "equalized_odds"):
            a, b = one(plain, criterion), one(table, criterion)
            assert b["difference_high"] - b["difference_low"] > a["difference_high"] - a["difference_low"]


def test_calibration_within_groups_where_scores_exist() -> None:
    """With probabilities, the gaps of calibration error, slope and intercept stand among the criteria; else nothing."""
    rng = np.random.default_rng(0)
    score, group = rng.random(1500), rng.choice(["x", "y"], 1500)
    said = np.where(group == "x", score, np.clip(score + 0.15, 0, 1))
    frame = pd.DataFrame({"image": range(1500), "group": group, "hired_prob_yes": said, "hired_prob_no": 1 - said})
    frame["hired_true"] = np.where(rng.random(1500) < score, "yes", "no")
    frame["hired_pred"] = np.where(said > 0.5, "yes", "no")
    result = audit_with(frame, "criteria", tasks=["hired"], by=["group"])
    rows = result.table("criteria")[lambda t: t["criterion"] == "calibration"].set_index("metric")
    assert set(rows.index) == {"ece", "calibration_slope", "calibration_intercept"}
    gaps = result.gaps.set_index("metric")
    assert rows.loc["ece", "difference"] == gaps.loc["ece", "difference"] and rows.loc["ece", "worst"] == "y"
    assert (rows["n"] == 1500).all() and rows.loc["calibration_intercept", "difference_low"] > 0
    plain = audit_with(frame[["image", "group", "hired_true", "hired_pred"]], "criteria", tasks=["hired"], by=["group"])
    assert "calibration" not in set(plain.table("criteria")["criterion"])
