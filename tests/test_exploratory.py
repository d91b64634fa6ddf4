"""Discovery on one half, confirmation on the other: who stays together, what is tested, how often it errs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_analysis import audit_with
from report_data import make_predictions
from scipy.stats import fisher_exact, norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from fairaudit import subgroups
from fairaudit.audit import everyone, run_audit
from fairaudit.axes import AuditData, AxisData, sample_of, task_rows
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.exploratory_table import discovery_half, exploratory_table
from fairaudit.metrics.halves import blocks, halves, holm_levels, share_tests
from fairaudit.metrics.intervals import mover_difference, wilson, z_value
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL


def data_of(frame: pd.DataFrame, axes: tuple[str, ...] = ("race", "age"), seed: int = 0) -> AuditData:
    """What the analysis reads, without an audit's other tables."""
    table = read_predictions(frame)
    found = []
    for task in table.tasks:
        rows = task_rows(table, task)
        for by in (OVERALL, *axes):
            labels = everyone(len(table.frame)) if by == OVERALL else subgroups.assign(table.frame, by)
            why = None if by == OVERALL else subgroups.degenerate(labels, table.frame[f"{task}_true"], by, task)
            part = table.frame.iloc[rows.position]
            sample = sample_of(rows, table.frame, labels)
            found.append(AxisData(rows=rows, sample=sample, by=by, degenerate=why, frame=part))
    none = pd.DataFrame()
    return AuditData(
        predictions=table, axes=found, audit=AuditSpec(exploratory=True), seed=seed, metrics=none, gaps=none
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 12), st.integers(-1, 12), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_persons_and_equal_images_stay_whole(rows: list[tuple[int, int, int]], seed: int) -> None:
    """Rows joined by a person or an image, also through a third row, are in one half; a negative code joins nobody."""
    person, image, stratum = np.array(rows).T
    block = blocks([person, image], len(rows))
    first = halves(block, stratum, [seed])
    for codes in (person, image):
        for i, j in np.argwhere((codes[:, None] == codes[None, :]) & (codes >= 0)):
            assert block[i] == block[j]
            assert first[i] == first[j]
    chained = pd.Series(block).groupby(block).size()
    assert len(chained) >= len(rows) - ((person >= 0).sum() + (image >= 0).sum())


def test_every_stratum_is_halved() -> None:
    """Without persons each stratum gives n / 2 to each half, within one face; the seed changes who."""
    strata = np.random.default_rng(0).integers(0, 9, 500)
    first = halves(np.arange(500), strata, [1])
    for stratum in range(9):
        inside = first[strata == stratum]
        assert abs(inside.sum() - (~inside).sum()) <= 1
    assert (first != halves(np.arange(500), strata, [2])).mean() > 0.3
    assert (first == halves(np.arange(500), strata, [1])).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 300), st.data())
def test_tests_are_the_score_test_and_fishers(n: int, n_rest: int, data: st.DataObject) -> None:
    """statsmodels' pooled z where expected counts allow it, scipy's Fisher test where not."""
    x, y = data.draw(st.integers(0, n)), data.draw(st.integers(0, n_rest))
    found = share_tests(np.array(x / n), np.array(n), np.array(y / n_rest), np.array(n_rest), True)
    pooled = (x + y) / (n + n_rest)
    if min(pooled, 1 - pooled) * min(n, n_rest) >= 5:
        expected = proportions_ztest([x, y], [n, n_rest])[1]
    else:
        expected = fisher_exact([[x, n - x], [y, n_rest - y]])[1]
    assert found == pytest.approx(expected, abs=1e-10)


