"""What a predictions table may not contain: contradicting statuses and impossible numbers."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.columns import Column
from fairaudit.errors import DataError
from fairaudit.wording import plural

STATUSES = ("no_face", "abstained", "failed")
NO_PREDICTION = "no_prediction_given"
NO_LABEL = "no_label_given"
# findings that a reader of the audit must be told first: each may turn every number into nonsense
SUSPICIOUS = ("names_disagree", "names_alike", "looks_missing")
_MISSING_WORDS = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "nat", "-nan"))
# their squares and the sums of those are still ordinary floats
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-100, 1e100
Finding = tuple[str, str, str, str, int]  # kind, image, action, detail; for how many rows it stands


def examples(values: Iterable[object], most: int = 3) -> str:
    """Return the first distinct values in quotes, for a message."""
    distinct = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(repr(value) for value in distinct[:most]) + (", …" if len(distinct) > most else "")


def joined_probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """Add up the probabilities of classes that a map made one: columns that now have the same name.

    Raises DataError for a value that is no number.
    """
    for name in frame.columns[frame.columns.duplicated()].unique():
        parts = frame.loc[:, frame.columns == name]
        values = [numbers(parts.iloc[:, i], str(name), "the table").to_numpy() for i in range(parts.shape[1])]
        total = np.sum(values, axis=0)
        # shares that were rounded may add up to a little over 1
        total = np.where((total > 1) & (total < 1 + 1e-6), 1.0, total)
        frame = frame.drop(columns=name).assign(**{name: total})
    return frame


def check_names(columns: Mapping[str, Column], name: str, declared: bool, findings: list[Finding]) -> None:
    """Look for values that are probably one name spelled twice, or a missing cell spelled as a word.

    Of a task (`name` has a column `<name>_pred`) both columns are looked at together; `declared`: its classes are
    given by whoever made the table. Raises DataError where two undeclared classes differ only in case or spaces.
    """
    task = f"{name}_pred" in columns
    own = [c for c in ((f"{name}_true", f"{name}_pred") if task else (name,)) if c in columns]
    sets = {column: set(columns[column].seen()) for column in own}
    values = sorted(set().union(*sets.values()))
    alike: dict[str, list[str]] = {}
    for value in values:
        alike.setdefault(" ".join(value.split()).casefold(), []).append(value)
    for first, second, *_ in (group for group in alike.values() if len(group) > 1):
        said = f"{name}: {first!r} and {second!r} differ only in case or spaces"
        if task and not declared:
            raise DataError(
                f"{said}; map one to the other (--value '{name}.{second}={first}'), "
                "or give all classes where they really are two"
            )
        findings.append(("names_alike", "", "kept", f"{said}, and are kept apart", 1))
    for column, found in sets.items():
        for value in sorted(v for v in found if v.strip().lower() in _MISSING_WORDS):
            count = columns[column].rows(value)
            cells = plural(count, f"cell of {column} holds", f"cells of {column} hold")
            said = f"{cells} {value!r}, which is taken as a name: an empty cell means missing"
            findings.append(("looks_missing", "", "kept", said, 1))
    if len(own) == 2 and all(sets.values()) and not set.intersection(*sets.values()):
        label, prediction = (examples(sorted(sets[column])) for column in own)
        said = f"{name}: no prediction is any of the labels ({prediction} against {label}); same meaning? map the names"
        findings.append(("names_disagree", "", "kept", said, 1))


def description(raw: bytes, where: str) -> dict[str, Any]:
    """Return what one of our own Parquet files says of itself. Raises DataError where that is damaged."""
    try:
        told = json.loads(raw)
        fits = (
            isinstance(told, dict)
            and all(isinstance(told.get(name, {}), dict) for name in ("tasks", "meta"))
            and all(map(_texts, told.get("tasks", {}).values()))
            and all(_texts(told.get(name, [])) for name in ("attributes", "ordered"))
            and isinstance(told.get("findings", []), list)
            and all(_texts(row) and len(row) == 4 for row in told.get("findings", []))
        )
    except ValueError:
        fits = False
    if not fits:
        raise DataError(f"{where}: the description that fairaudit stored in it is damaged; write the table again")
    return told


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def check_weight_range(where: str, least: float, most: float) -> None:
    """Raise DataError for weights whose squares or their sums would be no ordinary floats."""
    if least < _LEAST_WEIGHT or most > _MOST_WEIGHT:
        raise DataError(
            f"{where}: weights reach from {least:g} to {most:g}; allowed: {_LEAST_WEIGHT:g} to "
            f"{_MOST_WEIGHT:g}. Divide all by one number"
        )


def no_numbers(count: int, name: str) -> str:
    """Return the word on text in a column of numbers."""
    return plural(count, f"value of {name} is no number", f"values of {name} are no numbers")


def out_of_range(count: int, name: str) -> str:
    """Return the word on probabilities below 0 or above 1."""
    return plural(count, f"value of {name} lies", f"values of {name} lie") + " outside 0…1"


def numbers(column: pd.Series, name: str, where: str) -> pd.Series:
    """Return a column as floats, an empty cell as NaN. Raises DataError for a value that is no number."""
    if pd.api.types.is_float_dtype(column.dtype):
        return column.astype(float)
    column = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
    raw = column.replace("", np.nan) if column.dtype == object or pd.api.types.is_string_dtype(column.dtype) else column
    found = pd.to_numeric(raw, errors="coerce").astype(float)
    strange = raw[raw.notna() & found.isna()]
    if len(strange):
        raise DataError(f"{where}: {no_numbers(len(strange), name)} ({examples(strange)})")
    return found
