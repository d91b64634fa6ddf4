"""Made-up faces: the same bytes for the same seed, every planted bias as defined and written down, and found again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fairaudit.data.avatars import MONK_TONES
from fairaudit.data.planted import expectations, planted_report, read_planted
from fairaudit.data.synthetic import ATTRIBUTES, GROUP_TONES, synthesize
from fairaudit.errors import DataError, UsageError
from fairaudit.resources import resource_dir
from fairaudit.results.columns import METRIC_COLUMNS
from fairaudit.spec import PlantedBias, SyntheticSpec, load_spec

UNDER = PlantedBias(kind="under_representation", where={"group": "Aspen", "gender": "Female"}, strength=0.8)
NOISE = PlantedBias(kind="label_noise", where={"group": "Birch"}, strength=0.3, task="age")
LOW = PlantedBias(kind="low_quality", where={"group": "Cedar"}, strength=0.7, task="age")
CUE = PlantedBias(kind="spurious_cue", where={"group": "Dune"}, strength=0.9)
ALL = (UNDER, NOISE, LOW, CUE)
N = 900


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up faces with one bias of each kind."""
    return synthesize(SyntheticSpec(n=N, image_size=32, biases=ALL), tmp_path_factory.mktemp("made") / "faces", seed=3)


@pytest.fixture(scope="module")
def truth(faces: Path) -> pd.DataFrame:
    """truth.csv of `faces`, a row a face."""
    return pd.read_csv(faces / "truth.csv")


def pixels(folder: Path, names: pd.Series) -> np.ndarray:
    """The pictures as floats (n, size, size, 3)."""
    return np.stack([np.asarray(Image.open(folder / name), dtype=float) for name in names])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two runs agree in every byte; another seed draws other faces."""
    spec = SyntheticSpec(n=40, image_size=32, biases=ALL)
    first, second, other = (
        synthesize(spec, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert contents(first) == contents(second)
    assert contents(first) != contents(other)


def test_the_manifest_holds_labels_and_nothing_of_the_truth(faces: Path) -> None:
    """Only what an audit may see: the image and three attributes with values of their schemes, every image there."""
    manifest = pd.read_csv(faces / "manifest.csv")
    assert list(manifest.columns) == ["image", "gender", "age", "group"]
    assert len(manifest) == N == manifest["image"].nunique() == len(list((faces / "images").iterdir()))
    for attribute, values in ATTRIBUTES.items():
        assert set(manifest[attribute]) <= set(values)
    assert pixels(faces, manifest["image"][:3]).shape == (3, 32, 32, 3)


def test_cells_are_equal_where_nothing_is_planted(tmp_path: Path) -> None:
    """Without a bias every gender × age × group cell has the same number of faces, give or take one."""
    folder = synthesize(SyntheticSpec(n=200, image_size=32), tmp_path / "faces")
    counts = pd.read_csv(folder / "manifest.csv").groupby(list(ATTRIBUTES)).size()
    assert len(counts) == 2 * 9 * 5
    assert counts.max() - counts.min() <= 1
    assert read_planted(folder)["expected"] == []


def test_under_representation_leaves_out_the_share_it_names(truth: pd.DataFrame) -> None:
    """At strength .8 the named subgroup has a fifth of the faces that an equal subgroup has."""
    sizes = truth.groupby(["group", "gender"]).size()
    assert sizes["Aspen", "Female"] == pytest.approx(0.2 * sizes["Elm", "Female"], abs=5)


def test_label_noise_replaces_exactly_the_labels_it_names(faces: Path, truth: pd.DataFrame) -> None:
    """The labels that differ from the truth are those written down, 30 % of Birch's ages, and no other."""
    manifest = pd.read_csv(faces / "manifest.csv")
    changed = (manifest["age"] != truth["age"]).to_numpy()
    np.testing.assert_array_equal(changed, truth["bias_2_label_noise"])
    assert changed.sum() == round(0.3 * (truth["group"] == "Birch").sum())
    assert (truth.loc[changed, "group"] == "Birch").all()
    assert (manifest[["gender", "group"]] == truth[["gender", "group"]]).all(axis=None)


