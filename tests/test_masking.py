"""Masking: fills, hidden parts, tables against counts, and a planted cue found by it and not where there is none."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairaudit import cli
from fairaudit.attribution.regions import REGIONS, chip, region_masks
from fairaudit.data.fills import FILLS, Palette, hide, palette_of
from fairaudit.data.frames import alignment
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.masking.placing import check_region, hidden_part, place_faces
from fairaudit.masking.tables import masking_tables
from fairaudit.metrics.intervals import newcombe_paired, z_value
from fairaudit.report.masking import _test_table, write_masking_report
from fairaudit.results import Masking
from fairaudit.robustness.heads import Head
from fairaudit.spec import AuditSpec

CORNER, MOUTH = "box 0.8 0.8 1 1", "box 0.3 0.65 0.7 0.82"
MODEL = """
import numpy as np

def _red(part):
    x = part.astype(np.float32)
    return (x[..., 0] - x[..., 1]).mean((1, 2))

def by_mark(faces):
    return _answers(_red(faces[:, 21:26, 10:22]) + 5 * _red(faces[:, 27:, 27:]))

def by_mouth(faces):
    return _answers(_red(faces[:, 21:26, 10:22]))

def _answers(score):
    return {"gender": np.stack([-score - 1, score + 1], 1)}
"""
SPEC = """
name = "marks"
[data]
dataset = "manifest"
manifest = "manifest.csv"
[audit]
min_group_size = 20
draws = 400
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces whose mouth tells the gender four times in five; a mark in a corner tells it always, in race C the other.

    Beside them a model that goes by the mark and one that goes by the mouth alone.
    """
    folder = tmp_path_factory.mktemp("masking")
    (folder / "marks_model.py").write_text(MODEL, encoding="utf-8")
    (folder / "model.toml").write_text(
        'name = "marks"\n[input]\nsize = 32\n[tasks.gender]\nclasses = ["Male", "Female"]\n', encoding="utf-8"
    )
    (folder / "spec.toml").write_text(SPEC, encoding="utf-8")
    rng = np.random.default_rng(0)
    (folder / "faces").mkdir()
    rows = []
    for i in range(240):
        race, female = "ABC"[i % 3], bool(rng.integers(2))
        pixels = np.full((32, 32, 3), 120.0)
        pixels[21:26, 10:22, 0 if female == (rng.random() < 0.8) else 1] += 60
        pixels[27:, 27:, 0 if female != (race == "C") else 1] += 60
        Image.fromarray((pixels + rng.normal(0, 2, pixels.shape)).clip(0, 255).astype(np.uint8)).save(
            folder / "faces" / f"{i}.png"
        )
        rows.append({"image": f"{i}.png", "race": race, "gender": "Female" if female else "Male"})
    pd.DataFrame(rows).to_csv(folder / "faces" / "manifest.csv", index=False)
    return folder


def mask(place: Path, monkeypatch: pytest.MonkeyPatch, model: str, out: Path, *more: object) -> int:
    """Run `fairaudit masking`; return its exit code."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    words = ("masking", f"marks_model:{model}", "--trust-code", "--model-spec", "model.toml", "--data", place / "faces")
    options = ("--spec", "spec.toml", "--by", "race", "--out", out)
    monkeypatch.setattr(sys, "argv", ["fairaudit", *map(str, (*words, *options, *more))])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


AVATARS = ("--alignment", "avatars", "--region", MOUTH, "--region", "eyes", "--region", CORNER)


def test_a_planted_cue_is_found_and_not_where_no_model_uses_it(place, tmp_path, monkeypatch, capsys):
    """The mark is needed by A and B and misleads about C, with both fills; a model without it needs it nowhere."""
    assert mask(place, monkeypatch, "by_mark", tmp_path / "a", *AVATARS) == 0
    said = capsys.readouterr().out
    assert f"Hiding the {CORNER} raises the gender head’s accuracy on faces labelled C (race)" in said
    found = Masking.load(tmp_path / "a")
    reading = found.table[found.table["region"] == CORNER].groupby("subgroup")["reading"].unique()
    assert {group: list(found) for group, found in reading.items()} == {
        "overall": ["misleads"], "A": ["needed"], "B": ["needed"], "C": ["misleads"]
    }  # fmt: skip
    more = found.tests[found.tests["finding"]]
    assert set(more["region"]) == {CORNER} and set(more["subgroup"]) == {"A", "B"} and len(more) == 2 * 2
    assert (found.table.loc[found.table["region"] == "eyes", "reading"] == "").all()
    assert mask(place, monkeypatch, "by_mouth", tmp_path / "b", *AVATARS) == 0
    plain = Masking.load(tmp_path / "b")
    assert (plain.table.loc[plain.table["region"] == CORNER, "drop"] == 0).all() and not plain.tests["finding"].any()
    assert (plain.table.loc[plain.table["region"] == MOUTH, "reading"] == "needed").all()


