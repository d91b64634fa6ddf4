"""The public predictions table: what is read, what is listed, what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import META_KEY, Predictions
from fairaudit.data.taxonomy import AGE_BINS
from fairaudit.errors import DataError, UsageError


def table(**columns: list[object]) -> pd.DataFrame:
    """A small gender table, columns replaced or added."""
    base: dict[str, list[object]] = {
        "image": ["a", "b", "c", "d"],
        "gender_true": ["Male", "Female", "Male", "Female"],
        "gender_pred": ["Male", "Female", "Female", "Female"],
        "race": ["NA", "None", "é", "NA"],
    }
    return pd.DataFrame(base | columns)


def test_csv_parquet_and_frame_read_alike(tmp_path: Path) -> None:
    """The three ways in give equal tables, and text stays verbatim: "NA" and "None" are names."""
    frame = table()
    frame.to_csv(tmp_path / "p.csv", index=False)
    frame.to_parquet(tmp_path / "p.parquet")
    found = [read_predictions(source) for source in (frame, tmp_path / "p.csv", tmp_path / "p.parquet")]
    assert len({predictions.hash() for predictions in found}) == 1
    assert list(found[0].frame["race"].cat.categories) == ["NA", "None", "é"]
    assert found[0].tasks == {"gender": ("Male", "Female")}
    assert found[0].attributes == ("race",)


def test_our_own_parquet_keeps_what_it_knows(tmp_path: Path) -> None:
    """Classes that never occur, the order, attributes, label source and meta survive saving."""
    read = read_predictions(table())
    known = Predictions(
        frame=read.frame,
        tasks={"gender": ("Female", "Male", "Other")},
        attributes=("race",),
        ordered=frozenset({"gender"}),
        label_source="annotators",
        meta={"seen_in_training": 2},
    )
    known.save(tmp_path / "p.parquet")
    again = read_predictions(tmp_path / "p.parquet")
    assert again.tasks == known.tasks
    assert again.ordered == known.ordered
    assert (again.label_source, again.meta["seen_in_training"]) == ("annotators", 2)


def test_age_in_years_becomes_bins() -> None:
    """Numeric ages are binned in attribute, label and prediction, and the whole ordered scheme is the task's."""
    found = read_predictions(table(age=[2, 3, 69, 70], age_true=[2, 3, 69, 70], age_pred=[1.5, 9, 10, 116]))
    assert list(found.frame["age"].astype(str)) == ["0-2", "3-9", "60-69", "70+"]
    assert found.tasks["age"] == AGE_BINS
    assert "age" in found.ordered


def test_renames_and_value_maps() -> None:
    """Columns and values are mapped to ours, also in the names of probability columns."""
    frame = table().rename(columns={"gender_pred": "sex"})
    frame["sex"] = ["Man", "Woman", "Woman", "Woman"]
    frame["gender_prob_Man"] = [0.9, 0.1, 0.2, 0.3]
    found = read_predictions(
        frame, rename={"gender_pred": "sex"}, values={"gender": {"Man": "Male", "Woman": "Female"}}
    )
    assert list(found.frame["gender_pred"].astype(str)) == ["Male", "Female", "Female", "Female"]
    assert "gender_prob_Male" in found.frame
    with pytest.raises(UsageError, match="did you mean 'sex'"):
        read_predictions(frame, rename={"gender_pred": "sexx"})


def test_empty_predictions_are_outcomes_or_listed() -> None:
    """With a status an empty prediction is an outcome; without one it is listed, never a class."""
    found = read_predictions(table(gender_pred=["Male", None, "", "Female"], gender_status=["ok", "no_face", "", None]))
    assert list(found.frame["gender_status"]) == ["ok", "no_face", None, "ok"]
    assert found.tasks["gender"] == ("Male", "Female")
    listed = found.findings[found.findings["kind"] == "no_prediction_given"]
    assert list(listed["image"]) == ["c"]


def test_labels_serve_as_attributes_where_there_are_none() -> None:
    """Without attribute columns, the labels of race, gender and age are the axes."""
    found = read_predictions(table().drop(columns="race"))
    assert found.attributes == ("gender",)


