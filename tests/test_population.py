"""Figures of a stated population: values by hand, intervals that hold, and what is missing named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_analysis import audit_with
from report_data import make_predictions
from sklearn import metrics as oracle

from fairaudit.errors import UsageError
from fairaudit.metrics.intervals import wilson, z_value
from fairaudit.metrics.poststratified import drawn, share
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.population import read_population
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import load_spec, parse_spec

RACES = {"White": 0.5, "Black": 0.2, "Asian": 0.2, "Indian": 0.05, "Others": 0.05}


def table_of(frame: pd.DataFrame, population: dict[str, dict[str, float]], **more: object) -> pd.DataFrame:
    """The population table of an audit by gender."""
    return audit_with(frame, "population", by=["gender"], population=population, **more).table("population")


def value_of(table: pd.DataFrame, metric: str, class_: str = "") -> pd.Series:
    """The one row of a metric and class."""
    return table[(table["metric"] == metric) & (table["class"] == class_)].iloc[0]


def test_values_are_sklearns_under_the_populations_weights() -> None:
    """Every face weighs share / faces of its subgroup: sklearn with these sample weights gives the same values."""
    frame = make_predictions(1500, worse={"Black": 0.6}, tasks=("age",))
    found = table_of(frame, {"race": RACES})
    assert list(found.columns) == list(MORE_TABLES["population"])
    weight = frame["race"].map(RACES) / frame["race"].map(frame["race"].value_counts())
    y, p = frame["age_true"], frame["age_pred"]
    assert value_of(found, "accuracy")["value"] == pytest.approx(oracle.accuracy_score(y, p, sample_weight=weight))
    macro = oracle.f1_score(y, p, average="macro", sample_weight=weight)
    assert value_of(found, "macro_f1")["value"] == pytest.approx(macro)
    assert value_of(found, "kappa")["value"] == pytest.approx(oracle.cohen_kappa_score(y, p, sample_weight=weight))
    for class_ in y.unique():
        recall = oracle.recall_score(y, p, labels=[class_], average="macro", sample_weight=weight)
        assert value_of(found, "recall", class_)["value"] == pytest.approx(recall)
        f1 = oracle.f1_score(y, p, labels=[class_], average="macro", sample_weight=weight)
        assert value_of(found, "f1", class_)["value"] == pytest.approx(f1)
    assert value_of(found, "accuracy")["unweighted"] == pytest.approx((y == p).mean())


def sample(right: list[int], n: list[int], **more: np.ndarray) -> Sample:
    """Strata of a task of two classes, all labelled as the first, of whose faces so many are predicted as it."""
    group = np.repeat(np.arange(len(n)), n)
    column = np.concatenate([np.r_[np.zeros(r), np.ones(m - r)] for r, m in zip(right, n, strict=True)]).astype(int)
    names = tuple(f"s{h}" for h in range(len(n)))
    return Sample(table=Table(2, 2), groups=names, group=group, row=np.zeros(len(group), int), column=column, **more)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(5, 60), st.floats(0.2, 0.8), st.floats(0.1, 1)), min_size=1, max_size=5))
def test_the_variance_of_an_accuracy_is_the_stratified_one(strata: list[tuple[int, float, float]]) -> None:
    """Σ W² p (1 − p) / (n − 1), the textbook's variance of a stratified proportion, behind Wilson's limits."""
    n = np.array([s[0] for s in strata])
    right = np.rint(n * np.array([s[1] for s in strata])).astype(int)
    shares = np.array([s[2] for s in strata])
    shares = shares / shares.sum()
    p = right / n
    value, variance = shares @ p, shares**2 @ (p * (1 - p) / (n - 1))
    effective = min(value * (1 - value) / variance, 1 / (shares**2 @ (1 / n)))
    found = share(sample(right.tolist(), n.tolist()), shares, METRICS["accuracy"], 0.95)
    assert found.value[0] == pytest.approx(value)
    assert found.effective[0] == pytest.approx(effective)
    low, high = wilson(np.array(value), np.array(effective), z_value(0.95))
    np.testing.assert_allclose([found.low[0], found.high[0]], [low, high])


def test_equal_weights_and_single_subjects_change_nothing() -> None:
    """Weights of one and a person a face give what no weights give; a person with two faces counts as one."""
    shares = np.array([0.3, 0.7])
    plain = share(sample([40, 70], [50, 90]), shares, METRICS["accuracy"], 0.95)
    weighted = share(sample([40, 70], [50, 90], weight=np.full(140, 2.5)), shares, METRICS["accuracy"], 0.95)
    alone = share(sample([40, 70], [50, 90], subject=np.arange(140)), shares, METRICS["accuracy"], 0.95)
    doubled = share(
        sample([80, 140], [100, 180], subject=np.repeat(np.arange(140), 2)), shares, METRICS["accuracy"], 0.95
    )
    assert weighted.effective[0] == pytest.approx(plain.effective[0])
    assert alone.effective[0] == pytest.approx(plain.effective[0])
    small, half = sample([1] * 20, [2] * 20), np.full(20, 0.05)
    known = sample([1] * 20, [2] * 20, subject=np.arange(40))
    one, two = (share(each, half, METRICS["accuracy"], 0.95) for each in (small, known))
    assert two.effective[0] == pytest.approx(one.effective[0])
    assert doubled.effective[0] == pytest.approx(alone.effective[0])


@pytest.mark.parametrize(("metric", "kind"), [("accuracy", "closed"), ("balanced_accuracy", "drawn")])
def test_intervals_hold_in_95_of_100_surveys(metric: str, kind: str) -> None:
    """Strata of 40, 200 and 400 faces for shares of .5, .3 and .2: the population's value is inside as promised."""
    rng, shares, n, p = np.random.default_rng(4), np.array([0.5, 0.3, 0.2]), [40, 200, 400], [0.7, 0.9, 0.97]
    hits, surveys = 0, 300
    for _ in range(surveys):
        group = np.repeat(np.arange(3), n)
        row = rng.integers(0, 2, len(group))
        right = rng.random(len(group)) < np.array(p)[group]
        faces = Sample(
            table=Table(2, 2), groups=("a", "b", "c"), group=group, row=row, column=np.where(right, row, 1 - row)
        )
        if kind == "closed":
            found = share(faces, shares, METRICS[metric], 0.95)
        else:
            found = drawn(faces, shares, [metric], 0.95, 300, [0])[0]
        hits += found.low[0] <= shares @ np.array(p) <= found.high[0]
    assert hits / surveys >= 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / surveys)


