"""Label schemes of the public face data sets, and the published mappings between them.

Sources: UTKFace's project page; Kärkkäinen & Joo, FairFace, WACV 2021. Labels are annotators' perceptions.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from fairaudit.registry import lookup


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The classes of one attribute, in the order in which they are shown."""

    name: str
    attribute: str
    classes: tuple[str, ...]
    ordered: bool = False


AGE_BINS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
AGE_70_FAIRFACE = "more than 70"
AGE_STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
MAX_AGE = 120
RACE7 = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
RACE5 = ("White", "Black", "Asian", "Indian", "Others")

SCHEMES: dict[str, Scheme] = {
    "age9": Scheme(name="age9", attribute="age", classes=AGE_BINS, ordered=True),
    # FairFace's own spelling of the last bin, as users' tables of predictions have it
    "age9-fairface": Scheme(
        name="age9-fairface", attribute="age", classes=(*AGE_BINS[:-1], AGE_70_FAIRFACE), ordered=True
    ),
    "gender2": Scheme(name="gender2", attribute="gender", classes=("Male", "Female")),
    "race7": Scheme(name="race7", attribute="race", classes=RACE7),
    "race5": Scheme(name="race5", attribute="race", classes=RACE5),
}

# None: the target scheme cannot express the label, so the head's label is masked (missing), never wrong.
MAPPINGS: dict[tuple[str, str], dict[str, str | None]] = {
    ("age9-fairface", "age9"): {**{label: label for label in AGE_BINS[:-1]}, AGE_70_FAIRFACE: AGE_BINS[-1]},
    ("race7", "race5"): {
        "White": "White",
        "Black": "Black",
        "Latino_Hispanic": "Others",
        "East Asian": "Asian",
        "Southeast Asian": "Asian",
        "Indian": "Indian",
        "Middle Eastern": "Others",
    },
    ("race5", "race7"): {"White": "White", "Black": "Black", "Asian": None, "Indian": "Indian", "Others": None},
}


_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_BIN = re.compile(r"(\d+) ?[-–] ?(\d+)")
_OPEN = re.compile(r"(?:more than |>=? ?)(\d+)|(\d+)(?:\+| and over)")
_TIME = re.compile(r"[ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$")
# The two bins that a spreadsheet reads as dates: both numbers can be a day, a month or a year.
_DATE_LIKE = {frozenset({3, 9}): "3-9", frozenset({10, 19}): "10-19"}


def scheme_of(attribute: str, values: Iterable[str]) -> Scheme | None:
    """Return the known scheme of `attribute` that has every one of `values`, else None; the smallest that fits."""
    fitting = [s for s in SCHEMES.values() if s.attribute == attribute and set(values) <= set(s.classes)]
    return min(fitting, key=lambda scheme: len(scheme.classes)) if fitting else None


def map_labels(labels: pd.Series, source: str, target: str) -> pd.Series:
    """Return `labels` of the scheme `source` in the scheme `target`; what it cannot express becomes missing.

    Raises UsageError where no mapping between the two schemes is published.
    """
    if source == target:
        return labels
    table = lookup({f"{a} to {b}": m for (a, b), m in MAPPINGS.items()}, f"{source} to {target}", "label mapping")
    return labels.map(table)


def age_bins(years: pd.Series) -> pd.Series:
    """Return the nine-bin label of each age in years: 2 is 0-2, 3 is 3-9; a missing or negative age stays missing."""
    numeric = pd.to_numeric(years, errors="coerce")
    return pd.cut(numeric, [*AGE_STARTS, float("inf")], labels=list(AGE_BINS), right=False).astype(object)


def age_starts(classes: Sequence[str]) -> tuple[int, ...] | None:
    """Return where each age bin begins, in years, of classes such as 0-2, 3-9, … 70+; None where they are no bins that
    follow each other without a gap, the last one open.
    """
    spelt = [_BIN.fullmatch(name.strip()) for name in classes]
    last = _OPEN.fullmatch(classes[-1].strip()) if classes else None
    if last is None or len(classes) < 2 or not all(spelt[:-1]):
        return None
    bins = [(int(match[1]), int(match[2])) for match in spelt[:-1] if match]
    starts = (*(first for first, _ in bins), int(last[1] or last[2]))
    ends = tuple(end + 1 for _, end in bins)
    return starts if starts[1:] == ends and all(a < b for a, b in zip(starts, ends, strict=False)) else None


def age_label(text: str) -> tuple[str | None, bool]:
    """Return the nine-bin label that `text` spells, and whether it had to be repaired.

    "20-29" and "more than 70" are as published; "03-Sep", "9-March", "Oct-19", "10/19/2024" or "2019-10-01" are "3-9"
    and "10-19" after a spreadsheet took them for dates. What spells no bin gives (None, False).
    """
    stripped = text.strip()
    if stripped in AGE_BINS:
        return stripped, False
    if stripped.lower() in ("more than 70", "70 and over", ">70", ">=70"):
        return "70+", False
    tokens = [_number(token) for token in re.split(r"[-–/. ,]+", _TIME.sub("", stripped))]
    numbers = [token for token in tokens if token is not None]
    if len(numbers) != len(tokens):
        return None, False
    plain = "-".join(str(number) for number in numbers)
    found = plain if plain in AGE_BINS else _undated(numbers)
    return found, found is not None


def _number(token: str) -> int | None:
    """Return a token's number, a month's name counting as its number; None for anything else."""
    if token.isascii() and token.isdigit():
        return int(token)
    lower = token.lower()
    starting = [number for number, month in enumerate(_MONTHS, 1) if len(lower) >= 3 and month.startswith(lower)]
    return starting[0] if starting else None


def _undated(numbers: list[int]) -> str | None:
    """Return the bin that became the date with these parts, or None where that is not certain."""
    if len(numbers) == 2:
        return _DATE_LIKE.get(frozenset(numbers))
    if len(numbers) != 3:
        return None
    year = next((number for number in numbers if number >= 1900), numbers[2])
    day_and_month = list(numbers)
    day_and_month.remove(year)
    found = _DATE_LIKE.get(frozenset(day_and_month))
    if found is None and year >= 1900 and 1 in day_and_month:
        # "Oct-19" kept as the first of October 2019: the bin's numbers are the month and the year.
        found = _DATE_LIKE.get(frozenset({max(day_and_month), year % 100}))
    return found
