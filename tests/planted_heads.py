"""Made-up embeddings of two subgroups with one planted bias, and what a head gets right on fresh faces."""

import numpy as np

from fairaudit.mitigation.problem import Fitted, Part, Problem
from fairaudit.spec import MitigateSpec

QUICK = MitigateSpec(epochs=8, learning_rate=0.03, batch_size=128)


def planted(
    bias: str = "none", n: int = 1200, seed: int = 0, classes: int = 2, settings: MitigateSpec = QUICK
) -> Problem:
    """Return a head whose classes differ along the first coordinates, in subgroups "big" (80 %) and "small" (20 %).

    A face shows its subgroup. Biases: "spurious-cue": the last coordinate tells the label in the big subgroup and its
    opposite in the small one; "under-representation": the small subgroup, 4 %, shows its label along other coordinates;
    "label-noise": a third of the small subgroup's labels are wrong; "lower-quality": its coordinates are three times as
    noisy; "label-shift": in the small subgroup class 0 has nine faces of ten, in training only.
    """
    return Problem(
        task="t",
        classes=tuple(f"class {k}" for k in range(classes)),
        by="g",
        groups=("big", "small"),
        train=faces(bias, n, 2 * seed, classes),
        val=faces(bias, n // 2, 2 * seed + 1, classes, rare=0.3, shift=False),
        seed=seed,
        settings=settings,
    )


def faces(bias: str, n: int, seed: int, classes: int = 2, rare: float | None = None, shift: bool = True) -> Part:
    """Return `n` faces with the bias; `rare` is the share of the small subgroup."""
    rng = np.random.default_rng([seed, 77])
    usual = 0.04 if bias == "under-representation" else 0.2
    g = (rng.random(n) < (usual if rare is None else rare)).astype(np.int64)
    y = rng.integers(classes, size=n)
    if bias == "label-shift" and shift:
        y = np.where((g == 1) & (rng.random(n) < 0.8), 0, y)
    noise = np.where(g == 1, 3.0, 1.0) if bias == "lower-quality" else np.ones(n)
    x = rng.normal(size=(n, 2 * classes + 2)) * noise[:, None]
    x[:, -2] += 4 * g  # a face shows its subgroup
    elsewhere = classes if bias == "under-representation" else 0
    x[np.arange(n), y + np.where(g == 1, elsewhere, 0)] += 1.5
    if bias == "spurious-cue":
        told = np.where(g == 1, classes - 1 - y, y)
        x[:, -1] = 4 * (told - (classes - 1) / 2) + rng.normal(size=n) * 0.5
    if bias == "label-noise":
        y = np.where((g == 1) & (rng.random(n) < 1 / 3), (y + 1) % classes, y)
    return Part(x=x.astype(np.float32), y=y, g=g)


def accuracies(problem: Problem, fitted: Fitted, bias: str) -> np.ndarray:
    """Return the accuracy of each subgroup on 4,000 fresh faces, half of them of the small one, labels unshifted."""
    test = faces(bias, 4000, 999, len(problem.classes), rare=0.5, shift=False)
    right = fitted.predict(test.x, test.g).labels == test.y
    return np.array([right[test.g == code].mean() for code in range(len(problem.groups))])
