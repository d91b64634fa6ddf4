"""What a predictions table may not contain: contradicting statuses and impossible numbers."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.errors import DataError

STATUSES = ("no_face", "abstained", "failed")
NO_PREDICTION = "no_prediction_given"
# findings that a reader of the audit must be told first: each may turn every number into nonsense
SUSPICIOUS = ("names_disagree", "names_alike", "looks_missing")
_MISSING_WORDS = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "nat", "-nan"))
# their squares and the sums of those are still ordinary floats
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-100, 1e100
_WHOLE = re.compile(r"-?\d+(\.0)?")


def examples(values: Iterable[object], most: int = 3) -> str:
    """Return the first distinct values in quotes, for a message."""
    distinct = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(repr(value) for value in distinct[:most]) + (", …" if len(distinct) > most else "")


def without_fraction(column: pd.Series) -> pd.Series | None:
    """Return a text column of whole numbers without their ".0", or None where it is no such column.

    A CSV file has "1.0" for 1 where the column had a gap; the other column of the task would still say "1".
    """
    distinct = [str(value) for value in column.dropna().unique()]
    if not any(value.endswith(".0") for value in distinct) or not all(map(_WHOLE.fullmatch, distinct)):
        return None
    return column.map(lambda value: value.removesuffix(".0"), na_action="ignore")


def joined_probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """Add up the probabilities of classes that a map made one: columns that now have the same name.

    Raises DataError for a value that is no number.
    """
    for name in frame.columns[frame.columns.duplicated()].unique():
        parts = frame.loc[:, frame.columns == name]
        numbers = [_numbers(parts.iloc[:, i], str(name), "the table").to_numpy() for i in range(parts.shape[1])]
        total = np.sum(numbers, axis=0)
        # shares that were rounded may add up to a little over 1
        total = np.where((total > 1) & (total < 1 + 1e-6), 1.0, total)
        frame = frame.drop(columns=name).assign(**{name: total})
    return frame


def check_names(frame: pd.DataFrame, name: str, declared: bool, findings: list[tuple[str, str, str, str]]) -> None:
    """Look for values that are probably one name spelled twice, or a missing cell spelled as a word.

    Of a task (`name` has a column `<name>_pred`) both columns are looked at together; `declared`: its classes are
    given by whoever made the table. Raises DataError where two undeclared classes differ only in case or spaces.
    """
    task = f"{name}_pred" in frame
    columns = [c for c in ((f"{name}_true", f"{name}_pred") if task else (name,)) if c in frame]
    sets = {column: {str(value) for value in frame[column].dropna().unique()} for column in columns}
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
        findings.append(("names_alike", "", "kept", f"{said}, and are kept apart"))
    for column, found in sets.items():
        for value in sorted(v for v in found if v.strip().lower() in _MISSING_WORDS):
            count = int((frame[column] == value).sum())
            said = f"{count} cells of {column} hold {value!r}, which is taken as a name: an empty cell means missing"
            findings.append(("looks_missing", "", "kept", said))
    if len(columns) == 2 and all(sets.values()) and not set.intersection(*sets.values()):
        label, prediction = (examples(sorted(sets[column])) for column in columns)
        said = f"{name}: no prediction is any of the labels ({prediction} against {label}); same meaning? map the names"
        findings.append(("names_disagree", "", "kept", said))


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


def check_statuses(frame: pd.DataFrame, task: str, findings: list[tuple[str, str, str, str]]) -> None:
    """Make `<task>_status` a column of "ok", a reason, or None (no prediction and no reason: listed, out of rates).

    Raises DataError for an unknown status, and for a reason that stands beside a prediction: which of the two holds
    cannot be known, and it changes the rates.
    """
    name, given = f"{task}_status", frame[f"{task}_pred"].notna()
    status = frame[name] if name in frame else pd.Series([None] * len(frame), dtype=object)
    strange = status[status.notna() & ~status.isin(["ok", *STATUSES])]
    if len(strange):
        raise DataError(f"{name} holds {examples(strange)}; allowed: ok (or empty), {', '.join(STATUSES)}")
    both = given & status.isin(STATUSES)
    if both.any():
        raise DataError(
            f"{int(both.sum())} rows have a {task}_pred and the {name} {examples(status[both])} "
            f"(images {examples(frame['image'][both])}): leave {task}_pred empty where there was no prediction, "
            f"or {name} empty where there was one"
        )
    missing = ~given & ~status.isin(STATUSES)
    findings.extend(
        (NO_PREDICTION, str(image), "excluded", f"{task}_pred is empty and {name} gives no reason")
        for image in frame["image"][missing]
    )
    cleaned = status.where(~given, "ok").where(~missing, None)
    frame[name] = pd.Series(cleaned.to_numpy(dtype=object), dtype=object)


def check_numbers(
    frame: pd.DataFrame, task: str, classes: Sequence[str], where: str, findings: list[tuple[str, str, str, str]]
) -> None:
    """Turn probabilities and weights into floats; a probability of a class that never occurs is listed and left out.

    Raises DataError for a probability outside 0…1, and for a weight that is missing, not finite or not above 0.
    """
    prefix = f"{task}_prob_"
    for column in [c for c in frame.columns if c.startswith(prefix)]:
        if column.removeprefix(prefix) not in classes:
            findings.append(
                ("class_never_met", "", "listed", f"{column} is of no class that a label or prediction has")
            )
            del frame[column]
            continue
        numbers = _numbers(frame[column], column, where)
        outside = numbers[(numbers < 0) | (numbers > 1)]
        if len(outside):
            raise DataError(f"{where}: {len(outside)} values of {column} lie outside 0…1 ({examples(outside)})")
        frame[column] = numbers
    if "weight" in frame:
        weights = _numbers(frame["weight"], "weight", where)
        bad = ~(np.isfinite(weights) & (weights > 0))
        if bad.any():
            raise DataError(
                f"{where}: {int(bad.sum())} weights are missing, not finite or not above 0 (images "
                f"{examples(frame['image'][bad])}); every weight must be positive; leave faces out by leaving out rows"
            )
        if weights.min() < _LEAST_WEIGHT or weights.max() > _MOST_WEIGHT:
            raise DataError(
                f"{where}: weights reach from {weights.min():g} to {weights.max():g}; allowed: {_LEAST_WEIGHT:g} to "
                f"{_MOST_WEIGHT:g}. Divide all by one number"
            )
        frame["weight"] = weights


def _numbers(column: pd.Series, name: str, where: str) -> pd.Series:
    raw = column.replace("", np.nan) if column.dtype == object or pd.api.types.is_string_dtype(column.dtype) else column
    numbers = pd.to_numeric(raw, errors="coerce").astype(float)
    strange = raw[raw.notna() & numbers.isna()]
    if len(strange):
        raise DataError(f"{where}: {len(strange)} values of {name} are no numbers ({examples(strange)})")
    return numbers
