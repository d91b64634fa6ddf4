"""Crossed tables of a report: cells are the audit's own figures, small ones are hatched, errors have intervals."""

import re

import numpy as np
import pandas as pd
import pytest
from report_data import AGES, GENDERS, make_predictions
from scipy import stats

from fairaudit.audit import run_audit
from fairaudit.metrics.intervals import wilson
from fairaudit.report.composition import composition_data, counts_of
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
            bounds = "–".join(f"{100 * edge:.1f}" for edge in wilson(right, len(mine), 1.959964))
            assert cell.sub == f"({bounds})\nn\u00a0{len(mine)}"
            assert cell.text == f"{100 * right:.1f}" + ("\u00a0◇" if len(mine) < 30 else "")
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
    assert all(text in cell.sub for text in shown) and f"n\u00a0{len(steps)}" in cell.sub


def test_what_the_data_do_not_allow_is_said(frame: pd.DataFrame, audited: AuditResult) -> None:
    """No probabilities, no years, no crossing, no attribution, no history: each has its line, and no line too many."""
    without = " ".join(crossings_data(make_context(audited))["absent"])
    assert all(word in without for word in ("probabilities", "in years", "attribution", "history", "two models"))
    assert "heat map" not in without
    single = run_audit(frame, tasks=["gender"], by=["race"], audit=AuditSpec(draws=100))
    data = crossings_data(make_context(single, history=pd.DataFrame({"epoch": [1], "train_loss": [np.nan]})))
    assert not data["maps"] and not data["signed"]
    assert any("heat map" in line for line in data["absent"]) and not any("history" in line for line in data["absent"])


def test_distances_of_an_ordered_head_stand_by_the_crossing_of_two_others(audited: AuditResult) -> None:
    """How far off, by mean and within one and two classes: the audit's own figures, with n; small rows marked."""
    (table,) = crossings_data(make_context(audited))["distances"]
    assert table.rows[0].head == "all faces" and len(table.rows) == 11
    context = make_context(audited)
    for row in table.rows[1:]:
        cell = context.cell("age", "race:gender", row.head, "mae_bins")
        assert row.entries[0].text == f"{cell.n:,.0f}" and row.entries[1].text.startswith(
            f"{cell.value:.2f}\u00a0bins ("
        )
        assert row.small == (cell.n < 30)
    assert any(row.small for row in table.rows)


def test_a_mosaic_has_every_face_once_in_bars_and_numbers(frame: pd.DataFrame, audited: AuditResult) -> None:
    """Parts of a bar are as wide as their faces are many, on one scale; the numbers beside are crosstab's."""
    (table,) = composition_data(make_context(audited))["mosaics"]
    cross = pd.crosstab(frame["race"], frame["gender"])
    longest = cross.sum(axis=1).max()
    names = [re.sub(r"<.*?>", "", column).strip() for column in table.columns[2:]]
    for row in table.rows:
        wide = [float(w) for w in re.findall(r' width="([\d.]+)%"', row.entries[1].text)]
        shown = [int(entry.text.replace(",", "").removesuffix("\u00a0◇")) for entry in row.entries[2:]]
        assert dict(zip(names, shown, strict=True)) == cross.loc[row.head].to_dict()
        np.testing.assert_allclose(wide, [100 * n / longest for n in shown], atol=0.006)
        assert [entry.text.endswith("◇") for entry in row.entries[2:]] == [n < 30 for n in shown]


def test_what_a_name_keeps_from_being_crossed_is_said(frame: pd.DataFrame) -> None:
    """A value that holds the sign between names: no mosaic can be told apart, and the page says of which attribute."""
    named = frame.assign(race=frame["race"].astype(str).replace(frame["race"].iloc[0], "a × b"))
    context = make_context(run_audit(named, by=["race", "gender", "race:gender"], audit=AuditSpec(draws=100)))
    found = composition_data(context)
    assert not found["mosaics"] and found["untold"] == ["race"]
    assert (
        composition_data(make_context(run_audit(frame, by=["race", "gender"], audit=AuditSpec(draws=100))))["untold"]
        == []
    )


def test_counts_of_a_pair_come_from_a_larger_crossing_without_the_unknown(frame: pd.DataFrame) -> None:
    """Where only race × gender × age is audited, pairs are its margins; faces of unknown race are counted apart."""
    table = frame.copy()
    table.loc[:9, "race"] = None
    context = make_context(
        run_audit(table, by=["race", "gender", "age", "race:gender:age"], audit=AuditSpec(draws=100))
    )
    counts, unknown = counts_of(context, ["race", "gender"])
    known = table.dropna(subset=["race"])
    assert counts == pd.crosstab(known["race"], known["gender"]).stack().to_dict() and unknown == 10
    found = composition_data(context)
    assert len(found["mosaics"]) == 3 and "10 whose label of either is unknown" in found["mosaics"][0].caption
    cells = [cell for line in found["crossed"].cells for cell in line]
    assert sum(int(c.text.removesuffix("\u00a0◇")) for c in cells) == len(known) and len(cells) == 5 * 2 * 9
