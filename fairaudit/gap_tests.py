"""What gaps.csv says of a gap beyond its size: what noise alone makes, p-values, split samples, what was findable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axis_tests import GapTest
from fairaudit.compared_axis import ComparedAxis, efficiency, metric_faces, metric_values
from fairaudit.disparity_tests import FamilyTests
from fairaudit.metrics.contrasts import linear, null_error, sums_of
from fairaudit.metrics.detectable import detectable, detectable_by_error, direction
from fairaudit.metrics.estimates import share
from fairaudit.metrics.gap_nulls import between_variance, halves, split_gap
from fairaudit.metrics.intervals import holm
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.spec import AuditSpec

SPLITS = 100
GAP, NO_GAP, NOT_ASSESSED = "gap", "no gap shown", "not assessed"
SCORES = "probabilities and ages"
_NUMBERS = (
    *("expected_gap", "split_sample_gap", "p_value", "p_adjusted", "detectable_gap", "tau_squared"),
    *("tau_squared_truncated", "expected_gap_high", "p_extremes", "family_size"),
)
_Key = tuple[str, str, str, str]


def with_tests(
    gaps: pd.DataFrame, tests: Mapping[str, Sequence[FamilyTests]], audit: AuditSpec, seed: int
) -> pd.DataFrame:
    """Return the table of gaps with the columns that say how sure each one is.

    verdict: "gap" where the adjusted p is at most 1 − confidence and the simultaneous interval lies above 0; "no gap
    shown" where a gap was assessed; else "not assessed". A metric that repeats another (FNR that of recall) has its
    p-values and is counted with it.
    """
    found: dict[_Key, dict[str, Any]] = {}
    for families in tests.values():
        for family in families:
            found |= _family(family, audit, seed)
    same = _repeats(tests)
    table = gaps.copy()
    for name in _NUMBERS:
        table[name] = table[name].astype(float) if name in table else np.nan
    table["family"], table["verdict"] = "", NOT_ASSESSED
    keys = list(zip(*(table[name] for name in ("task", "by", "metric", "class")), strict=True))
    rows = [found.get(key) or found.get(same.get(key, key), {}) for key in keys]
    for name in (*_NUMBERS, "family"):
        values = [row.get(name, old) for row, old in zip(rows, table[name].tolist(), strict=True)]
        table[name] = values
    notes = [row.get("note", "") for row in rows]
    _scores(table)
    return _verdicts(table, notes, audit)


def _family(family: FamilyTests, audit: AuditSpec, seed: int) -> dict[_Key, dict[str, Any]]:
    """Return the new columns of each gap of one family."""
    split: dict[str, dict[tuple[str, int], float]] = {}
    for axis in {id(test.axis): test.axis for test in family.gaps.tests}.values():
        split[axis.data.by] = _splits(axis, [t for t in family.gaps.tests if t.axis is axis], seed)
    size = len(family.gaps.tests)
    reach = detectable_gaps(family.gaps.tests, family.levels["rest"])
    found = {}
    for i, test in enumerate(family.gaps.tests):
        variance = tau_squared(test)
        found[_key(test.axis, test.metric.name, test.position)] = {
            "expected_gap": float(test.null_gap.mean()),
            "expected_gap_high": float(np.quantile(test.null_gap, 0.95)),
            "split_sample_gap": split[test.axis.data.by][test.metric.name, test.position],
            "p_value": float(family.gaps.p_value[i]),
            "p_adjusted": float(family.gaps.p_adjusted[i]),
            "p_extremes": float((1 + (test.null_gap >= np.float32(test.gap) - 1e-6).sum()) / (1 + len(test.null_gap))),
            "detectable_gap": reach[i][0],
            "tau_squared": variance,
            "tau_squared_truncated": max(variance, 0.0) if not np.isnan(variance) else np.nan,
            "family": f"{test.axis.data.task}: gaps, {family.family}",
            "family_size": size,
            "note": "; ".join(filter(None, [reach[i][1], family.note])),
        }
    return found


def _key(axis: ComparedAxis, metric: str, position: int) -> _Key:
    classes = axis.data.rows.classes
    return axis.data.task, axis.data.by, metric, classes[position] if METRICS[metric].per_class else ""


def _repeats(tests: Mapping[str, Sequence[FamilyTests]]) -> dict[_Key, _Key]:
    """Return, for each metric and class that repeats another, the key of that other."""
    axes: dict[tuple[str, str], ComparedAxis] = {}
    for families in tests.values():
        for family in families:
            axes |= {(t.axis.data.task, t.axis.data.by): t.axis for t in family.gaps.tests}
    same = {}
    for (task, _), axis in axes.items():
        for (metric, position), (other, place) in axis.first.items():
            key = _key(axis, metric, position)
            home = axes.get((task, axis.recall_by)) if axis.recall_by and other == "recall" else None
            same[key] = _key(home or axis, other, place)
    return same


def _splits(axis: ComparedAxis, tests: Sequence[GapTest], seed: int) -> dict[tuple[str, int], float]:
    """Return the split-sample gap of each metric and class over the same random halves."""
    first, second = halves(axis.data.sample, SPLITS, axis.rng(seed, 97))
    values = {m: (metric_values(axis, m, first), metric_values(axis, m, second)) for m in {t.metric for t in tests}}
    return {
        (t.metric.name, t.position): split_gap(one[..., t.position], two[..., t.position], t.chosen)
        for t in tests
        for one, two in (values[t.metric],)
    }


def tau_squared(test: GapTest) -> float:
    """Return the variance between the assessed subgroups' shares beyond noise; NaN for what is no share of faces."""
    if test.metric.kind != "proportion":
        return np.nan
    sample, size = test.axis.data.sample, test.axis.pooled.size
    values = metric_values(test.axis, test.metric, sample.sums.reshape(size, -1).astype(float))
    if test.axis.plain:
        n = metric_faces(test.axis, test.metric, sample.counts.reshape(size, -1))
    else:
        n = share(sample, np.eye(size), test.metric).effective
    p, n = values[test.chosen, test.position], n[test.chosen, test.position]
    return between_variance(p, n) if (n > 1).all() else np.nan


