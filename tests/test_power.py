"""Faces needed: against statsmodels' power, against brute-force simulation, and through the command line."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import power_proportions_2indep
from test_cli import Fairaudit, fairaudit
from test_disparity import rates_estimate

from fairaudit.errors import UsageError
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.halves import share_tests
from fairaudit.metrics.intervals import holm
from fairaudit.metrics.power import (
    design_effect,
    faces_to_find,
    faces_to_pass,
    normal_faces_to_pass,
    power_to_pass,
)

__all__ = ["fairaudit"]  # the fixture that runs the command line


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.floats(0.3, 0.97), st.floats(0.02, 0.25), st.floats(0.5, 0.95))
def test_the_number_to_find_a_gap_has_statsmodels_power(groups: int, rate: float, size: float, power: float) -> None:
    """At the Bonferroni level of the contrasts, n faces a group have the power and 1 % fewer have not."""
    n, level = faces_to_find(groups, rate, size, 0.05, power), 0.05 / (1 if groups == 2 else groups)
    many, few = (
        power_proportions_2indep(-size, rate, m, ratio=groups - 1, alpha=level).power for m in (n, 0.99 * n - 1)
    )
    assert few < power <= many + 1e-9


@pytest.mark.parametrize(("groups", "tests"), [(2, 1), (7, 7), (14, 14)])
def test_the_number_to_find_a_gap_is_the_least_that_does(groups: int, tests: int) -> None:
    """At the Bonferroni level, n has the power by statsmodels and n − 1 has not."""
    n = faces_to_find(groups, 0.94, 0.05, 0.05, 0.8)
    power = [
        power_proportions_2indep(-0.05, 0.94, size, ratio=groups - 1, alpha=0.05 / tests).power for size in (n - 1, n)
    ]
    assert power[0] < 0.8 <= power[1]


def test_a_planted_gap_is_found_as_often_as_promised() -> None:
    """Seven groups, one 5 points lower: Holm over the seven score tests finds it in about 80 % of 2,000 audits."""
    groups, n = 7, faces_to_find(7, 0.94, 0.05, 0.05, 0.8)
    p = np.full(groups, 0.94)
    p[0] -= 0.05
    right = np.random.default_rng(0).binomial(n, p, (2000, groups))
    rest = right.sum(1, keepdims=True) - right
    found = share_tests(right / n, np.array(n), rest / (n * (groups - 1)), np.array(n * (groups - 1)), True)
    hits = np.mean([holm(row)[0] <= 0.05 for row in found])
    assert 0.77 <= hits <= 0.86  # Holm finds a little more than the Bonferroni level promises


@pytest.mark.parametrize(("groups", "rate"), [(2, 0.9), (7, 0.94), (14, 0.7)])
def test_a_policy_passes_as_often_as_promised(groups: int, rate: float) -> None:
    """Brute force through `gap` itself, with draws of its own: about 80 % of audits without a gap pass."""
    n = faces_to_pass(groups, rate, 0.06, 0.05, 0.8)
    draws = np.random.default_rng(groups).binomial(n, rate, (400, groups))
    sizes, everyone = np.full(groups, n), np.arange(groups)
    passed = [gap(rates_estimate(right, sizes), 0, everyone, 0.95).difference_high <= 0.06 for right in draws]
    assert abs(np.mean(passed) - 0.8) < 0.07
    assert 0.9 < n / normal_faces_to_pass(groups, rate, 0.06, 0.05, 0.8) < 1.15


def test_more_faces_never_pass_less_often() -> None:
    """The simulated power grows with n, apart from the steps of whole faces."""
    powers = [power_to_pass(n, 7, 0.94, 0.05, 0.05) for n in (800, 1100, 1400, 2000, 3000)]
    assert powers == sorted(powers)
    assert powers[0] < 0.5 < 0.99 < powers[-1]


def test_design_effect_is_kishs() -> None:
    """One picture a person changes nothing; three at ICC .3 widen by 1.6."""
    assert design_effect(1, 0.9) == 1
    assert design_effect(3, 0.3) == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"groups": 1}, "at least two"),
        ({"rate": 1.4}, "a rate lies in"),
        ({"gap": 0.0}, "must not be 0"),
        ({"gap": 0.95}, "both rates"),
        ({"gap": 1e-6}, "larger gap"),
        ({"alpha": 0.0}, "a level"),
        ({"power": 0.01}, "between alpha"),
        ({"power": 1.0}, "between alpha"),
    ],
)
def test_impossible_questions_are_refused(wrong: dict[str, float], said: str) -> None:
    """Every argument that cannot be meant has its own word."""
    asked = {"groups": 7, "rate": 0.94, "gap": 0.05, "alpha": 0.05, "power": 0.8, **wrong}
    with pytest.raises(UsageError, match=said):
        faces_to_find(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "said"), [(0.0, "between 0 and 1"), (1.2, "between 0 and 1"), (1e-7, "more than")])
def test_impossible_limits_are_refused(limit: float, said: str) -> None:
    """A limit of 0 can never be shown to be kept."""
    with pytest.raises(UsageError, match=said):
        faces_to_pass(7, 0.94, limit, 0.05, 0.8)


def test_the_command_prints_and_writes_the_table(fairaudit: Fairaudit, tmp_path) -> None:
    """Several questions at once; repeated persons need more faces; the CSV holds what was printed."""
    out = tmp_path / "power.csv"
    words = ("power", "--groups", 7, "--rate", 0.94, "--gap", 0.05, "--gap", 0.1, "--limit", 0.05)
    code, said, _ = fairaudit(*words, "--subjects-per", 3, "--icc", 0.3, "--csv", out)
    assert code == 0
    table = pd.read_csv(out)
    assert table["question"].tolist() == ["find a gap", "find a gap", "pass difference <= limit"]
    alone = faces_to_find(7, 0.94, 0.05, 0.05, 0.8)
    assert table["faces_per_group"][0] == np.ceil(alone * 1.6)
    assert table["subjects_per_group"][0] == np.ceil(table["faces_per_group"][0] / 3)
    assert f"{table['faces_per_group'][0]:,} faces" in said
    assert (table["faces"] == 7 * table["faces_per_group"]).all()


@pytest.mark.parametrize("words", [(), ("--gap", 2), ("--limit", 0), ("--gap", 0.05, "--icc", 2)])
def test_the_command_refuses_what_cannot_be(fairaudit: Fairaudit, words: tuple[object, ...]) -> None:
    """Exit code 2, and a sentence."""
    code, _, err = fairaudit("power", "--groups", 7, "--rate", 0.94, *words)
    assert code == 2
    assert len(err) > 20
