"""Is an intersection more than its margins? An additive model on the logit scale, and each cell's distance from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import linalg, special

_STEPS = 60
_FURTHEST = 20.0  # a logit that runs away (a margin all right or all wrong) stops here
_NOTHING = 1e-7


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Fitted rates (G,), standardized residuals (G,), and the hat matrix (G, G) in weighted coordinates, weights (G,).

    without: each cell's rate as the margins of all other cells predict it (one step of deletion), error: the standard
    error of the cell's rate minus that. A residual is NaN where a margin alone fixes the cell.
    """

    rate: np.ndarray
    without: np.ndarray
    error: np.ndarray
    residual: np.ndarray
    hat: np.ndarray
    weight: np.ndarray


def margins_design(levels: Sequence[np.ndarray]) -> np.ndarray:
    """Return the columns of all effects but the highest interaction: for two attributes a constant and main effects.

    levels: per attribute the code of each cell (G,). For three attributes the pairwise interactions are margins, too.
    """
    dummies = [np.eye(int(codes.max()) + 1)[codes][:, 1:] for codes in levels]
    columns = [np.ones((len(levels[0]), 1))]
    for order in range(1, len(levels)):
        for chosen in combinations(dummies, order):
            product = chosen[0]
            for factor in chosen[1:]:
                product = (product[:, :, None] * factor[:, None, :]).reshape(len(product), -1)
            columns.append(product)
    return np.concatenate(columns, axis=1)


def interaction(x: np.ndarray, n: np.ndarray, design: np.ndarray) -> Interaction:
    """Fit rates x / n of G cells by a logistic model (G, parameters), n > 0; return each cell's score residual.

    The residual (x − nμ) / √(nμ(1 − μ)(1 − h)), h the leverage, squared is the score test of one more parameter for
    this cell alone (Pregibon, Annals of Statistics 1981). Cells of a margin that is all right or all wrong fit exactly
    and have a residual of 0. Any x and n, whole or effective numbers.
    """
    beta, last = np.zeros(design.shape[1]), np.inf
    for _ in range(_STEPS):
        rate, weight = _rates(design @ beta, n)
        step = _solved(design, weight, design.T @ (x - n * rate))
        now, size = _deviance(x, n, design @ (beta + step)), 1.0
        while now > last + 1e-9 * abs(last) and size > 1e-4:
            size /= 2
            now = _deviance(x, n, design @ (beta + size * step))
        beta, gained, last = beta + size * step, last - now, now
        if gained < 1e-12 * (1 + abs(now)):
            break
    rate, weight = _rates(design @ beta, n)
    root = np.sqrt(weight)
    scaled = design * root[:, None]
    hat = scaled @ _solved(design, weight, scaled.T)
    free = 1 - np.diag(hat)
    residual = np.divide(x - n * rate, root * np.sqrt(np.maximum(free, 0)), out=np.zeros(len(x)), where=free > _NOTHING)
    certain = (rate < _NOTHING) | (rate > 1 - _NOTHING)
    residual = np.where(certain, 0.0, residual)
    safe = np.maximum(free, _NOTHING)
    eta = special.logit(np.clip(rate, 1e-9, 1 - 1e-9)) - (1 - free) / safe * (x - n * rate) / weight
    return Interaction(
        rate=rate,
        without=np.where(certain, rate, special.expit(np.clip(eta, -_FURTHEST, _FURTHEST))),
        error=np.sqrt(rate * (1 - rate) / (n * safe)),
        residual=np.where(free > _NOTHING, residual, np.nan),
        hat=hat,
        weight=weight,
    )


def interaction_draws(
    fit: Interaction, n: np.ndarray, draws: int, rng: np.random.Generator, *, counts: bool
) -> np.ndarray:
    """Draw the residuals (draws, G) that the fitted margins alone make: binomial counts, refitted by one Newton step.

    counts: n are whole faces; else the scaled errors are drawn from Student's t with n − 1 degrees of freedom, n being
    effective numbers whose own estimation makes tails heavier.
    """
    root = np.sqrt(fit.weight)
    if counts:
        drawn = rng.binomial(n.astype(np.int64), fit.rate, size=(draws, len(n))) - n * fit.rate
        scaled = drawn / np.maximum(root, _NOTHING)
    else:
        scaled = rng.standard_t(np.maximum(n - 1, 2), (draws, len(n)))
    free = np.maximum(1 - np.diag(fit.hat), 0)
    left = scaled - scaled @ fit.hat
    certain = (fit.rate < _NOTHING) | (fit.rate > 1 - _NOTHING)
    return np.divide(left, np.sqrt(free), out=np.zeros_like(left), where=(free > _NOTHING) & ~certain)


def _solved(design: np.ndarray, weight: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve the weighted normal equations; a trace of ridge serves where margins are aliased or run away."""
    information = (design * weight[:, None]).T @ design
    scale = np.sqrt(np.maximum(np.diag(information), 1e-12))
    information = information / np.outer(scale, scale) + 1e-10 * np.eye(len(scale))
    solved = linalg.solve(information, (right.T / scale).T, assume_a="pos", check_finite=False)
    return np.asarray((solved.T / scale).T)


def _rates(eta: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rate = special.expit(np.clip(eta, -_FURTHEST, _FURTHEST))
    return rate, n * rate * (1 - rate) + 1e-12


def _deviance(x: np.ndarray, n: np.ndarray, eta: np.ndarray) -> float:
    eta = np.clip(eta, -_FURTHEST, _FURTHEST)
    return float(-2 * (x * eta - n * np.logaddexp(0, eta)).sum())
