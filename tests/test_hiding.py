"""Hidden cells: small ones are gone from every file of a report, and cannot be worked out from what is left."""

import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_data import make_predictions

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.report.ci import junit_xml
from fairaudit.report.hiding import hide_below
from fairaudit.report.render import render_audit, write_report
from fairaudit.report.suppression import EVERYBODY, Cell, hidden_cells
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import UNKNOWN
from fairaudit.verification import verify

K = 20
POLICIES = ("difference(accuracy, race) <= 0.05", "minimum(recall, race:gender) >= 0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit with two small races, some faces without a race, and small intersections."""
    frame = make_predictions(900, shares=(0.4, 0.35, 0.22, 0.018, 0.012), tasks=("gender", "race"), seed=4)
    frame.loc[:6, ["race", "race_true"]] = None
    table = read_predictions(frame)
    out = tmp_path_factory.mktemp("hide") / "audit"
    audit = AuditSpec(draws=100, policies=POLICIES, min_group_size=5)
    run_audit(table, by=["race", "gender", "race:gender"], audit=audit, name="small").save(out, table)
    return out


def recoverable(families: list[list[Cell]], counts: dict[Cell, float], hidden: frozenset[Cell]) -> set[Cell]:
    """Return the hidden cells that have one value only, by the rank of all sums, written down independently."""
    if not hidden:
        return set()
    order = sorted(hidden, key=sorted)
    rows = []
    for total, family in itertools.product(counts, families):
        names = {name for cell in family for name, _ in cell}
        parts = [cell for cell in family if total < cell]
        if {name for name, _ in total} < names and parts:
            rows.append([float(cell in parts) - float(cell == total) for cell in order])
    matrix = np.array(rows).reshape(-1, len(order))
    rank = np.linalg.matrix_rank(matrix) if matrix.size else 0
    units = np.eye(len(order))
    return {c for i, c in enumerate(order) if np.linalg.matrix_rank(np.vstack([matrix, units[i]])) == rank}


def cube(sizes: np.ndarray) -> tuple[list[list[Cell]], dict[Cell, float]]:
    """Return all margins of an array of counts as families of cells, empty cells left out, and their counts."""
    names = [f"a{i}" for i in range(sizes.ndim)]
    counts: dict[Cell, float] = {EVERYBODY: float(sizes.sum())}
    families = []
    for width in range(1, sizes.ndim + 1):
        for axes in itertools.combinations(range(sizes.ndim), width):
            table = sizes.sum(axis=tuple(set(range(sizes.ndim)) - set(axes)))
            cells = {
                frozenset((names[axis], str(i)) for axis, i in zip(axes, place, strict=True)): float(n)
                for place, n in np.ndenumerate(table)
                if n
            }
            counts |= cells
            families.append(list(cells))
    return families, counts


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=12, max_size=12), st.sampled_from([(3, 4), (2, 3, 2), (12,)]))
def test_no_hidden_cell_can_be_worked_out(numbers, shape):
    """Every small cell is hidden, and the sums that are shown leave each hidden cell more than one value."""
    families, counts = cube(np.array(numbers).reshape(shape))
    if counts[EVERYBODY] < 10:
        return
    hidden = hidden_cells(families, counts, 10)
    assert {cell for cell, n in counts.items() if n < 10 and cell != EVERYBODY} <= hidden
    assert EVERYBODY not in hidden
    if all(len(family) > 1 for family in families):
        assert not recoverable(families, counts, hidden)


def test_one_small_cell_hides_a_second_of_its_axis():
    """5 of 100 could be read from the total: the smallest other cell goes, too; with none small all is shown."""
    cells = [frozenset({("race", name)}) for name in "ABC"]
    counts = dict(zip(cells, (5.0, 30.0, 65.0), strict=True)) | {EVERYBODY: 100.0}
    assert hidden_cells([cells], counts, 10) == {cells[0], cells[1]}
    assert hidden_cells([cells], counts, 5) == frozenset()


def test_hidden_figures_are_in_no_file_of_the_folder(folder, tmp_path):
    """No number of a hidden subgroup stands in any page or table; the folder says what was hidden and verifies."""
    whole = AuditResult.load(folder)
    out = tmp_path / "out"
    render_audit(folder, out, below=K)
    shown = hide_below(whole, K)
    sizes = shown.meta["subgroups"]
    hidden = {(by, g) for by, groups in sizes.items() for g, n in groups.items() if n != n}
    small = {(by, g) for by, groups in whole.meta["subgroups"].items() for g, n in groups.items() if n < K}
    assert small <= hidden and any(by == "race:gender" for by, _ in small) and ("race", UNKNOWN) in small
    table = whole.metrics
    gone = table[[pair in hidden for pair in zip(table["by"], table["subgroup"], strict=True)]]
    kept = {f"{v!r}" for v in shown.metrics[["value", "low", "high"]].to_numpy().ravel() if v == v}
    secret = {repr(float(v)) for v in gone[["value", "low", "high"]].to_numpy().ravel() if v == v and 0 < v < 1}
    secret = {v for v in secret if len(v) > 12} - {repr(float(v)) for v in kept if v[0].isdigit()}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(secret) > 50 and {path.suffix for path in files} >= {".html", ".csv", ".json", ".md", ".xml"}
    text = {path: path.read_text(encoding="utf-8") for path in files}
    assert not [(path.name, v) for path, words in text.items() for v in secret if v in words]
    page = text[out / "index.html"]
    assert f"fewer than {K} faces are hidden" in page and "hidden: fewer than" in page
    found = verify(out)
    assert found.differences == () and found.kind == "report"


