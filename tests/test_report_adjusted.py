"""The sections on adjusted gaps and on wrong labels: what they say, what they never say, and when they are absent."""

import pytest
from one_analysis import audit_with
from report_data import make_predictions

from fairaudit.covariates import MEDIATOR
from fairaudit.report.adjusted import adjusted_data
from fairaudit.report.context import Context, make_context
from fairaudit.report.label_noise import label_noise_data
from fairaudit.report.render import write_report

NOISE = {"rate": 0.03, "membership": {"race": 0.04}}


@pytest.fixture(scope="module")
def context() -> Context:
    """One audit with both analyses, of a head with a gap by race and on an axis made of its label."""
    frame = make_predictions(1500, worse={"Black": 0.7})
    tables = ("adjusted", "label_noise")
    return make_context(
        audit_with(frame, *tables, by=["race", "race:gender"], adjust_for=("age", "label_mix"), label_noise=NOISE)
    )


def test_raw_and_adjusted_gaps_stand_side_by_side(context: Context) -> None:
    """The headline gap of each axis with all of its figures; the covariates, the target and the mediator are named."""
    data = adjusted_data(context)
    assert data is not None
    assert data["covariates"] == "age and the head’s own labels"
    assert data["mediator"] == MEDIATOR
    assert data["line"].startswith("Of 1 gap in accuracy, 1 is beyond noise as it is, 1")
    table = data["heads"][0]["gaps"]
    assert [row.head for row in table.rows] == ["race", "race × gender"]
    texts = [e.text for e in table.rows[0].entries]
    assert texts[0] == "accuracy" and "Black" in texts[4]
    assert all("points (" in text for text in (*texts[1:4], texts[5]))
    assert table.rows[1].entries[0].text.startswith("recall of")


def test_bounds_and_corrections_are_told_apart(context: Context) -> None:
    """At stated rates one range; corrections of labels and of membership with their rates."""
    data = label_noise_data(context)
    assert data is not None and data["stated"]
    assert data["bounds"].columns[3] == "at the stated rates"
    assert [row.head for row in data["bounds"].rows] == ["gender by race", "gender by race × gender"]
    methods = [(row.entries[1].text, row.entries[2].text) for row in data["inverted"][0].rows]
    assert methods == [("labels inverted", "3.0\u00a0%"), ("membership inverted", "4.0\u00a0%")]


def test_without_stated_rates_a_grid_is_shown_and_nothing_adjusted() -> None:
    """By default four columns of ranges; no section on adjusted gaps, none on labels where a task has none."""
    frame = make_predictions(600)
    context = make_context(audit_with(frame, "adjusted", "label_noise", by=["race"]))
    assert adjusted_data(context) is None
    data = label_noise_data(context)
    assert data is not None and not data["inverted"]
    assert [c for c in data["bounds"].columns if "wrong" in c] == [f"{e}\u00a0% wrong" for e in (1, 2, 5, 10)]
    unlabelled = make_context(audit_with(frame.drop(columns="gender_true"), "label_noise", by=["race"]))
    assert label_noise_data(unlabelled) is None


def test_no_page_explains_a_gap_away(context: Context, tmp_path) -> None:
    """The page has both sections once, calls covariates possible mediators, and the labels' origin caps its claims."""
    text = write_report(context.result, tmp_path / "report").read_text(encoding="utf-8")
    assert text.count('<section id="adjusted"') == 1 and text.count('<section id="labels"') == 1
    assert (
        "possible mediator" in text and "explained" not in text.split('<section id="adjusted"')[1].split("</section")[0]
    )
    assert "on this sample and these labels only" in text
