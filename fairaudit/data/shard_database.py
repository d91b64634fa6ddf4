"""Files of a sharded table as relations of a duckdb of its own, whose memory is bounded."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fairaudit.data.shard_files import ShardFile, list_shards, plain_type
from fairaudit.errors import DataError, FairauditError, UsageError
from fairaudit.progress import Progress

_FILE, _ROW = "fairaudit_file", "file_row_number"
_FILE_SIZE = 1 << 40  # a row's place in the table: number of its file × this + its row


class Kind:
    """Files whose columns have the same types, as one relation: `table` its name, `place` the SQL of a row's place."""

    def __init__(self, table: str, files: Sequence[tuple[int, ShardFile]]) -> None:
        self.table, self.files = table, files
        self._types = {field.name: plain_type(field.type) for field in files[0][1].schema}
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


class ShardDatabase:
    """The files below `where`, in the order of their names, as relations: `kinds`, one for each kind of file.

    memory: bounds duckdb's, such as "2GB".
    """

    def __init__(self, where: Path, memory: str, progress: Progress) -> None:
        self.where, self.folder, self.progress = str(where), where, progress
        if not where.exists():
            raise DataError(
                f"predictions {where} does not exist; give a CSV or Parquet file, or a folder of such files"
            )
        self._temporary = tempfile.TemporaryDirectory(prefix="fairaudit-")  # removed with this object, or at exit
        self.files = list_shards(where, Path(self._temporary.name), progress)
        self._connection = _connected(memory, self._temporary.name)
        self.kinds = _by_kind(self.files)
        for kind in self.kinds:
            self.ask(kind.view)

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

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

    def keep(self, name: str, frame: pd.DataFrame) -> None:
        """Lay a small table beside the shards."""
        self._connection.register("kept", pa.Table.from_pandas(frame, preserve_index=False))
        self.ask(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM kept")

    def _some(self, table: str, condition: str) -> tuple[int, list[Any]]:
        """Return how many rows of `table` fulfil the condition, and the first four of their `v`."""
        found = self.ask(f"SELECT v, count(*) OVER () AS n FROM ({table}) WHERE {condition} LIMIT 4")
        return (found.column("n")[0].as_py() if found.num_rows else 0), found.column("v").to_pylist()

    def row_number(self, place: int) -> int:
        """Return the number of a row in the whole table, from 1."""
        file, row = divmod(place, _FILE_SIZE)
        return sum(shard.rows for shard in self.files[:file]) + row + 1

    def close(self) -> None:
        """Remove what was written on the way; also done when the object goes."""
        self._connection.close()
        self._temporary.cleanup()


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


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _no_pattern(text: str) -> str:
    """Return a file name in which no character stands for others."""
    return text.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
