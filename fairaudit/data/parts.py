"""Parts of one prediction: which faces each has, and whether a folder holds all of them."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.shard_files import ShardFile, common_description
from fairaudit.data.sources import parquet_errors
from fairaudit.data.tables import META_KEY, FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.files import atomic_file

MOST = 9999
_NAME = re.compile(r"part-(\d+)-of-(\d+)\.parquet")
# what all parts of one prediction say alike
_SAME: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "the model": lambda meta: meta.get("checkpoint_hash"),
    "precision": lambda meta: meta.get("precision"),
    "compiling": lambda meta: bool(meta.get("compile")),
    "averaging with the mirrored face": lambda meta: meta.get("flip_test"),
    "the faces": lambda meta: [dict(meta.get("data") or {}).get(key) for key in ("data_hash", "split_hash")],
}


@dataclass(frozen=True)
class Part:
    """The `number`th (from 1) of `of` parts."""

    number: int
    of: int

    @property
    def name(self) -> str:
        """The name of its file; names sort as the parts do."""
        width = len(str(self.of))
        return f"part-{self.number:0{width}d}-of-{self.of}.parquet"


def parse_part(text: str) -> Part:
    """Return the part that "2/4" means; UsageError for anything else."""
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
    part = Part(*map(int, found.groups())) if found else Part(0, 0)
    if not 1 <= part.number <= part.of <= MOST:
        raise UsageError(f"--shard {text}: write which part of how many, such as 2/4 (at most {MOST:,} parts)")
    return part


def faces_of(faces: FaceTable, part: Part) -> FaceTable:
    """Return this part's faces: neighbours in the table, so that the parts in order are the whole.

    Columns of words keep the values of all faces, so that every part's table has the same ones in the same order.
    """
    frame = faces.frame.copy()
    for name in faces.attributes:
        if not isinstance(frame[name].dtype, pd.CategoricalDtype):
            words = frame[name].astype(object).map(str, na_action="ignore")
            frame[name] = pd.Categorical(words, categories=sorted(set(words.dropna())))
    first, last = (len(frame) * number // part.of for number in (part.number - 1, part.number))
    findings = faces.findings if first == 0 < last else faces.findings[:0]  # once, where the parts are read as one
    return replace(faces, frame=frame[first:last].reset_index(drop=True), findings=findings)


def claim_part(folder: Path, part: Part) -> Path:
    """Return the path of this part's file in `folder`.

    Raises UsageError where the folder is a file or holds other tables, such as parts of another division.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; with --shard give the folder that all parts go to")
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        found = _NAME.fullmatch(path.name)
        if not path.name.startswith(".") and (not found or int(found[2]) != part.of):
            raise UsageError(
                f"--out {folder} holds {path.name}, which is none of {part.of} parts; give a new folder, or one that "
                f"holds other parts of the same {part.of}"
            )
    return folder / part.name


def is_done(path: Path, key: Mapping[str, Any]) -> bool:
    """Return whether `path` is a whole table of predictions whose description holds all of `key`."""
    meta = _described(path)
    return bool(meta) and all(meta.get(name) == value for name, value in key.items())


def _described(path: Path) -> dict[str, Any]:
    """Return what a table of ours says of its making; nothing where it is damaged, or not ours."""
    try:
        meta = (json.loads((pq.read_schema(path).metadata or {})[META_KEY]))["meta"]
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowInvalid):
        return {}
    return meta if isinstance(meta, dict) else {}


def parts_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are named as parts of a prediction, in order."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def check_complete(folder: Path) -> None:
    """Raise DataError where a folder holds some parts of a prediction and lacks others, or mixes two divisions, two
    models or two sets of faces.
    """
    paths = parts_in(folder)
    found = [match for path in paths if (match := _NAME.fullmatch(path.name))]
    for of in sorted({int(match[2]) for match in found}):
        there = {int(match[1]) for match in found if int(match[2]) == of}
        missing = [number for number in range(1, min(of, MOST) + 1) if number not in there]
        if missing:
            named = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
            raise DataError(
                f"{folder} holds {len(there)} of {of} parts of a prediction; missing: {named}. Predict them with "
                f"--shard {missing[0]}/{of}, or audit single files"
            )
    if len({match[2] for match in found}) > 1:
        raise DataError(f"{folder} holds parts of predictions that were divided differently: faces would count twice")
    _check_alike(paths)


def join_parts(folder: Path, out: Path) -> int:
    """Write the table that the parts in `folder` make, in their order, to the Parquet file `out`; return its rows.

    Rows, columns and values are those of the same prediction without parts, one row group is in memory at a time. Of
    the description, what holds of every part is kept, findings, warnings and notes are joined, and counts are added up;
    what only one part could say of itself, such as its speed, is not. Raises DataError as `check_complete`, and where
    there is no part, or one is damaged.
    """
    if not folder.is_dir() or not parts_in(folder):
        raise DataError(f"{folder} holds no parts of a prediction; give the folder that predict --shard wrote to")
    check_complete(folder)
    files = [_opened(path) for path in parts_in(folder)]
    plain = files[0].schema.remove_metadata()
    strange = [file.path for file in files if file.schema.remove_metadata() != plain]
    if strange:
        raise DataError(f"{strange[0]} and {files[0].path} have different columns; they are no parts of one prediction")
    schema = plain.with_metadata({META_KEY: json.dumps(common_description(files), ensure_ascii=False).encode()})
    with atomic_file(out) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for file in files:
            for table in _row_groups(file.path):
                writer.write_table(table.cast(schema))
    return sum(file.rows for file in files)


def _opened(path: Path) -> ShardFile:
    with parquet_errors(path), pq.ParquetFile(path) as file:
        return ShardFile(path=path, parquet=path, rows=file.metadata.num_rows, schema=file.schema_arrow)


def _row_groups(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            with parquet_errors(path):
                table = file.read_row_group(group)
            yield table


def _check_alike(paths: Sequence[Path]) -> None:
    """Raise DataError where what was predicted, or by which model, differs between parts."""
    first: Mapping[str, Any] = {}
    for path in paths:
        told = _described(path)
        if not told:
            continue  # anybody's table of that name says nothing of itself
        first = first or told
        differing = [what for what, known in _SAME.items() if known(told) != known(first)]
        if differing:
            raise DataError(
                f"{path} and {paths[0].name} are no parts of one prediction: they differ in {' and '.join(differing)}. "
                "Call predict --shard for all of them again: it skips those that are right"
            )
