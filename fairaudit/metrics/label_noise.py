"""What wrong labels can do to a rate: a bound that assumes nothing, and two kinds of independent error inverted.

The bound: with a share e of a subgroup's labels wrong, accuracy on true labels lies within e of accuracy on the given
ones; and P(A | truly in a class or group) within e of P(A | labelled so), where e bounds both the share of those
labelled so who are not and of those who are but are not labelled so (total variation). The inversions follow Rogan &
Gladen (Am J Epidemiol 1978) for K classes: counts by given label = Fᵀ · counts by true label, F = P(given | true).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics.intervals import Limits, wilson, z_value
from fairaudit.metrics.rates import ratio

WORST_CONDITION = 1e6
_CHANCE = 1.0  # faces added to each cell's variance: an empty cell could have held some
Counts = tuple[np.ndarray, np.ndarray]  # Σw and Σw² of the same cells


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """A corrected rate with its limits (z → low, high), or why there is none: arrays of shape (Q,)."""

    value: np.ndarray
    limits: Callable[[float], Limits]
    reasons: np.ndarray


def flips(errors: np.ndarray) -> np.ndarray:
    """Return F (K, K) in which a share `errors` (K,) of each true class gets one of the other labels, evenly."""
    k = len(errors)
    return np.eye(k) * (1 - errors)[:, None] + (1 - np.eye(k)) * (errors / max(k - 1, 1))[:, None]


def inverse(matrix: np.ndarray) -> np.ndarray | str:
    """Return (Fᵀ)⁻¹ or why labels of that quality say nothing: some class is no likelier under its own label."""
    off = np.where(np.eye(len(matrix)) > 0, -1.0, matrix)
    if (np.diag(matrix) <= off.max(0)).any() or np.linalg.cond(matrix) > WORST_CONDITION:
        return "labels this wrong say nothing of the truth: under some label its own class is not the likeliest"
    return np.linalg.inv(matrix.T)


def pairs_bound(value: np.ndarray, low: np.ndarray, high: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest true gap (max − min) when each of G rates may be off by its `errors` (G,).

    low, high: limits of each rate at the level of all pairs. Every pair: MOVER limits, widened by both errors; the gap
    is at least the largest lower limit (or 0) and at most the largest upper limit (or 1).
    """
    difference = value[:, None] - value[None, :]
    slack = errors[:, None] + errors[None, :]
    down = difference - np.hypot((value - low)[:, None], (high - value)[None, :]) - slack
    up = difference + np.hypot((high - value)[:, None], (value - low)[None, :]) + slack
    off = ~np.eye(len(value), dtype=bool)
    return float(max(0.0, down[off].max())), float(min(1.0, up[off].max()))


def inverted_rates(
    cube: Counts, effective: np.ndarray, weights: np.ndarray, column: int, noise: np.ndarray
) -> Corrected:
    """Correct P(predicted as `column` | true class in a set) for wrong labels, for one subgroup: arrays of length 1.

    cube: Σw and Σw² (K, K), given labels × predictions; effective: faces that each labelled row is worth (K,); weights:
    Σ of the rows of (Fᵀ)⁻¹ over the set (K,) (one row: recall; all but one: false positive rate); noise: (Fᵀ)⁻¹.
    The corrected rate is a sum of the rows' observed rates with coefficients that may be negative: MOVER on their
    Wilson limits, and a normal term for the rows' own sizes.
    """
    sums, squares = cube
    size = sums.sum(1)
    rate = np.nan_to_num(ratio(sums[:, column], size))
    total = float(weights @ size)
    if total <= 0:
        return _none(_impossible(f"{total:.1f} faces would be of that class"))
    value = float(weights * size @ rate) / total
    spread = float((weights**2 * squares.sum(1) * (rate - value) ** 2).sum()) / total**2

    def limits(z: float) -> Limits:
        low, high = _combined((weights * size / total)[None], rate, effective, np.array([spread]), z)
        return np.clip(value + low, 0, 1), np.clip(value + high, 0, 1)

    return _checked(np.array([value]), limits, np.array([negative_cells(cube, noise)], dtype=object))


def inverted_accuracy(cube: Counts, effective: float, noise: np.ndarray) -> Corrected:
    """Correct accuracy for wrong labels, for one subgroup: arrays of length 1; arguments as in `inverted_rates`.

    Each face adds the entry of (Fᵀ)⁻¹ at its prediction and label. What is linear in observed accuracy takes that
    one's Wilson limits (all of it where errors are even), the rest a normal term.
    """
    sums, squares = cube
    right = np.eye(len(sums), dtype=bool)
    score = noise.T  # [given label, prediction]
    total = sums.sum()
    if total <= 0:
        return _none("no face has a label and a prediction")
    value, accuracy = float((sums * score).sum() / total), float(sums[right].sum() / total)
    means = [
        float((sums * score)[part].sum() / sums[part].sum()) if sums[part].sum() > 0 else float(score[part].mean())
        for part in (right, ~right)
    ]
    rest = score - np.where(right, means[0], means[1])
    spread = float((squares * rest**2).sum() / total**2)

    def limits(z: float) -> Limits:
        slope = np.array([[means[0] - means[1]]])
        low, high = _combined(slope, np.array([accuracy]), np.array([effective]), np.array([spread]), z)
        return np.clip(value + low, 0, 1), np.clip(value + high, 0, 1)

    return _checked(np.array([value]), limits, np.array([negative_cells(cube, noise)], dtype=object))


