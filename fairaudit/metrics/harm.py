"""Was anybody harmed: one-sided paired bounds on the loss of each subgroup, and how many faces would decide."""

from collections.abc import Mapping

import numpy as np
from scipy import special

from fairaudit.errors import UsageError

MARGIN = 0.02  # a loss below 2 points counts as no harm unless another margin is stated
POWER = 0.8
NOT_HARMED, HARMED, OPEN = "not harmed", "harmed", "harm not excluded"


def check_margin(margin: float) -> float:
    """Return the margin; UsageError where it is no loss of a share."""
    if not 0 < margin < 1:
        raise UsageError(
            f"margin {margin:g}: the loss that still counts as no harm lies between 0 and 1, such as 0.02 (2 points)"
        )
    return float(margin)


def verdict(low: float, high: float, margin: float) -> str:
    """Return the verdict on a change whose bounds hold for all subgroups at once.

    Not harmed: the lower bound is above −margin. Harmed: the upper bound is below 0, and the loss may reach the margin.
    """
    if low > -margin:
        return NOT_HARMED
    return HARMED if high < 0 else OPEN


def faces_to_exclude(
    delta: float, variance: float, n: float, margin: float, z: float, fixed: float = 0.0
) -> tuple[float, str]:
    """Return with how many faces a loss of `margin` would be excluded with 80 % power, and why none would do.

    (z + z_.8)² · v / (margin + min(δ, 0))², v = n · variance of the estimated change; the truth is taken to be what was
    seen, but no gain: a gain that is luck must not make the number small. `fixed`: variance that more faces do not
    take away (that between seeds). Oracle: simulation in the tests. NaN where no number does.
    """
    room = margin + min(delta, 0.0)
    if not room > 0:
        return (
            np.nan,
            "the loss seen is at or beyond the margin: more faces are likelier to show harm than to exclude it",
        )
    allowed = (room / (z + float(special.ndtri(POWER)))) ** 2 - fixed
    if not allowed > 0:
        return np.nan, "the spread over seeds alone is too wide: more seeds are needed, not more faces"
    return float(np.ceil(max(n * variance / allowed, 1.0))), ""


def everyone(verdicts: Mapping[str, str]) -> str:
    """Return the verdict on all subgroups together: "No one harmed" needs every one of them."""
    found = set(verdicts.values())
    if HARMED in found:
        return HARMED
    return NOT_HARMED if found == {NOT_HARMED} else OPEN
