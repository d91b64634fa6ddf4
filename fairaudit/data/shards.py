"""A folder of Parquet and CSV files as one table that is never in memory: duckdb answers for it.

The rules of `predictions.py` ask the same of it as of a table in memory (`sources.Source`).
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.bins import quantile_bins
from fairaudit.data.columns import Column, column_of
from fairaudit.data.predictions import read
from fairaudit.data.predictions_check import check_weight_range, examples, numbers
from fairaudit.data.shard_files import ShardFile, common_description, hashes, list_shards, orders
from fairaudit.data.sharded import MOST_ROWS, ShardedPredictions, too_many
from fairaudit.data.sources import (
    Reading,
    Where,
    bad_weights,
    empty_images,
    is_parquet,
    parquet_errors,
    repeated_images,
)
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, FairauditError, UsageError
from fairaudit.progress import Progress, silent

MOST_DISTINCT = 100_000  # a column of more distinct values is only counted
MOST_YEARS = 1_000  # ages of more distinct values are looked at by whole years, which is all that bins need
MOST_HELD = 1_000_000  # a table of no more faces is held in memory, where every analysis is possible
FIRST = 20  # images that a finding names
_AGES = ("age", "age_true", "age_pred")
_FILE, _ROW = "fairaudit_file", "file_row_number"
_CELL_BYTES, _CSV_TIMES = (
    30,
    3,
)  # what a table in memory takes for a cell of a Parquet file, and for a byte of a CSV file
_FILE_SIZE = 1 << 40  # a row's place in the table: number of its file × this + its row


def default_memory() -> str:
    """Return how much memory duckdb takes unless it is told: a quarter of the machine's, at most 2 GB."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{min(whole // 4, 2 << 30) >> 20}MB"


class Kind:
    """Files whose columns have the same types, as one relation: `table` its name, `place` the SQL of a row's place."""

    def __init__(self, table: str, files: Sequence[tuple[int, ShardFile]]) -> None:
        self.table, self.files = table, files
        self._types = {field.name: _plain(field.type) for field in files[0][1].schema}
        names, numbers = [_literal(str(file.parquet)) for _, file in files], [number for number, _ in files]
        self.view = (
            f"CREATE TEMP VIEW {table} AS FROM read_parquet([{', '.join(map(_no_pattern, names))}], "
            f"filename = '{_FILE}', file_row_number = true, hive_partitioning = false)"
        )
        number = f"list_extract({numbers}, list_position([{', '.join(names)}], {_FILE}))"
        self.place = f"CAST({number} AS BIGINT) * {_FILE_SIZE} + {_ROW}"

    def quoted(self, column: str) -> str:
        """Return a column's name as SQL has it."""
        return '"' + column.replace('"', '""') + '"'

    def is_text(self, column: str) -> bool:
        """Tell whether a column holds text."""
        return bool(pa.types.is_string(self._types[column]) or pa.types.is_large_string(self._types[column]))

    def is_number(self, column: str) -> bool:
        """Tell whether a column holds whole numbers, floats or decimals."""
        kind = self._types[column]
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))

    def is_float(self, column: str) -> bool:
        """Tell whether a column holds floats, of which some may be NaN."""
        return bool(pa.types.is_floating(self._types[column]))


