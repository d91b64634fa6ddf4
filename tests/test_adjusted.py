"""Adjusted gaps: standardization and its logistic check against oracles, on planted truth, and what they refuse."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit import subgroups
from fairaudit.adjusted_table import adjusted_table
from fairaudit.audit import everyone, run_audit
from fairaudit.axes import AuditData, AxisData, sample_of, task_rows
from fairaudit.covariates import MEDIATOR, check_covariates, covariate, strata
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.metrics.adjusted import (
    Cells,
    cells_of,
    composition_change,
    overlap,
    standardized,
)
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.logistic import marginal_rates
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.results import AuditResult
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL

AGES = np.array(["0-2", "3-9", "10-19", "20-29", "30-39"])
RACES = np.array(["A", "B", "C"])
MIXES = np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 3, 3, 3, 3]]) / 15
Z = z_value(0.95)


def drawn(n: int, rate: np.ndarray, mixes: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Faces of three races with their own age mixes, gender right with probability rate[race, age]."""
    rng = np.random.default_rng(seed)
    race = rng.integers(0, 3, n)
    age = (rng.random(n)[:, None] > mixes.cumsum(1)[race]).sum(1)
    gender = rng.integers(0, 2, n)
    right = rng.random(n) < rate[race, age]
    names = np.array(["F", "M"])
    return pd.DataFrame(
        {
            "image": np.arange(n),
            "gender_true": names[gender],
            "gender_pred": names[np.where(right, gender, 1 - gender)],
            "race": RACES[race],
            "age": AGES[age],
        }
    )


def adjusted(frame: pd.DataFrame, by: str = "race", **spec: object) -> pd.DataFrame:
    """The adjusted table of one audit, without the audit's other tables."""
    audit = AuditSpec.model_validate({"draws": 100, "adjust_for": ("age",), **spec})
    table = read_predictions(frame)
    check_covariates(list(table.frame.columns), audit.adjust_for, list(table.tasks), audit.adjust_to)
    task = next(iter(table.tasks))
    rows = task_rows(table, task)
    axes = []
    for axis, groups in ((OVERALL, everyone(len(table))), (by, subgroups.assign(table.frame, by))):
        why = subgroups.degenerate(groups, table.frame[f"{task}_true"], axis, task) if axis != OVERALL else None
        sample = sample_of(rows, table.frame, groups)
        axes.append(AxisData(rows=rows, sample=sample, by=axis, degenerate=why, frame=table.frame))
    nothing = pd.DataFrame()
    return adjusted_table(AuditData(predictions=table, axes=axes, audit=audit, seed=0, metrics=nothing, gaps=nothing))


def gap_of(table: pd.DataFrame, metric: str = "accuracy", class_: str = "") -> pd.Series:
    """The row of a gap."""
    found = table[(table["subgroup"] == "") & (table["metric"] == metric) & (table["class"] == class_)]
    assert len(found) == 1
    return found.iloc[0]


def cells(top: np.ndarray, bottom: np.ndarray) -> Cells:
    """Counts as they are, unweighted."""
    a, b = np.asarray(top, float), np.asarray(bottom, float)
    return Cells(top=a, bottom=b, squares=b, counts=b)


def faces(n: int, seed: int, groups: int = 3, levels: int = 4, **more: np.ndarray) -> tuple[Sample, np.ndarray]:
    """A sample of n faces with rates that differ by group and stratum, and their strata."""
    rng = np.random.default_rng(seed)
    group, stratum, row = (rng.integers(0, k, n) for k in (groups, levels, 2))
    right = rng.random(n) < 0.6 + 0.08 * stratum + 0.03 * group
    names = tuple(f"g{i}" for i in range(groups))
    column = np.where(right, row, 1 - row)
    return Sample(table=Table(2, 2), groups=names, group=group, row=row, column=column, **more), stratum


