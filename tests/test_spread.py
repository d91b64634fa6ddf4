"""How far rates are spread over subgroups: FairFace's row, Gini, error ratio, against brute force and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_analysis import audit_with, frame_of

from fairaudit.metrics import spread
from fairaudit.metrics.intervals import wilson, z_value

RATES = st.lists(st.floats(0.05, 0.95), min_size=2, max_size=6)


def figures(table: pd.DataFrame, metric: str = "accuracy", class_: str = "") -> pd.DataFrame:
    """The statistics of one metric and class, by name."""
    return table[(table["metric"] == metric) & (table["class"] == class_)].set_index("statistic")


@settings(max_examples=40, deadline=None)
@given(RATES)
def test_statistics_equal_their_formulas(rates: list[float]) -> None:
    """Every statistic equals its formula written out with loops over pairs."""
    found = spread.statistics(np.array(rates))
    errors, n = [1 - r for r in rates], len(rates)
    pairs = list(itertools.product(rates, rates))
    assert found["epsilon"] == pytest.approx(max(np.log(a / b) for a, b in pairs), abs=1e-12)
    assert found["std"] == pytest.approx(np.sqrt(sum((r - sum(rates) / n) ** 2 for r in rates) / n), abs=1e-12)
    double = sum(abs(a - b) for a, b in itertools.product(errors, errors))
    assert found["gini"] == pytest.approx(n / (n - 1) * double / (2 * n**2 * np.mean(errors)), abs=1e-12)
    assert found["error_ratio"] == pytest.approx(max(errors) / min(errors))


def test_undefined_statistics_are_nan() -> None:
    """A rate of 0 leaves no epsilon, a subgroup without error no ratio, no error anywhere no Gini."""
    assert np.isnan(spread.statistics(np.array([0.0, 0.5]))["epsilon"])
    assert np.isnan(spread.statistics(np.array([1.0, 0.5]))["error_ratio"])
    assert np.isnan(spread.statistics(np.array([1.0, 1.0]))["gini"])
    assert spread.gini(np.array([0.0, 0.0, 0.3])) == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(RATES, st.integers(0, 1000))
def test_limits_enclose_every_point_of_the_box(rates: list[float], seed: int) -> None:
    """No rates within their simultaneous limits have a spread outside the limits; Gini's upper limit is attained."""
    value, n = np.array(rates), np.random.default_rng(seed).integers(20, 400, len(rates)).astype(float)
    limits = spread.limits(value, n, 0.95)
    low, high = wilson(value, n, z_value(0.95, len(rates)))
    points = np.random.default_rng(seed).uniform(low, high, (500, len(rates)))
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    found = spread.statistics(np.concatenate([points, corners, value[None, :]]))
    for name in ("max", "min", "std", "gini"):
        assert limits[name][0] <= found[name].min() + 1e-9 and found[name].max() <= limits[name][1] + 1e-9
    assert limits["gini"][1] == pytest.approx(found["gini"].max(), abs=1e-9)


def test_limits_hold_in_95_of_100_audits() -> None:
    """Over 300 simulated audits each statistic's limits contain its true value, with and without a disparity."""
    rng = np.random.default_rng(5)
    n = np.array([60.0, 200, 500, 1000, 150])
    for true in (np.full(5, 0.9), np.array([0.9, 0.85, 0.93, 0.9, 0.7])):
        truth = spread.statistics(true)
        hits = dict.fromkeys(("mean", "max", "min", "std", "gini"), 0)
        for right in rng.binomial(n.astype(int), true, (300, 5)):
            for name, (low, high) in spread.limits(right / n, n, 0.95).items():
                hits[name] += low - 1e-9 <= truth[name] <= high + 1e-9
        assert min(hits.values()) / 300 >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 300)


