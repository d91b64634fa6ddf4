"""Directed confusions, attraction and pairs, against masks, exact laws, simulation and planted truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_analysis import audit_with, frame_of
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fairaudit.metrics.confusions import Contrasts, paired_ratio, strengths
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.multiplicity import max_t
from fairaudit.metrics.rates import Table
from fairaudit.metrics.sample import Sample

K = ["a", "b", "c"]
OPTIONS = {"tasks": ["race"], "by": ["camera"]}


def made_up(n: int = 900, seed: int = 0, planted: float = 0.0) -> pd.DataFrame:
    """Faces of three races from three cameras; with camera z, labels a are taken for b `planted` more often."""
    rng = np.random.default_rng(seed)
    true, camera = rng.choice(K, n), rng.choice(["x", "y", "z"], n)
    other = np.array([rng.choice([c for c in K if c != y]) for y in true])
    predicted = np.where(rng.random(n) < 0.8, true, other)
    predicted = np.where((true == "a") & (camera == "z") & (rng.random(n) < planted), "b", predicted)
    return pd.DataFrame({"image": range(n), "race_true": true, "race_pred": predicted, "camera": camera})


def test_shares_and_excess_equal_recomputation_by_mask() -> None:
    """Share, the rest's share, their numbers, the excess and all limits equal masks over the table."""
    frame = made_up()
    table = audit_with(frame, "directed", **OPTIONS).table("directed")
    rows = table[table["by"] == "camera"]
    assert len(rows) == 3 * 6
    for row in rows.to_dict("records"):
        labelled = frame["race_true"] == row["true"]
        inside, hit = frame["camera"] == row["subgroup"], frame["race_pred"] == row["predicted"]
        own, others = hit[labelled & inside], hit[labelled & ~inside]
        assert (row["count"], row["n"], row["n_rest"]) == (own.sum(), len(own), len(others))
        assert (row["value"], row["rest"]) == (pytest.approx(own.mean()), pytest.approx(others.mean()))
        low, high = proportion_confint(own.sum(), len(own), method="wilson")
        assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
        limits = confint_proportions_2indep(own.sum(), len(own), others.sum(), len(others), method="newcomb")
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(limits, abs=1e-9)


def test_p_values_are_exact() -> None:
    """Each contrast's own p is the two-sided mid-p of the hypergeometric law; the adjusted one is never smaller."""
    frame = made_up(300, seed=2)
    table = audit_with(frame, "directed", min_group_size=5, **OPTIONS).table("directed")
    tested = table[table["p_value"].notna()]
    assert len(tested) == len(table[table["by"] == "camera"]) and (table["family_size"] == 18).all()
    for row in tested.to_dict("records"):
        marks = row["count"] + round(row["rest"] * row["n_rest"])
        law = stats.hypergeom(row["n"] + int(row["n_rest"]), marks, row["n"])
        each, own = law.pmf(np.arange(row["n"] + 1)), law.pmf(row["count"])
        tie = np.isclose(each, own, rtol=1e-7)
        assert row["p_value"] == pytest.approx(each[(each < own) & ~tie].sum() + each[tie].sum() / 2, abs=1e-9)
        assert row["p_adjusted"] >= row["p_value"]


def test_the_planted_confusion_is_found_and_named() -> None:
    """a → b with camera z stands first, survives the family's control, and is the only finding of excess."""
    table = audit_with(made_up(1500, planted=0.3), "directed", draws=1000, **OPTIONS).table("directed")
    rows = table[table["by"] == "camera"]
    first = rows.iloc[0]
    assert (first["subgroup"], first["true"], first["predicted"]) == ("z", "a", "b")
    assert first["p_adjusted"] <= 0.01 and first["difference_low"] > 0.1
    others = rows.iloc[1:]
    assert not ((others["p_adjusted"] <= 0.05) & (others["difference"] > 0)).any()


def test_without_a_difference_few_audits_find_one() -> None:
    """Over 150 audits without any planted confusion at most 5 % (and noise) find one in the whole family."""
    found, rng = 0, np.random.default_rng(1)
    group, true, predicted = (part.ravel() for part in np.indices((3, 3, 3)))
    use = true != predicted
    contrasts = Contrasts(group=group[use], true=true[use], predicted=predicted[use])
    for seed in range(150):
        frame = made_up(300, seed=seed)
        codes = [pd.factorize(frame[name], sort=True)[0] for name in ("camera", "race_true", "race_pred")]
        parts = dict(zip(("group", "row", "column"), codes, strict=True))
        sample = Sample(table=Table(3, 3), groups=("x", "y", "z"), **parts)
        seen, null = strengths(sample, np.ones(3, dtype=bool), contrasts, 200, rng)
        found += max_t(seen, null).min() <= 0.05
    assert found / 150 <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 150)


