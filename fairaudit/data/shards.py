"""A folder of Parquet and CSV files as one table that is never in memory: duckdb answers for it.

The rules of `predictions.py` ask the same of it as of a table in memory (`sources.Source`).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.columns import Column, column_of
from fairaudit.data.predictions import read
from fairaudit.data.predictions_check import check_weight_range, examples, numbers, out_of_range
from fairaudit.data.shard_columns import ShardColumns
from fairaudit.data.shard_files import common_description, hashes
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
from fairaudit.errors import DataError
from fairaudit.progress import Progress, silent

MOST_DISTINCT = 100_000  # a column of more distinct values is only counted
MOST_YEARS = 1_000  # ages of more distinct values are looked at by whole years, which is all that bins need
MOST_HELD = 1_000_000  # a table of no more faces is held in memory, where every analysis is possible
FIRST = 20  # images that a finding names
_AGES = ("age", "age_true", "age_pred")
_CELL_BYTES = 30  # what a table in memory takes for a cell of a Parquet file
_CSV_TIMES = 3  # and for a byte of a CSV file


def default_memory() -> str:
    """Return how much memory duckdb takes unless it is told: a quarter of the machine's, at most 2 GB."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{min(whole // 4, 2 << 30) >> 20}MB"


class ShardSource(ShardColumns):
    """The files below `where` as one table, of which the reading rules ask what they ask of a table in memory.

    memory: bounds duckdb's, such as "2GB". first: how many rows a finding names.
    """

    def __init__(self, where: Path, *, memory: str | None = None, progress: Progress = silent) -> None:
        super().__init__(where, memory or default_memory(), progress)
        self.first = FIRST
        self.described = common_description(self.files)
        self._asked = 0

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
            place = found.column(1)[0].as_py()  # 0 is the first row, None where no row is empty
            first = first if place is None else min(first, place)
        if empty:
            raise DataError(empty_images(empty, self.row_number(first)))
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
            self.check_numbers(column)
            for kind in self.kinds:
                value = self.number(column, kind)
                outside = self._some(f"SELECT {value} AS v FROM {kind.table}", "v < 0 OR v > 1")
                if outside[0]:
                    raise DataError(f"{self.where}: {out_of_range(outside[0], column)} ({examples(outside[1])})")

    def check_weights(self) -> None:
        self._step("weight")
        self.check_numbers("weight")
        least, most = np.inf, -np.inf
        for kind in self.kinds:
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

    def _step(self, what: str) -> None:
        self._asked += 1
        self.progress("read shards", self._asked, max(len(self.columns) + 1, self._asked + 1), what)


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
