"""What masking found, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.robustness.words import CLASS_IS_GROUP
from fairaudit.subgroups import CROSS, OVERALL, parse

NEEDED, MISLEADS = "needed", "misleads"


def reading_sentence(row: Mapping[str, Any]) -> str:
    """Return what all fills say of hiding a region; row["drops"] has fill → (drop, low, high)."""
    whom = "all faces" if row["by"] == OVERALL else f"faces labelled {row['subgroup']} ({CROSS.join(parse(row['by']))})"
    costs = row["reading"] == NEEDED
    sign = 1 if costs else -1
    parts = []
    for fill, (drop, *ends) in row["drops"].items():
        low, high = sorted(sign * end for end in ends)
        parts.append(f"{_points(sign * drop)} points with {fill} ({_points(low)} to {_points(high)})")
    verb = "lowers" if costs else "raises"
    what = f"Hiding the {row['region']} {verb} the {row['task']} head’s accuracy on {whom}"
    return f"{what}: {', '.join(parts)}; n {row['n']:,}."


def sentence_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what the tests of one subgroup and region found, a row a fill."""
    first = rows[0]
    at = " with the same label" if first["matched"] else ""
    p = "below .001" if first["p_adjusted"] < 0.001 else "= " + f"{first['p_adjusted']:.3f}".lstrip("0")
    parts = [
        f"{_points(row['difference'])} points with {row['fill']} ({_points(row['low'])} to {_points(row['high'])})"
        for row in rows
    ]
    whom = f"faces labelled {first['subgroup']} ({CROSS.join(parse(first['by']))})"
    return (
        f"Hiding the {first['region']} costs {whom} more of the {first['task']} head’s accuracy than everyone "
        f"else{at}: {', '.join(parts)}; n {first['n']:,} against {first['n_rest']:,}; p {p}, adjusted for "
        f"{first['family_size']:,} comparisons." + ("" if first["matched"] else CLASS_IS_GROUP)
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-", "−")
