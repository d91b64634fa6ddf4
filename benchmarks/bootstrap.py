"""2,000 bootstrap draws of every count metric over 126 subgroups against one draw of fairlearn's MetricFrame.

    python benchmarks/bootstrap.py [--rows 10000] [--draws 2000]

Agreement: the ten metrics that both have are equal to 1e-12 on the faces themselves, and our draws' standard error of
accuracy is the binomial one, √(p(1 − p)/n), on average over subgroups to 2 %.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from disaggregated_metrics import METRICS as BOTH
from disaggregated_metrics import of_cube
from fairlearn.metrics import MetricFrame
from timing import alternate

from fairaudit.metrics.bootstrap import draw_sums
from fairaudit.metrics.cube import confusion_cube
from fairaudit.metrics.rates import METRICS, evaluate

GROUPS = 126
NAMES = [name for name, metric in METRICS.items() if not (metric.needs or metric.outcome or metric.degenerate)]


def drawn_cubes(cube: np.ndarray, draws: int) -> np.ndarray:
    """Draw every subgroup's cells with its size fixed: (draws, subgroups, K, K)."""
    groups, k, _ = cube.shape
    cells = cube.reshape(groups, -1)
    parts = []
    for g in range(groups):
        used = np.flatnonzero(cells[g])
        parts.append(draw_sums(np.eye(k * k)[used], cells[g, used], draws, np.random.default_rng([0, g])))
    return np.stack(parts, axis=1).reshape(draws, groups, k, k)


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=2000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, given.rows, dtype=np.int8)
    predicted = np.where(rng.random(given.rows) < 0.94, true, 1 - true).astype(np.int8)
    groups = rng.integers(0, GROUPS, given.rows).astype(np.int8)
    cube = confusion_cube(groups, true, predicted, (GROUPS, 2, 2))

    def ours() -> dict[str, np.ndarray]:
        cubes = drawn_cubes(cube, given.draws)
        return {name: evaluate(name, cubes) for name in NAMES}

    def fairlearn() -> MetricFrame:
        features = pd.Series(groups, name="g")
        return MetricFrame(
            metrics=BOTH,
            y_true=true,
            y_pred=predicted,
            sensitive_features=features,
            n_boot=1,
            ci_quantiles=[0.5],
            random_state=0,
        )

    seconds, found = alternate({"ours": ours, "fairlearn": fairlearn}, 3)
    np.testing.assert_allclose(found["fairlearn"].by_group.to_numpy(float), of_cube(cube), rtol=0, atol=1e-12)
    p, n = evaluate("accuracy", cube), cube.sum((1, 2))
    error = found["ours"]["accuracy"].std(0).mean() / np.sqrt(p * (1 - p) / n).mean()
    if abs(error - 1) > 0.02:
        raise SystemExit(f"the draws' standard error is {error:.3f} times the binomial one")
    print(f"{given.draws:,} draws of {len(NAMES)} metrics over {GROUPS} subgroups: {seconds['ours']:.2f} CPU s")
    print(f"fairlearn, one draw of {len(BOTH)}: {seconds['fairlearn']:.2f} CPU s")
    print(f"ours takes {seconds['ours'] / seconds['fairlearn']:.2f} of fairlearn's time")


if __name__ == "__main__":
    main()