def test_noise_alone_spreads_rates_as_much_as_expected() -> None:
    """Without a disparity the expected spread is near theory, and few observed ones exceed its 95 % quantile."""
    rng = np.random.default_rng(1)
    n, p = np.full(7, 1500.0), 0.94
    theory = np.sqrt(p * (1 - p) / 1500 * 6 / 7)
    above = 0
    for right in rng.binomial(1500, p, (200, 7)).astype(float):
        found = spread.expected(right, n, np.zeros(7, int), 300, rng, whole=True)
        assert found["std"][0] == pytest.approx(theory, rel=0.25)
        above += spread.statistics(right / n)["std"] > found["std"][1]
    assert above / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_planted_disparity_stands_out() -> None:
    """One subgroup 20 points worse: the spread lies above what noise gives, and its limits exclude 0."""
    frame = frame_of(
        {"x": [[190, 10], [10, 190]], "y": [[190, 10], [10, 190]], "z": [[150, 50], [50, 150]]}, ["a", "b"]
    )
    found = figures(audit_with(frame, "summary", tasks=["gender"], by=["race"]).table("summary"))
    assert found.loc["std", "value"] > found.loc["std", "expected_high"]
    assert found.loc["std", "low"] > 0 and found.loc["gini", "low"] > 0
    assert found.loc["epsilon", "value"] == pytest.approx(np.log(0.95 / 0.75))
    assert 0 < found.loc["epsilon", "low"] < found.loc["epsilon", "value"] < found.loc["epsilon", "high"]
    assert found.loc["error_ratio", "value"] == pytest.approx(5.0)
    assert 1 < found.loc["error_ratio", "low"] < 5 < found.loc["error_ratio", "high"]
    assert (found.loc["min", "subgroup"], found.loc["mean", "n"]) == ("z", 1200)


def test_all_subgroups_are_kept_or_named() -> None:
    """Known answer: FaceX keeps two of seven race groups; here all seven count, and who is left out is named."""
    cubes = {name: [[45 - i, i], [i, 45 - i]] for i, name in enumerate("abcdefg")}
    frame = frame_of({**cubes, "tiny": [[3, 3], [3, 3]], None: [[0, 50], [50, 0]]}, ["no", "yes"])
    found = figures(audit_with(frame, "summary", tasks=["gender"], by=["race"]).table("summary"))
    assert (found["groups"] == 7).all() and (found["left_out"] == "tiny").all()
    rates = np.array([1 - i / 45 for i in range(7)])
    assert found.loc["std", "value"] == pytest.approx(rates.std())
    assert found.loc["error_ratio", "reason"] == "undefined: a subgroup has no error"


def test_degenerate_axes_have_recall_only() -> None:
    """Where the subgroup is the class there is no value without a disparity; across race within a class there is."""
    frame = frame_of({"x": [[45, 5], [5, 45]], "y": [[30, 20], [5, 45]]}, ["Female", "Male"])
    frame["gender"] = frame["gender_true"]
    result = audit_with(frame, "summary", tasks=["gender"], by=["gender", "race:gender"]).table("summary")
    alone = figures(result[result["by"] == "gender"], "recall_by_labelled_class")
    assert alone["expected"].isna().all() and alone["reason"].str.contains("class of its own").all()
    assert set(result[result["by"] == "gender"]["metric"]) == {"recall_by_labelled_class"}
    within = figures(result[result["by"] == "race:gender"], "recall", "Female")
    assert within.loc["max", "value"] == pytest.approx(0.9) and within.loc["min", "value"] == pytest.approx(0.6)
    assert within["expected"].notna().all() and (within["groups"] == 2).all()


def test_subjects_widen_what_is_expected_by_noise() -> None:
    """Ten alike pictures of each person raise the spread that noise gives, and the limits' width."""
    frame = frame_of({"x": [[180, 20], [20, 180]], "y": [[160, 40], [40, 160]]}, ["a", "b"])
    people = frame.assign(subject_id=[f"p{i // 10}" for i in range(len(frame))])
    options = {"tasks": ["gender"], "by": ["race"], "min_group_size": 5}
    plain, clustered = (figures(audit_with(f, "summary", **options).table("summary")) for f in (frame, people))
    assert plain.loc["std", "value"] == clustered.loc["std", "value"]
    assert clustered.loc["std", "expected"] > 2 * plain.loc["std", "expected"]
    assert clustered.loc["std", "high"] > plain.loc["std", "high"]
