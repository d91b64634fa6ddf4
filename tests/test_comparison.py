"""Two models on the same faces: paired changes, tests, gaps, levelling down."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import DataError
from fairaudit.metrics.paired import PairedSample, gap_change, share_change
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.results import Comparison
from fairaudit.results.columns import COMPARISON_COLUMNS, GAP_CHANGE_COLUMNS
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=200)


def predictions(accuracies: dict[str, float], seed: int = 0, n: int = 1500) -> pd.DataFrame:
    """Gender predictions that are right this often for each group; the same faces for every seed."""
    faces, model = np.random.default_rng(99), np.random.default_rng(seed)
    race = faces.choice(list(accuracies), n)
    gender = faces.choice(["Male", "Female"], n)
    luck = faces.random(n) + 0.02 * model.standard_normal(n)
    right = luck < np.vectorize(accuracies.get)(race)
    other = np.where(gender == "Male", "Female", "Male")
    columns = {"gender_true": gender, "gender_pred": np.where(right, gender, other), "race": race}
    return pd.DataFrame({"image": [f"{i}.jpg" for i in range(n)], **columns})


def run(first: pd.DataFrame, second: pd.DataFrame, **more: object) -> Comparison:
    """Compare two tables by race."""
    return compare(read_predictions(first), {"m": read_predictions(second)}, by=["race"], audit=QUICK, **more)


def row(table: pd.DataFrame, **where: str) -> pd.Series:
    """The single row with these values."""
    for column, value in {"class": "", **where}.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


A = {"White": 0.95, "Black": 0.75, "Asian": 0.93}


@pytest.fixture(scope="module")
def helped() -> Comparison:
    """Black faces gain, nobody loses."""
    return run(predictions(A), predictions({**A, "Black": 0.94}, 1), validation=read_predictions(predictions(A, 5)))


def test_changes_and_mcnemar_equal_recomputation(helped: Comparison) -> None:
    """Both accuracies, helped, harmed and the exact McNemar p-value equal a mask over the paired tables."""
    a, b = predictions(A), predictions({**A, "Black": 0.94}, 1)
    part = a["race"] == "Black"
    first, second = (t["gender_true"] == t["gender_pred"] for t in (a, b))
    found = row(helped.deltas, by="race", subgroup="Black", metric="accuracy")
    gained, lost = int((second & ~first & part).sum()), int((first & ~second & part).sum())
    assert (found["helped"], found["harmed"], found["n"]) == (gained, lost, part.sum())
    assert found["baseline"] == first[part].mean()
    assert found["delta"] == pytest.approx(second[part].mean() - first[part].mean())
    assert found["p_value"] == pytest.approx(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue, rel=1e-9)
    assert found["p_adjusted"] == pytest.approx(min(1, 3 * found["p_value"]), rel=1e-9)
    assert found["low"] > 0.1


def test_a_gap_that_closed_is_said_to_have_closed(helped: Comparison) -> None:
    """The accuracy gap's interval lies below 0, the pair was named on validation, nobody was levelled down."""
    found = row(helped.gap_changes, by="race", metric="accuracy")
    assert found["worst"] == "Black"
    assert found["low"] <= found["delta"] <= found["high"] < 0
    assert found["pair_low"] <= found["pair_delta"] <= found["pair_high"] < 0
    assert not found["levelling_down"]
    assert helped.meta["named_on"] == "validation"
    text = " ".join(helped.meta["summary"]["m"])
    assert "the gap closed by more than noise explains" in text
    assert "Black (+" in text


def test_every_bracket_says_that_its_interval_is_that_of_the_change(helped: Comparison) -> None:
    """Of accuracy, the gap and the named pair alike: change, then the interval of the change, as in gap_changes.csv."""
    told = helped.meta["summary"]["m"]
    moved = [sentence for sentence in told if "went from" in sentence]
    assert len(moved) == 2 and sum(s.count("went from") for s in moved) == 3
    for sentence in moved:
        assert sentence.count("went from") == sentence.count("95 % interval of the change")
        assert sentence.count("interval") == sentence.count("interval of the change")
    found = row(helped.gap_changes, by="race", metric="accuracy")
    words = [f"{100 * found[f'pair_{name}']:+.1f} points".replace("-", "−") for name in ("delta", "low", "high")]
    pair = "a change of {}, 95 % interval of the change {} to {}".format(*words)
    assert pair in moved[1].partition("the named pair")[2]