def test_low_quality_blurs_the_named_subgroup_and_leaves_the_others_untouched(tmp_path: Path) -> None:
    """Against the same seed without the bias: contrast falls in Cedar, every other picture is the same to the byte."""
    plain = synthesize(SyntheticSpec(n=60, image_size=32), tmp_path / "plain")
    blurred = synthesize(SyntheticSpec(n=60, image_size=32, biases=(LOW,)), tmp_path / "blurred")
    table = pd.read_csv(blurred / "truth.csv")
    cedar = (table["group"] == "Cedar").to_numpy()
    before, after = pixels(plain, table["image"]), pixels(blurred, table["image"])
    np.testing.assert_array_equal(before[~cedar], after[~cedar])
    assert (after[cedar].std(axis=(1, 2, 3)) < 0.8 * before[cedar].std(axis=(1, 2, 3))).all()


def test_the_cue_goes_with_one_class_and_the_other_way_in_the_named_subgroup(faces: Path, truth: pd.DataFrame) -> None:
    """The mark is in the picture where truth.csv says so: with Female at 95 % of the others, with Male in Dune."""
    marked = truth["bias_4_spurious_cue"].to_numpy()
    female, dune = (truth["gender"] == "Female").to_numpy(), (truth["group"] == "Dune").to_numpy()
    assert (marked == female)[~dune].mean() == pytest.approx(0.95, abs=0.03)
    assert (marked == female)[dune].mean() == pytest.approx(0.05, abs=0.06)
    sharp = (truth["group"] != "Cedar").to_numpy()
    corner = pixels(faces, truth["image"])[:, 27:30, 27:30].mean(axis=(1, 2))
    redness = corner[:, 0] - corner[:, 1:].mean(axis=1)
    assert redness[marked & sharp].min() > np.quantile(redness[~marked & sharp], 0.9)


def test_tones_are_the_monk_scale_and_do_not_give_the_group_away(truth: pd.DataFrame) -> None:
    """Ten published tones; every group spans six of them; the best guess from the tone alone is mostly wrong."""
    assert len(MONK_TONES) == 10
    assert MONK_TONES[0] == "#f6ede4"
    assert MONK_TONES[-1] == "#292420"
    for group, first in GROUP_TONES.items():
        assert set(truth.loc[truth["group"] == group, "tone"]) <= set(range(first, first + 6)) <= set(range(1, 11))
    table = pd.crosstab(truth["tone"], truth["group"])
    assert table.max(axis=1).sum() / len(truth) < 0.5


def test_planted_json_counts_what_was_done(faces: Path, truth: pd.DataFrame) -> None:
    """The record agrees with truth.csv: cells, faces of each bias, faces touched, and one certain finding a bias."""
    planted = read_planted(faces)
    assert planted["seed"] == 3
    assert sum(cell["n"] for cell in planted["counts"]) == planted["n"] == N
    for bias in planted["biases"]:
        members = np.logical_and.reduce([truth[name] == value for name, value in bias["where"].items()])
        assert bias["faces"] == members.sum()
        assert bias["touched"] == truth[bias["column"]].sum()
    assert [entry["bias"] for entry in planted["expected"] if entry["certain"]] == [1, 2, 3, 4]
    assert planted["labels_changed"] == {"gender": 0, "age": int(truth["bias_2_label_noise"].sum()), "group": 0}


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ({"kind": "low_quality", "where": {"group": "Aspn"}}, "did you mean 'Aspen'"),
        ({"kind": "low_quality", "where": {"grup": "Aspen"}}, "did you mean 'group'"),
        ({"kind": "label_noise", "where": {"group": "Elm"}, "task": "race"}, "unknown task"),
        ({"kind": "low_quality", "where": {}}, "empty `where`"),
        ({"kind": "low_quality", "where": {"gender": "Male"}}, "no other subgroup"),
    ],
)
def test_a_bias_for_nobody_is_refused(bias: dict[str, object], message: str, tmp_path: Path) -> None:
    """A name that made-up faces do not have gets a suggestion, and nothing is written."""
    spec = SyntheticSpec.model_validate({"n": 20, "biases": [{"strength": 0.5, **bias}]})
    with pytest.raises(UsageError, match=message):
        synthesize(spec, tmp_path / "faces")
    assert not (tmp_path / "faces").exists()


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """Only a new or empty folder, or an earlier set of made-up faces, is written to."""
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="already holds something"):
        synthesize(SyntheticSpec(n=20, image_size=32), tmp_path)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


