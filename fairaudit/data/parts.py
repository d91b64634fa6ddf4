"""Parts of one prediction: which faces each has, and whether a folder holds all of them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.tables import META_KEY, FaceTable
from fairaudit.errors import DataError, UsageError

MOST = 9999
_NAME = re.compile(r"part-(\d+)-of-(\d+)\.parquet")


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
    findings = faces.findings if part.number == 1 else faces.findings[:0]  # once, where the parts are read as one
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
    try:
        meta = (json.loads((pq.read_schema(path).metadata or {})[META_KEY]))["meta"]
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowInvalid):
        return False
    return all(meta.get(name) == value for name, value in key.items())


def check_complete(folder: Path) -> None:
    """Raise DataError where a folder holds some parts of a prediction and lacks others, or mixes two divisions."""
    found = [match for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
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
