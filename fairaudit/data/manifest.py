"""Labels from a table beside the images: a CSV or Parquet manifest with any column names, and FairFace's own CSVs."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fairaudit.data.raw import EXTRA, Finding, RawFaces, existing, mask_unknown, tidy_age
from fairaudit.data.taxonomy import scheme_of
from fairaudit.errors import DataError, UsageError
from fairaudit.registry import suggestion
from fairaudit.spec import SourceSpec
from fairaudit.subgroups import UNKNOWN, nameable

MAX_VALUES = 50
MISSING = ("", "nan", "NaN", "NA", "N/A", "null", "NULL", UNKNOWN)
OWN_COLUMNS = ("image", "sha256", "split", "trainable", *EXTRA)
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
FAIRFACE_TABLES = {"train": "fairface_label_train.csv", "val": "fairface_label_val.csv"}
FAIRFACE_SOURCE = (
    "FairFace's labels of gender, race and age are perceptions of several crowd annotators, refined with the help of a "
    "model (Kärkkäinen & Joo, WACV 2021)."
)


def read_manifest(source: SourceSpec, root: Path) -> RawFaces:
    """Read a manifest: one row a face, a column with the image's path below `root`, further columns as attributes.

    Raises UsageError where a column that the spec names is missing, DataError where the table cannot be read.
    """
    path = _table_path(source, root)
    return from_table(read_table(path), source, root, path.name)


def read_fairface(source: SourceSpec, root: Path) -> RawFaces:
    """Read FairFace as shipped: both label CSVs, or the one that `manifest` names; `official_split` is train or val.

    `service_test` marks FairFace's balanced subset and is no split: it stays an ordinary attribute only on request.
    """
    tables = {name: root / name for name in ([source.manifest] if source.manifest else FAIRFACE_TABLES.values())}
    found = {name: _inside(root, name) for name, path in tables.items() if path.is_file()}
    if not found:
        raise DataError(
            f"{root} holds none of {', '.join(tables)}: give the folder that holds FairFace's label CSVs and its "
            f"folders train/ and val/, or name a CSV with data.manifest"
        )
    frame = pd.concat([read_table(path).assign(_table=name) for name, path in found.items()], ignore_index=True)
    columns = source.columns.model_copy(update={"image": "file"}) if source.columns.image == "image" else source.columns
    keep = source.attributes or ("gender", "race", "age")
    ours = source.model_copy(update={"columns": columns, "attributes": keep})
    _need([columns.image, *(columns.rename.get(name, name) for name in keep)], frame.columns, " and ".join(found))
    part = frame[columns.image].fillna("").map(lambda name: PurePosixPath(name).parts[:1])
    split = part.map({("train",): "train", ("val",): "val"})
    split = split.fillna(frame["_table"].map({name: part for part, name in FAIRFACE_TABLES.items()}))
    known = {"gender": "gender2", "race": "race7", "age": "age9"}
    schemes = {name: scheme for name, scheme in known.items() if name in keep} | source.schemes
    return from_table(
        frame.drop(columns="_table"),
        ours.model_copy(update={"schemes": schemes}),
        root,
        " and ".join(found),
        official=split,
        label_source=FAIRFACE_SOURCE,
    )


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet table as text: values stay verbatim, the words of `MISSING` become missing.

    Raises DataError where it is missing or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"table {path} does not exist")
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, pa.ArrowInvalid, OSError) as error:
        raise DataError(f"table {path} cannot be read: {error}") from None
    frame.columns = frame.columns.map(lambda name: str(name).strip())
    twice = frame.columns[frame.columns.duplicated()].tolist()
    if twice:
        raise DataError(f"table {path} has two columns named {twice[0]!r}")
    return frame.apply(_as_text)


def from_table(
    table: pd.DataFrame,
    source: SourceSpec,
    root: Path,
    where: str,
    *,
    official: pd.Series | None = None,
    label_source: str = "",
    meta: dict[str, Any] | None = None,
) -> RawFaces:
    """Turn a table of text into RawFaces: columns and values mapped, ages binned, rows without a file left out."""
    columns = source.columns
    roles = {"subject_id": columns.subject_id, "weight": columns.weight}
    _need([columns.image, *columns.rename.values(), *(name for name in roles.values() if name)], table.columns, where)
    frame = table.rename(columns={theirs: ours for ours, theirs in columns.rename.items()})
    frame = frame.rename(columns={columns.image: "image", **{name: role for role, name in roles.items() if name}})
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UsageError(f"columns.rename makes two columns named {twice!r} of {where}")
    _need([*source.values, *source.schemes, *(source.attributes or ())], frame.columns, where)
    frame["image"] = frame["image"].fillna("").map(_clean)
    if official is None and "split" in frame and set(frame["split"].dropna().str.lower()) <= SPLIT_WORDS.keys():
        official = frame["split"].str.lower().map(SPLIT_WORDS)
    if official is None and "official_split" in frame:
        official = frame["official_split"].where(frame["official_split"].isin(list(SPLIT_WORDS.values())), None)
    if official is not None:
        frame["official_split"] = official
    if "age_years" in frame and "age" not in frame:
        frame["age"] = frame["age_years"]
    for attribute, words in source.values.items():
        mapped = frame[attribute].replace(dict(words))
        frame[attribute] = mapped.where(~mapped.isin(MISSING), None)
    attributes, findings = _attributes(frame, source)
    frame, more = _known_labels(frame, attributes, source)
    extra = [name for name in EXTRA if name in frame]
    if "weight" in extra:
        frame["weight"] = _weights(frame, where)
    if "age_years" in extra:
        frame["age_years"] = pd.to_numeric(frame["age_years"], errors="coerce")
    frame, excluded, missing = existing(frame[["image", *attributes, *extra]], root)
    kept = set(frame["image"])
    schemes, tasks = _schemes(frame, attributes, source)
    return RawFaces(
        frame=frame,
        attributes=attributes,
        schemes=schemes,
        default_tasks=tasks,
        findings=[*findings, *(row for row in more if row[1] in kept), *missing],
        excluded=excluded,
        label_source=source.label_source or label_source,
        meta=meta or {},
    )


def _attributes(frame: pd.DataFrame, source: SourceSpec) -> tuple[tuple[str, ...], list[Finding]]:
    """Choose the columns that are attributes, and list those that cannot be."""
    chosen: list[str] = []
    findings: list[Finding] = []
    for name in source.attributes if source.attributes is not None else frame.columns:
        values = frame[name].nunique()
        if name in OWN_COLUMNS:
            if name == "split" and "official_split" not in frame:
                detail = f"column {name!r}: fairaudit uses this name itself"
                findings.append(("attribute_refused", "", "listed", detail))
        elif values == 0:
            findings.append(("attribute_refused", "", "listed", f"column {name!r} is empty"))
        elif not nameable(name):
            detail = f"column {name!r} cannot be named as an axis; rename it"
            findings.append(("attribute_refused", "", "listed", detail))
        elif values > MAX_VALUES and name != "age" and name not in source.schemes:
            detail = f"column {name!r} has {values:,} different values, more than {MAX_VALUES}: no attribute"
            findings.append(("attribute_refused", "", "listed", detail))
        else:
            chosen.append(name)
    return tuple(chosen), findings


def _known_labels(
    frame: pd.DataFrame, attributes: Iterable[str], source: SourceSpec
) -> tuple[pd.DataFrame, list[Finding]]:
    """Bring ages into the nine bins and mask labels that a declared scheme does not know."""
    findings: list[Finding] = []
    for name in attributes:
        scheme = source.schemes.get(name)
        if name == "age" and scheme in (None, "age9"):
            frame, _, found = tidy_age(frame, declared=scheme is not None)
            findings += found
        elif scheme is not None:
            frame, found = mask_unknown(frame, name, scheme)
            findings += found
    return frame, findings


def _schemes(
    frame: pd.DataFrame, attributes: Sequence[str], source: SourceSpec
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return each attribute's scheme, declared or recognised, and the attributes that are tasks by their name."""
    schemes = dict(source.schemes)
    for name in attributes:
        found = scheme_of(name, frame[name].dropna().unique()) if name not in schemes else None
        if found and frame[name].notna().any():
            schemes[name] = found.name
    return schemes, tuple(name for name in ("gender", "race", "age") if name in attributes)


