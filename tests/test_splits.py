"""Splits: stratified, seeded, nobody torn apart, nothing lost; balanced training subsets; composition."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.data.readers import load_faces
from fairaudit.data.splits import SPLITS, split_faces
from fairaudit.data.summary import composition
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.spec import BalanceSpec, DataSpec, SplitSpec


def table(n: int = 1000, seed: int = 0, **columns: object) -> FaceTable:
    """Faces with gender and race, White three times as frequent as Black, each file with bytes of its own."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "image": [f"{i:05d}.jpg" for i in range(n)],
            "gender": pd.Categorical(rng.choice(["Male", "Female"], n), categories=["Male", "Female"]),
            "race": pd.Categorical(rng.choice(["White", "Black"], n, p=[0.75, 0.25]), categories=["White", "Black"]),
            "sha256": [f"{i:x}" for i in range(n)],
        }
    ).assign(**columns)
    return FaceTable(
        frame=frame, root=Path(), tasks={"gender": ("Male", "Female"), "race": ("White", "Black")}, attributes=()
    )


def counts(faces: FaceTable, *by: str) -> pd.DataFrame:
    """Faces of each cell and split."""
    return faces.frame.groupby([*by, "split"], observed=True).size().unstack(fill_value=0)[list(SPLITS)]


def test_shares_hold_in_every_cell() -> None:
    """Within each gender × race the splits have their shares, to a face."""
    found = counts(split_faces(table(), SplitSpec(train=0.7, val=0.1)), "gender", "race")
    expected = found.sum(axis=1).to_numpy()[:, None] * np.array([0.7, 0.1, 0.2])
    assert np.abs(found.to_numpy() - expected).max() <= 1


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    """Same seed, same split and hash, also after shuffling the table; another seed, another split."""
    faces = table()
    first = split_faces(faces, seed=3)
    shuffled = faces.frame.sample(frac=1, random_state=1).reset_index(drop=True)
    again = split_faces(FaceTable(frame=shuffled, root=Path(), tasks=faces.tasks, attributes=()), seed=3)
    assert first.meta["split_hash"] == again.meta["split_hash"]
    assert first.meta["split_hash"] != split_faces(faces, seed=4).meta["split_hash"]
    assert first.frame["image"].tolist() == faces.frame["image"].tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