def test_holm_levels_are_the_steps_at_which_holm_decides() -> None:
    """An interval at the step's level agrees with statsmodels' Holm on normal statistics."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        z = rng.normal(1.5, 1.5, 8)
        p = 2 * norm.sf(np.abs(z))
        rejected = multipletests(p, alpha=0.05, method="holm")[0]
        np.testing.assert_array_equal(np.abs(z) >= holm_levels(p, 0.95), rejected)


def test_the_planted_group_is_confirmed_with_recomputable_figures() -> None:
    """Black at .75 among .95: found and confirmed; value, rest and interval by mask on the confirmation half."""
    frame = make_predictions(4000, accuracy=0.95, worse={"Black": 0.75})
    data = data_of(frame)
    found = exploratory_table(data)
    assert list(found.columns) == list(MORE_TABLES["exploratory"])
    row = found[(found["subgroup"] == "Black") & (found["metric"] == "accuracy")].iloc[0]
    assert row["confirmed"]
    second = ~discovery_half(data)
    right = (frame["gender_true"] == frame["gender_pred"]).to_numpy()
    black = (frame["race"] == "Black").to_numpy()
    sides = [right[second & black], right[second & ~black]]
    assert (row["value"], row["rest"]) == pytest.approx(tuple(s.mean() for s in sides))
    assert (row["n"], row["n_rest"]) == tuple(map(len, sides))
    p_value = proportions_ztest([s.sum() for s in sides], list(map(len, sides)))[1]
    assert row["p_value"] == pytest.approx(p_value)
    np.testing.assert_allclose(found["p_adjusted"], multipletests(found["p_value"], method="holm")[1])
    ranked = found["p_value"].rank(method="first")[row.name]
    z = z_value(0.95, int(len(found) - ranked + 1))
    limits = mover_difference(*((np.array(s.mean()), *wilson(np.array(s.mean()), np.array(len(s)), z)) for s in sides))
    np.testing.assert_allclose([row["low"], row["high"]], limits)
    assert "confirmed" in row["sentence"]
    assert "faces labelled as Black" in row["sentence"]


@pytest.mark.parametrize("tables", [40, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_without_bias_hardly_ever_anything_is_confirmed(tables: int) -> None:
    """Tables without any difference, five races and nine ages: something is confirmed in at most 5 % (+ error)."""
    wrong, seen = 0, 0
    for seed in range(tables):
        found = exploratory_table(data_of(make_predictions(1000, seed=seed), seed=seed))
        seen += len(found) > 0
        wrong += bool(len(found) and found["confirmed"].any())
    assert wrong / tables <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)
    assert seen > tables / 2  # the screen lets noise through: confirmation is what stops it


def test_a_table_without_an_axis_is_refused_in_words() -> None:
    """Nothing to compare, nothing to discover: a sentence, no traceback."""
    frame = pd.DataFrame({"kind_true": ["a", "b"] * 20, "kind_pred": ["a"] * 40, "site": ["n"] * 40})
    with pytest.raises(UsageError, match="needs an axis"):
        run_audit(frame, audit=AuditSpec(exploratory=True, draws=100))


def test_each_contrast_is_tested_once() -> None:
    """Two groups against each other are one test, and so are recall of one class and FPR of the other."""
    frame = make_predictions(2000, accuracy=0.95, worse={"A": 0.6}, races=("A", "B"))
    found = exploratory_table(data_of(frame, axes=("race",)))
    assert set(found["subgroup"]) == {"A"}
    assert "fpr" not in set(found["metric"])
    assert set(found["class"][found["metric"] == "recall"]) == {"Female", "Male"}


def test_subjects_are_kept_whole_and_widen_the_test() -> None:
    """The same faces three times under one person say what they say once, not three times as much."""
    frame = make_predictions(900, accuracy=0.95, worse={"Black": 0.75})
    tripled = pd.concat(
        [frame.assign(image=frame["image"] + str(i), subject_id=frame["image"]) for i in range(3)], ignore_index=True
    )
    data = data_of(tripled)
    assert (pd.Series(discovery_half(data)).groupby(tripled["subject_id"]).nunique() == 1).all()
    with_subjects = exploratory_table(data).set_index(["subgroup", "metric"])["p_value"]
    once = exploratory_table(data_of(frame)).set_index(["subgroup", "metric"])["p_value"]
    assert np.log(with_subjects["Black", "accuracy"]) == pytest.approx(np.log(once["Black", "accuracy"]), rel=0.03)


def test_it_stands_in_an_audit_only_when_asked() -> None:
    """The table is there with exploratory, absent without."""
    frame = make_predictions(1500, accuracy=0.95, worse={"Black": 0.7})
    assert len(audit_with(frame, "exploratory", by=["race"], exploratory=True).table("exploratory"))
    assert not len(audit_with(frame, "exploratory", by=["race"]).table("exploratory"))
