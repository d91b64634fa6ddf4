"""Do stated probabilities come true? Reliability curve, debiased calibration error, logistic recalibration.

Everything is computed for one pool of faces from arrays over its distinct scores (D,), ascending: `score`, and the
weight of the faces that are right (of the class) and wrong (not of it) at each.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from fairaudit.metrics.measures import MOST_CERTAIN
from fairaudit.metrics.rates import ratio

BINS = 15
_STEPS = 50
_MOST_POINTS = 4096
_CELL = 1 / 64  # of the logit


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bins of equal mass over the distinct scores: the bin of each (D,), and per bin Σw (B,), Σw·score, Σw of right."""

    number: np.ndarray
    mass: np.ndarray
    score: np.ndarray
    right: np.ndarray

    def sums(self, column: np.ndarray) -> np.ndarray:
        """Sum a column over distinct scores (D,) within each bin."""
        return np.bincount(self.number, weights=column, minlength=len(self.mass))


def equal_mass_bins(score: np.ndarray, right: np.ndarray, wrong: np.ndarray, bins: int) -> Bins:
    """Return up to `bins` bins of about equal weight; equal scores share a bin, so that no order of rows matters."""
    mass = right + wrong
    through = np.cumsum(mass)
    middle = (through - mass / 2) / through[-1]
    number = np.minimum((middle * bins).astype(np.int64), bins - 1)
    number = np.unique(number, return_inverse=True)[1]
    size = int(number.max()) + 1
    sums = (np.bincount(number, weights=column, minlength=size) for column in (mass, mass * score, right))
    return Bins(number=number, **dict(zip(("mass", "score", "right"), sums, strict=True)))


