"""What wrong labels could do: the bound is never broken, known noise is undone, and impossible noise is called so."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit import subgroups
from fairaudit.audit import everyone, run_audit
from fairaudit.audit_meta import UNKNOWN_LABELS
from fairaudit.axes import AuditData, AxisData, sample_of, task_rows
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.gap_tables import gap_rows
from fairaudit.label_noise_table import check_label_noise, error_rates, label_noise_table
from fairaudit.metrics.intervals import wilson, z_value
from fairaudit.metrics.label_noise import (
    flips,
    inverse,
    inverted_accuracy,
    inverted_groups,
    inverted_rates,
    pairs_bound,
)
from fairaudit.metrics.rates import METRICS
from fairaudit.pooled import estimates_of, pooled_axis
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec, LabelNoiseSpec, parse_spec
from fairaudit.subgroups import OVERALL

Z = z_value(0.95)


def drawn(n: int, accuracy: Mapping[str, float], seed: int = 0) -> pd.DataFrame:
    """Faces of races with their own accuracy, gender labels all right."""
    rng = np.random.default_rng(seed)
    race = rng.choice(list(accuracy), n)
    gender = rng.choice(["F", "M"], n)
    right = rng.random(n) < pd.Series(race).map(dict(accuracy)).to_numpy()
    pred = np.where(right, gender, np.where(gender == "F", "M", "F"))
    return pd.DataFrame({"image": np.arange(n), "gender_true": gender, "gender_pred": pred, "race": race})


def noise_table(frame: pd.DataFrame, by: str = "race", **noise: object) -> pd.DataFrame:
    """The table of label noise of one audit, with gaps in accuracy and recall only."""
    audit = AuditSpec.model_validate({"draws": 100, "label_noise": noise})
    table = read_predictions(frame)
    rows, axes, gaps = task_rows(table, "gender"), [], []
    for axis, groups in ((OVERALL, everyone(len(table))), (by, subgroups.assign(table.frame, by))):
        why = subgroups.degenerate(groups, table.frame["gender_true"], axis, "gender") if axis != OVERALL else None
        sample = sample_of(rows, table.frame, groups)
        axes.append(AxisData(rows=rows, sample=sample, by=axis, degenerate=why, frame=table.frame))
        if axis != OVERALL:
            pooled = pooled_axis(rows, sample, axis, why, audit)
            chosen = [METRICS[name] for name in ("accuracy", "recall_by_labelled_class", "recall")]
            found = estimates_of(pooled, chosen, [0])
            gaps += [row for m in chosen for row in gap_rows(pooled, m, found.get((m.name, "shared")))]
    data = AuditData(predictions=table, axes=axes, audit=audit, seed=0, metrics=pd.DataFrame(), gaps=pd.DataFrame(gaps))
    return label_noise_table(data)


def noisy(true: np.ndarray, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels that are wrong as `matrix` (P(given | true)) says."""
    return (rng.random(len(true))[:, None] > matrix.cumsum(1)[true]).sum(1)


