"""What robustness found, in sentences."""

from collections.abc import Mapping
from typing import Any

from fairaudit.subgroups import CROSS, parse

CLASS_IS_GROUP = " There the subgroup decides the label: answers may only have moved to other classes."
NO_SPREAD = "all losses are alike, here and elsewhere: nothing tells how far this might be from 0"
_HARM = {"jpeg": "JPEG compression", "low-contrast": "Low contrast"}


def harm(perturbation: str) -> str:
    """Return the name of a perturbation as a sentence begins with it."""
    return _HARM.get(perturbation, perturbation.capitalize())


def sentence_of(row: Mapping[str, Any]) -> str:
    """Return what one test of robustness_tests.csv found, with its interval, n and adjusted p."""
    axis = CROSS.join(parse(str(row["by"])))
    at = " with the same label" if row["matched"] else ""
    p = "below .001" if row["p_adjusted"] < 0.001 else "= " + f"{row['p_adjusted']:.3f}".lstrip("0")
    return (
        f"{harm(str(row['perturbation']))} costs faces labelled {row['subgroup']} ({axis}) "
        f"{100 * row['difference']:.1f} points more of the {row['task']} head’s accuracy than everyone else{at} "
        f"({100 * row['low']:.1f} to {100 * row['high']:.1f}; mean over five strengths; n {row['n']:,} against "
        f"{row['n_rest']:,}; p {p}, adjusted for {row['family_size']:,} comparisons)."
        + ("" if row["matched"] else CLASS_IS_GROUP)
    )
