"""Who was not harmed, and whose predictions changed: against recomputation, statsmodels and simulation."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.metrics import harm
from fairaudit.metrics.intervals import newcombe_paired, z_value
from fairaudit.report.render import write_comparison_report
from fairaudit.results import Comparison
from fairaudit.results.columns import CHURN_COLUMNS, NON_INFERIORITY_COLUMNS
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100)
CLASSES = np.array(["x", "y", "z"])


def tables(n: int = 900, lost: float = 0.0, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two models of three classes on the same faces; the second errs `lost` more often in group B."""
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 3, n), np.where(np.arange(n) % 3 == 0, "B", "A")
    first = np.where(rng.random(n) < 0.9, label, (label + rng.integers(1, 3, n)) % 3)
    moved = rng.random(n) < np.where(group == "B", 0.05 + lost, 0.05)
    second = np.where(moved, (first + rng.integers(1, 3, n)) % 3, first)
    frame = {"image": np.arange(n).astype(str), "t_true": CLASSES[label], "race": group}
    return tuple(pd.DataFrame({**frame, "t_pred": CLASSES[p]}) for p in (first, second))  # type: ignore[return-value]


def run(first: pd.DataFrame, second: pd.DataFrame, **more: float) -> Comparison:
    """Compare two tables by race."""
    return compare(read_predictions(first), {"m": read_predictions(second)}, by=["race"], audit=QUICK, **more)


def test_churn_is_counted_and_has_wilsons_interval() -> None:
    """Changed faces by kind equal masks over the tables; interval and share from right to wrong equal statsmodels."""
    first, second = tables()
    found = run(first, second).churn
    assert tuple(found.columns) == CHURN_COLUMNS
    row = found[(found["by"] == "race") & (found["subgroup"] == "B")].iloc[0]
    part = first["race"] == "B"
    changed = (first["t_pred"] != second["t_pred"]) & part
    was, now = (t["t_pred"] == t["t_true"] for t in (first, second))
    assert (row["n"], row["changed"]) == (part.sum(), changed.sum())
    assert row["harmed"] == (changed & was).sum()
    assert row["helped"] == (changed & now).sum()
    assert row["still_wrong"] == (changed & ~was & ~now).sum() > 0
    assert (row["low"], row["high"]) == pytest.approx(proportion_confint(changed.sum(), part.sum(), method="wilson"))
    limits = proportion_confint((changed & was).sum(), changed.sum(), method="wilson")
    assert (row["harmed_low"], row["harmed_high"]) == pytest.approx(limits)


def test_churn_without_labels_says_that_no_change_is_right_or_wrong() -> None:
    """An unlabelled task has churn, and neither helped nor harmed, with the reason; and no row on harm."""
    first, second = (t.drop(columns="t_true") for t in tables())
    found = run(first, second)
    assert found.churn["churn"].notna().all()
    assert found.churn[["harmed", "helped", "still_wrong", "harmed_share"]].isna().all(axis=None)
    assert found.churn["reason"].str.contains("without labels").all()
    assert found.non_inferiority.empty


def test_bounds_are_newcombes_for_all_subgroups_at_once() -> None:
    """Each bound is the paired interval at the level shared by the axis's subgroups."""
    first, second = tables()
    found = run(first, second).non_inferiority
    assert tuple(found.columns) == NON_INFERIORITY_COLUMNS
    row = found[(found["by"] == "race") & (found["subgroup"] == "B")].iloc[0]
    part = first["race"] == "B"
    was, now = ((t["t_pred"] == t["t_true"])[part] for t in (first, second))
    shares = [np.array(v.mean()) for v in (was & now, now & ~was, was & ~now)]
    low, high = newcombe_paired(*shares, np.array(float(part.sum())), z_value(0.95, 2))
    assert (row["low"], row["high"]) == pytest.approx((float(low), float(high)), abs=1e-12)
    assert (row["family_size"], row["margin"]) == (2, 0.02)


def test_a_group_that_loses_is_harmed_and_everyone_is_told() -> None:
    """Fifteen points lost in B: harmed, and said; with a margin of 30 points nobody is."""
    first, second = tables(3000, lost=0.15)
    found = run(first, second)
    states = found.non_inferiority[found.non_inferiority["by"] == "race"].set_index("subgroup")["verdict"]
    assert states["B"] == harm.HARMED
    assert any("harmed: B (lost" in sentence for sentence in found.meta["summary"]["m"])
    wide = run(first, second, margin=0.3)
    assert set(wide.non_inferiority["verdict"]) == {harm.NOT_HARMED}
    assert any("no one is harmed at a margin of 30.0 points" in s for s in wide.meta["summary"]["m"])
    assert (wide.non_inferiority["reason"] == "a loss within the margin is shown").any()


