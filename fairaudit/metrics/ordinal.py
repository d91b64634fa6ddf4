"""Metrics of classes that have an order, such as age bins; distances are counted in classes."""

import numpy as np


def distances(n_classes: int) -> np.ndarray:
    """Return ŷ − y for every label y (row) and prediction ŷ (column), in classes, shape (K, K)."""
    steps = np.arange(n_classes)
    return steps[None, :] - steps[:, None]


def within(n_classes: int, j: int) -> np.ndarray:
    """Return which cells of the confusion matrix are at most `j` classes off, shape (K, K)."""
    return np.abs(distances(n_classes)) <= j


def mean_absolute_error(cube: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Mean |ŷ − y| in classes, shape (…); `total` is the sum of each (K, K) matrix. NaN where that is 0."""
    return _mean_of(cube, np.abs(distances(cube.shape[-1])), total)


def mean_signed_error(cube: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Mean ŷ − y in classes, shape (…): positive where the model says older (later classes) than the label."""
    return _mean_of(cube, distances(cube.shape[-1]), total)


def quadratic_weighted_kappa(cube: np.ndarray, rows: np.ndarray, columns: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Cohen's kappa with squared distances as weights (Cohen 1968), shape (…); NaN where none is possible."""
    weights = distances(cube.shape[-1]).astype(float) ** 2
    observed = np.tensordot(cube, weights, axes=2) * total
    expected = np.einsum("...i,ij,...j->...", rows, weights, columns, optimize=True)
    ratio = np.divide(observed, expected, out=np.full(np.shape(expected), np.nan), where=expected > 0)
    return np.asarray(1 - ratio)


def _mean_of(cube: np.ndarray, scores: np.ndarray, total: np.ndarray) -> np.ndarray:
    summed = np.tensordot(cube, scores.astype(float), axes=2)
    return np.divide(summed, total, out=np.full(np.shape(summed), np.nan), where=np.asarray(total) > 0)