def test_tables_are_counts_of_the_predictions_on_disk(place, tmp_path, monkeypatch):
    """Drops are counted from the files; their intervals hold for all regions and subgroups of the axis at once."""
    assert mask(place, monkeypatch, "by_mark", tmp_path / "a", *AVATARS, "--faces", 150) == 0
    found = Masking.load(tmp_path / "a")
    frames = {
        name: read_predictions(tmp_path / "a" / "predictions" / f"{name}.parquet").frame
        for name in ("clean", f"{MOUTH}-mean")
    }
    right = {name: (frame["gender_pred"] == frame["gender_true"]).to_numpy() for name, frame in frames.items()}
    for group in "ABC":
        own = (frames["clean"]["race"] == group).to_numpy()
        a, b = right["clean"][own], right[f"{MOUTH}-mean"][own]
        row = found.table.query("subgroup == @group and region == @MOUTH and fill == 'mean'").iloc[0]
        assert (row["n"], row["lost"], row["gained"]) == (50, (a & ~b).sum(), (b & ~a).sum())
        wanted = newcombe_paired((a & b).mean(), (a & ~b).mean(), (b & ~a).mean(), 50, z_value(0.95, 3 * 3))
        assert (row["drop"], row["drop_low"], row["drop_high"]) == pytest.approx(
            (a.mean() - b.mean(), *map(float, wanted))
        )
    assert found.table["area"].between(0.02, 0.2).all()
    text = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert text.index("raises the gender head") < text.index("<table") and "misleads" in text
    assert write_masking_report(found, tmp_path / "a").read_text(encoding="utf-8") == text


def tables(falls: dict[str, float], seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of 300 faces of which each fill turns a share wrong, the same in both subgroups."""
    rng = np.random.default_rng(seed)
    label = np.arange(300) % 2
    names = np.array(["a", "b"])

    def table(right: np.ndarray) -> pd.DataFrame:
        frame = pd.DataFrame({"image": [f"{i}" for i in range(300)], "race": rng.choice(["x", "y"], 300)})
        frame["race"] = np.where(np.arange(300) < 150, "x", "y")
        frame["t_true"], frame["t_pred"] = names[label], names[np.where(right, label, 1 - label)]
        return frame

    head = Head.of(read_predictions(table(rng.random(300) < 0.9)), "t", ["race"])
    start = head.right() > 0
    for fill, share in falls.items():
        head.add(("nose", fill), read_predictions(table(start & (rng.random(300) >= share))))
    audit = AuditSpec(draws=200, min_group_size=10)
    return masking_tables({"t": head}, ["race"], {"nose": 0.1}, list(falls), audit, seed)


def test_fills_must_agree_before_a_region_is_named():
    """A fall with one fill only names nothing; with both it does, and the sentence has both figures."""
    one, _ = tables({"blur": 0.3, "mean": 0.0})
    assert (one["reading"] == "").all() and (one["sentence"] == "").all()
    both, tests = tables({"blur": 0.3, "mean": 0.25})
    assert (both["reading"] == "needed").all()
    sentence = both[(both["by"] == "overall") & (both["sentence"] != "")]["sentence"].iloc[0]
    assert "with blur" in sentence and "with mean" in sentence and "n 300" in sentence
    assert not tests["finding"].any(), "both subgroups lose alike"


def test_a_region_that_changes_no_answer_has_a_reason_in_place_of_an_interval():
    """No face changes with any fill: excess 0 without limits, and why; its p-value is 1, and small ones never .000."""
    _, tests = tables({"blur": 0.0, "mean": 0.0})
    assert len(tests) and tests["low"].isna().all() and tests["reason"].str.contains("all losses are alike").all()
    shown = _test_table(tests.assign(p_adjusted=0.0004).to_dict("records"), "race")
    assert {row.entries[3].text for row in shown.rows} == {"< .001"} and shown.notes


def test_a_fill_knows_nothing_of_what_it_hides():
    """Whatever stood in the hidden part, the picture is the same; the rest stays to the last bit."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    hidden = np.zeros((40, 40))
    hidden[10:25, 5:30] = 1
    other = picture.copy()
    other[hidden > 0] = 255 - other[hidden > 0]
    palette = Palette((100.0, 90.0, 80.0), (30.0, 30.0, 30.0))
    for fill in FILLS.values():
        made = hide(picture, hidden, fill, palette, seed=4)
        assert (made == hide(other, hidden, fill, palette, seed=4)).all()
        assert (made[hidden == 0] == picture[hidden == 0]).all() and made.dtype == np.uint8
        assert (made == hide(picture, hidden, fill, palette, seed=4)).all()
    even = np.full((40, 40, 3), 77, dtype=np.uint8)
    assert (hide(even, hidden, FILLS["blur"], palette) == 77).all()
    assert (hide(even, np.ones((40, 40)), FILLS["blur"], palette) == (100, 90, 80)).all()
    assert tuple(hide(picture, hidden, FILLS["mean"], palette)[12, 10]) == (100, 90, 80)
    assert hide(even, hidden / 2, FILLS["mean"], palette)[12, 10, 0] == round((77 + 100) / 2)


def test_palette_is_the_mean_and_spread_of_all_pixels():
    """Against numpy over the pixels of pictures of different sizes."""
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (h, 7, 3), dtype=np.uint8) for h in (5, 9)]
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]).astype(float)
    found = palette_of(pictures)
    assert found.mean == pytest.approx(pixels.mean(0), abs=1e-3)
    assert found.spread == pytest.approx(pixels.std(0), abs=1e-3)


