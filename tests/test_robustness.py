"""Robustness: tables against counts by hand, planted fragility found and none invented, from command to page."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairaudit import cli
from fairaudit.data.perturbations import PERTURBATIONS, STRENGTHS, blur
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.metrics.intervals import newcombe_paired, z_value
from fairaudit.models.wrapped.opening import open_model
from fairaudit.report.robustness import headline, write_robustness_report
from fairaudit.results import Robustness
from fairaudit.robustness.heads import Head
from fairaudit.robustness.measure import measure
from fairaudit.robustness.probing import asked_heads, unlabelled
from fairaudit.robustness.tables import robustness_tables
from fairaudit.spec import AuditSpec, RobustnessSpec, parse_spec

MODEL = '''
import numpy as np

def answers(faces):
    """Female where the picture is redder than green, or where its stripes run across: coarse and fine signs."""
    x = faces.astype(np.float32)
    coarse = (x[..., 0] - x[..., 1]).mean((1, 2))
    across = np.abs(np.diff(x[..., 2], axis=1)).mean((1, 2)) - np.abs(np.diff(x[..., 2], axis=2)).mean((1, 2))
    score = coarse / 20 + across / 8 - 0.5
    return {"gender": np.stack([-score, score], 1)}
'''
DESCRIBED = """
name = "signs"
[input]
size = 32
[tasks.gender]
classes = ["Male", "Female"]
"""
QUICK = AuditSpec(min_group_size=20, draws=400)


def draw(folder: Path, fragile: bool, count: int = 240) -> Path:
    """Draw faces of three races; the sign of gender is coarse, but in race B, where `fragile`, fine stripes only."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = []
    for i in range(count):
        race, female = "ABC"[i % 3], bool(rng.integers(2))
        pixels = np.full((32, 32, 3), 120.0)
        if fragile and race == "B":
            stripes = 25 * (-1.0) ** np.arange(32)
            pixels[..., 2] += stripes[:, None] if female else stripes[None, :]
        else:
            pixels[..., 0 if female else 1] += 30
        pixels += rng.normal(0, 2, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        told = female if rng.random() > 0.1 else not female  # one label in ten is wrong
        rows.append({"image": f"{i}.png", "race": race, "gender": "Female" if told else "Male"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, its description, and two sets of faces: one with a fragile race, one without."""
    folder = tmp_path_factory.mktemp("robustness")
    (folder / "signs_model.py").write_text(MODEL, encoding="utf-8")
    (folder / "signs.toml").write_text(DESCRIBED, encoding="utf-8")
    draw(folder / "fragile", fragile=True)
    draw(folder / "equal", fragile=False)
    return folder


def run(place: Path, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in the model's folder; return its exit code."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    monkeypatch.setattr(sys, "argv", ["fairaudit", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


SPEC = """
name = "signs"
[data]
dataset = "manifest"
manifest = "manifest.csv"
[audit]
min_group_size = 20
draws = 400
"""


def robust(place: Path, monkeypatch: pytest.MonkeyPatch, data: str, out: Path, *more: object) -> int:
    """Run `fairaudit robustness` on one of the two sets."""
    (place / "spec.toml").write_text(SPEC, encoding="utf-8")
    words = ("robustness", "signs_model:answers", "--trust-code", "--model-spec", "signs.toml", "--data", place / data)
    return run(place, monkeypatch, *words, "--spec", "spec.toml", "--by", "race", "--out", out, *more)


def test_planted_fragility_is_found_and_an_equal_model_left_alone(place, tmp_path, monkeypatch, capsys):
    """Blur takes B's only sign away: B and nobody else is named, for blur; where all are alike nobody is."""
    assert robust(place, monkeypatch, "fragile", tmp_path / "a") == 0
    said = capsys.readouterr().out
    assert "Blur costs faces labelled B (race)" in said and f"Open {tmp_path / 'a' / 'index.html'}" in said
    found = Robustness.load(tmp_path / "a")
    shown = found.tests[found.tests["finding"]]
    assert set(shown.loc[shown["perturbation"] == "blur", "subgroup"]) == {"B"}
    row = found.tests[(found.tests["subgroup"] == "B") & (found.tests["perturbation"] == "blur")].iloc[0]
    assert row["low"] > 0.1 and row["drop"] > row["rest_drop"] + 0.15 and row["n"] == 80 and row["matched"] == "label"
    gaps = found.gaps[found.gaps["perturbation"] == "blur"].set_index("strength")
    assert gaps.loc[5, "worst"] == "B" and gaps.loc[5, "low"] > 0 and gaps.loc[0, "low"] == 0
    assert robust(place, monkeypatch, "equal", tmp_path / "b") == 0
    assert "No subgroup is shown to lose more" in capsys.readouterr().out
    equal = Robustness.load(tmp_path / "b")
    assert not equal.tests["finding"].any() and equal.tests["family_size"].eq(15).all()


def test_tables_are_counts_of_the_predictions_on_disk(place, tmp_path, monkeypatch):
    """Every curve is the share of right answers in its file, every drop Newcombe's paired interval of the counts."""
    assert robust(place, monkeypatch, "fragile", tmp_path / "a", "--perturbation", "blur", "--faces", 150) == 0
    found = Robustness.load(tmp_path / "a")
    clean = read_predictions(tmp_path / "a" / "predictions" / "clean.parquet").frame
    assert len(clean) == 150 == found.meta["n"] and "150 of 240 faces, drawn evenly over race" in found.meta["sampled"]
    assert clean["race"].value_counts().eq(50).all()
    assert len(found.curves) == (1 + STRENGTHS) * (1 + 3)
    for strength in (1, 5):
        changed = read_predictions(tmp_path / "a" / "predictions" / f"blur-{strength}.parquet").frame
        for group in "ABC":
            own = clean["race"] == group
            a = (clean["gender_pred"] == clean["gender_true"])[own].to_numpy()
            b = (changed["gender_pred"] == changed["gender_true"])[own].to_numpy()
            row = found.curves[(found.curves["subgroup"] == group) & (found.curves["strength"] == strength)].iloc[0]
            assert row["value"] == pytest.approx(b.mean()) and row["n"] == own.sum()
            assert row["drop"] == pytest.approx(a.mean() - b.mean())
            assert (row["lost"], row["gained"]) == ((a & ~b).sum(), (b & ~a).sum())
            wanted = newcombe_paired((a & b).mean(), (a & ~b).mean(), (b & ~a).mean(), own.sum(), z_value(0.95))
            assert (row["drop_low"], row["drop_high"]) == pytest.approx(tuple(map(float, wanted)))


def test_what_is_done_is_not_done_again(place, tmp_path, monkeypatch):
    """An interrupted call goes on: only what is missing is predicted; other faces or another seed start anew."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    model = open_model("signs_model:answers", "signs.toml", trust_code=True)
    from fairaudit.inputs import load

    spec = parse_spec({"name": "x", "data": {"dataset": "manifest", "manifest": "manifest.csv"}})
    faces = load(place / "equal", spec, lambda *a, **k: None)
    asked = RobustnessSpec(perturbations=("noise", "darkness"), subgroups=("race",), faces=60)
    made: list[str] = []
    from fairaudit.robustness import probing as module

    def counted(job, table, out, **more):
        made.append(out.name)
        if len(made) == 4:
            raise KeyboardInterrupt
        return predict(job, table, out, **more)

    predict = module.predict
    monkeypatch.setattr(module, "predict", counted)
    with pytest.raises(KeyboardInterrupt):
        measure(model, faces, tmp_path, robustness=asked, audit=QUICK)
    with pytest.raises(DataError, match="unfinished"):
        Robustness.load(tmp_path)
    first = measure(model, faces, tmp_path, robustness=asked, audit=QUICK)
    assert len(made) == 4 + 8 and len(set(made)) == 11
    second = measure(model, faces, tmp_path, robustness=asked, audit=QUICK)
    assert len(made) == 12 and second.tests.equals(first.tests)
    measure(model, faces, tmp_path, robustness=asked, audit=QUICK, seed=1)
    assert len(made) > 12


def table_of(right: np.ndarray, group: np.ndarray, subject: np.ndarray | None = None) -> pd.DataFrame:
    """Return predictions of faces labelled a or b in turn, right where told."""
    label = np.arange(len(right)) % 2
    names = np.array(["a", "b"])
    frame = pd.DataFrame({"image": [f"{i}" for i in range(len(right))], "race": group})
    frame["t_true"], frame["t_pred"] = names[label], names[np.where(right, label, 1 - label)]
    frame["t_status"] = "ok"
    return frame if subject is None else frame.assign(subject_id=subject)


def planted(subjects: bool, seed: int) -> pd.DataFrame:
    """Return the tests of a table in which nobody loses more; with subjects, four equal pictures of each person."""
    rng = np.random.default_rng(seed)
    people = 120
    times = 4 if subjects else 1
    group = rng.choice(["x", "y", "z"], people).repeat(times)
    right = (rng.random(people) < 0.9).repeat(times)
    subject = np.arange(people).repeat(times).astype(str) if subjects else None
    clean = read_predictions(table_of(right, group, subject))
    head = Head.of(clean, "t", ["race"])
    hard = rng.random(people).repeat(times)
    for name in PERTURBATIONS:
        for strength in range(1, STRENGTHS + 1):
            head.add((name, strength), read_predictions(table_of(right & (hard > strength / 8), group, subject)))
    return robustness_tables({"t": head}, ["race"], list(PERTURBATIONS), AuditSpec(draws=200, min_group_size=10), seed)[
        2
    ]


def test_a_persons_pictures_are_one_loss():
    """With four pictures of each person n is persons, and intervals are as wide as of one picture each."""
    many, single = planted(True, 3), planted(False, 3)
    assert many["n"].sum() == single["n"].sum() == 120 * len(PERTURBATIONS)
    assert np.allclose(many["difference"], single["difference"], atol=0.12)
    assert np.allclose(many["high"] - many["low"], single["high"] - single["low"], rtol=0.2)


def test_answers_that_fail_count_as_wrong_and_other_faces_are_refused():
    """A face without an answer once it is perturbed is lost; a table of other images is an error, not a mismatch."""
    rng = np.random.default_rng(0)
    group = rng.choice(["x", "y"], 80)
    right = np.ones(80, dtype=bool)
    head = Head.of(read_predictions(table_of(right, group)), "t", ["race"])
    lost = table_of(right, group)
    lost.loc[:9, ["t_pred", "t_status"]] = [None, "failed"]
    head.add("blur", read_predictions(lost))
    assert head.right("blur").sum() == 70
    with pytest.raises(DataError, match="other faces"):
        head.add("noise", read_predictions(table_of(right, group).iloc[::-1]))


def test_errors_say_what_to_do(place, tmp_path, monkeypatch, capsys):
    """Unknown perturbation and axis, a folder of something else: each a sentence, nothing written."""
    assert robust(place, monkeypatch, "equal", tmp_path / "a", "--perturbation", "blurr") == 2
    assert "did you mean 'blur'" in capsys.readouterr().err and not (tmp_path / "a").exists()
    assert robust(place, monkeypatch, "equal", tmp_path / "a", "--by", "rase") == 2
    assert "rase" in capsys.readouterr().err and not (tmp_path / "a").exists()
    assert robust(place, monkeypatch, "equal", tmp_path / "a", "--task", "age") == 2
    assert "age" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert robust(place, monkeypatch, "equal", tmp_path / "other") == 2
    assert (tmp_path / "other" / "thesis.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UsageError, match="robustness"):
        parse_spec({"name": "x", "data": {"dataset": "utkface"}, "robustness": {"strength": 3}})


def test_the_page_says_it_in_words_first(place, tmp_path, monkeypatch):
    """The finding stands before any chart; every chart has its numbers in words; all charts share one scale."""
    assert (
        robust(place, monkeypatch, "fragile", tmp_path / "a", "--perturbation", "blur", "--perturbation", "jpeg") == 0
    )
    found = Robustness.load(tmp_path / "a")
    text = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert text.index(headline(found)[0][:40]) < text.index("<svg")
    assert text.count('role="img"') == 3 * 2 and 'aria-label="gender, B, blur: ' in text
    assert "loses more than everyone else" in text and "quality 50" in text and text.count("<script") == 1
    assert write_robustness_report(found, tmp_path / "a").read_text(encoding="utf-8") == text
    (tmp_path / "a" / "robustness.csv").write_text("changed", encoding="utf-8")
    with pytest.raises(DataError, match="changed"):
        Robustness.load(tmp_path / "a")


def test_pictures_are_perturbed_as_the_model_sees_them(place, tmp_path, monkeypatch):
    """What the model is given is the perturbation of what it reads, by the picture's name."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    from fairaudit.models.changed import ChangedModel

    model = open_model("signs_model:answers", "signs.toml", trust_code=True)
    seen: list[str] = []

    def change(pixels: np.ndarray, image: str) -> np.ndarray:
        seen.append(image)
        return blur(pixels, 0.05)

    changed = ChangedModel(model=model, root=place / "equal", change=change, key={"blur": 0.05})
    path = place / "equal" / "3.png"
    assert (changed.read(path) == blur(model.read(path), 0.05)).all() and seen == ["3.png"]
    assert changed.hash != model.hash and not changed.stated and changed.classes == model.classes


def test_a_head_that_infers_race_carries_the_legal_notice(tmp_path):
    """The page of a race head says what the law says, as its audit does."""
    rng = np.random.default_rng(0)
    frame = table_of(rng.random(90) < 0.9, rng.choice(["x", "y"], 90))
    frame = frame.rename(columns={"t_true": "race_true", "t_pred": "race_pred", "t_status": "race_status"})
    frame = frame.rename(columns={"race": "group"})
    head = Head.of(read_predictions(frame), "race", ["group"])
    for strength in range(1, STRENGTHS + 1):
        head.add(("blur", strength), read_predictions(frame))
    tables = robustness_tables({"race": head}, ["group"], ["blur"], AuditSpec(draws=200, min_group_size=10), 0)
    way = PERTURBATIONS["blur"]
    given = {"amounts": way.amounts, "unit": way.unit, "shown": way.shown, "stands_for": way.stands_for}
    meta = {
        "name": "m",
        "n": 90,
        "sampled": "all 90 faces",
        "tasks": {"race": ["a", "b"]},
        "degenerate": [],
        "subgroups": {"group": {"x": 45, "y": 45}},
        "perturbations": {"blur": given},
        "confidence": 0.95,
        "image_size": 32,
        "seed": 0,
        "draws": 200,
        "min_group_size": 10,
        "independence": "",
    }
    found = Robustness(curves=tables[0], gaps=tables[1], tests=tables[2], meta=meta)
    text = write_robustness_report(found, tmp_path).read_text(encoding="utf-8")
    assert 'id="legal-notice"' in text and "5(1)(g)" in text


def test_a_head_without_a_single_label_is_left_out_with_a_word() -> None:
    """The column is there and empty: the other head is probed; asked for by name, it is an error before any work."""
    frame = pd.DataFrame({"image": ["a", "b"], "gender_true": ["F", "M"], "gender_pred": ["F", "F"]})
    frame = frame.assign(age_true=pd.Series([None, None], dtype=object), age_pred=["0-2", "3-9"])
    clean = Predictions(frame=frame, tasks={"gender": ("F", "M"), "age": ("0-2", "3-9")}, attributes=())
    model = SimpleNamespace(classes=clean.tasks)
    assert asked_heads(model, clean, None) == ["gender"]  # type: ignore[arg-type]
    assert unlabelled(clean, ["gender"]) == ["age: no face is labelled, so nothing can fall; left out."]
    with pytest.raises(UsageError, match=r"no labels of 'age' \(they have: gender\)"):
        asked_heads(model, clean, ["age"])  # type: ignore[arg-type]
