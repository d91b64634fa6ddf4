"""Read the public predictions table: CSV, Parquet or a DataFrame, from anybody's model.

`image`, then per task `<task>_true`, `<task>_pred`, `<task>_status`, `<task>_prob_<class>`, then attribute columns;
optional `subject_id`, `weight`, `label_source`. Text is kept verbatim: only an empty cell is missing, "NA" is a name.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.predictions_check import (
    check_names,
    check_numbers,
    check_statuses,
    description,
    examples,
    joined_probabilities,
    without_fraction,
)
from fairaudit.data.tables import META_KEY, Predictions, findings_table
from fairaudit.data.taxonomy import SCHEMES, age_bins, scheme_of
from fairaudit.errors import DataError, UsageError
from fairaudit.registry import suggestion
from fairaudit.subgroups import UNKNOWN, nameable

MOST_VALUES = 50
# columns of our own tables that describe a file or a split, and never a group of people
NOT_ATTRIBUTES = frozenset(
    ("image", "subject_id", "weight", "label_source", "sha256", "split", "trainable", "age_years", "path")
)
Finding = tuple[str, str, str, str]


def read_predictions(
    source: Path | str | pd.DataFrame,
    *,
    rename: Mapping[str, str] | None = None,
    values: Mapping[str, Mapping[str, str]] | None = None,
    tasks: Sequence[str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    attributes: Sequence[str] | None = None,
) -> Predictions:
    """Return what a model said of each face, checked, with everything unusual listed in `findings`.

    rename: our column name → the table's. values: per attribute, task or column, the table's value → ours. tasks: those
    to keep (default: every `X_pred`). classes: per task in order (default: those the table's own description gives,
    else the values of both columns, a known scheme in its order, an ordered scheme whole). attributes: columns to keep
    as attributes (default: every other column of at most 50 values; without any, the `X_true` of race, gender and age).

    A numeric `age` (also `age_true`, `age_pred`) in years becomes the nine bins. An empty prediction with a status is
    an outcome; without one it is listed as `no_prediction_given` and left out of rates. A table without `image` gets
    row numbers, and cannot be compared. Raises UsageError for names that the table lacks, DataError for a table that is
    unreadable, contradicts itself, or holds labels outside `classes`, repeated images, or impossible numbers.
    """
    frame, described = _load(source)
    where = "the table" if isinstance(source, pd.DataFrame) else str(source)
    frame = _renamed(frame, rename or {}, where)
    findings: list[Finding] = [(*row,) for row in described.get("findings", [])]
    names = _tasks(frame, tasks, where)
    found = _attributes(frame, names, attributes, described, findings)
    orders = _orders(frame, values or {})
    frame = _mapped(frame, values or {}, [*names, *found], findings)
    for column in ("age", "age_true", "age_pred"):
        if column in frame and (column != "age" or column in found):
            _bin_ages(frame, column, findings)
    numbered = _images(frame, findings)
    chosen = {task: _classes(frame, task, classes or {}, described) for task in names}
    for task in names:
        check_names(frame, task, task in (classes or {}) or task in described.get("tasks", {}), findings)
        _encode(frame, task, chosen[task], where)
        check_statuses(frame, task, findings)
        check_numbers(frame, task, chosen[task], where, findings)
    kept = _small_enough(frame, found, attributes, findings)
    kept = kept or _labels_as_attributes(frame, names)
    for attribute in [a for a in kept if a not in names]:
        check_names(frame, attribute, True, findings)
    for attribute in kept:
        frame[attribute] = _categorical(frame[attribute], [chosen.get(attribute), orders.get(attribute)])
    return Predictions(
        frame=_ordered_columns(frame, names, kept),
        tasks=chosen,
        attributes=tuple(kept),
        ordered=_ordered(names, chosen, described),
        findings=findings_table(findings),
        label_source=_label_source(frame, described),
        meta={**described.get("meta", {}), **({"row_numbers": True} if numbered else {})},
    )


def _load(source: Path | str | pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the raw table, text columns as text with missing cells as None, and our own description if it has one."""
    described: dict[str, Any] = {}
    if isinstance(source, pd.DataFrame):
        frame = source.reset_index(drop=True).copy()
    else:
        path = Path(source)
        if not path.is_file():
            what = "is a folder, not a table" if path.is_dir() else "does not exist"
            raise DataError(f"predictions {path} {what}; give a CSV or Parquet file")
        frame, described = _from_parquet(path) if _is_parquet(path) else (_from_csv(path), {})
    if frame.empty or not len(frame.columns):
        raise DataError(f"{source if not isinstance(source, pd.DataFrame) else 'the table'} holds no row to audit")
    frame.columns = [str(column) for column in frame.columns]
    twice = sorted({column for column in frame.columns if list(frame.columns).count(column) > 1})
    if twice:
        raise DataError(f"column {twice[0]!r} occurs twice; every column needs a name of its own")
    return frame, described


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _from_csv(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            header = pd.read_csv(
                path, dtype=str, keep_default_na=False, na_filter=False, header=None, nrows=1, encoding="utf-8-sig"
            )
            frame = pd.read_csv(
                path, dtype=str, keep_default_na=False, na_filter=False, index_col=False, encoding="utf-8-sig"
            )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; a predictions table needs a header and rows") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} is no readable CSV table in UTF-8: {' '.join(str(error).split())}") from None
    if len(frame.columns) == 1 and any(mark in frame.columns[0] for mark in ";\t|"):
        raise DataError(f"{path} has one column, {frame.columns[0]!r}: separate the columns by commas")
    if len(header.columns) == len(frame.columns):
        frame.columns = [str(name) for name in header.iloc[0]]  # pandas would rename a repeated column to `x.1`
    return frame


