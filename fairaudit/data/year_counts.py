"""Ages in years of a table on disk: sums of their errors by cell."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairaudit.data.face_cells import CELL, FaceCells

if TYPE_CHECKING:
    from fairaudit.data.shard_database import Kind

OLDEST = 150.0


class YearCounts:
    """Labelled and predicted ages of one task's faces; see `metrics.counted.YearStore`."""

    def __init__(self, cells: FaceCells, columns: tuple[str, str]) -> None:
        """columns: those of the files that hold the labelled and the predicted age. Raises DataError for text that is
        no number.
        """
        self.cells, self.cell, self._faces = cells.cells, cells.cell, cells
        source = cells.source
        self._sums: Mapping[str, np.ndarray] | None = None
        self._by_age: Sequence[np.ndarray] | None = None
        for column in columns:
            source.check_numbers(column)

        def each(kind: "Kind") -> str:
            ages = [source.finite(column, kind) for column in columns]
            return ", ".join(f"{age} AS {name}" for age, name in zip(ages, ("t", "p"), strict=True))

        self._view = f"years{cells.name}"
        cells.view(f"{self._view}_raw", each)
        possible = f"t BETWEEN 0 AND {OLDEST!r} AND p BETWEEN 0 AND {OLDEST!r}"
        told = f"SELECT {CELL} AS cell, t, p - t AS e, p FROM {self._view}_raw WHERE {possible}"
        source.ask(f"CREATE TEMP VIEW {self._view} AS {told}")

    def sums(self, near: float, challenge: float, challenged: tuple[float, float]) -> Mapping[str, np.ndarray]:
        """Return by cell (cells,) the number of faces, sums of errors, and counts; see `metrics.counted.YearStore`."""
        if self._sums is not None:
            return self._sums
        within = f"t >= {challenged[0]} AND t < {challenged[1]}"
        columns = {
            "faces": "count(*)",
            "error": "fsum(e)",
            "absolute": "fsum(abs(e))",
            "square": "fsum(e * e)",
            "fourth": "fsum(e * e * e * e)",
            "near": f"count(*) FILTER (abs(e) <= {near})",
            "challenged": f"count(*) FILTER ({within})",
            "passed": f"count(*) FILTER ({within} AND p >= {challenge})",
        }
        told = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
        found = self._faces.source.ask(f"SELECT cell, {told} FROM {self._view} GROUP BY cell")
        self._sums = {name: self._faces.by_cell(found, name) for name in columns}
        return self._sums

    def by_age(self, first: int, last: int) -> Sequence[np.ndarray]:
        """Return faces, Σ |error| and Σ error² by cell and labelled age in whole years first…last: (cells, ages)."""
        if self._by_age is not None:
            return self._by_age
        ages = last - first + 1
        found = self._faces.source.ask(
            f"SELECT cell, CAST(floor(t) AS BIGINT) - {first} AS age, count(*) AS n, fsum(abs(e)) AS s, "
            f"fsum(e * e) AS ss FROM {self._view} WHERE t >= {first} AND t < {last + 1} GROUP BY cell, age"
        )
        out = np.zeros((3, self.cells, ages))
        cell, age, *columns = (column.to_numpy() for column in found.columns)
        for part, column in zip(out, columns, strict=True):
            part[cell, age] = column
        self._by_age = list(out)
        return self._by_age
