"""What a confusion cube does not hold of a task's faces: the probabilities given to its classes, and ages in years."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fairaudit.metrics.counted import CountedScores, CountedYears

MOST_CERTAIN = 1e-6  # a probability nearer to 0 or 1 counts as this far from it where its logit is taken
LEAST_PROBABILITY = float(
    np.finfo(float).eps
)  # scikit-learn's: what the label's probability of 0 counts as in log loss


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Numbers of faces as places among their distinct values.

    score: the distinct values (D,), ascending. faces: which faces have one, positions (M,). place: where theirs stands
    in `score` (M,). order: the permutation of `faces` that sorts them (M,).
    """

    score: np.ndarray
    faces: np.ndarray
    place: np.ndarray
    order: np.ndarray


def ranked(values: np.ndarray) -> Ranked:
    """Sort N numbers once, NaN left out, so that every axis, class and metric may use the order."""
    faces = np.flatnonzero(~np.isnan(values))
    score, place = np.unique(values[faces], return_inverse=True)
    return Ranked(score=score, faces=faces, place=place, order=np.argsort(place, kind="stable"))


@dataclass(frozen=True, kw_only=True)
class FaceScores:
    """Probabilities of K classes for N faces: (N, K), NaN in all of an unusable row; label and prediction: codes (N,).

    A face without a prediction has no score that counts: its row is NaN, too.
    """

    values: np.ndarray
    label: np.ndarray
    prediction: np.ndarray

    @cached_property
    def usable(self) -> np.ndarray:
        """Which faces have scores: bool (N,)."""
        return ~np.isnan(self.values).any(1)

    @cached_property
    def classes(self) -> tuple[Ranked, ...]:
        """The scores of each class, sorted."""
        return tuple(ranked(column) for column in self.values.T)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the class that was predicted, (N,); NaN where there is none."""
        return self._of(self.prediction)

    @cached_property
    def labelled(self) -> np.ndarray:
        """The probability of the class that a face is labelled as, (N,); NaN where there is none."""
        return self._of(self.label)

    @cached_property
    def top(self) -> Ranked:
        """The confidences, sorted."""
        return ranked(self.confidence)

    @cached_property
    def right(self) -> np.ndarray:
        """Which faces are predicted as what they are labelled: bool (N,)."""
        return self.label == self.prediction

    def _of(self, codes: np.ndarray) -> np.ndarray:
        k = self.values.shape[1]
        found = self.values[np.arange(len(codes)), np.minimum(codes, k - 1)]
        return np.where(codes < k, found, np.nan)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is known of N faces beyond label and prediction; None where it is not. counted: scores that stay on disk.

    years: labelled and predicted age (N, 2), NaN where missing; counted_years: ages that stay on disk. sex: codes of
    the two `sexes` that faces are labelled as, −1 where unknown. why_no_years: why an age task has no years, in words;
    "" for another task.
    """

    scores: FaceScores | None = None
    counted: "CountedScores | None" = None
    years: np.ndarray | None = None
    counted_years: "CountedYears | None" = None
    sex: np.ndarray | None = None
    sexes: tuple[str, ...] = ()
    why_no_years: str = ""
