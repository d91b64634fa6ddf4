"""Two models on the same faces: each metric of both, and its change with a paired interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fairaudit.metrics import bootstrap
from fairaudit.metrics.estimates import Estimate, Item, bounds, mean_recall, share
from fairaudit.metrics.intervals import Limits, mover_difference, mover_sum, newcombe_paired, sign_flip_p, z_value
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
        """Sum a value a face over each independent unit (subject within subgroup, else face) and give its group."""
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
        sums = np.bincount(number * 2 * width + first, weights=weight, minlength=size)
        sums += np.bincount(number * 2 * width + width + second, weights=weight, minlength=size)
        return np.unique(sums.reshape(len(people), 2 * width), axis=0, return_counts=True)


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
        low, high = newcombe_paired(safe[0], safe[1], safe[2], np.where(undefined, 1.0, effective), z)
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
                limits=_scaled(found[:, side], z0, least, most),
                notes=notes[side],
            )
            for side in (0, 1)
        )
    least, most = bounds(metric)
    scaled = _scaled(found[:, 2], z0, least - most, most - least)
    same = np.array([["the same value" in note for note in row] for row in notes[2]], dtype=bool)

    def limits(z: float) -> Limits:
        # no draw shows a change: the limits of two unpaired values, which are too wide rather than too narrow
        low, high = scaled(z)
        first, second = ((e.value, *e.limits(z)) for e in (after, before))
        down, up = mover_difference(first, second)
        return np.where(same, down, low), np.where(same, up, high)

    effective = np.minimum(before.effective, after.effective)
    change = _change(metric, before, after, found[0, 2], effective, limits)
    told = np.where(same, "no draw shows a change: limits as if unpaired", notes[2])
    return Change(before=before, after=after, delta=replace(change.delta, notes=told))


def _scaled(found: np.ndarray, z0: float, least: float, most: float) -> Callable[[float], Limits]:
    value, low, high = found

    def limits(z: float) -> Limits:
        below, above = value - (value - low) * z / z0, value + (high - value) * z / z0
        return np.maximum(below, least), np.minimum(above, most)

    return limits


def _change(
    metric: Metric,
    before: Estimate,
    after: Estimate,
    value: np.ndarray,
    effective: np.ndarray,
    limits: Callable[[float], Limits],
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
        parts = np.split(units[changed][order], np.cumsum(np.bincount(owner[changed], minlength=groups))[:-1])
        p_values[:, p] = [sign_flip_p(part) if size else np.nan for part, size in zip(parts, sizes, strict=True)]
    return helped, harmed, p_values


def gap_change(
    change: Change, column: int, chosen: np.ndarray, confidence: float, named: tuple[int, int] | None = None
) -> tuple[float, float]:
    """Return limits of the change of max − min over the subgroups `chosen` (indices), at least `confidence` sure.

    Upper: the other model's gap is the contrast Bi − Bj of *some* fixed pair, and the baseline's gap is at least the
    contrast of *any* pair. So for every (i, j) the smaller of two upper limits serves: of (Bi − Bj) − (Ai − Aj) and
    of (Bi − Bj) − (Ak − Al) for one given (k, l); the largest of these over all (i, j) holds without allowance for
    the many (i, j) (intersection–union). (k, l) is `named` (higher, lower: positions in `chosen`, fixed on other
    faces), or the pair that is extreme under the baseline. Bonferroni over the two limits, or over all ordered
    pairs and one.
    The lower limit exchanges the models, with the pair that is extreme under the other one. Each side errs with half of
    1 − confidence; no max − min is ever drawn. NaN where a needed limit is not estimable.
    """
    pairs = len(chosen) * (len(chosen) - 1)
    before, after = (_Side.at(e, column, chosen) for e in (change.before, change.after))
    delta = _Side.at(change.delta, column, chosen)
    z_all = z_value(confidence, pairs + 1)
    fixed, z = (named, z_value(confidence, 2)) if named is not None else (before.extremes, z_all)
    upper = _largest_upper(after, before, delta, fixed, z, sign=1.0)
    lower = -_largest_upper(before, after, delta, after.extremes, z_all, sign=-1.0)
    return lower, upper


@dataclass(frozen=True)
class _Side:
    """One model's values (or the changes) of the chosen subgroups, with margins at any z."""

    value: np.ndarray
    limits: Callable[[float], Limits]

    @classmethod
    def at(cls, estimate: Estimate, column: int, chosen: np.ndarray) -> "_Side":
        def limits(z: float) -> Limits:
            low, high = estimate.limits(z)
            return low[chosen, column], high[chosen, column]

        return cls(estimate.value[chosen, column], limits)

    @property
    def extremes(self) -> tuple[int, int]:
        """Positions of the highest and the lowest value."""
        return int(np.argmax(self.value)), int(np.argmin(self.value))

    def margins(self, z: float, sign: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Distances from the value to its lower and upper limit; exchanged for the negative of the value."""
        low, high = self.limits(z)
        down, up = self.value - low, high - self.value
        return (down, up) if sign > 0 else (up, down)


def _largest_upper(free: _Side, fixed: _Side, delta: _Side, pair: tuple[int, int], z: float, sign: float) -> float:
    """Largest upper MOVER limit over all i ≠ j, the pair (k, l) being given.

    Of each (i, j) the smaller one of (free i − free j) − (fixed k − fixed l) and the same with (i, j) for (k, l).

    Subgroups are independent. A subgroup on the same side of both contrasts enters by its paired change (`delta`, with
    `sign` −1 where it is fixed − free); on opposite sides, where the models' errors add, by the sum of both margins.
    """
    k, opposite = pair
    (free_down, free_up), (fixed_down, fixed_up) = free.margins(z), fixed.margins(z)
    delta_down, delta_up = delta.margins(z, sign)
    first, second = free_up**2, free_down**2
    first[k], first[opposite] = delta_up[k] ** 2, (free_up[opposite] + fixed_up[opposite]) ** 2
    second[opposite], second[k] = delta_down[opposite] ** 2, (free_down[k] + fixed_down[k]) ** 2
    positions = np.arange(len(free.value))
    i, j = positions[:, None], positions[None, :]
    spread = first[:, None] + second[None, :]
    spread = spread + np.where((i == k) | (j == k), 0.0, fixed_down[k] ** 2)
    spread = spread + np.where((i == opposite) | (j == opposite), 0.0, fixed_up[opposite] ** 2)
    contrast = free.value[:, None] - free.value[None, :] - (fixed.value[k] - fixed.value[opposite])
    gained = sign * delta.value
    paired = gained[:, None] - gained[None, :] + np.hypot(delta_up[:, None], delta_down[None, :])
    return float(np.minimum(contrast + np.sqrt(spread), paired)[i != j].max())
