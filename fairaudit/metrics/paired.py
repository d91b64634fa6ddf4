"""Two models on the same faces: each metric of both, and its change with a paired interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fairaudit.metrics import bootstrap
from fairaudit.metrics.estimates import Estimate, Item, bounds, mean_recall, share
from fairaudit.metrics.intervals import Limits, mover_sum, newcombe_paired, sign_flip_p, z_value
from fairaudit.metrics.rates import METRICS, Margins, Metric, Table, average, average_weights, ratio
from fairaudit.metrics.sample import Sample

# the denominator of these depends on the model's own predictions: no closed form for the paired change
OWN_DENOMINATOR = frozenset(("precision", "fdr", "npv", "f1"))


@dataclass(frozen=True, kw_only=True)
class Change:
    """A metric of the baseline, of the other model, and other − baseline: three estimates of shape (G, P)."""

    before: Estimate
    after: Estimate
    delta: Estimate


@dataclass(frozen=True)
class PairedSample:
    """The same faces under two models: `before` and `after` differ in `column` only."""

    before: Sample
    after: Sample

    @cached_property
    def pools(self) -> np.ndarray:
        """Each subgroup on its own, (G, G)."""
        return np.eye(len(self.before.groups))

    @cached_property
    def weight(self) -> np.ndarray:
        """Weight of each face, 1 where there are none."""
        return np.ones(len(self.before.group)) if self.before.weight is None else self.before.weight

    def by_group(self, values: np.ndarray) -> np.ndarray:
        """Sum a value a face over each subgroup."""
        return np.bincount(self.before.group, weights=values, minlength=len(self.before.groups))

    def by_subject(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum a value a face over each independent unit (subject within subgroup, else face); and the units' subgroups."""
        if self.before.subject is None:
            return values, self.before.group
        number, owner = self.before.clusters
        return np.bincount(number, weights=values, minlength=len(owner)), owner

    def units(self, g: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct units of a subgroup with their number: cell sums under both models side by side."""
        keep = self.before.group == g
        width = self.before.table.shape[0] * self.before.table.shape[1]
        first, second, weight = self.before.cell[keep], self.after.cell[keep], self.weight[keep]
        if self.before.subject is None:
            rows, times = np.unique(np.column_stack([first, second, weight]), axis=0, return_counts=True)
            units = np.zeros((len(rows), 2 * width))
            units[np.arange(len(rows)), rows[:, 0].astype(int)] = rows[:, 2]
            units[np.arange(len(rows)), width + rows[:, 1].astype(int)] = rows[:, 2]
            return units, times
        people, number = np.unique(self.before.subject[keep], return_inverse=True)
        size = len(people) * 2 * width
        units = np.bincount(number * 2 * width + first, weights=weight, minlength=size)
        units += np.bincount(number * 2 * width + width + second, weights=weight, minlength=size)
        return np.unique(units.reshape(len(people), 2 * width), axis=0, return_counts=True)


def share_change(pair: PairedSample, metric: Metric) -> Change:
    """Change of a share whose denominator both models have in common, with Newcombe's paired interval (method 10).

    With subjects the number of pairs is the effective one: the variance of the difference between faces over that
    between subjects.
    """
    assert metric.cells is not None  # by construction of METRICS
    before, after = share(pair.before, pair.pools, metric), share(pair.after, pair.pools, metric)
    top, bottom = (stack.reshape(len(stack), -1) for stack in np.broadcast_arrays(*metric.cells(pair.before.table)))
    shape = before.value.shape
    both, first, second, effective = (np.zeros(shape) for _ in range(4))
    for p in range(shape[1]):
        a, b = top[p][pair.before.cell], top[p][pair.after.cell]
        below = bottom[p][pair.before.cell]
        total = pair.by_group(pair.weight * below)
        parts = (a * b, b * (1 - a), a * (1 - b))
        both[:, p], first[:, p], second[:, p] = (ratio(pair.by_group(pair.weight * part), total) for part in parts)
        effective[:, p] = _effective(pair, b - a, below, total, first[:, p], second[:, p])

    def limits(z: float) -> Limits:
        undefined = np.isnan(both) | (effective <= 0)
        safe = [np.where(undefined, 0.0, part) for part in (both, first, second)]
        low, high = newcombe_paired(*safe, np.where(undefined, 1.0, effective), z)
        return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)

    return _change(metric, before, after, after.value - before.value, effective, limits)


def _effective(
    pair: PairedSample, d: np.ndarray, below: np.ndarray, total: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Effective number of pairs in each subgroup for the mean of d over the faces of a denominator."""
    kish = np.nan_to_num(ratio(total**2, pair.by_group(pair.weight**2 * below)))
    if pair.before.subject is None:
        return kish
    groups = len(total)
    delta = np.nan_to_num(first - second)
    residual, owner = pair.by_subject(pair.weight * (d - delta[pair.before.group]) * below)
    sizes, _ = pair.by_subject(pair.weight * below)
    people = np.bincount(owner, weights=(sizes > 0).astype(float), minlength=groups)
    spread = np.bincount(owner, weights=residual**2, minlength=groups) * ratio(people, people - 1)
    by_spread = ratio(first + second - delta**2, ratio(spread, total**2))
    by_people = ratio(total**2, np.bincount(owner, weights=sizes**2, minlength=groups))
    return np.minimum(kish, np.nan_to_num(np.where(np.isnan(by_spread), by_people, by_spread)))


def mean_recall_change(pair: PairedSample, metric: Metric, classes: np.ndarray, mix: np.ndarray) -> Change:
    """Change of an average of recalls: MOVER over the classes' paired intervals (classes hold different faces)."""
    recall = share_change(pair, METRICS["recall"]).delta
    weights = average_weights(metric.name, classes, mix)
    before = mean_recall(pair.before, pair.pools, metric, classes, mix)
    after = mean_recall(pair.after, pair.pools, metric, classes, mix)
    value = average(recall.value, weights)[:, None]

    def limits(z: float) -> Limits:
        low, high = mover_sum(weights, recall.value, *recall.limits(z))
        return np.maximum(low[:, None], -1), np.minimum(high[:, None], 1)

    return _change(metric, before, after, value, before.effective, limits)


def drawn_changes(
    pair: PairedSample, items: Mapping[str, Item], *, confidence: float, draws: int, seed: Sequence[int]
) -> dict[str, Change]:
    """Changes without a closed form: bootstrap of the joint cells C[g, y, ŷA, ŷB] (subjects whole where known), BCa.

    items: key → (metric name, classes (G, K)). Both models are measured on every draw, so what they share cancels.
    """
    table = pair.before.table
    widths = [table.classes if METRICS[name].per_class else 1 for name, _ in items.values()]
    groups = len(pair.before.groups)
    found = np.full((3, 3, groups, sum(widths)), np.nan)
    notes = np.full((3, groups, sum(widths)), "", dtype=object)
    for g in range(groups):
        units, times = pair.units(g)
        if not len(times):
            continue
        statistic = _both_models(table, [(name, classes[g]) for name, classes in items.values()])
        drawn = bootstrap.draw_sums(units, times, draws, np.random.default_rng([*seed, g]))
        value, low, high, why = bootstrap.bca(units, times, statistic, drawn, confidence)
        found[:, :, g] = np.stack([value, low, high]).reshape(3, 3, -1)
        notes[:, g] = np.array(why, dtype=object).reshape(3, -1)
    z, ends = z_value(confidence), np.cumsum([0, *widths])
    changes = {}
    for i, (key, (name, _)) in enumerate(items.items()):
        part = slice(ends[i], ends[i + 1])
        changes[key] = _drawn(pair, METRICS[name], found[..., part], notes[..., part], z)
    return changes


def _both_models(table: Table, items: Sequence[Item]) -> bootstrap.Statistic:
    rows, columns = table.shape
    k = table.classes

    def values(cells: np.ndarray) -> np.ndarray:
        margins = Margins(cells.reshape(*cells.shape[:-1], rows, columns)[..., :k])
        return np.concatenate([_values(METRICS[name], margins, classes) for name, classes in items], axis=-1)

    def statistic(cells: np.ndarray) -> np.ndarray:
        before, after = (values(side) for side in np.split(cells, 2, axis=-1))
        return np.concatenate([before, after, after - before], axis=-1)

    return statistic


def _values(metric: Metric, margins: Margins, classes: np.ndarray) -> np.ndarray:
    """Values of one metric, (…, K) or (…, 1), from margins that are already summed."""
    if metric.value is not None:
        return metric.value(margins, classes)[..., None]
    if metric.name == "f1":
        return margins.f1
    if metric.name == "npv":
        total = margins.total[..., None]
        return ratio(total - margins.rows - margins.columns + margins.diagonal, total - margins.columns)
    return margins.precision if metric.name == "precision" else 1 - margins.precision


def _drawn(pair: PairedSample, metric: Metric, found: np.ndarray, notes: np.ndarray, z0: float) -> Change:
    """Wrap value, low, high (first axis) of before, after and change (second axis) into estimates."""
    if metric.cells is not None:
        before, after = share(pair.before, pair.pools, metric), share(pair.after, pair.pools, metric)
    else:
        size = share(pair.before, pair.pools, METRICS["accuracy"])
        least, most = bounds(metric)
        before, after = (
            Estimate(
                metric=metric,
                value=found[0, side],
                denominator=size.denominator,
                effective=size.effective,
                limits=_scaled(*found[:, side], z0, least, most),
                notes=notes[side],
            )
            for side in (0, 1)
        )
    least, most = bounds(metric)
    delta = _scaled(*found[:, 2], z0, least - most, most - least)
    change = _change(metric, before, after, found[0, 2], np.minimum(before.effective, after.effective), delta)
    return Change(before=before, after=after, delta=replace(change.delta, notes=notes[2]))


def _scaled(
    value: np.ndarray, low: np.ndarray, high: np.ndarray, z0: float, least: float, most: float
) -> Callable[[float], Limits]:
    def limits(z: float) -> Limits:
        below, above = value - (value - low) * z / z0, value + (high - value) * z / z0
        return np.maximum(below, least), np.minimum(above, most)

    return limits


def _change(
    metric: Metric, before: Estimate, after: Estimate, value: np.ndarray, effective: np.ndarray, limits: Callable[[float], Limits]
) -> Change:
    delta = Estimate(
        metric=metric,
        value=value,
        denominator=np.minimum(before.denominator, after.denominator),
        effective=effective,
        limits=limits,
        notes=np.full(value.shape, "", dtype=object),
    )
    return Change(before=before, after=after, delta=delta)


def flips(pair: PairedSample, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return helped, harmed (faces, (G, P)) and the exact McNemar p-value of a share of right predictions.

    Helped: only the other model is right; harmed: only the baseline. With subjects the test flips whole subjects. The
    test counts faces: weights do not enter. NaN where the denominator is empty.
    """
    assert metric.cells is not None  # by construction of METRICS
    top, bottom = (stack.reshape(len(stack), -1) for stack in np.broadcast_arrays(*metric.cells(pair.before.table)))
    groups = len(pair.before.groups)
    helped, harmed, p_values = (np.full((groups, len(top)), np.nan) for _ in range(3))
    for p in range(len(top)):
        a, b = top[p][pair.before.cell], top[p][pair.after.cell]
        sizes = pair.by_group(bottom[p][pair.before.cell])
        helped[:, p], harmed[:, p] = pair.by_group(b * (1 - a)), pair.by_group(a * (1 - b))
        units, owner = pair.by_subject(b - a)
        changed = units != 0
        order = np.argsort(owner[changed], kind="stable")
        parts = np.split(
            units[changed][order], np.cumsum(np.bincount(owner[changed], minlength=groups))[:-1]
        )
        p_values[:, p] = [sign_flip_p(part) if size else np.nan for part, size in zip(parts, sizes, strict=True)]
    return helped, harmed, p_values


def gap_change(before: Estimate, after: Estimate, delta: Estimate, column: int, chosen: np.ndarray, confidence: float) -> Limits:
    """Return simultaneous limits of the change of max − min over the subgroups `chosen`, as two floats in arrays.

    At error α: a quarter for all pairwise intervals of each model, half for those of all paired contrasts Δi − Δj, each
    Bonferroni-adjusted over the pairs. If all hold: change ≥ contrast of the pair that is extreme under the baseline,
    which is one of those whose baseline interval reaches the baseline gap's lower limit; change ≤ contrast of the pair
    that is extreme under the other model; and change lies between the differences of the two gaps' limits. No
    max − min is ever drawn.
    """
    pairs = len(chosen) * (len(chosen) - 1) // 2
    error = 1 - confidence
    single, joint = z_value(1 - error / 4, pairs), z_value(1 - error / 2, pairs)
    first, second = (_contrasts(e, column, chosen, single) for e in (before, after))
    down, up = _contrasts(delta, column, chosen, joint)
    if any(np.isnan(part).any() for part in (*first, *second, down, up)):
        return np.array(np.nan), np.array(np.nan)
    (low_a, high_a), (low_b, high_b) = ((max(0.0, side[0].max()), side[1].max()) for side in (first, second))
    lower = max(low_b - high_a, down[first[1] >= low_a].min())
    upper = min(high_b - low_a, up[second[1] >= low_b].max())
    return np.array(lower), np.array(upper)


def _contrasts(estimate: Estimate, column: int, chosen: np.ndarray, z: float) -> Limits:
    """MOVER limits of θi − θj over all ordered pairs i ≠ j of the chosen subgroups, flat."""
    value = estimate.value[chosen, column]
    low, high = (side[chosen, column] for side in estimate.limits(z))
    difference = value[:, None] - value[None, :]
    apart = ~np.eye(len(chosen), dtype=bool)
    down = difference - np.hypot((value - low)[:, None], (high - value)[None, :])
    up = difference + np.hypot((high - value)[:, None], (value - low)[None, :])
    return down[apart], up[apart]
