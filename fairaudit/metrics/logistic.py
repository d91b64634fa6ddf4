"""A logistic model of a rate with subgroup and covariates as main effects: the check of direct standardization.

It lets every covariate act alike in all subgroups (on the logit scale), and so borrows strength where strata are
sparse. Its standardized rates average the fitted rates over the target mix (Lane & Nelder, Biometrics 1982).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

from fairaudit.metrics.adjusted import Cells, influence

MOST_CELLS = 30_000_000  # subgroups² × strata: what its errors take in memory
_STEPS = 60
_FLAT = 15.0  # a logit beyond this in the fit means that it runs away


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """Model-standardized rates of G subgroups, their standard errors, and how far each lies from direct standardization
    in standard errors of that difference (`apart`). NaN with a reason where there is none.
    """

    value: np.ndarray
    error: np.ndarray
    apart: np.ndarray
    reasons: np.ndarray


def marginal_rates(
    cells: Cells, levels: Sequence[np.ndarray], mix: np.ndarray, compared: np.ndarray, known: np.ndarray
) -> Marginal:
    """Fit rate ~ subgroup + covariates over the `known` subgroups; return rates at the mix (S,) of the compared ones.

    levels: per covariate, the level of each stratum (S,). A subgroup, or a level of a covariate, in which all faces or
    none are in the numerator has an infinite coefficient: such a subgroup has no value (reason), such a level the rate
    0 or 1. Errors are from the inverse information, or the sandwich over subjects where faces have one.
    """
    reasons = np.full(len(cells.bottom), "", dtype=object)
    nothing = np.full(len(cells.bottom), np.nan)
    fit = _fitted(cells, levels, mix, known)
    if isinstance(fit, str):
        reasons[compared] = fit
        return Marginal(value=nothing, error=nothing, apart=nothing, reasons=reasons)
    rates, factor, held = fit
    reasons[compared & ~held] = "no logistic estimate: of its faces all or none count, so its coefficient is infinite"
    defined = compared & held
    value = np.where(defined, (rates * mix).sum(-1), np.nan)
    between = np.sqrt(cells.spread(_spread_out(influence(cells, mix)) - factor, rates.ravel()))
    direct = (np.where(mix > 0, cells.rate, 0.0) * mix).sum(-1)
    apart = np.divide(direct - value, between, out=np.zeros(len(value)), where=between > 1e-9)
    error = np.sqrt(cells.spread(factor, rates.ravel()))
    return Marginal(
        value=value, error=np.where(defined, error, np.nan), apart=np.where(defined, apart, np.nan), reasons=reasons
    )


def _spread_out(factor: np.ndarray) -> np.ndarray:
    """Return (G, G·S): for each subgroup the factors of its own cells, 0 elsewhere."""
    groups, strata = factor.shape
    wide = np.zeros((groups, groups, strata))
    wide[np.arange(groups), np.arange(groups)] = factor
    return wide.reshape(groups, -1)


def _fitted(
    cells: Cells, levels: Sequence[np.ndarray], mix: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Return fitted rates (G, S), by how much a face in each cell moves each standardized rate (G, G·S), and which
    subgroups have a coefficient (G,); or why there is no model.
    """
    groups, strata = cells.bottom.shape
    if groups * groups * strata > MOST_CELLS:
        return f"no logistic model: {groups} subgroups × {strata} strata are too many for it"
    held, fixed = _separated(cells, levels, known)
    active = np.asarray(held.any(1))
    rates, factor = np.nan_to_num(fixed), np.zeros((groups, groups, strata))
    if not active.any():
        return rates, factor.reshape(groups, -1), active
    z = _dummies(levels)
    top, bottom = (np.where(held, part, 0.0)[active] for part in (cells.top, cells.bottom))
    eta = _fit(z, top, bottom)
    if eta is None:
        return "no logistic model: its coefficients run away (separation)"
    mu = special.expit(eta)
    rates[held] = mu[held[active]]
    slope = np.where(held[active], mu * (1 - mu), 0.0)
    inverse = _inverse(z, bottom * slope)
    # of each rate by the coefficients: Σ mix · μ(1 − μ) · x over the subgroup's own strata
    gradient = np.concatenate([np.diag(slope @ mix), (slope * mix) @ z], axis=1) @ inverse
    count = int(active.sum())
    own = gradient[:, :count, None] + (gradient[:, count:] @ z.T)[:, None, :]
    factor[np.ix_(active, active)] = own * held[active]
    return rates, factor.reshape(groups, -1), active


