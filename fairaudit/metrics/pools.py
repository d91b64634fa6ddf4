"""The pools of faces that metrics beyond counts are estimated for: each subgroup, and everyone else of it."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from fairaudit.metrics.means import means
from fairaudit.metrics.measures import FaceScores, Ranked
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.scores import SUMS, ScoreTable, score_table


class Pools:
    """The G subgroups of a sample, then everyone else of each `known` one: as a matrix, and as positions of faces."""

    def __init__(self, sample: Sample, known: np.ndarray) -> None:
        self.sample, self.known = sample, known
        own = np.eye(len(known))
        self.matrix = np.concatenate([own, (known.astype(float) - own)[known]])
        self.weight = np.ones(len(sample.group)) if sample.weight is None else sample.weight
        order = np.argsort(sample.group, kind="stable")
        cuts = np.searchsorted(sample.group[order], np.arange(len(known) + 1))
        self.members = [order[a:b] for a, b in pairwise(cuts)]
        self.everyone = known[sample.group]

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def scores(self) -> FaceScores:
        """The scores of the sample's faces."""
        measures = self.sample.measures
        assert measures is not None and measures.scores is not None  # asked for only where they are known
        return measures.scores

    def tables(self, table: ScoreTable) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield (score, the columns SUMS of the table) of every pool over its own distinct scores, ascending; (D,)."""
        columns = [getattr(table, name) for name in SUMS]
        different = {id(column): column for column in columns}
        cuts = np.searchsorted(table.group, np.arange(table.groups + 1))
        size, keep = len(table.score), self.known[table.group].astype(float)
        # without any face bincount returns integers
        total = {
            i: np.bincount(table.place, weights=column * keep, minlength=size).astype(float)
            for i, column in different.items()
        }
        for first, last in pairwise(cuts):
            here = slice(first, last)
            yield table.score[table.place[here]], [column[here] for column in columns]
        for g in np.flatnonzero(self.known):
            here = slice(cuts[g], cuts[g + 1])
            rest = {}
            for i, column in different.items():
                rest[i] = total[i].copy()
                rest[i][table.place[here]] -= column[here]
            faces = rest[id(columns[-2])] + rest[id(columns[-1])]
            some = faces > 0.5  # by numbers of faces: sums of weights leave rounding dust
            kept = {i: np.maximum(column[some], 0) for i, column in rest.items()}
            yield table.score[some], [kept[id(column)] for column in columns]

    def faces(self) -> Iterator[np.ndarray]:
        """Yield the positions of the faces of every pool."""
        yield from self.members
        for g in np.flatnonzero(self.known):
            yield np.flatnonzero(self.everyone & (self.sample.group != g))

    def table(self, ranks: Ranked, positive: np.ndarray) -> ScoreTable:
        """Return the score table of all subgroups."""
        return score_table(ranks, self.sample.group, len(self.known), positive, self.sample.weight)

    def effective(self, counts: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Return how many independent faces of equal weight the (N, P) selections `faces` are worth in each pool."""
        if self.sample.weight is None and self.sample.subject is None:
            return counts
        selected = faces.astype(float)
        found = means(self.sample, self.matrix, np.zeros_like(selected), selected)
        return found.effective if self.sample.subject is None else np.minimum(found.effective, found.units)
