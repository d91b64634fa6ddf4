"""Every way in for labelled faces: labels are read and brought into the schemes asked for, every file is checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.checks import check_images, duplicate_findings
from fairaudit.data.labels import as_category, join_sources, task_classes
from fairaudit.data.manifest import read_fairface, read_manifest
from fairaudit.data.named import read_folders, read_utkface
from fairaudit.data.planted import read_planted
from fairaudit.data.raw import EXTRA, Finding, RawFaces
from fairaudit.data.tables import FaceTable, findings_table
from fairaudit.data.taxonomy import SCHEMES
from fairaudit.errors import DataError, UsageError
from fairaudit.files import value_hash
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.spec import DataSpec, SourceSpec
from fairaudit.wording import plural

Reader = Callable[[SourceSpec, Path], RawFaces]

SYNTHETIC_SOURCE = "Made-up faces drawn by fairaudit: labels are known exactly, except where noise was planted."


def load_faces(
    data: DataSpec, root: Path, *, seed: int = 0, tasks: Sequence[str] = (), progress: Progress = silent
) -> FaceTable:
    """Read a set of labelled faces below `root`, bring its labels into `data.target_schemes`, and check every file.

    `tasks` become the table's tasks (default: the data set's own), every other label an attribute. `data.limit` draws
    that many faces with the seed before any image is opened. Every face that was left out, repaired or masked is a row
    of `findings`; the labels of faces left out, where known, are counted in `meta["excluded"]`.

    Raises DataError where the folder is missing or holds no image with a usable label, UsageError for an unknown data
    set, task, column or scheme.
    """
    _only_used_keys(data)
    sources = [(source, _read(source, root)) for source in data.sources or (data,)]
    read = sum(len(raw.frame) for _, raw in sources)
    limited: list[Finding] = []
    if data.limit is not None and data.limit < read:
        sources = _drawn(sources, data.limit, seed)
        limited = [("limit", "", "listed", f"{data.limit:,} of {plural(read, 'face')} drawn with seed {seed}")]
    raw = join_sources(sources, data)
    classes = {task: task_classes(raw, task) for task in tasks or raw.default_tasks}
    folder = root if data.sources else _folder(data, root)
    checks, traps = check_images(folder, list(raw.frame["image"]), progress)
    if any(source.dataset == "fairface" for source, _ in sources):
        traps += _padding(checks)
    frame = _usable(raw, checks, classes)
    labels = [name for name in (*raw.attributes, "age_years") if name != "dataset"]
    findings = findings_table([*limited, *raw.findings, *traps, *duplicate_findings(frame, labels)])
    if not any(frame[task].notna().any() for task in classes or raw.attributes):
        raise DataError(_nothing(folder, len(frame), findings))
    return FaceTable(
        frame=frame,
        root=folder,
        tasks=classes,
        attributes=tuple(name for name in raw.attributes if name not in classes),
        findings=findings,
        label_source=data.label_source or raw.label_source,
        ordered=frozenset(task for task in classes if task in raw.schemes and SCHEMES[raw.schemes[task]].ordered),
        meta={
            **raw.meta,
            "dataset": data.dataset,
            "data_hash": value_hash([frame.columns.tolist(), frame.astype(str).to_numpy().tolist()]),
            "excluded": _counted(pd.concat([raw.excluded, raw.frame[~checks["usable"]]]), raw.attributes),
            "image_sizes": _sizes(checks[checks["usable"]]),
        },
    )


def _usable(raw: RawFaces, checks: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the faces whose files can be used, by name, labels as categories, with each file's hash."""
    frame = raw.frame.assign(sha256=checks["sha256"].to_numpy(dtype=object))
    for name in raw.attributes:
        frame[name] = as_category(raw, name, classes.get(name))
    for name in ("subject_id", "official_split"):
        if name in frame:
            frame[name] = frame[name].tolist()  # one text type, however the set was read
    frame = frame[checks["usable"].to_numpy(dtype=bool)].sort_values("image", kind="stable", ignore_index=True)
    return frame[["image", *raw.attributes, *(name for name in EXTRA if name in frame), "sha256"]]


def read_synthetic(source: SourceSpec, root: Path) -> RawFaces:
    """Read made-up faces: their manifest, and what was planted in them as `meta["planted"]`."""
    raw = read_manifest(source, root)
    said = source.label_source or SYNTHETIC_SOURCE
    return replace(raw, label_source=said, meta={"planted": read_planted(root)})


