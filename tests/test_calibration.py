"""Calibration error, recalibration, losses and ages in years against scikit-learn, statsmodels and planted truth."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.metrics.calibration import calibration_error, equal_mass_bins, logits, recalibrate, signed_root
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.measures import FaceScores, Measures
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.score_estimates import score_estimates

QUICK = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)
Maker = Callable[[np.ndarray], np.ndarray]


def top_scores(n: int, rng: np.random.Generator, chance: Maker) -> tuple[np.ndarray, np.ndarray]:
    """Confidences above one half, and whether each is right with the probability `chance(confidence)`."""
    confidence = 1 / (1 + np.exp(-np.abs(rng.normal(1.5, 1.3, n))))
    return confidence, rng.random(n) < chance(confidence)


def binary(confidence: np.ndarray, right: np.ndarray, group: np.ndarray | None = None, **more: Any) -> Sample:
    """Faces of two classes that are all predicted as the second, with these confidences."""
    n = len(confidence)
    group = np.zeros(n, dtype=int) if group is None else group
    scores = FaceScores(
        values=np.column_stack([1 - confidence, confidence]), label=right.astype(int), prediction=np.ones(n, dtype=int)
    )
    return Sample(
        table=Table(2, 2),
        groups=tuple(f"g{i}" for i in range(int(group.max()) + 1)),
        group=group,
        row=scores.label,
        column=scores.prediction,
        measures=Measures(scores=scores),
        **more,
    )


def estimates(sample: Sample, *names: str) -> dict[str, Any]:
    """The estimates of these metrics for every subgroup and everyone else of each."""
    several = len(sample.groups) > 1
    known = np.ones(len(sample.groups), dtype=bool)
    return score_estimates(sample, known, several, [METRICS[name] for name in names])


def error_of(confidence: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """The squared calibration error of distinct confidences, and its variance."""
    order = np.argsort(confidence)
    sides = right[order].astype(float), 1.0 - right[order]
    return calibration_error(confidence[order], *sides, sides, len(right))


@pytest.mark.parametrize("n", [30, 300, 3000])
def test_a_calibrated_model_has_no_calibration_error_on_average(n: int) -> None:
    """At any size the debiased error of a calibrated model averages 0, within four standard errors of the simulation.

    The plain error over the same bins is far from 0: the test would see a missing correction.
    """
    rng = np.random.default_rng(n)
    squared, plain, covered = [], [], []
    for _ in range(400):
        confidence, right = top_scores(n, rng, lambda c: c)
        value, variance = error_of(confidence, right)
        squared.append(value)
        covered.append(value - z_value(0.95) * np.sqrt(variance) <= 0)
        order = np.argsort(confidence)
        bins = equal_mass_bins(confidence[order], right[order].astype(float), 1.0 - right[order], 15)
        plain.append((np.abs(bins.right - bins.score)).sum() / n)
    error = np.std(squared) / 20
    assert abs(np.mean(squared)) < 4 * error
    assert abs(np.mean(signed_root(np.array(squared)))) < 0.1 * np.mean(plain) + 4 * np.std(signed_root(squared)) / 20
    assert np.mean(plain) > {30: 0.15, 300: 0.05, 3000: 0.015}[n]
    assert np.mean(covered) > 0.94


def test_a_planted_calibration_error_is_measured_and_covered() -> None:
    """An overconfident model's error is unbiased for that of its bins, and its limits cover it."""
    rng = np.random.default_rng(4)

    def chance(c: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-0.5 * logits(c)))

    found, truth, covered = [], [], []
    for _ in range(300):
        confidence, right = top_scores(400, rng, chance)
        order = np.argsort(confidence)
        bins = equal_mass_bins(confidence[order], right[order].astype(float), 1.0 - right[order], 15)
        gap = bins.sums((chance(confidence) - confidence)[order]) / bins.mass
        truth.append((bins.mass / 400 * gap**2).sum())
        value, variance = error_of(confidence, right)
        found.append(value)
        reach = z_value(0.95) * np.sqrt(variance)
        covered.append(value - reach <= truth[-1] <= value + reach)
    assert np.mean(found) == pytest.approx(np.mean(truth), abs=4 * np.std(found) / np.sqrt(300))
    assert np.mean(truth) > 0.008
    assert np.mean(covered) > 0.92


