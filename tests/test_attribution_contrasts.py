"""Contrasts between subgroups: exact matching, a planted difference found, image content told from the model."""

import numpy as np
import pandas as pd
import pytest

from fairaudit.attribution import contrasts
from fairaudit.attribution.contrasts import IMAGE, MODEL, NONE, OPEN, Pair, Sample, contrast_table, matched, pairs
from fairaudit.attribution.region_table import region_table
from fairaudit.attribution.regions import REGIONS
from fairaudit.results.columns import CONTRAST_COLUMNS, REGION_COLUMNS

R = len(REGIONS)
HAIR = REGIONS.index("hair")
BASELINES = ("blurred", "mean", "noise")


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the draws is enough for what is tested here."""
    monkeypatch.setattr(contrasts, "DRAWS", 400)


def sample(n: int = 60, seed: int = 0) -> Sample:
    """Faces of two groups and two labels, one in six predicted wrongly."""
    rng = np.random.default_rng(seed)
    group = np.array(["a", "b"] * (n // 2), dtype=object)
    label = np.array(["Male", "Female"], dtype=object)[rng.integers(0, 2, n)]
    wrong = np.arange(n) % 6 == 0
    other = np.where(label == "Male", "Female", "Male").astype(object)
    return Sample(
        task="gender",
        target="Female",
        label=label,
        predicted=np.where(wrong, other, label),
        groups={"race": pd.Categorical(group)},
    )


def shares(n: int, seed: int) -> np.ndarray:
    """Absolute and signed shares (n, 2, R) without any difference between groups."""
    rng = np.random.default_rng(seed)
    absolute = rng.dirichlet(np.full(R, 20.0), n)
    return np.stack([absolute, absolute * rng.uniform(-1, 1, (n, R))], axis=1)


def shifted(values: np.ndarray, inside: np.ndarray, by: float) -> np.ndarray:
    """Move `by` of the absolute attribution of some faces from the background to the hair."""
    out = values.copy()
    out[inside, 0, HAIR] += by
    out[inside, 0, REGIONS.index("background")] -= by
    return out


def verdicts(table: pd.DataFrame, kind: str = "absolute") -> dict[str, str]:
    """Return each region's verdict on group a against everyone else."""
    rows = table[(table["subgroup"] == "a") & (table["other"] == contrasts.EVERYONE) & (table["kind"] == kind)]
    assert rows.groupby("region")["verdict"].nunique().eq(1).all()
    return dict(zip(rows["region"], rows["verdict"], strict=True))


def test_matching_compares_like_with_like() -> None:
    """The matched difference is the weighted mean of differences within strata; one-sided strata are left out."""
    pair = Pair(
        by="race",
        subgroup="a",
        other="everyone else",
        comparison="subgroups",
        inside=np.array([1, 1, 0, 0, 0, 1, 0], dtype=bool),
        outside=np.array([0, 0, 1, 1, 1, 0, 0], dtype=bool),
        stratum=np.array([0, 0, 0, 1, 1, 1, 0]),
    )
    x = np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 100.0])
    first, second = (1 + 3) / 2 - 5, 11 - (7 + 9) / 2
    weights = np.array([2 * 1 / 3, 1 * 2 / 3])
    assert matched(pair) @ x == pytest.approx(np.average([first, second], weights=weights))
    alone = Pair(**{**vars(pair), "stratum": np.arange(7)})
    assert not matched(alone).any()


def test_labels_that_confound_do_not_make_a_difference() -> None:
    """Attribution that follows the label alone, labels unevenly spread over groups: matching removes the difference."""
    faces = sample(80)
    label = np.where(np.arange(80) % 2 == 0, np.where(np.arange(80) % 8 == 0, "Male", "Female"), "Male").astype(object)
    faces = Sample(task="gender", target="Female", label=label, predicted=label, groups=faces.groups)
    values = shifted(shares(80, 1), label == "Female", 0.2)
    (pair,) = [p for p in pairs(faces) if p.subgroup == "a" and p.comparison == contrasts.SUBGROUPS]
    raw = values[pair.inside, 0, HAIR].mean() - values[pair.outside, 0, HAIR].mean()
    assert raw > 0.1
    assert abs(matched(pair) @ values[:, 0, HAIR]) < 0.02


def test_a_difference_of_the_model_is_found() -> None:
    """Hair gets more in one group for every baseline and not in the randomized model: the model's doing, and no other
    region is named."""
    faces = sample()
    inside = np.asarray(faces.groups["race"]) == "a"
    trained = {name: shifted(shares(60, i), inside, 0.08) for i, name in enumerate(BASELINES)}
    random = {name: shares(60, 10 + i) for i, name in enumerate(BASELINES)}
    table = contrast_table(faces, trained, random, method="integrated-gradients", seed=0)
    assert tuple(table.columns) == CONTRAST_COLUMNS
    found = verdicts(table)
    assert found["hair"] == found["background"] == MODEL
    assert {found[name] for name in REGIONS if name not in ("hair", "background")} == {NONE}
    assert set(verdicts(table, "signed").values()) == {NONE}
    row = table[(table["subgroup"] == "a") & (table["region"] == "hair") & (table["kind"] == "absolute")].iloc[0]
    assert row["low"] < 0.08 < row["high"]
    assert row["net"] == pytest.approx(row["difference"] - row["randomized"])
    assert row["p_value"] <= row["p_adjusted"]


