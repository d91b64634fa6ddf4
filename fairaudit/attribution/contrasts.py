"""contrasts.csv: does the model look elsewhere for some people than for others, or do their pictures just differ?

A contrast compares two sets of faces within strata of equal label and correctness, one fixed class explained in all of
them. It is made against every baseline, and once more for a model without what was learned. Only what every baseline
shows, and the randomized model does not, is the model's doing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairaudit.attribution.region_table import CONFIDENCE, DRAWS, KINDS
from fairaudit.attribution.regions import REGIONS
from fairaudit.metrics.bootstrap import bca, draw_sums
from fairaudit.metrics.multiplicity import benjamini_hochberg, exceeded
from fairaudit.results.columns import CONTRAST_COLUMNS
from fairaudit.subgroups import UNKNOWN
from fairaudit.wording import plural

ALPHA = 0.05
MODEL, IMAGE, NONE, OPEN = "model", "image content, not model", "no difference shown", "not assessed"
EVERYONE, RIGHT = "everyone else", "right predictions"
SUBGROUPS, ERRORS = "subgroups", "wrong against right"
FEWEST = 5  # matched faces on each side
_WIDTH = 2 * len(REGIONS)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The n faces of the contrasts of one head: label and predicted (n,) text, groups {axis: subgroup of each}, and the
    class explained in all of them."""

    task: str
    target: str
    label: np.ndarray
    predicted: np.ndarray
    groups: Mapping[str, pd.Categorical]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two sets of faces that are compared: masks (n,) of one side and the other, and codes (n,) of the strata."""

    by: str
    subgroup: str
    other: str
    comparison: str
    inside: np.ndarray
    outside: np.ndarray
    stratum: np.ndarray


def pairs(sample: Sample) -> Iterator[Pair]:
    """Yield every subgroup against everyone else, matched on label and correctness, and within every subgroup the wrong
    against the right predictions, matched on the label. Faces without a label or a known subgroup are in none."""
    label = np.unique(sample.label.astype(str), return_inverse=True)[1]
    known = np.array([isinstance(value, str) for value in sample.label])
    right = sample.label == sample.predicted
    both = 2 * label + right
    for by, groups in sample.groups.items():
        names = np.asarray(groups, dtype=object)
        for name in groups.categories:
            if name == UNKNOWN:
                continue
            mine, rest = known & (names == name), known & (names != name) & (names != UNKNOWN)
            common = {"by": by, "subgroup": str(name)}
            yield Pair(**common, other=EVERYONE, comparison=SUBGROUPS, inside=mine, outside=rest, stratum=both)
            yield Pair(
                **common, other=RIGHT, comparison=ERRORS, inside=mine & ~right, outside=mine & right, stratum=label
            )


def matched(pair: Pair) -> np.ndarray:
    """Return the weight (n,) of each face in the matched difference Σ weight · share: per stratum the difference of
    means, strata weighted by a·b / (a + b), as Cochran's and Mantel & Haenszel's tests do. All 0 where none matches."""
    weights = np.zeros(len(pair.stratum))
    for code in np.unique(pair.stratum):
        here = pair.stratum == code
        a, b = int((here & pair.inside).sum()), int((here & pair.outside).sum())
        if a and b:
            weights[here & pair.inside], weights[here & pair.outside] = b / (a + b), -a / (a + b)
    total = weights[weights > 0].sum()
    return weights / total if total else weights


def contrast_table(
    sample: Sample,
    trained: Mapping[str, np.ndarray],
    random: Mapping[str, np.ndarray],
    *,
    method: str,
    seed: int,
) -> pd.DataFrame:
    """Return the rows (CONTRAST_COLUMNS) of one head and method.

    trained, random: {baseline: shares (n, 2, R)} of the model and of the weight-randomized one, the same faces; NaN
    where a face has no attribution or region. p-values come from exchanging the two sides within strata, BCa limits
    from drawing faces again; Benjamini–Hochberg runs over the regions and subgroups of one axis, baseline, kind
    and comparison. `net` is the difference of the model's shares minus the randomized model's, face by face.
    """
    rows: list[dict[str, object]] = []
    for baseline, shares in trained.items():
        values = np.concatenate([shares, shares - random[baseline], random[baseline]], axis=1)
        values = values.reshape(len(values), 3 * _WIDTH)
        known = np.isfinite(values).all(axis=1)
        for pair in pairs(sample):
            rows += _rows(sample, pair, values, known, method, baseline, seed)
    table = pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS))
    if table.empty:
        return table
    family = ["baseline", "by", "kind", "comparison"]
    for raw, adjusted in (("p_value", "p_adjusted"), ("net_p_value", "net_p_adjusted")):
        table[adjusted] = table.groupby(family)[raw].transform(lambda p: benjamini_hochberg(p.to_numpy(float)))
    return judged(table)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one head and method with their verdict: the same for every baseline of a contrast.

    "model": every baseline shows the difference with the same sign, and so does every net difference. "image content,
    not model": some baseline shows it, but not all do, or not net of the randomized model. Black decides nothing.
    """
    table = table.copy()
    for _, rows in table.groupby(["by", "subgroup", "other", "region", "kind"], sort=False):
        table.loc[rows.index, "verdict"] = _verdict(rows[rows["baseline"] != "black"])
    return table