@QUICK
@given(SEEDS)
def test_the_squared_error_is_the_mean_over_pairs(seed: int) -> None:
    """The debiased error equals the brute-force mean of products of residuals over pairs of faces that share a bin."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 60))
    confidence, right = top_scores(n, rng, lambda c: c)
    confidence.sort()
    bins = equal_mass_bins(confidence, right.astype(float), 1.0 - right, max(1, min(15, n // 2)))
    residual, total, used = right - confidence, 0.0, 0
    for b in range(len(bins.mass)):
        r = residual[bins.number == b]
        if len(r) > 1:
            pairs = np.outer(r, r)
            total += len(r) * (pairs.sum() - np.trace(pairs)) / (len(r) * (len(r) - 1))
            used += len(r)
    assert error_of(confidence, right)[0] == pytest.approx(total / used, abs=1e-12)


@QUICK
@given(SEEDS)
def test_recalibration_equals_statsmodels(seed: int) -> None:
    """Slope, intercept and their limits equal statsmodels' Logit, for subgroups and everyone else of each."""
    rng = np.random.default_rng(seed)
    n = 200
    confidence, right = top_scores(n, rng, lambda c: 1 / (1 + np.exp(0.2 - 0.7 * logits(c))))
    group = rng.integers(0, 2, n)
    found = estimates(binary(confidence, right, group), "calibration_slope", "calibration_intercept")
    for q in range(4):
        here = group == q if q < 2 else group != q - 2
        if min(right[here].sum(), (~right[here]).sum()) < 10:
            continue
        fit = sm.Logit(right[here].astype(float), sm.add_constant(logits(confidence[here]))).fit(disp=0, tol=1e-12)
        limits = fit.conf_int(0.05)
        for i, name in enumerate(("calibration_intercept", "calibration_slope")):
            assert found[name].value[q, 0] == pytest.approx(fit.params[i], abs=1e-7)
            low, high = (side[q, 0] for side in found[name].limits(z_value(0.95)))
            np.testing.assert_allclose([low, high], limits[i], atol=1e-6)


def test_recalibration_with_weights_and_subjects_is_the_sandwich() -> None:
    """Weighted and clustered variances equal statsmodels' robust ones of a binomial model."""
    rng = np.random.default_rng(2)
    n = 400
    confidence, right = top_scores(n, rng, lambda c: c)
    weight, subject = rng.uniform(0.2, 3, n), rng.integers(0, 120, n)
    x = sm.add_constant(logits(confidence))
    names = ("calibration_intercept", "calibration_slope")
    plain = estimates(binary(confidence, right, subject=subject), *names)
    fit = sm.Logit(right.astype(float), x).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": subject, "use_correction": False}
    )
    people = len(np.unique(subject))
    for i, name in enumerate(names):
        low, high = (side[0, 0] for side in plain[name].limits(1.0))
        assert (high - low) / 2 == pytest.approx(fit.bse[i] * np.sqrt(people / (people - 1)), rel=1e-6)
    weighted = estimates(binary(confidence, right, weight=weight), *names)
    model = sm.GLM(right.astype(float), x, family=sm.families.Binomial(), freq_weights=weight)
    value = model.fit(tol=1e-12).params
    p = 1 / (1 + np.exp(-(x @ value)))
    bread = np.linalg.inv((x * (weight * p * (1 - p))[:, None]).T @ x)
    pulls = x * (weight * (right - p))[:, None]
    errors = np.sqrt(np.diag(bread @ (pulls.T @ pulls) @ bread))
    for i, name in enumerate(names):
        low, high = (side[0, 0] for side in weighted[name].limits(1.0))
        assert weighted[name].value[0, 0] == pytest.approx(value[i], abs=1e-7)
        assert (high - low) / 2 == pytest.approx(errors[i], rel=1e-6)


def test_many_distinct_scores_are_condensed_without_loss() -> None:
    """20,000 distinct confidences give statsmodels' slope, intercept and errors, weighted ones their sandwich."""
    rng = np.random.default_rng(1)
    confidence, right = top_scores(20_000, rng, lambda c: 1 / (1 + np.exp(0.3 - 0.8 * logits(c))))
    order = np.argsort(confidence)
    x, y = sm.add_constant(logits(confidence[order])), right[order].astype(float)
    fit = sm.Logit(y, x).fit(disp=0, tol=1e-12)
    found = recalibrate(confidence[order], y, 1 - y)
    np.testing.assert_allclose(found.value, fit.params, atol=1e-8)
    np.testing.assert_allclose(np.sqrt(found.variance), fit.bse, rtol=1e-6)
    robust = recalibrate(confidence[order], y, 1 - y, (y, 1 - y))
    np.testing.assert_allclose(np.sqrt(robust.variance), sm.Logit(y, x).fit(disp=0, cov_type="HC0").bse, rtol=1e-5)


