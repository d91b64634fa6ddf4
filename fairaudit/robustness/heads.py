"""One head's predictions of the same faces, as they are and changed, as codes that tables and tests count."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.audit import everyone
from fairaudit.axes import TaskRows, sample_of, task_rows, with_axis_columns
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError
from fairaudit.metrics.paired import PairedSample
from fairaudit.metrics.sample import Sample
from fairaudit.subgroups import OVERALL, UNKNOWN

CLEAN = "clean"  # the name of unchanged pictures


@dataclass(kw_only=True)
class Head:
    """A head's labelled faces that it answers unchanged (`rows`), and what it answers when they are changed.

    columns: change → prediction or outcome code of each face of `rows`. A face that gets no answer once it is changed
    counts as wrong.
    """

    rows: TaskRows
    frame: pd.DataFrame
    columns: dict[Hashable, np.ndarray]

    @classmethod
    def of(cls, clean: Predictions, task: str, axes: list[str]) -> "Head":
        """Return the head on unchanged faces. Raises DataError where no face is labelled and answered."""
        rows = task_rows(clean, task)
        answered = rows.column < len(rows.classes)
        if not rows.labelled or not answered.any():
            raise DataError(f"{task}: no face is labelled and answered, so nothing can fall")
        kept = replace(rows, position=rows.position[answered], row=rows.row[answered], column=rows.column[answered])
        return cls(rows=kept, frame=with_axis_columns(clean, axes), columns={})

    def add(self, change: Hashable, table: Predictions) -> None:
        """Take in the answers to the changed faces. Raises DataError where the table is of other faces."""
        if not table.frame["image"].equals(self.frame["image"]):
            raise DataError(f"the predictions of {change} are of other faces than the unchanged ones; start anew")
        rows = task_rows(table, self.rows.task)
        codes = np.full(len(self.frame), -1, dtype=np.int64)
        codes[rows.position] = rows.column
        found = codes[self.rows.position]
        if (found < 0).any():
            raise DataError(f"the predictions of {change} lack faces that the unchanged ones have; start anew")
        self.columns[change] = found

    def right(self, change: Hashable = None) -> np.ndarray:
        """Return which faces are answered rightly, float 0 or 1; unchanged without a `change`."""
        column = self.rows.column if change is None else self.columns[change]
        return (column == self.rows.row).astype(float)

    def on(self, by: str) -> "HeadOnAxis":
        """Return the head on an axis, `overall` included."""
        groups = everyone(len(self.frame)) if by == OVERALL else subgroups.assign(self.frame, by)
        why = None
        if by != OVERALL:
            why = subgroups.degenerate(groups, self.frame[f"{self.rows.task}_true"], by, self.rows.task)
        return HeadOnAxis(head=self, by=by, degenerate=why, before=sample_of(self.rows, self.frame, groups))


@dataclass(frozen=True, kw_only=True)
class HeadOnAxis:
    """A head's unchanged answers on one axis (`before`), and why the subgroup determines the label, or None."""

    head: Head
    by: str
    degenerate: str | None
    before: Sample

    @property
    def metric(self) -> str:
        """What the share of right answers within a subgroup is called."""
        return "accuracy" if self.degenerate is None else "recall_by_labelled_class"

    @property
    def known(self) -> np.ndarray:
        """Which subgroups have a name, bool (G,)."""
        return np.array([name != UNKNOWN for name in self.before.groups], dtype=bool)

    @property
    def sizes(self) -> np.ndarray:
        """Faces of each subgroup, int (G,)."""
        return np.bincount(self.before.group, minlength=len(self.before.groups))

    def assessed(self, least: int) -> np.ndarray:
        """Return the numbers of the subgroups that are compared: named, and of at least `least` faces."""
        return np.flatnonzero(self.known & (self.sizes >= least))

    def paired(self, change: Hashable) -> PairedSample:
        """Return the same faces before and after a change."""
        return PairedSample(self.before, replace(self.before, column=self.head.columns[change]))

    def units(self, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the losses (n, …) of independent units, with each one's subgroup and stratum.

        A unit is a face, or a person's pictures within a subgroup (their mean loss; the stratum is the most frequent
        label). Strata are labels, except where the subgroup determines them: there, all is one stratum.
        """
        label = self.before.row if self.degenerate is None else np.zeros_like(self.before.row)
        if self.before.subject is None:
            return losses, self.before.group, label
        number, owner = self.before.clusters
        flat = losses.reshape(len(losses), -1)
        sums = np.stack([np.bincount(number, weights=column, minlength=len(owner)) for column in flat.T], axis=1)
        sizes = np.bincount(number, minlength=len(owner))
        votes = np.zeros((len(owner), int(label.max(initial=0)) + 1), dtype=np.int64)
        np.add.at(votes, (number, label), 1)
        return (sums / sizes[:, None]).reshape(len(owner), *losses.shape[1:]), owner, votes.argmax(1)


def by_change(heads: Mapping[str, Head], change: Hashable, table: Predictions) -> None:
    """Take the answers of all heads to one change from one table, so that one table at a time is in memory."""
    for head in heads.values():
        head.add(change, table)
