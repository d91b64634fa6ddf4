"""What changes between two models on the same faces in metrics that need probabilities, with paired intervals."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fairaudit.metrics import scores
from fairaudit.metrics.estimates import Estimate, bounds
from fairaudit.metrics.intervals import Limits, mover_difference
from fairaudit.metrics.means import Means, mean_limits, means
from fairaudit.metrics.paired import Change, PairedSample
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.rates import Metric
from fairaudit.metrics.score_estimates import FEW, score_estimates

MEAN_LOSSES = frozenset(("log_loss", "brier", "mean_labelled_probability"))
RANKINGS = frozenset(("auc", "average_precision"))
UNPAIRED = "limits as if unpaired: too wide rather than too narrow"


def score_changes(pair: PairedSample, wanted: Sequence[Metric]) -> dict[str, Change]:
    """Return the change of each metric of `wanted` (kind "score", of probabilities) in every subgroup.

    Means over faces (log loss, Brier score, probability of the label): Student's t of the differences face by face.
    ROC AUC: DeLong, DeLong & Clarke-Pearson (Biometrics 1988) for two correlated curves, in its linearized form with
    weights; average precision: the infinitesimal jackknife of the difference; with subjects the influences of a person
    are summed (Obuchowski 1997). Calibration error, slope and intercept: MOVER of two unpaired values, noted as such.
    Both samples must have scores of the same faces. Raises ValueError where a sample has no measures.
    """
    nobody = np.zeros(len(pair.before.groups), dtype=bool)
    sides = [score_estimates(sample, nobody, False, wanted) for sample in (pair.before, pair.after)]
    pools = [Pools(sample, nobody) for sample in (pair.before, pair.after)]
    found = {}
    for metric in wanted:
        before, after = (side[metric.name] for side in sides)
        if metric.name in MEAN_LOSSES:
            delta = _mean_change(pair, pools, metric, before, after)
        elif metric.name in RANKINGS:
            delta = _ranking_change(pools, metric, before, after)
        else:
            delta = _delta(
                metric, before, after, partial(_unpaired, before, after), np.full(before.value.shape, UNPAIRED)
            )
        found[metric.name] = Change(before=before, after=after, delta=delta)
    return found


def _delta(
    metric: Metric, before: Estimate, after: Estimate, limits: Callable[[float], Limits], notes: np.ndarray
) -> Estimate:
    value = after.value - before.value
    return Estimate(
        metric=metric,
        value=value,
        denominator=np.minimum(before.denominator, after.denominator),
        effective=np.minimum(before.effective, after.effective),
        limits=limits,
        notes=np.where(np.isnan(value), "", notes).astype(object),
    )


def _unpaired(before: Estimate, after: Estimate, z: float) -> Limits:
    first, second = ((e.value, *e.limits(z)) for e in (after, before))
    return mover_difference(first, second)


def _mean_change(
    pair: PairedSample, pools: Sequence[Pools], metric: Metric, before: Estimate, after: Estimate
) -> Estimate:
    first, second = (pool.each_loss(metric.name) for pool in pools)
    usable = pools[0].scores.usable & pools[1].scores.usable
    change = np.where(usable, second - first, 0.0)
    found: Means = means(pair.before, None, change[:, None], usable[:, None].astype(float))
    notes = np.full(found.value.shape, "", dtype=object)
    notes[found.units < 2] = "no interval: fewer than two independent faces"
    notes[(found.units >= 2) & ~(found.variance > 0)] = "no interval: every face changes by the same amount"
    return _delta(metric, before, after, mean_limits(found), notes)


def _ranking_change(pools: Sequence[Pools], metric: Metric, before: Estimate, after: Estimate) -> Estimate:
    """Normal limits of the difference of two areas from the influences of the same faces on both."""
    shape = before.value.shape
    variance, notes = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    label, usable = pools[0].scores.label, pools[0].scores.usable & pools[1].scores.usable
    for g, members in enumerate(pools[0].members):
        faces = members[usable[members]]
        for c in range(shape[1]):
            positive = label[faces] == c
            smaller = min(int(positive.sum()), int((~positive).sum()))
            if np.isnan(before.value[g, c]) or np.isnan(after.value[g, c]):
                continue
            if smaller < scores.LEAST_OF_EACH:
                notes[g, c] = FEW
                continue
            moves = [_influences(pool, faces, c, positive, metric.name) for pool in pools]
            variance[g, c] = _spread(pools[0], faces, moves[1] - moves[0], positive, metric.name)
            if not variance[g, c] > 0:
                notes[g, c] = "no interval: both models rank these faces alike"
    error = np.sqrt(np.where(variance > 0, variance, np.nan))
    value = after.value - before.value
    least, most = bounds(metric)

    def limits(z: float) -> Limits:
        return np.maximum(value - z * error, least - most), np.minimum(value + z * error, most - least)

    return _delta(metric, before, after, limits, notes)


def _influences(pools: Pools, faces: np.ndarray, c: int, positive: np.ndarray, name: str) -> np.ndarray:
    """How much each face moves the area of class `c`, weight times influence, (N,)."""
    make = scores.auc_influence if name == "auc" else scores.precision_influence
    weight = pools.weight[faces]
    distinct, place = np.unique(pools.scores.values[faces, c], return_inverse=True)
    sides = [np.bincount(place[s], weights=weight[s], minlength=len(distinct)) for s in (positive, ~positive)]
    found = make(*sides)
    return weight * np.where(positive, found.positive[place], found.negative[place])


def _spread(pools: Pools, faces: np.ndarray, moves: np.ndarray, positive: np.ndarray, name: str) -> float:
    subject = pools.sample.subject
    if subject is not None:
        people = np.bincount(np.unique(subject[faces], return_inverse=True)[1], weights=moves)
        return float((people**2).sum() * len(people) / max(len(people) - 1, 1))
    parts = (moves[positive], moves[~positive]) if name == "auc" else (moves,)
    return float(sum((part**2).sum() * len(part) / max(len(part) - 1, 1) for part in parts))
