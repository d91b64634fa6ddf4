"""Every way in for labelled faces: labels are read and brought into the schemes asked for, every file is checked."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.checks import check_images, duplicate_findings
from fairaudit.data.images import list_images
from fairaudit.data.labels import as_category, join_sources, task_classes
from fairaudit.data.manifest import read_fairface, read_manifest
from fairaudit.data.raw import EXTRA, Finding, RawFaces, existing, tidy_age
from fairaudit.data.tables import FaceTable, findings_table
from fairaudit.data.taxonomy import MAX_AGE, RACE5, SCHEMES, age_bins
from fairaudit.errors import DataError, UsageError
from fairaudit.files import value_hash
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.spec import DataSpec, SourceSpec

Reader = Callable[[SourceSpec, Path], RawFaces]

GENDERS = ("Male", "Female")
UTKFACE_SOURCE = (
    "UTKFace's labels of age, gender and race were, by its own page, estimated by an algorithm (DEX) and checked by "
    "one annotator: a gap found here is a gap in agreement with those labels."
)
SYNTHETIC_SOURCE = "Made-up faces drawn by fairaudit: labels are known exactly, except where noise was planted."
_UTKFACE_ENDING = re.compile(r"\.jpg(\.chip\.jpg)?$", re.IGNORECASE)


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
        limited = [("limit", "", "listed", f"{data.limit:,} of {read:,} faces were drawn with seed {seed}")]
    raw = join_sources(sources, data)
    classes = {task: task_classes(raw, task) for task in tasks or raw.default_tasks}
    folder = root if data.sources else _folder(data, root)
    checks, traps = check_images(folder, list(raw.frame["image"]), progress)
    if any(source.dataset == "fairface" for source, _ in sources):
        traps += _padding(checks)
    usable = checks["usable"].to_numpy(dtype=bool)
    frame = raw.frame.assign(sha256=checks["sha256"].to_numpy(dtype=object))
    for name in raw.attributes:
        frame[name] = as_category(raw, name, classes.get(name))
    excluded = pd.concat([raw.excluded, raw.frame[~usable]], ignore_index=True)
    frame = frame[usable].sort_values("image", kind="stable").reset_index(drop=True)
    labels = [*(name for name in raw.attributes if name != "dataset"), *(n for n in ("age_years",) if n in frame)]
    findings = findings_table([*limited, *raw.findings, *traps, *duplicate_findings(frame, labels)])
    if not any(frame[task].notna().any() for task in classes or raw.attributes):
        raise DataError(_nothing(folder, findings))
    extra = [name for name in EXTRA if name in frame]
    frame = frame[["image", *raw.attributes, *extra, "sha256"]]
    meta = {
        **raw.meta,
        "dataset": data.dataset,
        "data_hash": value_hash([frame.columns.tolist(), frame.astype(str).to_numpy().tolist()]),
        "excluded": _counted(excluded, raw.attributes),
        "image_sizes": _sizes(checks[usable]),
    }
    return FaceTable(
        frame=frame,
        root=folder,
        tasks=classes,
        attributes=tuple(name for name in raw.attributes if name not in classes),
        findings=findings,
        label_source=data.label_source or raw.label_source,
        ordered=frozenset(task for task in classes if _is_ordered(raw, task)),
        meta=meta,
    )


def read_utkface(source: SourceSpec, root: Path) -> RawFaces:
    """Read UTKFace: `[age]_[gender]_[race]_[date].jpg`, with or without `.chip.jpg`; malformed names are left out."""
    names, findings = list_images(root)
    rows: list[tuple[str, int, str, str]] = []
    for name in names:
        parsed = utkface_labels(name.rsplit("/", 1)[-1])
        if isinstance(parsed, str):
            findings.append(("malformed_name", name, "excluded", parsed))
        else:
            rows.append((name, *parsed))
    frame = pd.DataFrame(rows, columns=["image", "age_years", "gender", "race"])
    frame["age"] = age_bins(frame["age_years"])
    frame["age_years"] = frame["age_years"].astype(float)
    frame, excluded, outside = existing(frame, root)
    unlabelled = pd.DataFrame({"image": [row[1] for row in findings if row[0] == "malformed_name"]})
    raw = RawFaces(
        frame=frame,
        attributes=("gender", "race", "age"),
        schemes={"gender": "gender2", "race": "race5", "age": "age9"},
        default_tasks=("gender", "race", "age"),
        findings=[*findings, *outside],
        excluded=pd.concat([excluded, unlabelled], ignore_index=True),
        label_source=source.label_source or UTKFACE_SOURCE,
    )
    return _with_values(raw, source)


def utkface_labels(name: str) -> tuple[int, str, str] | str:
    """Return (age in years, gender, race) as a UTKFace name spells them, or what is wrong with the name."""
    ending = _UTKFACE_ENDING.search(name)
    if ending is None:
        return "it does not end in .jpg or .jpg.chip.jpg"
    stem = name[: ending.start()]
    if stem.lower().endswith(("jpg", "jpg.chip")):
        return "the dot before 'jpg' is missing"
    fields = stem.split("_")
    if len(fields) == 3:
        which = "the gender is" if fields[1].isdigit() and int(fields[1]) > 1 else "the race (or the gender) is"
        return f"{which} missing: only {', '.join(fields)}"
    if len(fields) != 4:
        return f"{len(fields)} fields instead of age, gender, race, date"
    for label, value in zip(("age", "gender", "race", "date"), fields, strict=True):
        if not value:
            return f"the {label} is empty"
        if not (value.isascii() and value.isdigit()):
            return f"the {label} {value!r} is no number"
    age, gender, race = (int(value) for value in fields[:3])
    for label, number, highest in (("age", age, MAX_AGE), ("gender", gender, 1), ("race", race, 4)):
        if number > highest:
            return f"the {label} is {number}, outside 0…{highest}"
    return age, GENDERS[gender], RACE5[race]


def read_folders(source: SourceSpec, root: Path) -> RawFaces:
    """Read class folders, `root/<class>/…/*.jpg`: the folder's name is the label of the task `class_task`."""
    names, findings = list_images(root)
    loose = [name for name in names if "/" not in name]
    findings += [("no_class", name, "excluded", "it lies in no class folder") for name in loose]
    frame = pd.DataFrame({"image": [name for name in names if "/" in name]}, dtype=object)
    task = source.class_task
    if task in ("image", *EXTRA, "sha256", "split", "trainable", "dataset"):
        raise UsageError(f"data.class_task = {task!r} is a name that fairaudit uses itself; choose another")
    frame[task] = frame["image"].map(lambda name: name.split("/", 1)[0]).replace(source.values.get(task, {}))
    frame, excluded, outside = existing(frame, root)
    scheme = source.schemes.get(task) or _recognised(task, list(frame[task].unique()))
    if scheme == "age9":
        tidy, _, more = tidy_age(frame.rename(columns={task: "age"}), declared=True)
        frame, findings = frame.assign(**{task: tidy["age"]}), [*findings, *more]
    raw = RawFaces(
        frame=frame,
        attributes=(task,),
        schemes={task: scheme} if scheme else {},
        default_tasks=(task,),
        findings=[*findings, *outside],
        excluded=pd.concat([excluded, pd.DataFrame({"image": loose})], ignore_index=True),
        label_source=source.label_source or "",
    )
    return _known_only(raw, task)


