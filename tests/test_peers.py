"""Our figures beside those of AIF360 and aequitas, kept in data/peers.csv, and where theirs mean something else."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import fairaudit as fa
from fairaudit.spec import AuditSpec

HERE = Path(__file__).parent
OURS = {  # aequitas' name → ours, or what it is 1 minus
    "tpr": "recall",
    "tnr": "tnr",
    "fdr": "fdr",
    "fpr": "fpr",
    "fnr": "fnr",
    "npv": "npv",
    "precision": "precision",
    "pprev": "selection_rate",
    "prev": "base_rate",
}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script that made the table of peers: it says which faces they were given."""
    spec = importlib.util.spec_from_file_location("peers", HERE.parent / "benchmarks" / "peers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def peers() -> pd.DataFrame:
    """The stored table; text stays text, `nan` is what a peer gave for an undefined value."""
    return pd.read_csv(HERE / "data" / "peers.csv", keep_default_na=False, dtype=str).astype({"value": float})


@pytest.fixture(scope="module")
def values(maker: ModuleType) -> dict[tuple[str, str], float]:
    """Our value of each metric and group for label 1, from an audit of the same faces."""
    frame = pd.DataFrame(maker.faces(), columns=["race", "y_true", "y_pred"]).assign(image=range(800))
    found = fa.run_audit(frame.replace({"race": {"": None}}), by=["race"], audit=AuditSpec(draws=100)).metrics
    rows = found[(found["by"] == "race") & found["class"].isin(["", "1"])]
    return dict(zip(zip(rows["metric"], rows["subgroup"], strict=True), rows["value"], strict=True))


def stored(peers: pd.DataFrame, peer: str) -> dict[tuple[str, str], float]:
    """A peer's values by metric and group."""
    rows = peers[peers["peer"] == peer]
    return dict(zip(zip(rows["metric"], rows["group"], strict=True), rows["value"], strict=True))


def test_the_peers_were_given_these_faces(peers: pd.DataFrame, maker: ModuleType) -> None:
    """The stored counts are those of the table that the script makes today."""
    faces = maker.faces()
    for (cell, group), count in stored(peers, "table").items():
        label, predicted = int(cell.split()[1]), int(cell.split()[3])
        assert faces.count((group, label, predicted)) == count


def test_rates_per_group_are_aequitas(peers: pd.DataFrame, values: dict[tuple[str, str], float]) -> None:
    """Nine rates of five groups to 1e-12; where aequitas has NaN, ours is undefined, too."""
    theirs = stored(peers, "aequitas")
    for name, ours in OURS.items():
        for group in "ABCDE":
            np.testing.assert_allclose(values[ours, group], theirs[name, group], rtol=0, atol=1e-12, equal_nan=True)
    for group in "ABCDE":
        assert math.isclose(1 - values["npv", group], theirs["for", group], abs_tol=1e-12)


def test_where_aequitas_means_something_else(peers: pd.DataFrame, values: dict[tuple[str, str], float]) -> None:
    """Its `ppr` is a group's share of all selected faces; faces without a group vanish, but stay in that total."""
    theirs = stored(peers, "aequitas")
    selected = {g: values["selection_rate", g] * values["n", g] for g in [*"ABCDE", "unknown"]}
    assert selected["unknown"] == 5
    for group in "ABCDE":
        assert math.isclose(theirs["ppr", group], selected[group] / sum(selected.values()), abs_tol=1e-12)
    assert sum(theirs["ppr", group] for group in "ABCDE") < 0.99
    assert {group for _, group in theirs} == set("ABCDE")
    assert values["n", "unknown"] == 8


def test_differences_from_the_reference_are_aif360s(peers: pd.DataFrame, values: dict[tuple[str, str], float]) -> None:
    """Statistical parity, disparate impact, equal opportunity, average odds, error and rate gaps to 1e-12."""
    theirs = stored(peers, "aif360")

    def gap(metric: str, group: str) -> float:
        return values[metric, group] - values[metric, "A"]

    for group in "BCDE":
        expected = {
            "statistical_parity_difference": gap("selection_rate", group),
            "disparate_impact": values["selection_rate", group] / values["selection_rate", "A"],
            "equal_opportunity_difference": gap("recall", group),
            "average_odds_difference": (gap("fpr", group) + gap("recall", group)) / 2,
            "average_abs_odds_difference": (abs(gap("fpr", group)) + abs(gap("recall", group))) / 2,
            "error_rate_difference": -gap("accuracy", group),
            "error_rate_ratio": (1 - values["accuracy", group]) / (1 - values["accuracy", "A"]),
            "false_positive_rate_difference": gap("fpr", group),
            "false_negative_rate_difference": gap("fnr", group),
            "false_omission_rate_difference": -gap("npv", group),
            "false_discovery_rate_difference": gap("fdr", group),
            "false_positive_rate_ratio": values["fpr", group] / values["fpr", "A"],
            "false_discovery_rate_ratio": values["fdr", group] / values["fdr", "A"],
        }
        for name, value in expected.items():
            np.testing.assert_allclose(value, theirs[name, group], rtol=0, atol=1e-12, equal_nan=True, err_msg=name)


def test_where_aif360_means_something_else(peers: pd.DataFrame, values: dict[tuple[str, str], float]) -> None:
    """A signed average of odds cancels; an undefined recall gap is left out of "equalized odds" without a word."""
    theirs = stored(peers, "aif360")
    assert abs(theirs["average_odds_difference", "B"]) < theirs["average_abs_odds_difference", "B"] / 3
    assert np.isnan(values["recall", "E"]) and not np.isnan(theirs["equalized_odds_difference", "E"])
    for group in "BCD":
        worst = max(abs(values[m, group] - values[m, "A"]) for m in ("recall", "fpr"))
        assert math.isclose(theirs["equalized_odds_difference", group], worst, abs_tol=1e-12)
