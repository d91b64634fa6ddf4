"""Every way in: UTKFace, FairFace, manifests, class folders, made-up faces, and sets that are merged."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairaudit.data.named import utkface_labels
from fairaudit.data.readers import READERS, load_faces
from fairaudit.data.summary import composition, findings_summary
from fairaudit.data.tables import FaceTable
from fairaudit.data.taxonomy import AGE_BINS, RACE5, RACE7
from fairaudit.errors import DataError, UsageError
from fairaudit.spec import ColumnsSpec, DataSpec, SourceSpec

Draw = Callable[..., None]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Write small images, each different, at the given paths below the test's folder."""

    def write(names: Sequence[str], *, like: int | None = None) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = like if like is not None else sum(map(ord, name)) * 1000 + len(name)
            pixels = np.random.default_rng([seed, *(map(ord, name) if like is None else ())]).integers(
                0, 256, (8, 8, 3)
            )
            Image.fromarray(pixels.astype(np.uint8)).save(path, format="JPEG")

    return write


def kinds(faces: FaceTable) -> dict[str, int]:
    return faces.findings["kind"].value_counts().to_dict()


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")


# UTKFace


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("61_1_2_20170109.jpg", (61, "Female", "Asian")),
        ("0_0_4_20170109150557335.jpg.chip.jpg", (0, "Male", "Others")),
        ("116_0_3_1.JPG", (116, "Male", "Indian")),
    ],
)
def test_utkface_names(name: str, labels: tuple[int, str, str]) -> None:
    """Both name forms are read."""
    assert utkface_labels(name) == labels


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("61_1_20170109142408075.jpg.chip.jpg", "race"),
        ("61_3_20170109150557335.jpg.chip.jpg", "the gender is missing"),
        ("55_0_0_20170116232725357jpg.chip.jpg", "dot"),
        ("55_0_0_20170116232725357jpg", "does not end"),
        ("53__0_20170116184028385.jpg", "the gender is empty"),
        ("24_0_1_.jpg", "the date is empty"),
        ("300_0_1_2017.jpg", "age is 300"),
        ("30_2_1_2017.jpg", "gender is 2"),
        ("30_1_7_2017.jpg", "race is 7"),
        ("x_1_1_2017.jpg", "no number"),
        ("-3_1_1_2017.jpg", "no number"),
        ("³_1_1_2017.jpg", "no number"),
        ("1_1_1_1_1.jpg", "5 fields"),
        ("face.jpg", "1 fields"),
    ],
)
def test_malformed_utkface_names_say_what_is_wrong(name: str, words: str) -> None:
    """A name that lacks a field, a dot or a possible value is described, not guessed."""
    problem = utkface_labels(name)
    assert isinstance(problem, str) and words in problem


def test_utkface_folder(tmp_path: Path, draw: Draw) -> None:
    """Labels, years and bins come from the names; malformed ones are listed, counted and left out."""
    draw(["69_1_2_1.jpg", "sub/70_0_4_2.jpg.chip.jpg", "61_1_3.jpg"])
    (tmp_path / "readme.txt").write_text("x")
    faces = load_faces(DataSpec(dataset="utkface"), tmp_path)
    assert faces.frame["image"].tolist() == ["69_1_2_1.jpg", "sub/70_0_4_2.jpg.chip.jpg"]
    assert faces.frame["age_years"].tolist() == [69.0, 70.0]
    assert faces.frame[["gender", "race", "age"]].astype(str).values.tolist() == [
        ["Female", "Asian", "60-69"],
        ["Male", "Others", "70+"],
    ]
    assert faces.tasks == {"gender": ("Male", "Female"), "race": RACE5, "age": AGE_BINS}
    assert faces.ordered == {"age"} and faces.attributes == ()
    assert kinds(faces) == {"malformed_name": 1, "ignored_file": 1}
    assert "DEX" in faces.label_source
    assert faces.meta["excluded"] == [{"gender": "unknown", "race": "unknown", "age": "unknown", "n": 1}]


