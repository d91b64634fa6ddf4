"""The pools of faces that metrics beyond counts are estimated for: each subgroup, and everyone else of it."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from fairaudit.metrics.means import Means, means
from fairaudit.metrics.measures import LEAST_PROBABILITY, MOST_CERTAIN, FaceScores, Ranked
from fairaudit.metrics.sample import Sample
from fairaudit.metrics.scores import SUMS, ScoreTable, auc_error_bound, score_table


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

    @property
    def width(self) -> int:
        """Number of classes."""
        return self.scores.values.shape[1]

    def class_table(self, c: int) -> ScoreTable:
        """Return the table of the scores of class `c`: faces labelled so, and others."""
        return self.table(self.scores.classes[c], self.scores.label == c)

    def top_table(self) -> ScoreTable:
        """Return the table of the predicted class's probability: right and wrong predictions."""
        return self.table(self.scores.top, self.scores.right)

    def clipped(self) -> np.ndarray:
        """Which pools hold a confidence so near to 0 or 1 that its logit is cut, bool (Q, 1)."""
        confidence = self.scores.confidence
        with np.errstate(invalid="ignore"):
            near = (confidence < MOST_CERTAIN) | (confidence > 1 - MOST_CERTAIN)
        groups = np.bincount(self.sample.group, weights=near, minlength=len(self.known))
        return (self.matrix @ groups > 0)[:, None]

    def losses(self, name: str) -> tuple[Means, np.ndarray]:
        """Return the means of a loss of each face, and how many faces give their label the probability 0, (Q,)."""
        faces = self.scores
        keep, labelled = faces.usable[:, None].astype(float), np.nan_to_num(faces.labelled)
        none = np.bincount(self.sample.group, weights=faces.usable & (labelled <= 0), minlength=len(self.known))
        found = means(self.sample, self.matrix, np.where(faces.usable, self.each_loss(name), 0.0)[:, None], keep)
        return found, self.matrix @ none

    def each_loss(self, name: str) -> np.ndarray:
        """Return a loss of each face, (N,); what stands where a face has no scores means nothing.

        log_loss; brier: (p − y)² for two classes, as is usual there (0…1), else Σ over classes (0…2), as in
        scikit-learn; mean_labelled_probability: the probability of the class that a face is labelled as.
        """
        faces = self.scores
        labelled = np.nan_to_num(faces.labelled)
        if name == "log_loss":
            return np.asarray(-np.log(np.maximum(labelled, LEAST_PROBABILITY)))
        if name == "brier":
            truth = np.eye(self.width)[faces.label]
            return np.asarray(((faces.values - truth) ** 2).sum(1) / (2 if self.width == 2 else 1))
        return labelled

    @property
    def binned(self) -> bool:
        """Whether scores were put into bins; in memory they never are."""
        return False

    def rounding(self, table: ScoreTable) -> np.ndarray:
        """Return how far the AUC of each subgroup can be off because scores were put into bins, (G,)."""
        return np.nan_to_num(auc_error_bound(table)) if self.binned else np.zeros(len(self.known))

    def effective(self, counts: np.ndarray, faces: Callable[[], np.ndarray]) -> np.ndarray:
        """Return how many independent faces of equal weight the selections that `faces` gives are worth in each pool.

        counts: the number of faces, (Q, P); faces: called for a bool (N, P) where weights or subjects matter.
        """
        if self.sample.weight is None and self.sample.subject is None:
            return counts
        selected = faces().astype(float)
        found = means(self.sample, self.matrix, np.zeros_like(selected), selected)
        return found.effective if self.sample.subject is None else np.minimum(found.effective, found.units)