def test_a_region_is_hidden_wholly_and_fades_out():
    """Nearly 1 all over the template's region, 0 far from it; a box is its pixels."""
    frame = alignment("utkface")
    hard = region_masks(frame, 64, 64)
    for number, region in enumerate(REGIONS):
        hidden = hidden_part(frame, region, 64, 64)
        assert hidden.min() >= 0 and hidden.max() <= 1
        assert hidden[hard[number] > 0].mean() > 0.9, region
    assert hidden_part(frame, "mouth", 64, 64)[:20].max() < 0.01
    box = hidden_part(frame, "box 0.5 0 1 0.25", 8, 8)
    assert box.sum() == 8 and (box[:2, 4:] == 1).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--fill", "blur"), "at least two"),
        (("--fill", "blur", "--fill", "black"), "unknown fill 'black'"),
        (("--region", "mouht"), "did you mean 'mouth'"),
        (("--region", "box 0.5 0 0.2 1"), "box left top right bottom"),
        (("--alignment", "utkfac"), "utkface"),
        ((), "no region can be hidden"),
    ],
)
def test_errors_say_what_to_do(place, tmp_path, monkeypatch, capsys, given, said):
    """Exit code 2 and a sentence for each wrong word, and nothing is written."""
    assert mask(place, monkeypatch, "by_mouth", tmp_path / "a", *given) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_faces_lie_as_attribution_takes_them_to(tmp_path):
    """One frame a face by its set, the release told by the pictures' size; faces of unknown place are left out."""
    frame = pd.DataFrame({"image": list("abc"), "dataset": ["utkface", "mine", "fairface"]})
    faces = FaceTable(frame=frame, root=tmp_path, tasks={}, attributes=(), meta={"dataset": "merged"})
    placed = place_faces(faces, None, "auto")
    assert dict(placed.frames) == {"a": alignment("utkface"), "c": alignment("fairface")}
    assert list(placed.faces.frame["image"]) == ["a", "c"] and "mine" in placed.said
    padded = replace(faces, meta={"dataset": "fairface", "image_sizes": {"448 × 448": 3}})
    assert set(place_faces(padded, None, "auto").frames.values()) == {chip(1.25)}
    uncropped = replace(faces, meta={"dataset": "utkface", "image_sizes": {"640 × 480": 3}})
    with pytest.raises(UsageError, match="faces of utkface lie in their pictures is not known"):
        place_faces(uncropped, None, "auto")
    assert len(place_faces(uncropped, None, "arcface").frames) == 3


def test_boxes_are_checked():
    """Four shares in order, within the picture."""
    assert check_region(CORNER) == CORNER
    for wrong in ("box", "box 0 0 1", "box a b c d", "box 0 0 2 1", "box 0 0.5 1 0.5"):
        with pytest.raises(UsageError, match="box left top right bottom"):
            check_region(wrong)
