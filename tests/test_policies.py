"""Policies: read from text, judged in three values by simultaneous intervals, and wrong no more often than promised."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_analysis import audit_with
from report_data import make_predictions
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests
from test_disparity import rates_estimate

from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import mover_difference, wilson, z_value
from fairaudit.metrics.policies import Claim, grown, holm_bounds
from fairaudit.policies import MEASURES, Policy, parse_policies, parse_policy
from fairaudit.policy_tables import verdict_line
from fairaudit.results.columns import MORE_TABLES

# FairFace's validation split by race × gender
FAIRFACE = np.array([1122, 963, 799, 757, 793, 830, 775, 773, 735, 680, 753, 763, 813, 396])
names = st.text(min_size=1).filter(lambda text: text.strip() == text != "")
attributes = names.filter(lambda text: ":" not in text)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy that can be meant, with any names."""
    measure = draw(st.sampled_from(list(MEASURES)))
    limits = {"difference": (1e-9, 10.0), "ratio": (1e-6, 1 - 1e-6)}.get(measure, (-10.0, 10.0))
    subgroup, against = draw(st.lists(names, min_size=2, max_size=2, unique=True))
    return Policy(
        measure=measure,
        metric=draw(names),
        by=":".join(draw(st.lists(attributes, min_size=1, max_size=3, unique=True))),
        sign=draw(st.sampled_from(MEASURES[measure])),
        limit=draw(st.floats(*limits)),
        task=draw(st.none() | names),
        class_=draw(st.none() | names),
        subgroup=subgroup if measure == "contrast" else None,
        against=against if measure == "contrast" else None,
    )


@settings(max_examples=200, deadline=None)
@given(policies())
def test_a_policy_is_read_back_from_its_text(policy: Policy) -> None:
    """Whatever the names hold (commas, brackets, quotes, other alphabets), text and policy mean the same."""
    assert parse_policy(str(policy)) == policy


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet='dif(renc,)=<>0.5: "\\task', max_size=40))
def test_any_other_text_is_read_or_refused_in_words(text: str) -> None:
    """No text ends in anything but a policy or a UsageError."""
    try:
        assert isinstance(parse_policy(text), Policy)
    except UsageError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("diference(recall, race) <= 0.1", "did you mean 'difference'"),
        ("difference(recall, race) >= 0.1", "sets no limit"),
        ("ratio(recall, race) >= 1", "between 0 and 1"),
        ("difference(recall, race) <= 0", "above 0"),
        ("difference(recall, race) <= many", "no number"),
        ("difference(recall, race) <= nan", "above 0"),
        ("difference(recall) <= 0.1", "a metric and an axis"),
        ("difference(recall, race:race) <= 0.1", "no subgroup axis"),
        ("difference(recall, race, clas=A) <= 0.1", "did you mean 'class'"),
        ("difference(recall, race, task=a, task=b) <= 0.1", "twice"),
        ("difference(recall, race, subgroup=A) <= 0.1", "belong to contrast"),
        ("contrast(recall, race) <= 0.1", "belong to contrast"),
        ("contrast(recall, race, subgroup=A, against=A) <= 0.1", "with itself"),
        ("recall by race", "write it like"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, said: str) -> None:
    """Every kind of slip has its own word, with the nearest known name."""
    with pytest.raises(UsageError, match=said):
        parse_policy(text)


def test_a_policy_is_declared_once() -> None:
    """Two spellings of one policy are one: it would count twice in the family."""
    with pytest.raises(UsageError, match="twice"):
        parse_policies(["difference(recall, race) <= 0.10", "difference(recall,race)<=0.1"])


def claim(measure: str, limit: float, estimate: Estimate, *, at_most: bool = True) -> Claim:
    """A claim over all subgroups and classes of an estimate."""
    everyone = np.arange(len(estimate.value))
    columns = dict.fromkeys(range(estimate.value.shape[1]), everyone)
    return Claim(measure=measure, at_most=at_most, limit=limit, estimate=estimate, columns=columns)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(40, 400)), min_size=2, max_size=6), st.floats(0.8, 0.999))
