"""The faces of one task on one axis as codes, and the sums that every estimate is made of."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairaudit.metrics.cube import confusion_cube
from fairaudit.metrics.measures import Measures
from fairaudit.metrics.rates import Table


@dataclass(frozen=True, kw_only=True)
class Sample:
    """N rows of faces: `group` in 0…G−1, `row` (label) and `column` (prediction or outcome) codes into `table`'s cells.

    weight: positive floats, or None where every face counts 1. subject: integer codes of persons, or None where faces
    are taken as independent. measures: what the cells do not hold (probabilities, ages in years), of the same N faces.
    times: how many equal faces each row stands for, positive integers; None: one. Equal faces that are listed once are
    told apart by nothing, so only a sample without weights, subjects and measures may have it. interval: which of
    `intervals.PROPORTION_LIMITS` a proportion gets.
    """

    table: Table
    groups: tuple[str, ...]
    group: np.ndarray
    row: np.ndarray
    column: np.ndarray
    weight: np.ndarray | None = None
    subject: np.ndarray | None = None
    measures: Measures | None = None
    times: np.ndarray | None = None
    interval: str = "wilson"

    def __post_init__(self) -> None:
        told = self.measures
        single = (
            self.weight is not None or self.subject is not None or (told and (told.scores or told.years is not None))
        )
        if self.times is not None and single:
            raise ValueError(
                "faces that are listed once for several have no weights, subjects or measures of their own"
            )

    @cached_property
    def counts(self) -> np.ndarray:
        """Faces in each cell: int64 (G, labels, predictions and outcomes)."""
        counts = confusion_cube(self.group, self.row, self.column, self._shape, self.times)
        return np.rint(counts).astype(np.int64)  # sums of integers are exact in floats up to 2**53 faces

    @cached_property
    def sums(self) -> np.ndarray:
        """Σw in each cell (the counts where there are no weights)."""
        if self.weight is None:
            return self.counts.astype(float)
        return confusion_cube(self.group, self.row, self.column, self._shape, self.weight)

    @cached_property
    def squares(self) -> np.ndarray:
        """Σw² in each cell."""
        if self.weight is None:
            return self.counts.astype(float)
        return confusion_cube(self.group, self.row, self.column, self._shape, self.weight**2)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (len(self.groups), *self.table.shape)

    @cached_property
    def cell(self) -> np.ndarray:
        """The packed cell of each face: label · columns + prediction."""
        return self.row.astype(np.int64) * self.table.shape[1] + self.column

    @cached_property
    def clusters(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of each face's subject within its subgroup, and the subgroup of each such number."""
        if self.subject is None:
            raise ValueError("the sample has no subjects")
        packed = self.group.astype(np.int64) * (int(self.subject.max(initial=0)) + 1) + self.subject
        _, first, number = np.unique(packed, return_index=True, return_inverse=True)
        return number, self.group[first]

    def total(self, masks: np.ndarray, sums: np.ndarray | None = None) -> np.ndarray:
        """Sum over the cells of each mask (P, labels, columns): shape (G, P)."""
        cells = (self.sums if sums is None else sums).reshape(len(self.groups), -1)
        return cells @ masks.reshape(len(masks), -1).T

    def moments(self, top: np.ndarray, bottom: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Σ A², Σ AB, Σ B² and the number of subjects with B > 0, over subjects within subgroups: each (G, P).

        A and B are a subject's weighted faces in the numerator's and the denominator's cells: what the linearized
        variance of a ratio of cluster totals needs (Cochran, Sampling Techniques, 1977, §11).
        """
        number, owner = self.clusters
        groups, weight = len(self.groups), np.ones(len(self.group)) if self.weight is None else self.weight
        out = np.zeros((4, groups, len(top)))
        for p, (above, below) in enumerate(zip(top.reshape(len(top), -1), bottom.reshape(len(top), -1), strict=True)):
            a = np.bincount(number, weights=above[self.cell] * weight, minlength=len(owner))
            b = np.bincount(number, weights=below[self.cell] * weight, minlength=len(owner))
            for i, values in enumerate((a * a, a * b, b * b, (b > 0).astype(float))):
                out[i, :, p] = np.bincount(owner, weights=values, minlength=groups)
        return out[0], out[1], out[2], out[3]

    def units(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct units that the bootstrap draws from the subgroups `members` (0/1 over G), and how often.

        A unit is a row of cell sums (U, cells): one face, or one subject whole. Equal units are listed once, so that
        drawing them is a multinomial; without weights and subjects it is the multinomial of the cells themselves.
        """
        width = self.table.shape[0] * self.table.shape[1]
        if self.weight is None and self.subject is None:
            counts = self.counts[members > 0].sum(0).reshape(-1)
            used = np.flatnonzero(counts)
            return np.eye(width)[used], counts[used]
        keep = members[self.group] > 0
        weight = np.ones(keep.sum()) if self.weight is None else self.weight[keep]
        if self.subject is None:
            pairs, times = np.unique(np.column_stack([self.cell[keep], weight]), axis=0, return_counts=True)
            rows = np.zeros((len(pairs), width))
            rows[np.arange(len(pairs)), pairs[:, 0].astype(int)] = pairs[:, 1]
            return rows, times
        people, number = np.unique(self.subject[keep], return_inverse=True)
        packed = number * width + self.cell[keep]
        sums = np.bincount(packed, weights=weight, minlength=len(people) * width)
        return np.unique(sums.reshape(len(people), width), axis=0, return_counts=True)
