"""Label schemes of the public face data sets, and the published mappings between them.

Sources: UTKFace's project page; Kärkkäinen & Joo, FairFace, WACV 2021. Labels are annotators' perceptions.
"""

from collections.abc import Mapping
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
AGE_STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
RACE7 = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
RACE5 = ("White", "Black", "Asian", "Indian", "Others")

SCHEMES: dict[str, Scheme] = {
    "age9": Scheme(name="age9", attribute="age", classes=AGE_BINS, ordered=True),
    "gender2": Scheme(name="gender2", attribute="gender", classes=("Male", "Female")),
    "race7": Scheme(name="race7", attribute="race", classes=RACE7),
    "race5": Scheme(name="race5", attribute="race", classes=RACE5),
}

# None: the target scheme cannot express the label, so the head's label is masked (missing), never wrong.
MAPPINGS: dict[tuple[str, str], dict[str, str | None]] = {
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


def scheme_of(attribute: str, values: Mapping[str, int] | set[str] | list[str]) -> Scheme | None:
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