def negative_cells(cube: Counts, noise: np.ndarray, confidence: float = 0.95) -> str:
    """Return why the corrected counts contradict the assumed noise, or "": a cell is below 0 by more than chance."""
    sums, squares = cube
    cells, error = noise @ sums, np.sqrt(noise**2 @ (squares + _CHANCE))
    worst = np.divide(cells, error, out=np.zeros(cells.shape), where=error > 0)
    if worst.min() >= -z_value(confidence, cells.size):
        return ""
    return _impossible(f"{cells.ravel()[worst.argmin()]:.1f} faces would be of some label and prediction")


def inverted_groups(
    rate: np.ndarray, size: Counts, effective: np.ndarray, noise: np.ndarray, chosen: np.ndarray | None = None
) -> tuple[Corrected, Callable[[float], tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Correct one rate of G subgroups for wrong membership that depends on neither label nor prediction.

    rate: observed (G,), NaN where no face; size: Σw and Σw² of the denominators (G,); effective: faces they are worth;
    noise: (Fᵀ)⁻¹ of membership. Returns the corrected rates and, by z, every pair's difference with its limits (G, G):
    corrected rates share faces, so limits of differences are taken from the observed rates, which do not.
    """
    sums, squares = size
    rate = np.nan_to_num(rate)
    total = noise @ sums
    coefficients = ratio(noise * sums[None, :], total[:, None])
    value = coefficients @ rate
    pull = ratio(noise, total[:, None]) * (rate[None, :] - value[:, None])  # of one face more in each subgroup

    def limits(z: float) -> Limits:
        spread = (pull**2 * squares).sum(-1)
        low, high = _combined(np.nan_to_num(coefficients), rate, effective, np.nan_to_num(spread), z)
        return np.clip(value + low, 0, 1), np.clip(value + high, 0, 1)

    def pairs(z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        groups = len(value)
        both = np.nan_to_num(coefficients[:, None, :] - coefficients[None, :, :]).reshape(groups * groups, -1)
        spread = ((pull[:, None, :] - pull[None, :, :]) ** 2 * squares).sum(-1).ravel()
        low, high = _combined(both, rate, effective, np.nan_to_num(spread), z)
        difference = value[:, None] - value[None, :]
        return difference, difference + low.reshape(groups, groups), difference + high.reshape(groups, groups)

    why = [_impossible(f"{t:.1f} faces would be in that subgroup") if t <= 0 else "" for t in total]
    return _checked(np.where(total > 0, value, np.nan), limits, np.array(why, dtype=object)), pairs


def _combined(
    coefficients: np.ndarray, rate: np.ndarray, effective: np.ndarray, spread: np.ndarray, z: float
) -> Limits:
    """Return how far Σ c·θ may lie below and above its estimate: (Q, R) coefficients of either sign over R independent
    proportions, MOVER on their Wilson limits, and a normal term of variance `spread` (Q,).
    """
    low, high = wilson(rate, effective, z)
    below, above = np.nan_to_num(rate - low), np.nan_to_num(high - rate)
    plus, minus = np.maximum(coefficients, 0), np.minimum(coefficients, 0)
    rest = z * z * spread
    down = np.sqrt(((plus * below) ** 2 + (minus * above) ** 2).sum(-1) + rest)
    up = np.sqrt(((plus * above) ** 2 + (minus * below) ** 2).sum(-1) + rest)
    return -down, up


def _checked(value: np.ndarray, limits: Callable[[float], Limits], reasons: np.ndarray) -> Corrected:
    """Take back values outside 0…1 and those that have a reason against them; they are never moved to the edge."""
    said = reasons.copy()
    low, high = limits(z_value(0.95))
    for i, one in enumerate(value):
        if not said[i] and not -1e-9 <= one <= 1 + 1e-9:
            rate = f"the rate would be {100 * one:.1f} %"
            # limits are cut at 0 and 1: where both are cut to the same edge, no possible rate is within chance
            by_chance = high[i] > low[i]
            said[i] = f"no corrected rate: by no more than chance, {rate}" if by_chance else _impossible(rate)
    wrong = np.array([bool(text) for text in said]) | np.isnan(value)

    def checked(z: float) -> Limits:
        low, high = limits(z)
        return np.where(wrong, np.nan, low), np.where(wrong, np.nan, high)

    return Corrected(value=np.where(wrong, np.nan, np.clip(value, 0, 1)), limits=checked, reasons=said)


def _none(why: str) -> Corrected:
    return _checked(
        np.full(1, np.nan), lambda z: (np.full(1, np.nan), np.full(1, np.nan)), np.array([why], dtype=object)
    )


def _impossible(what: str) -> str:
    return f"noise assumption impossible with these counts: {what}"
