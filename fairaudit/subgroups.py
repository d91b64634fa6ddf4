"""The only parser of axes such as "race:gender", and the only place where subgroup labels are made."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.errors import DataError, UsageError
from fairaudit.registry import suggestion

UNKNOWN = "unknown"
OVERALL = "overall"
CROSS = " × "
MOST_DENSE = 1_000_000  # possible subgroups up to which each has a place in an array


def parse(by: str) -> tuple[str, ...]:
    """Split an axis into its attributes: "race:gender" → ("race", "gender").

    Raises UsageError on an empty part or an attribute named twice.
    """
    parts = tuple(part.strip() for part in by.split(":"))
    if not all(parts) or len(set(parts)) != len(parts):
        raise UsageError(f"{by!r} is no subgroup axis: write attribute names joined by ':', each once ('race:gender')")
    return parts


def nameable(attribute: str) -> bool:
    """Tell whether an attribute can stand in an axis: no colon, no spaces around it, and not the word `overall`."""
    return bool(attribute) and ":" not in attribute and attribute.strip() == attribute != OVERALL


def require(columns: Iterable[str], axes: Iterable[str], what: str = "the data") -> None:
    """Raise UsageError unless every attribute of every axis is among `columns`, naming the columns that exist.

    An attribute named `overall` is refused, too: in every table that name means the whole set.
    """
    known = list(columns)
    for by in axes:
        if OVERALL in parse(by):
            raise UsageError(f"subgroup axis {by!r}: {OVERALL!r} means the whole set; give that column another name")
        for attribute in parse(by):
            if attribute not in known:
                raise UsageError(
                    f"subgroup axis {by!r}: {what} has no attribute {attribute!r}{suggestion(attribute, known)} "
                    f"(it has: {', '.join(known) or 'none'})"
                )


def values_in_order(column: pd.Series) -> list[str]:
    """Return the values of an attribute as text: a categorical's own order, else sorted; missing values left out."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = set(column.dropna().unique())
        return [str(value) for value in column.cat.categories if value in present]
    return sorted({str(value) for value in column.dropna().unique()})


def assign(frame: pd.DataFrame, by: str) -> pd.Categorical:
    """Label every row with its subgroup on the axis `by`: "White × Male", in the order of `by`.

    A row that lacks one of the attributes is labelled `unknown`. Categories are the subgroups that have members, in
    the order of the attributes' values, `unknown` last and only when it has members.
    Raises UsageError for an attribute that the frame lacks, DataError where two subgroups would get the same label.
    """
    codes, missing, orders = _packed(frame, by)
    present = _present(codes, missing, orders)
    labels = [_label(int(code), orders) for code in present]
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"axis {by!r}: two different subgroups would both be labelled {twice!r}; rename a value")
    position = np.searchsorted(present, codes).astype(np.int64)
    position[missing] = len(labels)
    categories = [*labels, UNKNOWN] if missing.any() else labels
    labelled: Any = pd.Categorical.from_codes(position, dtype=pd.CategoricalDtype(categories))
    return labelled


def count(frame: pd.DataFrame, by: str) -> int:
    """Return how many subgroups the axis `by` has, `unknown` not counted."""
    return len(_present(*_packed(frame, by)))


def _packed(frame: pd.DataFrame, by: str) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """Return each row's subgroup as one number, which rows lack an attribute, and the values of each attribute."""
    require(frame.columns, [by])
    codes = np.zeros(len(frame), dtype=np.int64)
    missing = np.zeros(len(frame), dtype=bool)
    orders: list[list[str]] = []
    for attribute in parse(by):
        column = frame[attribute]
        order = [value for value in values_in_order(column) if value != UNKNOWN]
        own, values = _coded(column)
        place = {value: i for i, value in enumerate(order)}
        part = np.array([*(place.get(str(value), -1) for value in values), -1])[own]
        missing |= part < 0
        codes = codes * max(len(order), 1) + np.maximum(part, 0)
        orders.append(order)
    return codes, missing, orders


def _present(codes: np.ndarray, missing: np.ndarray, orders: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the subgroups that have members, in order."""
    size = int(np.prod([max(len(order), 1) for order in orders], dtype=float))
    known = codes[~missing] if missing.any() else codes
    return np.flatnonzero(np.bincount(known, minlength=size)) if size < MOST_DENSE else np.unique(known)


def _coded(column: pd.Series) -> tuple[np.ndarray, Sequence[Any]]:
    """Return the code of each row's value, −1 for none, and the values."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), list(column.cat.categories)
    codes, values = pd.factorize(column)
    return codes, list(values)


def degenerate(
    groups: pd.Categorical, labels: pd.Series, by: str, task: str, times: np.ndarray | None = None
) -> str | None:
    """Return why the subgroup determines the task's label on this axis, or None where it does not.

    By name: the task's own attribute is part of the axis. By data: every subgroup holds faces of one label only while
    several labels occur, with at least two labelled faces a subgroup on average (fewer could be chance). On such an
    axis rates that need a second label within the subgroup mean nothing, and reweighing collapses to P(label). times:
    how many faces each row stands for.
    """
    if task in parse(by):
        return f"on the axis {by} the subgroup determines the label of {task}, because {task} is part of the axis"
    label, classes = _coded(labels)
    unknown = [name == UNKNOWN for name in groups.categories]
    keep = (label >= 0) & ~np.array([*unknown, True])[groups.codes]
    shape = (len(groups.categories), max(len(classes), 1))
    packed = groups.codes[keep].astype(np.int64) * shape[1] + label[keep]
    table = np.bincount(packed, minlength=shape[0] * shape[1]).reshape(shape) > 0
    labels_of_group = table.sum(1)
    faces = keep.sum() if times is None else times[keep].sum()
    several = (labels_of_group > 1).any() or table.any(0).sum() < 2
    if several or faces < 2 * (labels_of_group > 0).sum():
        return None
    return f"on the axis {by} the subgroup determines the label of {task}: no subgroup holds two labels in these data"


def _label(code: int, orders: Sequence[Sequence[str]]) -> str:
    parts = []
    for order in reversed(orders):
        code, index = divmod(code, max(len(order), 1))
        parts.append(order[index])
    return CROSS.join(reversed(parts))
