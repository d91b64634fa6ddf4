"""Numbers in a few bins of about equal size, by one rule for a table in memory and for one on disk."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

BINS = 5  # quantile bins of a number: five remove over 90 % of the bias that it can make (Cochran, Biometrics 1968)


def quantile_bins(parts: Iterable[tuple[np.ndarray, np.ndarray]], distinct: int, faces: int) -> pd.IntervalIndex:
    """Return the bins of numbers, ascending and closed on both sides: a number is in the first whose end it reaches.

    parts: the distinct numbers, ascending, and how many faces have each, in portions of any size; distinct, faces: how
    many there are in all. Up to five distinct numbers are bins of their own; of more, a bin ends at the smallest number
    that a fifth (two fifths, …) of the faces do not exceed.
    """
    exact = distinct <= BINS
    ranks = [-(-faces * k // BINS) for k in range(1, BINS)]  # faces that make k fifths, rounded up
    first, last, before = np.zeros(0), 0.0, 0
    ends: list[float] = []
    for numbers, counts in parts:
        if not len(numbers):
            continue
        first = first if len(first) else numbers[:1]
        through = before + np.cumsum(np.asarray(counts, dtype=np.int64))
        ends += numbers.tolist() if exact else _reached(numbers, through, ranks, before)
        before, last = int(through[-1]), float(numbers[-1])
    if not len(first):
        return pd.IntervalIndex.from_arrays([], [], closed="both")
    right = np.array(ends) if exact else np.unique([*ends, last])
    left = right if exact else np.array([first[0], *right[:-1]])
    return pd.IntervalIndex.from_arrays(left, right, closed="both")


def _reached(numbers: np.ndarray, through: np.ndarray, ranks: Iterable[int], before: int) -> list[float]:
    """Return the numbers at which a rank is reached within this portion."""
    inside = [rank for rank in ranks if before < rank <= through[-1]]
    return [float(numbers[np.searchsorted(through, rank)]) for rank in inside]


def bin_names(bins: pd.IntervalIndex) -> tuple[str, ...]:
    """Return the name of each bin: the number itself, or "low–high", in as few digits as tell them apart."""
    for digits in (6 if are_numbers(bins) else 3, 6, 9, 12, 17):
        ends = [[f"{value:.{digits}g}" for value in side] for side in (bins.left, bins.right)]
        names = ends[1] if are_numbers(bins) else [f"{low}–{high}" for low, high in zip(*ends, strict=True)]
        if len(set(names)) == len(names):
            break
    return tuple(names)


def are_numbers(bins: pd.IntervalIndex) -> bool:
    """Tell whether every bin is a single number."""
    return bool((bins.left == bins.right).all())


def bin_codes(numbers: np.ndarray, bins: pd.IntervalIndex) -> np.ndarray:
    """Return the bin of each number, −1 for NaN."""
    if not len(bins):
        return np.full(len(numbers), -1)
    missing = np.isnan(numbers)
    ends = np.asarray(bins.right, dtype=float)
    return np.where(missing, -1, np.searchsorted(ends, np.where(missing, ends[-1], numbers)))
