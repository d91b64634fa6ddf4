"""Two tables cell by cell: what differs, in which row and column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

TOLERANCE = 1e-9
# columns that name a row, in every table that has them
KEYS = (
    *("task", "by", "subgroup", "other", "reference", "metric", "class", "true", "predicted", "model", "region"),
    *("kind", "policy", "family", "criterion", "score", "bin", "covariates", "status", "statistic", "method"),
    *("first", "second"),
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it should be: in which file or table, which row and column, stored and recomputed."""

    table: str
    row: str
    column: str
    stored: str
    recomputed: str

    def sentence(self) -> str:
        """Return the difference in words."""
        where = ", ".join(part for part in (self.table, self.row, self.column) if part)
        return f"{where}: stored {self.stored}, recomputed {self.recomputed}"


def compare_tables(name: str, stored: pd.DataFrame, recomputed: pd.DataFrame) -> tuple[list[Difference], int]:
    """Return each cell that differs by more than 1e-9 (relative above 1), and how many differ by less.

    Rows are matched by the columns that name them (KEYS) where these are unique, else by their place.
    """
    keys = [key for key in KEYS if key in stored and key in recomputed]
    first, second = (_numbered(frame, keys) for frame in (stored, recomputed))
    wrong: list[Difference] = []
    for column in [c for c in recomputed if c not in stored] + [c for c in stored if c not in recomputed]:
        there = ("absent", "present") if column in recomputed else ("present", "absent")
        wrong.append(Difference(table=name, row="", column=str(column), stored=there[0], recomputed=there[1]))
    for row in first.index.difference(second.index, sort=False):
        wrong.append(Difference(table=name, row=_words(row), column="", stored="a row", recomputed="none"))
    for row in second.index.difference(first.index, sort=False):
        wrong.append(Difference(table=name, row=_words(row), column="", stored="none", recomputed="a row"))
    common = first.index.intersection(second.index, sort=False)
    first, second = first.loc[common], second.loc[common]
    close = 0
    for column in [c for c in stored if c in recomputed and c not in keys]:
        a, b = first[column], second[column]
        differ, near = _differing(a, b)
        close += int(near.sum())
        for i in np.flatnonzero(differ):
            values = (_shown(a.iloc[i]), _shown(b.iloc[i]))
            row = _words(common[int(i)])
            wrong.append(Difference(table=name, row=row, column=str(column), stored=values[0], recomputed=values[1]))
    return wrong, close


def _differing(stored: pd.Series, recomputed: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return where two columns differ, and where only in the last digits."""
    numeric = [pd.api.types.is_numeric_dtype(c) and not pd.api.types.is_bool_dtype(c) for c in (stored, recomputed)]
    if not all(numeric):
        texts = (stored.astype(str).to_numpy(dtype=object), recomputed.astype(str).to_numpy(dtype=object))
        differ = texts[0] != texts[1]
        return differ, np.zeros(len(differ), dtype=bool)
    a, b = (part.to_numpy(dtype=float) for part in (stored, recomputed))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        near = ~same & (np.abs(a - b) <= TOLERANCE * np.maximum(1.0, np.abs(b)))
    return ~same & ~near, near


def _numbered(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Index a table by its row names, and by a running number where a name occurs more than once."""
    names = frame[list(keys)].astype(str) if keys else pd.DataFrame(index=frame.index)
    place = names.groupby(list(keys)).cumcount() if keys else pd.Series(range(len(frame)), index=frame.index)
    index = pd.MultiIndex.from_arrays([*(names[key] for key in keys), place])
    return frame.set_axis(index, axis=0)


def _words(row: Any) -> str:
    """Return the name of a row: its filled key columns, and its number among rows of the same name above the first."""
    *names, place = row
    return " · ".join([*(str(name) for name in names if name), *([f"no. {place + 1}"] if place else [])])


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "empty" if np.isnan(value) else repr(float(value))
    return repr(value.item() if isinstance(value, np.generic) else value)