def test_the_same_mix_takes_a_gap_of_age_away() -> None:
    """The race differs by age mix only: a raw gap beyond noise, an adjusted one within it, by the model, too."""
    rate = np.tile(np.linspace(0.6, 0.95, 5), (3, 1))
    row = gap_of(adjusted(drawn(6000, rate, MIXES)))
    assert row["raw_low"] > 0.05
    assert row["adjusted_low"] == 0 and row["modelled_low"] == 0
    assert row["adjusted"] < 0.04
    assert row["change_high"] < -0.05
    assert (row["worst"], row["best"]) == ("B", "A")
    assert row["overlap"] == 1 and row["n"] == 6000 and row["reason"] == ""


def test_a_real_gap_survives() -> None:
    """Race B is 15 points worse at every age: the adjusted gap holds the truth and excludes zero."""
    rate = np.array([0.9, 0.75, 0.9])[:, None] + np.zeros(5)
    row = gap_of(adjusted(drawn(6000, rate, MIXES)))
    assert 0 < row["adjusted_low"] < 0.15 < row["adjusted_high"]
    assert row["adjusted_worst"] == "B"
    assert row["change_low"] < 0 < row["change_high"]


def test_equal_treatment_of_other_age_mixes_is_equal_at_one_mix() -> None:
    """The same P(prediction | label) for both groups, yet other mixes of labels give accuracies of .66 and .56."""
    recall, rows = np.array([0.76, 0.46]), []
    for group, old in (("A", 1 / 3), ("B", 2 / 3)):
        for label, share, right in (("young", 1 - old, recall[0]), ("old", old, recall[1])):
            n = round(3000 * share)
            pred = np.where(np.arange(n) < round(n * right), label, "old" if label == "young" else "young")
            rows.append(pd.DataFrame({"group": group, "years_true": label, "years_pred": pred}))
    frame = pd.concat(rows, ignore_index=True).assign(image=lambda f: f.index)
    table = adjusted(frame, "group", adjust_for=("label_mix",))
    by_group = table[table["metric"] == "accuracy"].set_index("subgroup")
    np.testing.assert_allclose(by_group.loc[["A", "B"], "raw"].astype(float), [0.66, 0.56], atol=1e-9)
    np.testing.assert_allclose(by_group.loc[["A", "B"], "adjusted"].astype(float), 0.61, atol=1e-9)
    assert gap_of(table)["adjusted"] == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(60, 400), st.booleans())
