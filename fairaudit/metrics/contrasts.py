"""Contrasts between two pools of faces: a mean of scores, standardized by what exchanging labels within strata does.

A rate, a mean error and a mean of recalls are all means of a score over cells. If labels of two pools are exchanged at
random within strata, a pool's sum in a stratum has the mean and the variance of a draw without replacement; the sum
over strata gives one standardized difference (the stratified permutation test: Mantel & Haenszel 1959 for counts).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics import exact, ordinal
from fairaudit.metrics.nulls import Condition, condition_of, random_tables, strata_of
from fairaudit.metrics.rates import Metric, Table
from fairaudit.metrics.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One metric and class as a mean of scores.

    score: (cells,); stratum: (cells,), 0…S−1 for the cells of its denominator, −1 elsewhere; averaged: the mean of the
    strata's means (over those that both pools hold), not of all faces; one: a share of the faces of one stratum.
    """

    metric: Metric
    position: int
    condition: Condition
    score: np.ndarray
    stratum: np.ndarray
    averaged: bool
    one: bool

    @property
    def strata(self) -> int:
        """Number of strata."""
        return int(self.stratum.max(initial=-1)) + 1

    @property
    def counted(self) -> bool:
        """Whether it is a share of faces, so that its sums are counts."""
        return self.metric.kind == "proportion"


@dataclass(frozen=True)
class Sums:
    """Faces, Σ score and Σ score² of pools by stratum, each (S, …, G); n may lack the axes between where all agree.

    marks: the score is 0 or 1, so that q is x.
    """

    n: np.ndarray
    x: np.ndarray
    q: np.ndarray
    marks: bool

    def __sub__(self, other: "Sums") -> "Sums":
        x = self.x - other.x
        return Sums(self.n - other.n, x, x if self.marks else self.q - other.q, self.marks)

    def of(self, groups: np.ndarray | slice) -> "Sums":
        """Return the sums of these pools, in this order."""
        x = self.x[..., groups]
        return Sums(self.n[..., groups], x, x if self.marks else self.q[..., groups], self.marks)

    def pools(self, members: np.ndarray) -> "Sums":
        """Return the sums of pools of subgroups, 0/1 membership (Q, G)."""
        x = self.x @ members.T
        return Sums(self.n @ members.T, x, x if self.marks else self.q @ members.T, self.marks)

    def total(self, groups: np.ndarray) -> "Sums":
        """Return the sums of these pools together, (S, …, 1)."""
        n, x = (part[..., groups].sum(-1, keepdims=True) for part in (self.n, self.x))
        return Sums(n, x, x if self.marks else self.q[..., groups].sum(-1, keepdims=True), self.marks)


def linear(metric: Metric, table: Table, position: int) -> Linear | None:
    """Return the metric of one class as a mean of scores, None where it is none (kappa, F1, macro F1 …)."""
    condition = condition_of(metric)
    if metric.kind == "proportion" and metric.cells is not None:
        top, bottom = metric.cells(table)
        score, held = top[position].ravel(), np.broadcast_to(bottom, top.shape)[position].ravel() > 0
    elif metric.kind == "average" and metric.name != "accuracy_standardized":
        score, held = table.right[0].ravel(), table.predicted[0].ravel() > 0
    elif metric.name in ("mae_bins", "signed_error_bins"):
        distance = np.zeros(table.shape)
        distance[:, : table.classes] = ordinal.distances(table.classes)
        score, held = distance.ravel(), table.predicted[0].ravel() > 0
        score = np.abs(score) if metric.name == "mae_bins" else score
    else:
        return None
    codes = np.where(held, strata_of(table, condition), -1)
    used = np.unique(codes[codes >= 0])
    stratum = np.where(codes >= 0, np.searchsorted(used, codes), -1)
    averaged = metric.kind == "average"
    return Linear(
        metric=metric,
        position=position,
        condition=condition,
        score=np.where(held, score, 0.0),
        stratum=stratum,
        averaged=averaged,
        one=metric.kind == "proportion" and len(used) == 1,
    )


