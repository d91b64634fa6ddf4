"""What a predictions table may not contain: contradicting statuses and impossible numbers."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from fairaudit.errors import DataError

STATUSES = ("no_face", "abstained", "failed")
NO_PREDICTION = "no_prediction_given"


def examples(values: Iterable[object], most: int = 3) -> str:
    """Return the first distinct values in quotes, for a message."""
    distinct = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(repr(value) for value in distinct[:most]) + (", …" if len(distinct) > most else "")


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
            frame.drop(columns=column, inplace=True)
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
        frame["weight"] = weights


def _numbers(column: pd.Series, name: str, where: str) -> pd.Series:
    raw = column.replace("", np.nan) if column.dtype == object or pd.api.types.is_string_dtype(column.dtype) else column
    numbers = pd.to_numeric(raw, errors="coerce").astype(float)
    strange = raw[raw.notna() & numbers.isna()]
    if len(strange):
        raise DataError(f"{where}: {len(strange)} values of {name} are no numbers ({examples(strange)})")
    return numbers
