"""What a prediction that was stopped leaves beside its output: finished stretches of rows, which the same call goes on
from.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.errors import FairauditError
from fairaudit.files import atomic_file, claim, held, remove_claimed, value_hash, write_json
from fairaudit.progress import Progress
from fairaudit.wording import plural

ENDING = ".predicting"
SECONDS = 15.0  # of work that a kill may cost, at least; a table made in less time leaves nothing on disk
_MARKER = "predicting.json"
_TOLD = b"fairaudit-unfinished"


@dataclass(kw_only=True)
class Unfinished:
    """The stretches of one table, each a Parquet file in `folder` named by its first row.

    `key` names everything that the rows depend on; `rows` is how many of the first rows are kept; `told` is what was
    said with each stretch that an earlier call left.
    """

    folder: Path
    schema: pa.Schema
    key: str
    rows: int = 0
    told: list[Mapping[str, Any]] = field(default_factory=list)
    _paths: list[Path] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    @classmethod
    @contextmanager
    def found(
        cls, folder: Path, out: Path, schema: pa.Schema, depends_on: Mapping[str, Any], progress: Progress
    ) -> Iterator["Unfinished"]:
        """Yield what an earlier call of the same model, faces and options left in `folder`; the rest is removed, and
        said. The folder is ours alone until the end, and is removed when all is well.

        Raises UsageError where a folder of that name is not ours, or another call is writing the same `out`.
        """
        claim(folder, "prediction under way", _MARKER)
        with held(folder, out):
            yield cls._found(folder, schema, depends_on, progress)
            remove_claimed(folder, _MARKER)

    @classmethod
    def _found(cls, folder: Path, schema: pa.Schema, depends_on: Mapping[str, Any], progress: Progress) -> "Unfinished":
        made = cls(folder=folder, schema=schema, key=value_hash(dict(depends_on)))
        there = sorted(folder.glob("rows-*.parquet"))
        for path in there:
            try:
                _, told = _stretch(path, made, made.rows)
            except (OSError, ValueError, KeyError, TypeError):  # pyarrow's errors are ValueErrors and OSErrors
                break
            made.told.append(told)
            made.rows = told["stop"]
            made._paths.append(path)
        if made.rows:
            progress(
                "predict",
                0,
                0,
                f"{plural(made.rows, 'face was', 'faces were')} predicted by a call that was stopped: going on there",
            )
        if useless := there[len(made._paths) :]:
            progress(
                "predict", 0, 0,
                f"{plural(len(useless), 'file')} in {folder} of another model, other faces or other options, or "
                "damaged: "
                "discarded, and their faces predicted again",
            )  # fmt: skip
            for path in useless:
                path.unlink()
        return made

    def due(self) -> bool:
        """Return whether enough work was done since the last stretch to be kept."""
        return time.monotonic() - self._since >= SECONDS

    def keep(self, table: pa.Table, told: Mapping[str, Any]) -> None:
        """Write the next rows, whole or not at all."""
        if not self._paths:
            write_json(self.folder / _MARKER, {"of": self.folder.name.removesuffix(ENDING), "key": self.key})
        path = self.folder / f"rows-{self.rows:012d}.parquet"
        self.rows += len(table)
        said = json.dumps({**told, "key": self.key, "stop": self.rows}, ensure_ascii=False).encode()
        with atomic_file(path) as temporary:
            pq.write_table(table.replace_schema_metadata({_TOLD: said}), temporary, write_page_checksum=True)
        self._paths.append(path)
        self._since = time.monotonic()

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows that are kept, in order. Raises FairauditError where they, or some of them, are gone."""
        start = 0
        for path in self._paths:
            try:
                table, _ = _stretch(path, self, start)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise FairauditError(
                    f"{path}, written by this prediction, cannot be read any more ({error}). Does another call write "
                    "the same --out? Run the same command again"
                ) from None
            start += len(table)
            yield table.replace_schema_metadata(None).cast(self.schema)


def _stretch(path: Path, wanted: Unfinished, start: int) -> tuple[pa.Table, dict[str, Any]]:
    """Return the rows of a file, and what it says of itself.

    Raises OSError, ValueError, KeyError or TypeError where it does not begin at row `start`, is of something else, or
    damaged.
    """
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    told = json.loads((table.schema.metadata or {})[_TOLD])
    if told["key"] != wanted.key or not table.schema.equals(wanted.schema):
        raise ValueError("it is of another call")
    if path.name != f"rows-{start:012d}.parquet" or told["stop"] != start + len(table):
        raise ValueError("it has other rows")
    return table, told