def test_standardization_is_the_weighted_mean_of_strata(seed: int, n: int, weighted: bool) -> None:
    """Raw and adjusted rates equal pandas' groupby means, averaged over the pooled mix."""
    weight = np.random.default_rng(seed).uniform(0.5, 2, n) if weighted else None
    sample, stratum = faces(n, seed, weight=weight)
    counted = cells_of(sample, stratum, 4, METRICS["accuracy"])[0]
    frame = pd.DataFrame({"g": sample.group, "s": stratum, "hit": sample.row == sample.column})
    frame["w"] = 1.0 if weight is None else weight
    frame["wh"] = frame["w"] * frame["hit"]
    sums = frame.groupby(["g", "s"])[["wh", "w"]].sum()
    rate = (sums["wh"] / sums["w"]).unstack().reindex(index=range(3), columns=range(4))
    mix = (frame.groupby("s")["w"].sum() / frame["w"].sum()).reindex(range(4), fill_value=0)
    expected = (rate * mix).where(mix > 0, 0).sum(axis=1, skipna=False)
    found = standardized(counted, mix.to_numpy(), METRICS["accuracy"])
    np.testing.assert_allclose(found.value[:, 0], expected.to_numpy(), atol=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
def test_the_model_is_statsmodels_glm(clustered: bool) -> None:
    """Marginal rates and their delta-method errors equal those of GLM binomial, with clustered errors for subjects."""
    n = 1500
    rng = np.random.default_rng(4)
    subject = rng.integers(0, 500, n) if clustered else None
    sample, stratum = faces(n, 4, subject=subject)
    a, b = stratum // 2, stratum % 2
    counted = cells_of(sample, stratum, 4, METRICS["accuracy"])[0]
    mix = np.bincount(stratum, minlength=4) / n
    every = np.ones(3, bool)
    found = marginal_rates(counted, [np.arange(4) // 2, np.arange(4) % 2], mix, every, every)
    design = np.column_stack([np.eye(3)[sample.group], a, b])
    hit = (sample.row == sample.column).astype(float)
    more = {"cov_type": "cluster", "cov_kwds": {"groups": subject}} if clustered else {}
    fit = sm.GLM(hit, design, family=sm.families.Binomial()).fit(**more)
    for g in range(3):
        moved = design.copy()
        moved[:, :3] = np.eye(3)[g]
        mu = fit.predict(moved)
        gradient = ((mu * (1 - mu))[:, None] * moved).mean(0)
        assert found.value[g] == pytest.approx(mu.mean(), abs=1e-8)
        error = np.sqrt(gradient @ fit.cov_params() @ gradient)
        # statsmodels multiplies clustered covariance by (n − 1)/(n − parameters), too
        assert found.error[g] == pytest.approx(error * (np.sqrt((n - 5) / (n - 1)) if clustered else 1), rel=1e-6)


def test_a_separated_subgroup_has_no_model_and_the_others_keep_theirs() -> None:
    """All faces of one group right: its coefficient is infinite; leaving it out changes no other estimate."""
    bottom = np.full((3, 2), 50.0)
    top = np.array([[40, 45], [50, 50], [35, 44.0]])
    mix, every = np.array([0.5, 0.5]), np.ones(3, bool)
    found = marginal_rates(cells(top, bottom), [np.arange(2)], mix, every, every)
    assert np.isnan(found.value[1]) and "infinite" in found.reasons[1]
    without = marginal_rates(cells(top[[0, 2]], bottom[:2]), [np.arange(2)], mix, every[:2], every[:2])
    np.testing.assert_allclose(found.value[[0, 2]], without.value, atol=1e-9)


def test_a_separated_level_is_certain_in_the_model() -> None:
    """All faces of one age right in every group: that stratum's fitted rate is 1, the others are fitted as without."""
    bottom = np.full((2, 3), 60.0)
    top = np.array([[40, 50, 60], [30, 45, 60.0]])
    mix, every = np.array([0.25, 0.25, 0.5]), np.ones(2, bool)
    found = marginal_rates(cells(top, bottom), [np.arange(3)], mix, every, every)
    small = marginal_rates(cells(top[:, :2], bottom[:, :2]), [np.arange(2)], np.array([0.5, 0.5]), every, every)
    np.testing.assert_allclose(found.value, 0.5 + 0.5 * small.value, atol=1e-9)


def test_covariates_that_act_otherwise_in_one_group_are_told() -> None:
    """Age helps in A and hurts in B: no one number is right for both, and the reason says so; alike, it does not."""
    rate = np.array([np.linspace(0.55, 0.95, 5), np.linspace(0.95, 0.55, 5), np.full(5, 0.8)])
    assert "do not act alike" in gap_of(adjusted(drawn(6000, rate, MIXES)))["reason"]
    assert gap_of(adjusted(drawn(6000, np.full((3, 5), 0.8), MIXES)))["reason"] == ""


def bootstrapped(sample: Sample, stratum: np.ndarray, mix: np.ndarray, draws: int) -> np.ndarray:
    """Standard deviation of standardized rates over redrawn faces, those of a subject together, strata kept."""
    rng = np.random.default_rng(0)
    values = []
    subject = np.arange(len(stratum)) if sample.subject is None else sample.subject
    rows = [np.flatnonzero(subject == s) for s in np.unique(subject)]
    for _ in range(draws):
        chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        part = Sample(
            table=sample.table,
            groups=sample.groups,
            group=sample.group[chosen],
            row=sample.row[chosen],
            column=sample.column[chosen],
        )
        counted = cells_of(part, stratum[chosen], len(mix), METRICS["accuracy"])[0]
        values.append(standardized(counted, mix, METRICS["accuracy"]).value[:, 0])
    return np.std(values, axis=0)


def test_intervals_are_as_wide_as_the_bootstrap_says() -> None:
    """Half widths are 1.96 bootstrap deviations within 25 %, for single faces and for whole subjects (4 pictures)."""
    mix = np.full(4, 0.25)
    sample, stratum = faces(900, 2)
    low, high = standardized(cells_of(sample, stratum, 4, METRICS["accuracy"])[0], mix, METRICS["accuracy"]).limits(Z)
    np.testing.assert_allclose(((high - low) / 2 / Z)[:, 0], bootstrapped(sample, stratum, mix, 300), rtol=0.25)
    people, at = faces(400, 3)
    same = [np.repeat(part, 4) for part in (people.group, people.row, people.column, at)]
    four = replace(people, group=same[0], row=same[1], column=same[2], subject=np.repeat(np.arange(400), 4))
    low, high = standardized(cells_of(four, same[3], 4, METRICS["accuracy"])[0], mix, METRICS["accuracy"]).limits(Z)
    np.testing.assert_allclose(((high - low) / 2 / Z)[:, 0], bootstrapped(four, same[3], mix, 300), rtol=0.25)


@pytest.mark.parametrize(("strata_count", "each", "p"), [(9, 5, 0.9), (45, 3, 0.9), (3, 150, 0.95)])
def test_intervals_cover_over_sparse_and_full_strata(strata_count: int, each: int, p: float) -> None:
    """Over 1,500 draws, nominal 95 % intervals hold the true standardized rate in 93 % at least."""
    rng = np.random.default_rng(strata_count)
    mix = rng.dirichlet(np.full(strata_count, 4.0))
    rates = np.clip(rng.normal(p, 0.05, strata_count), 0.05, 0.99)
    bottom = np.full((1500, strata_count), float(each))
    found = standardized(cells(rng.binomial(each, rates, bottom.shape), bottom), mix, METRICS["accuracy"])
    low, high = (side[:, 0] for side in found.limits(Z))
    truth = (mix * rates).sum()
    assert ((low <= truth) & (truth <= high)).mean() >= 0.93


def test_composition_change_is_the_difference_of_two_means() -> None:
    """Change = standardized − crude; without a difference of mixes it is 0 without error."""
    bottom = np.array([[90, 10], [50, 50.0]])
    counted = cells(np.array([[81, 5], [45, 25.0]]), bottom)
    change, variance = composition_change(counted, np.array([0.5, 0.5]))
    np.testing.assert_allclose(change, [0.7 - 0.86, 0], atol=1e-12)
    assert variance[1] == 0 < variance[0]


def test_subgroups_are_compared_over_what_all_of_them_hold() -> None:
    """One group lacks a stratum of 10 % of the target: compared over the rest; of 50 %: it is left out."""
    counts = np.array([[30, 40, 30], [40, 30, 0], [0, 90, 0]])
    found = overlap(counts, np.array([50.0, 40, 10]), np.ones(3, bool))
    assert found.compared.tolist() == [True, True, False]
    assert found.shared.tolist() == [True, True, False]
    assert found.share == pytest.approx(0.9)
    np.testing.assert_allclose(found.mix, [5 / 9, 4 / 9, 0])
    np.testing.assert_allclose(found.own, [1, 0.9, 0.4])
    nothing = overlap(np.array([[30, 0], [0, 30]]), np.array([1.0, 1]), np.ones(2, bool))
    assert not nothing.compared.any() and nothing.mix.sum() == 0


def test_missing_strata_are_named_and_bare_groups_have_a_reason() -> None:
    """C has faces of one age only: no adjusted value, with its share of the mix and the ages that it lacks."""
    mixes = np.vstack([MIXES[:2], [[0, 0, 1, 0, 0]]])
    table = adjusted(drawn(3000, np.full((3, 5), 0.8), mixes))
    row = table[(table["subgroup"] == "C") & (table["metric"] == "accuracy")].iloc[0]
    assert np.isnan(row["adjusted"]) and not np.isnan(row["raw"])
    assert "not standardized" in row["reason"] and "age 30-39" in row["reason"]
    assert gap_of(table)["not_assessed"] == "C"
    assert row["overlap"] < 0.8


def test_faces_without_a_covariate_are_counted() -> None:
    """A face whose age is not known is in neither figure, and the reason says how many."""
    frame = drawn(2000, np.full((3, 5), 0.8), MIXES)
    frame.loc[:49, "age"] = None
    table = adjusted(frame)
    row = gap_of(table)
    assert row["n"] == 1950 and "not known: 50" in row["reason"]
    part = frame.iloc[50:]
    expected = (part["gender_true"] == part["gender_pred"])[part["race"] == "A"].mean()
    assert table[(table["subgroup"] == "A") & (table["metric"] == "accuracy")].iloc[0]["raw"] == pytest.approx(expected)


def test_raw_figures_are_the_audits_own() -> None:
    """Raw rates, their limits and the raw gap equal metrics.csv and gaps.csv where every covariate is known."""
    frame = drawn(2000, np.full((3, 5), 0.8), MIXES)
    found = run_audit(frame, by=["race"], audit=AuditSpec(draws=100, adjust_for=("age",)))
    table = found.table("adjusted")
    keys = ["by", "metric", "class", "subgroup"]
    both = table[table["subgroup"] != ""].merge(found.metrics, on=keys)
    assert len(both) == (table["subgroup"] != "").sum()
    for ours, theirs in (("raw", "value"), ("raw_low", "low"), ("raw_high", "high"), ("n_x", "denominator")):
        np.testing.assert_allclose(both[ours].astype(float), both[theirs].astype(float))
    gaps = table[table["subgroup"] == ""].merge(found.gaps, on=["by", "metric", "class"])
    for end in ("", "_low", "_high"):
        np.testing.assert_allclose(gaps[f"raw{end}"].astype(float), gaps[f"difference{end}"].astype(float))


def test_weights_and_subjects_widen_intervals() -> None:
    """Weights widen by Kish's number, four copies of each face by a subject count as one; values stay."""
    frame = drawn(3000, np.full((3, 5), 0.8), MIXES)
    weight = np.random.default_rng(99).choice([0.2, 3.0], len(frame))
    copies = pd.concat([frame.assign(subject_id=frame["image"].astype(str))] * 4, ignore_index=True)
    copies["image"] = np.arange(len(copies))
    tables = [adjusted(frame), adjusted(frame.assign(weight=weight)), adjusted(copies)]
    plain, weighted, together = (t[(t["subgroup"] == "A") & (t["metric"] == "accuracy")].iloc[0] for t in tables)
    rows = (plain, weighted, together)
    one = [np.sqrt(row["adjusted"] * (1 - row["adjusted"])) for row in rows]  # deviation of a single face
    width = [(row["adjusted_high"] - row["adjusted_low"]) / d for row, d in zip(rows, one, strict=True)]
    kish = len(frame) * (weight**2).sum() / weight.sum() ** 2
    assert width[1] / width[0] == pytest.approx(np.sqrt(kish), rel=0.15)
    assert together["adjusted"] == pytest.approx(plain["adjusted"])
    assert width[2] / width[0] == pytest.approx(1, rel=0.15)
    assert gap_of(tables[1])["raw"] != gap_of(tables[0])["raw"]


def test_an_axis_that_is_made_of_the_covariate_says_so() -> None:
    """On the axis age nothing is left to adjust for; on a degenerate axis only recall is."""
    frame = drawn(1500, np.full((3, 5), 0.8), MIXES).assign(gender=lambda f: f["gender_true"])
    table = adjusted(frame, "age")
    assert len(table) == 1 and "part of this axis" in table.iloc[0]["reason"]
    crossed = adjusted(frame, "race:gender")
    assert set(crossed["metric"]) == {"recall"}
    assert gap_of(crossed, "recall", "M")["assessed"] == 3


def test_another_target_is_used_and_named() -> None:
    """adjust_to = race=A: A keeps its own rate, and the table names the target."""
    frame = drawn(3000, np.tile(np.linspace(0.6, 0.95, 5), (3, 1)), MIXES)
    table = adjusted(frame, adjust_to="race=A")
    row = table[(table["subgroup"] == "A") & (table["metric"] == "accuracy")].iloc[0]
    assert row["adjusted"] == pytest.approx(row["raw"])
    assert set(table["target"]) == {"race=A"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"adjust_for": ("gender_pred",)}, "comes from the prediction"),
        ({"adjust_for": ("hair",)}, "no such column"),
        ({"adjust_for": ("age", "age")}, "named twice"),
        ({"adjust_to": "A"}, "attribute=value"),
        ({"adjust_to": "race=Z"}, "no face has that value"),
    ],
)
def test_what_cannot_be_adjusted_for_is_refused(spec: Mapping[str, object], said: str) -> None:
    """The prediction, an unknown column, a column named twice, an unreadable or empty target: exit 2, in words."""
    with pytest.raises(UsageError, match=said):
        adjusted(drawn(200, np.full((3, 5), 0.8), MIXES), **spec)


