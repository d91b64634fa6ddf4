"""One task on one axis under a baseline and several methods with their seeds: rates, their joint law, who was named."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fairaudit.metrics import crossed
from fairaudit.metrics.crossed import Extreme, Faces, Joint
from fairaudit.metrics.crossed_cells import auc_cells, churn_cells, own_churn_cells
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural


@dataclass(frozen=True)
class Named:
    """Who is to be helped: worst- and best-off subgroup, and the pair and rate with the largest gap of the odds.

    odds: (rate, higher, lower) or None. Subgroups by name, because the faces that named them are others.
    """

    worst: str
    best: str
    odds: tuple[int, str, str] | None


@dataclass(frozen=True, kw_only=True)
class MethodAxis:
    """Faces of a task with their subgroups, and codes of every arm's predictions, (S, N); the baseline is arm `first`.

    named: by validation faces, None where there were none (then `chosen` names them on these faces). scores: every
    arm's probabilities (S, N, K), NaN where a face has none; None where an arm has none at all.
    """

    task: str
    by: str
    first: str
    faces: Faces
    predictions: Mapping[str, np.ndarray]
    seeds: Mapping[str, tuple[str, ...]]
    degenerate: str | None
    named: Named | None
    audit: AuditSpec
    scores: Mapping[str, np.ndarray] | None = None

    @property
    def methods(self) -> list[str]:
        """All arms but the baseline."""
        return [name for name in self.predictions if name != self.first]

    @property
    def known(self) -> np.ndarray:
        """Which subgroups are compared: all but `unknown`."""
        return np.array([name != UNKNOWN for name in self.faces.groups], dtype=bool)

    @cached_property
    def whole(self) -> "MethodAxis":
        """The same faces as one group."""
        one = replace(self.faces, group=np.zeros_like(self.faces.group), groups=(OVERALL,))
        return replace(self, by=OVERALL, faces=one, named=None)

    @property
    def has_odds(self) -> bool:
        """Whether equalized odds mean something here: not where the subgroup determines the label."""
        return self.by != OVERALL and self.degenerate is None

    def paired(self, first: str, second: str) -> bool:
        """Whether seed s of one arm belongs to seed s of the other: they have the same seeds."""
        return set(self.seeds[first]) == set(self.seeds[second])

    @cached_property
    def _laws(self) -> dict[tuple[str, ...], Joint]:
        return {}

    def law(self, first: str, second: str, kind: str = "accuracy", seed: str = "") -> Joint:
        """Return the joint law of two arms' rates; with `seed`, of that seed's checkpoints.

        kind: "accuracy", "odds", "auc" (where there are `scores`), or "churn": both arms are then the share of faces
        that the arms, paired, answer differently.
        """
        key = (first, second, kind, seed)
        if key not in self._laws:
            paired = self.paired(first, second)
            order = self.seeds[first] if paired else None
            sides = self._sides(first, second, kind, order, seed)
            made = crossed.joint(
                self.faces,
                (sides[0][0], sides[1][0]),
                sides[0][1],
                paired=paired or bool(seed),
                seeds_random=not seed,
            )
            self._laws.clear()  # one pair at a time is looked at from all sides
            self._laws[key] = made
        return self._laws[key]

    def _sides(
        self, first: str, second: str, kind: str, order: tuple[str, ...] | None, seed: str
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        arms = [self._places(name, order, seed) for name in (first, second)]
        if kind == "auc":
            assert self.scores is not None
            scored = zip((first, second), arms, strict=True)
            return [auc_cells(self.faces, self.scores[name][at], self.scored) for name, at in scored]
        codes = [self.predictions[name][at] for name, at in zip((first, second), arms, strict=True)]
        if kind == "churn":
            return [churn_cells(self.faces, codes[0], codes[1])] * 2
        cells = crossed.accuracy_cells if kind == "accuracy" else crossed.odds_cells
        return [cells(self.faces, own) for own in codes]

    @cached_property
    def scored(self) -> np.ndarray:
        """Which faces every arm and seed has probabilities of, (N,)."""
        every = np.ones(len(self.faces.label), dtype=bool)
        for values in (self.scores or {}).values():
            every &= ~np.isnan(values).any((0, 2))
        return every

    def frozen(self, name: str, kind: str = "accuracy") -> Joint:
        """Return the law of one arm's checkpoints as they are: only faces vary."""
        cells = crossed.accuracy_cells if kind == "accuracy" else crossed.odds_cells
        top, bottom = cells(self.faces, self.predictions[name])
        return crossed.joint(self.faces, (top, top), bottom, paired=True, seeds_random=False)

    def own_churn(self, name: str) -> Joint:
        """Return the law of the share of faces that two of an arm's seeds answer differently, a row a pair of seeds."""
        top, bottom = own_churn_cells(self.faces, self.predictions[name])
        return crossed.joint(self.faces, (top, top), bottom, paired=True, seeds_random=False)

    def _places(self, name: str, order: tuple[str, ...] | None, seed: str) -> list[int]:
        own = list(self.seeds[name])
        wanted = [seed] if seed else list(order or own)
        return [own.index(s) for s in wanted]

    def usable(self, law: Joint) -> np.ndarray:
        """Return which rates of the known subgroups stand on enough faces, (G, R)."""
        least = self.audit.min_group_size
        enough = (law.denominator >= least) & (law.effective >= least - 1e-9)
        return np.asarray(enough.reshape(len(self.faces.groups), -1) & self.known[:, None])

    @cached_property
    def chosen(self) -> Named | None:
        """Who is to be helped: as named on validation faces, else by the baseline on these; None for fewer than two."""
        found = self.named or name_worst(self)
        return found if found is not None and {found.worst, found.best} <= set(self.faces.groups) else None

    def extreme(self, metric: str, law: Joint) -> tuple[Extreme | None, int | None, str]:
        """Return the candidates of "worst_accuracy", "gap" or "equalized_odds", which is named, and why there are none.

        A candidate counts as named only where other faces named it.
        """
        usable = self.usable(law)
        found = crossed.lowest(usable[:, 0]) if metric == "worst_accuracy" else crossed.largest_gap(usable)
        if len(found.index) < 2:
            return None, None, f"fewer than two subgroups have {plural(self.audit.min_group_size, 'face')} for this"
        if len(found.index) > crossed.MOST_CANDIDATES:
            return None, None, f"{len(found.index):,} pairs of rates are more than {crossed.MOST_CANDIDATES:,}"
        return found, self._named_candidate(metric, found, usable.shape[1]), ""

    def _named_candidate(self, metric: str, found: Extreme, rates: int) -> int | None:
        if self.named is None:
            return None
        place = {name: g for g, name in enumerate(self.faces.groups)}
        rate, high, low = self.named.odds or (0, "", "")
        if metric != "equalized_odds":
            rate, high, low = 0, self.named.best, self.named.worst
        if high not in place or low not in place:
            return None
        wanted = [place[high] * rates + rate, place[low] * rates + rate]
        if metric == "worst_accuracy":
            wanted = [wanted[1], wanted[1]]
        at = np.flatnonzero((found.index == wanted).all(1))
        return int(at[0]) if len(at) else None


def name_worst(axis: MethodAxis) -> Named | None:
    """Name on an axis's own faces, by the baseline's mean over seeds, the worst- and best-off and the odds' pair."""
    law = axis.frozen(axis.first)
    usable, groups = axis.usable(law)[:, 0], axis.faces.groups
    if usable.sum() < 2:
        return None
    rates = np.where(usable, law.value[0], np.nan)
    worst, best = groups[int(np.nanargmin(rates))], groups[int(np.nanargmax(rates))]
    if worst == best:
        return None
    odds = None
    if axis.has_odds and fits(axis):
        law = axis.frozen(axis.first, "odds")
        usable = axis.usable(law)
        found = crossed.largest_gap(usable)
        if len(found.index):
            values = (found.sign * law.value[0][found.index]).sum(-1)
            high, low = found.index[int(values.argmax())]
            odds = (int(high % usable.shape[1]), groups[high // usable.shape[1]], groups[low // usable.shape[1]])
    return Named(worst, best, odds)


def fits(axis: MethodAxis) -> bool:
    """Whether the rates of equalized odds are few enough to be compared at once."""
    rates = 2 if axis.faces.classes == 2 else 2 * axis.faces.classes
    return len(axis.faces.groups) * rates * 2 <= crossed.MOST_RATES
