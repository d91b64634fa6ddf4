"""Receiver operating characteristics: how many of a class are found at each share of false alarms."""

import numpy as np

TOLERANCE = 1e-3  # how far from 1 the probabilities of a face may add up, as in the audit
GRID = np.linspace(0, 1, 101)


def roc(scores: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates (0…1) at every threshold, from (0, 0) to (1, 1); equal scores move at once.

    weight: of each face; None: 1. Both are NaN where one of the sides is empty.
    """
    order = np.argsort(-scores, kind="stable")
    each = np.ones(len(scores)) if weight is None else weight[order]
    ranked, hits, others = scores[order], each * positive[order], each * ~positive[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.zeros(0, dtype=int)
    found, alarms = hits.cumsum(), others.cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(np.append(0, part[ends]) / part[-1:].sum() for part in (alarms, found))


def macro_roc(probs: np.ndarray, codes: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Return the mean over classes of the one-vs-rest true positive rate at each of `GRID`, and the number of classes.

    `probs` (n, K), `codes` (n,) with −1 for no label. Rows without label, or whose probabilities are not within 0…1 or
    do not add up to 1 (± 0.001), are left out, and classes of which there is no face, or nothing else, too; NaN where
    none is left.
    """
    with np.errstate(invalid="ignore"):
        usable = (probs >= 0).all(1) & (probs <= 1).all(1) & (np.abs(probs.sum(1) - 1) <= TOLERANCE)
    known = (codes >= 0) & usable
    curves = []
    for class_ in range(probs.shape[1]):
        own = None if weight is None else weight[known]
        alarms, found = roc(probs[known, class_], codes[known] == class_, own)
        if np.isfinite(alarms).all() and np.isfinite(found).all():
            curves.append(_on_grid(alarms, found))
    return (np.mean(curves, axis=0) if curves else np.full(len(GRID), np.nan)), len(curves)


def _on_grid(alarms: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Interpolate a curve; where it rises straight up, the upper end counts."""
    places, first = np.unique(alarms[::-1], return_index=True)
    values = found[::-1][first]
    made: np.ndarray = np.interp(GRID, places, values)
    return made


def thinned(found: np.ndarray, others: np.ndarray, most: int = 41) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return false and true positive rates of at most `most` points of a ROC curve, and the place of each threshold.

    found, others: weight of the class and of all others at each distinct score, ascending (D,); neither may be empty.
    Even steps of the two rates' sum, each the first point that reaches it, from (0, 0), whose place is D, to (1, 1).
    """
    alarms, hits = (np.append(0, part[::-1].cumsum()) / part.sum() for part in (others, found))
    through = alarms + hits
    at = np.searchsorted(through, np.linspace(0, through[-1], most) - 1e-12)
    at = np.unique(np.append(0, np.minimum(at, len(through) - 1)))
    return alarms[at], hits[at], len(found) - at