def test_few_faces_exclude_nothing_and_the_number_needed_stands_there() -> None:
    """Ninety faces cannot exclude two points: harm is not excluded, with more faces named than there are."""
    found = run(*tables(90))
    rows = found.non_inferiority[found.non_inferiority["by"] == "race"]
    assert (rows["verdict"] == harm.OPEN).all()
    known = rows[rows["n_needed"].notna()]
    assert (known["n_needed"] > known["n"]).all()
    assert rows.loc[rows["n_needed"].isna(), "reason"].str.contains("at or beyond the margin").all()
    assert any("harm not excluded" in sentence for sentence in found.meta["summary"]["m"])


def test_a_face_that_is_lost_counts_as_a_loss() -> None:
    """The other model finds no face in a tenth of B: end-to-end accuracy shows the harm that accuracy hides."""
    first, second = tables(3000)
    second["t_status"] = "ok"
    lost = (second["race"] == "B") & (np.arange(3000) % 10 == 0)
    second.loc[lost, ["t_pred", "t_status"]] = [None, "no_face"]
    found = run(first, second).non_inferiority
    row = found[(found["by"] == "race") & (found["subgroup"] == "B")].iloc[0]
    assert (row["metric"], row["verdict"], row["n"]) == ("end_to_end_accuracy", harm.HARMED, 1000)


def test_repeated_persons_widen_the_bounds() -> None:
    """Each person's faces change together: bounds by persons are wider than bounds by faces."""
    first, second = tables(600)
    frames = [
        pd.concat([t] * 3, ignore_index=True).assign(image=lambda f: f.index.astype(str)) for t in (first, second)
    ]
    owner = frames[0]["race"] + (frames[0].index % 600).astype(str)
    alone = run(*frames).non_inferiority
    people = run(frames[0].assign(subject_id=owner), frames[1]).non_inferiority
    assert ((people["high"] - people["low"]) > 1.5 * (alone["high"] - alone["low"])).all()


def test_the_number_needed_has_the_power_promised() -> None:
    """With that many faces and no true change, a loss of the margin is excluded in about 80 % of samples."""
    churn, margin, z = 0.06, 0.02, z_value(0.95, 7)
    needed, why = harm.faces_to_exclude(0.0, churn / 500, 500, margin, z)
    assert not why
    rng, n = np.random.default_rng(0), int(needed)
    wins = rng.multinomial(n, [0.9 - churn / 2, churn / 2, churn / 2, 0.1 - churn / 2], 4000) / n
    low, _ = newcombe_paired(wins[:, 0], wins[:, 1], wins[:, 2], np.full(4000, float(n)), z)
    assert 0.74 <= (low > -margin).mean() <= 0.86


def test_false_assurances_are_as_rare_as_stated() -> None:
    """Every one of seven subgroups truly loses the margin: any is called unharmed in at most 2.5 % of samples."""
    rng, n, margin, draws = np.random.default_rng(1), 1500, 0.02, 4000
    wins = rng.multinomial(n, [0.86, 0.02, 0.04, 0.08], (draws, 7)) / n
    low, _ = newcombe_paired(wins[..., 0], wins[..., 1], wins[..., 2], np.full((draws, 7), float(n)), z_value(0.95, 7))
    wrong = (low > -margin).any(1).mean()
    assert wrong <= stats.binom.ppf(0.999, draws, 0.025) / draws


def test_no_number_of_faces_excludes_a_loss_that_was_seen() -> None:
    """A loss at the margin, or a spread over seeds that is too wide, has no number, with the reason."""
    assert np.isnan(harm.faces_to_exclude(-0.02, 1e-4, 100, 0.02, 2.0)[0])
    needed, why = harm.faces_to_exclude(0.0, 1e-4, 100, 0.02, 2.0, fixed=1e-3)
    assert np.isnan(needed)
    assert "more seeds" in why


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, float("nan")])
def test_impossible_margins_are_refused(margin: float) -> None:
    """A margin is a share between 0 and 1."""
    with pytest.raises(UsageError, match="margin"):
        run(*tables(90), margin=margin)


def test_validation_that_names_no_pair_leaves_the_pair_empty() -> None:
    """With validation faces the pair is never read off the compared faces, not even where validation names none."""
    first, second = tables()
    few = read_predictions(first.iloc[:40])
    found = compare(
        read_predictions(first), {"m": read_predictions(second)}, by=["race"], audit=QUICK, validation=few
    ).gap_changes
    row = found[(found["metric"] == "accuracy") & (found["by"] == "race")].iloc[0]
    assert row["worst"] == ""
    assert np.isnan(row["pair_delta"])
    assert not row["levelling_down"]
    assert "validation" in row["reason"]


def test_the_page_says_who_is_harmed_and_whose_predictions_changed(tmp_path: Path) -> None:
    """The first screen names the harmed with the margin; the tables of loss and churn stand below."""
    text = write_comparison_report(run(*tables(3000, lost=0.15)), tmp_path).read_text(encoding="utf-8")
    first = text[text.index('id="answer"') : text.index('id="warnings"')]
    assert "harmed: B (lost" in re.sub(r"<[^>]+>", "", first)
    for key in ("harm", "churn"):
        assert f'<section id="{key}"' in text
    assert "right to wrong" in text
