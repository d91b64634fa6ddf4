"""ROC AUC and average precision against scikit-learn, brute-force placement values and resampling."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.measures import FaceScores, Measures, ranked
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.score_estimates import score_estimates
from fairaudit.metrics.scores import auc, auc_error_bound, binned, counted_table, merged, score_table

QUICK = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)


def faces(seed: int, n: int = 60, k: int = 3, groups: int = 3, **more: Any) -> Sample:
    """Faces of a few subgroups, one of which may lack a class; scores rounded so that many tie."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, n)
    logits = rng.normal(0, 1, (n, k)) + 1.5 * np.eye(k)[label]
    values = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rng.integers(1, 4))
    prediction = values.argmax(1)
    measures = Measures(scores=FaceScores(values=values, label=label, prediction=prediction))
    return Sample(
        table=Table(k, k),
        groups=tuple(f"g{i}" for i in range(groups)),
        group=rng.integers(0, groups, n),
        row=label,
        column=prediction,
        measures=measures,
        **more,
    )


def scores_of(sample: Sample) -> FaceScores:
    """The sample's scores."""
    assert sample.measures is not None and sample.measures.scores is not None
    return sample.measures.scores


def estimates(sample: Sample, *names: str, known: np.ndarray | None = None) -> dict[str, Any]:
    """The estimates of these metrics for every subgroup and everyone else of each."""
    known = np.ones(len(sample.groups), dtype=bool) if known is None else known
    return score_estimates(sample, known, True, [METRICS[name] for name in names])


def members(sample: Sample, q: int) -> np.ndarray:
    """The faces of pool `q` where every subgroup is known: a subgroup's, or everyone else's."""
    g = len(sample.groups)
    return sample.group == q if q < g else sample.group != q - g


