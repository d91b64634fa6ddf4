"""Columns of a sharded table under our own names: as SQL, as codes of their distinct values, and as bins."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from fairaudit.data.bins import quantile_bins
from fairaudit.data.predictions_check import examples, no_numbers
from fairaudit.data.shard_database import Kind, ShardDatabase
from fairaudit.data.shard_files import orders
from fairaudit.data.sources import Where
from fairaudit.errors import DataError
from fairaudit.progress import Progress


class ShardColumns(ShardDatabase):
    """A database of shards whose columns can be renamed, joined, put into bins, and told as SQL."""

    def __init__(self, where: Path, memory: str, progress: Progress) -> None:
        super().__init__(where, memory, progress)
        self.columns = list(self.files[0].columns)
        self.orders = orders(self.files)
        self._names = {name: [name] for name in self.columns}  # our name → the columns of the files that it sums
        self._years: dict[str, float] = {}  # columns of ages that are told by whole years → the oldest age
        self._values: dict[str, list[pd.Series]] = {}  # the distinct values of a column in each kind of file
        self._in_bins: dict[str, tuple[str, pd.IntervalIndex]] = {}  # name of a column of bins → its numbers, the bins
        self._measured: dict[str, bool] = {}

    def rename(self, names: Mapping[str, str]) -> None:
        self._names = {names.get(name, name): theirs for name, theirs in self._names.items()}
        self.columns = list(self._names)
        self.orders = {names.get(name, name): order for name, order in self.orders.items()}

    def join(self, names: Mapping[str, str]) -> None:
        joined: dict[str, list[str]] = {}
        for name, theirs in self._names.items():
            joined.setdefault(names.get(name, name), []).extend(theirs)
        self._names, self.columns = joined, list(joined)

    def key(self, name: str, kind: Kind) -> str:
        """Return the SQL of a column's value, by which rows are told apart; missing is NULL."""
        if name in self._in_bins:
            theirs, bins = self._in_bins[name]
            value, ends = self.finite(theirs, kind), [f"CAST('{float(end)!r}' AS DOUBLE)" for end in bins.right[:-1]]
            steps = "".join(f" WHEN {value} <= {end} THEN {i}" for i, end in enumerate(ends))
            return f"CASE WHEN {value} IS NULL THEN NULL{steps} ELSE {len(ends)} END"
        column = kind.quoted(self._names[name][0])
        number = column
        if kind.is_float(self._names[name][0]):
            column = number = f"CASE WHEN isnan({column}) THEN NULL ELSE {column} END"
        if name not in self._years:
            return column
        top = repr(self._years[name])
        if kind.is_text(self._names[name][0]):
            number = f"TRY_CAST({column} AS DOUBLE)"
            whole = f"CAST(floor({number}) AS VARCHAR)"
        else:
            whole = f"floor({number})"
        # bins begin at whole years, so that whole years are all they need; the oldest age stays as it is
        return f"CASE WHEN {number} IS NULL OR {number} < 0 OR {number} = {top} THEN {column} ELSE {whole} END"

    def number(self, name: str, kind: Kind) -> str:
        """Return the SQL of a column as a float; several of one name are added up."""
        parts = []
        for column in self._names[name]:
            cell = f"nullif({kind.quoted(column)}, '')" if kind.is_text(column) else kind.quoted(column)
            value = f"TRY_CAST({cell} AS DOUBLE)" if kind.is_text(column) else f"CAST({cell} AS DOUBLE)"
            parts.append(f"(CASE WHEN isnan({value}) THEN NULL ELSE {value} END)")
        total = " + ".join(parts)
        return total if len(parts) == 1 else f"(CASE WHEN {total} BETWEEN 1 AND 1.000001 THEN 1 ELSE {total} END)"

    def finite(self, name: str, kind: Kind) -> str:
        """Return the SQL of a column as a float, NULL where it is missing or infinite."""
        value = self.number(name, kind)
        return f"(CASE WHEN isfinite({value}) THEN {value} END)"

    def _text(self, name: str, kind: Kind) -> str:
        """Return the SQL of a column as text; whole floats are written as whole numbers."""
        column = kind.quoted(self._names[name][0])
        if kind.is_float(self._names[name][0]):
            whole, text = f"{column} = floor({column}) AND abs({column}) < 9e15", f"CAST({column} AS VARCHAR)"
            integer = f"CAST(CAST({column} AS BIGINT) AS VARCHAR)"
            return f"(CASE WHEN isnan({column}) THEN NULL WHEN {whole} THEN {integer} ELSE {text} END)"
        return column if kind.is_text(self._names[name][0]) else f"CAST({column} AS VARCHAR)"

    def image(self, kind: Kind) -> str:
        """Return the SQL of the image's name."""
        return self._text("image", kind) if "image" in self._names else "NULL"

    def named(self, rows: pd.DataFrame) -> list[str]:
        """Return the names of rows, given by `image` and `place`; without images the rows are numbered."""
        if "image" in self._names:
            return [str(image) for image in rows["image"]]
        return [f"row {self.row_number(place)}" for place in rows["place"]]

    def is_measured(self, name: str) -> bool:
        """Tell what `sources.measured` does: whether a column holds numbers, and nothing else."""
        if name not in self._measured:
            self._measured[name] = self._only_numbers(name)
        return self._measured[name]

    def _only_numbers(self, name: str) -> bool:
        some = False
        for kind in self.kinds:
            (column,) = self._names[name]
            if kind.is_text(column):
                number = "TRY_CAST(v AS DOUBLE)"
                cells = f"SELECT {kind.quoted(column)} AS v FROM {kind.table}"
                if self._some(cells, f"v <> '' AND ({number} IS NULL OR isnan({number}))")[0]:
                    return False
            elif not kind.is_number(column):
                return False
            some |= self.ask(f"SELECT count({self.number(name, kind)}) FROM {kind.table}").column(0)[0].as_py() > 0
        return some

    def check_numbers(self, name: str) -> None:
        """Raise DataError for text in a column that is no number."""
        for kind in self.kinds:
            for column in self._names[name]:
                if not kind.is_text(column):
                    continue
                cells = f"SELECT {kind.quoted(column)} AS v FROM {kind.table}"
                strange, some = self._some(cells, "v <> '' AND TRY_CAST(v AS DOUBLE) IS NULL")
                if strange:
                    raise DataError(f"{self.where}: {no_numbers(strange, name)} ({examples(some)})")

    def put_in_bins(self, name: str, theirs: str, where: Where, unless: Where) -> tuple[pd.IntervalIndex, np.ndarray]:
        """Make a column `name` of the quantile bins of the numbers in the column `theirs`.

        The bins are those of the rows meant by `where` and not by `unless`. Return them, and the bin of each distinct
        value of the new column (−1 at the end).
        """
        parts = [
            f"SELECT {self.finite(theirs, kind)} AS v FROM {kind.table} WHERE {self._condition(where, number)} "
            f"AND NOT coalesce({self._condition(unless, number, 'unless')}, false)"
            for number, kind in enumerate(self.kinds)
        ]
        counted = f"SELECT v, count(*) AS n FROM ({' UNION ALL '.join(parts)}) WHERE v IS NOT NULL GROUP BY v"
        self.ask(f"CREATE OR REPLACE TEMP TABLE measured AS {counted}")
        told = self.ask("SELECT count(*), CAST(coalesce(sum(n), 0) AS BIGINT) FROM measured")
        distinct, faces = (told.column(i)[0].as_py() for i in (0, 1))
        rows = self.portions("SELECT v + 0.0, n FROM measured ORDER BY v")
        bins = quantile_bins(((v, n) for v, n in rows), distinct, faces)
        self.ask("DROP TABLE measured")
        self._in_bins[name] = (theirs, bins)
        self._names[name] = [name]
        self._values[name] = [pd.Series(range(max(len(bins), 1)))] * len(self.kinds)
        codes = np.arange(max(len(bins), 1)) if len(bins) else np.array([-1])
        return bins, np.append(np.tile(codes, len(self.kinds)), -1)

    def holds_years(self, name: str, years: np.ndarray) -> bool:
        """Tell whether the numbers of a column are the `years` of its distinct values: no map made others of them."""
        if name in self._years:
            return True
        values = pd.concat(self._values[name], ignore_index=True)
        own = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        return bool((np.isnan(years[:-1]) | (own == years[:-1])).all())

    def _in_years(self, name: str) -> bool:
        """Tell whether a column holds numbers, so many that it must be years, and note the largest."""
        tops = []
        for kind in self.kinds:
            column = kind.quoted(self._names[name][0])
            if kind.is_text(self._names[name][0]):
                column = f"TRY_CAST({column} AS DOUBLE)"
            found = self.ask(f"SELECT max(v) FROM (SELECT {column} AS v FROM {kind.table}) WHERE isfinite(v)")
            tops.append(found.column(0)[0].as_py())
        known = [float(top) for top in tops if top is not None]
        if known:
            self._years[name] = max(known)
        return bool(known)

    def _distinct(self, name: str, most: int) -> tuple[list[pd.DataFrame], int] | None:
        """Return the distinct values with their counts for each kind of file, and how many rows have none."""
        parts, missing, found = [], 0, 0
        for kind in self.kinds:
            query = f"SELECT {self.key(name, kind)} AS v, count(*) AS n FROM {kind.table} GROUP BY v LIMIT {most + 2}"
            frame = self.ask(query).to_pandas()
            found += len(frame)
            if found > most:
                return None
            gone = frame["v"].isna()
            missing += int(frame["n"][gone].sum())
            parts.append(frame[~gone].sort_values("v", kind="stable").reset_index(drop=True))
        return parts, missing

    def _condition(self, where: Where, number: int, mark: str = "values") -> str:
        """Return the SQL for the rows meant in one kind of file; mark: apart from other conditions of one query."""
        kind, said = self.kinds[number], ["true"]
        for i, (name, mask) in enumerate(where.items()):
            if mask.all():
                continue
            values, earlier = self._values[name][number], sum(len(part) for part in self._values[name][:number])
            chosen = values[mask[earlier : earlier + len(values)]]
            key = self.key(name, kind)
            parts = [f"{key} IS NULL"] if mask[-1] else []
            if len(chosen):
                self._connection.register(f"chosen{i}", pa.table({"v": pa.Array.from_pandas(chosen)}))
                self.ask(f"CREATE OR REPLACE TEMP TABLE {mark}{number}_{i} AS FROM chosen{i}")
                parts.append(f"{key} IN (FROM {mark}{number}_{i})")
            said.append(f"({' OR '.join(parts) or 'false'})")
        return " AND ".join(said)

    def code(self, name: str, kind: int, values: pd.Series) -> np.ndarray:
        """Return the position of each value among the column's distinct values, −1 for none."""
        earlier = sum(len(part) for part in self._values[name][:kind])
        found = pd.Index(self._values[name][kind]).get_indexer(pd.Index(values))
        return np.where(found < 0, -1, found + earlier)

    def _key_of(self, name: str, values: pd.Series) -> pd.Series:
        """Return what `key` says in SQL."""
        if name not in self._years:
            return values
        years = pd.to_numeric(values, errors="coerce")
        whole = np.floor(years) if pd.api.types.is_float_dtype(values.dtype) else np.floor(years).astype(str)
        return values.where(years.isna() | (years < 0) | (years == self._years[name]), whole)