def metric_table(rows: list[tuple[str, str, str, str, str, int, int, int]]) -> pd.DataFrame:
    """A metrics table from (task, by, subgroup, metric, class, hits, denominator, n)."""
    records = [
        (task, by, subgroup, metric, label, hits / m, np.nan, np.nan, n, m, False, "")
        for task, by, subgroup, metric, label, hits, m, n in rows
    ]
    return pd.DataFrame(records, columns=list(METRIC_COLUMNS[:12]))


def planted(*biases: PlantedBias) -> dict[str, object]:
    """What planted.json expects of these biases."""
    return {"expected": expectations(biases)}


def test_a_lower_accuracy_is_found_with_newcombes_interval() -> None:
    """The named subgroup against the pooled rest; the interval is statsmodels' Newcombe interval."""
    rows = [
        ("age", "group", "Birch", "accuracy", "", 40, 100, 100),
        ("age", "group", "Elm", "accuracy", "", 61, 110, 110),
    ]
    rows += [
        ("age", "group", "Cedar", "accuracy", "", 50, 90, 90),
        ("age", "group", "unknown", "accuracy", "", 0, 9, 9),
    ]
    (entry,) = planted_report(planted(NOISE), metric_table(rows))
    low, high = confint_proportions_2indep(40, 100, 111, 200, compare="diff", method="newcomb")
    assert (entry["low"], entry["high"]) == pytest.approx((low, high), abs=1e-12)
    assert entry["found"] is True
    assert "Label noise, planted in Birch: found. The accuracy of age is 40.0 % in Birch" in entry["verdict"]


def test_an_equal_accuracy_is_not_found() -> None:
    """Where the interval reaches zero the verdict says so."""
    rows = [("age", "group", g, "accuracy", "", k, 100, 100) for g, k in (("Cedar", 58), ("Elm", 60))]
    (entry,) = planted_report(planted(LOW), metric_table(rows))
    assert entry["found"] is False
    assert "not found" in entry["verdict"]


def test_a_missing_axis_is_not_judged() -> None:
    """No axis, no verdict: None and the reason, never False."""
    (entry,) = planted_report(planted(CUE), metric_table([("gender", "age", "0-2", "accuracy", "", 5, 9, 9)]))
    assert entry["found"] is None
    assert "no accuracy of gender for Dune on the axis group" in entry["verdict"]


def test_under_representation_is_found_from_the_composition_whatever_the_axis_order() -> None:
    """The share is judged against an equal one by Wilson's interval; the recall of the class may escape it."""
    sizes = {"Male × Aspen": 100, "Female × Aspen": 12, "Male × Elm": 100, "Female × Elm": 100}
    rows = [("gender", "gender:group", name, "recall", name.split()[0], n - 5, n, n) for name, n in sizes.items()]
    rows += [
        ("gender", "group", "Aspen", "recall", "Female", 11, 12, 112),
        ("gender", "group", "Elm", "recall", "Female", 95, 100, 200),
    ]
    share, recall = planted_report(planted(UNDER), metric_table(rows))
    low, high = proportion_confint(12, 312, method="wilson")
    assert (share["low"], share["high"]) == pytest.approx((low - 0.25, high - 0.25), abs=1e-12)
    assert share["found"] is True
    assert recall["found"] is False
    assert not recall["certain"]
    assert "which this bias allows" in recall["verdict"]


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    """A missing or damaged planted.json is unusable data."""
    with pytest.raises(DataError, match=r"no planted\.json"):
        read_planted(tmp_path)
    (tmp_path / "planted.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        read_planted(tmp_path)


def test_the_demo_plants_one_bias_of_each_kind_in_a_group_of_its_own() -> None:
    """The demo's spec is valid, leaves one group alone, and audits every axis on which a bias is expected to show."""
    spec = load_spec(resource_dir("audits") / "demo.toml")
    assert spec.data.synthetic is not None
    biases = spec.data.synthetic.biases
    assert len({bias.kind for bias in biases}) == len({bias.where["group"] for bias in biases}) == 4
    assert {entry["by"] for entry in expectations(biases)} <= set(spec.audit.subgroups or ())
