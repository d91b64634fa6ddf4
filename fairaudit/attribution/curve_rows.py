"""From the curves of single faces to tables: mean curves with intervals, and whether an attribution beats chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.attribution.curves import CHECKS, FILLS, ORDERS, Curves, area
from fairaudit.attribution.maps import mean_interval, signed_interval
from fairaudit.attribution.passes import Pass
from fairaudit.attribution.sanity import FAILED, PASSED
from fairaudit.wording import plural

NOT_SHOWN = "not shown"
_TAKEN = {"deletion": "taken away", "insertion": "shown"}
_RANDOM = {"scattered": "cells scattered at random", "blocks": "random blocks of cells"}


def curve_table(one: Pass, found: Sequence[Curves]) -> list[dict[str, object]]:
    """Return the rows of curves.csv: mean probability over faces, Student t limits clipped to 0…1, NaN where all faces
    are alike: what does not vary tells nothing of how far it might."""
    rows = []
    for task, values in _stacked(found).items():
        for c, check in enumerate(CHECKS):
            for f, fill in enumerate(FILLS):
                for o, order in enumerate(ORDERS):
                    for k, at in enumerate(values[:, c, f, o].T):
                        mean, low, high = _unless_alike(at, mean_interval(at))
                        rows.append(
                            {
                                "method": one.method,
                                "baseline": one.baseline,
                                "task": task,
                                "check": check,
                                "fill": fill,
                                "order": order,
                                "share": k / (values.shape[-1] - 1),
                                "value": mean,
                                "low": low,
                                "high": high,
                                "n": len(at),
                            }
                        )
    return rows


@dataclass(frozen=True, kw_only=True)
class _Apart:
    """Mean areas of the attribution's and of a random order, and the interval of their difference over faces."""

    order: str
    own: float
    random: float
    low: float
    high: float


def curve_checks(one: Pass, found: Sequence[Curves], faces: int) -> list[dict[str, object]]:
    """Return the rows of sanity.csv: the area under the attribution's curve minus that under random orders' curves.

    A face is the unit, its difference paired; Student t limits at 95 %. Of the two kinds of random orders, scattered
    and in blocks, the one that the attribution stands out less against counts. Deletion should lie below 0, insertion
    above. `passed`: it does so, limits and all, with every fill; `failed`: it lies on the other side, against both
    kinds, with every fill; else `not shown`. `faces`: how many were asked for, as some may have no attribution.
    """
    rows = []
    for task, values in _stacked(found).items():
        for c, check in enumerate(CHECKS):
            wanted = -1 if check == "deletion" else 1
            areas = area(values[:, c])  # (n, fills, orders)
            nearest = [_nearest(areas[:, f], wanted) for f in range(len(FILLS))]
            outcome = _outcome(areas, nearest, wanted)
            for fill, apart in zip(FILLS, nearest, strict=True):
                rows.append(
                    {
                        "method": one.method,
                        "baseline": one.baseline,
                        "task": task,
                        "check": check,
                        "part": fill,
                        "value": apart.own - apart.random,
                        "low": apart.low,
                        "high": apart.high,
                        "limit": 0.0,
                        "n": len(areas),
                        "outcome": outcome,
                        "sentence": _sentence(task, check, fill, apart, len(areas), faces, outcome),
                    }
                )
    return rows


def _stacked(found: Sequence[Curves]) -> dict[str, np.ndarray]:
    """Return {task: (n, checks, fills, orders, S + 1)} of the faces that have an attribution."""
    tasks = dict.fromkeys(task for face in found for task in face.values)
    return {task: np.stack([face.values[task] for face in found if task in face.values]) for task in tasks}


def _nearest(areas: np.ndarray, wanted: int) -> _Apart:
    """Return the comparison, of those with each kind of random orders, whose limit comes closest to no advantage."""
    found = []
    for o, order in enumerate(ORDERS[1:], 1):
        _, low, high = _difference(areas[:, 0] - areas[:, o])
        own, random = areas[:, [0, o]].mean(axis=0).tolist()
        found.append(_Apart(order=order, own=own, random=random, low=low, high=high))
    return min(found, key=lambda apart: np.nan_to_num(-apart.high if wanted < 0 else apart.low, nan=-np.inf))


def _difference(values: np.ndarray) -> tuple[float, float, float]:
    return _unless_alike(values, signed_interval(values))


def _unless_alike(values: np.ndarray, found: tuple[float, float, float]) -> tuple[float, float, float]:
    return found if np.ptp(values) > 1e-12 else (found[0], np.nan, np.nan)


def _outcome(areas: np.ndarray, nearest: Sequence[_Apart], wanted: int) -> str:
    if all(apart.high < 0 if wanted < 0 else apart.low > 0 for apart in nearest):
        return PASSED
    every = [_difference(areas[:, f, 0] - areas[:, f, o]) for f in range(len(FILLS)) for o in (1, 2)]
    wrong = all(low > 0 if wanted < 0 else high < 0 for _, low, high in every)
    return FAILED if wrong else NOT_SHOWN


def _sentence(task: str, check: str, fill: str, apart: _Apart, n: int, faces: int, outcome: str) -> str:
    less = "lower" if check == "deletion" else "higher"
    limits = f"difference {apart.own - apart.random:+.3f}"
    limits += f", {apart.low:+.3f} to {apart.high:+.3f}" if apart.low == apart.low else ", alike in all: no interval"
    limits = limits if n > 1 else "one face gives no interval"
    without = f" of {faces}, the others have no attribution" if faces > n else ""
    end = {PASSED: "", FAILED: "; it is worse than chance with every fill", NOT_SHOWN: "; not shown with every fill"}
    return (
        f"{check} with the {fill} fill: over all shares {_TAKEN[check]}, most attributed first, the probability of the "
        f"explained class of {task} averages {apart.own:.3f}, with {_RANDOM[apart.order]} {apart.random:.3f} "
        f"({limits}; {plural(n, 'face')}{without}; {less} is wanted{end[outcome]})"
    )
