"""Two audits: planted changes are found, noise is not called a change, unlike audits are refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_data import make_predictions
from statsmodels.stats.proportion import confint_proportions_2indep

from fairaudit import cli
from fairaudit.audit import run_audit
from fairaudit.audit_diff import diff_audits, diff_folders, markdown, plain
from fairaudit.audit_shifts import Shift
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import DataError
from fairaudit.metrics.estimates import share
from fairaudit.metrics.intervals import f1_of_jaccard, mover_difference, wilson, z_value
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.unpaired import difference_p, stored_estimate, unpaired_change
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100)


def audited(frame: pd.DataFrame, by: tuple[str, ...] = ("race",), audit: AuditSpec = QUICK) -> AuditResult:
    """The audit of the gender task."""
    return run_audit(frame, tasks=["gender"], by=list(by), audit=audit)


@pytest.fixture(scope="module")
def fair() -> AuditResult:
    """An audit without any gap."""
    return audited(make_predictions(1600, seed=1))


@pytest.fixture(scope="module")
def biased() -> AuditResult:
    """An audit of other faces, in which faces labelled Asian are right less often."""
    return audited(make_predictions(1600, seed=2, worse={"Asian": 0.6}))


def one(shifts: tuple[Shift, ...], what: str, metric: str, subgroup: str = "", class_: str = "") -> Shift:
    """The one figure that is meant."""
    (found,) = [
        s for s in shifts if (s.what, s.metric, s.subgroup, s.class_) == (what, metric, subgroup or s.subgroup, class_)
    ]
    return found


def test_a_planted_gap_appears_and_vanishes(fair: AuditResult, biased: AuditResult) -> None:
    """The gap, the subgroup and the overall loss are beyond noise, with the values of both audits; and back again."""
    found = diff_audits(fair, biased, names=("old", "new"))
    gap = one(found.shifts, "gap", "accuracy")
    rows = [r.gaps[(r.gaps["metric"] == "accuracy")].iloc[0] for r in (fair, biased)]
    assert (gap.kind, gap.beyond_noise) == ("appeared", True)
    assert gap.change == pytest.approx(rows[1]["difference"] - rows[0]["difference"], abs=1e-12)
    assert gap.low < gap.change < gap.high
    rest = one(found.shifts, "rest", "accuracy", "Asian")
    assert (rest.kind, rest.beyond_noise) == ("appeared", True)
    assert rest.high < 0
    overall = one(found.shifts, "overall", "accuracy")
    assert (overall.kind, overall.beyond_noise) == ("changed", True)
    pair = next(
        s for s in found.shifts if (s.what, s.metric, s.subgroup, s.other) == ("pair", "accuracy", "Asian", "Black")
    )
    values = [r.metrics[r.metrics["metric"] == "accuracy"].set_index("subgroup")["value"] for r in (fair, biased)]
    differences = [v["Asian"] - v["Black"] for v in values]
    assert (pair.kind, pair.beyond_noise) == ("appeared", True)
    assert pair.change == pytest.approx(differences[1] - differences[0], abs=1e-12)
    assert pair.low < pair.change < pair.high < 0
    text = markdown(found)
    assert "the gap in accuracy between subgroups is now shown" in text
    assert "# old → new" in text
    back = one(diff_audits(biased, fair).shifts, "gap", "accuracy")
    assert (back.kind, back.beyond_noise, back.change) == ("vanished", True, -gap.change)
    assert "is no longer shown" in back.sentence()


def test_the_same_audit_has_not_changed(fair: AuditResult, biased: AuditResult) -> None:
    """An audit against itself: every change is 0, none is listed."""
    for result in (fair, biased):
        found = diff_audits(result, result)
        assert found.shifts
        assert {shift.kind for shift in found.shifts} == {"same"}
        assert max(abs(shift.change) for shift in found.shifts) == 0
        assert all(shift.low <= 0 <= shift.high for shift in found.shifts if not np.isnan(shift.low))


def test_noise_is_no_change() -> None:
    """Four pairs of samples of one model (three figures in a thousand may be beyond noise): none is."""
    audits = [audited(make_predictions(400, seed=seed, worse={"Asian": 0.7})) for seed in range(20, 28)]
    beyond = [s for a, b in zip(audits[::2], audits[1::2], strict=True) for s in diff_audits(a, b).shifts]
    assert len(beyond) > 100
    assert sum(shift.beyond_noise for shift in beyond) <= 1


def test_a_gap_of_one_audit_only_is_not_yet_a_change() -> None:
    """Shown at n = 3,000, not at 100: the sentence says that the change itself is within noise."""
    large, small = (audited(make_predictions(n, seed=4, races=("A", "B"), worse={"A": 0.8})) for n in (3000, 100))
    gap = one(diff_audits(large, small).shifts, "gap", "accuracy")
    assert (gap.kind, gap.beyond_noise) == ("vanished", False)
    assert "the change itself is within noise" in gap.sentence()


def test_limits_from_stored_figures_are_those_of_the_sample() -> None:
    """At any level, Wilson limits from the written value and n are those computed from the faces (share, F1)."""
    rng = np.random.default_rng(0)
    sample = Sample(
        table=Table(2, 2),
        groups=("a", "b"),
        group=rng.integers(0, 2, 300),
        row=rng.integers(0, 2, 300),
        column=rng.integers(0, 2, 300),
    )
    for name in ("f1", "recall"):
        own = share(sample, np.eye(2), METRICS[name])
        low, high = own.limits(z_value(0.95))
        arrays = [part[:, 1] for part in (own.value, low, high, own.effective)]
        stored = stored_estimate(name, arrays[0], arrays[1], arrays[2], arrays[3], z_value(0.95))
        for z in (z_value(0.95), 3.3):
            np.testing.assert_allclose(
                [side[:, 0] for side in stored.limits(z)], [side[:, 1] for side in own.limits(z)]
            )
    exact = stored_estimate(
        "recall", *arrays[:1], low[:, 1] - 0.1, high[:, 1], own.effective[:, 1], z_value(0.95), False
    )
    kept = exact.limits(z_value(0.95))[0][:, 0]
    np.testing.assert_allclose(kept, np.maximum(low[:, 1] - 0.1, 0), err_msg="limits of another kind stay as written")
    jaccard = np.array([0.5])
    assert f1_of_jaccard(jaccard)[0] == pytest.approx(2 / 3)


def test_changes_of_proportions_are_newcombes() -> None:
    """The change of a share between two samples has statsmodels' Newcombe limits; p < .05 as they exclude 0."""
    rng = np.random.default_rng(1)
    z = z_value(0.95)
    for _ in range(50):
        n, m = rng.integers(10, 300, 2)
        x, y = rng.integers(0, n + 1), rng.integers(0, m + 1)
        sides = []
        for hits, size in ((y, m), (x, n)):
            value = np.array([hits / size])
            low, high = wilson(value, np.array([size]), z)
            sides.append(stored_estimate("accuracy", value, low, high, np.array([float(size)]), z))
        change = unpaired_change(sides[0], sides[1])
        low, high = (side[0, 0] for side in change.delta.limits(z))
        expected = confint_proportions_2indep(x, n, y, m, method="newcomb", compare="diff")
        np.testing.assert_allclose((low, high), expected, atol=1e-9)
        p = difference_p(change.delta.value[:, 0], np.array([low]), np.array([high]), z)[0]
        assert (p < 0.05) == (low > 0 or high < 0)