def test_small_and_unknown_subgroups_and_lone_classes_say_why_they_are_not_compared() -> None:
    """Too few faces, an unknown subgroup, or no one else so labelled: no p-value, and the reason in words."""
    cubes = {"x": [[40, 9], [4, 40]], "y": [[40, 4], [4, 40]], "t": [[2, 3], [0, 0]], None: [[20, 20], [20, 20]]}
    table = audit_with(frame_of(cubes, ["a", "b"], "race", "camera"), "directed", **OPTIONS).table("directed")
    rows = table[table["by"] == "camera"].set_index(["subgroup", "true"])
    assert "fewer than 30" in rows.loc[("t", "a"), "reason"] and rows.loc[("t", "a"), "small"]
    assert rows.loc[("unknown", "a"), "reason"] == "faces of unknown subgroup enter no comparison"
    assert np.isnan(rows.loc[("unknown", "a"), "rest"])
    assert rows.loc[("x", "a"), "n_rest"] == 44 + 5 and rows.loc[("x", "a"), "reason"] == ""
    assert rows.loc[["t", "unknown"], "p_value"].isna().all()


def test_two_subgroups_make_one_contrast() -> None:
    """With two subgroups each direction is one test: both rows have the same p, and the family counts it once."""
    frame = frame_of({"x": [[40, 19], [4, 40]], "y": [[50, 4], [9, 40]]}, ["a", "b"], "race", "camera")
    table = audit_with(frame, "directed", **OPTIONS).table("directed")
    rows = table[(table["by"] == "camera") & (table["true"] == "a")].set_index("subgroup")
    assert rows.loc["x", "p_adjusted"] == rows.loc["y", "p_adjusted"] < 0.05
    assert rows.loc["x", "difference"] == pytest.approx(-rows.loc["y", "difference"])
    assert (table["family_size"] == 2).all()


def test_an_axis_with_the_task_repeats_nothing() -> None:
    """race × camera has the contrasts of camera within each class: it is left out beside camera, kept without it."""
    frame = made_up().assign(race=lambda f: f["race_true"])
    both = audit_with(frame, "directed", tasks=["race"], by=["camera", "race:camera", "race"]).table("directed")
    assert set(both["by"]) == {"overall", "camera"}
    alone = audit_with(frame, "directed", tasks=["race"], by=["race:camera"]).table("directed")
    crossed = alone[alone["by"] == "race:camera"].set_index(["subgroup", "true", "predicted"])
    plain = both[both["by"] == "camera"].set_index(["subgroup", "true", "predicted"])
    for name in ("value", "rest", "difference", "p_value"):
        assert crossed.loc[("a × x", "a", "b"), name] == pytest.approx(plain.loc[("x", "a", "b"), name])


def test_persons_and_weights_are_honoured() -> None:
    """Many pictures a person widen limits and raise p; weights move the share; neither is ignored."""
    frame = frame_of({"x": [[160, 40], [20, 180]], "y": [[180, 20], [20, 180]]}, ["a", "b"], "race", "camera")
    people = frame.assign(subject_id=[f"p{i // 5}" for i in range(len(frame))])
    weighted = frame.assign(weight=np.where(frame["race_pred"] == "b", 3.0, 1.0))
    tables = [
        audit_with(f, "directed", draws=400, min_group_size=10, **OPTIONS).table("directed")
        for f in (frame, people, weighted)
    ]
    plain, clustered, heavy = (
        t[(t["by"] == "camera") & (t["subgroup"] == "x") & (t["true"] == "a")].iloc[0] for t in tables
    )
    assert clustered["value"] == plain["value"] == pytest.approx(0.2)
    assert clustered["p_value"] > 4 * plain["p_value"]
    assert clustered["difference_high"] > plain["difference_high"]
    assert heavy["value"] == pytest.approx(120 / 280)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(K), st.sampled_from(K)), min_size=30, max_size=60))
def test_attraction_and_pairs_equal_masks(pairs: list[tuple[str, str]]) -> None:
    """Predicted ÷ labelled, pairwise recalls and confused shares equal masks over the table; undefined is empty."""
    frame = pd.DataFrame(pairs, columns=["race_true", "race_pred"]).assign(image=range(len(pairs)), camera="x")
    result = audit_with(frame, "attraction", "pairs", **OPTIONS)
    y, p = frame["race_true"], frame["race_pred"]
    for row in result.table("attraction").to_dict("records"):
        predicted, labelled = (p == row["class"]).sum(), (y == row["class"]).sum()
        assert (row["n_predicted"], row["n"]) == (predicted, labelled)
        if not labelled:
            assert np.isnan(row["value"]) and row["reason"] == "no face is labelled so"
        else:
            assert row["value"] == pytest.approx(predicted / labelled)
            assert row["low"] <= row["value"] and not row["value"] > row["high"]
    for row in result.table("pairs").to_dict("records"):
        a, b = row["first"], row["second"]
        inside = y.isin([a, b]) & p.isin([a, b])
        recalls = [(p[inside & (y == c)] == c).mean() for c in (a, b)]
        np.testing.assert_allclose(row["value"], np.mean(recalls), equal_nan=True)
        assert np.isnan(row["value"]) == bool(row["reason"])
        assert row["confused"] == pytest.approx((y != p)[inside].mean())
        assert (row["n_first"], row["n_second"]) == ((inside & (y == a)).sum(), (inside & (y == b)).sum())


