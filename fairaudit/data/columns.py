"""One column of a table as its distinct values.

The rules that read a table look at these, never at single rows: so they cost the same for a thousand and for a billion
faces, and hold alike for a table in memory and for shards on disk.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

_WHOLE = re.compile(r"-?\d+(\.0)?")


@dataclass
class Column:
    """The distinct values of a column: `text` of each (object, (U,); None: missing) and `count` of rows (int64, (U,)).

    The rules replace `text` while they map and bin; several values may come to have the same text. missing: rows
    without a value. many: number of distinct values where these are too many to be looked at (`text` is then empty).
    cut: whether whole numbers were written with ".0", which they have lost.
    """

    text: np.ndarray
    count: np.ndarray
    missing: int = 0
    many: int = 0
    cut: bool = False

    def seen(self) -> list[str]:
        """Return the distinct texts, sorted."""
        return sorted({str(text) for text in self.text if text is not None})

    def distinct(self) -> int:
        """Return the number of distinct texts."""
        return self.many or len(self.seen())

    def rows(self, text: str) -> int:
        """Return how many rows hold `text`."""
        return int(self.count[self.text == text].sum())

    def known(self) -> np.ndarray:
        """Return which values have a text, bool (U,)."""
        return np.array([text is not None for text in self.text], dtype=bool)

    def within(self, texts: Iterable[str]) -> np.ndarray:
        """Return which values have one of `texts`, bool (U,)."""
        allowed = set(texts)
        return np.array([text in allowed for text in self.text], dtype=bool)

    def codes(self, order: Iterable[str]) -> np.ndarray:
        """Return the position of each value's text in `order`, −1 for missing, with one more −1 at the end.

        A row's code −1 (no value at all) picks that last entry.
        """
        position = {text: i for i, text in enumerate(order)}
        return np.array([*(position.get(text, -1) for text in self.text), -1], dtype=np.int16)


def as_text(column: pd.Series) -> np.ndarray:
    """Return a column as text or None: whole floats without ".0", only an empty or missing cell is missing."""
    if pd.api.types.is_float_dtype(column.dtype):
        column = column + 0.0  # −0.0 is 0.0
        known = column.dropna()
        if np.isfinite(known).all() and (known == known.round()).all() and (known.abs() < 2**53).all():
            column = column.astype("Int64")
    missing = column.isna().to_numpy()
    text = np.array([None if gone else str(value) for value, gone in zip(column, missing, strict=True)], dtype=object)
    text[text == ""] = None
    return text


def column_of(values: pd.Series, count: np.ndarray) -> Column:
    """Return the column with these distinct `values`; count[0] rows have none, count[1 + i] the value i."""
    text = as_text(values.reset_index(drop=True))
    cut = fractions(text)
    if cut:  # "1.0" for 1 stands where a column had a gap; the other column of the task would still say "1"
        text = np.array([None if value is None else value.removesuffix(".0") for value in text], dtype=object)
    return Column(text=text, count=count[1:].astype(np.int64), missing=int(count[0]), cut=cut)


def factorized(column: pd.Series) -> tuple[np.ndarray, Column]:
    """Return the code of each row's value (−1: none) and the distinct values as text.

    Values of a mixed column are told apart by their text: 1 and True are equal in Python, but two names.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), pd.Series(column.cat.categories)
    else:
        if column.dtype == object:
            column = pd.Series(as_text(column), dtype=object)
        codes, unique = pd.factorize(column)
        values = pd.Series(unique)
    count = np.bincount(codes + 1, minlength=len(values) + 1)
    used = count[1:] > 0
    if not used.all():
        renumbered = np.append(np.cumsum(used) - 1, -1)
        codes, values, count = renumbered[codes], values[used], np.append(count[:1], count[1:][used])
    small = np.int8 if len(values) < 127 else np.int16 if len(values) < 2**15 - 1 else np.int32
    return codes.astype(small), column_of(values, count)


def fractions(text: Iterable[str | None]) -> bool:
    """Tell whether all values are whole numbers and some are written with ".0"."""
    known = [value for value in text if value is not None]
    return any(value.endswith(".0") for value in known) and all(map(_WHOLE.fullmatch, known))


def categorical(codes: np.ndarray, values: Iterable[str] | pd.IntervalIndex) -> Any:
    """Return a categorical column of `values` (or bins of numbers) from their codes, −1 for missing."""
    kept = values if isinstance(values, pd.IntervalIndex) else list(values)
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(kept))
