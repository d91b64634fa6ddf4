"""The two tables everything starts from: FaceTable (faces with labels) and Predictions (what a model said of them)."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit import subgroups
from fairaudit.errors import DataError
from fairaudit.files import atomic_file, value_hash

if TYPE_CHECKING:
    from fairaudit.data.score_counts import ScoreCounts
    from fairaudit.data.year_counts import YearCounts

FINDING_COLUMNS = ("kind", "image", "action", "detail")
META_KEY = b"fairaudit"
_BLOCK = 500_000  # rows that are hashed at a time


def findings_table(rows: Sequence[tuple[str, str, str, str]] = ()) -> pd.DataFrame:
    """Return the table that lists what was met in the data, one row a face and trap.

    Columns: kind ("malformed_name", "age_repaired", "truncated", …), image, action ("excluded", "repaired", "kept",
    "masked", "listed"), detail (a sentence's worth of what was seen).
    """
    return pd.DataFrame(list(rows), columns=list(FINDING_COLUMNS), dtype=object)


@dataclass(frozen=True, kw_only=True)
class FaceTable:
    """Labelled faces on disk.

    `frame` has one row a face: `image` (path relative to `root`, unique, "/" as separator), one categorical column for
    each task (its categories are the task's classes in order; missing = masked or unknown label), one for each further
    attribute, and where known `age_years` (float), `subject_id`, `sha256` (of the file's bytes), `split` ("train",
    "val" or "test") and `trainable` (False: kept in test only). A task's labels serve as a subgroup attribute, too.
    """

    frame: pd.DataFrame
    root: Path
    tasks: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    findings: pd.DataFrame = field(default_factory=findings_table)
    label_source: str = ""
    ordered: frozenset[str] = frozenset()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def require(self, axes: Iterable[str]) -> None:
        """Raise UsageError unless every attribute of every axis ("race:gender") is a task or attribute of the table."""
        subgroups.require([*self.tasks, *self.attributes], axes)

    def part(self, split: str) -> "FaceTable":
        """Return the faces of one split, in the order of the table."""
        return replace(self, frame=self.frame[self.frame["split"] == split].reset_index(drop=True))

    def without(self, split: str) -> "FaceTable":
        """Return the faces of all other splits, in the order of the table."""
        return replace(self, frame=self.frame[self.frame["split"] != split].reset_index(drop=True))

    def save(self, path: Path) -> None:
        """Write the table as one Parquet file that `load` reads back; `root` is not stored."""
        meta = {
            "tasks": {task: list(classes) for task, classes in self.tasks.items()},
            "attributes": list(self.attributes),
            "findings": self.findings.values.tolist(),
            "label_source": self.label_source,
            "ordered": sorted(self.ordered),
            "meta": dict(self.meta),
        }
        _write(self.frame, meta, path)

    @classmethod
    def load(cls, path: Path, root: Path) -> "FaceTable":
        """Read what `save` wrote; `root` is the folder that image paths are relative to."""
        frame, meta = _read(path)
        tasks = {task: tuple(classes) for task, classes in meta["tasks"].items()}
        ordered = frozenset(meta["ordered"])
        for task, classes in tasks.items():
            frame[task] = pd.Categorical(frame[task], categories=list(classes), ordered=task in ordered)
        return cls(
            frame=frame,
            root=root,
            tasks=tasks,
            attributes=tuple(meta["attributes"]),
            findings=findings_table(meta["findings"]),
            label_source=meta["label_source"],
            ordered=ordered,
            meta=meta["meta"],
        )


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said of each face: the public table that an audit starts from.

    `frame` has one row a face: `image`; for each task `<task>_pred`, and where known `<task>_true`,
    `<task>_status` ("ok", "no_face", "abstained", "failed") and `<task>_prob_<class>`; then one column for each
    attribute; optional `subject_id` and `weight`. Labels and attributes are categorical; `tasks` gives each task's
    classes in order; `ordered` names the tasks whose classes have an order. times: how many equal faces each row stands
    for; None: one. Rows that stand for several name no image; `left_out` then has the first images by reason,
    and `scores` and `years` count the probabilities and ages of the task that the table was made for.
    """

    frame: pd.DataFrame
    tasks: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    ordered: frozenset[str] = frozenset()
    findings: pd.DataFrame = field(default_factory=findings_table)
    label_source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    times: np.ndarray | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scores: "ScoreCounts | None" = None
    years: "YearCounts | None" = None

    def __len__(self) -> int:
        return len(self.frame) if self.times is None else int(self.times.sum())

    def faces(self, rows: np.ndarray) -> int:
        """Return how many faces the rows at these positions stand for."""
        return len(rows) if self.times is None else int(self.times[rows].sum())

    @property
    def weighted(self) -> bool:
        """Whether the faces have weights."""
        return "weight" in self.frame

    def outline(self, axes: Sequence[str] | None = None) -> "Predictions":
        """Return the table from which axes are chosen: this one, because it is in memory."""
        return self

    def measured(self, names: Sequence[str]) -> list[str]:
        """Return which of `names` are columns of numbers beside the table's own: none, because it holds them."""
        return []

    def of_task(
        self, task: str, axes: Sequence[str], *, numbers: Sequence[str] = (), every_face: bool = False
    ) -> "Predictions":
        """Return the table that a task is counted from on these axes: this one, or its distinct rows if it is large.

        numbers: columns of numbers that are needed; every_face: whether the faces must stay apart.
        """
        from fairaudit.data.condense import condensed

        named = {attribute for by in axes for attribute in subgroups.parse(by)} - set(self.attributes)
        return self if every_face or numbers else condensed(self, task, [name for name in self.tasks if name in named])

    def first_images(self, reason: str, rows: np.ndarray) -> list[str]:
        """Return the first 20 images of the rows at these positions, which were left out for `reason`."""
        if "image" in self.frame:
            return [str(image) for image in self.frame["image"].iloc[rows[:20]]]
        return list(self.left_out.get(reason, ()))

    def subjects(self) -> int | None:
        """Return how many persons the table names, a face without one counting as one; None where it names none."""
        if "subject_id" not in self.frame:
            return None
        return int(self.frame["subject_id"].nunique() + self.frame["subject_id"].isna().sum())

    def save(self, path: Path) -> None:
        """Write one Parquet file in the public format, whole or not at all."""
        meta = predictions_meta(
            self.tasks, self.attributes, self.ordered, self.findings, self.label_source, dict(self.meta)
        )
        _write(self.frame, meta, path)

    def hash(self) -> str:
        """Return a SHA-256 of what was predicted for which face: equal tables, equal hash, whatever the file format."""
        columns = sorted(self.frame.columns)
        digest = hashlib.sha256()
        for start in range(0, len(self.frame), _BLOCK):  # a part at a time: text takes much memory
            part = self.frame.iloc[start : start + _BLOCK]
            rows = np.zeros(len(part), dtype=np.uint64)
            for column in columns:
                rows = rows * np.uint64(0x9E3779B97F4A7C15) + _cell_hashes(part[column])
            digest.update(rows.tobytes())
        return value_hash([columns, digest.hexdigest()])


def _cell_hashes(column: pd.Series) -> np.ndarray:
    """Return a number for each cell, the same for equal text, whatever the type of the column."""
    if pd.api.types.is_float_dtype(column.dtype):
        return pd.util.hash_array(column.to_numpy(dtype=float))
    if isinstance(column.dtype, pd.StringDtype):
        return pd.util.hash_array(column.fillna("").to_numpy(dtype=object), categorize=False)
    codes, values = (
        (column.cat.codes.to_numpy(), column.cat.categories)
        if isinstance(column.dtype, pd.CategoricalDtype)
        else pd.factorize(column)
    )
    text = np.array([*map(str, values), ""], dtype=object)  # the last one is picked by the code −1: missing
    return pd.util.hash_array(text, categorize=False)[codes]


def predictions_meta(
    tasks: Mapping[str, Sequence[str]],
    attributes: Sequence[str],
    ordered: frozenset[str],
    findings: pd.DataFrame,
    label_source: str,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a predictions file says of itself under META_KEY, besides its columns."""
    return {
        "tasks": {task: list(classes) for task, classes in tasks.items()},
        "attributes": list(attributes),
        "ordered": sorted(ordered),
        "findings": findings.values.tolist(),
        "label_source": label_source,
        "meta": dict(meta),
    }


def _write(frame: pd.DataFrame, meta: Mapping[str, Any], path: Path) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), META_KEY: json.dumps(meta, ensure_ascii=False).encode()}
    with atomic_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from None
    raw = (table.schema.metadata or {}).get(META_KEY)
    if raw is None:
        raise DataError(f"{path} was not written by fairaudit: it lacks the table's description")
    return table.to_pandas(), json.loads(raw)