def test_tasks_choose_heads_and_the_rest_stay_attributes(tmp_path: Path, draw: Draw) -> None:
    """Labels that are no task remain for subgroups; an unknown task is refused with the nearest name."""
    draw(["69_1_2_1.jpg", "20_0_4_2.jpg"])
    faces = load_faces(DataSpec(dataset="utkface"), tmp_path, tasks=["gender"])
    assert list(faces.tasks) == ["gender"] and faces.attributes == ("race", "age")
    faces.require(["race:gender", "age"])
    with pytest.raises(UsageError, match=r"no attribute 'rase'; did you mean 'race'"):
        faces.require(["rase"])
    with pytest.raises(UsageError, match=r"did you mean 'gender'"):
        load_faces(DataSpec(dataset="utkface"), tmp_path, tasks=["gendre"])


def test_unusable_images_are_left_out_with_their_labels_counted(tmp_path: Path, draw: Draw) -> None:
    """A zero-byte face is no row, but a finding, and its labels stand among the excluded of the composition."""
    draw(["69_1_2_1.jpg", "20_0_4_2.jpg"])
    (tmp_path / "30_1_0_3.jpg").write_bytes(b"")
    faces = load_faces(DataSpec(dataset="utkface"), tmp_path)
    assert len(faces) == 2 and kinds(faces) == {"zero_byte": 1}
    table = composition(faces).set_index(["race", "gender", "age"])
    assert list(table.columns) == ["n", "excluded"]
    assert table.loc[("White", "Female", "30-39")].tolist() == [0, 1]
    assert table.loc[("Asian", "Female", "60-69")].tolist() == [1, 0]
    assert table[["n", "excluded"]].sum().tolist() == [2, 1]


def test_duplicates_are_listed_with_what_they_disagree_in(tmp_path: Path, draw: Draw) -> None:
    """Identical bytes under different names are one set; contradicting labels are named."""
    draw(["20_1_2_1.jpg", "30_1_2_2.jpg"], like=1)
    draw(["40_0_0_3.jpg", "40_0_0_4.jpg"], like=2)
    faces = load_faces(DataSpec(dataset="utkface"), tmp_path)
    assert kinds(faces) == {"duplicate": 2, "contradictory_label": 1}
    row = faces.findings.set_index("kind").loc["contradictory_label"]
    assert row["image"] == "20_1_2_1.jpg" and row["detail"].startswith("age: 20-29 / 30-39; age_years: 20 / 30")


def test_limit_draws_before_files_are_opened(tmp_path: Path, draw: Draw) -> None:
    """The same seed draws the same faces, another seed others; the draw is listed."""
    draw([f"{age}_1_2_1.jpg" for age in range(20, 60)])
    (tmp_path / "99_1_2_1.jpg").write_bytes(b"")
    data = DataSpec(dataset="utkface", limit=5)
    calls: list[int] = []
    one = load_faces(data, tmp_path, seed=1, progress=lambda stage, done, total, note="": calls.append(total))
    assert calls == [5] and len(one) == 5 and kinds(one) == {"limit": 1}
    assert one.frame["image"].tolist() == load_faces(data, tmp_path, seed=1).frame["image"].tolist()
    assert one.frame["image"].tolist() != load_faces(data, tmp_path, seed=2).frame["image"].tolist()


def test_data_hash_knows_bytes_and_labels(tmp_path: Path, draw: Draw) -> None:
    """The hash is the same for the same data, and another after one byte or one label has changed."""
    draw(["20_1_2_1.jpg", "30_1_2_2.jpg"])
    spec = DataSpec(dataset="utkface")
    first = load_faces(spec, tmp_path).meta["data_hash"]
    assert load_faces(spec, tmp_path).meta["data_hash"] == first
    draw(["30_1_2_2.jpg"], like=7)
    second = load_faces(spec, tmp_path).meta["data_hash"]
    (tmp_path / "30_1_2_2.jpg").rename(tmp_path / "31_1_2_2.jpg")
    assert len({first, second, load_faces(spec, tmp_path).meta["data_hash"]}) == 3