def test_a_column_of_many_values_is_no_axis() -> None:
    """A column with over 50 values is listed as no axis; numbers of a few values are one."""
    n = 60
    frame = pd.DataFrame({"image": range(n), "t_pred": ["x", "y"] * 30, "name": range(n), "camera": [1.0, 2.0] * 30})
    found = read_predictions(frame)
    assert found.attributes == ("camera",)
    assert list(found.frame["camera"].cat.categories) == ["1", "2"]
    assert found.findings["detail"].str.contains("'name' has 60 values").any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": ["a", "a", "c", "d"]}, "more than once"),
        ({"image": ["a", "", "c", "d"]}, "empty `image`"),
        ({"weight": [1, 0, 1, 1]}, "not above 0"),
        ({"weight": [1, np.nan, 1, 1]}, "missing"),
        ({"gender_prob_Male": [0.1, 1.2, 0, 0]}, "outside 0…1"),
        ({"gender_prob_Male": ["x", "0", "0", "0"]}, "no number"),
        ({"gender_status": ["no_face", "", "", ""]}, "no_face"),
        ({"gender_status": ["gone", "", "", ""]}, "allowed: ok"),
    ],
)
def test_contradictions_are_refused(change: dict[str, list[object]], says: str) -> None:
    """Each impossible table is a DataError that says what is wrong."""
    with pytest.raises(DataError, match=says):
        read_predictions(table(**change))