def test_a_slope_that_does_not_exist_says_so() -> None:
    """All right, or right and wrong parted by a confidence: no slope, with that reason; few wrong ones: no interval."""
    confidence = np.linspace(0.55, 0.95, 40)
    assert "every prediction is right" in recalibrate(confidence, np.ones(40), np.zeros(40)).reason
    parted = confidence > 0.7
    assert "parts right from wrong" in recalibrate(confidence, parted * 1.0, 1.0 - parted).reason
    right = np.ones(40, dtype=bool)
    right[[3, 20, 30]] = False
    found = estimates(binary(confidence, right), "calibration_slope")["calibration_slope"]
    assert np.isfinite(found.value[0, 0]) and np.isnan(found.limits(1.96)[0][0, 0])
    assert "10 right and 10 wrong" in found.notes[0, 0]


@QUICK
@given(SEEDS)
def test_losses_equal_scikit_learn(seed: int) -> None:
    """Log loss and Brier score (two classes and more, weighted) equal scikit-learn's for every pool."""
    rng = np.random.default_rng(seed)
    n, k = 80, int(rng.integers(2, 5))
    values = rng.dirichlet(np.ones(k), n)
    label, group, weight = rng.integers(0, k, n), rng.integers(0, 3, n), rng.uniform(0.5, 2, n)
    scores = FaceScores(values=values, label=label, prediction=values.argmax(1))
    sample = Sample(
        table=Table(k, k), groups=("a", "b", "c"), group=group, row=label, column=scores.prediction, weight=weight,
        measures=Measures(scores=scores),
    )  # fmt: skip
    found = estimates(sample, "log_loss", "brier", "mean_labelled_probability")
    for q in range(6):
        here = group == q if q < 3 else group != q - 3
        if not here.any():
            continue
        given_ = {"sample_weight": weight[here], "labels": list(range(k))}
        loss = sk.log_loss(label[here], values[here], **given_)
        assert found["log_loss"].value[q, 0] == pytest.approx(loss, abs=1e-12)
        positive = values[here, 1] if k == 2 else values[here]
        brier = sk.brier_score_loss(label[here], positive, **given_)
        assert found["brier"].value[q, 0] == pytest.approx(brier, abs=1e-12)
        mean = np.average(values[here, label[here]], weights=weight[here])
        assert found["mean_labelled_probability"].value[q, 0] == pytest.approx(mean, abs=1e-12)


def test_intervals_of_means_cover() -> None:
    """95 % limits of log loss, Brier score and labelled probability cover the truth in 90 % and more at n = 60."""
    rng = np.random.default_rng(9)
    big, right = top_scores(100_000, rng, lambda c: c)
    names = ("log_loss", "brier", "mean_labelled_probability")
    truth = {name: found.value[0, 0] for name, found in estimates(binary(big, right), *names).items()}
    group = np.repeat(np.arange(300), 60)
    many = estimates(binary(big[: len(group)], right[: len(group)], group), *names)
    for name in names:
        low, high = (side[:300, 0] for side in many[name].limits(z_value(0.95)))
        assert 0.9 < ((low <= truth[name]) & (truth[name] <= high)).mean() < 0.99, name


def test_a_probability_of_zero_for_the_label_is_told() -> None:
    """Log loss stays finite, as in scikit-learn, and the pool's note says what was done."""
    found = estimates(binary(np.array([1.0, 0.8, 0.7]), np.array([False, True, True])), "log_loss")["log_loss"]
    expected = sk.log_loss([0, 1, 1], [1.0, 0.8, 0.7])
    assert found.value[0, 0] == pytest.approx(expected, rel=1e-9)
    assert "counts as 2e-16" in found.notes[0, 0]


def ages(n: int, seed: int, **more: Any) -> Sample:
    """Faces with labelled and predicted ages in years, two sexes, two subgroups; some ages missing."""
    rng = np.random.default_rng(seed)
    true = rng.integers(10, 40, n).astype(float)
    predicted = true + rng.normal(1, 4, n)
    true[rng.random(n) < 0.05] = np.nan
    code = np.zeros(n, dtype=int)
    return Sample(
        table=Table(2, 2), groups=("a", "b"), group=rng.integers(0, 2, n), row=code, column=code,
        measures=Measures(years=np.column_stack([true, predicted]), sex=rng.integers(0, 2, n), sexes=("f", "m")),
        **more,
    )  # fmt: skip