def detectable_gaps(tests: Sequence[GapTest], alpha: float) -> list[tuple[float, str]]:
    """Return, for each test, the gap to the rest that 80 % power finds in whichever assessed subgroup has it.

    It is the largest of the subgroups' own, and so that of the smallest one; NaN, and why, where one of them has none.
    alpha: the level of one contrast.
    """
    if not 0 < alpha < 1:
        return [(np.nan, "")] * len(tests)
    members = [np.flatnonzero(test.chosen) for test in tests]
    sizes = [
        contrast_sizes(test.axis, test.metric, test.position, own, None, test.deviation)
        for test, own in zip(tests, members, strict=True)
    ]
    reach = reaches(sizes, [alpha] * len(tests))
    found = []
    for test, own, each in zip(tests, members, reach, strict=True):
        missing = np.flatnonzero(np.isnan(each))
        names = [test.axis.data.sample.groups[own[i]] for i in missing]
        why = f"no gap would be found in {names[0]} with 80 % power: it has too few faces" if names else ""
        found.append((np.nan if names else float(each.max()), why))
    return found


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What power depends on, for m contrasts: the rest's rate and both (effective) numbers; else a standard error."""

    rate: np.ndarray
    n: np.ndarray
    n_rest: np.ndarray
    towards: float
    error: np.ndarray | None = None


