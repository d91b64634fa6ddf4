"""What a reader returns: names and labels of one set, before any image is opened."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit.data.images import Inside
from fairaudit.data.taxonomy import AGE_BINS, MAX_AGE, SCHEMES, age_bins, age_label
from fairaudit.registry import lookup

Finding = tuple[str, str, str, str]
EXTRA = ("age_years", "subject_id", "weight", "official_split")


@dataclass(frozen=True, kw_only=True)
class RawFaces:
    """Names and labels of one set of faces.

    `frame`: `image` (relative to the set's folder), one text column for each of `attributes` (missing = no label), and
    where known `age_years`, `subject_id`, `weight`, `official_split`. `schemes`: the label scheme of an attribute whose
    scheme is declared; `default_tasks`: the attributes that are tasks where the spec names none; `excluded`: how many
    labelled faces were left out already.
    """

    frame: pd.DataFrame
    attributes: tuple[str, ...]
    schemes: Mapping[str, str] = field(default_factory=dict)
    default_tasks: tuple[str, ...] = ()
    findings: Sequence[Finding] = ()
    excluded: pd.DataFrame = field(default_factory=pd.DataFrame)
    label_source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


def existing(frame: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Split rows into those whose file is there and those to be left out, with a finding for each of the latter.

    Left out: rows without a name, paths that leave the root ("path_outside"), files that are missing, and rows that
    name a file for the second time ("duplicate_name"; the first row stays).
    """
    inside = Inside(root)
    first: dict[str, int] = {}
    findings: list[Finding] = []
    keep: list[bool] = []
    for position, name in enumerate(frame["image"]):
        trap = _trap(name, root, inside)
        if trap is None and name in first:
            trap = ("duplicate_name", _against_first(frame, first[name], position))
        if trap is None:
            first[name] = position
        else:
            findings.append((trap[0], name, "excluded", trap[1]))
        keep.append(trap is None)
    kept = pd.Series(keep, index=frame.index, dtype=bool)
    return frame[kept].reset_index(drop=True), frame[~kept].reset_index(drop=True), findings


def _trap(name: str, root: Path, inside: Inside) -> tuple[str, str] | None:
    if not name:
        return "missing_file", "the row names no image"
    outside = None if "\0" in name else inside.why_not(name)
    if outside:
        return "path_outside", outside
    # os.path answers False, where pathlib raises, for a name that no file system takes.
    there = "\0" not in name and os.path.isfile(root / name)  # noqa: PTH113
    return None if there else ("missing_file", "listed in the table, but there is no such file")


def _against_first(frame: pd.DataFrame, first: int, second: int) -> str:
    a, b = frame.iloc[first], frame.iloc[second]
    names = [str(name) for name in frame.columns]
    differing = [name for name in names if pd.notna(a[name]) and pd.notna(b[name]) and a[name] != b[name]]
    detail = f"its labels differ from the first row's in {', '.join(differing)}" if differing else "same labels"
    return f"the table names this image twice; {detail}; the first row is used"


def tidy_age(frame: pd.DataFrame, *, declared: bool) -> tuple[pd.DataFrame, bool, list[Finding]]:
    """Bring the text column `age` into the nine bins: years are binned, spreadsheet damage is repaired and listed.

    Returns the frame (with `age_years` where years were given), whether the column now is in the nine bins, and the
    findings. Unless the scheme is `declared`, a column in which most labels spell neither bin nor years stays verbatim.
    """
    given = frame["age"]
    spelled = {text: _age(text) for text in given.dropna().unique()}
    labels = given.map({text: label for text, (label, _, _) in spelled.items()})
    if not declared and labels.notna().sum() <= given.notna().sum() / 2:
        return frame, False, []
    findings: list[Finding] = []
    for image, text in zip(frame["image"], given, strict=True):
        if pd.notna(text):
            label, _, trap = spelled[text]
            if trap == "repaired":
                findings.append(("age_repaired", image, "repaired", f"{text!r}, a bin read as a date, is {label}"))
            elif trap:
                findings.append(("impossible_label", image, "masked", f"age {text!r} is {trap}"))
    years = given.map({text: years for text, (_, years, _) in spelled.items()}).astype(float)
    columns = {"age": labels.astype(object), **({"age_years": years} if years.notna().any() else {})}
    return frame.assign(**columns), True, findings


def _age(text: str) -> tuple[str | None, float | None, str]:
    """Return an age text's bin, its years where it gives years, and what was wrong with it ("" for nothing)."""
    try:
        years = float(text)
    except ValueError:
        label, repaired = age_label(text)
        return label, None, "" if label and not repaired else "repaired" if label else f"none of {', '.join(AGE_BINS)}"
    if not 0 <= years <= MAX_AGE:
        return None, None, f"outside 0…{MAX_AGE} years"
    return str(age_bins(pd.Series([years]))[0]), years, ""


def mask_unknown(frame: pd.DataFrame, name: str, scheme: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Mask the labels of `name` that are no class of `scheme`; return the frame and a finding for each.

    Raises UsageError for an unknown scheme.
    """
    classes = lookup(SCHEMES, scheme, "label scheme").classes
    wrong = frame[name].notna() & ~frame[name].isin(classes)
    rows = frame[wrong]
    found = [
        ("impossible_label", image, "masked", f"{name} {value!r} is none of {', '.join(classes)}")
        for image, value in zip(rows["image"], rows[name], strict=True)
    ]
    return frame.assign(**{name: frame[name].where(~wrong, None)}), found
