"""Methods × seeds with a planted truth: how often intervals hold it, and how often a method is recommended in vain.

    python benchmarks/methods_simulation.py [--draws 400] [--out benchmarks/methods_simulation.csv] [--only-auc]

Every face of a subgroup is right with the subgroup's rate, plus what the seed adds to a subgroup (normal, of
standard deviation `seed_sd`) and to all (likewise): by a luck of its own in seven of ten cases, the same for all seeds
and methods, else by fresh luck. So the true mean over seeds and faces is the rate itself. `same`: no method differs
from the baseline but by its seeds; `effect`: the worst-off gains five points. `held`: the share of 95 % intervals that
hold the truth; `any recommended`: the share of comparisons of four methods in which any is recommended (at a margin of
50 points, so that nothing but a shown help decides); nominal at most .025 under the null.

`auc` (the change) and `auc level`: scores of two classes are normal and lie a distance d apart in a subgroup, which
seeds move so that its AUC moves as accuracy does, about; the truth is the mean of Φ(d / √2) over seeds. The luck of a
face is shared likewise. `--only-auc` replaces these rows of the table and leaves the others as they are.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from fairaudit.method_axis import MethodAxis, Named
from fairaudit.method_tables import effect_rows, harm_rows
from fairaudit.method_words import recommendation_rows
from fairaudit.metrics import crossed
from fairaudit.metrics.crossed import Faces
from fairaudit.metrics.crossed_cells import auc_cells
from fairaudit.metrics.intervals import z_value
from fairaudit.spec import AuditSpec

METRICS = ("accuracy", "named_accuracy", "worst_accuracy", "gap", "named_gap", "equalized_odds")
METHODS = ("a", "b", "c", "d")
RANKED = ("auc", "auc level")
SHARED = 0.7
AWAY, SLOPE = 1.7, 0.14  # distance of the classes at an AUC of .885, and how fast AUC rises with it there
GAIN = 0.05


def draw(rates: dict[str, np.ndarray], size: int, seeds: int, seed_sd: float, rng: np.random.Generator) -> MethodAxis:
    """Return one comparison: `size` faces of two labels in each subgroup; rates: of each arm's subgroups (G,)."""
    groups = len(next(iter(rates.values())))
    group, label = np.repeat(np.arange(groups), size), rng.integers(0, 2, groups * size)
    luck = rng.random(len(group))
    predictions = {}
    for name, mean in rates.items():
        moved = mean + seed_sd * (rng.normal(size=(seeds, groups)) + rng.normal(size=(seeds, 1)))
        fresh = rng.random((seeds, len(group)))
        right = np.where(rng.random(fresh.shape) < SHARED, luck, fresh) < moved[:, group]
        predictions[name] = np.where(right, label, 1 - label)
    names = tuple(f"g{g}" for g in range(groups))
    faces = Faces(label=label, classes=2, group=group, groups=names, weight=np.ones(len(group)))
    seed_names = {name: tuple(map(str, range(seeds))) for name in rates}
    # subgroup 0 is the worst, the last one the best: named on other faces; recall of either label is the rate itself
    named = Named(names[0], names[-1], (0, names[-1], names[0]))
    return MethodAxis(task="t", by="race", first="base", faces=faces, predictions=predictions, seeds=seed_names,
                      degenerate=None, named=named, audit=AuditSpec())  # fmt: skip


