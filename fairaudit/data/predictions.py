"""Read the public predictions table: CSV, Parquet or a DataFrame, from anybody's model.

`image`, then per task `<task>_true`, `<task>_pred`, `<task>_status`, `<task>_prob_<class>`, then attribute columns;
optional `subject_id`, `weight`, `label_source`. Text is kept verbatim: only an empty cell is missing, "NA" is a name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.columns import Column
from fairaudit.data.predictions_check import NO_PREDICTION, STATUSES, Finding, check_names, examples
from fairaudit.data.quality import QUALITY
from fairaudit.data.sources import NOT_ATTRIBUTES, FrameSource, Reading, Source
from fairaudit.data.tables import Predictions
from fairaudit.data.taxonomy import SCHEMES, age_bins, scheme_of
from fairaudit.errors import DataError, UsageError
from fairaudit.registry import suggestion
from fairaudit.subgroups import UNKNOWN, nameable
from fairaudit.wording import plural

MOST_VALUES = 50


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
    Columns of numbers with more values are no axes, but stay, at most 20, to be adjusted for.

    A numeric `age` (also `age_true`, `age_pred`) in years becomes the nine bins; the years of the latter two stay in
    `age_true_years` and `age_pred_years`, which a table may also hold itself. An empty prediction with a status is
    an outcome; without one it is listed as `no_prediction_given` and left out of rates. A table without `image` gets
    row numbers, and cannot be compared. Raises UsageError for names that the table lacks, DataError for a table that is
    unreadable, contradicts itself, or holds labels outside `classes`, repeated images, or impossible numbers.
    """
    return read(FrameSource(source), rename=rename, values=values, tasks=tasks, classes=classes, attributes=attributes)