def _separated(cells: Cells, levels: Sequence[np.ndarray], known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells can be fitted (G, S), and the rate 0 or 1 of those whose level has one answer only (else NaN).

    Leaving these out changes no finite coefficient: their likelihood is 1 in the limit.
    """
    held = (cells.bottom > 0) & known[:, None]
    fixed = np.full(held.shape, np.nan)
    while True:
        before = held.sum()
        top, bottom = np.where(held, cells.top, 0), np.where(held, cells.bottom, 0)
        one = (top.sum(1) <= 0) | (np.abs(bottom.sum(1) - top.sum(1)) <= 1e-9 * bottom.sum(1))
        held = held & ~one[:, None]
        for codes in levels:
            for level in range(int(codes.max(initial=0)) + 1):
                part = held & (codes == level)
                a, b = cells.top[part].sum(), cells.bottom[part].sum()
                if b > 0 and (a <= 0 or b - a <= 1e-9 * b):
                    fixed[part] = float(a > 0)
                    held &= ~part
        if held.sum() == before:
            return held, fixed


def _dummies(levels: Sequence[np.ndarray]) -> np.ndarray:
    """Return a column for each level but the first of each covariate: 0/1 (S, L)."""
    parts = [np.eye(int(codes.max(initial=0)) + 1)[codes][:, 1:] for codes in levels]
    return np.concatenate(parts, axis=1)


def _fit(z: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray | None:
    """Return the fitted logits (G, S) by Newton's method with halved steps, or None where they run away.

    z: the covariates' columns (S, L). The information matrix is a diagonal of subgroups bordered by L columns, so it
    is never built whole. The least-norm step serves where columns are aliased: fitted rates do not depend on it.
    """

    def deviance(eta: np.ndarray) -> float:
        return float(-2 * (top * eta - bottom * np.logaddexp(0, eta)).sum())

    eta = np.zeros(top.shape)
    now = deviance(eta)
    for _ in range(_STEPS):
        mu = special.expit(eta)
        residual, weight = top - bottom * mu, bottom * mu * (1 - mu)
        diagonal, border = weight.sum(1), weight @ z
        schur = linalg.pinvh((z * weight.sum(0)[:, None]).T @ z - border.T @ (border / diagonal[:, None]))
        step = schur @ (z.T @ residual.sum(0) - border.T @ (residual.sum(1) / diagonal))
        move = ((residual.sum(1) - border @ step) / diagonal)[:, None] + (z @ step)[None, :]
        size = 1.0
        while (new := deviance(eta + size * move)) > now + 1e-12 * abs(now) and size > 1e-6:
            size /= 2
        eta, last, now = eta + size * move, now, new
        if np.abs(eta[bottom > 0]).max() > _FLAT:
            return None
        if abs(last - now) <= 1e-13 * (abs(now) + 1):
            return eta
    return None


def _inverse(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the inverse information of all coefficients (G + L, G + L), subgroups first."""
    diagonal, border = weight.sum(1), weight @ z
    share = border / diagonal[:, None]
    schur = linalg.pinvh((z * weight.sum(0)[:, None]).T @ z - border.T @ share)
    corner = np.diag(1 / diagonal) + share @ schur @ share.T
    return np.block([[corner, -share @ schur], [-schur @ share.T, schur]])