def test_hidden_subgroups_pages_show_no_figure(folder, tmp_path):
    """The page of a hidden subgroup has dashes and the reason, not one number of its own."""
    render_audit(folder, tmp_path / "out", below=K)
    page = (tmp_path / "out" / "groups" / "race--others.html").read_text(encoding="utf-8")
    body = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.S)
    assert "hidden: fewer than" in body
    assert not re.search(r"\d\u00a0%", body) and "Cells: percent" not in body


def test_the_tables_that_are_written_give_no_hidden_count_away(folder, tmp_path):
    """From metrics.csv, rest.csv and confusion.csv: a total minus the shown subgroups leaves two unknowns at least."""
    render_audit(folder, tmp_path / "out", below=K)
    tables = {p.stem: pd.read_csv(p, keep_default_na=False) for p in (tmp_path / "out" / "tables").glob("*.csv")}
    metrics = tables["metrics"]
    for (task, by), rows in metrics[metrics["metric"] == "accuracy"].groupby(["task", "by"]):
        if by != "overall":
            assert (rows["n"] == "").sum() != 1, (task, by)
    rest = tables["rest"]
    assert (rest.loc[rest["by"] == "race", "n_rest"] == "").all(), "known faces would give the unknown ones away"
    confusion = tables["confusion"]
    counted = confusion.groupby(["task", "by", "subgroup", "true"])["count"].sum()
    assert counted[counted > 0].min() >= K
    findings = tables.get("findings")
    assert findings is None or set(findings.loc[findings["by"] == "race", "kind"]) <= {"gap", "pair"}
    assert not {"pooled", "calibration", "summary"} & set(tables) or (tables["summary"]["by"] != "race").all()


def test_a_later_report_without_hiding_leaves_no_tables(folder, tmp_path):
    """The tables of a hidden report do not stay beside pages that show everything."""
    render_audit(folder, tmp_path / "out", below=K)
    assert list((tmp_path / "out" / "tables").glob("*.csv"))
    render_audit(folder, tmp_path / "out")
    assert not list((tmp_path / "out" / "tables").glob("*.csv")) and verify(tmp_path / "out").differences == ()


def test_what_cannot_be_hidden_is_refused(folder, tmp_path):
    """Into the audit's own folder, with pictures, or above all faces: each is refused, and why is said."""
    with pytest.raises(UsageError, match="folder of its own"):
        render_audit(folder, folder, below=K)
    with pytest.raises(UsageError, match="pictures"):
        render_audit(folder, tmp_path / "x", below=K, faces_root=tmp_path)
    with pytest.raises(UsageError, match="nothing could be shown"):
        render_audit(folder, tmp_path / "x", below=10_000)


def test_nothing_small_leaves_every_figure(tmp_path):
    """Where no cell is small, the report with hiding has the figures of the one without."""
    result = run_audit(make_predictions(600, races=("White", "Black")), by=["race"], audit=AuditSpec(draws=100))
    shown = hide_below(result, 5)
    pd.testing.assert_frame_equal(shown.metrics, result.metrics, check_dtype=False)
    pd.testing.assert_frame_equal(shown.gaps, result.gaps, check_dtype=False)
    assert set(shown.more) == set(result.more)
    write_report(shown, tmp_path / "r")


def test_faces_of_unknown_subgroup_do_not_unlock_the_sums_of_all_others():
    """White × Male and White × Female add up to White though some other faces have no race: one alone is not hidden."""
    race = {name: frozenset({("race", name)}) for name in ("White", "Black", "unknown")}
    crossed = {(r, g): frozenset({("race", r), ("gender", g)}) for r, g in itertools.product(("White", "Black"), "MF")}
    unknown = frozenset({("race:gender", "unknown")})
    counts = {EVERYBODY: 400.0, unknown: 40.0}
    counts |= dict(zip(race.values(), (160.0, 200.0, 40.0), strict=True))
    counts |= dict(zip(crossed.values(), (5.0, 155.0, 100.0, 100.0), strict=True))
    found = hidden_cells([list(race.values()), [*crossed.values(), unknown]], counts, 10)
    assert crossed["White", "M"] in found and found & {crossed["White", "F"], race["White"]}