def test_values_are_mapped(tmp_path: Path, draw: Draw) -> None:
    """The spec may rename a data set's values; what its scheme then does not know is masked and listed."""
    draw(["20_1_2_1.jpg", "30_0_4_2.jpg"])
    data = DataSpec(dataset="utkface", values={"race": {"Others": "Elsewhere"}}, attributes=("gender", "race"))
    faces = load_faces(data, tmp_path)
    assert faces.frame["race"].isna().sum() == 1 and list(faces.tasks) == ["gender", "race"]
    assert kinds(faces) == {"impossible_label": 1}


# FairFace


def fairface(tmp_path: Path, draw: Draw) -> None:
    write_csv(
        tmp_path / "fairface_label_train.csv",
        [
            ["file", "age", "gender", "race", "service_test"],
            ["train/1.jpg", "03-Sep", "Male", "East Asian", "TRUE"],
            ["train/2.jpg", "Oct-19", "Female", "White", "FALSE"],
            ["train/3.jpg", "more than 70", "Female", "Indian", "FALSE"],
            ["train/4.jpg", "20-29", "Male", "Middle Eastern", "FALSE"],
        ],
    )
    write_csv(
        tmp_path / "fairface_label_val.csv",
        [["file", "age", "gender", "race", "service_test"], ["val/1.jpg", "3-9", "Male", "Latino_Hispanic", "True"]],
    )
    draw(["train/1.jpg", "train/2.jpg", "train/3.jpg", "val/1.jpg"])


def test_fairface(tmp_path: Path, draw: Draw) -> None:
    """Damaged ages are repaired, a missing file is left out, the official split is marked, service_test is none."""
    fairface(tmp_path, draw)
    faces = load_faces(DataSpec(dataset="fairface"), tmp_path)
    assert faces.frame["age"].astype(str).tolist() == ["3-9", "10-19", "70+", "3-9"]
    assert faces.frame["official_split"].tolist() == ["train", "train", "train", "val"]
    assert faces.tasks["race"] == RACE7 and faces.attributes == ()
    assert kinds(faces) == {"age_repaired": 2, "missing_file": 1}
    assert faces.findings.set_index("kind").loc["missing_file", "image"] == "train/4.jpg"
    assert faces.meta["excluded"] == [{"gender": "Male", "race": "Middle Eastern", "age": "20-29", "n": 1}]


def test_fairface_by_one_csv(tmp_path: Path, draw: Draw) -> None:
    """One label file may be named; its path says which part a face is of."""
    fairface(tmp_path, draw)
    faces = load_faces(DataSpec(dataset="fairface", manifest="fairface_label_val.csv"), tmp_path)
    assert faces.frame["official_split"].tolist() == ["val"]


def test_fairface_in_five_races(tmp_path: Path, draw: Draw) -> None:
    """A single set is mapped to the head's scheme, too."""
    fairface(tmp_path, draw)
    faces = load_faces(DataSpec(dataset="fairface", target_schemes={"race": "race5"}), tmp_path)
    assert faces.frame["race"].astype(str).tolist() == ["Asian", "White", "Indian", "Others"]
    assert faces.tasks["race"] == RACE5


def test_fairface_padding_is_noticed(tmp_path: Path, draw: Draw) -> None:
    """Pictures of the release with padding 1.25 are other data: listed."""
    fairface(tmp_path, draw)
    Image.new("RGB", (448, 448)).save(tmp_path / "train/1.jpg")
    assert kinds(load_faces(DataSpec(dataset="fairface"), tmp_path))["padding"] == 1


def test_fairface_without_tables_or_columns(tmp_path: Path) -> None:
    """The wrong folder and a renamed column are told apart, with what to do."""
    with pytest.raises(DataError, match=r"fairface_label_train\.csv"):
        load_faces(DataSpec(dataset="fairface"), tmp_path)
    write_csv(
        tmp_path / "fairface_label_val.csv", [["file", "age", "sex", "race"], ["val/1.jpg", "3-9", "Male", "White"]]
    )
    with pytest.raises(UsageError, match="no column 'gender'"):
        load_faces(DataSpec(dataset="fairface"), tmp_path)