def placements(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The O(n²) placement values of both sides: the share of the other side that a face is ranked right against."""
    up, down = score[positive], score[~positive]
    wins = (up[:, None] > down[None, :]) + 0.5 * (up[:, None] == down[None, :])
    return wins.mean(1), wins.mean(0)


@QUICK
@given(SEEDS)
def test_auc_and_its_variance_equal_brute_force(seed: int) -> None:
    """AUC equals scikit-learn's and DeLong's variance that of O(n²) placement values, for subgroups and their rests."""
    sample = faces(seed)
    found, scores = estimates(sample, "auc")["auc"], scores_of(sample)
    for q in range(6):
        here = members(sample, q)
        for c in range(3):
            positive = scores.label[here] == c
            if not 0 < positive.sum() < here.sum():
                assert np.isnan(found.value[q, c])
                continue
            score = scores.values[here, c]
            assert found.value[q, c] == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
            assert found.denominator[q, c] == min(positive.sum(), (~positive).sum())
            up, down = placements(score, positive)
            if found.notes[q, c] == "":
                variance = up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down)
                value = found.value[q, c]
                low, high = (side[q, c] for side in found.limits(1.96))
                reach = 1.96 * np.sqrt(variance) / (value * (1 - value))
                assert np.log(high / (1 - high)) - np.log(low / (1 - low)) == pytest.approx(2 * reach, rel=1e-8)


@QUICK
@given(SEEDS)
def test_average_precision_equals_scikit_learn(seed: int) -> None:
    """Average precision of every pool and class, ties included, and undefined without a face of the class."""
    sample = faces(seed)
    found, scores = estimates(sample, "average_precision")["average_precision"], scores_of(sample)
    for q in range(6):
        here = members(sample, q)
        for c in range(3):
            positive = scores.label[here] == c
            if not positive.any():
                assert np.isnan(found.value[q, c])
                continue
            expected = sk.average_precision_score(positive, scores.values[here, c])
            assert found.value[q, c] == pytest.approx(expected, abs=1e-12)


@QUICK
@given(SEEDS)
def test_weights_act_as_in_scikit_learn(seed: int) -> None:
    """Weighted AUC and average precision equal scikit-learn's `sample_weight`; whole weights act as repeated faces."""
    weight = np.random.default_rng(seed + 1).integers(1, 4, 60).astype(float)
    sample = faces(seed, weight=weight)
    found, scores = estimates(sample, "auc", "average_precision"), scores_of(sample)
    for q in range(6):
        here = members(sample, q)
        positive = scores.label[here] == 1
        if not 0 < positive.sum() < here.sum():
            continue
        score = scores.values[here, 1]
        for name, oracle in (("auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)):
            expected = oracle(positive, score, sample_weight=weight[here])
            assert found[name].value[q, 1] == pytest.approx(expected, abs=1e-12)


@QUICK
@given(SEEDS)
def test_subjects_of_one_picture_change_nothing_and_copies_count_once(seed: int) -> None:
    """With one picture a person the clustered interval is the plain one, nearly; a table of copies keeps its interval.

    AUC's DeLong variance has m − 1 per side, the clustered one the number of persons − 1 for both: hence nearly.
    """
    sample = faces(seed, n=120, subject=np.arange(120))
    plain = faces(seed, n=120)
    twice = np.tile(np.arange(120), 2)
    scores = scores_of(sample)
    copied = FaceScores(values=scores.values[twice], label=scores.label[twice], prediction=scores.prediction[twice])
    copies = Sample(
        table=sample.table,
        groups=sample.groups,
        group=sample.group[twice],
        row=sample.row[twice],
        column=sample.column[twice],
        subject=twice,
        measures=Measures(scores=copied),
    )
    names = ("auc", "average_precision", "log_loss", "brier", "ece", "calibration_slope")
    one, none, two = (estimates(s, *names) for s in (sample, plain, copies))
    for name in names:
        dust = 1e-7 if name == "ece" else 1e-12  # a root of what is 0 but for rounding
        np.testing.assert_allclose(one[name].value, none[name].value, atol=dust)
        np.testing.assert_allclose(two[name].value, one[name].value, atol=max(dust, 1e-9))
        assert (two[name].effective <= one[name].effective + 1e-9).all()
        for first, second, third in zip(*(e[name].limits(1.96) for e in (one, none, two)), strict=True):
            both = ~np.isnan(first) & ~np.isnan(third)
            assert both.any() or name == "calibration_slope"
            np.testing.assert_allclose(third[both], first[both], rtol=1e-6, atol=1e-9)
            if name != "calibration_slope":  # model-based there, a sandwich with subjects
                np.testing.assert_allclose(first[both], second[both], atol=0.02)


def test_clustered_auc_variance_sums_influences_of_persons() -> None:
    """The variance with subjects is that of placement values summed by person (Obuchowski 1997), by brute force."""
    rng = np.random.default_rng(3)
    subject = rng.integers(0, 40, 120)
    sample = faces(5, n=120, groups=1, subject=subject)
    scores = scores_of(sample)
    positive, score = scores.label == 0, scores.values[:, 0]
    up, down = placements(score, positive)
    value = up.mean()
    moves = np.zeros(120)
    moves[positive], moves[~positive] = (up - value) / len(up), (down - value) / len(down)
    people = np.bincount(subject, weights=moves)
    people = people[np.unique(subject)]
    variance = (people**2).sum() * len(people) / (len(people) - 1)
    low, high = (side[0, 0] for side in estimates(sample, "auc", known=np.zeros(1, dtype=bool))["auc"].limits(1.0))
    reach = np.sqrt(variance) / (value * (1 - value))
    assert np.log(high / (1 - high)) - np.log(low / (1 - low)) == pytest.approx(2 * reach, rel=1e-8)


def test_average_precision_moves_as_its_influence_says() -> None:
    """The infinitesimal jackknife's variance agrees with the spread over redrawn tables."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(300):
        label = rng.integers(0, 2, 300)
        up = 1 / (1 + np.exp(-(rng.normal(0, 1.5, 300) + 2 * label - 1)))
        scores = FaceScores(values=np.column_stack([1 - up, up]), label=label, prediction=(up > 0.5).astype(int))
        sample = Sample(
            table=Table(2, 2), groups=("a",), group=np.zeros(300, dtype=int), row=label, column=scores.prediction,
            measures=Measures(scores=scores),
        )  # fmt: skip
        found = estimates(sample, "average_precision", known=np.zeros(1, dtype=bool))["average_precision"]
        low, high = (side[0, 1] for side in found.limits(1.0))
        value = found.value[0, 1]
        values.append(value)
        errors.append((np.log(high / (1 - high)) - np.log(low / (1 - low))) / 2 * value * (1 - value))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)


def test_few_faces_and_edges_have_no_interval() -> None:
    """Under ten of a side, or at 1, the value stands and its interval is "not estimable"."""
    label = np.array([0] * 50 + [1] * 9)
    rng = np.random.default_rng(0)
    up = np.clip(rng.normal(0.4, 0.2, 59) + 0.1 * label, 0.01, 0.99)

    def found(label: np.ndarray, up: np.ndarray) -> Any:
        scores = FaceScores(values=np.column_stack([1 - up, up]), label=label, prediction=(up > 0.5).astype(int))
        sample = Sample(
            table=Table(2, 2), groups=("a",), group=np.zeros(len(up), dtype=int), row=label, column=scores.prediction,
            measures=Measures(scores=scores),
        )  # fmt: skip
        return estimates(sample, "auc", known=np.zeros(1, dtype=bool))["auc"]

    few = found(label, up)
    assert "needs 10 faces" in few.notes[0, 1] and np.isnan(few.limits(1.96)[0][0, 1]) and 0 < few.value[0, 1] < 1
    label = np.repeat([0, 1], 20)
    perfect = found(label, np.linspace(0, 1, 40))
    assert perfect.value[0, 1] == 1 and "value of 1" in perfect.notes[0, 1]
    assert np.isnan(perfect.limits(1.96)[1][0, 1])


def test_shards_add_and_bins_stay_within_their_bound() -> None:
    """Merged tables of shards equal the whole's bit for bit; binned scores miss AUC by at most half the tied mass."""
    rng = np.random.default_rng(1)
    n = 5000
    label, group = rng.random(n) < 0.3, rng.integers(0, 4, n)
    score = np.clip(rng.beta(2, 3, n) + 0.2 * label, 0, 1)
    known = np.array([True, True, True, False])
    whole = score_table(ranked(score), group, 4, label, None)
    parts = [
        score_table(ranked(score[part]), group[part], 4, label[part], None)
        for part in np.array_split(rng.permutation(n), 3)
    ]
    first, second = auc(whole, known), auc(merged(parts), known)
    np.testing.assert_array_equal(first.value, second.value)
    np.testing.assert_array_equal(first.variance, second.variance)
    counted = counted_table(4, group, score, label.astype(float), (~label).astype(float))
    np.testing.assert_array_equal(auc(counted, known).value, first.value)
    for bins in (4, 50, 2**16):
        rough = binned(whole, bins)
        missed = np.abs(auc(rough).value - auc(whole).value)
        bound = auc_error_bound(rough)
        assert (missed <= bound + 1e-12).all()
        assert bins > 50 or (missed > 1e-6).any()
    with_rests = auc(whole, known)
    assert len(with_rests.value) == 7
    others = (group != 0) & (group != 3)
    assert with_rests.value[4] == pytest.approx(sk.roc_auc_score(label[others], score[others]), abs=1e-12)


def test_an_interval_covers_as_it_says() -> None:
    """95 % limits of AUC and average precision cover the truth in 90 to 99 % of small tables."""
    rng = np.random.default_rng(7)
    size = 200_000
    label = rng.random(size) < 0.4
    up = rng.normal(0, 1, size) + 1.2 * label
    truth = (sk.roc_auc_score(label, up), sk.average_precision_score(label, up))
    hits = np.zeros(2)
    for draw in range(300):
        part = slice(draw * 80, draw * 80 + 80)
        scores = 1 / (1 + np.exp(-up[part]))
        faces = FaceScores(
            values=np.column_stack([1 - scores, scores]), label=label[part].astype(int),
            prediction=(scores > 0.5).astype(int),
        )  # fmt: skip
        sample = Sample(
            table=Table(2, 2), groups=("a",), group=np.zeros(80, dtype=int), row=faces.label, column=faces.prediction,
            measures=Measures(scores=faces),
        )  # fmt: skip
        found = estimates(sample, "auc", "average_precision", known=np.zeros(1, dtype=bool))
        for i, name in enumerate(("auc", "average_precision")):
            low, high = (side[0, 1] for side in found[name].limits(z_value(0.95)))
            hits[i] += low <= truth[i] <= high
    assert ((hits / 300 > 0.9) & (hits / 300 < 0.99)).all(), hits / 300
