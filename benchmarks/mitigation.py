"""Every head-level mitigation × five seeds on cached embeddings, beside plain fairlearn and AIF360 at equal results.

    make bench && OMP_NUM_THREADS=1 python benchmarks/mitigation.py [--faces 20000] [--dimensions 512] [--seeds 5]

Made-up embeddings: two subgroups, 30 % in the second, whose labels are less balanced and fainter. CPU seconds of each
method go to mitigation.csv with the equalized-odds difference, accuracy and worst subgroup on fresh faces. Then
ExponentiatedGradient with scikit-learn's logistic regression on the same standardised embeddings, whose mixture must
be as good on the training faces; and, where .venv-bench exists, AIF360's Reweighing, whose weights must be ours.
"""

import argparse
import csv
import json
import subprocess
import tempfile
import time
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from fairlearn.metrics import equalized_odds_difference
from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient
from sklearn.linear_model import LogisticRegression

from fairaudit.mitigation.heads import standardised
from fairaudit.mitigation.methods import METHODS, fit_method, refused
from fairaudit.mitigation.problem import Part, Problem
from fairaudit.mitigation.weighted import weights_of
from fairaudit.spec import MitigateSpec

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / ".venv-bench" / "bin" / "python"
WORKER = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore"); logging.disable(logging.WARNING)
import numpy as np, pandas as pd
from aif360.algorithms.preprocessing import Reweighing
from aif360.datasets import BinaryLabelDataset
data = np.load(sys.argv[1])
frame = pd.DataFrame({"g": data["g"].astype(float), "y": data["y"].astype(float)})
told = BinaryLabelDataset(df=frame, label_names=["y"], protected_attribute_names=["g"])
best = 1e9
for _ in range(5):
    began = time.process_time()
    weights = Reweighing([{"g": 0.0}], [{"g": 1.0}]).fit_transform(told).instance_weights
    best = min(best, time.process_time() - began)
print(json.dumps({"seconds": best, "weights": weights.tolist()}))
"""


def made_up(faces: int, dimensions: int) -> tuple[Problem, Part]:
    """Return the problem and fresh faces to measure on."""

    def part(n: int, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        g = (rng.random(n) < 0.3).astype(np.int64)
        y = np.where((g == 1) & (rng.random(n) < 0.4), 0, rng.integers(2, size=n))
        x = rng.normal(size=(n, dimensions)).astype(np.float32)
        x[:, :40] += (0.12 * (2 * y - 1) * np.where(g == 1, 0.6, 1))[:, None]
        x[:, 40:50] += 0.6 * g[:, None]
        return Part(x=x, y=y, g=g)

    train = part(faces, 0)
    noise = np.random.default_rng(9).normal(scale=0.3, size=train.x.shape).astype(np.float32)
    train = replace(train, views=(train.x + noise,))
    problem = Problem(
        task="label",
        classes=("no", "yes"),
        by="group",
        groups=("first", "second"),
        train=train,
        val=part(faces // 5, 1),
    )
    return replace(problem, settings=MitigateSpec()), part(faces // 2, 2)


def every_method(problem: Problem, fresh: Part, seeds: int) -> list[dict[str, object]]:
    """Fit every method with every seed; print and return a row a method."""
    standardised(problem.train)  # shared by all methods, so no method is charged for it
    rows: list[dict[str, object]] = []
    for name in METHODS:
        if refused(name, problem):
            continue
        seconds, scores = [], []
        for seed in range(seeds):
            began = time.process_time()
            fitted = fit_method(name, replace(problem, seed=seed))
            seconds.append(time.process_time() - began)
            labels = fitted.predict(fresh.x, fresh.g).labels
            right = labels == fresh.y
            gap = equalized_odds_difference(fresh.y, labels, sensitive_features=fresh.g)
            scores.append((gap, right.mean(), min(right[fresh.g == g].mean() for g in (0, 1))))
        gap, accuracy, worst = np.mean(scores, axis=0)
        row = {"method": name, "faces": len(problem.train), "dimensions": problem.train.x.shape[1], "seeds": seeds}
        row |= {"cpu_seconds_a_fit": f"{np.mean(seconds):.2f}", "cpu_seconds": f"{np.sum(seconds):.1f}"}
        row |= {"equalized_odds_difference": f"{gap:.4f}", "accuracy": f"{accuracy:.4f}"}
        rows.append({**row, "worst_subgroup": f"{worst:.4f}"})
        print(
            f"{name:26} {np.mean(seconds):7.2f} s a fit {np.sum(seconds):7.1f} s   equalized-odds difference "
            f"{gap:.3f}, accuracy {accuracy:.3f}, worst subgroup {worst:.3f}",
            flush=True,
        )
    print(
        f"all methods × {seeds} seeds: {sum(float(str(row['cpu_seconds'])) for row in rows):.0f} CPU seconds",
        flush=True,
    )
    return rows


def beside_fairlearn(problem: Problem) -> None:
    """Print the CPU seconds of both, and what their mixtures reach on the training faces."""
    part = problem.train
    z = standardised(part)[2].numpy().astype(np.float64)
    began = time.process_time()
    plain = ExponentiatedGradient(LogisticRegression(max_iter=1000), EqualizedOdds(difference_bound=0.01), eps=0.01)
    plain.fit(z, part.y, sensitive_features=part.g)
    theirs = time.process_time() - began
    began = time.process_time()
    arrays = fit_method("exponentiated-gradient", problem).arrays
    ours = time.process_time() - began
    chances = {
        "fairlearn": plain._pmf_predict(z)[:, 1],
        "ours": (part.x @ arrays["weight"].T + arrays["bias"] > 0) @ arrays["chance"],
    }
    for name, chance in chances.items():
        rates = np.array([[chance[(part.g == g) & (part.y == k)].mean() for g in (0, 1)] for k in (0, 1)])
        gap, error = np.abs(rates[:, 0] - rates[:, 1]).max(), np.abs(chance - part.y).mean()
        print(f"ExponentiatedGradient, {name}: training equalized-odds difference {gap:.4f}, error {error:.4f}")
    print(f"ExponentiatedGradient: fairlearn {theirs:.1f} s, ours {ours:.1f} s, {theirs / ours:.1f}×", flush=True)


def beside_aif360(problem: Problem) -> None:
    """Print the CPU seconds of both, and the largest difference of two weights."""
    if not BENCH.exists():
        print("AIF360: no .venv-bench; run make bench")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.npz"
        np.savez(path, y=problem.train.y, g=problem.train.g)
        told = subprocess.run([BENCH, "-c", WORKER, path], capture_output=True, text=True, check=True).stdout
    theirs = json.loads(told.splitlines()[-1])
    uncapped = replace(problem, settings=problem.settings.model_copy(update={"cap": 1e9}))
    ours = float("inf")
    for _ in range(5):
        began = time.process_time()
        weights = weights_of("reweighing", uncapped)
        ours = min(ours, time.process_time() - began)
    apart = np.abs(weights - np.array(theirs["weights"])).max()
    print(
        f"Reweighing: AIF360 {theirs['seconds'] * 1e3:.2f} ms, ours {ours * 1e3:.2f} ms, "
        f"{theirs['seconds'] / ours:.1f}×; largest difference of two weights {apart:.1e}"
    )


def main() -> None:
    """Run all three and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=20000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    problem, fresh = made_up(asked.faces, asked.dimensions)
    print(f"fairlearn {version('fairlearn')}, scikit-learn {version('scikit-learn')}, torch {version('torch')}")
    beside_aif360(problem)
    beside_fairlearn(problem)
    rows = every_method(problem, fresh, asked.seeds)
    with (HERE / "mitigation.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
