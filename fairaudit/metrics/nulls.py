"""What gaps look like when no subgroup differs: group labels permuted within what a metric's criterion conditions on.

Without weights and subjects a permutation is an exact random table with fixed margins, drawn cell by cell
(hypergeometric), so its cost does not grow with the number of faces. Weighted faces are permuted with their weights.
With several pictures of a person whole persons change subgroup (a person's pictures within one subgroup stay
together), among the persons with the same most frequent label (or prediction): conditioning on every single label
would leave a person with two of them no one to change places with.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from fairaudit.metrics.rates import Metric, Table
from fairaudit.metrics.sample import Sample

Condition = Literal["label", "prediction", "nothing", "faces"]
_BY_PREDICTION = frozenset(("precision", "fdr", "npv", "macro_precision", "weighted_precision"))
_BY_NOTHING = frozenset(
    ("selection_rate", "base_rate", "accuracy", "weighted_recall", "recall_by_labelled_class", "off_by_one_accuracy")
) | {f"cumulative_score_{j}" for j in (1, 2)}
_BLOCK = 1_500_000


def condition_of(metric: Metric) -> Condition:
    """Return what is held fixed while subgroups are exchanged for the null of a metric.

    "label": the true class (recall, FPR, F1, kappa, MAE …); "prediction": the predicted class (precision …);
    "nothing": any two faces with a prediction change places (selection rate, crude accuracy …); "faces": any two faces,
    also without a prediction (the rates of outcomes, end-to-end accuracy).
    """
    if metric.outcome:
        return "faces"
    if metric.name in _BY_PREDICTION:
        return "prediction"
    return "nothing" if metric.name in _BY_NOTHING else "label"


def strata_of(table: Table, condition: Condition) -> np.ndarray:
    """Return the stratum of every cell, (labels · columns,) int: −1 where its faces are not exchanged."""
    row, column = (part.ravel() for part in np.indices(table.shape))
    if condition == "faces":
        return np.zeros(len(row), dtype=np.int64)
    code = {"label": row, "prediction": column}.get(condition, np.zeros_like(row))
    return np.where(column < table.classes, code, -1)


def random_tables(rows: np.ndarray, columns: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw tables (draws, G, V) of counts with these margins, as random permutation of labels makes them.

    rows (G,) and columns (V,): non-negative integers of equal sum. Each cell given those before it is hypergeometric.
    """
    table = np.zeros((draws, len(rows), len(columns)), dtype=np.int64)
    used, held = np.flatnonzero(rows), np.flatnonzero(columns)
    if len(held) == 2 and len(used):  # one draw of marks among the subgroups says it all
        marks = rng.multivariate_hypergeometric(rows[used], columns[held[0]], size=draws, method="marginals")
        table[:, used, held[0]], table[:, used, held[1]] = marks, rows[used] - marks
        return table
    if len(used) == 2:
        first = rng.multivariate_hypergeometric(columns[held], rows[used[0]], size=draws, method="marginals")
        table[:, used[0]][:, held], table[:, used[1]][:, held] = first, columns[held] - first
        return table
    left = np.broadcast_to(columns[held], (draws, len(held))).astype(np.int64)
    for g in used[:-1]:
        need = np.full(draws, rows[g], dtype=np.int64)
        pool = left.sum(1)
        for i, v in enumerate(held[:-1]):
            pool = pool - left[:, i]
            table[:, g, v] = rng.hypergeometric(left[:, i], pool, need)
            need = need - table[:, g, v]
        table[:, g, held[-1]] = need
        left = left - table[:, g, held]
    if len(used):
        table[:, used[-1], held] = left
    return table