def _from_parquet(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from None
    raw = (table.schema.metadata or {}).get(META_KEY)
    return table.to_pandas().reset_index(drop=True), description(raw, str(path)) if raw else {}


def _renamed(frame: pd.DataFrame, rename: Mapping[str, str], where: str) -> pd.DataFrame:
    for ours, theirs in rename.items():
        if theirs not in frame.columns:
            raise UsageError(
                f"rename {ours}={theirs}: {where} has no column {theirs!r}{suggestion(theirs, frame.columns)} "
                f"(it has: {', '.join(frame.columns)})"
            )
        if ours in frame.columns and ours != theirs and ours not in rename.values():
            raise UsageError(f"rename {ours}={theirs}: {where} already has a column {ours!r}; rename that one, too")
        if list(rename.values()).count(theirs) > 1:
            raise UsageError(f"rename {ours}={theirs}: column {theirs!r} is given two names; a column has one meaning")
    return frame.rename(columns={theirs: ours for ours, theirs in rename.items()})


def _tasks(frame: pd.DataFrame, wanted: Sequence[str] | None, where: str) -> list[str]:
    found = [c.removesuffix("_pred") for c in frame.columns if c.endswith("_pred") and c != "_pred"]
    if not found:
        raise DataError(
            f"{where} has no column of predictions: name one <task>_pred (such as gender_pred), or map it with a "
            f"rename (it has: {', '.join(frame.columns)})"
        )
    # `gender_prob_pred` is the probability of a class, no task `gender_prob`
    found = [task for task in found if not any(f"{task}_".startswith(f"{other}_prob_") for other in found)]
    nameless = [task for task in found if not all(part.strip() for part in task.split(":"))]
    if nameless:
        raise DataError(f"{where}: column {nameless[0] + '_pred'!r} names no task; rename it")
    for task in wanted or ():
        if task not in found:
            raise UsageError(
                f"{where} has no predictions of {task!r}{suggestion(task, found)} (it has: {', '.join(found)})"
            )
    return list(wanted) if wanted else found


def _task_columns(frame: pd.DataFrame) -> set[str]:
    """Return every column that belongs to some task, also to one that is not audited."""
    found = [c.removesuffix("_pred") for c in frame.columns if c.endswith("_pred")]
    ends = ("_true", "_pred", "_status")
    own = {task + end for task in found for end in ends} | {c for c in frame.columns if c.endswith("_true")}
    return own | {c for c in frame.columns for task in found if c.startswith(f"{task}_prob_")}


def _attributes(
    frame: pd.DataFrame,
    names: Sequence[str],
    wanted: Sequence[str] | None,
    described: Mapping[str, Any],
    findings: list[Finding],
) -> list[str]:
    if wanted is not None:
        for attribute in wanted:
            if attribute not in frame.columns:
                known = sorted(set(frame.columns) - _task_columns(frame) - NOT_ATTRIBUTES)
                raise UsageError(
                    f"the table has no attribute {attribute!r}{suggestion(attribute, known)} "
                    f"(it has: {', '.join(known) or 'none'})"
                )
        return list(wanted)
    told = [a for a in described.get("attributes", []) if a in frame.columns and nameable(a)]
    if told:
        return told
    others = [c for c in frame.columns if c not in _task_columns(frame) | NOT_ATTRIBUTES]
    for column in others:
        if not nameable(column):
            findings.append(("no_axis", "", "listed", f"column {column!r} cannot be named as an axis; rename it"))
    return [column for column in others if nameable(column)]


def _text(column: pd.Series) -> pd.Series:
    """Return a column as text or None: whole floats without ".0", only an empty or missing cell is missing."""
    if pd.api.types.is_float_dtype(column.dtype):
        known = column.dropna()
        if np.isfinite(known).all() and (known == known.round()).all():
            column = column.astype("Int64")
    missing = column.isna().to_numpy()
    text = np.array([None if gone else str(value) for value, gone in zip(column, missing, strict=True)], dtype=object)
    text[text == ""] = None
    return pd.Series(text, index=column.index, dtype=object)


def _mapped(
    frame: pd.DataFrame,
    values: Mapping[str, Mapping[str, str]],
    names: Sequence[str],
    findings: list[Finding],
) -> pd.DataFrame:
    """Turn label and attribute columns into text and map their values."""
    columns = [
        c
        for c in frame.columns
        if c in names or (c.rsplit("_", 1)[0] in names and c.endswith(("_true", "_pred", "_status")))
    ]
    columns += [c for c in ("race_true", "gender_true", "age_true") if c in frame and c not in columns]
    frame = frame.assign(**{column: _text(frame[column]) for column in columns})
    whole = {column: without_fraction(frame[column]) for column in columns}
    frame = frame.assign(**{column: text for column, text in whole.items() if text is not None})
    for name, given in values.items():
        touched = [c for c in columns if c in (name, f"{name}_true", f"{name}_pred")]
        if not touched:
            known = sorted(set(names))
            raise UsageError(
                f"values of {name!r}: no such attribute or task{suggestion(name, known)} ({', '.join(known)})"
            )
        cut = any(whole[column] is not None for column in touched)
        table = {theirs.removesuffix(".0") if cut else theirs: ours for theirs, ours in given.items()}
        seen = set().union(*(set(frame[c].dropna()) for c in touched))
        for column in touched:
            frame[column] = frame[column].map(lambda value, table=table: table.get(value, value), na_action="ignore")
        frame = frame.rename(columns={f"{name}_prob_{theirs}": f"{name}_prob_{ours}" for theirs, ours in table.items()})
        frame = joined_probabilities(frame)
        for theirs in sorted(set(table) - seen):
            findings.append(("value_never_met", "", "listed", f"{name}: the mapped value {theirs!r} does not occur"))
    return frame


def _bin_ages(frame: pd.DataFrame, column: str, findings: list[Finding]) -> None:
    """Replace ages in years by their bin. Numbers that are all 0…8 may be codes of the nine bins: kept as they are.

    The word "unknown" beside years is a missing age, except as a prediction, whose status is not known.
    """
    unknown = (frame[column] == UNKNOWN) & (column != "age_pred")
    known = frame[column][~unknown].dropna()
    years = pd.to_numeric(known, errors="coerce")
    if known.empty or years.isna().any() or not np.isfinite(years).all():
        return
    other = {"age_true": "age_pred", "age_pred": "age_true"}.get(column)
    top = years.max()
    if other in frame and column == "age_pred":
        top = max(top, 9.0 if frame[other].dropna().isin(list(SCHEMES["age9"].classes)).any() else 0.0)
    elif other in frame:
        top = max(top, pd.to_numeric(frame[other], errors="coerce").max())
    if top <= 8:
        findings.append(("age_codes", "", "kept", f"{column} holds only 0…8: taken as class names, not as years"))
        return
    binned = age_bins(frame[column])
    for row in frame.index[frame[column].notna() & binned.isna() & ~unknown]:
        findings.append(
            ("impossible_age", str(frame.get("image", frame.index.to_series())[row]), "masked", str(frame[column][row]))
        )
    frame[column] = binned.where(binned.notna(), None)
    findings.append(("age_binned", "", "kept", f"{column} in years was put into the nine age bins"))
    if unknown.any():
        said = f"{int(unknown.sum())} values of {column} are {UNKNOWN!r}: taken as missing"
        findings.append(("age_unknown", "", "masked", said))


def _images(frame: pd.DataFrame, findings: list[Finding]) -> bool:
    """Make sure that every row names its image once; number the rows where the table has no such column."""
    if "image" not in frame.columns:
        frame["image"] = [f"row {i + 1}" for i in range(len(frame))]
        findings.append(
            ("no_image_column", "", "listed", "rows are numbered; such a table cannot be compared by image")
        )
        return True
    frame["image"] = _text(frame["image"])
    empty = frame["image"].isna()
    if empty.any():
        raise DataError(
            f"{int(empty.sum())} rows have an empty `image` (first: row {int(empty.argmax()) + 1}); name every image"
        )
    twice = frame["image"][frame["image"].duplicated()]
    if len(twice):
        raise DataError(
            f"{twice.nunique()} images occur more than once ({examples(twice)}); an audit counts each face once: "
            "keep one row an image, or give each picture a name of its own"
        )
    return False


def _classes(
    frame: pd.DataFrame, task: str, given: Mapping[str, Sequence[str]], described: Mapping[str, Any]
) -> tuple[str, ...]:
    if task in given:
        return tuple(str(value) for value in given[task])
    seen: set[str] = set(frame[f"{task}_pred"].dropna())
    if f"{task}_true" in frame:
        seen |= set(frame[f"{task}_true"].dropna())
    told = described.get("tasks", {}).get(task)
    if told and seen <= set(told):
        return tuple(told)
    if not seen:
        raise DataError(f"{task}_pred is empty in every row and no label of {task} is given: nothing to audit")
    scheme = scheme_of(task, seen)
    if scheme is not None:
        return tuple(c for c in scheme.classes if scheme.ordered or c in seen)
    if len(seen) > MOST_VALUES:
        raise DataError(
            f"{task} has {len(seen)} classes ({examples(sorted(seen))}); a classifier of at most {MOST_VALUES} classes "
            "can be audited: put the values into bins"
        )
    numeric = pd.to_numeric(pd.Series(sorted(seen)), errors="coerce")
    return tuple(sorted(seen, key=float)) if numeric.notna().all() else tuple(sorted(seen))


def _encode(frame: pd.DataFrame, task: str, classes: tuple[str, ...], where: str) -> None:
    for column in (f"{task}_true", f"{task}_pred"):
        if column not in frame:
            continue
        foreign = frame[column][frame[column].notna() & ~frame[column].isin(classes)]
        if len(foreign):
            raise DataError(
                f"{where}: {len(foreign)} values of {column} are none of its classes ({examples(foreign)}); allowed: "
                f"{', '.join(classes)}. Map them with a value map, or give all classes"
            )
        frame[column] = pd.Categorical(frame[column], categories=list(classes))


def _small_enough(
    frame: pd.DataFrame, found: Sequence[str], wanted: Sequence[str] | None, findings: list[Finding]
) -> list[str]:
    kept = []
    for attribute in found:
        values = frame[attribute].nunique()
        if 0 < values <= MOST_VALUES or (wanted is not None and values):
            kept.append(attribute)
            continue
        word = (
            f"column {attribute!r} has {values} values; an axis has at most {MOST_VALUES}"
            if values
            else f"column {attribute!r} is empty"
        )
        findings.append(("no_axis", "", "listed", f"{word}, so it is no subgroup axis"))
    return kept


def _labels_as_attributes(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Let the labels of race, gender and age serve as attributes where the table has no attribute column."""
    serving = [a for a in ("race", "gender", "age") if f"{a}_true" in frame and frame[f"{a}_true"].notna().any()]
    for attribute in serving:
        frame[attribute] = frame[f"{attribute}_true"]
    return serving


def _orders(frame: pd.DataFrame, values: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the order of the values of every categorical column, mapped: what a typed table knows and text loses."""
    found = {}
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            table = values.get(str(column), {})
            found[str(column)] = list(dict.fromkeys(table.get(str(v), str(v)) for v in frame[column].cat.categories))
    return found


def _categorical(column: pd.Series, orders: Sequence[Sequence[str] | None]) -> pd.Categorical:
    """Order an attribute's values: as one of `orders` has them, as a known scheme, numbers by size, else by name."""
    text = column.astype(object).where(column.notna(), None)
    seen = sorted(set(text.dropna()))
    scheme = scheme_of(str(column.name), seen)
    for order in (*orders, scheme.classes if scheme else None):
        if order is not None and set(seen) <= set(order):
            return pd.Categorical(text, categories=[value for value in order if value in set(seen)])
    if pd.to_numeric(pd.Series(seen, dtype=object), errors="coerce").notna().all():
        seen = sorted(seen, key=float)
    return pd.Categorical(text, categories=seen)


def _ordered_columns(frame: pd.DataFrame, names: Sequence[str], attributes: Sequence[str]) -> pd.DataFrame:
    parts = [
        c
        for t in names
        for c in frame.columns
        if c in (f"{t}_true", f"{t}_pred", f"{t}_status") or c.startswith(f"{t}_prob_")
    ]
    more = [c for c in ("subject_id", "weight", "label_source", "sha256", "split", "age_years") if c in frame]
    if "subject_id" in more:
        frame["subject_id"] = _text(frame["subject_id"])
    return frame[list(dict.fromkeys(["image", *parts, *attributes, *more]))].reset_index(drop=True)


def _ordered(
    names: Sequence[str], classes: Mapping[str, tuple[str, ...]], described: Mapping[str, Any]
) -> frozenset[str]:
    known = set(described.get("ordered", []))
    schemes = {(s.attribute, s.classes) for s in SCHEMES.values() if s.ordered}
    fitting = {task for task in names if (task, classes[task]) in schemes}
    return frozenset((known & set(names)) | fitting)


def _label_source(frame: pd.DataFrame, described: Mapping[str, Any]) -> str:
    if "label_source" in frame:
        sources = sorted(set(_text(frame["label_source"]).dropna()))
        if sources:
            return "; ".join(sources)
    return str(described.get("label_source", ""))