def test_numbers_become_quantile_bins_and_strata_are_what_occurs() -> None:
    """Five equal bins of a number, missing values apart; strata are crossings that occur, with their names."""
    values = np.r_[np.arange(100.0), np.nan]
    frame = pd.DataFrame({"light": values, "camera": pd.Categorical(["x", "y"] * 50 + ["x"])})
    light, camera = (covariate(frame, name, "gender", None) for name in ("light", "camera"))
    assert light.binned and len(light.levels) == 5
    assert np.bincount(light.codes[:100]).tolist() == [20] * 5 and light.codes[100] == -1
    stratum, levels, names = strata([light, camera])
    assert len(names) == 10 and stratum[100] == -1
    assert names[stratum[0]] == "light 0–19, camera x"
    np.testing.assert_array_equal(levels[1][stratum[:100]], camera.codes[:100])
    few = covariate(pd.DataFrame({"light": [0.5, 0.5, 2.0]}), "light", "gender", None)
    assert few.levels == ("0.5", "2") and few.codes.tolist() == [0, 0, 1]


def test_a_column_of_numbers_is_no_axis_and_can_be_adjusted_for() -> None:
    """A user's brightness with hundreds of values is kept, is no axis, and makes strata in the audit."""
    frame = drawn(1500, np.full((3, 5), 0.8), MIXES)
    frame["brightness"] = np.random.default_rng(99).random(len(frame))
    found = run_audit(frame, audit=AuditSpec(draws=100, adjust_for=("brightness",)))
    assert "brightness" not in found.meta["subgroups"]
    assert set(found.table("adjusted")["covariates"]) == {"brightness in 5 bins"}
    assert MEDIATOR in found.meta["warnings"]


def test_an_audit_without_covariates_has_no_such_table(tmp_path: Path) -> None:
    """Nothing named, nothing computed; with names, saved and loaded alike."""
    frame = drawn(300, np.full((3, 5), 0.8), MIXES)
    plain = run_audit(frame, by=["race"], audit=AuditSpec(draws=100))
    assert "adjusted" not in plain.more and MEDIATOR not in plain.meta["warnings"]
    table = adjusted(drawn(2000, np.full((3, 5), 0.8), MIXES))
    replace(plain, more={"adjusted": table}).save(tmp_path / "audit")
    again = AuditResult.load(tmp_path / "audit").table("adjusted")
    assert tuple(again.columns) == MORE_TABLES["adjusted"]
    pd.testing.assert_frame_equal(table, again, check_dtype=False)
