"""ROC AUC and average precision of every subgroup from tables of distinct scores, which add over shards.

A table counts, for each subgroup and distinct score (or bin of scores), the faces of the class and the others. Weights
enter as sums of w and w². Ties count one half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics.measures import Ranked
from fairaudit.metrics.rates import ratio

LEAST_OF_EACH = 10


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Faces by subgroup and distinct score, E entries sorted by (group, place); `groups` subgroups.

    score: distinct values (D,), ascending. group, place: codes of each entry into the subgroups and `score`. positive,
    negative: Σw of the faces of the class and of the others; squares of these: Σw²; faces of these: numbers of faces.
    """

    groups: int
    score: np.ndarray
    group: np.ndarray
    place: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positive_squares: np.ndarray
    negative_squares: np.ndarray
    positive_faces: np.ndarray
    negative_faces: np.ndarray

    def sums(self, column: np.ndarray) -> np.ndarray:
        """Sum a column (E,) over each subgroup: (G,)."""
        return np.bincount(self.group, weights=column, minlength=self.groups)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An area under a curve with its variance for Q pools, and how many faces of the class and others they hold.

    Pools: the G subgroups, then everyone else of each known one. Value and variance NaN where a side is empty.
    """

    value: np.ndarray
    variance: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


SUMS = ("positive", "negative", "positive_squares", "negative_squares", "positive_faces", "negative_faces")


def score_table(
    ranks: Ranked, group: np.ndarray, groups: int, positive: np.ndarray, weight: np.ndarray | None = None
) -> ScoreTable:
    """Return the table of faces whose scores are sorted already; one stable sort by subgroup does the rest.

    group (N,) codes in 0…groups−1; positive (N,) bool: which faces are of the class; weight (N,) positive, or None.
    """
    small = np.int16 if groups < 2**15 else np.int64  # numpy sorts 16-bit numbers by radix
    order = ranks.order[np.argsort(group[ranks.faces[ranks.order]].astype(small), kind="stable")]
    faces, place = ranks.faces[order], ranks.place[order]
    of, side = group[faces].astype(np.int64), positive[faces]
    return _collected(groups, ranks.score, of, place, _side_sums(side, None if weight is None else weight[faces]))


def counted_table(
    groups: int, group: np.ndarray, score: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> ScoreTable:
    """Return the table of counts as a database gives them: one row a subgroup and score (or bin), in any order."""
    distinct, place = np.unique(np.asarray(score, dtype=float), return_inverse=True)
    order = np.lexsort((place, group))
    counts = [np.asarray(c, dtype=float)[order] for c in (positives, negatives)] * 3
    return _collected(groups, distinct, np.asarray(group, dtype=np.int64)[order], place[order], counts)


def merged(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Return the table of several shards together; their subgroups have the same codes."""
    score, place = np.unique(np.concatenate([table.score[table.place] for table in tables]), return_inverse=True)
    group = np.concatenate([table.group for table in tables])
    order = np.lexsort((place, group))
    sums = [np.concatenate([getattr(table, name) for table in tables])[order] for name in SUMS]
    return _collected(tables[0].groups, score, group[order], place[order], sums)


def binned(table: ScoreTable, bins: int = 2**16) -> ScoreTable:
    """Return the table with its scores (within 0…1) put into `bins` of equal width, named by their middles."""
    number = np.minimum((table.score * bins).astype(np.int64), bins - 1)
    middle = (number + 0.5) / bins
    distinct, where = np.unique(middle, return_inverse=True)
    return _collected(table.groups, distinct, table.group, where[table.place], [getattr(table, n) for n in SUMS])


def of_the_class(table: ScoreTable) -> ScoreTable:
    """Return the table over the scores that faces of the class have, in any subgroup; for average precision only.

    A face that is not of the class acts there as if it had the next lower of these scores; below all, it does not act.
    """
    held = np.flatnonzero(np.bincount(table.place, weights=table.positive_faces, minlength=len(table.score)) > 0.5)
    step = np.searchsorted(held, table.place, side="right") - 1
    some = step >= 0
    columns = {id(getattr(table, name)): getattr(table, name)[some] for name in SUMS}
    sums = [columns[id(getattr(table, name))] for name in SUMS]
    return _collected(table.groups, table.score[held], table.group[some], step[some], sums)


def auc_error_bound(table: ScoreTable) -> np.ndarray:
    """Return how far the AUC of each subgroup can be from that of the scores before binning: half the tied mass, (G,).

    A pair in one bin counts one half and would count 0, ½ or 1 by its own scores. NaN where a side is empty.
    """
    pairs = table.sums(table.positive) * table.sums(table.negative)
    return ratio(table.sums(table.positive * table.negative) / 2, pairs)