def test_persons_and_identical_files_are_never_torn_apart(seed: int, pictures: int, copies: int) -> None:
    """Whoever shares a subject or a file's bytes, also through a third face, is in one split."""
    rng = np.random.default_rng(seed)
    n = 200
    subjects = [f"p{s}" if s >= 0 else None for s in rng.integers(-20, max(20, n // pictures), n)]
    hashes = [f"h{h}" for h in rng.integers(0, n * 4 // copies, n)]
    faces = split_faces(table(n, seed, subject_id=subjects, sha256=hashes), seed=seed)
    assert len(faces) == n
    for column in ("subject_id", "sha256"):
        assert (faces.frame.groupby(column)["split"].nunique() == 1).all()


def test_persons_of_many_pictures_reach_the_test_set() -> None:
    """The choice does not favour training for large units: persons of six pictures are in test as often as others."""
    persons = [f"p{i // 6}" if i < 600 else f"q{i}" for i in range(1200)]
    shares = []
    for seed in range(20):
        faces = split_faces(table(1200, 0, subject_id=persons), SplitSpec(stratify=()), seed=seed)
        large = faces.frame[faces.frame["subject_id"].str.startswith("p")]
        shares.append((large["split"] == "test").mean())
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


def test_small_cells_fall_back_and_are_counted() -> None:
    """A cell with fewer faces than a split needs is drawn with the coarser cell, and a finding says how many."""
    rare = pd.Categorical(["Elm"] * 4 + ["Oak"] * 996)
    faces = table(1000, 0, tree=rare)
    faces = FaceTable(frame=faces.frame, root=Path(), tasks=faces.tasks, attributes=("tree",))
    found = split_faces(faces, SplitSpec(stratify=("gender", "race", "tree")))
    rows = found.findings[found.findings["kind"] == "coarse_stratum"]
    total = sum(int(detail.split(" ")[0]) for detail in rows["detail"])
    assert total == 4 and rows["detail"].str.contains("too small").all()


def test_masked_labels_are_a_stratum_of_their_own() -> None:
    """Faces without a race label are shared out like any other cell."""
    faces = table()
    race = faces.frame["race"].astype(object).where(np.arange(1000) % 2 == 0, None)
    masked = table(race=pd.Categorical(race, categories=["White", "Black"]))
    found = split_faces(masked).frame
    missing = found[found["race"].isna()]
    assert len(missing) == 500
    assert abs((missing["split"] == "test").sum() - 50) <= 2


def contradicting(n: int = 300) -> FaceTable:
    """Every tenth face has the bytes of the one before it and another gender; every tenth plus five the same gender."""
    faces = table(n).frame
    gender = faces["gender"].astype(object).to_numpy().copy()
    digest = faces["sha256"].to_numpy(dtype=object).copy()
    for i in range(10, n, 10):
        digest[i] = digest[i - 1]
        gender[i] = "Male" if gender[i - 1] == "Female" else "Female"
        digest[i - 5], gender[i - 5] = digest[i - 6], gender[i - 6]
    race = np.full(n, "White")
    return table(
        n,
        sha256=digest,
        gender=pd.Categorical(gender, categories=["Male", "Female"]),
        race=pd.Categorical(race, categories=["White", "Black"]),
    )


@pytest.mark.parametrize(
    ("rule", "faces", "untrained"), [("test-only", 300, 58), ("keep", 300, 0), ("drop", 242, 0), ("first", 271, 0)]
)
def test_rules_for_contradicting_labels(rule: str, faces: int, untrained: int) -> None:
    """29 pairs disagree: out of training, kept, both dropped, or the first kept; agreeing pairs stay as they are."""
    found = split_faces(contradicting(), duplicates=rule)  # type: ignore[arg-type]
    assert len(found) == faces and int((~found.frame["trainable"]).sum()) == untrained
    assert (found.frame.groupby("sha256")["split"].nunique() == 1).all()
    listed = found.findings[found.findings["kind"] == "contradictory_label"]
    assert (listed["action"] == "excluded").sum() == 300 - faces
    assert (listed["action"] == "kept").sum() == untrained
    assert set(listed.loc[listed["action"] == "kept", "image"]) == set(found.frame["image"][~found.frame["trainable"]])


def test_contradicting_faces_are_counted_in_test() -> None:
    """Out of training does not mean out of sight: they are in the test split as often as any face."""
    tested = [(~split_faces(contradicting(), seed=seed).part("test").frame["trainable"]).sum() for seed in range(10)]
    assert np.mean(tested) == pytest.approx(5.8, abs=2.5)


def test_balanced_subset_touches_training_only() -> None:
    """At most N training faces a class are trained on; validation and test stay whole; the finding counts them."""
    plain, found = split_faces(table()), split_faces(table(), balance=BalanceSpec(task="race", per_class=150))
    assert found.meta["split_hash"] == plain.meta["split_hash"]
    used = found.frame[found.frame["split"].eq("train") & found.frame["trainable"]]
    assert used["race"].value_counts().to_dict() == {"White": 150, "Black": 150}
    assert found.frame[found.frame["split"] != "train"]["trainable"].all()
    assert "White: 150 of" in found.findings.set_index("kind").loc["balanced", "detail"]
    with pytest.raises(UsageError, match="did you mean 'race'"):
        split_faces(table(), balance=BalanceSpec(task="rase", per_class=5))


def official(leak: bool = False, **extra: object) -> FaceTable:
    parts = np.where(np.arange(1000) < 800, "train", "val").astype(object)
    faces = table(official_split=parts, **extra)
    if leak:
        faces.frame.loc[0, "sha256"] = faces.frame.loc[999, "sha256"]
    return faces


def test_official_split_stays_as_it_is() -> None:
    """The data set's validation faces are the test faces; the rest is split 8 to 1."""
    found = split_faces(official(), SplitSpec(official=True))
    assert found.part("test").frame["image"].tolist() == [f"{i:05d}.jpg" for i in range(800, 1000)]
    assert abs(len(found.part("val")) - 800 / 9) <= 3


def test_official_leaks_are_left_out_of_training() -> None:
    """A training file that is byte-identical to an official test file is left out and listed; test stays whole."""
    found = split_faces(official(leak=True), SplitSpec(official=True), duplicates="keep")
    assert len(found) == 999 and len(found.part("test")) == 200
    assert found.findings[found.findings["kind"] == "official_leak"]["image"].tolist() == ["00000.jpg"]
    assert (found.frame.groupby("sha256")["split"].nunique() == 1).all()


def test_official_with_own_test_and_with_other_sets() -> None:
    """Where the data name test faces themselves, val stays val; faces of no official part are split as usual."""
    parts = np.array(["train", "val", "test", None, None], dtype=object).repeat(200)
    found = split_faces(table(official_split=parts), SplitSpec(official=True)).frame.set_index("image")["split"]
    images = [f"{i:05d}.jpg" for i in range(1000)]
    assert (found[images[:200]] == "train").all() and (found[images[200:400]] == "val").all()
    assert (found[images[400:600]] == "test").all()
    assert found[images[600:]].value_counts().to_dict() == pytest.approx({"train": 320, "val": 40, "test": 40}, abs=5)


def test_official_needs_an_official_split() -> None:
    """Data without one are refused in plain words."""
    with pytest.raises(UsageError, match="no official split"):
        split_faces(table(), SplitSpec(official=True))


def test_bad_requests() -> None:
    """An unknown attribute, and a handful of faces, are refused."""
    with pytest.raises(UsageError, match="did you mean 'race'"):
        split_faces(table(), SplitSpec(stratify=("rase",)))
    with pytest.raises(DataError, match="too few"):
        split_faces(table(2))
    with pytest.raises(DataError, match="1,000 faces of 1 person or set of identical files are too few"):
        split_faces(table(subject_id="one"))


def test_composition_counts_splits_and_unknown() -> None:
    """Every face stands in one cell and one split; sums agree with the table's, cells are in the classes' order."""
    faces = split_faces(
        table(race=pd.Categorical(["White", "Black", None, "White"] * 250, categories=["White", "Black"]))
    )
    found = composition(faces)
    assert found[["race", "gender"]].values.tolist() == [
        [race, gender] for race in ("White", "Black", "unknown") for gender in ("Male", "Female")
    ]
    assert (found[list(SPLITS)].sum(axis=1) == found["n"]).all() and found["n"].sum() == 1000
    assert found.loc[found["race"] == "unknown", "n"].sum() == 250
    one = composition(faces, ["gender"])
    assert dict(zip(one["gender"], one["n"], strict=True)) == faces.frame["gender"].value_counts().to_dict()
    with pytest.raises(UsageError, match="no attribute 'age'"):
        composition(faces, ["age"])


def test_composition_of_a_plain_frame() -> None:
    """A predictions frame with attribute columns can be counted, too."""
    frame = pd.DataFrame({"image": ["a", "b"], "race": ["White", None]})
    found = composition(frame, excluded=[{"race": "Black", "n": 3}])
    assert found.values.tolist() == [["Black", 0, 3], ["White", 1, 0], ["unknown", 1, 0]]


def test_real_faces_split(shared: Path) -> None:
    """A draw of real UTKFace is split by gender × race × age with its shares held over each race."""
    faces = load_faces(DataSpec(dataset="utkface", limit=1500), shared / "faces" / "utkface")
    found = split_faces(faces, seed=1)
    share = counts(found, "race").pipe(lambda table: table.div(table.sum(axis=1), axis=0))
    assert np.abs(share["test"] - 0.1).max() < 0.05
    assert (found.frame.groupby("sha256")["split"].nunique() == 1).all()