def cube_of(given: np.ndarray, pred: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of given labels × predictions, twice: Σw and Σw²."""
    counts = np.bincount(given * k + pred, minlength=k * k).reshape(k, k).astype(float)
    return counts, counts


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(5, 200), st.floats(0, 1))
def test_no_relabelling_breaks_the_bound(seed: int, k: int, n: int, share: float) -> None:
    """Whatever labels are changed, in whichever way: accuracy moves by e at most, recall of a class by the larger of
    its two error rates at most.
    """
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(0, k, n), rng.integers(0, k, n)
    # errors that depend on the prediction, the worst case there is: towards it, away from it, or at random
    way = [pred, (pred + 1) % k, rng.integers(0, k, n)][seed % 3]
    given = np.where(rng.random(n) < share, way, true)
    error = (given != true).mean()
    assert abs((pred == given).mean() - (pred == true).mean()) <= error + 1e-12
    truly, labelled = true == 0, given == 0
    if truly.any() and labelled.any():
        bound = max((given[truly] != 0).mean(), (true[labelled] != 0).mean())
        assert abs((pred[truly] == 0).mean() - (pred[labelled] == 0).mean()) <= bound + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_no_set_of_errors_breaks_the_bound_of_a_gap(seed: int, groups: int) -> None:
    """Rates moved by up to their own e have a gap within the bounds, and some set of moves reaches each of them."""
    rng = np.random.default_rng(seed)
    rate, error = rng.uniform(0.3, 0.7, groups), rng.uniform(0, 0.1, groups)
    low, high = pairs_bound(rate, rate, rate, error)
    moved = rate + error * rng.uniform(-1, 1, (200, groups))
    gaps = np.ptp(moved, axis=1)
    assert (gaps >= low - 1e-12).all() and (gaps <= high + 1e-12).all()
    widest = max(
        a + e - (b - f)
        for i, (a, e) in enumerate(zip(rate, error, strict=True))
        for j, (b, f) in enumerate(zip(rate, error, strict=True))
        if i != j
    )
    assert high == pytest.approx(widest)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_known_noise_of_expected_counts_is_undone_exactly(seed: int, k: int) -> None:
    """Counts that are exactly Fᵀ · truth give back accuracy, every recall and every false positive rate."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(20, 60, (k, k)) + np.eye(k) * 200
    matrix = rng.dirichlet(np.ones(k), k) * 0.3 + np.eye(k) * 0.7
    counts = matrix.T @ truth
    noise = inverse(matrix)
    assert isinstance(noise, np.ndarray)
    cube, size = (counts, counts), counts.sum(1)
    accuracy = np.trace(truth) / truth.sum()
    assert inverted_accuracy(cube, size.sum(), noise).value[0] == pytest.approx(accuracy, abs=1e-9)
    for c in range(k):
        found = inverted_rates(cube, size, noise[c], c, noise).value[0]
        assert found == pytest.approx(truth[c, c] / truth[c].sum(), abs=1e-9)
        others = np.arange(k) != c
        found = inverted_rates(cube, size, noise.sum(0) - noise[c], c, noise).value[0]
        assert found == pytest.approx(truth[others, c].sum() / truth[others].sum(), abs=1e-9)


def test_even_errors_of_two_classes_are_rogan_and_gladens_formula() -> None:
    """(accuracy − e) / (1 − 2e), and Wilson's limits carried through the same formula."""
    cube = np.array([[180, 20], [30, 170.0]])
    noise = inverse(flips(np.full(2, 0.05)))
    found = inverted_accuracy((cube, cube), 400, noise)
    limits = [(side - 0.05) / 0.9 for side in wilson(np.array(350 / 400), np.array(400), Z)]
    assert found.value[0] == pytest.approx((350 / 400 - 0.05) / 0.9)
    np.testing.assert_allclose([side[0] for side in found.limits(Z)], limits)


@pytest.mark.parametrize(("k", "n", "errors"), [(2, 400, (0.08, 0.03)), (4, 900, (0.1, 0.1, 0.1, 0.1))])
def test_noise_put_into_data_is_taken_out(k: int, n: int, errors: tuple[float, ...]) -> None:
    """Over 600 tables with flipped labels, corrected rates are right on average and intervals hold 92 % at least."""
    rng = np.random.default_rng(k)
    matrix = flips(np.array(errors))
    noise = inverse(matrix)
    assert isinstance(noise, np.ndarray)
    values, hits = [], []
    for _ in range(600):
        true = rng.integers(0, k, n)
        pred = np.where(rng.random(n) < 0.85, true, rng.integers(0, k, n))
        cube = cube_of(noisy(true, matrix, rng), pred, k)
        truth = 0.85 + 0.15 / k
        for found in (inverted_accuracy(cube, n, noise), inverted_rates(cube, cube[0].sum(1), noise[0], 0, noise)):
            low, high = found.limits(Z)
            values.append(found.value[0])
            hits.append(low[0] <= truth <= high[0])
    assert np.nanmean(values) == pytest.approx(0.85 + 0.15 / k, abs=0.004)
    assert np.mean(hits) >= 0.92


def test_noise_that_the_counts_rule_out_is_impossible() -> None:
    """Every prediction agrees with its label: five wrong labels of a hundred would show as disagreement."""
    cube = np.diag([200.0, 200.0])
    noise = inverse(flips(np.full(2, 0.05)))
    found = inverted_accuracy((cube, cube), 400, noise)
    assert np.isnan(found.value[0]) and np.isnan(found.limits(Z)[0][0])
    assert "noise assumption impossible with these counts" in found.reasons[0]


def test_a_rate_just_outside_its_range_is_told_apart_from_an_impossible_one() -> None:
    """Ninety-six right of a hundred where 95 are the most to be expected: no value, but chance alone could do it."""
    cube = np.array([[48, 2], [2, 48.0]])
    found = inverted_accuracy((cube, cube), 100, inverse(flips(np.full(2, 0.05))))
    assert np.isnan(found.value[0])
    assert "no more than chance" in found.reasons[0] and "101.1 %" in found.reasons[0]


@pytest.mark.parametrize("error", [0.5, 0.7])
def test_labels_no_better_than_chance_are_refused(error: float) -> None:
    """Half or more wrong of two classes: nothing to invert, with that reason."""
    why = inverse(flips(np.full(2, error)))
    assert isinstance(why, str) and "say nothing" in why


def test_wrong_membership_of_expected_counts_is_undone_and_had_diluted_the_gap() -> None:
    """Mixed groups give back their own rates exactly; the observed gap was smaller than the true one."""
    rate, size = np.array([0.95, 0.8, 0.85]), np.array([600.0, 300, 400])
    matrix = flips(np.full(3, 0.1))
    sizes, hits = matrix.T @ size, matrix.T @ (size * rate)
    noise = inverse(matrix)
    assert isinstance(noise, np.ndarray)
    found, pairs = inverted_groups(hits / sizes, (sizes, sizes), sizes, noise)
    np.testing.assert_allclose(found.value, rate, atol=1e-12)
    assert np.ptp(hits / sizes) < np.ptp(rate) - 0.02
    difference, low, high = pairs(Z)
    np.testing.assert_allclose(difference, rate[:, None] - rate[None, :], atol=1e-12)
    assert (low <= difference + 1e-12).all() and (difference <= high + 1e-12).all()


def test_intervals_of_corrected_groups_hold() -> None:
    """Over 800 tables with faces in wrong groups, rates and their difference are covered in 92 % at least."""
    rng = np.random.default_rng(7)
    rate, matrix = np.array([0.95, 0.8]), flips(np.array([0.1, 0.05]))
    noise = inverse(matrix)
    assert isinstance(noise, np.ndarray)
    hits, apart = [], []
    for _ in range(800):
        group = rng.integers(0, 2, 600)
        right = rng.random(600) < rate[group]
        seen = noisy(group, matrix, rng)
        size = np.bincount(seen, minlength=2).astype(float)
        observed = np.bincount(seen, weights=right, minlength=2) / size
        found, pairs = inverted_groups(observed, (size, size), size, noise)
        low, high = found.limits(Z)
        hits.append((low <= rate) & (rate <= high))
        _, down, up = pairs(Z)
        apart.append(down[0, 1] <= 0.15 <= up[0, 1])
    assert np.mean(hits) >= 0.92
    assert np.mean(apart) >= 0.92


def test_a_group_smaller_than_its_intruders_is_impossible() -> None:
    """Twenty faces where ten of a hundred of two thousand others would stand: fewer than none would be left."""
    noise = inverse(np.array([[0.9, 0.1], [0.0, 1.0]]))
    assert isinstance(noise, np.ndarray)
    size = np.array([2000.0, 20.0])
    found, _ = inverted_groups(np.array([0.9, 0.8]), (size, size), size, noise)
    assert np.isnan(found.value[1]) and "impossible" in found.reasons[1]


def test_by_default_the_headline_gap_is_bounded_over_a_grid() -> None:
    """Four rates; limits are the gap's moved by 2e; breakdown is half its lower limit; nothing is inverted."""
    table = noise_table(drawn(3000, {"A": 0.95, "B": 0.8, "C": 0.9}))
    assert tuple(table.columns) == MORE_TABLES["label_noise"]
    assert table["error_rate"].tolist() == [0.01, 0.02, 0.05, 0.10]
    assert set(table["method"]) == {"bound"} and set(table["subgroup"]) == {""}
    row = table.iloc[0]
    assert row["low"] == pytest.approx(row["observed_low"] - 0.02)
    assert row["high"] == pytest.approx(row["observed_high"] + 0.02)
    assert row["breakdown"] == pytest.approx(row["observed_low"] / 2)
    assert (row["worst"], row["best"], row["n"], row["reason"]) == ("B", "A", 3000, "")
    assert table.iloc[3]["low"] == 0


def test_a_gap_within_noise_breaks_down_at_once() -> None:
    """No shown gap: breakdown 0, with the reason."""
    row = noise_table(drawn(600, {"A": 0.9, "B": 0.9})).iloc[0]
    assert row["breakdown"] == 0 and "even if every label is right" in row["reason"]


def test_on_an_axis_made_of_the_label_only_the_bound_is_given() -> None:
    """Recall by labelled class is bounded; inverting labels there has a reason instead."""
    frame = drawn(1500, {"A": 0.95, "B": 0.8}).assign(gender=lambda f: f["gender_true"])
    table = noise_table(frame, "race:gender", rate=0.02, membership={"race:gender": 0.02})
    bound = table[(table["method"] == "bound") & (table["by"] != OVERALL)]
    assert set(bound["metric"]) == {"recall_by_labelled_class"} and len(bound) == 5
    others = table[(table["method"] != "bound") & (table["by"] != OVERALL)]
    assert others["corrected"].isna().all() and others["reason"].str.contains("made of the label").all()


def test_stated_rates_bound_and_correct_every_subgroup() -> None:
    """Each subgroup has its own rate; a planted flip of 10 % in B only made a gap, and its correction takes it away."""
    frame = drawn(6000, {"A": 0.9, "B": 0.9}, seed=3)
    rng = np.random.default_rng(5)
    flip = (frame["race"] == "B") & (rng.random(len(frame)) < 0.1)
    frame["gender_true"] = np.where(flip, np.where(frame["gender_true"] == "F", "M", "F"), frame["gender_true"])
    table = noise_table(frame, rate=0.0, subgroups={"B": 0.1})
    gap = table[(table["subgroup"] == "") & (table["by"] == "race") & (table["metric"] == "accuracy")]
    bound, corrected = (gap[gap["method"] == m].iloc[0] for m in ("bound", "labels inverted"))
    assert bound["observed_low"] > 0.03 and bound["low"] == 0
    assert corrected["low"] == 0 and corrected["corrected"] < 0.03
    own = table[(table["method"] == "bound") & (table["subgroup"] == "B")].iloc[0]
    assert own["error_rate"] == pytest.approx(0.1)
    assert own["low"] == pytest.approx(own["observed_low"] - 0.1)
    overall = table[(table["by"] == OVERALL) & (table["method"] == "labels inverted")]
    assert set(overall["subgroup"]) == {OVERALL}


def test_a_matrix_corrects_its_task() -> None:
    """P(label | truth) for the task is inverted as given: recall of F from its own row, exactly."""
    frame = drawn(2000, {"A": 0.9, "B": 0.85})
    table = noise_table(frame, matrix={"gender": [[0.95, 0.05], [0.0, 1.0]]})
    row = table[(table["metric"] == "recall") & (table["class"] == "F") & (table["subgroup"] == "A")].iloc[0]
    part = frame[frame["race"] == "A"]
    counts = pd.crosstab(part["gender_true"], part["gender_pred"]).to_numpy(dtype=float)
    truth = np.linalg.inv(np.array([[0.95, 0.05], [0.0, 1.0]]).T) @ counts
    assert row["corrected"] == pytest.approx(truth[0, 0] / truth[0].sum())
    assert row["error_rate"] == pytest.approx(0.05)


def test_wrong_membership_is_corrected_where_stated() -> None:
    """Faces put into the other race at 10 %: the corrected gap is larger and near the true one; selection rates too."""
    frame = drawn(8000, {"A": 0.95, "B": 0.75}, seed=2)
    moved = np.random.default_rng(4).random(len(frame)) < 0.1
    frame["race"] = np.where(moved, np.where(frame["race"] == "A", "B", "A"), frame["race"])
    table = noise_table(frame, membership={"race": 0.1})
    own = table[table["method"] == "membership inverted"]
    gap = own[(own["subgroup"] == "") & (own["metric"] == "accuracy")].iloc[0]
    assert gap["corrected"] > gap["observed"] + 0.02
    assert gap["low"] < 0.2 < gap["high"]
    assert (gap["worst"], gap["best"]) == ("B", "A")
    assert "smaller than the true one" in gap["reason"]
    assert {"accuracy", "recall", "fpr", "selection_rate"} == set(own["metric"])


def test_weights_and_subjects_widen_corrected_intervals() -> None:
    """Unequal weights, or four pictures of each person that share label and prediction, are worth fewer faces."""
    frame = drawn(1500, {"A": 0.9, "B": 0.8})
    copies = pd.concat([frame.assign(subject_id=frame["image"].astype(str))] * 4, ignore_index=True)
    copies["image"] = np.arange(len(copies))
    weight = np.random.default_rng(9).choice([0.2, 3.0], len(frame))
    noise = {"rate": 0.05, "membership": {"race": 0.05}}
    tables = [noise_table(f, **noise) for f in (frame, frame.assign(weight=weight), copies)]
    for method in ("labels inverted", "membership inverted"):
        for metric, class_ in (("accuracy", ""), ("recall", "F")):
            rows = [
                t[(t["method"] == method) & (t["metric"] == metric) & (t["class"] == class_) & (t["subgroup"] == "A")]
                for t in tables
            ]
            plain, weighted, together = ((row["high"] - row["low"]).iloc[0] for row in rows)
            assert weighted > 1.15 * plain
            assert together == pytest.approx(plain, rel=0.15)


def test_the_largest_rate_that_applies_counts() -> None:
    """An intersection takes the rates of its parts unless it is named; a class its own where larger."""
    noise = LabelNoiseSpec(rate=0.01, subgroups={"Black": 0.1, "White × Male": 0.0}, classes={"F": 0.05})
    assert error_rates(noise, "Black × Male", ["F", "M"]).tolist() == [0.1, 0.1]
    assert error_rates(noise, "White × Male", ["F", "M"]).tolist() == [0.05, 0.01]


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ({"subgroups": {"Blak": 0.1}}, "no subgroup 'Blak'; did you mean 'Black'"),
        ({"classes": {"X": 0.1}}, "no class 'X'"),
        ({"matrix": {"race": [[1, 0], [0, 1]]}}, "no task 'race'"),
        ({"membership": {"age": 0.1}}, "no axis 'age'"),
        ({"matrix": {"gender": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}}, "3 × 3"),
        ({"membership": {"race": [[1.0]]}}, "a column for each of Black, White"),
    ],
)
def test_rates_of_what_is_not_there_are_refused(noise: Mapping[str, object], said: str) -> None:
    """A subgroup, class, task or axis that the audit lacks, or a matrix of another size: a sentence."""
    with pytest.raises(UsageError, match=said):
        check_label_noise(
            LabelNoiseSpec.model_validate(noise), {"gender": ("F", "M")}, {"race": ["Black", "White", "unknown"]}
        )


@pytest.mark.parametrize("noise", [{"rate": 1.5}, {"matrix": {"gender": [[0.9, 0.2], [0, 1]]}}, {"rats": 0.1}])
def test_a_spec_with_impossible_rates_is_refused(noise: Mapping[str, object]) -> None:
    """Above 1, rows that do not sum to 1, and an unknown key name their place in the spec."""
    with pytest.raises(UsageError, match=r"audit\.label_noise"):
        parse_spec({"name": "x", "data": {"dataset": "manifest"}, "audit": {"label_noise": noise}})


def test_labels_of_unknown_origin_cap_every_claim() -> None:
    """Without a source the audit says that claims hold on this sample only; with one it does not."""
    frame = drawn(200, {"A": 0.9, "B": 0.9})
    assert UNKNOWN_LABELS in run_audit(frame, by=["race"], audit=AuditSpec(draws=100)).meta["warnings"]
    told = run_audit(frame, by=["race"], audit=AuditSpec(draws=100), meta={"label_source": "three annotators"})
    assert UNKNOWN_LABELS not in told.meta["warnings"]
    assert "label_noise" in told.more