def test_levelling_down_is_named() -> None:
    """The gap falls because the best-off lose: flagged, said, with a warning that the pair was named on the test."""
    found = run(predictions(A), predictions({"White": 0.76, "Black": 0.75, "Asian": 0.75}, 1))
    change = row(found.gap_changes, by="race", metric="accuracy")
    assert change["levelling_down"]
    assert any("Levelling down" in sentence for sentence in found.meta["summary"]["m"])
    assert any("regression to the mean" in warning for warning in found.meta["warnings"])


def test_a_gap_that_stayed_the_same_is_not_levelled_down() -> None:
    """Both groups lose 10 points: the gap's change of 1e-17 is rounding dust, no fall."""

    def table(right: dict[str, float]) -> pd.DataFrame:
        truth, race = np.array(["x", "y"] * 800), np.repeat(["A", "B"], 800)
        ok = np.concatenate([np.arange(800) < round(share * 800) for share in right.values()])
        guess = np.where(ok, truth, np.where(truth == "x", "y", "x"))
        return pd.DataFrame({"image": np.arange(1600).astype(str), "z_true": truth, "z_pred": guess, "race": race})

    found = run(table({"A": 0.95, "B": 0.8}), table({"A": 0.85, "B": 0.7})).gap_changes
    shares = found[found["metric"].isin(["accuracy", "recall", "fnr"])]
    assert (shares["delta"].abs() < 1e-12).all()
    assert not shares["levelling_down"].any()


def test_saved_and_loaded_alike(helped: Comparison, tmp_path: Path) -> None:
    """A comparison survives saving, with the public columns."""
    helped.save(tmp_path / "c")
    again = Comparison.load(tmp_path / "c")
    assert tuple(again.deltas.columns) == COMPARISON_COLUMNS
    assert tuple(again.gap_changes.columns) == GAP_CHANGE_COLUMNS
    pd.testing.assert_frame_equal(helped.deltas, again.deltas, check_dtype=False, check_exact=True)
    pd.testing.assert_frame_equal(helped.churn, again.churn, check_dtype=False, check_exact=True)
    pd.testing.assert_frame_equal(helped.non_inferiority, again.non_inferiority, check_dtype=False, check_exact=True)


def test_the_same_model_changes_nothing() -> None:
    """Compared with itself: every change is 0, every p-value 1, no finding."""
    found = run(predictions(A), predictions(A))
    tested = found.deltas[found.deltas["p_value"].notna()]
    assert (tested["delta"] == 0).all()
    assert (tested["p_value"] == 1).all()
    assert (found.gap_changes["low"].dropna() <= 0).all()
    assert not found.gap_changes["levelling_down"].any()


def test_unpaired_faces_are_counted_and_order_does_not_matter() -> None:
    """Faces of one table only are left out and counted; rows may come in any order."""
    a, b = predictions(A), predictions(A, 1)
    shuffled = b.iloc[::-1].iloc[:1400]
    found = run(a, shuffled)
    assert found.meta["n_paired"] == 1400
    assert found.meta["n_unpaired"] == {"m": 100}
    straight = run(a[a["image"].isin(shuffled["image"])], b[b["image"].isin(shuffled["image"])])
    pd.testing.assert_frame_equal(found.deltas, straight.deltas)


def test_faces_without_a_prediction_count_end_to_end() -> None:
    """A face that only the other model detects enters end-to-end accuracy, and no rate."""
    a, b = predictions(A), predictions(A)
    a["gender_pred"] = a["gender_pred"].astype(object)
    a["gender_status"] = ""
    a.loc[:99, "gender_pred"], a.loc[:99, "gender_status"] = None, "no_face"
    found = run(a, b)
    assert row(found.deltas, by="overall", metric="accuracy")["n"] == 1400
    whole = row(found.deltas, by="overall", metric="end_to_end_accuracy")
    assert (whole["n"], whole["harmed"]) == (1500, 0)
    assert row(found.deltas, by="overall", metric="prediction_rate")["delta"] == pytest.approx(100 / 1500)


