"""Policies, frozen plans and exploration through the command line: exit codes, hashes, and what the report says."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from report_data import make_predictions
from test_cli import Fairaudit, fairaudit

from fairaudit.audit import run_audit
from fairaudit.errors import UsageError
from fairaudit.files import value_hash
from fairaudit.plan import freeze, load_plan
from fairaudit.results import AuditResult
from fairaudit.spec import load_spec

__all__ = ["fairaudit"]  # the fixture that runs the command line

SPEC = """
name = "asked beforehand"
question = "Is anybody served worse?"
tasks = ["gender"]
seed = 3
[data]
dataset = "utkface"
[audit]
subgroups = ["race"]
draws = 100
policies = ["difference(accuracy, race) <= 0.05"]
[audit.plan]
reference = { race = "White" }
target = { race = "Black" }
hypotheses = ["contrast(accuracy, race, subgroup=target, against=reference) <= -0.05"]
"""
KEPT, BROKEN, OPEN = (f"difference(accuracy, race) <= {limit}" for limit in (0.4, 0.05, 0.25))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions with Black at .70 among .95, and a spec."""
    folder = tmp_path_factory.mktemp("plan")
    make_predictions(2000, accuracy=0.95, worse={"Black": 0.7}).to_csv(folder / "predictions.csv", index=False)
    (folder / "spec.toml").write_text(SPEC, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("policies", "strict", "expected", "said"),
    [
        ([], False, 0, ""),
        ([KEPT], True, 0, "pass: "),
        ([OPEN, KEPT], False, 0, "inconclusive: "),
        ([OPEN, KEPT], True, 3, "would decide"),
        ([BROKEN, OPEN], True, 1, "fail: "),
        ([BROKEN], False, 1, "fail: "),
    ],
)
def test_the_verdict_is_the_exit_code(
    fairaudit: Fairaudit,
    folder: Path,
    tmp_path: Path,
    policies: list[str],
    strict: bool,
    expected: int,
    said: str,
) -> None:
    """1 where a policy fails, 3 where one stays open and --strict is given, else 0; every verdict is printed."""
    words = [word for policy in policies for word in ("--policy", policy)] + ["--strict"] * strict
    code, out, err = fairaudit(
        "audit", "--predictions", folder / "predictions.csv", "--by", "race", "--out", tmp_path / "a", *words
    )
    assert code == expected, err
    assert said in out
    assert out.count("difference(accuracy, race)") == len(policies)
    assert (tmp_path / "a" / "policies.csv").exists() == bool(policies)
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert ("Plan and policies" in page) == bool(policies)


def test_a_bad_policy_ends_before_anything_is_read(fairaudit: Fairaudit, folder: Path, tmp_path: Path) -> None:
    """Exit code 2, the nearest name, and no audit folder."""
    for policy, said in (("difference(acuracy, race) <= 0.1", "accuracy"), ("diff(accuracy, race) <= 0.1", "differ")):
        code, _, err = fairaudit(
            "audit", "--predictions", folder / "none.csv", "--out", tmp_path / "a", "--policy", policy
        )
        assert code == 2
        assert said in err
    assert not (tmp_path / "a").exists()


def test_a_plan_is_frozen_followed_and_named(fairaudit: Fairaudit, folder: Path, tmp_path: Path) -> None:
    """The plan holds no data; the audit takes its settings, records its hash, and the report says so."""
    plan = tmp_path / "plan.json"
    code, out, err = fairaudit("plan", folder / "spec.toml", "--out", plan)
    assert code == 0, err
    assert "subgroup=Black, against=White" in out
    code, out, err = fairaudit(
        "audit", "--predictions", folder / "predictions.csv", "--plan", plan, "--out", tmp_path / "a"
    )
    assert code == 1, err
    assert "supported: contrast" in out
    result = AuditResult.load(tmp_path / "a")
    frozen = load_plan(plan)
    assert result.meta["hashes"]["plan"] == frozen.sha256
    assert result.meta["plan"]["sha256"] == frozen.sha256
    assert (result.meta["seed"], result.meta["draws"]) == (3, 100)
    assert list(result.meta["subgroups"]) == ["race"]
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert frozen.sha256 in page
    assert "target subgroup by race: Black" in page
    again = fairaudit("plan", folder / "spec.toml", "--out", plan)
    assert again[0] == 2
    assert "not overwritten" in again[2]