# Manifests


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_manifest_columns_and_values_are_mapped(tmp_path: Path, draw: Draw, suffix: str) -> None:
    """Any column names: mapped by the spec; further columns become attributes; years are binned; persons are kept."""
    draw(["faces/a.jpg", "faces/b.jpg", "faces/c.jpg"])
    table = pd.DataFrame(
        {
            "Path": ["faces/a.jpg", "faces\\b.jpg", "./faces/c.jpg"],
            "Sex": ["Man", "Woman", ""],
            "Years": [2, 70, None],
            "Camera": ["x", "y", "x"],
            "Person": ["p1", "p1", "p2"],
        }
    )
    path = tmp_path / f"labels.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    data = DataSpec(
        dataset="manifest",
        manifest=path.name,
        columns=ColumnsSpec(image="Path", subject_id="Person", rename={"gender": "Sex", "age": "Years"}),
        values={"gender": {"Man": "Male", "Woman": "Female"}},
    )
    faces = load_faces(data, tmp_path)
    assert faces.frame["image"].tolist() == ["faces/a.jpg", "faces/b.jpg", "faces/c.jpg"]
    assert faces.frame["gender"].astype(object).tolist()[:2] == ["Male", "Female"] and faces.frame["gender"].isna()[2]
    assert faces.frame["age"].astype(object).tolist()[:2] == ["0-2", "70+"]
    assert faces.frame["age_years"].tolist()[:2] == [2.0, 70.0]
    assert faces.frame["subject_id"].tolist() == ["p1", "p1", "p2"]
    assert set(faces.tasks) == {"gender", "age"} and faces.attributes == ("Camera",)


def test_manifest_traps(tmp_path: Path, draw: Draw) -> None:
    """Paths that leave the root, missing files, names twice and impossible ages: each is listed, none is read."""
    root = tmp_path / "data"
    draw(["data/a.jpg", "data/b.jpg", "outside.jpg"])
    (root / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    rows = [["image", "gender", "age"], ["a.jpg", "Male", "30"], ["b.jpg", "Female", "-4"], ["a.jpg", "Female", "30"]]
    rows += [
        [name, "Male", "20"] for name in ("../outside.jpg", str(tmp_path / "outside.jpg"), "link.jpg", "c.jpg", "")
    ]
    rows += [["x" * 5000 + ".jpg", "Male", "20"], ["a.jpg", "Male", "30"]]
    write_csv(root / "manifest.csv", rows)
    faces = load_faces(DataSpec(dataset="manifest"), root)
    assert faces.frame["image"].tolist() == ["a.jpg", "b.jpg"]
    assert kinds(faces) == {"path_outside": 3, "missing_file": 3, "duplicate_name": 2, "impossible_label": 1}
    twice = faces.findings[faces.findings["kind"] == "duplicate_name"]["detail"].tolist()
    assert "differ from the first row's in gender" in twice[0] and "same labels" in twice[1]
    assert faces.frame["age"].isna().tolist() == [False, True]
    summary = findings_summary(faces.findings).set_index("kind")
    assert summary.loc["path_outside", "count"] == 3 and "link" in summary.loc["path_outside", "examples"]


def test_manifest_refuses_columns_of_many_values(tmp_path: Path, draw: Draw) -> None:
    """Over 50 values make no subgroup axis: the column is listed, not taken."""
    draw([f"{n}.jpg" for n in range(60)])
    rows = [[f"{n}.jpg", "Male" if n % 2 else "Female", f"note {n}"] for n in range(60)]
    write_csv(tmp_path / "manifest.csv", [["image", "gender", "note"], *rows])
    faces = load_faces(DataSpec(dataset="manifest"), tmp_path)
    assert faces.attributes == () and "note" not in faces.frame
    assert "60 different values" in faces.findings.set_index("kind").loc["attribute_refused", "detail"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (ColumnsSpec(image="pth"), r"no column 'pth'; did you mean 'path'"),
        (ColumnsSpec(image="path", subject_id="person"), "no column 'person'"),
        (ColumnsSpec(image="path", rename={"gender": "sexx"}), r"no column 'sexx'; did you mean 'sex'"),
        (ColumnsSpec(image="path", rename={"age": "sex"}), "two columns named 'age'"),
    ],
)
def test_manifest_names_missing_columns(tmp_path: Path, columns: ColumnsSpec, words: str) -> None:
    """A column that the spec names but the table lacks is an error with the nearest name, before any image is read."""
    write_csv(tmp_path / "manifest.csv", [["path", "sex", "age"], ["a.jpg", "Male", "3"]])
    with pytest.raises(UsageError, match=words):
        load_faces(DataSpec(dataset="manifest", columns=columns), tmp_path)