def test_what_cannot_be_compared_is_refused() -> None:
    """No common image, contradicting labels, other classes, no image names: each a DataError in words."""
    a = predictions(A)
    with pytest.raises(DataError, match="no image in common"):
        run(a, a.assign(image="x" + a["image"]))
    with pytest.raises(DataError, match="labelled differently"):
        run(a, a.assign(gender_true="Male"))
    once = a.copy()
    once.loc[a.index[0], "gender_true"] = "Male" if a["gender_true"].iloc[0] == "Female" else "Female"
    with pytest.raises(DataError, match=r"gender: 1 face is labelled differently"):
        run(a, once)
    with pytest.raises(DataError, match="classes differ"):
        run(a, a.replace({"gender_true": {"Male": "M"}, "gender_pred": {"Male": "M"}}))
    with pytest.raises(DataError, match="cannot be paired"):
        run(a.drop(columns="image"), a)


def test_subjects_are_flipped_whole() -> None:
    """With subjects the p-value is that of whole subjects, and larger than if faces were independent."""
    a, b = predictions(A), predictions({**A, "Black": 0.8}, 1)
    alone = row(run(a, b).deltas, by="race", subgroup="Black", metric="accuracy")
    person = a.groupby("race").cumcount() // 4
    owner = a["race"] + person.astype(str)
    grouped = run(a.assign(subject_id=owner), b)
    together = row(grouped.deltas, by="race", subgroup="Black", metric="accuracy")
    assert together["delta"] == alone["delta"]
    assert together["p_value"] != alone["p_value"]
    assert "subjects" in grouped.meta["independence"]


@pytest.mark.parametrize(("worst_before", "worst_after"), [(0.9, 0.9), (0.75, 0.9), (0.8, 0.75)])
def test_limits_of_a_gaps_change_hold(worst_before: float, worst_after: float) -> None:
    """Over 150 simulated comparisons of five groups, the interval contains the true change as often as stated."""
    rng, groups, n, hits = np.random.default_rng(1), 5, 200, 0
    before = np.array([0.9] * 4 + [worst_before])
    after = np.array([0.9] * 4 + [worst_after])
    group = np.repeat(np.arange(groups), n)
    true = (0.9 - worst_after) - (0.9 - worst_before)
    for _ in range(150):
        luck = rng.random(groups * n)
        redrawn = np.where(rng.random(groups * n) < 0.7, luck, rng.random(groups * n))
        samples = [
            Sample(
                table=Table(2, 2),
                groups=tuple("abcde"),
                group=group,
                row=np.zeros_like(group),
                column=(values >= rates[group]).astype(int),
            )
            for values, rates in ((luck, before), (redrawn, after))
        ]
        change = share_change(PairedSample(*samples), METRICS["accuracy"])
        low, high = gap_change(change, 0, np.arange(groups), 0.95)
        hits += low <= true <= high
    assert hits / 150 >= 0.93


def test_a_model_without_predictions_is_no_comparison_of_accuracy() -> None:
    """The summary says why in words, and never prints a missing number."""
    nothing = predictions(A).assign(gender_pred=None, gender_status="no_face")
    text = " ".join(run(predictions(A), nothing).meta["summary"]["m"])
    assert "cannot be compared" in text
    assert "nan" not in text


def test_a_loss_that_is_excluded_is_not_put_at_zero_points() -> None:
    """Where every subgroup's own interval lies above 0, nobody "may have lost up to 0.0 points"."""
    found = run(predictions(dict.fromkeys(A, 0.6)), predictions(dict.fromkeys(A, 0.95), 1))
    text = " ".join(found.meta["summary"]["m"])
    assert "no one is harmed at a margin of 2.0 points" in text
    assert "the lowest bound is +" in text
    assert "0.0 points." not in text
