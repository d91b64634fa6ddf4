"""Overall figures of a population whose shares of each stratum are known: post-stratification, design-based limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics import bootstrap
from fairaudit.metrics.intervals import f1_of_jaccard, wilson, z_value
from fairaudit.metrics.rates import Metric, evaluate, ratio
from fairaudit.metrics.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Reweighted:
    """Values (P,) of one metric in the population, their limits and effective numbers, and why limits are missing."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effective: np.ndarray
    denominator: np.ndarray
    reason: str = ""


def share(sample: Sample, shares: np.ndarray, metric: Metric, confidence: float) -> Reweighted:
    """Return a proportion (or F1) with Wilson limits at its effective number; the sample's groups are the strata.

    shares: of each stratum in the population, (H,), sum 1; every stratum holds a face. The value is the ratio
    Σ W_h ā_h / Σ W_h b̄_h of means within strata; its variance is that of the linearized residuals within strata
    (Cochran 1977, §5A.9, §6.11), between subjects where there are some. n_eff = p (1 − p) / variance, never above
    (Σ ω)² / Σ ω² of the denominator's weights, which stands alone at rates of 0 and 1.
    """
    assert metric.cells is not None  # by construction of METRICS
    top, bottom = (mask.reshape(len(mask), -1) for mask in np.broadcast_arrays(*metric.cells(sample.table)))
    sums, squares, counts = (
        part.reshape(len(shares), -1) for part in (sample.sums, sample.squares, sample.counts.astype(float))
    )
    unit = shares / sums.sum(1)  # the population's weight of one unit of sampling weight, by stratum
    above, below = (unit @ (sums @ mask.T) for mask in (top, bottom))
    value = ratio(above, below)
    kish = np.nan_to_num(ratio(below**2, unit**2 @ (squares @ bottom.T)))
    residual = top - value[:, None] * bottom  # (P, cells)
    centred = residual[:, None, :] - (residual @ sums.T / sums.sum(1))[:, :, None]  # (P, H, cells)
    if sample.subject is None:
        n = counts.sum(1)
        variance = np.einsum("h,hc,phc->p", unit**2 * ratio(n, n - 1), squares, centred**2)
    else:
        variance = _between_subjects(sample, unit, centred)
    spread = ratio(value * (1 - value) * below**2, variance)
    effective = np.where(np.isnan(spread), kish, np.minimum(spread, kish))
    low, high = wilson(value, effective, z_value(confidence))
    wrap = f1_of_jaccard if metric.kind == "f1" else np.asarray
    alone = _alone(sample)
    if alone:
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    return Reweighted(
        value=wrap(value),
        low=wrap(low),
        high=wrap(high),
        effective=effective,
        denominator=counts.sum(0) @ bottom.T,
        reason=alone,
    )


def drawn(
    sample: Sample, shares: np.ndarray, names: Sequence[str], confidence: float, draws: int, seed: Sequence[int]
) -> list[Reweighted]:
    """Return averages and composites, each (1,), with percentile limits; strata are drawn apart, subjects whole.

    More than 1 % undefined draws, or no spread: no limits, with that reason.
    """
    k, cells = sample.table.classes, sample.sums.reshape(len(shares), -1)
    whole = (shares / cells.sum(1)) @ cells
    mixed = np.zeros((draws, _cells(sample)))
    for h, part in enumerate(shares):
        units, times = sample.units(np.eye(len(shares))[h])
        sums = bootstrap.draw_sums(units, times, draws, np.random.default_rng([*seed, h]))
        mixed += part * sums / sums.sum(-1, keepdims=True)
    shape = sample.table.shape
    point, cube = (part.reshape(-1, *shape)[..., :k] for part in (whole, mixed))
    classes = (point[0].sum(-1) > 0).astype(float)
    denominator = np.array([sample.counts[..., :k].sum()], dtype=float)
    squares = sample.squares.reshape(len(shares), -1).sum(1)
    effective = np.array([1 / ((shares / cells.sum(1)) ** 2 @ squares)])
    found, alone = [], _alone(sample)
    for name in names:
        value = evaluate(name, point, classes=classes)
        low, high, why = _percentiles(evaluate(name, cube, classes=classes), confidence)
        why = "" if np.isnan(value).any() else (alone or why)
        if alone:
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        found.append(
            Reweighted(value=value, low=low, high=high, effective=effective, denominator=denominator, reason=why)
        )
    return found


def _percentiles(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, str]:
    defined = values[~np.isnan(values)]
    undefined = 1 - len(defined) / len(values)
    if undefined > bootstrap.MOST_UNDEFINED:
        return (
            np.array([np.nan]),
            np.array([np.nan]),
            f"no interval: {100 * undefined:.1f} % of draws leave it undefined",
        )
    if np.ptp(defined) < 1e-12:
        return np.array([np.nan]), np.array([np.nan]), "no interval: every draw gives the same value"
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return np.array([low]), np.array([high]), ""


def _cells(sample: Sample) -> int:
    return int(np.prod(sample.table.shape))


def _between_subjects(sample: Sample, unit: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """Variance (times below²) of the ratio from each subject's total of linearized residuals, over all strata.

    Residuals are centred within strata, so each stratum of m persons has its own correction m / (m − 1).
    """
    assert sample.subject is not None
    _, owner = sample.clusters
    persons = np.bincount(owner, minlength=len(sample.groups)).astype(float)
    unit = unit * np.sqrt(persons / np.maximum(persons - 1, 1))
    people, number = np.unique(sample.subject, return_inverse=True)
    weight = unit[sample.group] * (1.0 if sample.weight is None else sample.weight)
    m = len(people)
    totals = [np.bincount(number, weights=weight * part[sample.group, sample.cell], minlength=m) for part in centred]
    return np.array([(total**2).sum() for total in totals])


def _alone(sample: Sample) -> str:
    """Return why there is no interval where a stratum has one face or person, whose spread nobody knows; else ""."""
    if sample.subject is None:
        one = sample.counts.reshape(len(sample.groups), -1).sum(1) < 2
        return "no interval: a stratum has a single face" if one.any() else ""
    _, owner = sample.clusters
    one = np.bincount(owner, minlength=len(sample.groups)) < 2
    return "no interval: a stratum has a single person" if one.any() else ""