def test_ages_in_years_equal_plain_recomputation() -> None:
    """MAE, RMSE, signed error, CS(5) and NIST's two measures equal a mask over the ages; both limits enclose them."""
    sample = ages(3000, 1)
    names = [name for name, metric in METRICS.items() if metric.needs == "years"]
    found = estimates(sample, *names)
    measures = sample.measures
    assert measures is not None and measures.years is not None and measures.sex is not None
    true, predicted = measures.years.T
    for q in range(4):
        here = (sample.group == q if q < 2 else sample.group != q - 2) & ~np.isnan(true)
        error = (predicted - true)[here]
        young = here & (true >= 14) & (true < 18)
        cells = [
            np.abs(predicted - true)[here & (measures.sex == sex) & (true == age)].mean()
            for sex in (0, 1)
            for age in range(18, 31)
        ]
        expected = {
            "mae_years": np.abs(error).mean(),
            "rmse_years": np.sqrt((error**2).mean()),
            "signed_error_years": error.mean(),
            "cumulative_score_5_years": (np.abs(error) <= 5).mean(),
            "mae_years_18_to_30": np.mean(cells),
            "challenge_25_false_positive_rate": (predicted[young] >= 25).mean(),
        }
        for name in names:
            assert found[name].value[q, 0] == pytest.approx(expected[name], abs=1e-12)
            low, high = (side[q, 0] for side in found[name].limits(z_value(0.95)))
            assert low <= expected[name] <= high and low < high
        assert found["challenge_25_false_positive_rate"].denominator[q, 0] == young.sum()


def test_years_that_are_not_known_are_refused_with_the_reason() -> None:
    """Bins only: every measure is empty with the reason; an empty cell of sex × age empties NIST's mean error."""
    code = np.zeros(4, dtype=int)
    sample = Sample(
        table=Table(2, 2), groups=("a",), group=code, row=code, column=code, measures=Measures(why_no_years="only bins")
    )
    for estimate in estimates(sample, "mae_years", "mae_years_18_to_30").values():
        assert np.isnan(estimate.value).all() and (estimate.notes == "only bins").all()
    few = estimates(ages(60, 0), "mae_years_18_to_30")["mae_years_18_to_30"]
    assert np.isnan(few.value[0, 0]) and "of the 26 cells of sex × age" in few.notes[0, 0]


def test_subjects_widen_intervals_of_means() -> None:
    """Four copies of each face as one person give the limits of single faces, and not half their width."""
    single = ages(200, 3)
    measures = single.measures
    assert measures is not None and measures.years is not None and measures.sex is not None
    four = np.repeat(np.arange(200), 4)
    copies = Sample(
        table=single.table, groups=single.groups, group=single.group[four], row=single.row[four],
        column=single.column[four], subject=four,
        measures=Measures(years=measures.years[four], sex=measures.sex[four], sexes=measures.sexes),
    )  # fmt: skip
    names = ("mae_years", "rmse_years", "signed_error_years", "cumulative_score_5_years")
    one, many = estimates(single, *names), estimates(copies, *names)
    for name in names:
        for first, second in zip(one[name].limits(1.96), many[name].limits(1.96), strict=True):
            np.testing.assert_allclose(second, first, rtol=0.01)
        assert (many[name].effective <= one[name].denominator + 1e-9).all()


def test_limits_hold_at_any_level_and_need_some_spread() -> None:
    """At the most extreme level limits stay numbers or infinite; equal faces give no interval, with that reason."""
    confidence, right = top_scores(60, np.random.default_rng(0), lambda c: c)
    names = [name for name, metric in METRICS.items() if metric.needs == "scores"]
    for name, found in estimates(binary(confidence, right), *names).items():
        low, high = found.limits(38.0)
        assert not np.isnan(low).any() and (low <= found.value).all() and (found.value <= high).all(), name
    equal = estimates(binary(np.full(40, 0.8), np.ones(40, dtype=bool)), "log_loss", "mean_labelled_probability")
    for found in equal.values():
        assert np.isnan(found.limits(1.96)[0]).all() and "same value" in found.notes[0, 0]