@pytest.mark.parametrize("content", [b"", b'image,a\n"x', b"image,a\n\xff\xfe\xff,b\n", b"image,a,a\nx,y,z,w,v\n"])
def test_unreadable_tables_are_data_errors(tmp_path: Path, content: bytes) -> None:
    """An empty, cut, wrongly encoded or ragged table is named, without a traceback of the reader's."""
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.csv"):
        load_faces(DataSpec(dataset="manifest"), tmp_path)


def test_manifest_must_lie_inside_and_exist(tmp_path: Path) -> None:
    """A manifest outside the data folder is refused; where there is none, the tables that are there are named."""
    with pytest.raises(UsageError, match=r"without '\.\.'"):
        load_faces(DataSpec(dataset="manifest", manifest="../m.csv"), tmp_path)
    (tmp_path / "labels.csv").write_text("x")
    with pytest.raises(DataError, match=r"labels\.csv"):
        load_faces(DataSpec(dataset="manifest"), tmp_path)


def test_manifest_own_splits_and_weights(tmp_path: Path, draw: Draw) -> None:
    """A column `split` is the data's own split; weights must be positive."""
    draw(["a.jpg", "b.jpg"])
    write_csv(
        tmp_path / "manifest.csv",
        [["image", "gender", "split", "w"], ["a.jpg", "Male", "Train", "1"], ["b.jpg", "Female", "test", "2.5"]],
    )
    data = DataSpec(dataset="manifest", columns=ColumnsSpec(weight="w"))
    faces = load_faces(data, tmp_path)
    assert faces.frame["official_split"].tolist() == ["train", "test"] and faces.frame["weight"].tolist() == [1.0, 2.5]
    assert "split" not in faces.frame and faces.attributes == ()
    write_csv(tmp_path / "manifest.csv", [["image", "gender", "w"], ["a.jpg", "Male", "0"]])
    with pytest.raises(DataError, match="not positive"):
        load_faces(data, tmp_path)


def test_gender_of_three_values_is_a_task_of_three_classes(tmp_path: Path, draw: Draw) -> None:
    """Values beyond a known scheme are classes of their own; a value mapped to `unknown` is a missing label."""
    draw(["a.jpg", "b.jpg", "c.jpg"])
    rows = [["image", "gender"], ["a.jpg", "Nonbinary"], ["b.jpg", "Male"], ["c.jpg", "Female"]]
    write_csv(tmp_path / "manifest.csv", rows)
    faces = load_faces(DataSpec(dataset="manifest"), tmp_path)
    assert faces.tasks == {"gender": ("Female", "Male", "Nonbinary")}
    masked = DataSpec(dataset="manifest", values={"gender": {"Nonbinary": "unknown"}})
    faces = load_faces(masked, tmp_path)
    assert faces.tasks == {"gender": ("Male", "Female")}
    assert faces.frame["gender"].isna().tolist() == [
        True,
        False,
        False,
    ]


def test_declared_schemes_mask_what_they_do_not_know(tmp_path: Path, draw: Draw) -> None:
    """With a declared scheme the head has all of its classes, and other labels are masked and listed."""
    draw(["a.jpg", "b.jpg"])
    write_csv(tmp_path / "manifest.csv", [["image", "race"], ["a.jpg", "White"], ["b.jpg", "Martian"]])
    faces = load_faces(DataSpec(dataset="manifest", schemes={"race": "race7"}), tmp_path)
    assert faces.tasks["race"] == RACE7 and kinds(faces) == {"impossible_label": 1}


# Class folders


def test_class_folders(tmp_path: Path, draw: Draw) -> None:
    """The folder's name is the label; a loose image has none and is left out."""
    draw(["cat/1.jpg", "dog/deep/2.jpg", "3.jpg"])
    faces = load_faces(DataSpec(dataset="folders", class_task="animal"), tmp_path)
    assert faces.tasks == {"animal": ("cat", "dog")} and faces.frame["animal"].astype(str).tolist() == ["cat", "dog"]
    assert kinds(faces) == {"no_class": 1}


