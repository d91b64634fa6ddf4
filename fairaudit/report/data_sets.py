"""What is publicly known of the sets of faces that audits are often made on: terms, origin, limits of the labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairaudit.report.legal import stated

NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One public set of faces: its title, where it comes from, its terms of use, and what its labels are worth."""

    title: str
    origin: str
    terms: str
    labels: str


DATA_SETS: dict[str, DataSet] = {
    "utkface": DataSet(
        title="UTKFace",
        origin="Faces collected from the web (Zhang, Song & Qi, CVPR 2017); the people in them were not asked.",
        terms="Its own page: for non-commercial research only; the copyright of each image stays with its owner.",
        labels="Age, gender and race were estimated by an algorithm (DEX) and checked by one annotator. Race has five "
        "classes, of which “Others” joins people with little in common; gender has two.",
    ),
    "fairface": DataSet(
        title="FairFace",
        origin="Faces from Flickr’s YFCC-100M (Kärkkäinen & Joo, WACV 2021), chosen to balance seven race labels; the "
        "people in them were not asked.",
        terms="Its own page: CC BY 4.0 for the set; each photograph also has the licence of its Flickr page.",
        labels="Age, gender and race are perceptions of several crowd annotators, refined with the help of a model: a "
        "model like it agrees with them more easily. Race has seven classes, gender two, age nine bins.",
    ),
    "synthetic": DataSet(
        title="Made-up faces",
        origin="Drawn by fairaudit; no person is in them.",
        terms="None needed: they show nobody.",
        labels="Known exactly, except where label noise was planted. Its “groups” are conventions of the drawing and "
        "say nothing about people.",
    ),
}
_BEGINNINGS = {"utkface’s": "utkface", "utkface's": "utkface", "fairface's": "fairface", "made-up": "synthetic"}


def names_of(meta: Mapping[str, Any]) -> list[str]:
    """Return the data sets of an audit, lower case: as stated, as read, or as the source of the labels tells; may be
    empty.
    """
    data = meta.get("data") or {}
    read = [str(name) for name in data.get("sources") or ()]
    read = read or [name for name in [str(data.get("dataset") or "")] if name not in ("", "merged")]
    told = str(stated(meta).get("data_set") or "")
    # a manifest is a way to read files, not a set: what is stated, or said of the labels, says more
    known = [name.lower() for name in ([told] if told else read) if name.lower() not in ("manifest", "folders")]
    first = str(meta.get("label_source") or "").split(" ")[0].lower()
    guessed = [_BEGINNINGS[first]] if not known and first in _BEGINNINGS else []
    return list(dict.fromkeys([*known, *guessed]))


def title_of(name: str) -> str:
    """Return the title of a data set; one that is not known stands by the name that was given."""
    return DATA_SETS[name].title if name in DATA_SETS else name
