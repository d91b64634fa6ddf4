"""Crossed tables of a report: cells are the audit's own figures, small ones are hatched, errors have intervals."""

import numpy as np
import pandas as pd
import pytest
from report_data import AGES, GENDERS, make_predictions
from scipy import stats

from fairaudit.audit import run_audit
from fairaudit.report.context import make_context
from fairaudit.report.crossings import crossings_data
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Faces of five races, one of them rare, with two heads."""
    return make_predictions(1500, shares=(0.4, 0.3, 0.2, 0.07, 0.03), tasks=("gender", "age"), seed=5)


@pytest.fixture(scope="module")
def audited(frame: pd.DataFrame) -> AuditResult:
    """Their audit on two axes and the crossing of both."""
    return run_audit(frame, by=["race", "gender", "race:gender"], audit=AuditSpec(draws=100))


def test_every_cell_of_the_heat_map_is_the_audits_figure(audited: AuditResult, frame: pd.DataFrame) -> None:
    """Value and n of each intersection; the lowest assessed cell has the full colour, a small one none but hatching."""
    heat = next(m for m in crossings_data(make_context(audited))["maps"] if m.caption.startswith("Age"))
    assert set(heat.columns) == set(GENDERS)
    assessed, small = [], 0
    for race, line in zip(heat.heads, heat.cells, strict=True):
        for gender, cell in zip(heat.columns, line, strict=True):
            mine = frame[(frame["race"] == race) & (frame["gender"] == gender)]
            right = (mine["age_true"] == mine["age_pred"]).mean()
            assert cell.text == f"{100 * right:.1f}" and cell.sub == str(len(mine))
            assert (cell.css == "few") == (len(mine) < 30)
            small += cell.css == "few"
            if cell.css != "few":
                assessed.append((right, cell.strength))
            else:
                assert cell.strength == 0
    assert small and min(assessed)[1] == 100 and max(assessed)[1] == 0


def test_signed_errors_are_means_with_students_interval(audited: AuditResult, frame: pd.DataFrame) -> None:
    """Mean predicted minus labelled class of one cell, and its interval, as scipy gives them from the faces."""
    (table,) = crossings_data(make_context(audited))["signed"]
    mine = frame[(frame["race"] == "White") & (frame["age"] == "20-29")]
    steps = mine["age_pred"].map(AGES.index).to_numpy() - AGES.index("20-29")
    low, high = stats.t.interval(0.95, len(steps) - 1, steps.mean(), stats.sem(steps))
    cell = table.cells[list(table.heads).index("White (race)")][list(table.columns).index("20-29")]
    assert cell.text == f"{steps.mean():+.2f}" and cell.css == "above"
    shown = [f"{abs(edge):.2f}" for edge in (low, high)]
    assert all(text in cell.sub for text in shown) and f"n\u00a0=\u00a0{len(steps)}" in cell.sub


def test_what_the_data_do_not_allow_is_said(frame: pd.DataFrame, audited: AuditResult) -> None:
    """No probabilities, no years, no crossing, no attribution, no history: each has its line, and no line too many."""
    without = " ".join(crossings_data(make_context(audited))["absent"])
    assert all(word in without for word in ("probabilities", "in years", "attribution", "history", "two models"))
    assert "heat map" not in without
    single = run_audit(frame, tasks=["gender"], by=["race"], audit=AuditSpec(draws=100))
    data = crossings_data(make_context(single, history=pd.DataFrame({"epoch": [1], "train_loss": [np.nan]})))
    assert not data["maps"] and not data["signed"]
    assert any("heat map" in line for line in data["absent"]) and not any("history" in line for line in data["absent"])
