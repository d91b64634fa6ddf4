"""Do the claims hold? Coverage, false findings, power and false policy failures on data whose truth is known.

Every line is one setting: what was simulated, the figure found, its standard error, the bound asked for, and the
seed. Parts are run one by one (`--part nulls`) or all; each part rewrites its own lines of the table of results.
"""

import argparse
import csv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.audit import run_audit
from fairaudit.axes import AxisData, sample_of, task_rows, with_axis_columns
from fairaudit.axis_tests import null_of_axis
from fairaudit.compared_axis import FAMILIES, compared_axis
from fairaudit.data.predictions import read_predictions
from fairaudit.data.scenarios import AXES, BAD, NULLS, null_table, one_bad_group
from fairaudit.disparity_tests import adjust_cells, intersections_of
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate, mean_recall, share
from fairaudit.metrics.intervals import PROPORTION_LIMITS, mover_difference, wilson, z_value
from fairaudit.metrics.policies import Claim
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.spec import AuditSpec

RESULTS = Path(__file__).with_name("simulation.csv")
COLUMNS = ("part", "setting", "figure", "found", "standard_error", "asked", "holds", "repeats", "seed")
SEED = 20261124
ERRORS = "error rates"
Z = z_value(0.95)
SIZES = (20, 50, 100, 300, 1000, 2000)
RATES = (0.5, 0.7, 0.9, 0.95, 0.99)
Line = tuple[str, str, float, int, str, bool]


def line(setting: str, figure: str, hits: np.ndarray, asked: str, low: float, high: float) -> Line:
    """Return one line about a share of hits that should lie in low…high, within 2.6 standard errors of simulation."""
    found, n = float(np.mean(hits)), len(hits)
    allowance = 2.6 * np.sqrt(max(found * (1 - found), 1 / n) / n)
    return setting, figure, found, n, asked, bool(low - allowance <= found <= high + allowance)


