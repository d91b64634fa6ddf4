"""Directed confusions: which label is taken for which class, in whom more than in others; and what classes attract."""

from dataclasses import dataclass

import numpy as np

from fairaudit.metrics import exact
from fairaudit.metrics.intervals import Limits, wilson
from fairaudit.metrics.nulls import null_cubes, random_tables, strata_of
from fairaudit.metrics.rates import Metric, Table, ratio
from fairaudit.metrics.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Contrasts:
    """Directed confusions of subgroups against everyone else: subgroup, label and prediction codes, each (m,)."""

    group: np.ndarray
    true: np.ndarray
    predicted: np.ndarray


def directions(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return label and prediction of every directed confusion, K(K − 1) of them, by label, then by prediction."""
    true, predicted = np.nonzero(~np.eye(classes, dtype=bool))
    return true, predicted


def directed_share(table: Table) -> Metric:
    """Return the metric "of the faces labelled y, the share predicted as ŷ", one "class" a direction."""
    true, predicted = directions(table.classes)
    return _share("directed", _cells(table, true, predicted), table.labelled_as[true])


def pairwise_recall(table: Table) -> Metric:
    """Return "of the faces labelled y and predicted as y or ŷ, the share predicted as y", one a direction."""
    true, predicted = directions(table.classes)
    right = _cells(table, true, true)
    return _share("pairwise_recall", right, right + _cells(table, true, predicted))


def confused_share(table: Table) -> Metric:
    """Return "of the faces labelled and predicted as one of two classes, the share taken for the other", one a pair."""
    first, second = np.triu_indices(table.classes, 1)
    wrong = _cells(table, first, second) + _cells(table, second, first)
    return _share("confused", wrong, wrong + _cells(table, first, first) + _cells(table, second, second))


def _cells(table: Table, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return one mask (rows, columns) for each of these cells."""
    masks = np.zeros((len(true), *table.shape))
    masks[np.arange(len(true)), true, predicted] = 1
    return masks


def _share(name: str, top: np.ndarray, bottom: np.ndarray) -> Metric:
    return Metric(name=name, kind="proportion", lacking="", per_class=True, cells=lambda _: (top, bottom))


def strengths(
    sample: Sample, known: np.ndarray, contrasts: Contrasts, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return |z| of every contrast, (m,), and the same with subgroup labels permuted within true classes, (draws, m).

    Each contrast is of one subgroup against all others that are `known` (bool, (G,)). Whole faces: exact mid-p, in
    draws of tables with fixed margins; weighted faces and persons: the stratified score test on permuted units.
    """
    if not len(contrasts.group):
        return np.zeros(0), np.zeros((draws, 0), dtype=np.float32)
    if sample.weight is None and sample.subject is None:
        return _counted(sample, known, contrasts, draws, rng)
    return _permuted(sample, known, contrasts, draws, rng)


def _counted(
    sample: Sample, known: np.ndarray, contrasts: Contrasts, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    seen, null = np.zeros(len(contrasts.group)), np.zeros((draws, len(contrasts.group)), dtype=np.float32)
    for y in np.unique(contrasts.true):
        here = np.flatnonzero(contrasts.true == y)
        members, place = np.unique(contrasts.group[here], return_inverse=True)
        counts = sample.counts[:, y, : sample.table.classes]
        total = counts[known].sum(0)
        # subgroups that are not contrasted need no cells of their own
        rows = np.append(counts[members].sum(1), total.sum() - counts[members].sum())
        drawn = random_tables(rows, total, draws, rng)
        for c, a in zip(here, place, strict=True):
            p = contrasts.predicted[c]
            n, marks, size = int(rows[a]), int(total[p]), int(total.sum())
            found = _mid_p(np.append(counts[members[a], p], drawn[:, a, p]), n, marks, size)
            seen[c], null[:, c] = found[0], found[1:]
    return seen, null


def _mid_p(x: np.ndarray, n: int, marks: int, size: int) -> np.ndarray:
    """Return the strength of x marks among n of `size` faces that hold `marks`: exact mid-p, else the score test."""
    if min(n, marks) - max(0, n + marks - size) >= exact.LARGEST:
        return _score(x, np.full(len(x), float(n)), float(marks), float(size))
    low, law = exact.outcomes(n, marks, size)
    return exact.strength(exact.p_values(law, mid=True))[x - low]


def _score(x: np.ndarray, n: np.ndarray, marks: np.ndarray | float, size: np.ndarray | float) -> np.ndarray:
    """Return |z| of x marks among n of `size` (sums of weights), standardized as a draw without replacement."""
    variance = n * (size - n) * marks * (size - marks) / np.maximum(np.square(size) * (size - 1), 1e-300)
    apart = np.abs(x - n * marks / np.maximum(size, 1e-300))
    return np.divide(apart, np.sqrt(np.maximum(variance, 0)), out=np.zeros(np.shape(apart)), where=variance > 1e-12)


def _permuted(
    sample: Sample, known: np.ndarray, contrasts: Contrasts, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    cubes, _ = null_cubes(sample, known, strata_of(sample.table, "label"), draws, rng)
    shape = (len(sample.groups), *sample.table.shape)
    both = np.concatenate([sample.sums.reshape(1, *shape), cubes.reshape(draws, *shape)])
    hits = np.empty((draws + 1, len(contrasts.group)), dtype=np.float32)
    for y in np.unique(contrasts.true):
        row = both[:, :, y, : sample.table.classes]
        n, pool = row.sum(-1), row[:, known].sum(1)
        here = np.flatnonzero(contrasts.true == y)
        g, p = contrasts.group[here], contrasts.predicted[here]
        hits[:, here] = _score(row[:, g, p], n[:, g], pool[:, p], pool.sum(-1, keepdims=True))
    return hits[0].astype(float), hits[1:]


@dataclass(frozen=True, kw_only=True)
class Attraction:
    """Predicted ÷ labelled prevalence of each class in each pool, (Q, K), with the numbers of faces behind it."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray
    effective: np.ndarray


def attraction(sample: Sample, z: float) -> Attraction:
    """Return how many faces of each subgroup are predicted as a class for each that is labelled as it.

    Both counts are of the same faces, so the limits are those of a ratio of paired proportions: Bonett & Price's hybrid
    of Wilson limits (Stat Med 2006), at cells scaled to the design's variance of the log ratio where faces are weighted
    or persons repeat. NaN where no face is labelled as the class, or none is predicted as it and none labelled.
    """
    table = sample.table
    top, bottom, both = table.predicted_as, table.labelled_as, table.right_as
    above, below, joint = (sample.total(mask) for mask in (top, bottom, both))
    counts = sample.total(bottom, sample.counts)
    scale = np.ones(above.shape)
    if sample.weight is not None or sample.subject is not None:
        scale = _efficiency(sample, top, bottom, (above, below, joint))
    low, high = paired_ratio(joint * scale, (above - joint) * scale, (below - joint) * scale, z)
    value = ratio(above, below)
    undefined = np.isnan(value)
    return Attraction(
        value=value,
        low=np.where(undefined, np.nan, low),
        high=np.where(undefined, np.nan, high),
        predicted=sample.total(top, sample.counts),
        labelled=counts,
        effective=np.minimum(below * scale, counts),
    )


def _efficiency(
    sample: Sample, top: np.ndarray, bottom: np.ndarray, sums: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return the variance of the log ratio for independent faces of weight 1 over that of the sample's design."""
    above, below, joint = sums
    if sample.subject is not None:
        aa, ab, bb, people = sample.moments(top, bottom)
        factor = ratio(people, people - 1)
    else:
        aa, bb, ab = (sample.total(mask, sample.squares) for mask in (top, bottom, top * bottom))
        factor = np.ones(above.shape)
    design = factor * (ratio(aa, above**2) - 2 * ratio(ab, above * below) + ratio(bb, below**2))
    plain = ratio(above + below - 2 * joint, above * below)
    kish = np.nan_to_num(ratio(below, bb))
    found = np.where(plain > 1e-12, ratio(plain, np.maximum(design, 0)), np.nan)
    return np.minimum(np.where(np.isnan(found), kish, found), kish)


def paired_ratio(both: np.ndarray, first: np.ndarray, second: np.ndarray, z: float) -> Limits:
    """Return limits of p1 / p2 of paired proportions: faces in both, only in the first, only in the second.

    Bonett & Price (Stat Med 25:3039, 2006): Wilson limits of both shares among all faces in either, at a z that makes
    their quotient hold together. 0 … infinity where there is no face; an upper limit of infinity where p2 may be 0.
    """
    x1, x2, n = both + first, both + second, both + first + second
    spread = np.sqrt((first + second + 2) / ((x1 + 1) * (x2 + 1)))
    sides = np.sqrt((1 - (x1 + 1) / (n + 2)) / (x1 + 1)) + np.sqrt((1 - (x2 + 1) / (n + 2)) / (x2 + 1))
    joint = z * spread / sides
    (low1, high1), (low2, high2) = (wilson(ratio(x, n), n, joint) for x in (x1, x2))
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = low1 / high2, high1 / low2
    return np.where(n > 0, low, 0.0), np.where(n > 0, np.where(np.isnan(high), np.inf, high), np.inf)