class ShardSource:
    """The files below `where`, in the order of their names, as one table.

    memory: bounds duckdb's, such as "2GB". first: how many rows a finding names.
    """

    def __init__(self, where: Path, *, memory: str | None = None, progress: Progress = silent) -> None:
        self.where, self.folder, self.progress, self.first = str(where), where, progress, FIRST
        if not where.exists():
            raise DataError(
                f"predictions {where} does not exist; give a CSV or Parquet file, or a folder of such files"
            )
        self._temporary = tempfile.TemporaryDirectory(prefix="fairaudit-")  # removed with this object, or at exit
        self.files = list_shards(where, Path(self._temporary.name), progress)
        self.columns = list(self.files[0].columns)
        self.described = common_description(self.files)
        self.orders = orders(self.files)
        self._connection = _connected(memory or default_memory(), self._temporary.name)
        self.kinds = _by_kind(self.files)
        for kind in self.kinds:
            self.ask(kind.view)
        self._names = {name: [name] for name in self.columns}  # our name → the columns of the files that it sums
        self._years: dict[str, float] = {}
        self._values: dict[str, list[pd.Series]] = {}
        self._in_bins: dict[str, tuple[str, pd.IntervalIndex]] = {}  # name of a column of bins → its numbers, the bins
        self._measured: dict[str, bool] = {}
        self._asked = 0

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

    # what the reading rules ask

    def rename(self, names: Mapping[str, str]) -> None:
        self._names = {names.get(name, name): theirs for name, theirs in self._names.items()}
        self.columns = list(self._names)
        self.orders = {names.get(name, name): order for name, order in self.orders.items()}

    def join(self, names: Mapping[str, str]) -> None:
        joined: dict[str, list[str]] = {}
        for name, theirs in self._names.items():
            joined.setdefault(names.get(name, name), []).extend(theirs)
        self._names, self.columns = joined, list(joined)

    def column(self, name: str) -> Column:
        self._step(name)
        most = MOST_YEARS if name in _AGES else MOST_DISTINCT
        found = self._distinct(name, most)
        if found is None and name in _AGES and self._in_years(name):
            found = self._distinct(name, MOST_DISTINCT)
        if found is None and most < MOST_DISTINCT:
            found = self._distinct(name, MOST_DISTINCT)
        if found is None:
            texts = " UNION ".join(f"SELECT {self._text(name, kind)} AS v FROM {kind.table}" for kind in self.kinds)
            many = self.ask(f"SELECT count(*) FROM ({texts}) WHERE v <> ''").column(0)[0].as_py()
            return Column(text=np.array([], dtype=object), count=np.zeros(0, dtype=np.int64), many=int(many))
        parts, missing = found
        self._values[name] = [part["v"] for part in parts]
        values = pd.concat(self._values[name], ignore_index=True)
        return column_of(values, np.concatenate([[missing], *(part["n"] for part in parts)]))

    def joint(self, first: str, second: str) -> pd.DataFrame:
        return self.grouped([first, second])

    def faces(self, where: Where, column: str | None = None) -> list[tuple[str, int, int]]:
        total, rows = 0, []
        for number, kind in enumerate(self.kinds):
            meant = self._condition(where, number)
            key = self.key(column, kind) if column else "NULL"
            told = f"{self.image(kind)} AS image, {key} AS code, {kind.place} AS place"
            source = f"SELECT {told} FROM {kind.table} WHERE {meant}"
            count = self.ask(f"SELECT count(*) FROM {kind.table} WHERE {meant}").column(0)[0].as_py()
            total += count
            if not count:
                continue
            found = [self.ask(f"SELECT * FROM ({source}) ORDER BY place LIMIT {self.first}")]
            if column:  # and the first row of each value, because a finding tells which there were
                firsts = f"SELECT min_by(image, place) image, code, min(place) place FROM ({source}) GROUP BY code"
                found.append(self.ask(f"SELECT * FROM ({firsts}) ORDER BY place LIMIT {self.first}"))
            for table in found:
                frame = table.to_pandas()
                code = self.code(column, number, frame["code"]) if column else np.full(len(frame), -1)
                rows.append(frame.assign(code=code))
        if not total:
            return []
        told = pd.concat(rows).drop_duplicates("place").sort_values("place")
        listed = [(image, int(code), 1) for image, code in zip(self.named(told), told["code"], strict=True)]
        return [*listed[:-1], (*listed[-1][:2], total - len(listed) + 1)]

    def check_images(self) -> bool:
        if "image" not in self._names:
            return True
        self._step("image")
        texts = [(kind, self._text("image", kind)) for kind in self.kinds]
        empty, first = 0, 1 << 62
        for kind, text in texts:
            found = self.ask(f"SELECT count(*), min({kind.place}) FROM {kind.table} WHERE coalesce({text}, '') = ''")
            empty += found.column(0)[0].as_py()
            first = min(first, found.column(1)[0].as_py() or 1 << 62)
        if empty:
            raise DataError(empty_images(empty, self._number(first)))
        # by hash first, which takes a fraction of the memory; what shares a hash is then compared as it stands
        hashed = " UNION ALL ".join(f"SELECT hash({text}) AS h FROM {kind.table}" for kind, text in texts)
        self.ask(f"CREATE OR REPLACE TEMP TABLE twice AS SELECT h FROM ({hashed}) GROUP BY h HAVING count(*) > 1")
        if not self.ask("SELECT count(*) FROM twice").column(0)[0].as_py():
            return False
        whole = " UNION ALL ".join(
            f"SELECT {text} AS image, {kind.place} AS place FROM {kind.table} WHERE hash({text}) IN (FROM twice)"
            for kind, text in texts
        )
        repeated = f"SELECT image, min(place) AS place FROM ({whole}) GROUP BY image HAVING count(*) > 1"
        found = self.ask(f"SELECT image, count(*) OVER () FROM ({repeated}) ORDER BY place LIMIT 4")
        if found.num_rows:
            raise DataError(repeated_images(found.column(1)[0].as_py(), found.column(0).to_pylist()))
        return False

    def check_probabilities(self, columns: Sequence[str]) -> None:
        for column in columns:
            self._step(column)
            for kind in self.kinds:
                self._check_numbers(column, kind)
                value = self.number(column, kind)
                outside = self._some(f"SELECT {value} AS v FROM {kind.table}", "v < 0 OR v > 1")
                if outside[0]:
                    raise DataError(
                        f"{self.where}: {outside[0]} values of {column} lie outside 0…1 ({examples(outside[1])})"
                    )

    def check_weights(self) -> None:
        self._step("weight")
        least, most = np.inf, -np.inf
        for kind in self.kinds:
            self._check_numbers("weight", kind)
            value = self.number("weight", kind)
            image = self._text("image", kind) if "image" in self._names else kind.place
            table = f"SELECT {value} AS w, {image} AS v FROM {kind.table}"
            bad = self._some(table, "w IS NULL OR NOT isfinite(w) OR w <= 0")
            if bad[0]:
                raise DataError(bad_weights(self.where, bad[0], bad[1]))
            ends = self.ask(f"SELECT min(w), max(w) FROM ({table})")
            least, most = min(least, ends.column(0)[0].as_py()), max(most, ends.column(1)[0].as_py())
        check_weight_range(self.where, least, most)

    def made(self, reading: Reading) -> ShardedPredictions:
        self.progress("read shards", self._asked, self._asked)
        told = hashes(self.files, self.folder, self.progress)
        return ShardedPredictions(source=self, reading=reading, shards=told)

    # what the audited tables are made of

    def ask(self, query: str) -> pa.Table:
        """Run a query; Ctrl-C stops it. Raises DataError where a file cannot be read, FairauditError without space."""
        with self._plain_errors():
            answer = self._connection.sql(query)
            return answer.to_arrow_table() if answer is not None else pa.table({})

    def portions(self, query: str) -> Iterator[list[np.ndarray]]:
        """Run a query whose answer may be larger than memory; yield the columns of a portion of rows at a time."""
        with self._plain_errors():
            for batch in pa.RecordBatchReader.from_stream(self._connection.sql(query)):
                yield [column.to_numpy(zero_copy_only=False) for column in batch.columns]

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except duckdb.OutOfMemoryException as error:
            raise FairauditError(
                f"{self.where}: duckdb needs more memory or temporary space ({_line(error)}); give --memory, and free "
                f"space in {self._temporary.name} (or set TMPDIR)"
            ) from None
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.ConversionException) as error:
            raise DataError(f"{self.where} cannot be read: {_line(error)}") from None

    def grouped(self, names: Sequence[str], most: int = MOST_ROWS) -> pd.DataFrame:
        """Return how often each combination of values occurs: one column of codes a name (−1: none), and `count`.

        Raises DataError where there are more than `most`.
        """
        parts, found = [], 0
        for number, kind in enumerate(self.kinds):
            keys = ", ".join(f"{self.key(name, kind)} AS k{i}" for i, name in enumerate(names))
            by = ", ".join(f"k{i}" for i in range(len(names)))
            counted = f"SELECT {keys}, count(*) AS count FROM {kind.table} GROUP BY {by}"
            self.ask(f"CREATE OR REPLACE TEMP TABLE counted AS {counted}")
            found += self.ask("SELECT count(*) FROM counted").column(0)[0].as_py()
            if found > most:
                raise too_many(self.where, found)
            frame = self.ask("FROM counted").to_pandas()
            codes = {name: self.code(name, number, frame[f"k{i}"]) for i, name in enumerate(names)}
            parts.append(pd.DataFrame({**codes, "count": frame["count"]}))
        return pd.concat(parts, ignore_index=True)

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

    def image(self, kind: Kind) -> str:
        """Return the SQL of the image's name."""
        return self._text("image", kind) if "image" in self._names else "NULL"

    def named(self, rows: pd.DataFrame) -> list[str]:
        """Return the names of rows, given by `image` and `place`; without images the rows are numbered."""
        if "image" in self._names:
            return [str(image) for image in rows["image"]]
        return [f"row {self._number(place)}" for place in rows["place"]]

    def keep(self, name: str, frame: pd.DataFrame) -> None:
        """Lay a small table beside the shards."""
        self._connection.register("kept", pa.Table.from_pandas(frame, preserve_index=False))
        self.ask(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM kept")

    def check_numbers(self, name: str) -> None:
        """Raise DataError for text in a column that is no number."""
        for kind in self.kinds:
            self._check_numbers(name, kind)

    def _check_numbers(self, name: str, kind: Kind) -> None:
        """Raise DataError for text that is no number."""
        for column in self._names[name]:
            if kind.is_text(column):
                cells = f"SELECT {kind.quoted(column)} AS v FROM {kind.table}"
                strange = self._some(cells, "v <> '' AND TRY_CAST(v AS DOUBLE) IS NULL")
                if strange[0]:
                    raise DataError(
                        f"{self.where}: {strange[0]} values of {name} are no numbers ({examples(strange[1])})"
                    )

    def subjects(self) -> int:
        """Return how many persons the table names, a face without one counting as one."""
        texts = [f"SELECT nullif({self._text('subject_id', kind)}, '') AS v FROM {kind.table}" for kind in self.kinds]
        persons = f"SELECT v, count(*) AS n FROM ({' UNION ALL '.join(texts)}) GROUP BY v"
        found = self.ask(f"SELECT sum(CASE WHEN v IS NULL THEN n ELSE 1 END) FROM ({persons})")
        return int(found.column(0)[0].as_py())

    def rows(self, coded: Sequence[str], numbered: Sequence[str], plain: Sequence[str]) -> dict[str, Any]:
        """Return whole columns in the table's order: codes of distinct values, numbers, and cells as they stand."""
        found: dict[str, list[Any]] = {name: [] for name in dict.fromkeys((*coded, *numbered, *plain))}
        kinds = {number: i for i, kind in enumerate(self.kinds) for number, _ in kind.files}
        for number, file in enumerate(self.files):
            self.progress("hold rows", number, len(self.files), file.path.name)
            kind = self.kinds[kinds[number]]
            theirs = list(dict.fromkeys(column for name in found for column in self._names[name]))
            text = [column for column in theirs if kind.is_text(column)]
            reader = pq.ParquetFile(file.parquet, read_dictionary=text)
            for batch in reader.iter_batches(columns=theirs):
                for name in found:
                    cells = [batch.column(column) for column in self._names[name]]
                    if name in coded:
                        found[name].append(self._codes_of(name, kinds[number], cells[0]))
                    elif name in numbered:
                        found[name].append(_added([numbers(cell.to_pandas(), name, self.where) for cell in cells]))
                    else:
                        found[name].append(_plain_cells(cells[0]))
        self.progress("hold rows", len(self.files), len(self.files))
        whole = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items() if name in plain}
        return whole | {name: np.concatenate(parts) for name, parts in found.items() if name not in plain}

    def _codes_of(self, name: str, kind: int, cells: pa.Array) -> np.ndarray:
        small = np.int16 if sum(len(part) for part in self._values[name]) < 2**15 else np.int32
        if pa.types.is_dictionary(cells.type):
            own = self.code(name, kind, self._key_of(name, cells.dictionary.to_pandas()))
            indices = cells.indices.to_numpy(zero_copy_only=False)
            codes = np.append(own, -1)[np.where(np.isnan(indices), -1, indices).astype(np.int64)]
        else:
            codes = self.code(name, kind, self._key_of(name, cells.to_pandas()))
        return codes.astype(small)

    def _key_of(self, name: str, values: pd.Series) -> pd.Series:
        """Return what `key` says in SQL."""
        if name not in self._years:
            return values
        years = pd.to_numeric(values, errors="coerce")
        whole = np.floor(years) if pd.api.types.is_float_dtype(values.dtype) else np.floor(years).astype(str)
        return values.where(years.isna() | (years < 0) | (years == self._years[name]), whole)

    def code(self, name: str | None, kind: int, values: pd.Series) -> np.ndarray:
        """Return the position of each value among the column's distinct values, −1 for none."""
        assert name is not None  # asked only with a column
        earlier = sum(len(part) for part in self._values[name][:kind])
        found = pd.Index(self._values[name][kind]).get_indexer(pd.Index(values))
        return np.where(found < 0, -1, found + earlier)

    def _step(self, what: str) -> None:
        self._asked += 1
        self.progress("read shards", self._asked, max(len(self.columns) + 1, self._asked + 1), what)

    def close(self) -> None:
        """Remove what was written on the way; also done when the object goes."""
        self._connection.close()
        self._temporary.cleanup()

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

    def _text(self, name: str, kind: Kind) -> str:
        """Return the SQL of a column as text; whole floats are written as whole numbers."""
        column = kind.quoted(self._names[name][0])
        if kind.is_float(self._names[name][0]):
            whole, text = f"{column} = floor({column}) AND abs({column}) < 9e15", f"CAST({column} AS VARCHAR)"
            integer = f"CAST(CAST({column} AS BIGINT) AS VARCHAR)"
            return f"(CASE WHEN isnan({column}) THEN NULL WHEN {whole} THEN {integer} ELSE {text} END)"
        return column if kind.is_text(self._names[name][0]) else f"CAST({column} AS VARCHAR)"

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

    def _some(self, table: str, condition: str) -> tuple[int, list[Any]]:
        """Return how many rows of `table` fulfil the condition, and the first four of their `v`."""
        found = self.ask(f"SELECT v, count(*) OVER () AS n FROM ({table}) WHERE {condition} LIMIT 4")
        return (found.column("n")[0].as_py() if found.num_rows else 0), found.column("v").to_pylist()

    def _number(self, place: int) -> int:
        """Return the number of a row in the whole table, from 1."""
        file, row = divmod(place, _FILE_SIZE)
        return sum(shard.rows for shard in self.files[:file]) + row + 1


