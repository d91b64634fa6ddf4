"""From a sample with measures to estimates of the metrics that counts cannot give, for all pools of subgroups."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fairaudit.metrics import scores, years
from fairaudit.metrics.calibration_estimates import error_of_calibration, recalibrations
from fairaudit.metrics.counted import pools_of, precision_error_bound
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.means import logit_limits, mean_estimate, positive_limits
from fairaudit.metrics.measures import Ranked
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.metrics.sample import Sample

FEW = f"not estimable: an interval needs {scores.LEAST_OF_EACH} faces of the class and {scores.LEAST_OF_EACH} others"
_EDGE = "not estimable: no interval at a value of {}"


def score_estimates(sample: Sample, known: np.ndarray, rest: bool, wanted: Sequence[Metric]) -> dict[str, Estimate]:
    """Estimate the metrics `wanted` (kind "score") of each subgroup and, with `rest`, everyone else of each known one.

    known: bool (G,). Every metric has limits in closed form at any level, from a variance between faces, weighted faces
    or subjects. Raises ValueError where the sample has no measures.
    """
    if sample.measures is None:
        raise ValueError("the sample has no measures")
    pools = pools_of(sample, known if rest else np.zeros(len(known), dtype=bool))
    found: dict[str, Estimate] = {}
    for metric in wanted:
        if metric.name in found:
            continue
        if metric.needs == "years":
            found[metric.name] = years.estimate(pools, metric)
        elif metric.name in ("auc", "average_precision"):
            found[metric.name] = ranking(pools, metric.name)
        elif metric.name == "ece":
            found[metric.name] = error_of_calibration(pools)
        elif metric.name.startswith("calibration_"):
            found |= recalibrations(pools)
        else:
            found[metric.name] = loss(pools, metric.name)
    return found


def ranking(pools: Pools, name: str) -> Estimate:
    """Estimate ROC AUC or average precision of each class, limits on the logit scale; denominators: see below.

    AUC stands on the smaller of its two sides, average precision on the faces of the class. Variance: DeLong (1988) for
    AUC, the infinitesimal jackknife for average precision; with subjects the influences of a person are summed
    (Obuchowski, Biometrics 1997).
    """
    found = [_class_curve(pools, c, name) for c in range(pools.width)]
    parts, off = [part for part, _ in found], np.stack([bound for _, bound in found], axis=-1)
    value, variance, positives, negatives = (
        np.stack([getattr(part, field) for part in parts], axis=-1)
        for field in ("value", "variance", "positives", "negatives")
    )
    smaller = (negatives < positives) & (name == "auc")
    sides = [pools.effective(n, partial(_of_side, pools, side)) for n, side in ((positives, True), (negatives, False))]
    few = (np.minimum(positives, negatives) < scores.LEAST_OF_EACH) & ~np.isnan(value)
    notes = np.full(value.shape, "", dtype=object)
    notes[few] = FEW
    for edge in (0, 1):
        notes[~few & (np.abs(value - edge) < 1e-12)] = _EDGE.format(edge)
    return Estimate(
        metric=METRICS[name],
        value=value,
        denominator=np.where(smaller, negatives, positives),
        effective=np.where(smaller, sides[1], sides[0]),
        limits=logit_limits(value, np.where(notes == "", variance, np.nan)),
        notes=_with_bounds(notes, off),
    )


def _of_side(pools: Pools, side: bool) -> np.ndarray:
    """Which faces with scores are of each class, or not: bool (N, K)."""
    faces = pools.scores
    return ((faces.label[:, None] == np.arange(pools.width)) == side) & faces.usable[:, None]


def _with_bounds(notes: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Say where scores were put into bins, and by how much that can have moved the value of a subgroup, off (G, K)."""
    for g, c in np.argwhere(off > 0):
        bound = f"from bins of scores: within ± {1.05 * off[g, c]:.2g}"  # never rounded down
        notes[g, c] = "; ".join([*filter(None, [notes[g, c]]), bound])
    return notes


def _class_curve(pools: Pools, c: int, name: str) -> tuple[scores.Curve, np.ndarray]:
    """Return the curve of one class, and how far each subgroup's value can be off (G,)."""
    table, exact = pools.class_table(c), np.zeros(len(pools.known))
    if name == "auc" and pools.sample.subject is None:
        return scores.auc(table, pools.known), pools.rounding(table)
    if pools.sample.subject is None:
        bound = np.nan_to_num(precision_error_bound(table)) if pools.binned else exact
        return _precision(pools, table), bound
    make = scores.auc_influence if name == "auc" else scores.precision_influence
    ranks, positive = pools.scores.classes[c], pools.scores.label == c
    return _clustered_curve(pools, ranks, positive, make, (1, int(name == "auc"))), exact