def _side_sums(side: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
    ones = side.astype(float)
    if weight is None:
        return [ones, 1 - ones] * 3
    return [part for w in (weight, weight**2, np.ones(len(side))) for part in (w * ones, w * (1 - ones))]


def _collected(
    groups: int, score: np.ndarray, group: np.ndarray, place: np.ndarray, sums: Sequence[np.ndarray]
) -> ScoreTable:
    """Join neighbours of one subgroup and score; `group`, `place` are sorted."""
    changes = np.ones(len(group), dtype=bool)
    changes[1:] = (group[1:] != group[:-1]) | (place[1:] != place[:-1])
    starts = np.flatnonzero(changes)
    # without weights three pairs of columns are one and the same, and stay so
    joined = {id(c): c if len(starts) == len(group) else np.add.reduceat(c, starts) for c in sums}
    columns = {name: joined[id(column)] for name, column in zip(SUMS, sums, strict=True)}
    return ScoreTable(groups=groups, score=score, group=group[starts], place=place[starts], **columns)


def auc(table: ScoreTable, known: np.ndarray | None = None) -> Curve:
    """Return the one-vs-rest ROC AUC of every subgroup and, with `known` (bool (G,)), everyone else of each known one.

    Variance: DeLong, DeLong & Clarke-Pearson (Biometrics 1988); with weights its linearized form, Σ w²(V − AUC)² of the
    placement values V over (Σw)², each side by itself. Everyone else's sums are all pairs' minus those that touch the
    subgroup, so that the work grows with the entries and not with entries × subgroups.
    """
    known = np.zeros(table.groups, dtype=bool) if known is None else known
    forward = _Side(table, known, reverse=False).sums()
    backward = _Side(table, known, reverse=True).sums()
    positives, negatives = (with_rests(table.sums(side), known) for side in (table.positive, table.negative))
    value = ratio(forward.pairs, positives * negatives)
    faces = [with_rests(table.sums(side), known) for side in (table.positive_faces, table.negative_faces)]
    squares = [with_rests(table.sums(side), known) for side in (table.positive_squares, table.negative_squares)]
    parts = [
        _side_variance(sums, value, square, mass, other, n)
        for sums, square, mass, other, n in zip(
            (forward, backward), squares, (positives, negatives), (negatives, positives), faces, strict=True
        )
    ]
    return Curve(value=value, variance=parts[0] + parts[1], positives=faces[0], negatives=faces[1])


@dataclass(frozen=True)
class _Placements:
    """Per pool: Σ w·U, Σ w²·U and Σ w²·U² over one side, U = the other side's weight that a face is ranked above."""

    pairs: np.ndarray
    first: np.ndarray
    second: np.ndarray


class _Side:
    """The sums of one side's placements: of the class against the others, or reversed of the others against it."""

    def __init__(self, table: ScoreTable, known: np.ndarray, *, reverse: bool) -> None:
        turn = slice(None, None, -1) if reverse else slice(None)
        self.groups, self.reverse, self.known = table.groups, reverse, known[turn]
        self.size = len(table.score)
        self.group = table.groups - 1 - table.group[turn] if reverse else table.group
        self.place = self.size - 1 - table.place[turn] if reverse else table.place
        own = (table.negative, table.negative_squares) if reverse else (table.positive, table.positive_squares)
        self.mass, self.square = own[0][turn], own[1][turn]
        self.other = (table.positive if reverse else table.negative)[turn]

    def total(self, column: np.ndarray) -> np.ndarray:
        """Sum a column of entries over each subgroup."""
        return np.bincount(self.group, weights=column, minlength=self.groups)

    def sums(self) -> _Placements:
        """Return the sums for the subgroups, then for everyone else of each known one."""
        through = np.cumsum(self.other)
        start = np.searchsorted(self.group, np.arange(self.groups))
        before = np.concatenate([[0.0], through])[start][self.group]  # what earlier subgroups hold
        after = through - before
        under = after - self.other / 2
        own = [self.total(self.mass * under), self.total(self.square * under), self.total(self.square * under**2)]
        if not self.known.any():
            rest = [np.zeros(0)] * 3
        else:
            rest = [part[self.known] for part in self._rests(own, after, under)]
        turn = slice(None, None, -1) if self.reverse else slice(None)
        return _Placements(*(np.concatenate([o[turn], r[turn]]) for o, r in zip(own, rest, strict=True)))

    def _rests(self, own: list[np.ndarray], after: np.ndarray, under: np.ndarray) -> list[np.ndarray]:
        keep = self.known[self.group].astype(float)
        mass, square, other = (
            np.bincount(self.place, weights=column * keep, minlength=self.size)
            for column in (self.mass, self.square, self.other)
        )
        below = np.cumsum(other) - other / 2  # of everyone, under each distinct score
        at = below[self.place]
        above = [_above(column)[self.place] for column in (mass, square, square * below)]
        pairs, first, crossed = (self.total(self.other * column) for column in above)
        reached = np.cumsum(square)
        following = np.full(len(self.place), self.size - 1)
        following[:-1] = np.where(self.group[1:] == self.group[:-1], self.place[1:] - 1, self.size - 1)
        between = reached[following] - reached[self.place]
        second = self.total(square[self.place] * under**2 + between * after**2)
        mine = [self.total(c * p) for c, p in ((self.mass, at), (self.square, at), (self.square, at * at))]
        everyone = [(column * part).sum() for column, part in ((mass, below), (square, below), (square, below**2))]
        return [
            everyone[0] - mine[0] - pairs + own[0],
            everyone[1] - mine[1] - first + own[1],
            everyone[2] - mine[2] - 2 * (crossed - self.total(self.square * at * under)) + second - own[2],
        ]


def _above(column: np.ndarray) -> np.ndarray:
    """Sum of what stands above each place, and half of what stands at it."""
    return np.cumsum(column[::-1])[::-1] - column / 2


def with_rests(sums: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return sums over the G subgroups, then over everyone else of each known one."""
    return np.concatenate([sums, (sums[known].sum() - sums)[known]])


def _side_variance(
    sums: _Placements, value: np.ndarray, square: np.ndarray, mass: np.ndarray, other: np.ndarray, faces: np.ndarray
) -> np.ndarray:
    spread = ratio(sums.second, other**2) - 2 * value * ratio(sums.first, other) + value**2 * square
    return ratio(np.maximum(spread, 0) * ratio(faces, faces - 1), mass**2)


@dataclass(frozen=True, kw_only=True)
class Influence:
    """A value, and how it moves for a unit of weight added to a face of the class, or another, at each place (D,)."""

    value: float
    positive: np.ndarray
    negative: np.ndarray


def auc_influence(positive: np.ndarray, negative: np.ndarray) -> Influence:
    """Return the AUC of one pool, given by the weight of both sides at each distinct score, ascending (D,)."""
    below = np.cumsum(negative) - negative / 2
    up, down = positive.sum(), negative.sum()
    value = float((positive * below).sum() / (up * down))
    return Influence(
        value=value,
        positive=(below / down - value) / up,
        negative=(_above(positive) / up - value) / down,
    )


def precision_influence(positive: np.ndarray, negative: np.ndarray) -> Influence:
    """Return the average precision of one pool, Σ (share of the class found at a score) · (precision down to it).

    Arrays as in `auc_influence`; the influence is the infinitesimal jackknife (Efron 1982).
    """
    unit = positive[::-1]
    value, moved, one, both = _falling_ratio(unit, unit, unit + negative[::-1])
    return Influence(value=value, positive=(moved + one - both)[::-1], negative=-both[::-1])


def risk_influence(right: np.ndarray, wrong: np.ndarray) -> Influence:
    """Return the area under the risk–coverage curve (Geifman & El-Yaniv 2017): the mean error rate of the surest faces.

    right, wrong: weight at each distinct confidence, ascending (D,). `positive` is the influence of a right face.
    """
    unit = (right + wrong)[::-1]
    value, moved, one, both = _falling_ratio(unit, wrong[::-1], unit)
    return Influence(value=value, positive=(moved - both)[::-1], negative=(moved + one - both)[::-1])


def _falling_ratio(
    unit: np.ndarray, top: np.ndarray, bottom: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return Σ u·(Στ / Σβ) / Σu, inner sums from the first place on, and how it moves with u, with τ and (−) with β."""
    reached, total = np.cumsum(bottom), unit.sum()
    share = np.nan_to_num(ratio(np.cumsum(top), reached))
    each = np.nan_to_num(ratio(unit, reached))
    value = float((unit * share).sum() / total)
    with_top, with_bottom = (np.cumsum(part[::-1])[::-1] / total for part in (each, each * share))
    return value, (share - value) / total, with_top, with_bottom