def contrast_sizes(
    axis: ComparedAxis,
    metric: Metric,
    position: int,
    members: np.ndarray,
    others: np.ndarray | None,
    deviation: np.ndarray | None = None,
) -> Sizes:
    """Return what the power of members (m,) against pools `others` (m, G; None: all other known subgroups) rests on.

    deviation: (G,) of each subgroup's value under the null, for a metric that is no mean of scores.
    """
    line, size = linear(metric, axis.data.rows.table, position), axis.pooled.size
    counts = axis.data.sample.counts.reshape(size, -1).astype(float)
    nothing = np.zeros(len(members))
    if others is None:
        others = np.tile(axis.pooled.known.astype(float), (len(members), 1))
        others[np.arange(len(members)), members] = 0
    if line is None:
        assert deviation is not None  # given for these
        held = metric_faces(axis, metric, counts)[:, position]
        part = held / max(held[axis.pooled.known].sum(), 1e-300)
        error = deviation[members] / np.maximum(1 - part[members], 1e-9)
        return Sizes(rate=nothing, n=nothing, n_rest=nothing, towards=0, error=error)
    sums = sums_of(line, axis.data.sample.sums.reshape(size, -1).astype(float))
    own, rest = sums.of(members), sums.pools(others)
    d = float(efficiency(axis, metric)[position])
    if not line.counted:
        error = null_error(line, own, rest) / np.sqrt(d)
        return Sizes(rate=nothing, n=nothing, n_rest=nothing, towards=0, error=error)
    faces = own, rest
    if axis.data.sample.weight is not None:
        held_faces = sums_of(line, counts)
        faces = held_faces.of(members), held_faces.pools(others)
    below = rest.n.sum(0)
    rate = np.divide(rest.x.sum(0), below, out=np.full(len(members), np.nan), where=below > 0)
    return Sizes(rate=rate, n=faces[0].n.sum(0) * d, n_rest=faces[1].n.sum(0) * d, towards=direction(metric))


def reaches(sizes: Sequence[Sizes], alphas: Sequence[float]) -> list[np.ndarray]:
    """Return the smallest differences found with 80 % power, each (m,), at these levels of one contrast."""
    if not sizes:
        return []
    m = [len(one.rate) for one in sizes]
    alpha = np.repeat(np.asarray(alphas, dtype=float), m)
    rate, n, n_rest = (np.concatenate(parts) for parts in zip(*((s.rate, s.n, s.n_rest) for s in sizes), strict=True))
    by_rate = detectable(rate, n, n_rest, alpha, np.repeat([one.towards for one in sizes], m))
    error = np.concatenate([np.full(len(s.rate), np.nan) if s.error is None else s.error for s in sizes])
    found = np.where(np.isnan(error), by_rate, detectable_by_error(error, alpha))
    return np.split(found, np.cumsum(m)[:-1])


def _scores(table: pd.DataFrame) -> None:
    """Adjust the p-values of metrics that need probabilities or ages, by Holm within each task."""
    chosen = table["metric"].map(lambda name: name in METRICS and METRICS[name].kind == "score")
    for task in table.loc[chosen, "task"].unique():
        rows = chosen & (table["task"] == task) & table["p_value"].notna()
        table.loc[rows, "p_adjusted"] = holm(table.loc[rows, "p_value"].to_numpy())
        table.loc[rows, "family"] = f"{task}: gaps, {SCORES}"
        table.loc[rows, "family_size"] = int(rows.sum())


def _verdicts(table: pd.DataFrame, notes: Sequence[str], audit: AuditSpec) -> pd.DataFrame:
    sure = table["p_adjusted"] <= 1 - audit.confidence + 1e-12
    above = table["difference_low"] > 0
    judged = table["difference"].notna() & table["p_adjusted"].notna() & table["difference_low"].notna()
    table.loc[judged, "verdict"] = np.where(sure & above, GAP, NO_GAP)[judged]
    alone = judged & above & ~sure
    wide = judged & sure & ~above
    words = {
        "alone": "the interval of this gap alone excludes 0; among all gaps of its family it is not beyond noise",
        "wide": "beyond noise by its adjusted p, but the simultaneous interval reaches 0",
    }
    reasons = table["reason"].to_numpy(dtype=object)
    for mask, text in ((alone, words["alone"]), (wide, words["wide"])):
        reasons = np.where(mask, _joined(reasons, [text] * len(reasons)), reasons)
    table["reason"] = np.where(judged, _joined(reasons, notes), reasons)
    return table


def _joined(first: Sequence[str] | np.ndarray, second: Sequence[str]) -> np.ndarray:
    return np.array(["; ".join(filter(None, pair)) for pair in zip(first, second, strict=True)], dtype=object)