def test_p_of_a_difference() -> None:
    """1 at 0, undefined without limits, the usual two-sided p where the limits are symmetric."""
    p = difference_p(np.array([0.0, 0.2, 0.1]), np.array([-1, np.nan, 0.1 - 1.96]), np.array([1, 1, 0.1 + 1.96]), 1.96)
    assert p[0] == 1
    assert np.isnan(p[1])
    assert p[2] == pytest.approx(0.920344, abs=1e-6)
    first = (np.array([0.3]), np.array([0.2]), np.array([0.4]))
    assert mover_difference(first, first)[0] < 0


def test_unlike_audits_are_refused(fair: AuditResult) -> None:
    """Other classes, another confidence or group size, no common task: a sentence with both sides."""
    frame = make_predictions(300, seed=4)
    other = frame.replace({"gender_true": {"Male": "man"}, "gender_pred": {"Male": "man"}})
    with pytest.raises(DataError, match="the classes differ: Male, Female in first, Female, man in second"):
        diff_audits(fair, audited(other))
    for change, word in (({"confidence": 0.9}, "confidence: 0.95"), ({"min_group_size": 10}, "subgroup assessed: 30")):
        with pytest.raises(DataError, match=word):
            diff_audits(fair, audited(frame, audit=QUICK.model_copy(update=change)))
    renamed = frame.rename(columns={"gender_true": "sex_true", "gender_pred": "sex_pred"})
    with pytest.raises(DataError, match="no task in common"):
        diff_audits(fair, run_audit(renamed, by=["race"], audit=QUICK))


def test_what_only_one_audit_has_is_said(fair: AuditResult) -> None:
    """Another axis, another subgroup: named; the gap is of the subgroups that both have."""
    frame = make_predictions(1600, seed=5, worse={"Others": 0.5})
    fewer = audited(frame[frame["race"] != "White"], ("race", "race:age"))
    found = diff_audits(fair, fewer)
    assert any("Only second has the axes race:age" in note for note in found.notes)
    assert any("race: White in one audit only" in note for note in found.notes)
    gap = one(found.shifts, "gap", "accuracy")
    rows = fair.metrics[(fair.metrics["metric"] == "accuracy") & (fair.metrics["by"] == "race")].set_index("subgroup")
    kept = rows.loc[["Black", "Asian", "Indian", "Others"], "value"]
    assert gap.first[0] == pytest.approx(np.ptp(kept), abs=1e-12)


def test_folders_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From folders the overlap of the faces is told; Markdown and JSON hold the same; a missing folder is exit 4."""
    frames = [make_predictions(900, seed=6), make_predictions(900, seed=7, worse={"Asian": 0.5})]
    frames[1]["image"] = [f"face-{i + 600:05d}.jpg" for i in range(900)]
    for name, frame in zip("ab", frames, strict=True):
        audited(frame).save(tmp_path / name, read_predictions(frame))
    assert any("300 faces are in both audits" in note for note in diff_folders(tmp_path / "a", tmp_path / "b").notes)
    apart = frames[1].assign(image=[f"other-{i}" for i in range(900)])
    audited(apart).save(tmp_path / "c", read_predictions(apart))
    assert any("No face is in both" in note for note in diff_folders(tmp_path / "a", tmp_path / "c").notes)
    audited(apart).save(tmp_path / "d")
    assert any("cannot be told" in note for note in diff_folders(tmp_path / "a", tmp_path / "d").notes)

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fairaudit", "diff", *map(str, words)])
        return cli._guarded(), capsys.readouterr().out

    code, text = run(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "## Appeared:" in text
    code, text = run(tmp_path / "a", tmp_path / "b", "--json")
    found = json.loads(text)
    assert code == 0
    assert found["figures"] == plain(diff_folders(tmp_path / "a", tmp_path / "b"))["figures"]
    assert any(figure["kind"] == "appeared" for figure in found["figures"])
    assert run(tmp_path / "a", tmp_path / "nothing")[0] == 4
