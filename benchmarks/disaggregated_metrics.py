"""Ten count metrics of a gender task per subgroup: one confusion cube, and what others take for the same.

    make bench && python benchmarks/disaggregated_metrics.py [--rows 100000] [--all]

duckdb (counts in SQL, then our arithmetic), fairlearn's MetricFrame, a loop over subgroups and sklearn metrics, and
where .venv-bench exists aequitas and AIF360 in a process of their own. All get the same arrays of int8 codes, take
turns in one run, and must agree to 1e-12 in every subgroup and metric. Above 200,000 rows the loop is left out, and
AIF360 over many subgroups, unless `--all` is given.
"""

import argparse
import json
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    false_negative_rate,
    false_positive_rate,
    selection_rate,
    true_negative_rate,
)
from peers_worker import NAMES
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
ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-bench" / "bin" / "python"
MOST_LOOPED = 200_000  # rows × subgroups make the slow sides take minutes beyond


def of_cube(cube: np.ndarray) -> np.ndarray:
    """Return (subgroups, metrics), per-class metrics for class 1."""
    values = [evaluate(name, cube) for name in METRICS]
    return np.stack([value[:, 1] if value.ndim == 2 else value for value in values], axis=1)


def by_duckdb(connection: duckdb.DuckDBPyConnection, count: int) -> np.ndarray:
    """Return the same from counts in SQL."""
    query = "SELECT g, y, p, count(*) AS n FROM faces GROUP BY ALL"
    found = connection.execute(query).fetchnumpy()
    cube = np.zeros((count, 2, 2), dtype=np.int64)
    cube[found["g"], found["y"], found["p"]] = found["n"]
    return of_cube(cube)


def by_fairlearn(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the same by fairlearn."""
    frame = MetricFrame(metrics=METRICS, y_true=true, y_pred=predicted, sensitive_features=pd.Series(groups, name="g"))
    return frame.by_group.to_numpy(dtype=float)


def by_loop(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the same by a mask for each subgroup and a call for each metric."""
    return np.array(
        [[metric(true[groups == g], predicted[groups == g]) for metric in METRICS.values()] for g in range(count)]
    )


class Worker:
    """aequitas and AIF360 in their own environment; `ask` returns CPU seconds and values."""

    def __init__(self, true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "faces.npz"
        np.savez(path, true=true, predicted=predicted, groups=groups, count=count)
        command = [str(PEERS), str(Path(__file__).with_name("peers_worker.py")), str(path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, name: str) -> tuple[float, np.ndarray]:
        """Let one library compute once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"], np.array(answer["values"], dtype=float)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._folder.cleanup()


def compare(data: tuple[np.ndarray, np.ndarray, np.ndarray], axis: str, count: int, rounds: int, every: bool) -> None:
    """Print how many times as long as the cube each side takes on one axis."""
    rows, (true, predicted, groups) = len(data[0]), data
    connection = duckdb.connect(config={"threads": 1})
    connection.register("arrays", {"g": groups, "y": true, "p": predicted})
    connection.execute("CREATE TABLE faces AS FROM arrays")
    quick: dict[str, Callable[[], np.ndarray]] = {
        "cube": lambda: of_cube(confusion_cube(groups, true, predicted, (count, 2, 2))),
        "duckdb": partial(by_duckdb, connection, count),
    }
    slow: dict[str, Callable[[], np.ndarray]] = {"fairlearn": partial(by_fairlearn, *data)}
    if every or rows <= MOST_LOOPED:
        slow["sklearn loop"] = partial(by_loop, *data, count)
    worker = Worker(*data, count) if PEERS.exists() else None
    seconds: dict[str, float] = {}
    for _ in range(rounds):
        for sides, times in ((quick, 10), (slow, 1)):
            took, values = alternate(sides, times)
            for name, value in took.items():
                seconds[name] = min(value, seconds.get(name, np.inf))
                np.testing.assert_allclose(values[name], quick["cube"](), rtol=0, atol=1e-12)
        peers = ("aequitas", "aif360") if every or rows <= MOST_LOOPED or count < 20 else ("aequitas",)
        for name in peers if worker else ():
            value, found = worker.ask(name)  # type: ignore[union-attr]
            seconds[name] = min(value, seconds.get(name, np.inf))
            ours = quick["cube"]()[:, [list(METRICS).index(metric) for metric in NAMES]]
            np.testing.assert_allclose(found, ours, rtol=0, atol=1e-12)
    if worker:
        worker.close()
    print(f"{rows:,} rows by {axis}: cube and metrics {1000 * seconds['cube']:.2f} ms")
    for name, value in sorted(seconds.items(), key=lambda item: item[1]):
        if name != "cube":
            print(f"  {name}: {value / seconds['cube']:,.1f} times as long")


def main() -> None:
    """Print a table an axis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="the slowest sides, too, at any number of rows")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, given.rows, dtype=np.int8)
    predicted = np.where(rng.random(given.rows) < 0.94, true, 1 - true).astype(np.int8)
    for axis, count in AXES.items():
        compare(
            (true, predicted, rng.integers(0, count, given.rows).astype(np.int8)), axis, count, given.rounds, given.all
        )


if __name__ == "__main__":
    main()
