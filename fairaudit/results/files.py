"""How results lie in a folder: tables as CSV, and a marker with their hashes, written last."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.errors import DataError
from fairaudit.files import atomic_folder, claim, file_hash, write_json, write_text

FORMAT_VERSION = 1
PAGES = "pages.json"  # names and hashes of the pages that a report wrote
HISTORY = "history.csv"  # of the training, in a checkpoint and beside the audit of one


def read_table(path: Path) -> pd.DataFrame:
    """Read one of our CSV tables: text stays verbatim ("NA" and "" too), numbers are numbers, empty numbers are NaN."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    for column in frame.columns:
        # `baseline` names a picture in the tables of attributions, and is a value in those that hold a `delta`
        if column in _TEXT or (column == "baseline" and "delta" not in frame):
            continue
        if column in _FLAGS:
            frame[column] = frame[column].map({"True": True, "False": False, "": False}).astype(bool)
        else:
            frame[column] = pd.to_numeric(frame[column].mask(frame[column] == ""))
    return frame


_TEXT = frozenset(
    (
        *("task", "by", "subgroup", "metric", "class", "reason", "worst", "best", "true", "predicted", "model"),
        *("region", "not_assessed", "of", "point"),
        *("policy", "measure", "verdict", "sentence"),
        *("covariates", "target", "adjusted_worst", "adjusted_best", "method"),
        *("criterion", "at_class", "statistic", "left_out", "first", "second", "reading", "reference"),
        *("kind", "lowest", "highest", "other", "family"),
        *("claim", "seed", "front", "standing", "dominated_by"),
        *("perturbation", "unit", "matched", "fill"),
        *("comparison", "check", "part", "outcome", "order"),
    )
)
_FLAGS = frozenset(("confirmed", "finding", "small", "levelling_down", "recommended"))


def save_whole(
    folder: Path,
    marker: str,
    tables: Mapping[str, pd.DataFrame],
    meta: Mapping[str, Any],
    *,
    predictions: Any = None,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Replace `folder` by the tables as CSV, `arrays` as maps.npz, the predictions, and `marker`: meta and all hashes.

    Whole or not at all. Raises UsageError where the folder holds anything but an earlier result of the same kind.
    """
    claim(folder, marker.removesuffix(".json"), marker)  # what is replaced whole must have been ours
    with atomic_folder(folder) as temporary:
        for name, table in tables.items():
            table.to_csv(temporary / f"{name}.csv", index=False, encoding="utf-8", lineterminator="\n")
        if arrays is not None:
            np.savez_compressed(temporary / "maps.npz", allow_pickle=False, **arrays)
        if predictions is not None:
            predictions.save(temporary / "predictions.parquet")
        files = {entry.name: file_hash(entry) for entry in sorted(temporary.iterdir())}
        write_json(temporary / marker, {**meta, "files": files})


def save_beside(folder: Path, marker: str, tables: Mapping[str, pd.DataFrame], meta: Mapping[str, Any]) -> None:
    """Write tables, then the marker with their hashes, into a folder that keeps what else lies in it."""
    hashes = {}
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        write_text(path, table.to_csv(index=False, lineterminator="\n"))
        hashes[path.name] = file_hash(path)
    write_json(folder / marker, {**meta, "files": hashes})


def load_finished(
    folder: Path, marker: str, kind: str, names: tuple[str, ...]
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return what `save_beside` wrote, as `load_whole` does. Raises DataError also where it was not finished."""
    path = folder / marker
    if path.exists() and "unfinished" in path.read_text(encoding="utf-8", errors="replace")[:100]:
        raise DataError(f"{folder} is unfinished: run the same command again, and it goes on")
    return load_whole(folder, marker, kind, names)


def load_whole(
    folder: Path, marker: str, kind: str, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return the tables `names`, those of `optional` that are there, and the meta of a result.

    kind: what a message calls it. Raises DataError where anything is missing, damaged, or not as its hash has it.
    """
    try:
        meta = json.loads((folder / marker).read_text(encoding="utf-8"))
        names = (*names, *(name for name in optional if f"{name}.csv" in meta["files"]))
        for name in names:
            if file_hash(folder / f"{name}.csv") != meta["files"][f"{name}.csv"]:
                raise DataError(f"{folder / name}.csv was changed after the {kind} was written; make the {kind} again")
        return {name: read_table(folder / f"{name}.csv") for name in names}, meta
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no {kind}: {error.filename} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{folder / marker} is damaged ({error}); make the {kind} again") from None