def test_what_is_known_of_faces_without_a_race_gives_nothing_else_away():
    """With faces of no race: margins keep two unknowns, all axes hide them alike, and no rest tells their labels."""
    frame = make_predictions(900, shares=(0.3, 0.3, 0.3, 0.08, 0.02), tasks=("gender", "age"), seed=0)
    frame.loc[:24, "race"] = None
    axes = ["race", "gender", "race:gender"]
    shown = hide_below(run_audit(frame, by=axes, audit=AuditSpec(draws=100, min_group_size=5)), K)
    sizes = shown.meta["subgroups"]
    assert len({np.isnan(sizes[by][UNKNOWN]) for by in ("race", "race:gender")}) == 1
    table = shown.metrics[shown.metrics["metric"] == "support"].set_index(["task", "by", "subgroup", "class"])["value"]
    lines = 0
    for name, label in itertools.product(("White", "Black", "Asian"), shown.meta["tasks"]["age"]["classes"]):
        places = [("race", name), *(("race:gender", f"{name} × {gender}") for gender in ("Male", "Female"))]
        gone = [np.isnan(table.get(("age", *place, label), np.nan)) for place in places]
        lines += any(gone)
        assert sum(gone) != 1, (name, label)
    assert lines
    classes = {label for label in ("Male", "Female") if np.isnan(table["gender", "race", UNKNOWN, label])}
    rest = shown.rest[(shown.rest["task"] == "gender") & shown.rest["by"].isin(["race", "race:gender"])]
    rest = rest[rest["class"].isin(classes) & (rest["metric"] == "recall")]
    assert classes and len(rest) and rest["n_rest"].isna().all()


def test_a_head_whose_faces_tell_the_unknown_ones_is_left_out(folder, tmp_path):
    """All faces minus those of the race head are the 7 of unknown race: the head is in no file; the page says so."""
    whole = AuditResult.load(folder)
    n = whole.metrics.query("task == 'race' and by == 'overall'")["n"].iloc[0]
    assert whole.meta["n"] - n == 7 == whole.meta["subgroups"]["race"][UNKNOWN] < K
    shown = hide_below(whole, K)
    assert set(shown.meta["tasks"]) == {"gender"} and all("race" not in set(t["task"]) for t in shown.more.values())
    for table in (shown.metrics, shown.rest, shown.gaps, shown.confusion):
        assert set(table["task"]) == {"gender"}
    assert "Left out wholly: race" in shown.meta["warnings"][0]
    page = render_audit(folder, tmp_path / "out", below=K)
    text = "".join(path.read_text(encoding="utf-8") for path in page.parent.rglob("*") if path.is_file())
    assert "Left out wholly: race" in text
    assert "Art. 5(1)(g)" in page.read_text(encoding="utf-8")  # the law on race heads stands, whatever is hidden
    assert "A head infers race" in (page.parent / "summary.md").read_text(encoding="utf-8")
    assert not re.search(rf"(?<![\d.]){int(n)}(?![\d])", re.sub(r"<(style|script|svg).*?</\1>", "", text, flags=re.S))
    kept = hide_below(whole, 5)  # 7 are not fewer than 5
    assert set(kept.meta["tasks"]) == {"gender", "race"}
    table = read_predictions(folder / "predictions.parquet")
    alone = run_audit(table, tasks=["race"], by=["race"], audit=AuditSpec(draws=100))
    with pytest.raises(UsageError, match="give the unknown ones away"):
        hide_below(alone, K)


def test_faces_without_a_prediction_do_not_veil_the_unlabelled_ones():
    """30 faces without a prediction are told of every head, so that all minus them minus the race head's would tell."""
    frame = make_predictions(900, shares=(0.3, 0.2, 0.2, 0.2, 0.1), tasks=("gender", "race"), seed=4)
    frame.loc[:6, ["race", "race_true"]] = None
    frame.loc[20:49, ["gender_pred", "race_pred"]] = None
    whole = run_audit(read_predictions(frame), by=["race", "gender"], audit=AuditSpec(draws=100))
    assert {e["count"] for e in whole.meta["excluded"] if e["task"] == "race"} == {7, 30}
    shown = hide_below(whole, K)
    assert set(shown.meta["tasks"]) == {"gender"} == {e["task"] for e in shown.meta["excluded"]}
    assert "Left out wholly: race" in shown.meta["warnings"][0]


def test_a_hidden_policy_is_no_error_of_the_pipeline(folder):
    """A policy that the audit leaves open, on an axis with hidden cells, is skipped in junit.xml: it was computed."""
    whole = AuditResult.load(folder)
    policies = whole.more["policies"].assign(verdict="inconclusive").query("value == value")
    whole = replace(whole, more={**whole.more, "policies": policies})
    shown = hide_below(whole, K)
    assert shown.more["policies"]["value"].isna().any() and len(policies)
    for result in (whole, shown):
        suite = ET.fromstring(junit_xml({"a": result}))
        assert suite.get("errors") == "0" and suite.get("skipped") == str(len(result.more["policies"]))


@pytest.mark.parametrize("name", ["comparison", "methods", "robustness"])
def test_other_results_are_refused_in_words(tmp_path, name):
    """Nothing but an audit has small cells hidden; the message says what the folder holds."""
    (tmp_path / f"{name}.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds a .*--hide-below is for audits alone"):
        render_audit(tmp_path, tmp_path / "out", below=K)
