"""Deletion and insertion curves on the page: drawn to scale beside random orders, and no pass where none was shown."""

import re

import pytest
from report_data import make_attribution, make_predictions

from fairaudit.audit import run_audit
from fairaudit.report.render import write_report
from fairaudit.spec import AuditSpec


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of an audit of two heads with an attribution whose curves are straight lines."""
    result = run_audit(make_predictions(400, tasks=("gender", "age")), by=["race"], audit=AuditSpec(draws=100))
    attribution = make_attribution({"race": result.meta["subgroups"]["race"]}, tasks=("gender", "age"))
    return write_report(result, tmp_path_factory.mktemp("page"), attribution=attribution).read_text(encoding="utf-8")


def test_curves_are_drawn_to_scale_beside_random_orders(page):
    """Four charts a head, each with three lines whose ends lie where 90, 20 and 40 % of the height are."""
    table = page.split("Probability of the explained class as cells are")[1].split("</table>")[0]
    charts = re.findall(r"<svg.*?</svg>", table, re.DOTALL)
    assert len(charts) == 2 * 4
    for chart in charts:
        lines = re.findall(r'<polyline[^>]*points="([^"]+)"', chart)
        ends = [[tuple(map(float, place.split(","))) for place in line.split()] for line in lines]
        assert [len(line) for line in ends] == [5, 5, 5]
        for line, last in zip(ends, (0.4, 0.4, 0.2), strict=True):  # random orders below, the attribution's on top
            assert line[0] == (14.0, pytest.approx(80 - 0.9 * 66, abs=0.06))
            assert line[-1] == (118.0, pytest.approx(80 - last * 66, abs=0.06))
        bars = re.findall(r'class="bar" x1="([\d.]+)" x2="\1" y1="([\d.]+)" y2="([\d.]+)"', chart)
        assert len(bars) == 5 and all(
            float(low) - float(high) == pytest.approx(0.2 * 66, abs=0.2) for _, high, low in bars
        )
    assert "90.0, 72.5, 55.0, 37.5, 20.0; mean 55.0, in random orders 65.0 / 65.0; not shown" in charts[0]
    assert "55.0 : 65.0 / 65.0" in table and table.count("n 6<") == 2


def test_what_is_not_shown_is_no_pass(page):
    """The checks' table says what is wanted; the sentence says that the curves show nothing."""
    assert "Not shown to beat a random order: deletion (2), of Integrated gradients (gender). That is no pass." in page
    assert re.search(r"deletion: mean</td>.*?below 0</td>.*?not shown", page, re.DOTALL)
    assert "Passed: completeness (1)." in page
