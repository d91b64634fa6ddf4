"""The command line as a user types it: exit codes, plain messages, and the whole road on a few made-up faces."""

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairaudit import cli
from fairaudit.console import Bars
from fairaudit.results.columns import METRIC_COLUMNS

TINY = """
name = "tiny"
tasks = ["gender", "age"]
[data]
dataset = "manifest"
manifest = "manifest.csv"
[split]
train = 0.5
val = 0.2
[model]
backbone = "small_cnn"
weights = "none"
image_size = 32
shared = 16
[training]
epochs = 1
head_epochs = 1
batch_size = 16
[audit]
subgroups = ["race", "gender"]
min_group_size = 5
draws = 200
[[mitigations]]
method = "reweighing"
by = "race"
[attribution]
faces_per_head = 4
steps = 8
[robustness]
perturbations = ["noise"]
faces = 10
"""

COMMANDS = (
    *("demo", "run", "train", "predict", "audit", "attribute", "compare", "report", "list", "data synthesize"),
    *("power", "plan", "robustness"),
)

Fairaudit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fairaudit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fairaudit:
    """Run the command line in this process; return its exit code, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fairaudit", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 120 tiny faces, whose brightness goes with gender, with a manifest and a spec."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        gender, age, race = ("Male", "Female")[i % 2], (5, 25, 45)[i % 3], ("A", "B")[(i // 2) % 2]
        pixels = rng.integers(0, 120, (32, 32, 3)) + (120 if gender == "Male" else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        rows.append({"image": f"{i}.png", "gender": gender, "age": age, "race": race})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a predictions table of 200 rows with a planted gap for the faces labelled B."""
    rng = np.random.default_rng(1)
    truth = rng.choice(["Male", "Female"], 200)
    race = np.repeat(["A", "B"], 100)
    wrong = rng.random(200) < np.where(race == "A", 0.02, 0.5)
    predicted = np.where(wrong, np.where(truth == "Male", "Female", "Male"), truth)
    frame = pd.DataFrame(
        {"image": [f"{i}.jpg" for i in range(200)], "gender_true": truth, "gender_pred": predicted, "race": race}
    )
    frame.to_csv(tmp_path / "predictions.csv", index=False)
    return tmp_path / "predictions.csv"


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "data check", "data summary", "data merge"],
)
def test_every_command_explains_itself(fairaudit: Fairaudit, command: str) -> None:
    """`--help` works everywhere and says what the command is for."""
    code, out, _ = fairaudit(*command.split(), "--help")
    assert code == 0
    assert "Usage" in out


def test_help_and_audit_load_no_torch(table: Path, tmp_path: Path) -> None:
    """Auditing a table and rendering its report never imports torch."""
    script = (
        "import sys; from fairaudit import cli; sys.argv = ['fairaudit', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    for words in (["--help"], ["audit", "--predictions", str(table), "--out", str(tmp_path / "a")]):
        subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)


def test_audit_of_a_table_finds_the_planted_gap(fairaudit: Fairaudit, table: Path, tmp_path: Path) -> None:
    """The gap's interval excludes zero, the tables have the promised columns, the pages exist."""
    code, _, err = fairaudit("audit", "--predictions", table, "--out", tmp_path / "audit")
    assert code == 0, err
    gaps = pd.read_csv(tmp_path / "audit" / "gaps.csv")
    row = gaps[(gaps["by"] == "race") & (gaps["metric"] == "accuracy")].iloc[0]
    assert row["worst"] == "B"
    assert 0.2 < row["difference_low"] < row["difference"] < row["difference_high"]
    metrics = pd.read_csv(tmp_path / "audit" / "metrics.csv")
    assert tuple(metrics.columns)[: len(METRIC_COLUMNS)] == METRIC_COLUMNS
    assert (tmp_path / "audit" / "index.html").exists()
    assert len(list((tmp_path / "audit" / "groups").glob("*.html"))) >= 2


def test_names_are_mapped_on_the_command_line(fairaudit: Fairaudit, table: Path, tmp_path: Path) -> None:
    """`sex`/`Man` become `gender`/`Male`."""
    frame = pd.read_csv(table).rename(columns={"gender_true": "sex", "gender_pred": "guess"})
    frame = frame.replace({"Male": "Man"})
    frame.to_csv(tmp_path / "other.csv", index=False)
    code, _, err = fairaudit(
        *("audit", "--predictions", tmp_path / "other.csv", "--out", tmp_path / "audit"),
        *("--rename", "gender_true=sex", "--rename", "gender_pred=guess"),
        *("--value", "gender_true.Man=Male", "--value", "gender_pred.Man=Male"),
    )
    assert code == 0, err
    meta = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert meta["tasks"]["gender"]["classes"] == ["Male", "Female"]


