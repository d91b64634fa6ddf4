"""Ten count metrics of a gender task per subgroup: one confusion cube, fairlearn's MetricFrame, a loop over sklearn.

    python benchmarks/disaggregated_metrics.py [--rows 100000]

All three get the same arrays of int8 codes; they must agree to 1e-12 in every subgroup and metric.
"""

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    false_negative_rate,
    false_positive_rate,
    selection_rate,
    true_negative_rate,
)
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from timing import alternate

from fairaudit.metrics.cube import confusion_cube
from fairaudit.metrics.rates import evaluate

METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy_score,
    "recall": recall_score,
    "fnr": false_negative_rate,
    "fpr": false_positive_rate,
    "tnr": true_negative_rate,
    "precision": precision_score,
    "fdr": lambda y, p: 1 - precision_score(y, p),
    "npv": lambda y, p: precision_score(y, p, pos_label=0),
    "selection_rate": selection_rate,
    "f1": f1_score,
}
AXES = {"race (7 subgroups)": 7, "race × gender × age (126 subgroups)": 126}


def by_cube(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return (subgroups, metrics) by one confusion cube; per-class metrics for class 1."""
    cube = confusion_cube(groups, true, predicted, (count, 2, 2))
    values = [evaluate(name, cube) for name in METRICS]
    return np.stack([value[:, 1] if value.ndim == 2 else value for value in values], axis=1)


def by_fairlearn(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the same by fairlearn."""
    frame = MetricFrame(metrics=METRICS, y_true=true, y_pred=predicted, sensitive_features=pd.Series(groups, name="g"))
    return frame.by_group.to_numpy(dtype=float)


def by_loop(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the same by a mask for each subgroup and a call for each metric."""
    return np.array(
        [[metric(true[groups == g], predicted[groups == g]) for metric in METRICS.values()] for g in range(count)]
    )


def main() -> None:
    """Print a line an axis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, rows, dtype=np.int8)
    predicted = np.where(rng.random(rows) < 0.94, true, 1 - true).astype(np.int8)
    for axis, count in AXES.items():
        groups = rng.integers(0, count, rows).astype(np.int8)
        data = (true, predicted, groups)
        quick, ours = alternate({"cube": lambda d=data, c=count: by_cube(*d, c)}, 20)
        slow, theirs = alternate(
            {"fairlearn": lambda d=data: by_fairlearn(*d), "sklearn loop": lambda d=data, c=count: by_loop(*d, c)}, 2
        )
        for name, values in theirs.items():
            np.testing.assert_allclose(ours["cube"], values, rtol=0, atol=1e-12)
            print(f"{rows:,} rows by {axis}: the cube takes 1/{slow[name] / quick['cube']:,.0f} of {name}'s CPU time")


if __name__ == "__main__":
    main()