def test_measures_are_what_their_words_say(table: list[tuple[int, int]], confidence: float) -> None:
    """Difference and ratio are gaps.csv's; minimum and maximum join Wilson limits at the level of all subgroups."""
    wrong, n = np.array(table).T
    estimate = rates_estimate(n - wrong, n)
    found = gap(estimate, 0, np.arange(len(n)), confidence)
    difference = claim("difference", 0.1, estimate).at(confidence)
    assert (difference.low, difference.high) == (found.difference_low, found.difference_high)
    ratio = claim("ratio", 0.8, estimate, at_most=False).at(confidence)
    assert (ratio.low, ratio.high) == (found.ratio_low, found.ratio_high)
    low, high = wilson(1 - wrong / n, n, z_value(confidence, len(n)))
    least = claim("minimum", 0.8, estimate, at_most=False).at(confidence)
    np.testing.assert_allclose([least.value, least.low, least.high], [(1 - wrong / n).min(), low.min(), high.min()])
    most = claim("maximum", 0.8, estimate).at(confidence)
    np.testing.assert_allclose([most.value, most.low, most.high], [(1 - wrong / n).max(), low.max(), high.max()])


def test_the_worst_class_decides_at_the_level_of_all_classes() -> None:
    """Two classes: the interval is the larger of two, each at half of the error."""
    value, n = np.array([[0.9, 0.8], [0.85, 0.6]]), np.full((2, 2), 200.0)
    estimate = rates_estimate(np.array([1, 1]), np.array([2, 2]))
    estimate = Estimate(
        **{**vars(estimate), "value": value, "denominator": n, "effective": n, "limits": lambda z: wilson(value, n, z)}
    )
    found = claim("difference", 0.1, estimate).at(0.95)
    each = [gap(estimate, c, np.arange(2), 0.975) for c in (0, 1)]
    assert (found.value, found.column) == (pytest.approx(0.2), 1)
    assert found.low == max(g.difference_low for g in each)
    assert found.high == max(g.difference_high for g in each)


def p_value_of(one: Claim) -> float:
    """One minus the largest confidence at which the interval still decides, by bisection: the claim's p-value."""
    low, high = 0.0, 1.0
    for _ in range(22):
        middle = (low + high) / 2
        decided = one.verdict(one.at(1 - middle)) != "inconclusive"
        low, high = (low, middle) if decided else (middle, high)
    return high


def test_verdicts_are_holms_and_never_contradict_their_interval() -> None:
    """Ten random claims: decided exactly where statsmodels' Holm rejects, and limits agree with the verdict."""
    rng = np.random.default_rng(3)
    for _ in range(2):
        n = rng.integers(100, 600, (10, 3))
        right = rng.binomial(n, rng.uniform(0.85, 0.95, (10, 3)))
        claims = [claim("difference", 0.12, rates_estimate(right[i], n[i])) for i in range(10)]
        rejected = multipletests([p_value_of(c) for c in claims], alpha=0.05, method="holm")[0]
        judged = holm_bounds(claims, 0.05)
        assert [verdict != "inconclusive" for *_, verdict in judged] == rejected.tolist()
        for one, (bounds, confidence, verdict) in zip(claims, judged, strict=True):
            assert one.verdict(one.at(confidence)) == verdict
            assert (bounds.low > 0.12) == (verdict == "fail")
            assert (bounds.high <= 0.12) == (verdict == "pass")


@pytest.mark.parametrize("true_gap", [0.0, 0.02])
def test_a_limit_that_is_kept_is_called_broken_in_at_most_one_of_forty(true_gap: float) -> None:
    """FairFace's sizes, accuracy .94 in all 14 groups, then one group at the limit itself: `difference <= .02`.

    A bootstrap of max − min fails 99.8 % of the former. 250 audits each; the fixed seed makes the count exact.
    """
    rng = np.random.default_rng(1)
    p = np.full(len(FAIRFACE), 0.94)
    p[3] -= true_gap
    fails = 0
    for right in rng.binomial(FAIRFACE, p, (250, len(FAIRFACE))):
        one = claim("difference", 0.02, rates_estimate(right, FAIRFACE))
        fails += one.verdict(one.at(0.95)) == "fail"
    assert fails / 250 <= 0.025


@pytest.mark.parametrize("measure", ["ratio", "minimum", "maximum"])
def test_other_measures_keep_the_error_at_the_limit_itself(measure: str) -> None:
    """The truth is exactly the limit, the hardest case: neither wrong fails nor wrong passes beyond 2.5 % each."""
    rng = np.random.default_rng(2)
    n, p = np.full(5, 500), np.array([0.9, 0.8, 0.85, 0.85, 0.85])
    limit = {"ratio": 0.8 / 0.9, "minimum": 0.8, "maximum": 0.9}[measure]
    count = {"pass": 0, "fail": 0, "inconclusive": 0}
    for right in rng.binomial(n, p, (300, 5)):
        one = claim(measure, limit, rates_estimate(right, n), at_most=measure == "maximum")
        count[one.verdict(one.at(0.95))] += 1
    allowed = 0.025 + 2 * np.sqrt(0.025 * 0.975 / 300)
    assert count["fail"] / 300 <= allowed
    assert count["pass"] / 300 <= allowed


