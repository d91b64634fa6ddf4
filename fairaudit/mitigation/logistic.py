"""A weighted logistic regression for fairlearn's reductions, which fit the same faces dozens of times.

The objective is scikit-learn's: sum of weight × log loss + |w|² / 2 over standardised features (C = 1), the intercept
free. Three things make many fits cheap: faces go in as row numbers, so that no table of embeddings is copied; each fit
starts where the last one ended; and the search runs in coordinates in which the unweighted problem is round.
"""

from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

TOLERANCE = 1e-6
RIDGE = 1.0


class Faces:
    """Standardised features with a column of ones (n, d + 1), the shape of their squares, and where a fit begins."""

    def __init__(self, z: np.ndarray) -> None:
        """Take features z (n, d), float32, of mean 0 and scale 1."""
        self.z = np.column_stack([z, np.ones(len(z), dtype=np.float32)])
        self.ridge = np.full(self.z.shape[1], RIDGE)
        self.ridge[-1] = 0
        # a logistic loss bends by at most a quarter; about a half of that is usual
        bend = (self.z.T @ self.z).astype(np.float64) / 8 + np.diag(np.maximum(self.ridge, 1e-3))
        self.root = cholesky(bend, lower=True)
        self.begin = np.zeros(self.z.shape[1])

    def fit(self, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return coefficients (d + 1,), the intercept last, for labels 0 or 1 and weights ≥ 0 of all rows."""
        sign = np.where(y > 0, 1.0, -1.0)
        weight = np.asarray(weight, dtype=np.float64)

        def loss(u: np.ndarray) -> tuple[float, np.ndarray]:
            theta = solve_triangular(self.root.T, u, lower=False)
            margin = sign * (self.z @ theta.astype(np.float32))
            pull = weight * sign / (1 + np.exp(np.clip(margin, -60, 60)))
            slope = self.ridge * theta - self.z.T @ pull.astype(np.float32)
            value = (weight * np.logaddexp(0, -margin)).sum() + (self.ridge * theta) @ theta / 2
            return value / scale, solve_triangular(self.root, slope, lower=True) / scale

        scale = max(float(weight.sum()), 1.0)
        options = {"maxiter": 200, "ftol": TOLERANCE * 1e-3, "gtol": TOLERANCE}
        found = minimize(loss, self.root.T @ self.begin, jac=True, method="L-BFGS-B", options=options).x
        theta = np.asarray(solve_triangular(self.root.T, found, lower=False))
        self.begin = theta
        return theta


class Logistic:
    """The estimator that a reduction copies and fits: features are row numbers (n, 1) of the shared faces."""

    def __init__(self, faces: Faces) -> None:
        """Share `faces` with every copy."""
        self.faces = faces
        self.theta = np.zeros(faces.z.shape[1])

    def __deepcopy__(self, _: Any) -> "Logistic":
        return Logistic(self.faces)

    def fit(self, x: Any, y: Any, sample_weight: Any) -> "Logistic":
        """Fit the rows of the faces, which must be all of them in order, to labels 0 or 1."""
        self.theta = self.faces.fit(np.asarray(y), np.asarray(sample_weight))
        return self

    def predict(self, x: Any) -> np.ndarray:
        """Return 0 or 1 for each row number."""
        rows = np.asarray(x, dtype=np.int64).ravel()
        return (self.faces.z[rows] @ self.theta.astype(np.float32) > 0).astype(np.int64)
