"""Probabilities of a table on disk, counted by duckdb: distinct scores (or bins) and sums of losses by cell."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairaudit.data.face_cells import CELL, LABEL, PREDICTED, FaceCells

if TYPE_CHECKING:
    from fairaudit.data.shard_database import Kind

TOLERANCE = 1e-3  # how far from 1 the probabilities of a face may add up
MOST_EXACT = 10_000_000  # faces up to which scores are kept apart; of more, they are put into bins
BINS = 2**16
FIRST = 20  # images named of the faces whose probabilities cannot be used


class ScoreCounts:
    """One task's scores; see `metrics.counted.ScoreStore`. `cell`: the cell of each row of the task's counted table."""

    def __init__(self, cells: FaceCells, probabilities: Sequence[str | None]) -> None:
        """probabilities: the column of each class."""
        source = cells.source
        self.classes, self.cells, self.cell, self._faces = len(probabilities), cells.cells, cells.cell, cells
        self.bins = BINS if len(source) > MOST_EXACT else None
        self._source, self._view, self._tables = source, f"scored{cells.name}", f"scores{cells.name}"
        self._made: set[str] = set()

        def each(kind: "Kind") -> str:
            scores = ", ".join(f"{p} AS s{c}" for c, p in enumerate(self._scores(probabilities, kind)))
            return f"{scores}, {source.image(kind)} AS image, {kind.place} AS place"

        cells.view(self._view, each)
        names = [f"s{c}" for c in range(self.classes)]
        self._missing = f"({' OR '.join(f'{name} IS NULL' for name in names)})"
        self._unequal = f"(abs({' + '.join(names)} - 1) > {TOLERANCE})"
        self._usable = f"NOT {self._missing} AND NOT {self._unequal}"
        self._of = f"list_extract([{', '.join(names)}], %s + 1)"

    def counts(self, which: int | None, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `metrics.counted.ScoreStore`."""
        table = f"{self._tables}_{'top' if which is None else which}"
        if table not in self._made:
            score = self._of % PREDICTED if which is None else f"s{which}"
            side = f"{LABEL} = {PREDICTED if which is None else which}"
            place = (
                score if self.bins is None else f"CAST(least(floor({score} * {self.bins}), {self.bins - 1}) AS INTEGER)"
            )
            self._source.ask(
                f"CREATE TEMP TABLE {table} AS SELECT {CELL} AS cell, {place} AS s, count(*) FILTER ({side}) AS up, "
                f"count(*) FILTER (NOT {side}) AS down FROM {self._view} WHERE {self._usable} GROUP BY cell, s"
            )
            self._made.add(table)
        self._source.keep("cell_groups", pd.DataFrame({"cell": np.arange(self.cells), "g": group}))
        found = self._source.ask(
            f"SELECT g, s, CAST(sum(up) AS BIGINT) AS up, CAST(sum(down) AS BIGINT) AS down "
            f"FROM {table} JOIN cell_groups USING (cell) WHERE g >= 0 GROUP BY g, s"
        )
        g, score, up, down = (column.to_numpy() for column in found.columns)
        return g, score if self.bins is None else (score + 0.5) / self.bins, up, down

    def sums(self, least_probability: float, most_certain: float) -> Mapping[str, np.ndarray]:
        """See `metrics.counted.ScoreStore`."""
        if self._sums is None:
            self._sums = self._summed(least_probability, most_certain)
        return self._sums

    _sums: Mapping[str, np.ndarray] | None = None

    def _summed(self, least_probability: float, most_certain: float) -> Mapping[str, np.ndarray]:
        labelled, top = self._of % LABEL, self._of % PREDICTED
        apart = [f"(s{c} - CASE WHEN {LABEL} = {c} THEN 1 ELSE 0 END)" for c in range(self.classes)]
        losses = {
            "log_loss": f"-ln(greatest({labelled}, {least_probability!r}))",
            "brier": f"({' + '.join(f'{a} * {a}' for a in apart)}) / {2 if self.classes == 2 else 1}",
            "mean_labelled_probability": labelled,
        }
        each = ", ".join(f"{loss} AS x{i}" for i, loss in enumerate(losses.values()))
        rows = f"SELECT {CELL} AS cell, {each}, {labelled} AS own, {top} AS top FROM {self._view} WHERE {self._usable}"
        # fsum is Kahan's: the order in which threads add then moves no digit that is printed
        totals = ", ".join(f"fsum(x{i}) AS a{i}, fsum(x{i} * x{i}) AS b{i}" for i in range(len(losses)))
        near = f"top < {most_certain!r} OR top > {1 - most_certain!r}"
        found = self._source.ask(
            f"SELECT cell, count(*) AS faces, {totals}, count(*) FILTER (own <= 0) AS zero, "
            f"count(*) FILTER ({near}) AS near FROM ({rows}) GROUP BY cell"
        )
        names = {"faces": "faces", "zero": "zero", "near": "near"}
        for i, name in enumerate(losses):
            names |= {name: f"a{i}", f"{name}²": f"b{i}"}
        return {name: self._faces.by_cell(found, column) for name, column in names.items()}

    @cached_property
    def faults(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """Faces whose probabilities are "missing" or "unequal": how many by cell (cells,), and the first images."""
        found = {}
        for name, which in (("missing", self._missing), ("unequal", f"NOT {self._missing} AND {self._unequal}")):
            told = self._source.ask(
                f"SELECT {CELL} AS cell, count(*) AS faces FROM {self._view} WHERE {which} GROUP BY cell"
            )
            if told.num_rows:
                first = f"SELECT image, place FROM {self._view} WHERE {which} ORDER BY place LIMIT {FIRST}"
                images = self._source.named(self._source.ask(first).to_pandas())
                found[name] = (self._faces.by_cell(told, "faces").astype(np.int64), images)
        return found

    def _scores(self, probabilities: Sequence[str | None], kind: "Kind") -> list[str]:
        """Return the SQL of each class's probability: of two classes one column is enough; otherwise none means 0."""
        told = [None if name is None else self._source.number(name, kind) for name in probabilities]
        if len(told) == 2 and sum(name is None for name in told) == 1:
            other = next(name for name in told if name is not None)
            return [f"(1 - {other})" if name is None else name for name in told]
        return ["CAST(0 AS DOUBLE)" if name is None else name for name in told]