def test_compare_pairs_two_audits(fairaudit: Fairaudit, table: Path, tmp_path: Path) -> None:
    """A model against itself changes nothing; a better one helps the group that was worse off."""
    better = pd.read_csv(table)
    better["gender_pred"] = better["gender_true"]
    better.to_csv(tmp_path / "better.csv", index=False)
    assert fairaudit("audit", "--predictions", table, "--out", tmp_path / "a")[0] == 0
    assert fairaudit("audit", "--predictions", tmp_path / "better.csv", "--out", tmp_path / "b")[0] == 0
    code, _, err = fairaudit("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c")
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "c" / "comparison.csv")
    row = rows[(rows["by"] == "race") & (rows["subgroup"] == "B") & (rows["metric"] == "accuracy")].iloc[0]
    assert row["delta"] > 0.3 and row["low"] > 0 and row["p_value"] < 1e-6 and row["n"] == 100
    assert (tmp_path / "c" / "index.html").exists()


def test_run_does_the_whole_road_and_then_skips_it(fairaudit: Fairaudit, faces: Path, tmp_path: Path) -> None:
    """Everything promised is written; a second call does nothing again."""
    out = tmp_path / "run"
    code, _, err = fairaudit("run", faces / "tiny.toml", "--data", faces, "--out", out)
    assert code == 0, err
    for part in (
        "checkpoints/baseline/model.safetensors",
        "checkpoints/reweighing/model.json",
        "predictions/baseline.parquet",
        "audits/baseline/index.html",
        "audits/reweighing/metrics.csv",
        "comparison/index.html",
        "comparison/gap_changes.csv",
        "robustness/baseline/robustness_tests.csv",
        "robustness/reweighing/index.html",
        "data/findings.csv",
        "index.html",
    ):
        assert (out / part).exists(), part
    state = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    code, _, err = fairaudit("run", faces / "tiny.toml", "--data", faces, "--out", out)
    assert code == 0, err
    assert err.count("skipped") >= 10 and "robustness reweighing: unchanged" in err
    assert state == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    pages = list(out.rglob("*.html"))
    links = [(page, link) for page in pages for link in re.findall(r'(?:src|href)="([^"#]+)', page.read_text())]
    inside = [(page.parent / link).resolve() for page, link in links if not link.startswith("data:")]
    assert len(inside) > 50
    assert all(path.is_relative_to(out.resolve()) and path.is_file() for path in inside)

    for folder in (out, out / "comparison", out / "audits" / "baseline", out / "audits" / "reweighing"):
        code, said, err = fairaudit("verify", folder)
        assert code == 0, (folder, said, err)

    checkpoint = out / "checkpoints" / "baseline"
    code, _, err = fairaudit("audit", "--checkpoint", checkpoint, "--data", faces, "--out", tmp_path / "again")
    assert code == 0, err
    first = pd.read_csv(out / "audits" / "baseline" / "metrics.csv")
    again = pd.read_csv(tmp_path / "again" / "metrics.csv")
    same = first.merge(again, on=["task", "by", "subgroup", "metric", "class"], suffixes=("", "_again"))
    assert len(same) > 20
    np.testing.assert_allclose(same["value"], same["value_again"], atol=1e-12)

    code, _, err = fairaudit("predict", checkpoint, "--data", faces, "--out", tmp_path / "p.parquet", "--split", "all")
    assert code == 0, err
    assert len(pd.read_parquet(tmp_path / "p.parquet")) == 120
    code, _, err = fairaudit("audit", "--predictions", tmp_path / "p.parquet", "--out", tmp_path / "seen")
    assert code == 0, err
    seen = json.loads((tmp_path / "seen" / "audit.json").read_text())
    assert len(seen["hashes"]["checkpoint"]) == 64
    warnings = " ".join(seen["warnings"])
    assert "train" in warnings, "an audit that meets the training faces again must say so"

    code, _, err = fairaudit("attribute", checkpoint, "--data", faces, "--out", tmp_path / "maps", "--steps", 9)
    assert code == 0, err
    maps = json.loads((tmp_path / "maps" / "attribution.json").read_text())
    assert (maps["sampled_by"], maps["steps"], len(maps["images"])) == ("race", 9, 4), "the spec's, but for --steps"

    without = write(tmp_path / "without.toml", (faces / "tiny.toml").read_text().replace("= 4", "= 0"))
    (out / "audits" / "baseline" / "gaps.csv").unlink()
    assert '<section id="attribution"' in (out / "audits" / "baseline" / "index.html").read_text()
    code, _, err = fairaudit("run", without, "--data", faces, "--out", out)
    assert code == 0, err
    assert (out / "audits" / "baseline" / "gaps.csv").exists(), "a lost table is made again"
    assert '<section id="attribution"' not in (out / "audits" / "baseline" / "index.html").read_text()