def read(
    source: Source,
    *,
    rename: Mapping[str, str] | None = None,
    values: Mapping[str, Mapping[str, str]] | None = None,
    tasks: Sequence[str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    attributes: Sequence[str] | None = None,
) -> Any:
    """Apply the rules of `read_predictions` to a table in memory or on disk; both see only its distinct values."""
    findings: list[Finding] = [(*row, 1) for row in source.described.get("findings", [])]
    described, classes, values = source.described, classes or {}, values or {}
    _rename(source, rename or {})
    names = _tasks(source.columns, tasks, source.where)
    found = _attributes(source.columns, names, attributes, described, findings)
    columns = {column: source.column(column) for column in _label_columns(source.columns, [*names, *found])}
    orders = {name: _mapped_order(order, values.get(name, {})) for name, order in source.orders.items()}
    _map_values(source, columns, values, [*names, *found], findings)
    numbered = source.check_images()
    if numbered:
        said = "rows are numbered; such a table cannot be compared by image"
        findings.append(("no_image_column", "", "listed", said, 1))
    years: dict[str, np.ndarray] = {}
    for column in ("age", "age_true", "age_pred"):
        if column in columns and (column != "age" or column in found):
            years |= _bin_ages(source, columns, column, findings)
    chosen = {task: _classes(columns, task, classes, described) for task in names}
    for task in names:
        check_names(columns, task, task in classes or task in described.get("tasks", {}), findings)
        _check_labels(columns, task, chosen[task], source.where)
        _check_statuses(source, columns, task, findings)
        _check_probabilities(source, task, chosen[task], findings)
    if "weight" in source.columns:
        source.check_weights()
    kept = {name: name for name in _small_enough(columns, found, attributes, findings)}
    kept = kept or _labels_as_attributes(columns)
    columns |= {name: columns[column] for name, column in kept.items()}
    for attribute in [a for a in kept if a not in names]:
        check_names(columns, attribute, True, findings)
    orderings = {name: _order(name, columns[name], [chosen.get(name), orders.get(name)]) for name in kept}
    own = {f"{task}{end}": chosen[task] for task in names for end in ("_true", "_pred") if f"{task}{end}" in columns}
    codes = {column: columns[column].codes(order) for column, order in own.items()}
    codes |= {name: columns[name].codes(orderings[name]) for name in kept}
    status = {
        t: np.array([*columns[f"{t}_status"].text, None], dtype=object) for t in names if f"{t}_status" in columns
    }
    return source.made(
        Reading(
            tasks=chosen,
            attributes=orderings,
            serving=kept,
            codes=codes,
            status=status,
            ordered=_ordered(names, chosen, described),
            findings=findings,
            label_source=_label_source(source, described),
            meta={**described.get("meta", {}), **({"row_numbers": True} if numbered else {})},
            years=years,
        )
    )


def _rename(source: Source, rename: Mapping[str, str]) -> None:
    where, columns = source.where, source.columns
    for ours, theirs in rename.items():
        if theirs not in columns:
            raise UsageError(
                f"rename {ours}={theirs}: {where} has no column {theirs!r}{suggestion(theirs, columns)} "
                f"(it has: {', '.join(columns)})"
            )
        if ours in columns and ours != theirs and ours not in rename.values():
            raise UsageError(f"rename {ours}={theirs}: {where} already has a column {ours!r}; rename that one, too")
        if list(rename.values()).count(theirs) > 1:
            raise UsageError(f"rename {ours}={theirs}: column {theirs!r} is given two names; a column has one meaning")
    source.rename({theirs: ours for ours, theirs in rename.items()})


def _tasks(columns: Sequence[str], wanted: Sequence[str] | None, where: str) -> list[str]:
    found = [c.removesuffix("_pred") for c in columns if c.endswith("_pred") and c != "_pred"]
    if not found:
        raise DataError(
            f"{where} has no column of predictions: name one <task>_pred (such as gender_pred), or map it with a "
            f"rename (it has: {', '.join(columns)})"
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


def _task_columns(columns: Sequence[str]) -> set[str]:
    """Return every column that belongs to some task, also to one that is not audited."""
    found = [c.removesuffix("_pred") for c in columns if c.endswith("_pred")]
    ends = ("_true", "_pred", "_status")
    own = {task + end for task in found for end in ends} | {c for c in columns if c.endswith("_true")}
    return own | {c for c in columns for task in found if c.startswith(f"{task}_prob_")}


def _attributes(
    columns: Sequence[str],
    names: Sequence[str],
    wanted: Sequence[str] | None,
    described: Mapping[str, Any],
    findings: list[Finding],
) -> list[str]:
    if wanted is not None:
        for attribute in wanted:
            if attribute not in columns:
                known = sorted(set(columns) - _task_columns(columns) - NOT_ATTRIBUTES)
                raise UsageError(
                    f"the table has no attribute {attribute!r}{suggestion(attribute, known)} "
                    f"(it has: {', '.join(known) or 'none'})"
                )
        return list(wanted)
    told = [a for a in described.get("attributes", []) if a in columns and nameable(a)]
    if told:
        return told
    others = [c for c in columns if c not in _task_columns(columns) | NOT_ATTRIBUTES]
    for column in others:
        if not nameable(column):
            findings.append(("no_axis", "", "listed", f"column {column!r} cannot be named as an axis; rename it", 1))
    return [column for column in others if nameable(column)]


def _label_columns(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that are read as text: labels, predictions, statuses and attributes."""
    ends = ("_true", "_pred", "_status")
    own = [c for c in columns if c in names or (c.rsplit("_", 1)[0] in names and c.endswith(ends))]
    return own + [c for c in ("race_true", "gender_true", "age_true") if c in columns and c not in own]


def _mapped_order(order: Sequence[str], table: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(table.get(value, value) for value in order))


def _map_values(
    source: Source,
    columns: dict[str, Column],
    values: Mapping[str, Mapping[str, str]],
    names: Sequence[str],
    findings: list[Finding],
) -> None:
    """Give values other names, also in the names of columns of probabilities."""
    for name, given in values.items():
        touched = [columns[c] for c in (name, f"{name}_true", f"{name}_pred") if c in columns]
        if not touched:
            known = sorted(set(names))
            raise UsageError(
                f"values of {name!r}: no such attribute or task{suggestion(name, known)} ({', '.join(known)})"
            )
        cut = any(column.cut for column in touched)
        table = {theirs.removesuffix(".0") if cut else theirs: ours for theirs, ours in given.items()}
        seen = set().union(*(column.seen() for column in touched))
        for column in touched:
            column.text = np.array([table.get(text, text) for text in column.text], dtype=object)
        source.join({f"{name}_prob_{theirs}": f"{name}_prob_{ours}" for theirs, ours in table.items()})
        for theirs in sorted(set(table) - seen):
            findings.append(("value_never_met", "", "listed", f"{name}: the mapped value {theirs!r} does not occur", 1))


def _bin_ages(
    source: Source, columns: dict[str, Column], column: str, findings: list[Finding]
) -> dict[str, np.ndarray]:
    """Replace ages in years by their bin and return the years. Numbers that are all 0…8 may be codes of the nine bins.

    The word "unknown" beside years is a missing age, except as a prediction, whose status is not known. The years of
    each distinct value stand under the column's name, with NaN for a missing one and at the end.
    """
    ages = columns[column]
    text = pd.Series(ages.text, dtype=object)
    unknown = (text == UNKNOWN) & (column != "age_pred")
    known = text[~unknown].dropna()
    years = pd.to_numeric(known, errors="coerce")
    if known.empty or years.isna().any() or not np.isfinite(years).all():
        return {}
    other = columns.get({"age_true": "age_pred", "age_pred": "age_true"}.get(column, ""))
    top = years.max()
    if other is not None and column == "age_pred":
        top = max(top, 9.0 if other.within(SCHEMES["age9"].classes).any() else 0.0)
    elif other is not None:
        top = max(top, pd.to_numeric(pd.Series(other.text, dtype=object), errors="coerce").max())
    if top <= 8:
        findings.append(("age_codes", "", "kept", f"{column} holds only 0…8: taken as class names, not as years", 1))
        return {}
    binned = age_bins(text.mask(unknown))
    impossible = (text.notna() & binned.isna() & ~unknown).to_numpy()
    if impossible.any():
        for image, code, rows in source.faces({column: np.append(impossible, False)}, column):
            findings.append(("impossible_age", image, "masked", str(ages.text[code]), rows))
    ages.text = binned.where(binned.notna(), None).to_numpy(dtype=object)
    findings.append(("age_binned", "", "kept", f"{column} in years was put into the nine age bins", 1))
    if unknown.any():
        count = int(ages.count[unknown].sum())
        said = f"{plural(count, f'value of {column} is', f'values of {column} are')} {UNKNOWN!r}: taken as missing"
        findings.append(("age_unknown", "", "masked", said, 1))
    kept = pd.to_numeric(text.mask(unknown), errors="coerce").to_numpy(dtype=float)
    return {column: np.append(np.where(impossible, np.nan, kept), np.nan)}


def _classes(
    columns: Mapping[str, Column], task: str, given: Mapping[str, Sequence[str]], described: Mapping[str, Any]
) -> tuple[str, ...]:
    if task in given:
        return tuple(str(value) for value in given[task])
    own = [columns[c] for c in (f"{task}_pred", f"{task}_true") if c in columns]
    seen: set[str] = set().union(*(column.seen() for column in own))
    told = described.get("tasks", {}).get(task)
    if told and seen <= set(told):
        return tuple(told)
    many = max((column.many for column in own), default=0)
    if not seen and not many:
        raise DataError(f"{task}_pred is empty in every row and no label of {task} is given: nothing to audit")
    scheme = scheme_of(task, seen) if not many else None
    if scheme is not None:
        return tuple(c for c in scheme.classes if scheme.ordered or c in seen)
    if max(len(seen), many) > MOST_VALUES:
        shown = f" ({examples(sorted(seen))})" if seen else ""
        raise DataError(
            f"{task} has {max(len(seen), many)} classes{shown}; a classifier of at most {MOST_VALUES} classes "
            "can be audited: put the values into bins"
        )
    return tuple(_in_order(sorted(seen)))


def _in_order(values: list[str]) -> list[str]:
    """Return sorted values, by size where all are numbers."""
    numeric = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").notna().all()
    return sorted(values, key=float) if numeric else values


def _check_labels(columns: Mapping[str, Column], task: str, classes: tuple[str, ...], where: str) -> None:
    for name in (f"{task}_true", f"{task}_pred"):
        if name not in columns:
            continue
        column = columns[name]
        foreign = column.known() & ~column.within(classes)
        if foreign.any() or column.many:
            some = examples(sorted(set(column.text[foreign])))
            count = int(column.count[foreign].sum())
            raise DataError(
                f"{where}: {plural(count, f'value of {name} is', f'values of {name} are')} none of its classes "
                f"({some}); allowed: {', '.join(classes)}. Map them with a value map, or give all classes"
            )


def _check_statuses(source: Source, columns: Mapping[str, Column], task: str, findings: list[Finding]) -> None:
    """List the faces that have neither a prediction nor a reason: they are out of rates.

    Raises DataError for an unknown status, and for a reason that stands beside a prediction: which of the two holds
    cannot be known, and it changes the rates.
    """
    pred, name = f"{task}_pred", f"{task}_status"
    given = np.append(columns[pred].known(), False)
    where = {pred: ~given}
    if name in columns:
        status = columns[name]
        strange = status.known() & ~status.within(("ok", *STATUSES))
        if strange.any() or status.many:
            raise DataError(
                f"{name} holds {examples(status.text[strange])}; allowed: ok (or empty), {', '.join(STATUSES)}"
            )
        reason = np.append(status.within(STATUSES), False)
        pairs = source.joint(pred, name)
        both = pairs[given[pairs[pred]] & reason[pairs[name]]]
        if len(both):
            images = [face[0] for face in source.faces({pred: given, name: reason})]
            raise DataError(
                f"{plural(int(both['count'].sum()), 'row has', 'rows have')} a {pred} and the {name} "
                f"{examples(sorted(set(status.text[both[name]])))} (images {examples(images)}): leave {pred} empty "
                f"where there was no prediction, or {name} empty where there was one"
            )
        where[name] = ~reason
    if columns[pred].missing or not given[:-1].all():
        said = f"{pred} is empty and {name} gives no reason"
        findings.extend((NO_PREDICTION, image, "excluded", said, rows) for image, _, rows in source.faces(where))


def _check_probabilities(source: Source, task: str, classes: Sequence[str], findings: list[Finding]) -> None:
    """Check probabilities; one of a class that never occurs is listed and left out."""
    prefix = f"{task}_prob_"
    own = [column for column in source.columns if column.startswith(prefix)]
    for column in own:
        if column.removeprefix(prefix) not in classes:
            said = f"{column} is of no class that a label or prediction has"
            findings.append(("class_never_met", "", "listed", said, 1))
    source.check_probabilities([column for column in own if column.removeprefix(prefix) in classes])


def _small_enough(
    columns: Mapping[str, Column], found: Sequence[str], wanted: Sequence[str] | None, findings: list[Finding]
) -> list[str]:
    kept = []
    for attribute in found:
        values = columns[attribute].distinct()
        if wanted is None and attribute in QUALITY and _in_numbers(columns[attribute]):
            continue  # our own measurements of the picture are no group of people, however few faces there are
        if 0 < values <= MOST_VALUES or (wanted is not None and values):
            kept.append(attribute)
            continue
        word = (
            f"column {attribute!r} has {values} values; an axis has at most {MOST_VALUES}"
            if values
            else f"column {attribute!r} is empty"
        )
        findings.append(("no_axis", "", "listed", f"{word}, so it is no subgroup axis", 1))
    return kept


def _in_numbers(column: Column) -> bool:
    known = pd.Series([text for text in column.text if text is not None], dtype=object)
    return bool(column.many) or bool(len(known) and pd.to_numeric(known, errors="coerce").notna().all())


def _labels_as_attributes(columns: Mapping[str, Column]) -> dict[str, str]:
    """Let the labels of race, gender and age serve as attributes where the table has no attribute column."""
    labels = {name: f"{name}_true" for name in ("race", "gender", "age")}
    return {name: column for name, column in labels.items() if column in columns and columns[column].seen()}


def _order(name: str, column: Column, orders: Sequence[Sequence[str] | None]) -> tuple[str, ...]:
    """Order an attribute's values: as one of `orders` has them, as a known scheme, numbers by size, else by name."""
    seen = column.seen()
    scheme = scheme_of(name, seen)
    for order in (*orders, scheme.classes if scheme else None):
        if order is not None and set(seen) <= set(order):
            return tuple(value for value in order if value in set(seen))
    return tuple(_in_order(seen))


def _ordered(
    names: Sequence[str], classes: Mapping[str, tuple[str, ...]], described: Mapping[str, Any]
) -> frozenset[str]:
    known = set(described.get("ordered", []))
    schemes = {(s.attribute, s.classes) for s in SCHEMES.values() if s.ordered}
    fitting = {task for task in names if (task, classes[task]) in schemes}
    return frozenset((known & set(names)) | fitting)


def _label_source(source: Source, described: Mapping[str, Any]) -> str:
    if "label_source" in source.columns and (sources := source.column("label_source").seen()):
        return "; ".join(sources)
    return str(described.get("label_source", ""))