def test_a_contrast_errs_equally_often_on_both_sides() -> None:
    """All tables of .9 and .8 of 60 faces: the limit .1 is called broken, or kept, in about 2.5 % each."""
    n, wrong = 60, {"pass": 0.0, "fail": 0.0, "inconclusive": 0.0}
    for first in range(40, n + 1):
        for second in range(28, n + 1):
            estimate = rates_estimate(np.array([first, second]), np.array([n, n]))
            one = claim("contrast", 0.1, estimate)
            wrong[one.verdict(one.at(0.95))] += binom.pmf(first, n, 0.9) * binom.pmf(second, n, 0.8)
    assert sum(wrong.values()) > 0.9999
    assert 0.01 < wrong["fail"] < 0.035
    assert 0.01 < wrong["pass"] < 0.035


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["difference", "ratio", "minimum", "maximum"]),
    st.lists(st.tuples(st.integers(1, 30), st.integers(60, 300)), min_size=2, max_size=5),
    st.floats(0.02, 0.4),
)
def test_the_number_that_would_decide_decides_and_fewer_do_not(
    measure: str, table: list[tuple[int, int]], limit: float
) -> None:
    """With the same rates and that many faces a subgroup the verdict is there; with 2 % fewer it is not."""
    wrong, n = np.array(table).T
    estimate = rates_estimate(n - wrong, n)
    limit = {"ratio": 1 - limit, "minimum": 1 - limit, "maximum": 1 - limit / 4}.get(measure, limit)
    one = claim(measure, limit, estimate, at_most=measure in ("difference", "maximum"))
    if one.verdict(one.at(0.95)) != "inconclusive":
        return
    needed = one.needed(0.95)
    if np.isnan(needed):
        assert abs(one.at(0.95).value - limit) < 2e-4
        return
    value = 1 - wrong / n

    def verdict(size: float) -> str:
        """The verdict on real counts' sizes: the same rates from max(n, size) faces."""
        more = np.maximum(n, size).astype(float)
        again = rates_estimate(value * more, more)
        return claim(measure, limit, again, at_most=one.at_most).verdict(
            claim(measure, limit, again, at_most=one.at_most).at(0.95)
        )

    assert verdict(needed) != "inconclusive"
    assert needed * 0.98 < n.min() or verdict(needed * 0.98) == "inconclusive"


def test_a_grown_subgroup_has_the_limits_of_more_faces() -> None:
    """Growing an estimate equals estimating the same rate from more faces; larger subgroups stay as they are."""
    estimate = rates_estimate(np.array([40, 450]), np.array([50, 500]))
    low, high = grown(estimate, 200).limits(1.96)
    np.testing.assert_allclose([low[0, 0], high[0, 0]], wilson(np.array(0.8), np.array(200), 1.96))
    np.testing.assert_allclose([low[1, 0], high[1, 0]], wilson(np.array(0.9), np.array(500), 1.96))


def audited(policies: list[str], frame: pd.DataFrame | None = None, **more: object) -> pd.DataFrame:
    """The policies table of an audit of planted data: Black at .70, everyone else at .95."""
    frame = make_predictions(3000, accuracy=0.95, worse={"Black": 0.7}) if frame is None else frame
    return audit_with(frame, "policies", by=["race"], policies=tuple(policies), **more).table("policies")


def test_planted_data_give_each_of_the_three_verdicts() -> None:
    """A gap of 25 points breaks a limit of 5, keeps one of 40, and says nothing of 25; the axis age is added."""
    texts = [f"difference(accuracy, race) <= {limit}" for limit in (0.05, 0.4, 0.25)]
    found = audited([*texts, "minimum(accuracy, age, task=gender) >= 0.5"])
    assert tuple(found.columns) == MORE_TABLES["policies"]
    assert found["verdict"].tolist() == ["fail", "pass", "inconclusive", "pass"]
    assert found["worst"].tolist()[:3] == ["Black"] * 3
    assert np.isfinite(found["n_needed"]).tolist() == [False, False, True, False]
    assert found["n_needed"][2] > found["n_smallest"][2]
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    line = verdict_line(found.iloc[2].to_dict())
    assert line.startswith("inconclusive: difference(accuracy, race) <= 0.25")
    assert "would decide" in line