def sums_of(line: Linear, cubes: np.ndarray, n: np.ndarray | None = None) -> Sums:
    """Return the sums of every pool in cubes (…, G, cells); `n`: the faces (S, G) where they are the same in all."""
    marks = bool(np.isin(line.score, (0, 1)).all())
    # a metric that no cell of the table is a part of (false positives of a task of one class) has one empty stratum
    inside = [line.stratum == s for s in range(max(line.strata, 1))]
    x = np.stack([_product(cubes, line.score * mask) for mask in inside])
    q = x if marks else np.stack([_product(cubes, line.score**2 * mask) for mask in inside])
    n = np.stack([_product(cubes, mask.astype(float)) for mask in inside]) if n is None else n
    return Sums(n, x, q, marks)


def _product(cubes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    held = np.flatnonzero(weights)
    if len(held) == 1:
        return cubes[..., held[0]] * weights[held[0]]
    return cubes[..., held] @ weights[held]


def value_of(line: Linear, sums: Sums, held: np.ndarray | None = None) -> np.ndarray:
    """Return the metric of each pool (…, G); `held`: the strata averaged over, (S, …, G) bool."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if line.averaged:
            held = sums.n > 0 if held is None else held
            return np.where(held, sums.x / sums.n, 0).sum(0) / held.sum(0)
        return _total(sums.x) / _total(sums.n)


def _total(parts: np.ndarray) -> np.ndarray:
    return parts[0] if len(parts) == 1 else parts.sum(0)


def standardized(line: Linear, first: Sums, second: Sums) -> np.ndarray:
    """Return the standardized differences of first and second pools, (…, G); 0 where exchanging changes nothing."""
    above = below = np.zeros(())
    for s in range(line.strata):
        # where the sizes agree in all draws, what depends on them alone is computed once
        one, two = first.n[s], second.n[s]
        n = one + two
        safe = np.where(n > 0, n, 1.0)
        mixed = np.where(n > 1, one * two / (safe * np.maximum(n - 1, 1e-9)), 0.0)
        # draws × pairs are large: what is computed of them is written into few arrays
        x = first.x[s] + second.x[s]
        surplus = one / safe * x
        surplus = np.subtract(first.x[s], surplus, out=surplus)
        if first.marks:
            spread = x / safe
            spread = np.multiply(np.subtract(1, spread, out=spread), x, out=spread)
        else:
            spread = first.q[s] + second.q[s] - x * x / safe
        if line.averaged:
            both = (one > 0) & (two > 0)
            size = np.where(both, n / np.where(both, one * two, 1.0), 0.0)
            surplus, mixed = surplus * size, mixed * size**2
        spread = spread * mixed
        above, below = (surplus, spread) if s == 0 else (above + surplus, below + spread)
    flat = ~(below > 1e-12)
    below = np.sqrt(np.where(flat, 1.0, below))
    return np.where(flat, 0.0, above / below)


def null_error(line: Linear, first: Sums, second: Sums) -> np.ndarray:
    """Return the standard error of the difference of two pools' values when labels are exchanged, (…, G)."""
    total = np.zeros(np.shape(first.x[0]))
    size = 1 / np.maximum(first.n.sum(0), 1e-9) + 1 / np.maximum(second.n.sum(0), 1e-9)
    both = (first.n > 0) & (second.n > 0)
    for s in range(line.strata):
        n, x, q = (a[s] + b[s] for a, b in ((first.n, second.n), (first.x, second.x), (first.q, second.q)))
        spread = np.maximum(q - x * x / np.maximum(n, 1e-9), 0) / np.maximum(n - 1, 1e-9)
        product = first.n[s] * second.n[s] / np.maximum(n, 1e-9)
        factor = both[s] / np.maximum(product * both.sum(0), 1e-9) if line.averaged else size
        total = total + factor**2 * product * spread
    return np.sqrt(total)


def strengths(line: Linear, first: Sums, second: Sums) -> np.ndarray:
    """Return |standardized difference| of pools: the strength of a two-sided test."""
    return np.abs(standardized(line, first, second))


def exact_law(n: np.ndarray, marks: np.ndarray, total: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Return the least sum of marks over strata and the probability of each possible sum, margins fixed.

    n, marks, total: (S,) of one pool, of both together. None where so much can happen that a normal law serves as well.
    """
    low, law = 0, np.ones(1)
    for size, hits, everyone in zip(*(np.rint(part).astype(np.int64) for part in (n, marks, total)), strict=True):
        if min(size, hits) - max(0, size + hits - everyone) + len(law) > exact.LARGEST:
            return None
        least, part = exact.outcomes(int(size), int(hits), int(everyone))
        low, law = low + least, np.convolve(law, part)
    return low, law / law.sum()


Laws = list[tuple[int, np.ndarray] | None]


def rest_laws(line: Linear, seen: Sums, members: np.ndarray, pool: np.ndarray) -> Laws:
    """Return what judges each member's marks, given the margins of the faces (S, G) of `pool`.

    That is the least possible sum, and the strength of the exact mid-p of each sum from there on; None as in exact_law.
    """
    own, everyone = seen.of(members), seen.total(pool)
    laws = [exact_law(own.n[:, a], everyone.x[:, 0], everyone.n[:, 0]) for a in range(len(members))]
    return [law if law is None else (law[0], exact.strength(exact.p_values(law[1], mid=True))) for law in laws]


def exact_p(line: Linear, first: Sums, second: Sums) -> np.ndarray:
    """Return the exact two-sided p of counts (…, A), one pair of pools each: Fisher's test, over strata where several.

    A pair of pools for which no exact law is made gets the p of the score test.
    """
    p = exact.two_sided(standardized(line, first, second))
    if line.strata == 1:
        fits = np.minimum(first.n[0], first.x[0] + second.x[0]) < exact.LARGEST
        p[fits] = exact.fisher(*(part[0, fits] for part in (first.x, first.n, second.x, second.n)))
        return p
    for a in range(len(p)):
        n, x = first.n[:, a], first.x[:, a]
        found = exact_law(n, x + second.x[:, a], n + second.n[:, a])
        if found is not None:
            p[a] = exact.p_values(found[1])[round(float(x.sum())) - found[0]]
    return p


def against_rest(
    line: Linear, sums: Sums, members: np.ndarray, pool: np.ndarray, laws: Laws | None = None
) -> np.ndarray:
    """Return the strength of each member against the others of `pool`, (…, A), from sums (S, …, G).

    laws: of `rest_laws`, where the sums are whole faces with fixed margins: shares are then judged by exact mid-p.
    """
    own, everyone = sums.of(members), sums.total(pool)
    found = strengths(line, own, everyone - own)
    for a, law in enumerate(laws or ()):
        if law is not None:
            found[..., a] = law[1][np.rint(own.x[..., a].sum(0)).astype(np.int64) - law[0]]
    return found


def redrawn(line: Linear, sample: Sample, pool: np.ndarray, draws: int, rng: np.random.Generator) -> Sums:
    """Draw sums (S, draws, G) under no difference among the subgroups of `pool` only: whole faces, fixed margins."""
    cells = sample.counts.reshape(len(sample.groups), -1)[pool]
    n = np.zeros((line.strata, len(sample.groups)))
    x, q = (np.zeros((line.strata, draws, len(sample.groups))) for _ in range(2))
    for s in range(line.strata):
        inside = line.stratum == s
        values, place = np.unique(line.score[inside], return_inverse=True)
        counts = cells[:, inside] @ np.eye(len(values), dtype=np.int64)[place]
        drawn = random_tables(counts.sum(1), counts.sum(0), draws, rng)
        n[s, pool], x[s][:, pool], q[s][:, pool] = counts.sum(1), drawn @ values, drawn @ values**2
    return Sums(n, x, q, bool(np.isin(line.score, (0, 1)).all()))


def distinct(metrics: Sequence[Metric], table: Table) -> dict[tuple[str, int], tuple[str, int]]:
    """Map every metric and class to the first one that is the same up to 1 − x: a contrast is to be counted once."""
    first: dict[object, tuple[str, int]] = {}
    same = {"macro_recall": "balanced_accuracy"}
    found = {}
    for metric in metrics:
        for p in range(table.classes if metric.per_class else 1):
            key: object = (same.get(metric.name, metric.name), p)
            if metric.kind == "proportion" and metric.cells is not None:
                top, bottom = metric.cells(table)
                upper, lower = top[p], np.broadcast_to(bottom, top.shape)[p]
                # what is exchanged must be the same, too: FPR and NPV differ in that even where K = 2
                ends = sorted(((upper + 0.0).tobytes(), (lower - upper + 0.0).tobytes()))
                key = (lower.tobytes(), *ends, condition_of(metric) if metric.outcome else "")
            found[metric.name, p] = first.setdefault(key, (metric.name, p))
    return found