def test_labels_outside_given_classes_are_refused() -> None:
    """A label that is none of the classes given names itself and the allowed ones."""
    with pytest.raises(DataError, match=r"'Female'.*allowed: Male, female"):
        read_predictions(table(), classes={"gender": ["Male", "female"]})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "empty"),
        ("b.csv", b"image,gender_pred\n", "no row"),
        ("c.csv", b"image;gender_pred\na;b\n", "separate the columns by commas"),
        ("d.csv", b"image,gender_pred\na,Male,too,many\n", "no readable CSV"),
        ("e.csv", b"image,gender_pred\n\xff\xfe,Male\n", "UTF-8"),
        ("f.csv", b"image,gender\na,Male\n", "no column of predictions"),
        ("g.csv", b"image,x_pred,x_pred\na,b,c\n", "occurs twice"),
        ("h.parquet", b"PAR1 is not enough", "no readable Parquet"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    """A file that is no predictions table is a DataError in words, never a traceback."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_predictions(tmp_path / name)


def test_a_missing_file_and_a_missing_image_column(tmp_path: Path) -> None:
    """A missing file is refused; a table without `image` gets numbers, and knows it."""
    with pytest.raises(DataError, match="does not exist"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_predictions(tmp_path)
    found = read_predictions(table().drop(columns="image"))
    assert found.meta["row_numbers"] is True


def test_fairfaces_own_age_bins_keep_their_words_and_their_order() -> None:
    """ "more than 70" stays verbatim, stands last, and the task counts as ordered."""
    ages = ["more than 70", "10-19", "3-9", "0-2"]
    found = read_predictions(table(age=ages, age_true=ages, age_pred=ages))
    assert list(found.frame["age"].cat.categories) == ["0-2", "3-9", "10-19", "more than 70"]
    assert found.tasks["age"][-1] == "more than 70"
    assert "age" in found.ordered


def test_whole_floats_of_one_column_meet_the_integers_of_the_other(tmp_path: Path) -> None:
    """pandas writes 1 as 1.0 where a column has gaps: that is one class, also where a map names it so."""
    path = tmp_path / "p.csv"
    path.write_text("image,x_true,x_pred\na,1.0,1\nb,0.0,0\nc,,1\n", encoding="utf-8")
    assert read_predictions(path).tasks["x"] == ("0", "1")
    mapped = read_predictions(path, values={"x": {"1.0": "yes", "0": "no"}})
    assert set(mapped.tasks["x"]) == {"yes", "no"}
    assert (mapped.frame["x_true"].dropna() == mapped.frame["x_pred"][:2]).all()


def test_class_spelled_twice_is_refused_with_the_map_that_mends_it() -> None:
    """`Male` and `male ` would make every accuracy 0; given classes are believed."""
    frame = pd.DataFrame({"image": ["a", "b"], "x_true": ["Male", "Female"], "x_pred": ["male ", "Female"]})
    with pytest.raises(DataError, match=r"differ only in case or spaces.*--value 'x\.male =Male'"):
        read_predictions(frame)
    assert read_predictions(frame, values={"x": {"male ": "Male"}}).tasks["x"] == ("Female", "Male")
    assert len(read_predictions(frame, classes={"x": ["Male", "male ", "Female"]}).tasks["x"]) == 3


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ({"x_true": ["u", "v"], "x_pred": ["nan", "v"]}, "looks_missing"),
        ({"x_true": ["u", "v"], "x_pred": ["u", "v"], "tone": ["a", "NA"]}, "looks_missing"),
        ({"x_true": ["u", "v"], "x_pred": ["u", "v"], "tone": ["a", "A"]}, "names_alike"),
        ({"x_true": ["True", "False"], "x_pred": ["1", "0"]}, "names_disagree"),
    ],
)
def test_suspicious_names_are_listed(frame: dict[str, list[str]], kind: str) -> None:
    """What probably is a missing cell or one name spelled twice is kept, and said."""
    found = read_predictions(pd.DataFrame({"image": ["a", "b"], **frame})).findings
    assert kind in set(found["kind"])


def test_only_outcomes_without_labels_are_nothing_to_audit() -> None:
    """Also where the task's scheme is known."""
    frame = pd.DataFrame({"image": ["a"], "gender_pred": [None], "gender_status": ["no_face"]})
    with pytest.raises(DataError, match="nothing to audit"):
        read_predictions(frame)


def test_columns_of_numbers_stay_without_being_axes(tmp_path: Path) -> None:
    """Many-valued numbers stay as floats, words of many values do not; our own measurements are no axis even in a
    small table; saved and read again, all is as before.
    """
    n = 60
    frame = pd.DataFrame({"image": [str(i) for i in range(n)], "g_true": ["a", "b"] * 30, "g_pred": ["a"] * n})
    frame = frame.assign(race=["x", "y", "z"] * 20, light=[f"{i / 7:.3f}" for i in range(n)])
    frame = frame.assign(note=[f"word {i}" for i in range(n)], brightness=np.arange(n) / n)
    table = read_predictions(frame)
    assert table.attributes == ("race",)
    assert list(table.frame.columns[-2:]) == ["light", "brightness"]
    assert table.frame["light"].dtype == float and "note" not in table.frame
    assert "brightness" not in read_predictions(frame.iloc[:20]).attributes
    assert "brightness" in read_predictions(frame.iloc[:20], attributes=["race", "brightness"]).attributes
    words = read_predictions(frame.assign(brightness=["dim", "light"] * 30))
    assert "brightness" in words.attributes
    table.save(tmp_path / "p.parquet")
    again = read_predictions(tmp_path / "p.parquet")
    assert again.attributes == table.attributes and again.hash() == table.hash()


def test_column_named_overall_is_no_axis_and_unknown_ages_are_missing() -> None:
    """`overall` means the whole set in every table; the word "unknown" among years is no age."""
    frame = pd.DataFrame(
        {
            "image": ["a", "b", "c"],
            "x_true": ["u", "v", "u"],
            "x_pred": ["u", "v", "v"],
            "overall": ["p", "q", "p"],
            "age": ["31", "unknown", "64"],
        }
    )
    table = read_predictions(frame)
    assert table.attributes == ("age",)
    assert table.frame["age"].tolist()[::2] == ["30-39", "60-69"]
    assert {"no_axis", "age_unknown"} <= set(table.findings["kind"])
    assert "impossible_age" not in set(table.findings["kind"])


@pytest.mark.parametrize("told", [b"not json", b"[]", b'{"tasks": {"x": 5}}', b'{"findings": [["a"]]}', b"\xff"])
def test_damaged_description_of_a_parquet_file_is_said(tmp_path: Path, told: bytes) -> None:
    """Our own description inside a file is checked like everything else that is read."""
    table = pa.Table.from_pandas(pd.DataFrame({"image": ["a"], "x_pred": ["u"]}))
    pq.write_table(table.replace_schema_metadata({META_KEY: told}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"description .* is damaged"):
        read_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize("weight", [1e300, 1e-300])
def test_weights_whose_squares_are_no_floats_are_refused(weight: float) -> None:
    """Σw² would overflow, or vanish and leave no effective face."""
    frame = pd.DataFrame({"image": ["a", "b"], "x_pred": ["u", "v"], "weight": [1.0, weight]})
    with pytest.raises(DataError, match="Divide all by one number"):
        read_predictions(frame)


@pytest.mark.parametrize("name", [":x", " ", "a:"])
def test_task_without_a_name_is_refused(name: str) -> None:
    """A colon joins the attributes of an axis, so nothing may be left on either side of it."""
    with pytest.raises(DataError, match="names no task"):
        read_predictions(pd.DataFrame({"image": ["a"], f"{name}_pred": ["u"]}))


def test_probabilities_of_joined_classes_add_up() -> None:
    """Seven races mapped to five keep their probabilities: that of a joined class is the sum."""
    frame = pd.DataFrame({"image": ["a", "b"], "x_true": ["u", "w"], "x_pred": ["v", "w"]})
    frame = frame.assign(x_prob_u=[0.2, 0.1], x_prob_v=[0.7, 0.2], x_prob_w=[0.1, 0.7])
    found = read_predictions(frame, values={"x": {"v": "u"}})
    assert found.tasks["x"] == ("u", "w")
    assert found.frame["x_prob_u"].tolist() == pytest.approx([0.9, 0.3])


def test_probability_of_a_class_is_no_task() -> None:
    """`x_prob_pred` belongs to the task x; as no label is `pred`, it is listed and left out."""
    frame = pd.DataFrame({"image": ["a"], "x_pred": ["u"], "x_prob_pred": [0.5], "x_prob_true": [0.5]})
    found = read_predictions(frame)
    assert list(found.tasks) == ["x"]
    assert found.findings["kind"].tolist() == ["class_never_met"] * 2


def test_a_column_is_given_one_name_only() -> None:
    """Else one of the two meanings would be lost in silence."""
    frame = pd.DataFrame({"image": ["a"], "g": ["u"], "race": ["A"]})
    with pytest.raises(UsageError, match="two names"):
        read_predictions(frame, rename={"x_true": "g", "x_pred": "g"})


def test_ages_in_years_are_kept_beside_their_bins(tmp_path: Path) -> None:
    """Years become bins and stay in columns of their own, impossible ones empty; a saved table keeps them."""
    frame = pd.DataFrame({"image": list("abcd"), "race": list("xyxy")})
    frame["age_true"], frame["age_pred"] = ["3", "45.5", "-1", ""], ["5", "44", "30", "20"]
    table = read_predictions(frame)
    assert table.frame["age_true"].tolist()[:2] == ["3-9", "40-49"]
    np.testing.assert_array_equal(table.frame["age_true_years"], [3, 45.5, np.nan, np.nan])
    np.testing.assert_array_equal(table.frame["age_pred_years"], [5, 44, 30, 20])
    assert table.attributes == ("race",)
    table.save(tmp_path / "table.parquet")
    again = read_predictions(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(again.frame, table.frame, check_categorical=False, check_dtype=False)
    bins = frame.assign(age_true="20-29", age_pred="20-29", age_true_years="22", age_pred_years=["23", "", "21", "28"])
    given = read_predictions(bins)
    np.testing.assert_array_equal(given.frame["age_pred_years"], [23, np.nan, 21, 28])
    assert given.attributes == ("race",)
    with pytest.raises(DataError, match="age_pred_years"):
        read_predictions(bins.assign(age_pred_years="old"))
