"""The files of a sharded table: which they are, what they hold and say of themselves, and CSV files made Parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.predictions_check import description
from fairaudit.data.sources import CSV_OPTIONS, check_columns, csv_errors, csv_header, is_parquet, parquet_errors
from fairaudit.data.tables import META_KEY
from fairaudit.errors import DataError
from fairaudit.files import file_hash
from fairaudit.progress import Progress

_CHUNK = 200_000  # rows of a CSV file in memory at a time


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One file of the table: `path` as given, `parquet` the file that is read (a CSV file is made one first)."""

    path: Path
    parquet: Path
    rows: int
    schema: pa.Schema

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return [str(name) for name in self.schema.names]

    @property
    def kind(self) -> tuple[tuple[str, str], ...]:
        """Its columns and their types: files of one kind are read together."""
        return tuple(sorted((field.name, str(plain_type(field.type))) for field in self.schema))


def list_shards(where: Path, temporary: Path, progress: Progress) -> list[ShardFile]:
    """Return the files of a folder in the order of their names (with those of folders below), or the one file.

    Files whose names start with "." or "_" are no part of the table. Raises DataError where there is no file, one is no
    table, or two have different columns.
    """
    paths = [where] if where.is_file() else sorted(p for p in where.rglob("*") if p.is_file() and not _hidden(p, where))
    if not paths:
        raise DataError(f"predictions {where} holds no file; give a CSV or Parquet file, or a folder of such files")
    files = []
    for number, path in enumerate(paths):
        progress("open shards", number, len(paths), path.name)
        files.append(_opened(path, temporary, number))
    progress("open shards", len(paths), len(paths))
    first = files[0]
    for file in files[1:]:
        lacking = sorted(set(first.columns) ^ set(file.columns))
        if lacking:
            has, lacks = (first, file) if lacking[0] in first.columns else (file, first)
            raise DataError(
                f"{has.path} has a column {lacking[0]!r} that {lacks.path} lacks; all files of a table have the same "
                "columns"
            )
    if not any(file.rows for file in files):
        raise DataError(f"{where} holds no row to audit")
    return [file for file in files if file.rows]


def hashes(files: Sequence[ShardFile], where: Path, progress: Progress) -> list[dict[str, Any]]:
    """Return name (relative to the folder), SHA-256 and rows of each file."""
    told = []
    for number, file in enumerate(files):
        progress("hash shards", number, len(files), file.path.name)
        name = file.path.name if where.is_file() else file.path.relative_to(where).as_posix()
        told.append({"file": name, "sha256": file_hash(file.path), "rows": file.rows})
    progress("hash shards", len(files), len(files))
    return told


def common_description(files: Sequence[ShardFile]) -> dict[str, Any]:
    """Return what our own files say of the whole table: findings, warnings and notes are joined, faces seen in training
    added up.

    Raises DataError where two files name different classes of a task or different attributes.
    """
    raw = [(file, (file.schema.metadata or {}).get(META_KEY)) for file in files]
    told = [(file, description(text, str(file.path))) for file, text in raw if text]
    if len(told) < len(files):
        return {}
    first, whole = told[0][0], dict(told[0][1])
    for file, other in told[1:]:
        for key in ("tasks", "attributes", "ordered"):
            if other.get(key) != whole.get(key):
                raise DataError(
                    f"{first.path} and {file.path} describe different {key}; they are no shards of one table"
                )
    whole["findings"] = [row for _, part in told for row in part.get("findings", [])]
    whole["label_source"] = "; ".join(dict.fromkeys(s for _, part in told if (s := str(part.get("label_source", "")))))
    metas = [part.get("meta", {}) for _, part in told]
    whole["meta"] = {key: value for key, value in metas[0].items() if all(meta.get(key) == value for meta in metas)}
    for key in ("warnings", "notes"):  # with figures of their own part, so that no two need be equal
        lists = [list(meta.get(key) or ()) for meta in metas]
        if any(lists):
            whole["meta"][key] = list(dict.fromkeys(text for part in lists for text in part))
    for key in ("seen_in_training", "failed"):
        counts = [meta.get(key) for meta in metas]
        if all(isinstance(count, int) for count in counts):  # what one file does not know, the whole does not
            whole["meta"][key] = sum(counts)
    seen = [meta.get("seen") for meta in metas]
    if all(isinstance(counts, dict) for counts in seen):
        whole["meta"]["seen"] = {part: sum(counts.get(part, 0) for counts in seen) for part in seen[0]}
    return whole


def orders(files: Sequence[ShardFile]) -> dict[str, list[str]]:
    """Return the order of the values of every column that is typed as categorical, alike, in all files."""
    found: dict[str, list[str]] = {}
    for field in files[0].schema:
        if all(pa.types.is_dictionary(file.schema.field(field.name).type) for file in files):
            told = [_categories(file, field.name) for file in files]
            if all(order == told[0] for order in told):
                found[field.name] = told[0]
    return found


def _categories(file: ShardFile, column: str) -> list[str]:
    parts = pq.ParquetFile(file.parquet)
    values: dict[str, None] = {}
    for group in range(parts.num_row_groups):
        for chunk in parts.read_row_group(group, columns=[column]).column(0).chunks:
            values.update(dict.fromkeys(str(value) for value in chunk.dictionary.to_pylist()))
    return list(values)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _opened(path: Path, temporary: Path, number: int) -> ShardFile:
    parquet = path
    if not is_parquet(path):
        if path.suffix.lower() not in (".csv", ".txt"):
            raise DataError(
                f"{path} is neither a Parquet nor a CSV file; leave only the table's own files in the folder"
            )
        parquet = temporary / f"{number:06d}.parquet"
        _csv_to_parquet(path, parquet)
    with parquet_errors(path):
        file = pq.ParquetFile(parquet)
        schema, rows = file.schema_arrow, file.metadata.num_rows
    check_columns(schema.names)
    folded = [name.casefold() for name in schema.names]
    for name in schema.names:
        if folded.count(name.casefold()) > 1:
            raise DataError(f"{path}: columns {name!r} and another differ only in case; rename one of them")
    return ShardFile(path=path, parquet=parquet, rows=rows, schema=schema)


def _csv_to_parquet(path: Path, out: Path) -> None:
    """Write a CSV file as Parquet, every cell as text, a part at a time."""
    writer: pq.ParquetWriter | None = None
    try:
        with csv_errors(path):
            header = csv_header(path, list(pd.read_csv(path, index_col=False, nrows=0, **CSV_OPTIONS).columns))
            schema = pa.schema([(name, pa.string()) for name in check_columns(header)])
            writer = pq.ParquetWriter(out, schema, compression="zstd")
            for chunk in pd.read_csv(path, index_col=False, chunksize=_CHUNK, **CSV_OPTIONS):
                columns = [pa.array(chunk.iloc[:, i], type=pa.string()) for i in range(chunk.shape[1])]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    finally:
        if writer is not None:
            writer.close()


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, whether or not the file keeps them as a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind
