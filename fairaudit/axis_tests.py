"""One task on one axis under the null: every gap, every subgroup against the rest, every pair, from the same draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fairaudit.compared_axis import (
    FAMILIES,
    ComparedAxis,
    efficiency,
    eligible,
    family_of,
    margins_of,
    metric_faces,
    metric_values,
    observed_eligible,
)
from fairaudit.metrics.contrasts import (
    Laws,
    Linear,
    Sums,
    against_rest,
    linear,
    rest_laws,
    strengths,
    sums_of,
    value_of,
)
from fairaudit.metrics.gap_nulls import MOST_IN_PAIRS, extremes, joint_strength, largest_deviation, moments
from fairaudit.metrics.nulls import Condition, condition_of, null_cubes, strata_of
from fairaudit.metrics.rates import Metric

Kind = Literal["rest", "pair"]
_Key = tuple[str, int, str]
# Of no subgroup's treatment, or told by others of the same family (accuracy by balanced accuracy and recalls).
NOT_CONTRASTED = ("base_rate", "npv", "accuracy_standardized")
_BLOCK = 8_000_000
_CONDITIONS: tuple[Condition, ...] = ("label", "prediction", "nothing", "faces")


@dataclass(kw_only=True)
class GapTest:
    """The gap of one metric and class: which subgroups are assessed, its strength, and both under the null (B,).

    deviation: (G,) of every subgroup's value under the null, as it moves against all faces.
    """

    axis: ComparedAxis
    metric: Metric
    position: int
    family: str
    chosen: np.ndarray
    gap: float
    strength: float
    null_gap: np.ndarray
    null: np.ndarray
    deviation: np.ndarray


@dataclass(kw_only=True)
class Contrasts:
    """Contrasts of one metric and class: subgroups `first` against the rest, or against `second` in pairs.

    strength (m,) and null (B, m): |z| of each, observed and with labels exchanged.
    """

    axis: ComparedAxis
    line: Linear
    family: str
    kind: Kind
    first: np.ndarray
    second: np.ndarray
    strength: np.ndarray
    null: np.ndarray


def null_of_axis(
    axis: ComparedAxis, draws: int, seed: int, part: int, families: Sequence[str]
) -> tuple[list[GapTest], list[Contrasts]]:
    """Return every gap and contrast of these families with `draws` draws of the null; `part` numbers the draws."""
    gaps: list[GapTest] = []
    contrasts: list[Contrasts] = []
    for condition in _CONDITIONS:
        for family in families:
            todo = [
                (m, p)
                for m in axis.metrics
                if condition_of(m) == condition
                and family_of(m) == family
                and not (axis.recall_by and m.name == "recall")
                for p in range(axis.data.rows.table.classes if m.per_class else 1)
                if axis.first[m.name, p] == (m.name, p)
            ]
            if not todo or axis.pooled.known.sum() < 2:
                continue
            found = _Condition(axis, todo)
            rng = axis.rng(seed, _CONDITIONS.index(condition), FAMILIES.index(family), part)
            for cubes, counts in _chunks(axis, condition, found.alike, draws, rng):
                found.add(cubes, counts)
            gaps += found.gaps()
            contrasts += found.contrasts()
    return gaps, contrasts


def _chunks(
    axis: ComparedAxis, condition: Condition, alike: np.ndarray | None, draws: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the drawn cubes in parts of bounded memory."""
    strata = strata_of(axis.data.rows.table, condition)
    size = max(1, min(draws, _BLOCK // (axis.pooled.size * strata.size)))
    for start in range(0, draws, size):
        yield null_cubes(axis.data.sample, axis.pooled.known, strata, min(size, draws - start), rng, alike)


class _Condition:
    """The gaps and contrasts of all metrics that share one null; draws are added part by part."""

    def __init__(self, axis: ComparedAxis, todo: Sequence[tuple[Metric, int]]) -> None:
        sample = axis.data.sample
        self.axis, self.todo = axis, todo
        self.whole = sample.sums.reshape(axis.pooled.size, -1).astype(float)
        self.pool = np.flatnonzero(axis.pooled.known)
        metrics = list(dict.fromkeys(m for m, _ in todo))
        self.values = {m: metric_values(axis, m, self.whole) for m in metrics}
        self.assessed = {m: observed_eligible(axis, m) for m in metrics}
        self.d = {m: efficiency(axis, m) for m in metrics}
        self.lines = {(m.name, p): linear(m, axis.data.rows.table, p) for m, p in todo}
        lines = {key: line for key, line in self.lines.items() if line is not None}
        self.sums = {key: sums_of(line, self.whole) for key, line in lines.items()}
        self.alike = self._alike()
        first = np.zeros(0, dtype=np.int64) if self.alike is None else np.unique(self.alike, return_index=True)[1]
        narrow = {} if self.alike is None else lines
        self.narrow = {
            key: replace(line, score=line.score[first], stratum=line.stratum[first]) for key, line in narrow.items()
        }
        self.laws: dict[tuple[str, int], Laws] = {}
        self.scale: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        self.null: dict[_Key, list[np.ndarray]] = {}
        self.seen: dict[_Key, np.ndarray] = {}

    def _alike(self) -> np.ndarray | None:
        """Return a number a cell, the same for cells that no metric here tells apart; None where all are needed."""
        lines = [line for line in self.lines.values() if line is not None and not line.averaged]
        if len(lines) < len(self.lines) or not self.axis.plain:
            return None
        marks = np.concatenate([(line.score, line.stratum) for line in lines])
        return np.unique(marks, axis=1, return_inverse=True)[1].reshape(-1)

    def add(self, cubes: np.ndarray, counts: np.ndarray) -> None:
        """Add drawn cubes (B, G, cells): sums of weights, and counts."""
        margins = None if self.alike is not None else margins_of(self.axis, cubes)
        values: dict[Metric, np.ndarray] = {}
        for metric, p in self.todo:
            line, assessed = self.lines[metric.name, p], self.assessed[metric][:, p]
            drawn: Sums | None
            if line is not None and not line.averaged and self.axis.plain:
                # margins, and so denominators, are those of the data
                drawn = sums_of(self.narrow.get((metric.name, p), line), cubes, self.sums[metric.name, p].n)
                found, chosen = value_of(line, drawn), np.broadcast_to(assessed, drawn.x.shape[1:])
            else:
                if metric not in values:
                    values = {metric: metric_values(self.axis, metric, cubes, margins)}
                drawn = sums_of(line, cubes) if line is not None else None
                found, chosen = values[metric][..., p], self._chosen(metric, p, values[metric], counts)
            self._add(metric, p, np.nan_to_num(found), chosen, drawn)

    def _chosen(self, metric: Metric, p: int, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return which subgroups the size filter leaves in each draw, (B, G)."""
        if self.axis.plain and metric.kind != "f1":
            return np.broadcast_to(self.assessed[metric][:, p], values.shape[:-1])
        faces = metric_faces(self.axis, metric, counts)
        return eligible(self.axis, metric, values, faces, self.d[metric])[..., p]

    def _add(self, metric: Metric, p: int, values: np.ndarray, chosen: np.ndarray, drawn: Sums | None) -> None:
        name, line, assessed = (metric.name, p), self.lines[metric.name, p], self.assessed[metric][:, p]
        own = np.nan_to_num(self.values[metric][:, p])
        self._record((*name, "gap"), extremes(own, assessed)[None], extremes(values, chosen))
        if line is not None and drawn is not None:
            self._contrast(line, np.flatnonzero(assessed), self.sums[name], drawn)
            return
        if name not in self.scale:
            # the data are one more draw: observed and drawn strengths are then exchangeable
            self.scale[name] = moments(np.vstack([values, own]), np.vstack([chosen, assessed]))
        faces = metric_faces(self.axis, metric, self.whole)[:, p]
        part = faces / max(faces[self.pool].sum(), 1e-300)
        largest = largest_deviation(np.vstack([own, values]), np.vstack([assessed, chosen]), *self.scale[name], part)
        largest = joint_strength(largest, _comparisons(int(assessed.sum()), len(self.pool)))
        self._record((*name, "strength"), largest[:1], largest[1:])

    def _contrast(self, line: Linear, members: np.ndarray, seen: Sums, drawn: Sums) -> None:
        """Record members against the rest and, on small axes, in pairs; the strongest of these is the gap's."""
        name = (line.metric.name, line.position)
        pairs = len(self.pool) <= MOST_IN_PAIRS
        tested = line.metric.name not in NOT_CONTRASTED
        exactly = self.axis.plain and line.counted and (tested or not pairs)
        if exactly and name not in self.laws:
            self.laws[name] = rest_laws(line, seen, members, self.pool)
        laws = self.laws.get(name)
        largest: list[np.ndarray] = []
        for sums in (seen, drawn):
            rest = against_rest(line, sums, members, self.pool, laws) if tested or not pairs else None
            between = pair_strengths(line, sums, members) if pairs else None
            for key, found in (("rest", rest), ("pair", between)):
                if found is not None:
                    store = found.astype(np.float32)
                    if sums is seen:
                        self.seen[(*name, key)] = store
                    else:
                        self.null.setdefault((*name, key), []).append(store)
            chosen = between if between is not None else rest
            assert chosen is not None  # one of the two is computed
            top = chosen.max(-1) if chosen.shape[-1] else np.zeros(chosen.shape[:-1])
            largest.append(joint_strength(top, _comparisons(len(members), len(self.pool))))
        self._record((*name, "strength"), largest[0][None], largest[1])

    def _record(self, key: _Key, seen: np.ndarray, drawn: np.ndarray) -> None:
        self.seen[key] = seen.astype(np.float32)
        self.null.setdefault(key, []).append(drawn.astype(np.float32))

    def gaps(self) -> list[GapTest]:
        """Return the gaps over at least two assessed subgroups."""
        found = []
        for metric, p in self.todo:
            chosen = self.assessed[metric][:, p]
            if chosen.sum() < 2:
                continue
            parts = {key: (self.seen[metric.name, p, key], self._joined(metric.name, p, key)) for key in _GAP_PARTS}
            found.append(
                GapTest(
                    axis=self.axis,
                    metric=metric,
                    position=p,
                    family=family_of(metric),
                    chosen=chosen,
                    gap=float(np.ptp(self.values[metric][chosen, p])),
                    strength=float(parts["strength"][0][0]),
                    null_gap=parts["gap"][1],
                    null=parts["strength"][1],
                    deviation=self.scale[metric.name, p][1] if (metric.name, p) in self.scale else np.zeros(0),
                )
            )
        return found

    def contrasts(self) -> list[Contrasts]:
        """Return the distinct contrasts: two subgroups make one; pairs only where there are more than two."""
        found = []
        for metric, p in self.todo:
            line, members = self.lines[metric.name, p], np.flatnonzero(self.assessed[metric][:, p])
            if line is None or metric.name in NOT_CONTRASTED:
                continue
            i, j = np.triu_indices(len(members), 1)
            sides = {"rest": (members, members), "pair": (members[i], members[j])}
            for kind in _KINDS:
                if (metric.name, p, kind) not in self.seen:
                    continue
                first, second = sides[kind]
                use = self._distinct(kind, metric, p, members)
                if use.any():
                    seen, null = self.seen[metric.name, p, kind][use], self._joined(metric.name, p, kind)[:, use]
                    more = {"first": first[use], "second": second[use], "strength": seen, "null": null}
                    found.append(Contrasts(axis=self.axis, line=line, family=family_of(metric), kind=kind, **more))
        return found

    def _distinct(self, kind: Kind, metric: Metric, p: int, members: np.ndarray) -> np.ndarray:
        two = len(self.pool) == 2
        if kind == "pair":
            return np.full(len(members) * (len(members) - 1) // 2, not two)
        counts = self.axis.data.sample.counts.reshape(self.axis.pooled.size, -1)
        faces = metric_faces(self.axis, metric, counts)[:, p] * self.d[metric][p]
        others = faces[self.pool].sum() - faces[members]
        use = others + 1e-9 >= self.axis.pooled.audit.min_group_size
        if two:
            use &= (np.arange(len(members)) == 0) & (len(members) == 2)
        return use

    def _joined(self, name: str, p: int, key: str) -> np.ndarray:
        return np.concatenate(self.null[name, p, key])


_GAP_PARTS = ("gap", "strength")
_KINDS: tuple[Kind, ...] = ("rest", "pair")


def pair_strengths(line: Linear, sums: Sums, members: np.ndarray) -> np.ndarray:
    """Return |z| of every pair of members, (…, pairs), in the order of np.triu_indices."""
    parts, own = [], sums.of(members)
    for i in range(len(members) - 1):
        parts.append(strengths(line, own.of(slice(i, i + 1)), own.of(slice(i + 1, None))))
    return np.concatenate(parts, axis=-1) if parts else np.zeros((*sums.x.shape[1:-1], 0))


def _comparisons(members: int, groups: int) -> int:
    return members * (members - 1) // 2 if groups <= MOST_IN_PAIRS else members
