"""Random malformed tables: only our own errors escape, no figure leaves its range, undefined always has a reason."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import FairauditError
from fairaudit.metrics.estimates import bounds
from fairaudit.metrics.rates import METRICS
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100, min_group_size=3)
NASTY = (
    "",
    " ",
    "nan",
    "None",
    "unknown",
    "overall",
    "0",
    "1.0",
    "-1",
    "a × b",
    "a:b",
    "<b>",
    "é",
    "é",
    "=1+1",
    "\x00",
    "💥",
)
LABELS = st.sampled_from(("a", "b", "c", *NASTY, None, 1, 1.0, True, float("nan"), float("inf")))
NUMBERS = st.sampled_from(
    (0.0, 0.3, 0.5, 1.0, -0.1, 1.5, float("nan"), float("inf"), -float("inf"), "0.4", "x", "", None, 7)
)
PLAIN = st.sampled_from(("a", "b"))
COLUMNS = (
    "t_status",
    "t_prob_a",
    "t_prob_b",
    "t_prob_c",
    "weight",
    "subject_id",
    "race",
    "age",
    "a:b",
    "u_pred",
    "u_true",
)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A table of up to 24 rows, mostly plain, in which some columns hold what no table should hold."""
    n = draw(st.integers(0, 24))
    nasty = draw(st.sets(st.sampled_from(("image", "t_true", "t_pred", *COLUMNS)), max_size=2))
    present = draw(st.sets(st.sampled_from(COLUMNS), max_size=6))

    def column(plain: st.SearchStrategy[Any], strange: st.SearchStrategy[Any], name: str) -> list[Any]:
        return draw(st.lists(strange if name in nasty else plain, min_size=n, max_size=n))

    frame: dict[str, list[Any]] = {"image": [f"{i}.jpg" for i in range(n)]}
    if "image" in nasty:
        frame["image"] = draw(st.lists(LABELS, min_size=n, max_size=n))
    frame["t_true"] = column(PLAIN, LABELS, "t_true")
    frame["t_pred"] = column(PLAIN, LABELS, "t_pred")
    plain: dict[str, st.SearchStrategy[Any]] = {
        "t_status": st.sampled_from(("ok", "")),
        "weight": st.sampled_from((1.0, 2.0)),
        "subject_id": st.sampled_from(("p1", "p2", "p3")),
        "age": st.integers(0, 99),
    }
    probability = st.sampled_from((0.25, 0.5, 0.75))
    for name in sorted(present):
        usual = plain.get(name, probability if "_prob_" in name else PLAIN)
        strange = NUMBERS if "_prob_" in name or name == "weight" else LABELS
        frame[name] = column(usual, strange, name)
    return pd.DataFrame(frame)


def check(result: AuditResult) -> None:
    """No value outside its metric's range or its limits, no infinite number, no undefined value without a reason."""
    for row in result.metrics.to_dict("records"):
        if row["metric"] in METRICS and METRICS[row["metric"]].kind != "count" and not np.isnan(row["value"]):
            least, most = bounds(METRICS[row["metric"]])
            assert least - 1e-12 <= row["value"] <= most + 1e-12, row
            if not np.isnan(row["low"]):
                assert least - 1e-12 <= row["low"] <= row["value"] + 1e-9, row
            if not np.isnan(row["high"]):
                assert row["value"] - 1e-9 <= row["high"] <= most + 1e-12, row
        assert not np.isnan(row["value"]) or row["reason"], row
        assert row["denominator"] >= 0, row
        assert row["n"] >= 0, row
    for row in result.gaps.to_dict("records"):
        assert not np.isnan(row["difference"]) or row["reason"], row
        assert np.isnan(row["difference"]) or row["difference"] >= 0, row
        assert np.isnan(row["difference_low"]) or 0 <= row["difference_low"] <= row["difference"] + 1e-9, row
        assert np.isnan(row["ratio"]) or 0 <= row["ratio"] <= 1 + 1e-12, row
    for row in result.rest.to_dict("records"):
        assert not np.isnan(row["difference"]) or row["reason"], row
    for name, table in {"metrics": result.metrics, "gaps": result.gaps, "rest": result.rest, **result.more}.items():
        numbers = table.select_dtypes("number")
        assert not np.isinf(numbers.to_numpy(dtype=float)).any(), name
    for by, sizes in result.meta["subgroups"].items():
        assert sum(sizes.values()) == result.meta["n"], by


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tables())
def test_malformed_tables_end_in_a_sentence_or_a_sound_audit(frame: pd.DataFrame) -> None:
    """Whatever the cells hold: a FairauditError that is a sentence, or an audit that keeps to its promises."""
    try:
        result = run_audit(read_predictions(frame), audit=QUICK)
    except FairauditError as error:
        assert error.exit_code in (2, 4)
        assert len(str(error)) > 20
        return
    check(result)


def test_a_table_none_of_whose_probabilities_counts() -> None:
    """A single probability that does not add up to 1 leaves no threshold of coverage, which is no reason to stop."""
    cells = {"image": ["0.jpg"], "t_true": ["a"], "t_pred": ["a"], "t_prob_a": [0.25]}
    result = run_audit(read_predictions(pd.DataFrame(cells)), audit=QUICK)
    check(result)
    assert "threshold" not in set(result.more["coverage"].get("point", ()))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_many_malformed_tables(frame: pd.DataFrame) -> None:
    """The same on many more tables."""
    test_malformed_tables_end_in_a_sentence_or_a_sound_audit.hypothesis.inner_test(frame)  # type: ignore[attr-defined]