def test_class_folders_know_the_public_schemes(tmp_path: Path, draw: Draw) -> None:
    """Folders named after FairFace's ages are in their order, spreadsheet words or not."""
    draw(["3-9/1.jpg", "more than 70/2.jpg", "0-2/3.jpg"])
    faces = load_faces(DataSpec(dataset="folders"), tmp_path)
    assert faces.tasks == {"label": AGE_BINS} and faces.ordered == {"label"}
    assert faces.frame["label"].astype(str).tolist() == ["0-2", "3-9", "70+"]


# Made-up faces


def test_synthetic_brings_what_was_planted(tmp_path: Path, draw: Draw) -> None:
    """The truth beside the images is in `meta`; without it the folder is refused."""
    draw(["images/1.jpg", "images/2.jpg"])
    write_csv(
        tmp_path / "manifest.csv",
        [
            ["image", "gender", "age", "group"],
            ["images/1.jpg", "Male", "20-29", "Elm"],
            ["images/2.jpg", "Female", "3-9", "Ash"],
        ],
    )
    with pytest.raises(DataError, match=r"planted\.json"):
        load_faces(DataSpec(dataset="synthetic"), tmp_path)
    (tmp_path / "planted.json").write_text(json.dumps({"expected": [1]}))
    faces = load_faces(DataSpec(dataset="synthetic"), tmp_path)
    assert faces.meta["planted"] == {"expected": [1]}
    assert list(faces.tasks) == ["gender", "age"] and faces.attributes == ("group",)


# Merged sets


def merged(tmp_path: Path, draw: Draw, **more: object) -> DataSpec:
    draw(["utk/20_0_2_1.jpg", "utk/30_1_0_2.jpg", "utk/40_1_2_3.jpg", "utk/50_1_4_4.jpg", "utk/1_1_1.jpg"])
    fairface(tmp_path / "ff", lambda names: draw([f"ff/{name}" for name in names]))
    sources = (SourceSpec(dataset="utkface", folder="utk"), SourceSpec(dataset="fairface", folder="ff"))
    return DataSpec(dataset="merged", sources=sources, **more)


def test_merged_sets_mask_what_the_head_cannot_express(tmp_path: Path, draw: Draw) -> None:
    """UTKFace's Asian and Others have no place among seven races: masked, in one finding a face."""
    (tmp_path / "ff").mkdir()
    faces = load_faces(merged(tmp_path, draw, target_schemes={"race": "race7"}), tmp_path)
    assert faces.attributes == ("dataset",) and faces.tasks["race"] == RACE7
    by_image = faces.frame.set_index("image")
    assert by_image.loc["utk/20_0_2_1.jpg", ["race", "dataset"]].isna().tolist() == [True, False]
    assert by_image.loc["utk/30_1_0_2.jpg", "race"] == "White"
    assert by_image.loc["ff/train/1.jpg", ["race", "age", "dataset"]].tolist() == ["East Asian", "3-9", "fairface"]
    masked = faces.findings[faces.findings["kind"] == "masked_label"]
    assert set(masked["image"]) == set(faces.frame["image"][faces.frame["race"].isna()]) and len(masked) == 3
    assert set(faces.findings["image"]) >= {"utk/1_1_1.jpg", "ff/train/4.jpg"}
    assert "utkface: " in faces.label_source and "fairface: " in faces.label_source
    table = composition(faces, ["dataset", "race"]).set_index(["dataset", "race"])
    assert table.loc[("utkface", "unknown"), ["n", "excluded"]].tolist() == [3, 1]


def test_merged_sets_in_five_races(tmp_path: Path, draw: Draw) -> None:
    """Seven classes map into five without a masked label."""
    (tmp_path / "ff").mkdir()
    faces = load_faces(merged(tmp_path, draw, target_schemes={"race": "race5"}), tmp_path)
    assert faces.frame["race"].notna().all() and faces.tasks["race"] == RACE5


