"""The report's sections on criteria, spread, Gender Shades, directed confusions, impact ratios and own metrics."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from one_analysis import audit_with, frame_of

from fairaudit.report.confusions import confusions_data
from fairaudit.report.context import Context, make_context
from fairaudit.report.criteria import criteria_data, shades_data, spread_data
from fairaudit.report.impact import custom_data, impact_data
from fairaudit.report.render import render_audit
from fairaudit.results import AuditResult

TABLES = ("criteria", "summary", "directed", "attraction", "pairs", "impact", "custom")
HOSTILE = "<b>&x</b>"


def first_class_share(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """A user's metric."""
    return float((y_pred == "Female").mean())


def faces() -> pd.DataFrame:
    """Gender by race, women of one (hostile) race often taken for men, an unknown and a tiny race; who was hired."""
    cubes = {"White": [[190, 10], [10, 190]], HOSTILE: [[120, 80], [10, 190]], "few": [[5, 4], [3, 4]]}
    frame = frame_of({**cubes, None: [[20, 20], [20, 20]]}, ["Female", "Male"])
    return frame.assign(hired_pred=np.where(frame.index % 3 == 0, "yes", "no"), gender=frame["gender_true"])


@pytest.fixture(scope="module")
def result() -> AuditResult:
    """The audit of those faces with every table that these sections read."""
    options = {"by": ["race", "gender", "race:gender"], "selection": {"task": "hired", "class": "yes"}}
    return audit_with(faces(), *TABLES, metrics=(first_class_share,), draws=200, **options)


@pytest.fixture(scope="module")
def context(result: AuditResult) -> Context:
    """The same as the report reads it."""
    return make_context(result)


def texts(table: object) -> list[list[str]]:
    """Every row of a printed table as its texts."""
    return [[row.head, *(str(entry.text) for entry in row.entries)] for row in table.rows]  # type: ignore[attr-defined]


def test_criteria_say_which_can_hold_and_print_no_empty_lines(context: Context) -> None:
    """One line a criterion and axis that can mean something; undefined ones on degenerate axes are left out."""
    data = criteria_data(context)
    assert data is not None and "cannot all hold" in data["lines"][0]
    (_, table), *more = data["tables"]
    rows = texts(table)
    assert [row[0] for row in rows] == [
        *("Demographic parity", "Equal opportunity", "Equalized odds", "Predictive parity"),
        *("Overall accuracy equality", "Base rates (the premise)"),
    ]
    opportunity = rows[1]
    assert opportunity[1] == "race" and opportunity[2].startswith("35.0\u00a0points (")
    assert opportunity[4:6] == ["recall of Female", f"{HOSTILE} – White"] and opportunity[-1] == "difference shown"
    crossed = texts(more[0][1])
    assert [(row[0], row[1]) for row in crossed] == [("Equal opportunity", "race × gender")]
    hired = texts(more[1][1])
    assert {row[0] for row in hired} == {"Demographic parity"}


def test_spread_stands_beside_what_noise_gives(context: Context) -> None:
    """FairFace's row has every statistic; those that noise raises name its share, and degenerate ones the reason."""
    data = spread_data(context)
    assert data is not None
    rows = {row[0]: row for row in texts(data["tables"][0][1])}
    assert rows["race"][1:4] == ["accuracy", "2", "800"]
    assert all("; noise: " in text for text in rows["race"][7:])
    assert rows["gender"][1] == "recall by labelled class" and "noise" not in rows["gender"][7]


def test_gender_shades_table_shows_each_gender_apart(context: Context) -> None:
    """Recall of women and men by race with n, precision and false positive rates, and both gaps in words."""
    data = shades_data(context)
    assert data is not None
    assert any("Recall of Female across race: gap 35.0\u00a0points" in line for line in data["lines"])
    rows = {row[0]: row for row in texts(data["tables"][0][1])}
    assert rows[HOSTILE][2].startswith("60.0\u00a0% (") and rows[HOSTILE][2].endswith("n\u00a0=\u00a0200")
    assert len(rows[HOSTILE]) == 7
    assert shades_data(make_context(audit_with(faces().drop(columns="race"), by=["gender"]))) is None


def test_directed_confusions_name_who_and_how_much(context: Context) -> None:
    """The planted confusion is named with its excess and n; a pair guessed at random is not called told apart."""
    data = confusions_data(context)
    assert data is not None
    assert f"faces labelled Female in {HOSTILE} are predicted Male" in data["lines"][0]
    found = texts(data["tables"][0][1])
    assert found[0][:3] == ["Female → Male", f"{HOSTILE} (race)", "80 of 200"]
    (pairs,) = [table for _, table in data["tables"] if "not shown to be told apart" in table.caption]
    assert [row[:2] for row in texts(pairs)] == [["Male / Female", "unknown (race)"]]


def test_impact_ratios_or_why_not(context: Context) -> None:
    """Where an output selects, tables with the number of unknown; where none does, the sentence that says why not."""
    data = impact_data(context)
    assert data is not None and "Faces of unknown category, in no ratio: race: 80" in data["lines"][1]
    assert {row[0] for row in texts(data["tables"][0][1])} == {"White", HOSTILE, "few", "unknown"}
    plain = impact_data(make_context(audit_with(faces().drop(columns="hired_pred"), "impact", by=["race"])))
    assert plain is not None and plain["tables"] == [] and "selects nobody" in plain["lines"][0]


def test_own_metrics_say_how_they_were_made(context: Context) -> None:
    """Values, the gap, and the method with its draws; axes without a meaning are named once."""
    data = custom_data(context)
    assert data is not None
    captions = [table.caption for _, table in data["tables"]]
    name = "test_report_criteria:first_class_share"
    assert captions[:2] == [f"{name}: all faces", f"{name}: highest against lowest subgroup"]
    assert "bootstrap (BCa), 200 draws" in data["remarks"][0]
    assert sum("determines the label" in text for text in data["remarks"]) == 1
    assert custom_data(make_context(audit_with(faces(), by=["race"]))) is None


def test_pages_print_the_sections_and_escape_names(result: AuditResult, tmp_path: Path) -> None:
    """A saved audit with all these tables renders; each table has a caption; a hostile race name stays text."""
    result.save(tmp_path)
    again = AuditResult.load(tmp_path)
    for name in TABLES:
        pd.testing.assert_frame_equal(result.table(name), again.table(name), check_dtype=False)
    page = render_audit(tmp_path, tmp_path).read_text(encoding="utf-8")
    for key in ("criteria", "spread", "shades", "confusions", "impact", "custom"):
        assert f'<section id="{key}"' in page
    assert HOSTILE not in page and "&lt;b&gt;&amp;x&lt;/b&gt;" in page
    assert len(re.findall(r"<table[^>]*>\s*<caption>", page)) == page.count("<table")
