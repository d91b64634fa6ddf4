"""Where a predictions table is read from: what the reading rules ask of it, and a table in memory that answers.

`shards.py` answers the same questions for a folder of files that may be larger than memory.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.columns import Column, as_text, categorical, factorized
from fairaudit.data.predictions_check import (
    Finding,
    check_weight_range,
    description,
    examples,
    joined_probabilities,
    numbers,
    out_of_range,
)
from fairaudit.data.tables import META_KEY, Predictions, findings_table
from fairaudit.errors import DataError
from fairaudit.wording import plural

# columns of our own tables that describe a file or a split, and never a group of people
NOT_ATTRIBUTES = frozenset(
    (
        *("image", "subject_id", "weight", "label_source", "sha256", "split", "trainable", "path"),
        *("age_years", "age_true_years", "age_pred_years"),
    )
)
YEARS = ("age_true_years", "age_pred_years")
MOST_MEASUREMENTS = 20  # columns of numbers beyond these (embeddings, say) are left behind
KEPT = ("subject_id", "weight", "label_source", "sha256", "split", "age_years")
Where = Mapping[str, np.ndarray]  # column → which of its distinct values are meant, bool (U + 1,); last: no value


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the rules made of a table: every label and attribute column's codes, and the words that go with them.

    codes: column → class or value of each distinct value, −1 for missing, one more −1 at the end. status: task → the
    status text of each distinct value. years: the columns that held ages in years before these became bins → the
    years of each distinct value, NaN for none, with one more NaN at the end.
    """

    tasks: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, np.ndarray]
    serving: Mapping[str, str]
    status: Mapping[str, np.ndarray]
    ordered: frozenset[str]
    findings: Sequence[Finding]
    label_source: str
    meta: Mapping[str, Any]
    years: Mapping[str, np.ndarray] = field(default_factory=dict)


class Source(Protocol):
    """A table that is being read: its columns, and answers about their distinct values."""

    where: str
    described: dict[str, Any]
    columns: list[str]
    orders: dict[str, list[str]]

    def __len__(self) -> int: ...

    def rename(self, names: Mapping[str, str]) -> None:
        """Give columns other names: old → new."""

    def join(self, names: Mapping[str, str]) -> None:
        """Rename columns of probabilities; those that get one name are added up."""

    def column(self, name: str) -> Column:
        """Return the distinct values of a column."""

    def joint(self, first: str, second: str) -> pd.DataFrame:
        """Return how often pairs of values occur: columns `first`, `second` (codes, −1: none) and `count`."""

    def faces(self, where: Where, column: str | None = None) -> list[tuple[str, int, int]]:
        """Return the rows meant, in the table's order: image, code of `column` (else −1), and for how many it stands.

        A table on disk names its first rows only; the last one named stands for all others.
        """

    def check_images(self) -> bool:
        """Make sure that every row names its image once; return True where there is no such column."""

    def check_probabilities(self, columns: Sequence[str]) -> None:
        """Raise DataError for a value that is no number in 0…1 (or missing)."""

    def check_weights(self) -> None:
        """Raise DataError for a weight that is missing, not finite, not above 0, or whose square is no float."""

    def made(self, reading: Reading) -> Any:
        """Return the predictions as the rules read them."""