def test_merged_sets_need_a_word_on_differing_schemes(tmp_path: Path, draw: Draw) -> None:
    """Where the sets' races differ, the spec must say which scheme the head learns."""
    (tmp_path / "ff").mkdir()
    with pytest.raises(UsageError, match=r"data\.target_schemes\.race = one of race7, race5"):
        load_faces(merged(tmp_path, draw), tmp_path)
    with pytest.raises(UsageError, match=r"'race77'; did you mean 'race7'"):
        load_faces(merged(tmp_path, draw, target_schemes={"race": "race77"}), tmp_path)


def test_limit_counts_over_all_sets(tmp_path: Path, draw: Draw) -> None:
    """A limit is drawn over the joined set, not per set."""
    (tmp_path / "ff").mkdir()
    faces = load_faces(merged(tmp_path, draw, target_schemes={"race": "race7"}, limit=4), tmp_path)
    assert len(faces) == 4


def test_merged_table_reads_back_as_a_manifest(tmp_path: Path, draw: Draw) -> None:
    """A joined table written as CSV beside the sets is a manifest: same labels, years, official parts."""
    (tmp_path / "ff").mkdir()
    faces = load_faces(merged(tmp_path, draw, target_schemes={"race": "race7"}), tmp_path)
    faces.frame.to_csv(tmp_path / "manifest.csv", index=False)
    schemes = {"race": "race7", "age": "age9"}
    again = load_faces(DataSpec(dataset="manifest", schemes=schemes), tmp_path)
    columns = ["image", "gender", "race", "age", "age_years", "official_split", "sha256"]
    pd.testing.assert_frame_equal(again.frame[columns], faces.frame[columns])
    assert again.attributes == ("dataset",) and again.tasks == faces.tasks


def test_a_set_with_its_own_dataset_column_cannot_hide_the_sets(tmp_path: Path, draw: Draw) -> None:
    """Merging needs the name `dataset` for itself, and says so."""
    draw(["a/1.jpg", "b/1.jpg"])
    for folder in "ab":
        write_csv(tmp_path / folder / "manifest.csv", [["image", "gender", "dataset"], ["1.jpg", "Male", "x"]])
    sources = tuple(SourceSpec(dataset="manifest", folder=folder) for folder in "ab")
    with pytest.raises(UsageError, match="rename"):
        load_faces(DataSpec(dataset="merged", sources=sources), tmp_path)


# Errors, and the table itself