def test_what_the_randomized_model_shows_too_is_image_content() -> None:
    """The same difference in a model that has learned nothing: image content, not model."""
    faces = sample()
    inside = np.asarray(faces.groups["race"]) == "a"
    trained = {name: shifted(shares(60, i), inside, 0.08) for i, name in enumerate(BASELINES)}
    random = {name: shifted(shares(60, 10 + i), inside, 0.08) for i, name in enumerate(BASELINES)}
    assert verdicts(contrast_table(faces, trained, random, method="m", seed=0))["hair"] == IMAGE


@pytest.mark.parametrize("odd", [0.0, -0.08])
def test_what_depends_on_the_baseline_is_image_content(odd: float) -> None:
    """One baseline shows no difference, or the opposite one: image content; against black alone it changes nothing."""
    faces = sample()
    inside = np.asarray(faces.groups["race"]) == "a"
    by = dict(zip(BASELINES, (0.08, 0.08, odd), strict=True))
    trained = {name: shifted(shares(60, i), inside, by[name]) for i, name in enumerate(BASELINES)}
    random = {name: shares(60, 10 + i) for i, name in enumerate(BASELINES)}
    assert verdicts(contrast_table(faces, trained, random, method="m", seed=0))["hair"] == IMAGE
    trained["noise"] = shifted(shares(60, 2), inside, 0.08)
    trained["black"], random["black"] = shifted(shares(60, 5), inside, odd), shares(60, 15)
    assert verdicts(contrast_table(faces, trained, random, method="m", seed=0))["hair"] == MODEL


def test_without_a_difference_little_is_named() -> None:
    """Twenty tables without any difference: regions are named in at most three of them (5 % and what chance adds)."""
    faces = sample(40)
    named = 0
    for seed in range(20):
        # one baseline: that three have to agree only makes naming rarer
        trained, random = {"": shares(40, 100 + seed)}, {"": shares(40, 500 + seed)}
        table = contrast_table(faces, trained, random, method="m", seed=seed)
        rows = table[(table["comparison"] == contrasts.SUBGROUPS) & (table["kind"] == "absolute")]
        named += bool((rows["verdict"] == MODEL).any())
    assert named <= 3


def test_wrong_and_right_predictions_are_compared_within_a_subgroup() -> None:
    """Faces predicted wrongly look elsewhere: found within the subgroup, matched on the label."""
    faces = sample(120)
    wrong = faces.label != faces.predicted
    trained = {name: shifted(shares(120, i), wrong, 0.1) for i, name in enumerate(BASELINES)}
    random = {name: shares(120, 10 + i) for i, name in enumerate(BASELINES)}
    table = contrast_table(faces, trained, random, method="m", seed=0)
    rows = table[
        (table["comparison"] == contrasts.ERRORS) & (table["region"] == "hair") & (table["kind"] == "absolute")
    ]
    assert dict(zip(rows["subgroup"], rows["verdict"], strict=True)) == {"a": MODEL, "b": OPEN}  # b has no errors
    assert (rows.loc[rows["subgroup"] == "b", "reason"] != "").all()


def test_what_cannot_be_compared_says_why() -> None:
    """The axis is the label itself, or too few faces match: no number, a reason."""
    faces = sample()
    own = Sample(
        task="race",
        target="a",
        label=np.asarray(faces.groups["race"], dtype=object),
        predicted=np.asarray(faces.groups["race"], dtype=object),
        groups=faces.groups,
    )
    table = contrast_table(own, {"": shares(60, 0)}, {"": shares(60, 1)}, method="m", seed=0)
    assert table["difference"].isna().all() and (table["verdict"] == OPEN).all()
    assert table["reason"].str.contains("nothing to match").all()
    few = shares(60, 0)
    few[8:] = np.nan
    table = contrast_table(faces, {"": few}, {"": few}, method="m", seed=0)
    groups = table[table["comparison"] == contrasts.SUBGROUPS]
    assert groups["difference"].isna().all()
    assert groups["reason"].str.contains("fewer than 5").all()


def test_the_region_table_has_means_with_intervals_and_reasons() -> None:
    """Means over faces of each subgroup; absolute shares sum to 1; a small subgroup has no interval."""
    values = shares(30, 3)
    groups = pd.Categorical(["a"] * 26 + ["b"] * 4, categories=["a", "b", "c"])
    areas = dict.fromkeys(REGIONS, 1 / R)
    table = region_table({"gender": values}, {"race": groups}, areas, method="m", baseline="blurred", seed=0)
    assert tuple(table.columns) == REGION_COLUMNS
    absolute = table[table["kind"] == "absolute"]
    for name, rows in (("a", values[:26]), ("b", values[26:])):
        own = absolute[absolute["subgroup"] == name]
        np.testing.assert_allclose(own["share"], rows[:, 0].mean(axis=0))
        assert own["share"].sum() == pytest.approx(1)
    own = absolute[absolute["subgroup"] == "a"]
    assert ((own["low"] < own["share"]) & (own["share"] < own["high"])).all()
    spread = values[:26, 0, HAIR].std(ddof=1) / np.sqrt(26)
    width = own.loc[own["region"] == "hair", "high"].item() - own.loc[own["region"] == "hair", "low"].item()
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert absolute.loc[absolute["subgroup"] == "b", "low"].isna().all()
    assert (absolute.loc[absolute["subgroup"] == "b", "reason"] != "").all()
    assert absolute.loc[absolute["subgroup"] == "c", "share"].isna().all()


def test_the_commonest_class_is_explained() -> None:
    """The target of a head: the class with the most labels, of equals the first."""
    assert contrasts.common_target(["x", "y", "y", None], ("x", "y")) == "y"
    assert contrasts.common_target(["x", "y"], ("y", "x")) == "y"