def proportions(repeats: int) -> Iterator[Line]:
    """Coverage of Wilson's, Clopper and Pearson's and Newcombe's limits over sizes and rates."""
    rng = np.random.default_rng([SEED, 1])
    for name, bound in (("wilson", 0.90), ("clopper-pearson", 0.95)):
        kept = {}
        for n in SIZES:
            for p in RATES:
                low, high = PROPORTION_LIMITS[name](rng.binomial(n, p, repeats) / n, np.full(repeats, n), Z)
                kept[n, p] = (low <= p) & (p <= high)
        worst = min(kept, key=lambda key: float(kept[key].mean()))
        yield line(
            f"{name}: worst point, n = {worst[0]}, p = {worst[1]}", "coverage", kept[worst], f">= {bound}", bound, 1
        )
        if name == "wilson":
            yield line(
                "wilson: mean of all points", "coverage", np.concatenate(list(kept.values())), "0.94-0.97", 0.94, 0.97
            )
    kept = {}
    for n in SIZES:
        for p in RATES:
            for q in RATES:
                sides = []
                for rate in (p, q):
                    value = rng.binomial(n, rate, repeats // 4) / n
                    sides.append((value, *wilson(value, np.full(len(value), n), Z)))
                low, high = mover_difference(sides[0], sides[1])
                kept[n, p, q] = (low <= p - q) & (p - q <= high)
    worst = min(kept, key=lambda key: float(kept[key].mean()))
    yield line(f"newcombe: worst point, n = {worst[0]}, p = {worst[1:]}", "coverage", kept[worst], ">= 0.90", 0.90, 1)
    yield line("newcombe: mean of all points", "coverage", np.concatenate(list(kept.values())), "0.94-0.97", 0.94, 0.97)


def cubes_sample(cubes: np.ndarray) -> Sample:
    """Return faces with these confusion matrices (G, K, K), one row a cell."""
    g, y, p = (part.ravel() for part in np.indices(cubes.shape))
    used = cubes.ravel() > 0
    names = tuple(f"g{i}" for i in range(len(cubes)))
    table = Table(cubes.shape[1], cubes.shape[1])
    return Sample(table=table, groups=names, group=g[used], row=y[used], column=p[used], times=cubes.ravel()[used])


def averages(repeats: int) -> Iterator[Line]:
    """Coverage of balanced accuracy (MOVER) and F1 (Wilson on J), each subgroup one repetition."""
    rng = np.random.default_rng([SEED, 2])
    for n in (20, 50, 200):
        for recall in ((0.95, 0.8, 0.6), (0.99, 0.95, 0.9)):
            right = np.stack([rng.binomial(n, r, repeats) for r in recall], 1)
            cubes = np.zeros((repeats, 3, 3), dtype=np.int64)
            for k in range(3):
                cubes[:, k, k], cubes[:, k, (k + 1) % 3] = right[:, k], n - right[:, k]
            sample, pools = cubes_sample(cubes), np.eye(repeats)
            estimate = mean_recall(sample, pools, METRICS["balanced_accuracy"], np.ones((repeats, 3)), np.ones(3) / 3)
            low, high = (side[:, 0] for side in estimate.limits(Z))
            truth = float(np.mean(recall))
            kept = (low <= truth) & (truth <= high)
            yield line(f"balanced accuracy, {n} a class, recalls {recall}", "coverage", kept, ">= 0.92", 0.92, 1)
            chance = np.array(
                [[recall[i] if i == j else (1 - recall[i]) * (j == (i + 1) % 3) for j in range(3)] for i in range(3)]
            )
            drawn = np.stack([rng.multinomial(3 * n, (chance / 3).ravel()).reshape(3, 3) for _ in range(repeats)])
            low, high = (side[:, 0] for side in share(cubes_sample(drawn), pools, METRICS["f1"]).limits(Z))
            truth = 2 * chance[0, 0] / (1 + chance[:, 0].sum())
            yield line(
                f"F1, {n} a class, recalls {recall}", "coverage", (low <= truth) & (truth <= high), ">= 0.92", 0.92, 1
            )


def rates_estimate(right: np.ndarray, n: np.ndarray) -> Estimate:
    """Return the accuracies right / n of independent subgroups as an estimate."""
    value, sizes = (right / n)[:, None], n[:, None].astype(float)
    notes = np.full(value.shape, "", dtype=object)
    return Estimate(
        metric=METRICS["accuracy"], value=value, denominator=sizes, effective=sizes, notes=notes,
        limits=lambda z: wilson(value, sizes, z),
    )  # fmt: skip


def gaps(repeats: int) -> Iterator[Line]:
    """Coverage of the simultaneous interval of max − min at true gaps of 0, 2, 5 and 10 points."""
    rng = np.random.default_rng([SEED, 3])
    for groups in (2, 7, 14, 126):
        sizes = np.maximum(30, rng.multinomial(10954, rng.dirichlet(np.full(groups, 4.0))))
        for true in (0.0, 0.02, 0.05, 0.10):
            rates = np.full(groups, 0.94)
            rates[0] -= true
            kept, zero = [], []
            for _ in range(repeats if groups < 100 else repeats // 4):
                found = gap(rates_estimate(rng.binomial(sizes, rates), sizes), 0, np.arange(groups), 0.95)
                kept.append(found.difference_low <= true <= found.difference_high)
                zero.append(found.difference_low > 0)
            yield line(f"{groups} groups, true gap {true}", "coverage", np.array(kept), ">= 0.95", 0.95, 1)
            if not true:
                yield line(f"{groups} groups, no gap", "interval above 0", np.array(zero), "<= 0.05", 0, 0.05)


def variance(repeats: int) -> Iterator[Line]:
    """Is the untruncated between-group variance unbiased?"""
    rng = np.random.default_rng([SEED, 4])
    sizes = rng.integers(40, 800, 14)
    for spread in (0.0, 0.02, 0.05):
        values = []
        for _ in range(repeats):
            rates = np.clip(rng.normal(0.9, spread, len(sizes)), 0, 1) if spread else np.full(len(sizes), 0.9)
            p = rng.binomial(sizes, rates) / sizes
            values.append(p.var(ddof=1) - (p * (1 - p) / (sizes - 1)).mean() - rates.var(ddof=1))
        error = float(np.std(values) / np.sqrt(repeats))
        bias = float(np.mean(values))
        yield (
            f"tau squared, rates spread by {spread}",
            "bias in standard errors",
            bias / error,
            repeats,
            "within 3",
            abs(bias) < 3 * error,
        )


def nulls(repeats: int) -> Iterator[Line]:
    """How often anything about error rates is called a finding where no subgroup is treated differently."""
    audit = AuditSpec(draws=200)
    for name in NULLS:
        said = []
        for seed in range(repeats):
            found = run_audit(null_table(name, 1200, seed), by=AXES, audit=audit, seed=seed).table("findings")
            found = found[found["finding"].astype(bool) & found["family"].str.endswith(ERRORS)]
            said.append({kind: bool((found["kind"] == kind).any()) for kind in ("rest", "pair", "interaction")})
        for kind in said[0]:
            yield line(
                f"{name}: {kind}",
                "audits with a false finding",
                np.array([one[kind] for one in said]),
                "<= 0.05",
                0,
                0.05,
            )


def interactions(repeats: int) -> Iterator[Line]:
    """How often cells of group × site are said to be more than their margins where they are not."""
    audit, by = AuditSpec(), "group:site"
    for name, n in (("repeated subjects", 1200), ("repeated subjects", 4800), ("equal mix", 1200)):
        alarms: dict[str, list[bool]] = {}
        single: dict[str, list[float]] = {}
        for seed in range(repeats):
            table = read_predictions(null_table(name, n, seed))
            rows, frame, groups = (
                task_rows(table, "kind"),
                with_axis_columns(table, [by]),
                subgroups.assign(table.frame, by),
            )
            data = AxisData(rows=rows, sample=sample_of(rows, frame, groups), by=by, degenerate=None, frame=frame)
            axis = compared_axis(data, audit)
            for family in FAMILIES[:2]:
                # intersections draw their own null: one draw of the others serves
                blocks = [block for block in null_of_axis(axis, 1, seed, 0, (family,))[1] if block.kind == "rest"]
                cells = [found for block in blocks if (found := intersections_of(block, 500, seed)) is not None]
                adjust_cells(cells)
                if cells:
                    alarms.setdefault(family, []).append(any((one.p_adjusted <= 0.05).any() for one in cells))
                    single.setdefault(family, []).append(np.concatenate([one.p_value <= 0.05 for one in cells]).mean())
        for family in alarms:
            setting = f"{name}, n = {n}, {family}"
            yield line(setting, "audits with a false finding", np.array(alarms[family]), "<= 0.05", 0, 0.05)
            yield line(setting, "single p-values <= 0.05", np.array(single[family]), "<= 0.05", 0, 0.05)


def planted(repeats: int) -> Iterator[Line]:
    """One subgroup has a true gap: is it found, is anybody else named, what share of the findings is false?"""
    audit = AuditSpec(draws=200)
    for size, n in ((0.10, 2500), (0.20, 2500)):
        hit, innocent, false = [], [], []
        for seed in range(repeats):
            rows = run_audit(one_bad_group(n, seed, size), by=AXES, audit=audit, seed=seed).table("findings")
            rows = rows[(rows["kind"] == "rest") & (rows["by"] == "group") & rows["family"].str.endswith(ERRORS)]
            shown = rows[rows["finding"].astype(bool)]
            hit.append(bool((shown["subgroup"] == BAD).any()))
            innocent.append(bool((shown["subgroup"] != BAD).any()))
            false.append(float((shown["subgroup"] != BAD).mean()) if len(shown) else 0.0)
        yield line(
            f"{size:.0%} of predictions spoilt in one of five groups, n = {n}",
            "found in that group",
            np.array(hit),
            "",
            0,
            1,
        )
        yield line(
            f"the same, {size:.0%}", "audits that name an innocent group", np.array(innocent), "<= 0.05", 0, 0.05
        )
        yield line(f"the same, {size:.0%}", "false discoveries", np.array(false), "<= 0.05", 0, 0.05)


def policies(repeats: int) -> Iterator[Line]:
    """How often a kept limit is called broken: gap of accuracy over 14 groups of FairFace's sizes."""
    rng = np.random.default_rng([SEED, 7])
    sizes = np.array([757, 799, 773, 777, 763, 753, 830, 793, 396, 813, 680, 735, 963, 1122])  # its validation split
    for true in (0.0, 0.02):
        rates = np.full(14, 0.94)
        rates[3] -= true
        verdicts, points = [], []
        for _ in range(repeats):
            estimate = rates_estimate(rng.binomial(sizes, rates), sizes)
            claim = Claim(measure="difference", at_most=True, limit=0.02, estimate=estimate, columns={0: np.arange(14)})
            verdicts.append(claim.verdict(claim.at(0.95)) == "fail")
            points.append(bool(np.ptp(estimate.value) > 0.02))
        yield line(
            f"difference(accuracy) <= .02, true gap {true}", "false failures", np.array(verdicts), "<= 0.025", 0, 0.025
        )
        yield line(
            f"the same, true gap {true}", "failures if the bare gap is judged (not ours)", np.array(points), "", 0, 1
        )


def fairlearn(repeats: int) -> Iterator[Line]:
    """On the same tables without any gap: how often does each side's interval of the gap lie above 0?"""
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    theirs, ours = [], []
    for seed in range(repeats):
        frame = null_table("equal mix", 1200, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = MetricFrame(
                metrics=accuracy_score, y_true=frame["kind_true"], y_pred=frame["kind_pred"],
                sensitive_features=frame["group"], n_boot=100, ci_quantiles=[0.025, 0.975], random_state=seed,
            )  # fmt: skip
            theirs.append(bool(made.difference_ci()[0] > 0))
        table = read_predictions(frame)
        rows = task_rows(table, "kind")
        estimate = share(
            sample_of(rows, table.frame, subgroups.assign(table.frame, "group")), np.eye(5), METRICS["accuracy"]
        )
        ours.append(gap(estimate, 0, np.arange(5), 0.95).difference_low > 0)
    yield line(
        "no gap, 5 groups, n = 1,200: fairlearn's bootstrap of max - min",
        "interval above 0",
        np.array(theirs),
        "",
        0,
        1,
    )
    yield line("the same tables: ours", "interval above 0", np.array(ours), "<= 0.05", 0, 0.05)


PARTS: dict[str, tuple[Callable[[int], Iterator[Line]], int]] = {
    "proportions": (proportions, 20_000),
    "averages": (averages, 2_000),
    "gaps": (gaps, 2_000),
    "variance": (variance, 20_000),
    "policies": (policies, 4_000),
    "nulls": (nulls, 200),
    "interactions": (interactions, 1_000),
    "planted": (planted, 100),
    "fairlearn": (fairlearn, 40),
}


def main() -> None:
    """Run the parts asked for, print each line and keep it in simulation.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of repeats")
    given = parser.parse_args()
    for part in given.part or PARTS:
        simulate, repeats = PARTS[part]
        rows = []
        for setting, figure, found, n, asked, holds in simulate(max(20, round(repeats * given.scale))):
            error = "" if "standard errors" in figure else f"{np.sqrt(max(found * (1 - found), 0) / n):.4f}"
            row = (part, setting, figure, f"{found:.4f}", error, asked, {True: "yes", False: "NO"}[holds], n, SEED)
            rows.append(row)
            print(*row, sep=" | ", flush=True)
        old = (
            pd.read_csv(RESULTS, dtype=str, keep_default_na=False)
            if RESULTS.exists()
            else pd.DataFrame(columns=COLUMNS)
        )
        kept = old[old["part"] != part].to_numpy().tolist()
        with RESULTS.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *kept, *rows])


if __name__ == "__main__":
    main()