def _read(source: SourceSpec, root: Path) -> RawFaces:
    reader = lookup(READERS, source.dataset, "dataset")
    return reader(source, _folder(source, root))


def _only_used_keys(data: DataSpec) -> None:
    """Raise UsageError for a key that this kind of data does not read, so that none is silently ignored."""
    for source in (data, *data.sources):
        used = lookup(_KEYS, source.dataset, "dataset")
        for key, field in SourceSpec.model_fields.items():
            if key not in ("dataset", *used) and getattr(source, key) != field.get_default(call_default_factory=True):
                raise UsageError(f"data.{key} means nothing for dataset {source.dataset!r}: remove it")


def _folder(source: SourceSpec, root: Path) -> Path:
    if Path(source.folder).is_absolute() or ".." in Path(source.folder).parts:
        raise UsageError(f"data folder = {source.folder!r}: give the name of a folder below --data, without '..'")
    folder = root / source.folder
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"data folder {folder} {what}; give the folder of the {source.dataset} faces with --data")
    return folder


def _drawn(sources: Sequence[tuple[SourceSpec, RawFaces]], limit: int, seed: int) -> list[tuple[SourceSpec, RawFaces]]:
    """Keep `limit` faces over all sets, drawn with the seed; findings about faces that were not drawn go, too."""
    sizes = [len(raw.frame) for _, raw in sources]
    chosen = np.sort(np.random.default_rng(seed).choice(sum(sizes), limit, replace=False))
    drawn, start = [], 0
    for (source, raw), size in zip(sources, sizes, strict=True):
        rows = chosen[(chosen >= start) & (chosen < start + size)] - start
        frame = raw.frame.iloc[rows].reset_index(drop=True)
        gone = set(raw.frame["image"]) - set(frame["image"])
        findings = [row for row in raw.findings if row[1] not in gone]
        drawn.append((source, replace(raw, frame=frame, findings=findings)))
        start += size
    return drawn


def _counted(excluded: pd.DataFrame, attributes: Sequence[str]) -> list[dict[str, Any]]:
    """Count faces left out by their labels: records of every attribute ("unknown" where not known) and `n`."""
    if excluded.empty:
        return []
    table = excluded.reindex(columns=list(attributes))
    table = table.astype(object).where(table.notna(), "unknown")
    counts = table.value_counts(sort=False).rename("n").reset_index()
    return [{name: row[name] for name in attributes} | {"n": int(row["n"])} for _, row in counts.iterrows()]


def _padding(checks: pd.DataFrame) -> list[Finding]:
    """List FairFace pictures of the release with padding 1.25, which are other data than those with padding 0.25."""
    wide, narrow = (int(((checks["width"] == side) & (checks["height"] == side)).sum()) for side in (448, 224))
    detail = (
        f"{wide:,} pictures have the size of FairFace's release with padding 1.25, {narrow:,} that of padding 0.25: "
        "these are different data; train and audit on the same one"
    )
    return [("padding", "", "listed", detail)] if wide else []


def _sizes(checks: pd.DataFrame) -> Mapping[str, int]:
    """Return the ten commonest picture sizes ("200 × 200") and how many files have each."""
    sizes = (checks["width"].astype(str) + " × " + checks["height"].astype(str)).value_counts()
    return {str(size): int(count) for size, count in sizes.head(10).items()}


def _nothing(folder: Path, images: int, findings: pd.DataFrame) -> str:
    kinds = [f"{kind}: {count:,}" for kind, count in findings["kind"].value_counts().items()]
    met = ", ".join([f"{plural(images, 'image')} without a label" if images else "no usable image", *kinds])
    return f"{folder} holds no image with a usable label ({met}); is this the right folder for this dataset?"


# What each kind of data reads of a SourceSpec.
_TABLE_KEYS = ("folder", "manifest", "columns", "values", "schemes", "attributes", "label_source")
_KEYS: dict[str, tuple[str, ...]] = {
    "utkface": ("folder", "values", "schemes", "attributes", "label_source"),
    "fairface": _TABLE_KEYS,
    "manifest": _TABLE_KEYS,
    "folders": ("folder", "values", "schemes", "class_task", "label_source"),
    "synthetic": _TABLE_KEYS,
    "merged": ("label_source",),
}
READERS: dict[str, Reader] = {
    "utkface": read_utkface,
    "fairface": read_fairface,
    "manifest": read_manifest,
    "folders": read_folders,
    "synthetic": read_synthetic,
}
