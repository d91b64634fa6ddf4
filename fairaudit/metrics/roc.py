"""Receiver operating characteristics: how many of a class are found at each share of false alarms."""

import numpy as np

GRID = np.linspace(0, 1, 101)


def roc(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates (0…1) at every threshold, from (0, 0) to (1, 1); equal scores move at once.

    Both are NaN where one of the sides is empty.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], positive[order].astype(float)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.zeros(0, dtype=int)
    found, alarms = hits.cumsum()[ends], (1 - hits).cumsum()[ends]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.append(0, alarms) / (1 - hits).sum(), np.append(0, found) / hits.sum()


def macro_roc(probs: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the mean over classes of the one-vs-rest true positive rate at each of `GRID`, and the number of classes.

    `probs` (n, K), `codes` (n,) with −1 for no label. Rows without label or probability are left out, and classes of
    which there is no face, or nothing else, too; NaN where none is left.
    """
    known = (codes >= 0) & np.isfinite(probs).all(1)
    curves = []
    for class_ in range(probs.shape[1]):
        alarms, found = roc(probs[known, class_], codes[known] == class_)
        if np.isfinite(alarms).all() and np.isfinite(found).all():
            curves.append(_on_grid(alarms, found))
    return (np.mean(curves, axis=0) if curves else np.full(len(GRID), np.nan)), len(curves)


def _on_grid(alarms: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Interpolate a curve; where it rises straight up, the upper end counts, but at 0 the lower one."""
    places, first = np.unique(alarms[::-1], return_index=True)
    values = found[::-1][first]
    made: np.ndarray = np.interp(GRID, places, values)
    return made