class FrameSource:
    """A table in memory."""

    def __init__(self, source: Path | str | pd.DataFrame) -> None:
        self.frame, self.described, self.orders = _loaded(source)
        self.where = "the table" if isinstance(source, pd.DataFrame) else str(source)
        self.columns = list(self.frame.columns)
        self._codes: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def rename(self, names: Mapping[str, str]) -> None:
        self.frame = self.frame.rename(columns=names)
        self.orders = {names.get(name, name): order for name, order in self.orders.items()}
        self.columns = list(self.frame.columns)

    def join(self, names: Mapping[str, str]) -> None:
        self.frame = joined_probabilities(self.frame.rename(columns=names))
        self.columns = list(self.frame.columns)

    def column(self, name: str) -> Column:
        self._codes[name], column = factorized(self.frame[name])
        return column

    def joint(self, first: str, second: str) -> pd.DataFrame:
        a, b = (self._codes[name].astype(np.int64) + 1 for name in (first, second))
        width = int(b.max(initial=0)) + 1
        packed, count = np.unique(a * width + b, return_counts=True)
        return pd.DataFrame({first: packed // width - 1, second: packed % width - 1, "count": count})

    def faces(self, where: Where, column: str | None = None) -> list[tuple[str, int, int]]:
        meant = np.logical_and.reduce([mask[self._codes[name]] for name, mask in where.items()])
        rows = np.flatnonzero(meant)
        codes = self._codes[column][rows] if column else np.full(len(rows), -1)
        return [(str(image), int(code), 1) for image, code in zip(self.frame["image"].iloc[rows], codes, strict=True)]

    def check_images(self) -> bool:
        if "image" not in self.columns:
            self.frame = self.frame.assign(image=[f"row {i + 1}" for i in range(len(self.frame))])
            return True
        image = text_column(self.frame["image"])
        self.frame["image"] = image
        empty = (image.isna() | (image == "")).to_numpy()
        if empty.any():
            raise DataError(empty_images(int(empty.sum()), int(empty.argmax()) + 1))
        if image.nunique() < len(image):
            twice = image[image.duplicated()]
            raise DataError(repeated_images(twice.nunique(), twice))
        return False

    def check_probabilities(self, columns: Sequence[str]) -> None:
        for column in columns:
            values = numbers(self.frame[column], column, self.where)
            outside = values[(values < 0) | (values > 1)]
            if len(outside):
                raise DataError(f"{self.where}: {out_of_range(len(outside), column)} ({examples(outside)})")
            self.frame[column] = values

    def check_weights(self) -> None:
        weights = numbers(self.frame["weight"], "weight", self.where)
        bad = ~(np.isfinite(weights) & (weights > 0))
        if bad.any():
            raise DataError(bad_weights(self.where, int(bad.sum()), self.frame["image"][bad]))
        check_weight_range(self.where, float(weights.min()), float(weights.max()))
        self.frame["weight"] = weights

    def made(self, reading: Reading) -> Predictions:
        out: dict[str, Any] = {"image": self.frame["image"]}
        for task, classes in reading.tasks.items():
            own = [c for c in self.columns if c in (f"{task}_true", f"{task}_pred", f"{task}_status")]
            own += [c for c in self.columns if c in {f"{task}_prob_{name}" for name in classes}]
            for column in sorted({*own, f"{task}_status"}, key=[*self.columns, f"{task}_status"].index):
                if column == f"{task}_status":
                    out[column] = self._status(reading, task)
                elif column in reading.codes:
                    out[column] = self._categorical(reading.codes[column], column, classes)
                else:
                    out[column] = self.frame[column]
        for name, values in reading.attributes.items():
            out[name] = self._categorical(reading.codes[name], reading.serving.get(name, name), values)
        for name in KEPT:
            if name in self.columns:
                out[name] = text_column(self.frame[name]) if name == "subject_id" else self.frame[name]
        for name in YEARS:  # our own tables hold them beside the bins
            column = name.removesuffix("_years")
            if column in reading.years:
                out[name] = reading.years[column][self._codes[column]]
            elif name in self.columns:
                out[name] = numbers(self.frame[name], name, self.where)
        out |= self._measurements(set(out) | NOT_ATTRIBUTES)
        return Predictions(
            frame=pd.DataFrame(out).reset_index(drop=True),
            tasks=reading.tasks,
            attributes=tuple(reading.attributes),
            ordered=reading.ordered,
            findings=findings_table([finding[:4] for finding in reading.findings]),
            label_source=reading.label_source,
            meta=reading.meta,
        )

    def _measurements(self, taken: set[str]) -> dict[str, pd.Series]:
        """Return the first columns of numbers that are no labels, attributes or probabilities.

        They are no axes, but gaps can be adjusted for them.
        """
        found: dict[str, pd.Series] = {}
        for name in self.columns:
            if name not in taken and may_be_measured(name) and len(found) < MOST_MEASUREMENTS:
                values = measured(self.frame[name])
                if values is not None:
                    found[name] = values
        return found

    def _categorical(self, codes: np.ndarray, column: str, values: Sequence[str]) -> Any:
        return categorical(codes[self._codes[column]], values)

    def _status(self, reading: Reading, task: str) -> pd.Series:
        """Return "ok" for a prediction, else the reason given, else None."""
        given = (reading.codes[f"{task}_pred"] >= 0)[self._codes[f"{task}_pred"]]
        text = np.full(len(self.frame), None, dtype=object)
        if task in reading.status:
            text = reading.status[task][self._codes[f"{task}_status"]]
        return pd.Series(status_column(text, given), dtype=object)


def may_be_measured(name: str) -> bool:
    """Tell whether a column that is no attribute may hold numbers that gaps can be adjusted for, by its name."""
    return not (name in NOT_ATTRIBUTES or name.endswith(("_true", "_pred", "_status")) or "_prob_" in name)


def measured(cells: pd.Series) -> pd.Series | None:
    """Return a column of numbers as numbers; None where it has none, or a cell that is neither a number nor empty."""
    values = pd.to_numeric(cells.replace("", np.nan), errors="coerce")
    strange = values.isna() & cells.notna() & (cells != "")
    return values if values.notna().any() and not strange.any() else None


def status_column(text: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return "ok" for each row with a prediction, else the reason given, else None."""
    status = text.copy()
    status[status == "ok"] = None
    status[given] = "ok"
    return status


def text_column(column: pd.Series | np.ndarray) -> pd.Series:
    """Return a column as text; a column of strings stays as it is, because it is large."""
    column = pd.Series(column)
    if isinstance(column.dtype, pd.StringDtype):
        return column.mask(column == "")
    return pd.Series(as_text(column), dtype=object)


def empty_images(count: int, first: int) -> str:
    """Return the word on rows without an image."""
    return f"{plural(count, 'row has', 'rows have')} an empty `image` (first: row {first}); name every image"


def repeated_images(count: int, some: Any) -> str:
    """Return the word on images that occur more than once."""
    return (
        f"{plural(count, 'image occurs', 'images occur')} more than once ({examples(some)}); an audit counts each "
        "face once: keep one row an image, or give each picture a name of its own"
    )


def bad_weights(where: str, count: int, some: Any) -> str:
    """Return the word on weights that are none."""
    return (
        f"{where}: {count} weights are missing, not finite or not above 0 (images "
        f"{examples(some)}); every weight must be positive; leave faces out by leaving out rows"
    )


def _loaded(source: Path | str | pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any], dict[str, list[str]]]:
    """Return the raw table, our own description if it has one, and the order of the values of categorical columns."""
    if isinstance(source, pd.DataFrame):
        frame, orders = source.reset_index(drop=True), _orders(source)
        described: dict[str, Any] = {}
    else:
        path = Path(source)
        if not path.is_file():
            what = "is a folder, not a table" if path.is_dir() else "does not exist"
            raise DataError(f"predictions {path} {what}; give a CSV or Parquet file")
        frame, described, orders = from_parquet(path) if is_parquet(path) else (from_csv(path), {}, {})
    if frame.empty or not len(frame.columns):
        raise DataError(f"{source if not isinstance(source, pd.DataFrame) else 'the table'} holds no row to audit")
    frame.columns = pd.Index(check_columns(list(frame.columns)))
    return frame, described, orders


def check_columns(columns: Sequence[Any]) -> list[str]:
    """Return the columns' names as text. Raises DataError where a name occurs twice."""
    names = [str(column) for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"column {twice[0]!r} occurs twice; every column needs a name of its own")
    return names


def _orders(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the order of the values of every categorical column: what a typed table knows and text loses."""
    found = {}
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            found[str(column)] = [str(value) for value in frame[column].cat.categories]
    return found


def is_parquet(path: Path) -> bool:
    """Tell whether a file is a Parquet file, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


@contextmanager
def csv_errors(path: Path) -> Iterator[None]:
    """Turn what pandas says of a bad CSV file into a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; a predictions table needs a header and rows") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} is no readable CSV table in UTF-8: {' '.join(str(error).split())}") from None


# text stays verbatim: only an empty cell is missing
CSV_OPTIONS: Mapping[str, Any] = {
    "dtype": str,
    "keep_default_na": False,
    "na_filter": False,
    "encoding": "utf-8-sig",
}


def csv_header(path: Path, columns: Sequence[Any]) -> list[str]:
    """Return the header of a CSV file as it stands: pandas would rename a repeated column to `x.1`."""
    names = [str(column) for column in columns]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(f"{path} has one column, {names[0]!r}: separate the columns by commas")
    header = pd.read_csv(path, header=None, nrows=1, **CSV_OPTIONS)
    return [str(name) for name in header.iloc[0]] if len(header.columns) == len(names) else names


def from_csv(path: Path) -> pd.DataFrame:
    """Read a CSV table, every cell as text. Raises DataError where it is none."""
    with csv_errors(path):
        frame = pd.read_csv(path, index_col=False, **CSV_OPTIONS)
        frame.columns = pd.Index(csv_header(path, list(frame.columns)))
    return frame


def from_parquet(path: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, list[str]]]:
    """Read a Parquet table, its own description, and the order of its categorical columns.

    Text columns are read as dictionaries: a label takes a byte a row instead of a string. Raises DataError for a file
    that is damaged.
    """
    with parquet_errors(path):
        schema = pq.read_schema(path)
        text = [f.name for f in schema if pa.types.is_string(f.type) and f.name not in NOT_ATTRIBUTES]
        repeated = len(set(schema.names)) < len(schema.names)
        table = pq.read_table(path, read_dictionary=None if repeated else text).unify_dictionaries()
    raw = (table.schema.metadata or {}).get(META_KEY)
    described = description(raw, str(path)) if raw else {}
    frame = table.to_pandas(split_blocks=True, self_destruct=True).reset_index(drop=True)
    typed = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    return frame, described, {} if repeated else _orders(frame[typed])


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged Parquet file into a DataError."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from None