def test_the_interval_is_that_of_gaps_csv() -> None:
    """One policy alone is judged at the audit's own confidence, so its limits are those of the gap table."""
    frame = make_predictions(2000, worse={"Black": 0.8}, tasks=("age",))
    policies = ["difference(macro_f1, race) <= 0.05"]
    result = audit_with(frame, "policies", by=["race"], policies=tuple(policies), seed=5)
    gaps = result.gaps[(result.gaps["by"] == "race") & (result.gaps["metric"] == "macro_f1")].iloc[0]
    row = result.table("policies").iloc[0]
    for ours, theirs in (("value", "difference"), ("low", "difference_low"), ("high", "difference_high")):
        assert row[ours] == gaps[theirs]


def test_a_pass_names_everyone_who_was_not_assessed() -> None:
    """A subgroup of twelve faces and the unknown ones are named; so is a class in which a subgroup is too small."""
    frame = make_predictions(1500, accuracy=0.95)
    few = frame["race"].eq("Others") & (frame.groupby("race").cumcount() >= 12)
    frame = frame[~few].reset_index(drop=True)
    frame.loc[:9, "race"] = None
    rare = frame["race"].eq("Indian") & frame["gender"].eq("Female") & (frame.groupby("race").cumcount() >= 20)
    frame = frame[~rare].reset_index(drop=True)
    found = audited(["difference(accuracy, race) <= 0.5", "difference(recall, race) <= 0.6"], frame)
    assert found["verdict"].tolist() == ["pass", "pass"]
    assert found["not_assessed"][0] == "Others; unknown"
    assert found["not_assessed"][1] == "Others; unknown; Indian (Female)"


def test_contrasts_use_the_plans_reference_and_target() -> None:
    """A hypothesis is supported or contradicted; its interval is Newcombe's at the level of the family."""
    frame = make_predictions(3000, accuracy=0.95, worse={"Black": 0.7})
    plan = {
        "reference": {"race": "White"},
        "target": {"race": "Black"},
        "hypotheses": [
            "contrast(accuracy, race, subgroup=target, against=reference) <= -0.05",
            "contrast(accuracy, race, subgroup=target) >= -0.02",
        ],
    }
    result = audit_with(frame, "hypotheses", by=["race"], plan=plan)
    found = result.table("hypotheses")
    assert found["verdict"].tolist() == ["supported", "contradicted"]
    right = frame["gender_true"] == frame["gender_pred"]
    black = frame["race"] == "Black"
    for row, other in zip(found.to_dict("records"), (frame["race"] == "White", ~black), strict=True):
        assert row["confidence"] == 0.975
        sides = []
        for mask in (black, other):
            p, n = np.array(right[mask].mean()), np.array(mask.sum())
            sides.append((p, *wilson(p, n, z_value(0.975))))
        np.testing.assert_allclose([row["low"], row["high"]], mover_difference(*sides), atol=1e-12)
        assert row["value"] == pytest.approx(float(sides[0][0] - sides[1][0]))


def test_what_means_nothing_is_not_applicable_or_refused() -> None:
    """Where the subgroup determines the label, an unnamed task is set aside with the reason; a named one is refused."""
    frame = make_predictions(1200, tasks=("gender", "race"))
    found = audited(["difference(accuracy, race) <= 0.5"], frame).set_index("task")
    assert found["verdict"].to_dict() == {"gender": "pass", "race": "not applicable"}
    assert "determines the label" in found["reason"]["race"]
    assert found["confidence"]["gender"] == 0.95
    with pytest.raises(UsageError, match="determines the label"):
        audited(["difference(accuracy, race, task=race) <= 0.5"], frame)


