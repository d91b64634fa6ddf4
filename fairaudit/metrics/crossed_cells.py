"""What is counted over seeds × faces beyond accuracy and odds: ROC AUC, and answers that differ.

Each is made a mean over faces, so that `crossed.joint` gives its variance between faces, between seeds and of both.
"""

from itertools import combinations

import numpy as np

from fairaudit.metrics.crossed import Faces
from fairaudit.metrics.scores import LEAST_OF_EACH, auc_influence


def auc_cells(faces: Faces, scores: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numerators (S, N, 1) and denominators (N, 1) whose ratio is each subgroup's ROC AUC (0…1).

    scores: probabilities (S, N, K); usable (N,): faces that every arm has probabilities of. A face's numerator is the
    AUC plus its influence on it times the subgroup's weight: their mean is the AUC, and their variance that of DeLong,
    DeLong & Clarke-Pearson (Biometrics 1988). Of more than two classes the mean over the classes, one-vs-rest, that
    have `LEAST_OF_EACH` faces and as many others in the subgroup; where there is none, the denominators are 0.
    """
    top, bottom = np.zeros(scores.shape[:2]), np.zeros(len(faces.label))
    for g in range(len(faces.groups)):
        rows = np.flatnonzero((faces.group == g) & usable)
        wanted = [1] if faces.classes == 2 else range(faces.classes)
        sides = [(k, faces.label[rows] == k) for k in wanted]
        sides = [(k, side) for k, side in sides if min(side.sum(), (~side).sum()) >= LEAST_OF_EACH]
        if not sides:
            continue
        bottom[rows] = 1
        weight = faces.weight[rows]
        for seed, own in enumerate(scores):
            for k, positive in sides:
                distinct, place = np.unique(own[rows, k], return_inverse=True)
                found = auc_influence(
                    *(np.bincount(place[s], weights=weight[s], minlength=len(distinct)) for s in (positive, ~positive))
                )
                moved = np.where(positive, found.positive[place], found.negative[place])
                top[seed, rows] += (found.value + weight.sum() * moved) / len(sides)
    return top[..., None], bottom[:, None]


def churn_cells(faces: Faces, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numerators (S, N, 1) and denominators (N, 1) of the share of faces that two arms' codes differ on."""
    return (first != second)[..., None].astype(float), np.ones((len(faces.label), 1))


def own_churn_cells(faces: Faces, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of one arm's seeds, every pair of them, with a row a pair (none for one seed)."""
    pairs = np.array(list(combinations(range(len(prediction)), 2)), dtype=np.int64).reshape(-1, 2)
    return churn_cells(faces, prediction[pairs[:, 0]], prediction[pairs[:, 1]])