def quantiles(score: np.ndarray, faces: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the quantiles of numbers of which each distinct one, ascending (D,), occurs `faces` times: numpy's linear
    interpolation between order statistics, to the last bit.
    """
    through = np.cumsum(faces)
    place = (through[-1] - 1) * shares
    below = np.floor(place)
    a, b = (score[np.searchsorted(through, np.minimum(below + i, through[-1] - 1), side="right")] for i in (0, 1))
    part = place - below
    return np.where(part >= 0.5, b - (b - a) * (1 - part), a + (b - a) * part)


def calibration_error(
    score: np.ndarray, right: np.ndarray, wrong: np.ndarray, squares: tuple[np.ndarray, np.ndarray], faces: int
) -> tuple[float, float]:
    """Return the debiased squared calibration error over 15 bins of equal mass (fewer below 30 faces) and its variance.

    Σ (bin's share) · (mean score − share right)², each square less what its own noise adds (Bröcker 2012; Kumar, Liang
    & Ma 2019): a U-statistic, 0 on average for a calibrated model at any size, and therefore at times below 0. squares:
    Σw² of right and wrong faces (D,). Variance: of that quadratic form in normal bin means. NaN where no bin holds two.
    """
    bins = equal_mass_bins(score, right, wrong, max(1, min(BINS, faces // 2)))
    residual = (bins.right - bins.score) / bins.mass
    apart = (1 - score, score)  # what a right and a wrong face add, but for the sign
    removed = bins.sums(squares[0] * apart[0] ** 2 + squares[1] * apart[1] ** 2)
    weights = bins.sums(squares[0] + squares[1])
    here = residual[bins.number]
    spread = bins.sums(squares[0] * (apart[0] - here) ** 2 + squares[1] * (apart[1] + here) ** 2)
    return quadratic_error(bins.mass, bins.right - bins.score, removed, weights, np.diag(spread))


def clustered_calibration_error(
    score: np.ndarray, right: np.ndarray, weight: np.ndarray, subject: np.ndarray
) -> tuple[float, float]:
    """Return what `calibration_error` does for faces (n,) of subjects: pairs within a subject are left out, and the
    variance has the covariance between bins. right: bool; subject: codes.
    """
    distinct, place = np.unique(score, return_inverse=True)
    rights, wrongs = (np.bincount(place, weights=weight * side, minlength=len(distinct)) for side in (right, ~right))
    people, number = np.unique(subject, return_inverse=True)
    bins = equal_mass_bins(distinct, rights, wrongs, max(1, min(BINS, len(people) // 2)))
    size, packed = len(bins.mass), number * len(bins.mass) + bins.number[place]
    totals, masses = (
        np.bincount(packed, weights=column, minlength=len(people) * size).reshape(len(people), size)
        for column in (weight * (right - score), weight)
    )
    centred = totals - masses * ratio(totals.sum(0), masses.sum(0))
    return quadratic_error(bins.mass, totals.sum(0), (totals**2).sum(0), (masses**2).sum(0), centred.T @ centred)


def quadratic_error(
    mass: np.ndarray, total: np.ndarray, own: np.ndarray, squares: np.ndarray, spread: np.ndarray
) -> tuple[float, float]:
    """Return Σ π·d² over bins without bias, d = total / mass, π the bin's share of the mass, and its variance.

    own: what the pairs of a unit with itself add to total²; squares: what they add to mass²; spread (B, B): covariance
    of the totals. Bins of a single unit are left out.
    """
    pairs = mass**2 - squares
    used = pairs > 1e-9 * mass**2
    if not used.any():
        return np.nan, np.nan
    mass, total, own, pairs, squares = (part[used] for part in (mass, total, own, pairs, squares))
    share = mass / mass.sum()
    unbiased = (total**2 - own) / pairs
    inflated = np.sqrt(ratio(mass**2, pairs))  # m / (m − 1) for m equal units
    noise = spread[np.ix_(used, used)] / np.outer(mass, mass) * np.outer(inflated, inflated)
    signal = np.sqrt(np.maximum(unbiased, 0)) * np.sign(total) * share
    scaled = share[:, None] * noise
    double = np.outer(inflated, inflated)
    variance = 4 * signal @ noise @ signal + 2 * ((scaled * double) * scaled.T).sum()
    return float((share * unbiased).sum()), float(variance)


def signed_root(values: np.ndarray) -> np.ndarray:
    """Return the square root that keeps the sign: an estimate below 0 of a square is no reason to hide it."""
    return np.sign(values) * np.sqrt(np.abs(values))


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """Intercept and slope of logit P(right) = a + b · logit(score), value and variance (2,); or why there are none."""

    value: np.ndarray
    variance: np.ndarray
    reason: str = ""


_NOTHING = np.full(2, np.nan)


def recalibrate(
    score: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    squares: tuple[np.ndarray, np.ndarray] | None = None,
    start: np.ndarray | None = None,
) -> Recalibration:
    """Fit the logistic recalibration of Cox (1958) by Newton's method; scores are kept 1e-6 from 0 and 1.

    A calibrated model has intercept 0 and slope 1; a slope under 1 means scores too extreme. Variance: inverse
    information, or with `squares` (Σw² of right and wrong) the sandwich for weights. Where right and wrong faces do not
    overlap in score the slope is infinite: NaN, with that reason. start: where to begin.
    """
    x = logits(score)
    if why := _separated(x, right > 0, wrong > 0):
        return Recalibration(value=_NOTHING, variance=_NOTHING, reason=why)
    x, right, wrong, squares = _condensed(x, right, wrong, squares)
    fit = _newton(x, right, wrong, np.array([0.0, 1.0]) if start is None else start)
    if fit is None:
        return Recalibration(value=_NOTHING, variance=_NOTHING, reason="not estimable: the fit does not settle")
    beta, inverse = fit
    if squares is not None:
        p = special.expit(beta[0] + beta[1] * x)
        meat = _cross(x, squares[0] * (1 - p) ** 2 + squares[1] * p**2)
        inverse = inverse @ meat @ inverse
    return Recalibration(value=beta, variance=np.diag(inverse))


def clustered_variance(
    beta: np.ndarray, score: np.ndarray, right: np.ndarray, weight: np.ndarray, subject: np.ndarray
) -> np.ndarray:
    """Return the variance (2,) of a recalibration over faces (n,) of subjects: the sandwich with whole subjects."""
    x = logits(score)
    p = special.expit(beta[0] + beta[1] * x)
    number = np.unique(subject, return_inverse=True)[1]
    pulls = np.stack([np.bincount(number, weights=weight * (right - p) * c) for c in (np.ones(len(x)), x)])
    inverse = np.linalg.inv(_cross(x, weight * p * (1 - p)))
    people = pulls.shape[1]
    return np.diag(inverse @ (pulls @ pulls.T) @ inverse) * ratio(np.array(people), np.array(people - 1))


def logits(score: np.ndarray) -> np.ndarray:
    """Return the log odds of scores, kept 1e-6 from 0 and 1."""
    return special.logit(np.clip(score, MOST_CERTAIN, 1 - MOST_CERTAIN))


def _separated(x: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> str:
    if not wrong.any() or not right.any():
        return f"not estimable: every prediction is {'right' if right.any() else 'wrong'}"
    highs, lows = [x[side].max() for side in (right, wrong)], [x[side].min() for side in (right, wrong)]
    if highs[1] <= lows[0] or highs[0] <= lows[1]:
        return "not estimable: a limit on the score parts right from wrong predictions"
    return ""


def _condensed(
    x: np.ndarray, right: np.ndarray, wrong: np.ndarray, squares: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Put two points with the mean and variance of each cell of logits in the place of very many distinct ones.

    Right and wrong faces have points of their own; the estimates move by less than 1e-8.
    """
    if len(x) <= _MOST_POINTS:
        return x, right, wrong, squares
    cell = np.floor((x - x.min()) / _CELL).astype(np.int64)
    points, sides, doubled = [], [], []
    for mass, square in zip((right, wrong), squares or (right, wrong), strict=True):
        total, first, second, weight = (np.bincount(cell, weights=c) for c in (mass, mass * x, mass * x * x, square))
        used = np.flatnonzero(total > 0)
        middle = first[used] / total[used]
        apart = np.sqrt(np.maximum(second[used] / total[used] - middle**2, 0))
        points.append(np.concatenate([middle - apart, middle + apart]))
        sides.append(np.tile(total[used] / 2, 2))
        doubled.append(np.tile(weight[used] / 2, 2))
    blank = [np.zeros(len(p)) for p in points]

    def both(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([parts[0], blank[1]]), np.concatenate([blank[0], parts[1]])

    return np.concatenate(points), *both(sides), None if squares is None else both(doubled)


def _newton(
    x: np.ndarray, right: np.ndarray, wrong: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the estimate and its inverse information, None where steps do not shrink.

    A step that lowers the likelihood is halved: whole steps run away where the slope starts far off.
    """
    mass = right + wrong

    def likelihood(beta: np.ndarray) -> float:
        line = beta[0] + beta[1] * x
        return float(right @ line - mass @ np.logaddexp(0.0, line))

    reached = likelihood(beta)
    for _ in range(_STEPS):
        p = special.expit(beta[0] + beta[1] * x)
        pull = right - mass * p
        information = _cross(x, mass * p * (1 - p))
        (a, b), (_, c) = information
        if not a * c - b * b > 1e-13 * a * c:  # the scores are all but one
            return None
        step = np.linalg.solve(information, np.array([pull.sum(), pull @ x]))
        if np.abs(step).max() < 1e-10 * max(1.0, float(np.abs(beta).max())):
            return beta + step, np.linalg.inv(information)
        while (after := likelihood(beta + step)) < reached - 1e-9 * abs(reached):
            step = step / 2
        beta, reached = beta + step, after
    return None


def _cross(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total, first, second = weight.sum(), weight @ x, weight @ (x * x)
    return np.array([[total, first], [first, second]])