def _precision(pools: Pools, table: scores.ScoreTable) -> scores.Curve:
    counts = [scores.with_rests(table.sums(c), pools.known) for c in (table.positive_faces, table.negative_faces)]
    rows = []
    for m, n, (_, columns) in zip(*counts, pools.tables(scores.of_the_class(table)), strict=True):
        if not m:
            rows.append((np.nan, np.nan, m, n))
            continue
        up, down, up2, down2, ups, _ = columns
        at = np.flatnonzero(ups > 0.5)  # the pool itself may hold fewer of the class's scores
        step = np.searchsorted(at, np.arange(len(up)), side="right") - 1
        above = step >= 0
        down, down2 = (np.bincount(step[above], weights=c[above], minlength=len(at)) for c in (down, down2))
        found = scores.precision_influence(up[at], down)
        spread = (up2[at] * found.positive**2 + down2 * found.negative**2).sum()
        rows.append((found.value, spread * (m + n) / max(m + n - 1, 1), m, n))
    return _curve(rows)


def _clustered_curve(
    pools: Pools, ranks: Ranked, positive: np.ndarray, make: Callable[..., scores.Influence], least: tuple[int, int]
) -> scores.Curve:
    """Value, and variance of the summed influences of whole subjects; `least`: faces of either side that it needs."""
    subject = pools.sample.subject
    assert subject is not None  # called only then
    place = np.full(len(positive), -1)
    place[ranks.faces] = ranks.place
    rows = []
    for members in pools.faces():
        members = members[place[members] >= 0]
        up = positive[members]
        m, n = int(up.sum()), int((~up).sum())
        if m < least[0] or n < least[1] or not m + n:
            rows.append((np.nan, np.nan, m, n))
            continue
        at = place[members]
        if len(members) * 4 < len(ranks.score):
            at = np.unique(at, return_inverse=True)[1]
        weight, size = pools.weight[members], int(at.max()) + 1
        found = make(*(np.bincount(at[s], weights=weight[s], minlength=size) for s in (up, ~up)))
        moves = weight * np.where(up, found.positive[at], found.negative[at])
        codes = np.unique(subject[members], return_inverse=True)[1]
        people = np.bincount(codes, weights=moves)
        rows.append((found.value, (people**2).sum() * len(people) / max(len(people) - 1, 1), m, n))
    return _curve(rows)


def risk_curve(pools: Pools) -> scores.Curve:
    """Return the area under the risk–coverage curve of every pool: the mean error rate of its surest faces.

    `positives` are right predictions. Variance: infinitesimal jackknife, with subjects of whole persons.
    """
    if pools.sample.subject is not None:
        return _clustered_curve(pools, pools.scores.top, pools.scores.right, scores.risk_influence, (0, 0))
    rows = []
    for _, (up, down, up2, down2, ups, downs) in pools.tables(pools.top_table()):
        m, n = ups.sum(), downs.sum()
        if not m + n:
            rows.append((np.nan, np.nan, m, n))
            continue
        found = scores.risk_influence(up, down)
        spread = (up2 * found.positive**2 + down2 * found.negative**2).sum()
        rows.append((found.value, spread * (m + n) / max(m + n - 1, 1), m, n))
    return _curve(rows)


def _curve(rows: Sequence[tuple[float, float, float, float]]) -> scores.Curve:
    columns = np.array(rows, dtype=float).T
    return scores.Curve(**dict(zip(("value", "variance", "positives", "negatives"), columns, strict=True)))


def loss(pools: Pools, name: str) -> Estimate:
    """Estimate a mean over faces: log loss, Brier score, or the probability of the class that a face is labelled as."""
    found, none = pools.losses(name)
    zero = np.full((len(pools), 1), "", dtype=object)
    if name == "log_loss":
        zero[none > 0] = "a probability of 0 for the label counts as 2e-16 (a loss of 36)"
    if name == "mean_labelled_probability":
        limits = logit_limits(found.value, found.variance, found.units)
    else:
        limits = positive_limits(found)
    return mean_estimate(METRICS[name], found, limits, zero)