def null_cubes(
    sample: Sample,
    keep: np.ndarray,
    strata: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    alike: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the cell sums Σw and the counts of every subgroup with group labels permuted: each (draws, G, cells).

    keep: bool (G,), the subgroups that take part (others are 0); strata: (cells,) of `strata_of`, −1 for cells that do
    not matter (0 in the draws, unless a person's other pictures bring them along). alike: (cells,) a number 0…A−1 for
    each cell, the same where no metric in question tells two apart: tables of plain faces then have A columns instead
    of the cells. Without weights both results are the same array.
    """
    if sample.weight is None and sample.subject is None:
        cubes = _table_cubes(sample, keep, strata, draws, rng, np.arange(strata.size) if alike is None else alike)
        return cubes, cubes
    parts = list(_permuted(sample, keep, strata, draws, rng))
    counts = np.concatenate([part[1] for part in parts])
    return (counts if sample.weight is None else np.concatenate([part[0] for part in parts])), counts


def _table_cubes(
    sample: Sample, keep: np.ndarray, strata: np.ndarray, draws: int, rng: np.random.Generator, alike: np.ndarray
) -> np.ndarray:
    cells = sample.counts.reshape(len(sample.groups), -1)[keep]
    drawn = np.zeros((draws, len(sample.groups), int(alike.max()) + 1))
    members = np.flatnonzero(keep)
    for stratum in np.unique(strata[strata >= 0]):
        inside = np.flatnonzero(strata == stratum)
        column, kind = np.unique(alike[inside], return_inverse=True)
        part = cells[:, inside] @ np.eye(len(column), dtype=np.int64)[kind]
        drawn[:, members[:, None], column] += random_tables(part.sum(1), part.sum(0), draws, rng)
    return drawn


def _permuted(
    sample: Sample, keep: np.ndarray, strata: np.ndarray, draws: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of draws: units (faces, or a person's faces within a subgroup) change subgroup within strata."""
    taking = keep[sample.group]
    if sample.subject is None:
        taking &= strata[sample.cell] >= 0
    else:  # persons with a face that matters, with all their faces
        number, owners = sample.clusters
        matters = np.bincount(number, weights=strata[sample.cell] >= 0, minlength=len(owners)) > 0
        taking &= matters[number]
    cell, weight = sample.cell[taking], None if sample.weight is None else sample.weight[taking]
    unit, owner, stratum = _units(sample, taking, strata)
    order = np.argsort(stratum, kind="stable")
    groups, width = len(sample.groups), strata.size
    owner, place = owner[order] * width, np.argsort(order, kind="stable")[unit]  # owners as the places of their cells
    bounds = np.flatnonzero(np.diff(stratum[order], prepend=-2))
    block = max(1, min(draws, _BLOCK // max(len(cell), groups * width, 1)))
    for start in range(0, draws, block):
        b = min(block, draws - start)
        labels = np.tile(owner, (b, 1))
        for low, high in zip(bounds, [*bounds[1:], len(owner)], strict=True):
            labels[:, low:high] = rng.permuted(labels[:, low:high], axis=1)
        packed = labels[:, place]
        packed += cell
        packed += (np.arange(b) * (groups * width))[:, None]
        packed = packed.ravel()
        counts = np.bincount(packed, minlength=b * groups * width).reshape(b, groups, width).astype(float)
        if weight is None:
            yield counts, counts
        else:
            sums = np.bincount(packed, weights=np.tile(weight, b), minlength=b * groups * width)
            yield sums.reshape(b, groups, width), counts


def _units(sample: Sample, taking: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit of each face that takes part, and every unit's subgroup and stratum (its most frequent one)."""
    group, stratum = sample.group[taking], strata[sample.cell[taking]]
    if sample.subject is None:
        return np.arange(len(group)), group, stratum
    number, owners = sample.clusters
    used, unit = np.unique(number[taking], return_inverse=True)
    width = int(strata.max(initial=0)) + 2
    votes = np.bincount(unit * width + stratum + 1, minlength=len(used) * width).reshape(len(used), width)
    votes[:, 0] = 0  # faces outside every stratum say nothing about where their person belongs
    return unit, owners[used], votes.argmax(1)