def test_pairs_that_are_not_told_apart_are_named() -> None:
    """A pair guessed at random is not shown to be told apart, a swapped one is worse than chance, others are fine."""
    cube = np.array([[50, 50, 0, 0], [50, 50, 0, 0], [0, 0, 40, 90], [0, 0, 95, 39]])
    frame = frame_of({"x": cube}, [*"abcd"], "race", "camera")
    table = audit_with(frame, "pairs", **OPTIONS).table("pairs")
    rows = table[table["by"] == "overall"].set_index(["first", "second"])
    assert rows.loc[("a", "b"), "reading"] == "not shown to be told apart"
    assert rows.loc[("a", "b"), "value"] == 0.5 and rows.loc[("a", "b"), "confused"] == 0.5
    assert rows.loc[("c", "d"), "reading"] == "worse than chance"
    assert rows.loc[("a", "c"), "reading"] == "told apart"


def test_readings_hold_for_all_rows_of_a_head_at_once() -> None:
    """Of 60 subgroups without any attraction or mix-up, single intervals err in some, readings in hardly any table."""
    rng = np.random.default_rng(3)
    wrong, single = 0, 0
    for _ in range(12):
        label = rng.integers(0, 2, 6000)
        predicted = np.where(rng.random(6000) < 0.5, label, rng.integers(0, 2, 6000))
        frame = pd.DataFrame({"x_true": np.array(list("ab"))[label], "x_pred": np.array(list("ab"))[predicted]})
        frame = frame.assign(image=range(6000), site=np.arange(6000) % 40)
        table = audit_with(frame, "attraction", by=["site"], min_group_size=30).table("attraction")
        judged = table[~table["small"]]
        assert (table["family_size"] == len(judged)).all() and len(judged) == 82
        single += int(((judged["low"] > 1) | (judged["high"] < 1)).any())
        wrong += int(judged["reading"].ne("").any())
        assert not judged.loc[(judged["low"] <= 1) & ~(judged["high"] < 1), "reading"].ne("").any()
    assert single >= 6 and wrong <= 2
    guessed = pd.DataFrame({"x_true": rng.choice(["a", "b"], 4000), "x_pred": rng.choice(["a", "b"], 4000)})
    table = audit_with(guessed.assign(image=range(4000), site=np.arange(4000) % 40), "pairs", by=["site"]).table(
        "pairs"
    )
    assert set(table.loc[~table["small"], "reading"]) == {"not shown to be told apart"}
    assert ((table["low"] > 0.5) | (table["high"] < 0.5)).any(), "single intervals err at this many"


def test_paired_ratio_formula_and_coverage() -> None:
    """Bonett & Price's formula written out over statsmodels' Wilson limits; coverage ≥ 93 % over a grid."""
    z = z_value(0.95)
    both, first, second = 1, 1, 7
    x1, x2, n = both + first, both + second, both + first + second
    a = np.sqrt((first + second + 2) / ((x1 + 1) * (x2 + 1)))
    b, c = (np.sqrt((1 - (x + 1) / (n + 2)) / (x + 1)) for x in (x1, x2))
    alpha = 2 * stats.norm.sf(z * a / (b + c))
    (low1, high1), (low2, high2) = (proportion_confint(x, n, alpha=alpha, method="wilson") for x in (x1, x2))
    found = paired_ratio(np.array(1.0), np.array(1.0), np.array(7.0), z)
    np.testing.assert_allclose(found, (low1 / high2, high1 / low2), rtol=1e-9)
    rng = np.random.default_rng(0)
    for n in (60, 400):
        for both, first, second in ((0.5, 0.1, 0.1), (0.1, 0.05, 0.02), (0.2, 0.1, 0.03)):
            cells = rng.multinomial(n, [both, first, second, 1 - both - first - second], 2000).astype(float)
            low, high = paired_ratio(cells[:, 0], cells[:, 1], cells[:, 2], z)
            truth = (both + first) / (both + second)
            assert ((low <= truth) & (truth <= high)).mean() >= 0.93


def test_attraction_limits_widen_with_persons_and_weights() -> None:
    """Repeated pictures and unequal weights make the ratio of prevalences less sure, and leave no limit tighter."""
    frame = frame_of({"x": [[70, 30], [10, 90]]}, ["a", "b"], "race", "camera")
    people = frame.assign(subject_id=[f"p{i // 5}" for i in range(len(frame))])
    weighted = frame.assign(weight=np.resize([0.2, 1.8], len(frame)))
    plain, clustered, heavy = (
        audit_with(f, "attraction", **OPTIONS).table("attraction").iloc[1] for f in (frame, people, weighted)
    )
    assert plain["class"] == "b" and plain["value"] == clustered["value"] == pytest.approx(1.2)
    for other in (clustered, heavy):
        assert other["high"] - other["low"] > plain["high"] - plain["low"]