def _table_path(source: SourceSpec, root: Path) -> Path:
    if source.manifest:
        return _inside(root, source.manifest)
    for name in ("manifest.csv", "manifest.parquet"):
        if (root / name).is_file():
            return root / name
    tables = sorted(p.name for p in root.iterdir() if p.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq"))
    raise DataError(
        f"{root} holds no manifest.csv or manifest.parquet; name the table with data.manifest "
        f"(tables there: {', '.join(tables[:10]) or 'none'})"
    )


def _inside(root: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(f"data.manifest = {name!r}: give a path below the data folder, without '..'")
    return root / name


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as stream:
        header = stream.readline()
    separator = max(",;\t", key=header.count)
    # The header is read as a row: it sets the number of fields, so that a longer row is an error and never an index.
    rows = pd.read_csv(path, dtype=str, sep=separator, header=None, keep_default_na=False, encoding="utf-8-sig")
    frame = rows.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index(rows.iloc[0].fillna("").astype(str).tolist())
    return frame.drop(columns="", errors="ignore")  # the row numbers that table writers leave behind


def _as_text(column: pd.Series) -> pd.Series:
    """Return a column as stripped text or missing; whole numbers lose the ".0" that a missing value gave them."""
    if pd.api.types.is_float_dtype(column.dtype):
        texts = column.map(lambda value: f"{value:.0f}" if pd.notna(value) and value % 1 == 0 else repr(float(value)))
    else:
        texts = column.astype(object).map(lambda value: str(value).strip() if pd.notna(value) else "")
    return texts.astype(object).where(~texts.isin(MISSING) & column.notna(), None)


def _weights(frame: pd.DataFrame, where: str) -> pd.Series:
    weights = pd.to_numeric(frame["weight"], errors="coerce")
    bad = ~((weights > 0) & np.isfinite(weights))
    if bad.any():
        image, value = frame.loc[bad, "image"].iloc[0], frame.loc[bad, "weight"].iloc[0]
        raise DataError(
            f"{where}: {int(bad.sum()):,} weights are not positive finite numbers (first: {value!r} of {image!r})"
        )
    return weights


def _clean(name: str) -> str:
    """Return an image's path with "/" between its parts and no "./"; ".." stays, so that it is refused later."""
    text = name.replace("\\", "/")
    return ("/" if text.startswith("/") else "") + "/".join(part for part in text.split("/") if part not in ("", "."))


def _need(columns: Iterable[str], present: Iterable[str], where: str) -> None:
    known = list(present)
    for name in columns:
        if name not in known:
            raise UsageError(f"{where} has no column {name!r}{suggestion(name, known)} (it has: {', '.join(known)})")
