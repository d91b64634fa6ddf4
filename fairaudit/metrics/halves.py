"""Split in halves and test shares against shares: what is discovered on one half is confirmed on the other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fairaudit.metrics.exact import fisher, two_sided
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.sample import Sample

LEAST_EXPECTED = 5.0


def blocks(keys: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return the block of each of `size` rows: rows that share a code in any of `keys` stay together.

    A negative code is shared with nobody. Persons and identical images are such keys.
    """
    ties = []
    for codes in keys:
        order = np.argsort(codes, kind="stable")
        same = (codes[order][1:] == codes[order][:-1]) & (codes[order][1:] >= 0)
        ties.append(np.column_stack([order[1:][same], order[:-1][same]]))
    pairs = np.concatenate(ties) if ties else np.zeros((0, 2), dtype=int)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def halves(block: np.ndarray, strata: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Return which rows are in the first half, bool (N,): whole blocks, every stratum halved as far as blocks allow.

    Blocks are shuffled, sorted by the stratum of their first row and dealt in turn, so that a stratum of n blocks gives
    n / 2 to each half, rounded to a whole block, and odd ones even out over the strata.
    """
    _, first, number = np.unique(block, return_index=True, return_inverse=True)
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(first)), strata[first]))
    dealt = np.empty(len(first), dtype=bool)
    dealt[order] = (np.arange(len(first)) + rng.integers(2)) % 2 == 0
    return dealt[number]


def part_of(sample: Sample, mask: np.ndarray) -> Sample:
    """Return the rows of a sample where `mask` is True, without its measures (probabilities and ages in years)."""
    columns = {name: getattr(sample, name) for name in ("group", "row", "column", "weight", "subject", "times")}
    kept: dict[str, Any] = {name: None if values is None else values[mask] for name, values in columns.items()}
    return replace(sample, measures=None, **kept)


def share_tests(p: np.ndarray, n: np.ndarray, p_rest: np.ndarray, n_rest: np.ndarray, exact: bool) -> np.ndarray:
    """Return two-sided p-values of p = p_rest: score test (pooled variance), Fisher's exact test in sparse tables.

    n may be effective numbers. A table is sparse where an expected cell is under 5; with `exact` False (weights or
    repeated subjects, for which Fisher's test does not hold) such a pair is not tested. NaN where it is not.
    """
    p, n, p_rest, n_rest = np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in (p, n, p_rest, n_rest)))
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (p * n + p_rest * n_rest) / (n + n_rest)
        z = (p - p_rest) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_rest))
    expected = np.minimum(pooled, 1 - pooled) * np.minimum(n, n_rest)
    possible = (n > 0) & (n_rest > 0) & ~np.isnan(p + p_rest)
    found = np.where(possible & (expected >= LEAST_EXPECTED), two_sided(z), np.nan)
    sparse = possible & (expected < LEAST_EXPECTED) & exact
    found[sparse] = fisher((p * n)[sparse], n[sparse], (p_rest * n_rest)[sparse], n_rest[sparse])
    return found


def holm_levels(p_values: np.ndarray, confidence: float) -> np.ndarray:
    """Return for each test the z of the interval that belongs to Holm's decision on it: at α / (m − rank + 1)."""
    defined = np.flatnonzero(~np.isnan(p_values))
    order = defined[np.argsort(p_values[defined], kind="stable")]
    found = np.full(len(p_values), z_value(confidence, len(defined)))
    left, decided = len(order), True
    for i in order:
        decided = decided and p_values[i] <= (1 - confidence) / left
        found[i] = z_value(confidence, left)
        left -= decided
    return found
