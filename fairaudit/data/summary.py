"""What a set of faces is made of: counts by label and subgroup, split by split, with unknown and excluded ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fairaudit.data.tables import FaceTable
from fairaudit.subgroups import UNKNOWN, require

FIRST = ("race", "gender", "age")
SPLITS = ("train", "val", "test")
EXAMPLES = 3


def composition(
    faces: FaceTable | pd.DataFrame,
    by: Sequence[str] | None = None,
    *,
    excluded: Sequence[Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Count faces in every cell of the attributes `by` (default: race, gender, age where they exist, then all others).

    Returns one row a cell that has members, in the order of the attributes' values: the attributes' columns (text;
    "unknown" where the label is missing), then the counts `train`, `val` and `test` where the faces are split, `n`
    (faces in the table) and `excluded` (faces left out whose labels, as far as known, are these). Counts are faces.
    A plain frame may be given with `excluded` records like those of `FaceTable.meta["excluded"]`.
    Raises UsageError for an attribute that the data lack.
    """
    frame = faces.frame if isinstance(faces, FaceTable) else faces
    left_out = list(excluded if excluded is not None else _excluded_of(faces))
    attributes = list(by) if by is not None else _default_attributes(faces)
    require(frame.columns, attributes)
    orders = {name: _order(frame[name], [record.get(name, UNKNOWN) for record in left_out]) for name in attributes}
    text = frame[attributes].astype(object)
    cells = text.where(text.notna(), UNKNOWN).astype(str)
    counts = {name: (frame["split"] == name).astype(int) for name in SPLITS if "split" in frame}
    table = cells.assign(**counts, n=1, excluded=0)
    if left_out:
        rows = [{name: str(record.get(name, UNKNOWN)) for name in attributes} for record in left_out]
        gone = pd.DataFrame(rows, columns=attributes).assign(**dict.fromkeys([*counts, "n"], 0))
        gone["excluded"] = [int(record["n"]) for record in left_out]
        table = pd.concat([table, gone[table.columns]], ignore_index=True)
    for name, order in orders.items():
        table[name] = pd.Categorical(table[name], categories=order)
    if not attributes:
        return table.sum().to_frame().T
    summed = table.groupby(attributes, observed=True, sort=True).sum().reset_index()
    return summed.astype(dict.fromkeys(attributes, object))


def findings_summary(findings: pd.DataFrame) -> pd.DataFrame:
    """Count findings by kind and action, commonest first.

    Returns columns kind, action, count (rows of `findings`) and examples (up to three, each "image: detail").
    """
    rows = []
    for (kind, action), group in findings.groupby(["kind", "action"], sort=False):
        shown = group.head(EXAMPLES)
        examples = [f"{i}: {d}" if i else str(d) for i, d in zip(shown["image"], shown["detail"], strict=True)]
        rows.append((kind, action, len(group), "; ".join(examples)))
    table = pd.DataFrame(rows, columns=["kind", "action", "count", "examples"])
    return table.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def _excluded_of(faces: FaceTable | pd.DataFrame) -> Sequence[Mapping[str, Any]]:
    return faces.meta.get("excluded", ()) if isinstance(faces, FaceTable) else ()


def _default_attributes(faces: FaceTable | pd.DataFrame) -> list[str]:
    """Return race, gender and age where they exist, then every other attribute; of a frame, its categorical columns."""
    if isinstance(faces, FaceTable):
        known = [*faces.tasks, *faces.attributes]
    else:
        known = [str(name) for name in faces if isinstance(faces[name].dtype, pd.CategoricalDtype)]
        known = known or [name for name in FIRST if name in faces]
    return [*(name for name in FIRST if name in known), *(name for name in known if name not in FIRST)]


def _order(column: pd.Series, more: Sequence[str]) -> list[str]:
    """Return every value in the order in which it is shown: the categorical's own, else sorted; `unknown` last."""
    others = {str(value) for value in more} - {UNKNOWN}
    if isinstance(column.dtype, pd.CategoricalDtype):
        own = [str(value) for value in column.cat.categories if value != UNKNOWN]
        return [*own, *sorted(others - set(own)), UNKNOWN]
    return [*sorted(({str(value) for value in column.dropna()} | others) - {UNKNOWN}), UNKNOWN]