def test_the_hash_is_that_of_the_content(folder: Path, tmp_path: Path) -> None:
    """Anybody can recompute it; any change is found, and a plan of nothing is refused."""
    path = tmp_path / "plan.json"
    freeze(load_spec(folder / "spec.toml"), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    stated = content.pop("sha256")
    assert stated == value_hash(content)
    content["audit"]["policies"] = [KEPT]
    path.write_text(json.dumps({**content, "sha256": stated}), encoding="utf-8")
    with pytest.raises(UsageError, match="changed after it was frozen"):
        load_plan(path)
    for text, said in (("{", "cannot be read"), ("[]", "no frozen plan"), ('{"a": 1}', "no frozen plan")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=said):
            load_plan(path)
    odd = {"fairaudit_plan": 1, "name": "x"}
    path.write_text(json.dumps({**odd, "sha256": value_hash(odd)}), encoding="utf-8")
    with pytest.raises(UsageError, match="does not fit"):
        load_plan(path)
    spec = load_spec(folder / "spec.toml")
    nothing = spec.model_copy(update={"audit": spec.audit.model_validate({})})
    with pytest.raises(UsageError, match="nothing to plan"):
        freeze(nothing, tmp_path / "other.json")


@pytest.mark.parametrize(
    "words",
    [("--by", "age"), ("--task", "gender"), ("--policy", KEPT), ("--min-group-size", 5), ("--exploratory",)],
)
def test_what_would_change_the_plan_is_refused(
    fairaudit: Fairaudit,
    folder: Path,
    tmp_path: Path,
    words: tuple[object, ...],
) -> None:
    """Options that the plan fixes, and a spec that differs from it, end with exit code 2."""
    freeze(load_spec(folder / "spec.toml"), tmp_path / "plan.json")
    given = ("audit", "--predictions", folder / "predictions.csv", "--plan", tmp_path / "plan.json")
    code, _, err = fairaudit(*given, "--out", tmp_path / "a", *words)
    assert code == 2
    assert str(words[0]) in err
    other = tmp_path / "other.toml"
    other.write_text(SPEC.replace("0.05", "0.5", 1).replace("seed = 3", "seed = 4"), encoding="utf-8")
    code, _, err = fairaudit(*given, "--out", tmp_path / "a", "--spec", other)
    assert code == 2
    assert "differs from the frozen plan in seed, audit.policies" in err


def test_the_dates_say_which_came_first(fairaudit: Fairaudit, folder: Path, tmp_path: Path) -> None:
    """A file of predictions older than the plan is a warning; a later one is not; a hash proves no date either way."""
    table = tmp_path / "predictions.csv"
    table.write_bytes((folder / "predictions.csv").read_bytes())
    freeze(load_spec(folder / "spec.toml"), tmp_path / "plan.json")
    for date, word, warned in ((4e9, "before the file", False), (1e9, "after the file", True)):
        os.utime(table, (date, date))
        fairaudit("audit", "--predictions", table, "--plan", tmp_path / "plan.json", "--out", tmp_path / "a")
        meta = AuditResult.load(tmp_path / "a").meta
        assert word in meta["plan"]["timing"]
        assert "not when it was written" in meta["plan"]["timing"]
        assert any("in view" in text for text in meta["warnings"]) == warned


def test_exploration_and_population_stand_in_the_report(fairaudit: Fairaudit, folder: Path, tmp_path: Path) -> None:
    """--exploratory and a stated population make their tables and sections; loading gives the same tables."""
    spec = tmp_path / "spec.toml"
    text = SPEC.replace('policies = ["difference(accuracy, race) <= 0.05"]', "").split("[audit.plan]")[0]
    spec.write_text(text + "[audit.population]\nrace = { White = 0.7, Black = 0.3 }\n", encoding="utf-8")
    code, _, err = fairaudit(
        *("audit", "--predictions", folder / "predictions.csv", "--spec", spec, "--out", tmp_path / "a"),
        "--exploratory",
    )
    assert code == 0, err
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert "Discovered and confirmed" in page
    assert "In the stated population" in page
    result = AuditResult.load(tmp_path / "a")
    found = result.table("exploratory")
    assert found["confirmed"].dtype == bool
    assert "Black" in set(found["subgroup"][found["confirmed"]])
    population = result.table("population")
    assert len(population) == len(pd.read_csv(tmp_path / "a" / "population.csv"))
    row = population[population["metric"] == "accuracy"].iloc[0]
    assert row["low"] < 0.7 * 0.95 + 0.3 * 0.7 < row["high"]


def test_strict_needs_enforce(fairaudit: Fairaudit, folder: Path, tmp_path: Path) -> None:
    """`run --strict` alone would be read by nothing."""
    code, _, err = fairaudit("run", folder / "spec.toml", "--data", folder, "--out", tmp_path / "r", "--strict")
    assert code == 2
    assert "--enforce" in err


@pytest.mark.parametrize(("words", "expected"), [((), 0), (("--enforce",), 1), (("--enforce", "--strict"), 1)])
def test_a_run_enforces_only_when_asked(
    fairaudit: Fairaudit,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    expected: int,
) -> None:
    """A complete run prints its verdicts and ends with 0; with --enforce a failing policy ends it with 1."""
    from fairaudit import pipeline

    def run(job: pipeline.Run) -> Path:
        """Stand in for the training: only the audit that a run leaves."""
        frame = pd.read_csv(folder / "predictions.csv")
        result = run_audit(frame, by=["race"], audit=job.spec.audit)
        result.save(job.out / "audits" / "baseline")
        return job.out / "index.html"

    monkeypatch.setattr(pipeline, "run", run)
    code, out, err = fairaudit("run", folder / "spec.toml", "--data", folder, "--out", tmp_path / "r", *words)
    assert code == expected, err
    assert "fail: difference(accuracy, race) <= 0.05" in out
