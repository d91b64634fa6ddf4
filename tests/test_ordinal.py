"""Metrics of ordered classes."""

import numpy as np
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.metrics.rates import evaluate

K = 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=60))
def test_ordinal_metrics_equal_their_definitions(pairs: list[tuple[int, int]]) -> None:
    """MAE, signed error, cumulative scores and quadratic kappa equal scikit-learn's or the mean over faces."""
    y, p = np.array(pairs).T
    cube = np.zeros((K, K))
    np.add.at(cube, (y, p), 1)
    np.testing.assert_allclose(evaluate("mae_bins", cube), sk.mean_absolute_error(y, p), rtol=1e-12)
    np.testing.assert_allclose(evaluate("signed_error_bins", cube), np.mean(p - y), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(evaluate("off_by_one_accuracy", cube), np.mean(abs(p - y) <= 1), rtol=1e-12)
    np.testing.assert_allclose(evaluate("cumulative_score_2", cube), np.mean(abs(p - y) <= 2), rtol=1e-12)
    assert evaluate("cumulative_score_1", cube) == evaluate("off_by_one_accuracy", cube)
    if len(set(y) | set(p)) > 1:
        expected = sk.cohen_kappa_score(y, p, weights="quadratic", labels=list(range(K)))
        np.testing.assert_allclose(evaluate("quadratic_weighted_kappa", cube), expected, rtol=1e-12, atol=1e-12)


def test_perfect_and_constant_predictions() -> None:
    """Perfect predictions have kappa 1; where no disagreement is possible there is none."""
    assert evaluate("quadratic_weighted_kappa", np.eye(3)) == 1
    assert np.isnan(evaluate("quadratic_weighted_kappa", np.diag([4.0, 0, 0])))
