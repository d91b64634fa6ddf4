"""Score metrics of faces that are counted on disk: tables of distinct scores, or of bins, and sums, by subgroup."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fairaudit.metrics.means import Means, means_of_sums
from fairaudit.metrics.measures import LEAST_PROBABILITY, MOST_CERTAIN
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.rates import ratio
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.scores import ScoreTable, counted_table


class ScoreStore(Protocol):
    """Scores of one task's faces on disk, by cell: a combination of all attributes. bins: None where they are exact."""

    classes: int
    cells: int
    bins: int | None

    def counts(self, which: int | None, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return subgroup, score, and faces of the class and not, a row each pair that occurs.

        which: the class, or None for the predicted class's probability and whether it is right. group: the subgroup of
        each cell (cells,), −1 for none.
        """

    def sums(self, least_probability: float, most_certain: float) -> Mapping[str, np.ndarray]:
        """Return by cell (cells,): `faces`, sums and sums of squares of each loss (`log_loss`, `log_loss²`, …), `zero`
        (faces whose label has probability 0) and `near` (whose confidence is nearer than `most_certain` to 0 or 1).

        least_probability: what a probability below it counts as in log loss.
        """


class YearStore(Protocol):
    """Ages in years of one task's faces on disk, by cell; a face counts where both its ages are within 0…150."""

    cells: int

    def sums(self, near: float, challenge: float, challenged: tuple[float, float]) -> Mapping[str, np.ndarray]:
        """Return by cell (cells,): `faces`; sums of `error` (predicted − labelled age), of its `absolute` value, its
        `square` and `fourth` power; how many are `near` (absolute error up to that many years); how many are labelled
        within `challenged` (from, below), and how many of those `passed`: are predicted `challenge` years or more.
        """

    def by_age(self, first: int, last: int) -> Sequence[np.ndarray]:
        """Return faces, Σ |error| and Σ error² by cell and labelled age in whole years first…last: (cells, ages)."""


@dataclass(frozen=True, kw_only=True)
class CountedYears:
    """Ages on disk, and the cell of each row of the sample (N,)."""

    store: YearStore
    cell: np.ndarray


@dataclass(frozen=True, kw_only=True)
class CountedScores:
    """Scores on disk, and the cell of each row of the sample (N,)."""

    store: ScoreStore
    cell: np.ndarray


class CountedPools(Pools):
    """The pools of a sample whose scores are counted on disk."""

    def __init__(self, sample: Sample, known: np.ndarray) -> None:
        super().__init__(sample, known)
        measures = sample.measures
        assert measures is not None and measures.counted is not None  # made only then
        self.store: ScoreStore = measures.counted.store
        self._group = np.full(self.store.cells, -1, dtype=np.int64)
        self._group[measures.counted.cell] = sample.group

    @property
    def width(self) -> int:
        return self.store.classes

    def class_table(self, c: int) -> ScoreTable:
        return counted_table(len(self.known), *self.store.counts(c, self._group))

    def top_table(self) -> ScoreTable:
        return counted_table(len(self.known), *self.store.counts(None, self._group))

    def effective(self, counts: np.ndarray, faces: Callable[[], np.ndarray]) -> np.ndarray:
        return counts

    def clipped(self) -> np.ndarray:
        return (self._pooled("near") > 0)[:, None]

    def losses(self, name: str) -> tuple[Means, np.ndarray]:
        columns = [self._pooled(part)[:, None] for part in (name, f"{name}²", "faces")]
        return means_of_sums(*columns), self._pooled("zero")

    @property
    def binned(self) -> bool:
        return self.store.bins is not None

    def _pooled(self, name: str) -> np.ndarray:
        inside = self._group >= 0
        cells = self.store.sums(LEAST_PROBABILITY, MOST_CERTAIN)[name]
        sums = np.bincount(self._group[inside], weights=cells[inside], minlength=len(self.known))
        return self.matrix @ sums


def pools_of(sample: Sample, known: np.ndarray) -> Pools:
    """Return the pools of a sample, with its scores in memory or counted on disk."""
    counted = sample.measures is not None and sample.measures.counted is not None
    return CountedPools(sample, known) if counted else Pools(sample, known)


def precision_error_bound(table: ScoreTable) -> np.ndarray:
    """Return how far the average precision of each subgroup can be from that of the scores before binning, (G,).

    Within a bin the faces of the class may all stand above or all below the others; NaN where there are none.
    """
    turned = slice(None, None, -1)
    up, down, group = table.positive[turned], table.negative[turned], table.group[turned]
    through = [np.cumsum(column) for column in (up, down)]
    starts = np.searchsorted(-group, -np.arange(table.groups))
    before = [np.concatenate([[0.0], column])[starts][group] for column in through]
    a, f = (column - own - earlier for column, own, earlier in zip(through, (up, down), before, strict=True))
    found = ratio(a + up, a + up + f + down)
    best, worst = ratio(a + up, a + up + f), ratio(a + np.minimum(up, 1), a + np.minimum(up, 1) + f + down)
    off = np.where(up > 0, up * np.maximum(best - found, found - worst), 0)
    return ratio(np.bincount(group, weights=off, minlength=table.groups), table.sums(table.positive))
