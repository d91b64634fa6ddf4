"""The confusion cube: how often each label met each prediction, per subgroup. Everything else is arithmetic on it."""

import numpy as np

from fairaudit.errors import DataError

OUTCOMES = ("no_face", "abstained", "failed")


def confusion_cube(
    groups: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    shape: tuple[int, int, int],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count C[g, y, ŷ] for integer codes of equal length; `shape` is (subgroups, labels, predictions).

    int64 counts, or float64 sums of `weights`. Cubes add: cubes of shards sum to the cube of the whole, and the cube of
    a coarser axis is a sum over a finer one. Columns beyond the classes may hold outcomes (no face, abstained, failed).
    Raises DataError where a code lies outside `shape`.
    """
    columns = (groups, true, predicted)
    for codes, size, name in zip(columns, shape, ("subgroup", "label", "prediction"), strict=True):
        if len(codes) and (codes.min() < 0 or codes.max() >= size):
            raise DataError(f"a {name} code lies outside 0…{size - 1}: every code must name one of the given values")
    packed = (np.asarray(groups, dtype=np.int64) * shape[1] + true) * shape[2] + predicted
    size = shape[0] * shape[1] * shape[2]
    counts = np.bincount(packed, weights=weights, minlength=size)
    return counts.reshape(shape) if weights is not None else counts.astype(np.int64, copy=False).reshape(shape)