def _by_kind(files: Sequence[ShardFile]) -> list[Kind]:
    kinds: dict[Any, list[tuple[int, ShardFile]]] = {}
    for number, file in enumerate(files):
        kinds.setdefault(file.kind, []).append((number, file))
    return [Kind(f"shards{i}", members) for i, members in enumerate(kinds.values())]


def _connected(memory: str, temporary: str) -> Any:
    """Return a connection of its own with bounded memory, which writes to `temporary` what does not fit."""
    import duckdb

    connection = duckdb.connect(config={"temp_directory": temporary, "preserve_insertion_order": "false"})
    try:
        connection.execute(f"SET memory_limit = {_literal(memory)}")
    except duckdb.Error:
        raise UsageError(f"--memory {memory!r}: write a number with its unit, such as 500MB or 2GB") from None
    connection.execute("SET enable_progress_bar = false; SET autoinstall_known_extensions = false")
    return connection


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _no_pattern(text: str) -> str:
    """Return a file name in which no character stands for others."""
    return text.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _added(parts: Sequence[pd.Series]) -> np.ndarray:
    total = np.sum([part.to_numpy() for part in parts], axis=0)
    # shares that were rounded may add up to a little over 1
    return total if len(parts) == 1 else np.where((total > 1) & (total < 1 + 1e-6), 1.0, total)


