"""Gaps under the null: how large max − min is by noise alone, how surely an observed one is more, and split samples."""

import numpy as np
from scipy import special

from fairaudit.metrics.exact import strength
from fairaudit.metrics.sample import Sample

MOST_IN_PAIRS = 20  # subgroups of an axis whose pairs are compared; more are compared with the rest


def extremes(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return max − min over the chosen subgroups of each draw; values and chosen (…, G); 0 where under two are chosen.

    A draw in which the size filter leaves fewer than two subgroups would have shown no gap.
    """
    high = np.where(chosen, values, -np.inf).max(-1)
    low = np.where(chosen, values, np.inf).min(-1)
    return np.where(chosen.sum(-1) > 1, high - np.where(np.isfinite(low), low, 0), 0.0)


def joint_strength(largest: np.ndarray, comparisons: int) -> np.ndarray:
    """Return the strength of the largest of several |z| after Šidák's correction for their number.

    Only a scale on which gaps over few and over many subgroups can be compared: p-values come from the draws.
    """
    single = np.minimum(2 * special.ndtr(-np.abs(largest)), 1 - 1e-16)
    return strength(-np.expm1(max(comparisons, 1) * np.log1p(-single)))


def moments(values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each subgroup over the draws in which it is chosen; (B, G) → (G,), (G,)."""
    count = np.maximum(chosen.sum(0), 1)
    mean = np.where(chosen, values, 0).sum(0) / count
    return mean, np.sqrt(np.where(chosen, (values - mean) ** 2, 0).sum(0) / count)


def largest_deviation(
    values: np.ndarray, chosen: np.ndarray, mean: np.ndarray, deviation: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Return the largest standardized difference of each draw, (B, G) → (B,): between pairs, over 20 from the rest.

    mean, deviation: of every subgroup under the null; share: its part of all faces, since a subgroup and all faces vary
    together (the variance of a difference of two is that of Tukey & Kramer).
    """
    centred = np.where(chosen, values - mean, np.nan)
    if chosen.shape[1] > MOST_IN_PAIRS:
        scaled = np.divide(np.abs(centred), deviation, out=np.zeros_like(centred), where=deviation > 1e-12)
        return np.nan_to_num(scaled).max(-1)
    own = deviation**2 / np.maximum(1 - share, 1e-9)
    largest = np.zeros(len(values))
    for i in range(chosen.shape[1] - 1):
        scale = np.sqrt(own[i] + own[i + 1 :])
        apart = np.abs(centred[:, i, None] - centred[:, i + 1 :])
        apart = np.divide(apart, scale, out=np.zeros_like(apart), where=scale > 1e-12)
        largest = np.fmax(largest, np.nan_to_num(apart).max(-1))
    return largest


def split_gap(first: np.ndarray, second: np.ndarray, chosen: np.ndarray, least_defined: float = 0.9) -> float:
    """Return the gap of the pair that one half shows as largest, measured on the other half, averaged both ways.

    first, second: (R, G) values of the halves of R splits; chosen: (G,) bool. NaN where in over 10 % of them no pair
    can be measured.
    """
    found = []
    for pick, measure in ((first, second), (second, first)):
        defined = chosen & ~np.isnan(pick)
        row = np.arange(len(pick))
        high = np.where(defined, pick, -np.inf).argmax(1)
        low = np.where(defined, pick, np.inf).argmin(1)
        found.append(np.where(defined.sum(1) > 1, measure[row, high] - measure[row, low], np.nan))
    both = np.concatenate(found)
    usable = ~np.isnan(both)
    return float(both[usable].mean()) if usable.mean() >= least_defined else np.nan


def halves(sample: Sample, splits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split the sample in random halves, `splits` times: the cell sums of both, each (splits, G, cells).

    Faces are split within every subgroup (a random half of its cells); persons go to one half whole.
    """
    groups, width = len(sample.groups), sample.table.shape[0] * sample.table.shape[1]
    whole = sample.sums.reshape(groups, width)
    half = np.zeros((splits, groups, width))
    if sample.weight is None and sample.subject is None:
        for g, cells in enumerate(sample.counts.reshape(groups, width)):
            # an odd face goes to either half
            for extra in (0, 1):
                rows = slice(extra, None, 2)
                size = (int(cells.sum()) + extra) // 2
                count = len(range(splits)[rows])
                half[rows, g] = rng.multivariate_hypergeometric(cells, size, size=count, method="marginals")
        return half, whole - half
    unit = np.arange(len(sample.group)) if sample.subject is None else np.unique(sample.subject, return_inverse=True)[1]
    packed = sample.group.astype(np.int64) * width + sample.cell
    weight = np.ones(len(packed)) if sample.weight is None else sample.weight
    for r in range(splits):
        chosen = rng.permutation(int(unit.max(initial=-1)) + 1)[unit] % 2 == 0
        half[r] = np.bincount(packed[chosen], weights=weight[chosen], minlength=groups * width).reshape(groups, width)
    return half, np.where(np.abs(whole - half) < 1e-9, 0.0, whole - half)


def between_variance(p: np.ndarray, n: np.ndarray) -> float:
    """Return τ² = S² (ddof 1) − mean of p(1 − p)/(n − 1): unbiased, and so below 0 by chance (Lum, Zhang & Bower 2022).

    p, n: shares and (effective) numbers of at least two subgroups, n > 1.
    """
    return float(p.var(ddof=1) - (p * (1 - p) / (n - 1)).mean())