def read_synthetic(source: SourceSpec, root: Path) -> RawFaces:
    """Read made-up faces: their manifest, and what was planted in them as `meta["planted"]`."""
    raw = read_manifest(source, root)
    path = root / "planted.json"
    try:
        planted = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: these are no faces written by 'fairaudit data synthesize'") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    said = source.label_source or SYNTHETIC_SOURCE
    return _replaced(raw, label_source=said, meta={"planted": planted})


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
        drawn.append((source, _replaced(raw, frame=frame, findings=findings)))
        start += size
    return drawn


def _replaced(raw: RawFaces, **changes: Any) -> RawFaces:
    return RawFaces(**{**{name: getattr(raw, name) for name in raw.__dataclass_fields__}, **changes})


def _with_values(raw: RawFaces, source: SourceSpec) -> RawFaces:
    """Apply the spec's value mapping, and keep only the attributes that it asks for."""
    keep = source.attributes or raw.attributes
    for name in (*keep, *source.values):
        lookup(dict.fromkeys(raw.attributes), name, "attribute")
    frame = raw.frame.drop(columns=[name for name in raw.attributes if name not in keep])
    for name, words in source.values.items():
        frame[name] = frame[name].replace(dict(words))
    schemes = {name: source.schemes.get(name, scheme) for name, scheme in raw.schemes.items() if name in keep}
    changed = _replaced(raw, frame=frame, attributes=tuple(keep), schemes=schemes, default_tasks=tuple(keep))
    for name in keep:
        changed = _known_only(changed, name)
    return changed


def _known_only(raw: RawFaces, name: str) -> RawFaces:
    """Mask labels that the attribute's scheme does not know, with a finding each."""
    if name not in raw.schemes:
        return raw
    classes = lookup(SCHEMES, raw.schemes[name], "label scheme").classes
    wrong = raw.frame[name].notna() & ~raw.frame[name].isin(classes)
    rows = raw.frame[wrong]
    found = [
        ("impossible_label", image, "masked", f"{name} {value!r} is none of {', '.join(classes)}")
        for image, value in zip(rows["image"], rows[name], strict=True)
    ]
    frame = raw.frame.assign(**{name: raw.frame[name].where(~wrong, None)})
    return _replaced(raw, frame=frame, findings=[*raw.findings, *found])


def _recognised(task: str, values: Sequence[str]) -> str | None:
    """Return the scheme that has every one of at least two folder names, the task's own attribute preferred."""
    fitting = [s for s in SCHEMES.values() if len(values) > 1 and set(values) <= {*s.classes, "more than 70"}]
    fitting = [s for s in fitting if s.attribute == task] or fitting
    return min(fitting, key=lambda scheme: len(scheme.classes)).name if fitting else None


def _is_ordered(raw: RawFaces, task: str) -> bool:
    return task in raw.schemes and SCHEMES[raw.schemes[task]].ordered


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


def _nothing(folder: Path, findings: pd.DataFrame) -> str:
    kinds = findings.loc[findings["action"] != "listed", "kind"].value_counts()
    met = ", ".join(f"{kind}: {count:,}" for kind, count in kinds.items()) or "no image file at all"
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
