"""Count metrics against scikit-learn and fairlearn on generated tables."""

import fairlearn.metrics as fl
import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.errors import UsageError
from fairaudit.metrics.rates import METRICS, evaluate

K = 4
PAIRS = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=80)


def cube_of(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and their confusion matrix."""
    y, p = np.array(pairs).T
    cube = np.zeros((K, K))
    np.add.at(cube, (y, p), 1)
    return y, p, cube


def same(ours: np.ndarray, theirs: object, rel: float = 1e-12) -> None:
    """Equal to 1e-12, undefined in the same places."""
    np.testing.assert_allclose(ours, np.asarray(theirs, dtype=float), rtol=rel, atol=1e-12, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_per_class_rates_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """Precision, recall, F1 and the one-vs-rest rates of each class equal scikit-learn's; undefined is NaN."""
    y, p, cube = cube_of(pairs)
    labels = list(range(K))
    precision, recall, f1, support = sk.precision_recall_fscore_support(y, p, labels=labels, zero_division=np.nan)
    same(evaluate("precision", cube), precision)
    same(evaluate("recall", cube), recall)
    occurs = (cube.sum(0) + cube.sum(1)) > 0
    same(evaluate("f1", cube)[occurs], f1[occurs])
    assert np.isnan(evaluate("f1", cube)[~occurs]).all()
    same(evaluate("support", cube), support)
    tn, fp, fn, tp = sk.multilabel_confusion_matrix(y, p, labels=labels).reshape(K, 4).T.astype(float)
    with np.errstate(invalid="ignore"):
        for name, value in (
            ("fpr", fp / (fp + tn)),
            ("tnr", tn / (fp + tn)),
            ("fnr", fn / (fn + tp)),
            ("fdr", fp / (fp + tp)),
            ("npv", tn / (tn + fn)),
        ):
            same(evaluate(name, cube), value)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_whole_task_metrics_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """Accuracy, balanced accuracy, averages, kappa and MCC equal scikit-learn's wherever they are defined."""
    y, p, cube = cube_of(pairs)
    same(evaluate("accuracy", cube), sk.accuracy_score(y, p))
    same(evaluate("weighted_recall", cube), sk.recall_score(y, p, average="weighted", zero_division=0))
    same(evaluate("balanced_accuracy", cube), sk.recall_score(y, p, labels=np.unique(y), average="macro"))
    same(evaluate("macro_f1", cube), sk.f1_score(y, p, labels=np.unique(y), average="macro", zero_division=0))
    same(evaluate("weighted_f1", cube), sk.f1_score(y, p, average="weighted", zero_division=0))
    if set(np.unique(y)) <= set(np.unique(p)):
        labels = np.unique(y)
        same(evaluate("macro_precision", cube), sk.precision_score(y, p, labels=labels, average="macro"))
        same(evaluate("weighted_precision", cube), sk.precision_score(y, p, labels=labels, average="weighted"))
    else:
        assert np.isnan(evaluate("macro_precision", cube))
    if len(set(y) | set(p)) > 1:
        same(evaluate("kappa", cube), sk.cohen_kappa_score(y, p))
    if len(set(y)) > 1 and len(set(p)) > 1:
        same(evaluate("mcc", cube), sk.matthews_corrcoef(y, p))
    else:
        assert np.isnan(evaluate("mcc", cube))


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_selection_and_error_rates_equal_fairlearn(pairs: list[tuple[int, int]]) -> None:
    """Selection rate, true and false positive rates of each class equal fairlearn's binary ones."""
    y, p, cube = cube_of(pairs)
    for k in range(K):
        same(evaluate("selection_rate", cube)[k], fl.selection_rate(y == k, p == k))
        if 0 < (y == k).sum() < len(y):
            same(evaluate("recall", cube)[k], fl.true_positive_rate(y == k, p == k))
            same(evaluate("fpr", cube)[k], fl.false_positive_rate(y == k, p == k))


def test_cubes_are_vectorised_over_any_leading_shape() -> None:
    """A stack of cubes gives the stack of each cube's values."""
    cubes = np.random.default_rng(0).integers(1, 9, (2, 3, K, K))
    for name, metric in METRICS.items():
        if metric.outcome or metric.needs or name == "accuracy_standardized":
            continue
        whole = evaluate(name, cubes)
        assert whole.shape == ((2, 3, K) if metric.per_class else (2, 3))
        same(whole[1, 2], evaluate(name, cubes[1, 2]))


def test_standardized_accuracy_removes_composition() -> None:
    """Identical P(ŷ|y) with different label mixes: crude accuracies differ (.66 and .56), standardized ones do not."""
    rates = np.array([[0.9, 0.1], [0.5, 0.5]])
    cubes = np.array([[400, 600], [150, 850]])[:, :, None] * rates
    crude = evaluate("accuracy", cubes)
    standard = evaluate("accuracy_standardized", cubes, mix=np.array([0.5, 0.5]))
    same(crude, [0.66, 0.56])
    same(standard, [0.7, 0.7])


def test_undefined_is_not_zero() -> None:
    """A class without labels has no recall, and a subgroup without it no standardized accuracy."""
    cube = np.array([[5, 1], [0, 0]])
    assert np.isnan(evaluate("recall", cube)[1])
    assert np.isnan(evaluate("accuracy_standardized", cube, mix=np.array([0.5, 0.5])))


def test_an_unknown_metric_is_named() -> None:
    """A misspelt metric gets the nearest name."""
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        evaluate("acuracy", np.eye(2))
    with pytest.raises(UsageError, match="auc needs scores"):
        evaluate("auc", np.eye(2))
