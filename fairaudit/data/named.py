"""Labels that stand in a name: UTKFace's file names, and class folders."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fairaudit.data.images import list_images
from fairaudit.data.raw import EXTRA, RawFaces, existing, mask_unknown, tidy_age
from fairaudit.data.taxonomy import MAX_AGE, RACE5, SCHEMES, age_bins
from fairaudit.errors import UsageError
from fairaudit.registry import lookup
from fairaudit.spec import SourceSpec

GENDERS = ("Male", "Female")
UTKFACE_SOURCE = (
    "UTKFace's labels of age, gender and race were, by its own page, estimated by an algorithm (DEX) and checked by "
    "one annotator: a gap found here is a gap in agreement with those labels."
)
_UTKFACE_ENDING = re.compile(r"\.jpg(\.chip\.jpg)?$", re.IGNORECASE)


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
    elif scheme:
        frame, more = mask_unknown(frame, task, scheme)
        findings += more
    return RawFaces(
        frame=frame,
        attributes=(task,),
        schemes={task: scheme} if scheme else {},
        default_tasks=(task,),
        findings=[*findings, *outside],
        excluded=pd.concat([excluded, pd.DataFrame({"image": loose})], ignore_index=True),
        label_source=source.label_source or "",
    )


def _with_values(raw: RawFaces, source: SourceSpec) -> RawFaces:
    """Apply the spec's value mapping, and keep only the attributes that it asks for."""
    keep = source.attributes or raw.attributes
    for name in (*keep, *source.values):
        lookup(dict.fromkeys(raw.attributes), name, "attribute")
    frame = raw.frame.drop(columns=[name for name in raw.attributes if name not in keep])
    for name, words in source.values.items():
        frame[name] = frame[name].replace(dict(words))
    schemes = {name: source.schemes.get(name, scheme) for name, scheme in raw.schemes.items() if name in keep}
    findings = [*raw.findings]
    for name, scheme in schemes.items():
        frame, found = mask_unknown(frame, name, scheme)
        findings += found
    tasks = tuple(keep)
    return replace(raw, frame=frame, attributes=tasks, schemes=schemes, default_tasks=tasks, findings=findings)


def _recognised(task: str, values: Sequence[str]) -> str | None:
    """Return the scheme that has every one of at least two folder names, the task's own attribute preferred."""
    fitting = [s for s in SCHEMES.values() if len(values) > 1 and set(values) <= {*s.classes, "more than 70"}]
    fitting = [s for s in fitting if s.attribute == task] or fitting
    return min(fitting, key=lambda scheme: len(scheme.classes)).name if fitting else None