def _plain_cells(cells: pa.Array) -> pd.Series:
    return (cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells).to_pandas()


def is_large(path: Path) -> bool:
    """Tell whether a table in this file would take more than a quarter of the machine's memory."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not path.is_file():
        return False
    if not is_parquet(path):
        return path.stat().st_size * _CSV_TIMES > whole // 4
    with parquet_errors(path):
        told = pq.read_metadata(path)
    return told.num_rows * told.num_columns * _CELL_BYTES > whole // 4


def read_shards(
    where: Path | str,
    *,
    rename: Mapping[str, str] | None = None,
    values: Mapping[str, Mapping[str, str]] | None = None,
    tasks: Sequence[str] | None = None,
    memory: str | None = None,
    most_held: int = MOST_HELD,
    progress: Progress = silent,
) -> Predictions | ShardedPredictions:
    """Return the predictions in a folder of Parquet and CSV files (or in one file), read as `read_predictions` does.

    A table of at most `most_held` faces comes back in memory; a larger one stays on disk and is counted there by
    duckdb, which takes at most `memory` (such as "2GB"; default: a quarter of the machine's, at most 2 GB) and writes
    what does not fit to a temporary folder (see TMPDIR). Files are read in the order of their names. Errors as in
    `read_predictions`; UsageError for an impossible `memory`.
    """
    source = ShardSource(Path(where), memory=memory, progress=progress)
    source.first = len(source) if len(source) <= most_held else FIRST
    table: ShardedPredictions = read(source, rename=rename, values=values, tasks=tasks)
    if len(table) <= most_held:
        return table.held(complete=True)
    table.meta["shards"]["reading"] = {
        "rename": dict(rename or {}),
        "values": {k: dict(v) for k, v in (values or {}).items()},
    }
    return table
