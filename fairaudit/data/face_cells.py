"""Faces of a table on disk by cell: a combination of all attributes, so that every subgroup is a union of cells."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from fairaudit.data.shard_database import Kind
    from fairaudit.data.shards import ShardSource

CELL, LABEL, PREDICTED = "fairaudit_cell", "fairaudit_y", "fairaudit_p"


class FaceCells:
    """One task's faces that have a label and a prediction. `cell`: the cell of each row of the task's counted table;
    `cells`: how many there are; `name`: told apart from those of other tasks and axes.
    """

    def __init__(
        self,
        source: "ShardSource",
        name: str,
        columns: Sequence[str],
        cell: np.ndarray,
        code: Callable[[pd.DataFrame], pd.DataFrame],
    ) -> None:
        """Lay the cells on disk. columns: those that tell cells, labels and predictions; code: a frame of these
        columns' codes → `cell`, `label`, `predicted`.
        """
        self.source, self.name = source, name
        self.cell, self.cells = cell, int(cell.max(initial=-1)) + 1
        self._joined: list[tuple[Kind, str]] = []
        for k, kind in enumerate(source.kinds):
            keys = [source.key(column, kind) for column in columns]
            table = f"cells{name}_{k}"
            named = ", ".join(f"{key} AS fairaudit_k{i}" for i, key in enumerate(keys))
            by = ", ".join(f"fairaudit_k{i}" for i in range(len(keys)))
            grouped = f"SELECT {named} FROM {kind.table} GROUP BY {by}"
            source.ask(f"CREATE TEMP TABLE {table}_raw AS SELECT *, row_number() OVER () AS id FROM ({grouped})")
            raw = source.ask(f"FROM {table}_raw ORDER BY id").to_pandas()
            codes = {column: source.code(column, k, raw[f"fairaudit_k{i}"]) for i, column in enumerate(columns)}
            source.keep(f"{table}_codes", code(pd.DataFrame(codes)).assign(id=raw["id"]))
            source.ask(f"CREATE TEMP TABLE {table} AS FROM {table}_raw JOIN {table}_codes USING (id)")
            same = " AND ".join(f"{key} IS NOT DISTINCT FROM fairaudit_k{i}" for i, key in enumerate(keys))
            self._joined.append((kind, f"{kind.table} JOIN {table} ON {same} WHERE label >= 0 AND predicted >= 0"))

    def view(self, name: str, each: Callable[["Kind"], str]) -> None:
        """Make a view of the faces: CELL, LABEL, PREDICTED, and the columns whose SQL `each` gives by kind of file."""
        parts = [
            f"SELECT cell AS {CELL}, label AS {LABEL}, predicted AS {PREDICTED}, {each(kind)} FROM {joined}"
            for kind, joined in self._joined
        ]
        self.source.ask(f"CREATE TEMP VIEW {name} AS {' UNION ALL '.join(parts)}")

    def by_cell(self, found: pa.Table, column: str) -> np.ndarray:
        """Return a column of an answer that has a row a `cell`: (cells,)."""
        out = np.zeros(self.cells)
        out[found.column("cell").to_numpy()] = found.column(column).to_numpy()
        return out