def _verdict(rows: pd.DataFrame) -> str:
    if rows["p_adjusted"].isna().any() or rows["net_p_adjusted"].isna().any():
        return OPEN
    shown = rows["p_adjusted"] < ALPHA
    signs = np.sign(rows["difference"])
    beyond = (rows["net_p_adjusted"] < ALPHA) & (np.sign(rows["net"]) == signs)
    if not shown.any():
        return NONE
    return MODEL if shown.all() and signs.nunique() == 1 and beyond.all() else IMAGE


def _rows(
    sample: Sample, pair: Pair, values: np.ndarray, known: np.ndarray, method: str, baseline: str, seed: int
) -> list[dict[str, object]]:
    pair = _kept(pair, known)
    values = values[known]
    weights = matched(pair)
    used = weights != 0
    n, others = int((used & pair.inside).sum()), int((used & pair.outside).sum())
    common = {
        "method": method,
        "baseline": baseline,
        "task": sample.task,
        "by": pair.by,
        "subgroup": pair.subgroup,
        "other": pair.other,
        "comparison": pair.comparison,
        "target": sample.target,
        "n": n,
        "n_other": others,
        "strata": len(np.unique(pair.stratum[used])),
    }
    reason = _reason(pair, n, others)
    nothing = np.full(3 * _WIDTH, np.nan)
    if reason:
        difference, p, low, high = nothing, nothing, nothing, nothing
    else:
        pair, values, weights = _kept(pair, used), values[used], weights[used]
        rng = np.random.default_rng(seed)
        difference = weights @ values
        null = np.abs(_permuted(weights, pair.stratum, rng) @ values)
        p = exceeded(np.abs(difference), null)
        low, high = _bootstrap(pair, values[:, : 2 * _WIDTH], rng)
    return [
        {
            **common,
            "region": REGIONS[i % len(REGIONS)],
            "kind": KINDS[i // len(REGIONS)],
            "difference": difference[i],
            "low": low[i],
            "high": high[i],
            "p_value": p[i],
            "randomized": difference[2 * _WIDTH + i],
            "net": difference[_WIDTH + i],
            "net_low": low[_WIDTH + i],
            "net_high": high[_WIDTH + i],
            "net_p_value": p[_WIDTH + i],
            "verdict": OPEN,
            "reason": reason,
        }
        for i in range(_WIDTH)
    ]


def _kept(pair: Pair, rows: np.ndarray) -> Pair:
    return Pair(
        by=pair.by,
        subgroup=pair.subgroup,
        other=pair.other,
        comparison=pair.comparison,
        inside=pair.inside[rows],
        outside=pair.outside[rows],
        stratum=pair.stratum[rows],
    )


def _reason(pair: Pair, n: int, others: int) -> str:
    if not n:
        alike = "label and correctness" if pair.comparison == SUBGROUPS else "label"
        return f"no face of one side has the {alike} of a face of the other: nothing to match"
    if min(n, others) < FEWEST:
        return f"{plural(n, 'matched face')} against {others}: fewer than {FEWEST} on a side"
    return ""


def _permuted(weights: np.ndarray, stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return DRAWS rows of the weights, exchanged within strata."""
    drawn = np.repeat(weights[None], DRAWS, axis=0)
    for code in np.unique(stratum):
        here = np.flatnonzero(stratum == code)
        drawn[:, here] = rng.permuted(drawn[:, here], axis=1)
    return drawn


def _bootstrap(pair: Pair, values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return BCa limits of the matched difference of each column; a stratum that a draw leaves one-sided counts 0."""
    codes, stratum = np.unique(pair.stratum, return_inverse=True)
    n, width, cells = len(values), values.shape[1], 2 * len(codes)
    cell = stratum + len(codes) * pair.outside
    units = np.zeros((n, cells, width + 1))
    units[np.arange(n), cell] = np.column_stack([values, np.ones(n)])
    flat, times = units.reshape(n, -1), np.ones(n, dtype=int)

    def statistic(sums: np.ndarray) -> np.ndarray:
        parts = sums.reshape(*sums.shape[:-1], 2, len(codes), width + 1)
        (a, b), totals = np.moveaxis(parts[..., -1], -2, 0), parts[..., :-1]
        means = totals / np.maximum(parts[..., -1:], 1e-9)
        weight = np.where((a > 0) & (b > 0), a * b / np.maximum(a + b, 1e-9), 0.0)
        apart = (weight[..., None] * (means[..., 0, :, :] - means[..., 1, :, :])).sum(axis=-2)
        total = weight.sum(axis=-1)[..., None]
        return np.asarray(np.divide(apart, total, out=np.full(apart.shape, np.nan), where=total > 0))

    _, low, high, _ = bca(flat, times, statistic, draw_sums(flat, times, DRAWS, rng), CONFIDENCE)
    return low, high


def difference_map(pair: Pair, maps: np.ndarray) -> np.ndarray | None:
    """Return the matched difference of maps (n, h, w), None where no face matches or one side is too small."""
    known = np.isfinite(maps).all(axis=(1, 2))
    kept = _kept(pair, known)
    weights = matched(kept)
    used = weights != 0
    if min(int((used & kept.inside).sum()), int((used & kept.outside).sum())) < FEWEST:
        return None
    return np.asarray(np.tensordot(weights, maps[known], axes=1))


def common_target(labels: Sequence[object], classes: Sequence[str]) -> str:
    """Return the class with the most labels; of equals the first; the first class where no label is known."""
    counts = [sum(label == name for label in labels) for name in classes]
    return classes[int(np.argmax(counts))]