def test_an_axis_that_only_the_data_show_to_be_degenerate_cannot_be_judged() -> None:
    """Gender by a column that repeats it: not applicable, with the reason, and no verdict."""
    frame = make_predictions(600).assign(sex=lambda f: f["gender"].map({"Male": "m", "Female": "f"}))
    found = audited(["difference(accuracy, sex) <= 0.5"], frame)
    assert found["verdict"].tolist() == ["not applicable"]
    assert "no subgroup holds two labels" in found["reason"][0]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("difference(acuracy, race) <= 0.1", "did you mean 'accuracy'"),
        ("difference(accuracy, rase) <= 0.1", "did you mean 'race'"),
        ("difference(accuracy, race, task=gendr) <= 0.1", "did you mean 'gender'"),
        ("difference(recall, race, class=Femal) <= 0.1", "did you mean 'Female'"),
        ("difference(accuracy, race, class=Female) <= 0.1", "one value for all classes"),
        ("difference(mae_bins, race) <= 0.1", "have an order"),
        ("difference(n, race) <= 0.1", "unknown metric"),
        ("minimum(accuracy, race) >= 1.5", "lies between"),
        ("contrast(accuracy, race, subgroup=Black) <= 3", "differ by"),
        ("ratio(kappa, race) >= 0.5", "has no ratio"),
        ("contrast(accuracy, race, subgroup=Blck) <= 0", "did you mean 'Black'"),
        ("contrast(accuracy, race, subgroup=target) <= 0", "names no target"),
        ("difference(accuracy, overall) <= 0.1", "whole set"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_counted(policy: str, said: str) -> None:
    """The nearest known name stands in the message."""
    with pytest.raises(UsageError, match=said):
        audited([policy])


@pytest.mark.parametrize("extra", ["weight", "subject_id"])
def test_weights_and_subjects_make_verdicts_harder(extra: str) -> None:
    """Unequal weights and repeated persons widen the interval, so what passed may not pass."""
    frame = make_predictions(1500, accuracy=0.95)
    rng = np.random.default_rng(99)
    plain = audited(["difference(accuracy, race) <= 0.2"], frame)
    if extra == "weight":
        frame["weight"] = rng.choice([1.0, 30.0], len(frame))
    else:
        frame = pd.concat([frame.assign(image=frame["image"] + str(i), subject_id=frame["image"]) for i in range(3)])
        plain = audited(["difference(accuracy, race) <= 0.2"], frame.drop(columns="subject_id"))
    found = audited(["difference(accuracy, race) <= 0.2"], frame)
    assert found["high"][0] - found["low"][0] > 1.2 * (plain["high"][0] - plain["low"][0])


def test_too_few_faces_are_inconclusive_not_a_pass() -> None:
    """With one subgroup of sufficient size there is no gap to judge, and the reason says so."""
    found = audited(["difference(accuracy, race) <= 0.5"], make_predictions(60), min_group_size=50)
    assert found["verdict"].tolist() == ["inconclusive"]
    assert "too few subgroups" in found["reason"][0]


def test_equal_faces_that_are_listed_once_give_the_same_tables() -> None:
    """A table counted out of core has one row for many faces: the same verdicts and population; no halving."""
    table = read_predictions(make_predictions(1500, worse={"Black": 0.7}))
    columns = ["gender_true", "gender_pred", "race", "gender", "age"]
    counted = table.frame.groupby(columns, observed=True).size().reset_index(name="times")
    once = replace(table, frame=counted.drop(columns="times"), times=counted["times"].to_numpy())
    texts = ("difference(accuracy, race) <= 0.05", "difference(macro_f1, race) <= 0.3", "maximum(fpr, age) <= 0.4")
    options = {"by": ["race"], "policies": texts, "population": {"race": {"White": 0.5, "Black": 0.5}}}
    every, listed = (audit_with(t, "policies", "population", **options) for t in (table, once))
    for name in ("policies", "population"):
        pd.testing.assert_frame_equal(every.table(name), listed.table(name))
    with pytest.raises(UsageError, match="one by one"):
        audit_with(once, "exploratory", by=["race"], exploratory=True)


def test_a_policy_on_scores_needs_scores() -> None:
    """AUC is judged where there are probabilities, and inconclusive with the reason where there are none."""
    frame = make_predictions(1200)
    found = audited(["difference(auc, race) <= 0.9"], frame)
    assert (found["verdict"][0], np.isnan(found["value"][0])) == ("inconclusive", True)
    assert "no scores" in found["reason"][0]
    sure = np.random.default_rng(9).uniform(0.5, 1, len(frame))
    male = np.where(frame["gender_pred"] == "Male", sure, 1 - sure)
    found = audited(["difference(auc, race) <= 0.9"], frame.assign(gender_prob_Male=male, gender_prob_Female=1 - male))
    assert found["verdict"][0] == "pass"
    assert 0 <= found["low"][0] <= found["value"][0] <= found["high"][0] < 0.9
