"""The only parser of axes such as "race:gender", and the only place where subgroup labels are made."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from fairaudit.errors import DataError, UsageError
from fairaudit.registry import suggestion

UNKNOWN = "unknown"
OVERALL = "overall"
CROSS = " × "


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
    attributes = parse(by)
    require(frame.columns, [by])
    codes = np.zeros(len(frame), dtype=np.int64)
    missing = np.zeros(len(frame), dtype=bool)
    orders: list[list[str]] = []
    for attribute in attributes:
        column = frame[attribute]
        order = [value for value in values_in_order(column) if value != UNKNOWN]
        text = column.astype(object).where(column.notna(), None)
        part = pd.Index(order).get_indexer(pd.Index([None if v is None else str(v) for v in text], dtype=object))
        missing |= part < 0
        codes = codes * max(len(order), 1) + np.maximum(part, 0)
        orders.append(order)
    present = np.unique(codes[~missing])
    labels = [_label(int(code), orders) for code in present]
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"axis {by!r}: two different subgroups would both be labelled {twice!r}; rename a value")
    position = np.searchsorted(present, codes)
    position[missing] = len(labels)
    categories = [*labels, UNKNOWN] if missing.any() else labels
    return pd.Categorical(np.array(categories, dtype=object)[position], categories=categories)


def degenerate(groups: pd.Categorical, labels: pd.Series, by: str, task: str) -> str | None:
    """Return why the subgroup determines the task's label on this axis, or None where it does not.

    By name: the task's own attribute is part of the axis. By data: every subgroup holds faces of one label only while
    several labels occur, with at least two labelled faces a subgroup on average (fewer could be chance). On such an
    axis rates that need a second label within the subgroup mean nothing, and reweighing collapses to P(label).
    """
    if task in parse(by):
        return f"on the axis {by} the subgroup determines the label of {task}, because {task} is part of the axis"
    keep = labels.notna().to_numpy() & (np.asarray(groups, dtype=object) != UNKNOWN)
    pairs = pd.DataFrame(
        {"group": np.asarray(groups, dtype=object)[keep], "label": labels.to_numpy(dtype=object)[keep]}
    )
    per_group = pairs.groupby("group")["label"].nunique()
    if len(pairs) < 2 * len(per_group) or pairs["label"].nunique() < 2 or (per_group > 1).any():
        return None
    return f"on the axis {by} the subgroup determines the label of {task}: no subgroup holds two labels in these data"


def _label(code: int, orders: Sequence[Sequence[str]]) -> str:
    parts = []
    for order in reversed(orders):
        code, index = divmod(code, max(len(order), 1))
        parts.append(order[index])
    return CROSS.join(reversed(parts))