def test_missing_cells_and_faces_outside_are_named() -> None:
    """A stated subgroup without a face, faces of subgroups that are not stated, and a near name."""
    frame = make_predictions(600)
    found = value_of(table_of(frame, {"race": {"White": 0.6, "Blck": 0.4}}), "accuracy")
    assert found["covered"] == pytest.approx(0.6)
    assert "no face of Blck (40 %, did you mean 'Black'?)" in found["reason"]
    outside = (frame["race"] != "White").sum()
    assert f"{outside} faces are outside the stated population (Black, Asian, Indian, Others)" in found["reason"]
    white = frame[frame["race"] == "White"]
    assert found["value"] == pytest.approx((white["gender_true"] == white["gender_pred"]).mean())
    one_more = pd.concat([white, frame[frame["race"] == "Asian"].head(1)])
    found = value_of(table_of(one_more, {"race": {"White": 1.0}}), "accuracy")
    assert "1 face is outside the stated population (Asian)" in found["reason"]


def test_a_stratum_of_one_face_gives_no_interval() -> None:
    """One face shows no spread: the value stands, its interval is missing with the reason."""
    frame = make_predictions(400)
    others = frame.index[frame["race"] == "Others"]
    found = value_of(table_of(frame.drop(others[1:]).reset_index(drop=True), {"race": RACES}), "accuracy")
    assert np.isfinite(found["value"])
    assert np.isnan(found["low"])
    assert "single face" in found["reason"]
    pictures = sample([30, 5], [40, 10], subject=np.r_[np.arange(40), np.full(10, 40)])
    closed = share(pictures, np.array([0.7, 0.3]), METRICS["accuracy"], 0.95)
    by_draws = drawn(pictures, np.array([0.7, 0.3]), ["balanced_accuracy"], 0.95, 100, [0])[0]
    for figure in (closed, by_draws):
        assert np.isfinite(figure.value[0]) and np.isnan(figure.low[0])
        assert "single person" in figure.reason


def test_a_population_that_no_face_belongs_to_is_refused() -> None:
    """The message names what was stated and what there is."""
    with pytest.raises(UsageError, match="none of"):
        table_of(make_predictions(300), {"race": {"Elf": 1.0}})


@pytest.mark.parametrize(
    ("shares", "said"), [({"A": 0.5, "B": 0.4}, "sum to 0.9"), ({"A": 1.5, "B": -0.5}, "from 0 to 1"), ({}, "sum to 0")]
)
def test_shares_that_are_no_distribution_are_refused(shares: dict[str, float], said: str) -> None:
    """They must sum to one, and the spec's path stands in the message."""
    with pytest.raises(UsageError, match=said):
        parse_spec({"name": "x", "data": {"dataset": "utkface"}, "audit": {"population": {"race": shares}}})


def test_cells_come_from_a_csv_beside_the_spec(tmp_path: Path) -> None:
    """One row a cell; the axis is the columns; a path out of the folder, a twin and a bad number are refused."""
    (tmp_path / "cells.csv").write_text("race,gender,share\nA,Male,0.25\nA,Female,0.25\nB,Male,0.5\n", encoding="utf-8")
    spec = tmp_path / "spec.toml"
    text = 'name = "x"\n[data]\ndataset = "utkface"\n[audit]\npopulation = "{}"\n'
    spec.write_text(text.format("cells.csv"), encoding="utf-8")
    assert load_spec(spec).audit.population == {"race:gender": {"A × Male": 0.25, "A × Female": 0.25, "B × Male": 0.5}}
    spec.write_text(text.format("../cells.csv"), encoding="utf-8")
    with pytest.raises(UsageError, match="own folder"):
        load_spec(spec)
    for body, said in (
        ("race,share\nA,0.5\nA,0.5\n", "twice"),
        ("race,share\nA,much\n", "no number"),
        ("race\nA\n", "named 'share'"),
        ("race,share\nA\n", "named 'share'"),
        ("", "named 'share'"),
    ):
        (tmp_path / "cells.csv").write_text(body, encoding="utf-8")
        with pytest.raises(UsageError, match=said):
            read_population(tmp_path / "cells.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_population(tmp_path / "none.csv")