def test_wrong_folders_and_names(tmp_path: Path) -> None:
    """Missing folder, file instead of folder, unknown data set, empty folder: each in plain words."""
    with pytest.raises(DataError, match="does not exist"):
        load_faces(DataSpec(dataset="utkface"), tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        load_faces(DataSpec(dataset="utkface"), tmp_path / "file")
    with pytest.raises(UsageError, match=r"unknown dataset 'utkfaces'; did you mean 'utkface'"):
        load_faces(DataSpec(dataset="utkfaces"), tmp_path)
    with pytest.raises(UsageError, match="below --data"):
        load_faces(DataSpec(dataset="utkface", folder="../x"), tmp_path)


@pytest.mark.parametrize("dataset", ["utkface", "folders"])
def test_no_usable_label_says_what_was_met(tmp_path: Path, draw: Draw, dataset: str) -> None:
    """A folder of images without labels is refused with what was found in it."""
    draw(["1.jpg", "2.jpg"])
    with pytest.raises(DataError, match="usable label"):
        load_faces(DataSpec(dataset=dataset), tmp_path)


def test_keys_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    """A key that this kind of data does not read is an error, never silently ignored."""
    with pytest.raises(UsageError, match=r"data\.manifest means nothing for dataset 'utkface'"):
        load_faces(DataSpec(dataset="utkface", manifest="x.csv"), tmp_path)


def test_table_is_saved_and_loaded_whole(tmp_path: Path, draw: Draw) -> None:
    """What `save` writes, `load` gives back: frame, classes, findings, meta."""
    draw(["20_1_2_1.jpg", "30_0_0_2.jpg", "1_1.jpg"])
    faces = load_faces(DataSpec(dataset="utkface"), tmp_path)
    faces.save(tmp_path / "faces.parquet")
    again = FaceTable.load(tmp_path / "faces.parquet", tmp_path)
    pd.testing.assert_frame_equal(again.frame, faces.frame)
    pd.testing.assert_frame_equal(again.findings, faces.findings, check_dtype=False)
    assert again.meta == faces.meta and again.tasks == faces.tasks and again.ordered == faces.ordered


def test_every_reader_is_a_function_with_a_docstring() -> None:
    """The registration table holds what the documentation names."""
    assert list(READERS) == ["utkface", "fairface", "manifest", "folders", "synthetic"]
    assert all(reader.__doc__ for reader in READERS.values())


# Real faces


def test_real_utkface(shared: Path) -> None:
    """The four malformed names of the copy beside the repository are found; a limited draw is read without a trap."""
    faces = load_faces(DataSpec(dataset="utkface", limit=200), shared / "faces" / "utkface")
    assert len(faces) == 200 and kinds(faces)["malformed_name"] == 4
    assert faces.frame["age"].notna().all() and faces.meta["image_sizes"] == {"200 × 200": 200}


def test_real_fairface(shared: Path) -> None:
    """Both tables are read, and every damaged age among the faces drawn is repaired: none stays missing."""
    faces = load_faces(DataSpec(dataset="fairface", limit=200), shared / "faces" / "fairface")
    assert len(faces) == 200 and faces.frame[["age", "gender", "race"]].notna().all(axis=None)
    train = faces.frame[faces.frame["official_split"] == "train"]
    assert kinds(faces)["age_repaired"] == train["age"].isin(["3-9", "10-19"]).sum() > 0


def test_real_merged(shared: Path) -> None:
    """UTKFace and FairFace read as one table from their common folder."""
    sources = tuple(SourceSpec(dataset=name, folder=name) for name in ("utkface", "fairface"))
    data = DataSpec(dataset="merged", sources=sources, target_schemes={"race": "race7"}, limit=300)
    faces = load_faces(data, shared / "faces")
    utk = faces.frame[faces.frame["dataset"] == "utkface"]
    assert 0 < utk["race"].isna().sum() < len(utk)
    assert faces.frame.loc[faces.frame["dataset"] == "fairface", "race"].notna().all()


def test_columns_that_no_axis_can_name_are_listed(tmp_path: Path, draw: Draw) -> None:
    """A colon joins attributes and `overall` is the whole set: said while reading, not after training."""
    draw(["a.jpg", "b.jpg"])
    write_csv(
        tmp_path / "m.csv",
        [("image", "gender", "a:b", "overall"), ("a.jpg", "Male", "1", "2"), ("b.jpg", "Female", "3", "4")],
    )
    faces = load_faces(DataSpec(dataset="manifest", manifest="m.csv"), tmp_path)
    assert not {"a:b", "overall"} & {*faces.attributes, *faces.tasks}
    assert kinds(faces)["attribute_refused"] == 2


def test_long_numbers_of_persons_stay_apart(tmp_path: Path, draw: Draw) -> None:
    """A Parquet column of numbers with a gap is a column of floats: 1234567 and 1234568 are two persons."""
    draw(["a.jpg", "b.jpg", "c.jpg"])
    people = [1234567.0, 1234568.0, None]
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg", "c.jpg"], "gender": ["Male", "Female", "Male"]})
    frame.assign(subject_id=people).to_parquet(tmp_path / "m.parquet")
    columns = ColumnsSpec(subject_id="subject_id")
    faces = load_faces(DataSpec(dataset="manifest", manifest="m.parquet", columns=columns), tmp_path)
    assert faces.frame["subject_id"].tolist()[:2] == ["1234567", "1234568"]


def test_infinite_weight_is_refused(tmp_path: Path, draw: Draw) -> None:
    """Like one that is 0 or missing."""
    draw(["a.jpg", "b.jpg"])
    write_csv(tmp_path / "m.csv", [("image", "gender", "w"), ("a.jpg", "Male", "inf"), ("b.jpg", "Female", "1")])
    with pytest.raises(DataError, match="not positive finite"):
        load_faces(DataSpec(dataset="manifest", manifest="m.csv", columns=ColumnsSpec(weight="w")), tmp_path)