def truth(before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """Return the true change of every metric."""
    gap = np.ptp(after) - np.ptp(before)
    named = (after[-1] - after[0]) - (before[-1] - before[0])
    change = after - before
    return {
        "accuracy": change,
        "named_accuracy": change[0],
        "worst_accuracy": after.min() - before.min(),
        "gap": gap,
        "named_gap": named,
        "equalized_odds": gap,
    }


def run_auc(
    law: str, groups: int, size: int, seeds: int, seed_sd: float, draws: int, seed: int
) -> list[dict[str, object]]:
    """Return a row of AUC's change, and one of its level under the method."""
    rng = np.random.default_rng([seed, groups, size, seeds, round(1000 * seed_sd), law == "same", 7])
    group, label = np.repeat(np.arange(groups), size), np.arange(groups * size) % 2
    faces = Faces(
        label=label, classes=2, group=group, groups=tuple(map(str, range(groups))), weight=np.ones(len(group))
    )
    before = np.full(groups, AWAY)
    before[0] = AWAY - 0.5
    after = before + (0.5 if law == "effect" else 0.0) * (np.arange(groups) == 0)
    moved = seed_sd / SLOPE
    # over seeds d is normal, of two parts alike: E Φ(d / √2) = Φ(mean / √(2 + variance))
    means = [special.ndtr(mean / np.sqrt(2 + 2 * moved**2)) for mean in (before, after)]
    entries, usable = np.arange(groups), np.ones(len(group), dtype=bool)
    held, widths = (dict[str, list[float]](auc=[], level=[]) for _ in range(2))
    for _ in range(draws):
        luck, arms = rng.normal(size=len(group)), []
        for mean in (before, after):
            away = mean + moved * (rng.normal(size=(seeds, groups)) + rng.normal(size=(seeds, 1)))
            raw = away[:, group] * label + np.sqrt(SHARED) * luck
            raw += np.sqrt(1 - SHARED) * rng.normal(size=raw.shape)
            arms.append(auc_cells(faces, np.stack([-raw, raw], axis=-1), usable))
        joint = crossed.joint(faces, (arms[0][0], arms[1][0]), arms[0][1], paired=True)
        sides = {"auc": crossed.changes(joint, entries).limits(z_value(0.95))}
        sides["level"] = crossed.logit_levels(joint, 1, entries, 0.95)[1:]
        for name, true in (("auc", means[1] - means[0]), ("level", means[1])):
            low, high = sides[name]
            held[name] += list((low <= true) & (true <= high))
            widths[name] += list(high - low)
    lead = {"law": law, "groups": groups, "faces_each": size, "seeds": seeds, "seed_sd": seed_sd, "draws": draws}
    return [
        {**lead, "metric": metric, "held": np.mean(held[name]), "width": np.mean(widths[name])}
        for metric, name in zip(RANKED, held, strict=True)
    ]


def scenarios() -> Iterator[tuple[str, int, int, int, float]]:
    """Yield (law, subgroups, faces in each, seeds, seed_sd)."""
    for law in ("same", "effect"):
        for groups, size in ((2, 300), (7, 300), (7, 60)):
            for seeds in (3, 5, 10) if size == 300 else (3, 5):
                for seed_sd in (0.0, 0.01, 0.03):
                    yield law, groups, size, seeds, seed_sd


def run(law: str, groups: int, size: int, seeds: int, seed_sd: float, draws: int, seed: int) -> list[dict[str, object]]:
    """Return one row a metric, and one of recommendations."""
    rng = np.random.default_rng([seed, groups, size, seeds, round(1000 * seed_sd), law == "same"])
    before = np.full(groups, 0.88)
    before[0] = 0.8
    after = before + (GAIN if law == "effect" else 0.0) * (np.arange(groups) == 0)
    rates = {"base": before, **dict.fromkeys(METHODS, after)}
    true = truth(before, after)
    held, widths = ({m: list[float]() for m in METRICS} for _ in range(2))
    recommended = 0
    for _ in range(draws):
        axis = draw(rates, size, seeds, seed_sd, rng)
        effects = effect_rows(axis, METHODS[0])
        harms = [row for method in METHODS for row in harm_rows(axis, method, 0.5)]
        for metric in METRICS:
            rows = [row for row in effects if row["metric"] == metric]
            wanted = np.broadcast_to(true[metric], len(rows))
            held[metric] += [r["low"] - 1e-12 <= t <= r["high"] + 1e-12 for r, t in zip(rows, wanted, strict=True)]
            widths[metric] += [r["high"] - r["low"] for r in rows]
        advice = recommendation_rows(axis, effects, harms, 0.5, by_validation=True)
        recommended += any(row["recommended"] for row in advice)
    lead = {"law": law, "groups": groups, "faces_each": size, "seeds": seeds, "seed_sd": seed_sd, "draws": draws}
    found = [{**lead, "metric": m, "held": np.mean(held[m]), "width": np.mean(widths[m])} for m in METRICS]
    return [*found, {**lead, "metric": "any recommended", "held": recommended / draws, "width": np.nan}]


def main() -> None:
    """Run every scenario and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--only-auc", action="store_true", help="replace the rows of AUC in the table at --out")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    for scenario in scenarios():
        found = [] if given.only_auc else run(*scenario, given.draws, given.seed)
        found += run_auc(*scenario, given.draws, given.seed)
        print(*scenario, {str(r["metric"]): r["held"] for r in found}, flush=True)
        rows += found
    table = pd.DataFrame(rows)
    if given.only_auc:
        old = pd.read_csv(given.out)
        table = pd.concat([old[~old["metric"].isin(RANKED)], table])
    table.round(4).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