def test_remarks_are_seen_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A remark (no steps) is printed at once; a short stage is not."""
    with Bars() as bars:
        bars("train", 0, 0, "continued after epoch 3")
        bars("audit", 1, 1)
    assert "train: continued after epoch 3" in capsys.readouterr().err


def test_list_names_everything_that_a_spec_may_name(fairaudit: Fairaudit) -> None:
    """Each kind has its line, with a name that is known to exist."""
    code, out, err = fairaudit("list")
    assert code == 0, err
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    known = {"audits": "utkface", "metrics": "accuracy", "attributions": "integrated-gradients", "schemes": "race7"}
    known |= {"datasets": "folders", "backbones": "mobilefacenet", "mitigations": "reweighing", "sections": "verdict"}
    known |= {"schemas": "audit", "presets": "fairface-resnet34", "perturbations": "blur"}
    assert lines.keys() == known.keys()
    assert all(name in lines[kind] for kind, name in known.items())


def write(path: Path, text: str) -> Path:
    """Write a small file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path


def test_wrong_use_and_bad_specs_exit_with_2(fairaudit: Fairaudit, faces: Path, table: Path, tmp_path: Path) -> None:
    """Each message says what was given and what is allowed."""
    spec, out = faces / "tiny.toml", tmp_path / "out"
    text = spec.read_text()
    typo = write(tmp_path / "typo.toml", text.replace("small_cnn", "smal_cnn"))
    axis = write(tmp_path / "axis.toml", text.replace('["race", "gender"]', '["rase"]'))
    degenerate = write(tmp_path / "degenerate.toml", text.replace('by = "race"', 'by = "gender:age"'))
    dataset = write(tmp_path / "dataset.toml", text.replace('"manifest"\n', '"manifst"\n', 1))
    cases = [
        (("run", spec, "--data", tmp_path / "none", "--out", out), "not a folder"),
        (("run", typo, "--data", faces, "--out", out), "small_cnn"),
        (("run", axis, "--data", faces, "--out", out), "race"),
        (("run", degenerate, "--data", faces, "--out", out), "subgroup determines"),
        (("run", dataset, "--data", faces, "--out", out), "manifest"),
        (("run", tmp_path / "none.toml", "--data", faces, "--out", out), "does not exist"),
        (("run", spec, "--data", faces, "--out", table.parent), "not a fairaudit run"),
        (("audit", "--out", out), "either --predictions"),
        (("audit", "--predictions", table, "--out", out, "--by", "rase"), "race"),
        (("audit", "--predictions", table, "--out", out, "--task", "gendr"), "gender"),
        (("audit", "--predictions", table, "--out", out, "--rename", "gender"), "ours=theirs"),
        (("list", "colours"), "audits"),
        (("compare", table, "--out", out), "at least one other"),
        (("data", "check", "--data", faces), "--dataset"),
    ]
    for number, (words, fragment) in enumerate(cases):
        fresh = tmp_path / f"out{number}"
        code, _, err = fairaudit(*(fresh if word is out else word for word in words))
        assert code == 2, (words, err)
        assert fragment in err, (words, err)
        assert not (fresh / "checkpoints").exists()


def test_unusable_data_and_checkpoints_exit_with_4(fairaudit: Fairaudit, faces: Path, tmp_path: Path) -> None:
    """A folder without faces, an empty table, a pickle dressed as a checkpoint."""
    empty = tmp_path / "empty"
    empty.mkdir()
    disguised = tmp_path / "disguised"
    disguised.mkdir()
    (disguised / "model.safetensors").write_bytes(pickle.dumps({"weights": 1}))
    (disguised / "model.json").write_text("{}", encoding="utf-8")
    nothing = write(tmp_path / "nothing.csv", "")
    cases = [
        ("data", "check", "--data", empty, "--dataset", "utkface"),
        ("audit", "--checkpoint", disguised, "--data", faces, "--out", tmp_path / "o"),
        ("audit", "--checkpoint", tmp_path / "absent", "--data", faces, "--out", tmp_path / "o"),
        ("audit", "--predictions", nothing, "--out", tmp_path / "o"),
        ("audit", "--predictions", tmp_path / "absent.csv", "--out", tmp_path / "o"),
        ("report", empty, "--out", tmp_path / "o"),
        ("compare", empty, disguised, "--out", tmp_path / "o"),
    ]
    for words in cases:
        code, _, err = fairaudit(*words)
        assert code == 4, (words, err)
        assert len(err.strip()) > 20
        assert not (tmp_path / "o").exists()


