"""The shipped known-answer suite passes, and each kind of defect it is there for makes it fail."""

import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from fairaudit import selftest
from fairaudit.metrics import disparity, estimates, rates
from fairaudit.selftest import CASES, answers, checks, invariance, noise, peers, run_selftest


@pytest.mark.parametrize("name", CASES)
def test_every_case_finds_what_it_expects(name: str) -> None:
    """Each case runs, has at least one check, and all of them hold."""
    (outcome,) = run_selftest({name: CASES[name]})
    assert outcome.checks
    assert outcome.ok, [check for check in outcome.checks if not check.ok]
    assert outcome.tests.endswith(".")


def failing(*cases: Callable[[], object]) -> list[str]:
    """What is wrong in these cases."""
    named = {case.__name__: case for case in cases}
    return [check.what for outcome in run_selftest(named) for check in outcome.checks if not check.ok]  # type: ignore[arg-type]


def test_a_zero_for_an_empty_denominator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undefined turned into 0, as scikit-learn's zero_division does: three cases fail."""

    def zero(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        top, bottom = np.broadcast_arrays(np.asarray(top, dtype=float), np.asarray(bottom, dtype=float))
        return np.divide(top, bottom, out=np.zeros(bottom.shape), where=bottom > 0)

    monkeypatch.setattr(estimates, "ratio", zero)
    monkeypatch.setattr(rates, "ratio", zero)
    assert "precision of c" in failing(answers.class_never_predicted)
    assert "recall of c in B" in failing(answers.missing_class)
    assert {"recall of Female in C", "its reason"} <= set(failing(peers.group_without_positives))


def test_a_gap_without_allowance_for_noise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairwise intervals without the family's level find gaps where there are none."""
    monkeypatch.setattr(disparity, "z_value", lambda confidence, pairs=1: 0.3)
    assert failing(noise.random_attributes)[0] == "gaps beyond noise, each by itself"
    assert failing(peers.bootstrap_of_a_gap) == ["sets in which the lower limit is above 0"]


def test_a_family_without_adjustment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw p-values instead of Holm's have far more false findings than promised."""
    monkeypatch.setattr(peers, "holm", lambda p: p)
    monkeypatch.setattr(answers, "holm", lambda p: p)
    assert failing(peers.false_discovery)
    assert "Holm, p = 0.01" in failing(answers.known_p_values)


def test_lost_groups_and_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that loses rows of missing groups, keeps two groups, or depends on the order of rows."""
    audited = checks.audited
    monkeypatch.setattr(peers, "audited", lambda frame, *rest: audited(frame.dropna(subset=["race"]), *rest))
    assert failing(peers.missing_group)
    two = ("White", "Black")
    monkeypatch.setattr(peers, "audited", lambda frame, *rest: audited(frame[frame["race"].isin(two)], *rest))
    assert failing(peers.all_groups_kept) == ["groups", "groups in the gap"]
    monkeypatch.setattr(invariance, "audited", lambda frame, *rest: audited(frame.iloc[:-30], *rest))
    assert failing(invariance.rows_shuffled)


def test_a_case_that_raises_has_failed() -> None:
    """An error is a mismatch with its words, and the others still run."""
    outcomes = run_selftest({"bad": lambda: 1 / 0, "good": answers.known_p_values})  # type: ignore[arg-type,return-value]
    assert [o.ok for o in outcomes] == [False, True]
    assert "ZeroDivisionError" in outcomes[0].checks[0].found


def test_checks_tell_equal_from_unequal() -> None:
    """NaN equals NaN only; numbers to the tolerance; words exactly."""
    nan = float("nan")
    assert checks.equal("x", nan, nan).ok
    assert not checks.equal("x", 0.0, nan).ok
    assert not checks.equal("x", nan, 0.0).ok
    assert checks.equal("x", 0.5, 0.5 + 1e-13).ok
    assert not checks.equal("x", 0.5, 0.5 + 1e-9).ok
    assert not checks.equal("x", "a", "b").ok
    assert checks.shown(nan) == "undefined"


def test_the_command_prints_and_fails_on_a_mismatch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text and JSON say the same; exit code 1 and the case's name on a mismatch, 0 else."""
    from fairaudit import cli

    few = {"known-p-values": answers.known_p_values, "known-intervals": answers.known_intervals}
    monkeypatch.setattr(selftest.run_selftest, "__defaults__", (few, selftest.silent))
    monkeypatch.setattr(sys, "argv", ["fairaudit", "selftest"])
    assert cli._guarded() == 0
    assert "2 cases, 12 checks: all as expected" in capsys.readouterr().out
    monkeypatch.setattr(answers, "holm", lambda p: p)
    assert cli._guarded() == 1
    out = capsys.readouterr().out
    assert "WRONG" in out
    assert "MISMATCH in known-p-values" in out
    monkeypatch.setattr(sys, "argv", ["fairaudit", "selftest", "--json"])
    assert cli._guarded() == 1
    found = json.loads(capsys.readouterr().out)
    assert [case["ok"] for case in found["cases"]] == [False, True]
    assert found["ok"] is False


def test_the_suite_loads_no_torch() -> None:
    """In a fresh interpreter the suite leaves torch and scikit-learn unloaded."""
    script = (
        "import sys, fairaudit.selftest as s; s.run_selftest({'a': s.CASES['weights']}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
