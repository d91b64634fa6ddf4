"""regions.csv: how much of the attribution falls on each region of the face, by subgroup, with bootstrap intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fairaudit.attribution.regions import REGIONS
from fairaudit.metrics.bootstrap import bca, draw_sums
from fairaudit.results.columns import REGION_COLUMNS
from fairaudit.subgroups import OVERALL

KINDS = ("absolute", "signed")
DRAWS = 2000
CONFIDENCE = 0.95
FEWEST = 5  # faces below which a bootstrap has too little to draw from


def region_table(
    shares: Mapping[str, np.ndarray],
    axes: Mapping[str, pd.Categorical],
    areas: Mapping[str, float],
    *,
    method: str,
    baseline: str,
    seed: int,
) -> pd.DataFrame:
    """Return a row (REGION_COLUMNS) for each head, axis, subgroup, region and kind.

    shares: {task: (n, 2, R)}, absolute and signed shares of each face, NaN where a face has none; axes: {axis: the
    subgroup of each of the n faces}; areas: {region: share that evenly spread attribution would have}. A mean over
    faces has a BCa bootstrap interval, faces drawn again.
    """
    rows: list[dict[str, object]] = []
    for task, values in shares.items():
        known = np.isfinite(values).all(axis=(1, 2))
        for by, groups in {OVERALL: None, **axes}.items():
            names = [OVERALL] if groups is None else list(groups.categories)
            labels = np.full(len(values), OVERALL, dtype=object) if groups is None else np.asarray(groups, dtype=object)
            for name in names:
                chosen = values[known & (labels == name)]
                limits = _limits(chosen.reshape(len(chosen), 2 * len(REGIONS)), seed)
                for i, (mean, low, high, reason) in enumerate(limits):
                    kind, region = divmod(i, len(REGIONS))
                    rows.append(
                        {
                            "method": method,
                            "baseline": baseline,
                            "task": task,
                            "by": by,
                            "subgroup": str(name),
                            "region": REGIONS[region],
                            "kind": KINDS[kind],
                            "share": mean,
                            "low": low,
                            "high": high,
                            "n": len(chosen),
                            "area": areas[REGIONS[region]],
                            "reason": reason,
                        }
                    )
    return pd.DataFrame(rows, columns=list(REGION_COLUMNS))


def _limits(values: np.ndarray, seed: int) -> list[tuple[float, float, float, str]]:
    """Return mean, limits and what is lacking for each column of values (n, M)."""
    n, columns = values.shape
    if n < FEWEST:
        means = values.mean(axis=0) if n else np.full(columns, np.nan)
        said = (
            f"fewer than {FEWEST} faces give no bootstrap interval" if n else "no face of this subgroup was attributed"
        )
        return [(float(mean), np.nan, np.nan, said) for mean in means]
    units = np.column_stack([values, np.ones(n)])
    times = np.ones(n, dtype=int)
    drawn = draw_sums(units, times, DRAWS, np.random.default_rng(seed))
    mean, low, high, why = bca(units, times, lambda sums: sums[..., :-1] / sums[..., -1:], drawn, CONFIDENCE)
    return list(zip(mean.tolist(), low.tolist(), high.tolist(), why, strict=True))