def test_a_report_does_not_cover_the_pages_of_other_results(fairaudit: Fairaudit, table: Path, tmp_path: Path) -> None:
    """Its pages would stand beside an audit that they do not show, and `verify` would find both whole."""
    for name in ("a", "b"):
        code, _, err = fairaudit("audit", "--predictions", table, "--by", "race", "--out", tmp_path / name)
        assert code == 0, err
    before = (tmp_path / "b" / "index.html").read_bytes()
    code, _, err = fairaudit("report", tmp_path / "a", "--out", tmp_path / "b")
    assert code == 2
    assert "results of its own" in err
    assert (tmp_path / "b" / "index.html").read_bytes() == before
    for _ in range(2):
        assert fairaudit("report", tmp_path / "a", "--out", tmp_path / "pages")[0] == 0
    assert fairaudit("verify", tmp_path / "pages")[0] == 0


def test_an_interrupt_ends_with_130(fairaudit: Fairaudit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C says how to go on."""

    def interrupted(*words: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fairaudit.pipeline.run_demo", interrupted)
    code, _, err = fairaudit("demo", "--out", tmp_path / "demo")
    assert code == 130
    assert "same command again" in err


def test_merge_overwrites_nobody_and_needs_sets_to_merge(fairaudit: Fairaudit, faces: Path, tmp_path: Path) -> None:
    """The labels that lie there already survive; a spec of one set is refused."""
    before = (faces / "manifest.csv").read_bytes()
    code, _, err = fairaudit("data", "merge", faces / "tiny.toml", "--data", faces, "--out", faces / "manifest.csv")
    assert code == 2 and "exists already" in err
    assert (faces / "manifest.csv").read_bytes() == before
    code, _, err = fairaudit("data", "merge", faces / "tiny.toml", "--data", faces, "--out", tmp_path / "m.csv")
    assert code == 2 and "[[data.sources]]" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--split", "test"), "--split means nothing"),
        (("--device", "cuda"), "--device means nothing"),
        (("--dataset", "utkface"), "--dataset means nothing"),
        (("--data", "."), "--data without --show-faces means nothing"),
        (("--data", "no-such-folder", "--show-faces"), "is not a folder"),
    ],
)
def test_options_that_a_table_does_not_read_are_refused(
    fairaudit: Fairaudit, table: Path, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    """No option is parsed and ignored."""
    code, _, err = fairaudit("audit", "--predictions", table, "--out", tmp_path / "a", *more)
    assert code == 2
    assert words in err
    assert not (tmp_path / "a").exists()


def test_gaps_are_adjusted_for_what_is_named(fairaudit: Fairaudit, table: Path, tmp_path: Path) -> None:
    """--adjust-for makes adjusted.csv and its section; a column that is not there, or a prediction, exits with 2."""
    code, _, err = fairaudit("audit", "--predictions", table, "--out", tmp_path / "a", "--adjust-for", "label_mix")
    assert code == 0, err
    found = pd.read_csv(tmp_path / "a" / "adjusted.csv")
    assert set(found["covariates"]) == {"label_mix"} and found["adjusted"].notna().any()
    assert "Adjusted gaps" in (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    for name, words in (("gender_pred", "comes from the prediction"), ("hair", "no such column")):
        code, _, err = fairaudit("audit", "--predictions", table, "--out", tmp_path / "b", "--adjust-for", name)
        assert code == 2 and words in err
    assert not (tmp_path / "b").exists()


def test_one_value_is_mapped_once(fairaudit: Fairaudit, table: Path, tmp_path: Path) -> None:
    """Two contradicting maps are refused: neither wins in silence."""
    maps = ("--value", "race.A=B", "--value", "race.A=C")
    code, _, err = fairaudit("audit", "--predictions", table, "--out", tmp_path / "a", *maps)
    assert code == 2
    assert "was given before as 'B'" in err
