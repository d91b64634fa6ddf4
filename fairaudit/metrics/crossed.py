"""Two methods, each trained with several seeds, on the same faces: seeds × faces crossed, both random.

A rate (accuracy, recall, false positive rate of a subgroup) is linear in its faces up to its denominator, so every seed
s and face i gives an influence ψ(s, i), and the covariance of the rates' means over S seeds and n faces is

    faces + seeds − interaction,   faces: between faces of ψ's mean over seeds,   seeds: between seeds of the rate / S,
    interaction: of ψ between seeds within faces / S

(the two-way random model without replicates: Searle, Casella & McCulloch, Variance Components, 1992, §4.3: with mean
squares, (MS faces + MS seeds − MS interaction) / nS). `faces` and `seeds` both hold the interaction, hence it is taken
off once. Limits: value ± √(t²·(faces − interaction) + t²·seeds), each part with Student's quantile at its own degrees
of freedom (Banerjee, Sankhyā 1960: holds at least the level stated). That is the t-test over seeds, widened by the
faces. Satterthwaite's single number of degrees of freedom was tried and is not used: with three seeds the variance
between them is often underestimated, and then the degrees of freedom come out large (it held .87 to .92, not .95).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fairaudit.metrics.intervals import Limits, wilson, z_value
from fairaudit.metrics.rates import ratio

MOST_RATES, MOST_CANDIDATES = 2_000, 20_000


@dataclass(frozen=True, kw_only=True)
class Faces:
    """N faces: label codes in 0…classes−1, group codes into `groups`, weights (mean 1), and persons' codes or None."""

    label: np.ndarray
    classes: int
    group: np.ndarray
    groups: tuple[str, ...]
    weight: np.ndarray
    subject: np.ndarray | None = None

    def units(self, members: np.ndarray) -> np.ndarray | None:
        """Return the number of each face's person among `members`, None where every face is a unit."""
        return None if self.subject is None else np.unique(self.subject[members], return_inverse=True)[1]


def accuracy_cells(faces: Faces, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator (S, N, 1) and denominator (N, 1) of accuracy; a prediction that is no class is wrong."""
    return (prediction == faces.label)[..., None].astype(float), np.ones((len(faces.label), 1))


def odds_cells(faces: Faces, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numerators (S, N, R) and denominators (N, R) of the rates that equalized odds compares, one-vs-rest.

    Recall and false positive rate of every class; of two classes both recalls, which are each other's complement of
    the false positive rate.
    """
    one = np.arange(faces.classes)
    label, predicted = faces.label[:, None] == one, prediction[..., None] == one
    if faces.classes == 2:
        return (label & predicted).astype(float), label.astype(float)
    top = np.concatenate([label & predicted, ~label & predicted], axis=-1)
    return top.astype(float), np.concatenate([label, ~label], axis=-1).astype(float)


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Rates of two arms (baseline first) over the entries E = G·R: means over seeds, and the parts of their covariance.

    by_seed: each arm's rates, (S, E). faces, interaction: covariances (2E, 2E), arms one after the other. seeds: rows Z
    with Z'Z the covariance between seeds, and their degrees of freedom, one pair for paired seeds, else one an arm.
    denominator, effective: faces (and their effective number) below each rate (E,); freedom: units − 1 (E,).
    """

    by_seed: tuple[np.ndarray, np.ndarray]
    faces: np.ndarray
    interaction: np.ndarray
    seeds: tuple[tuple[np.ndarray, int], ...]
    denominator: np.ndarray
    effective: np.ndarray
    freedom: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """Means over seeds, (2, E)."""
        return np.stack([rates.mean(0) for rates in self.by_seed])

    @property
    def entries(self) -> int:
        """Rates of one arm."""
        return int(self.by_seed[0].shape[1])


def joint(
    faces: Faces, top: tuple[np.ndarray, np.ndarray], bottom: np.ndarray, *, paired: bool, seeds_random: bool = True
) -> Joint:
    """Return the joint law of two arms' rates: numerators (S, N, R) of each arm, denominators (N, R).

    paired: seed s of one arm belongs to seed s of the other, so that what they share cancels. seeds_random False: these
    checkpoints and no others, so only faces vary.
    """
    groups, rates = len(faces.groups), bottom.shape[1]
    size = groups * rates
    values = [np.full((len(arm), groups, rates), np.nan) for arm in top]
    between, within = np.zeros((2, groups, rates, 2, groups, rates)), np.zeros((2, groups, rates, 2, groups, rates))
    found = np.zeros((3, groups, rates))
    for g in range(groups):
        members = np.flatnonzero(faces.group == g)
        weight, below = faces.weight[members, None], bottom[members]
        mass = (weight * below).sum(0)
        moves = []
        for arm, rows in enumerate(top):
            mine = rows[:, members]
            values[arm][:, g] = ratio((weight * mine).sum(1), mass)
            moves.append(np.nan_to_num(ratio(weight * (mine - np.nan_to_num(values[arm][:, None, g]) * below), mass)))
        people = faces.units(members)
        counts = (below > 0).astype(float)
        if people is not None:
            moves, counts = [_by_person(part, people) for part in moves], _by_person(counts[None], people)[0] > 0
        units = counts.sum(0)
        found[:, g] = (below > 0).sum(0), np.nan_to_num(ratio(mass**2, ((weight * below) ** 2).sum(0))), units - 1
        scale = np.sqrt(np.nan_to_num(ratio(units, units - 1)))
        between[:, g, :, :, g], within[:, g, :, :, g] = _covariances(moves, scale, paired)
    flat = tuple(part.reshape(len(part), size) for part in values)
    # half a face in each of the four ways a pair can turn out: few faces without a change are not certain (Agresti &
    # Min, Stat Med 2005); a difference of two arms gets both halves
    least = 1 / (2 * (np.minimum(found[1], found[2] + 1).reshape(-1) + 2) ** 2)
    covariance = between.reshape(2 * size, 2 * size) + np.diag(np.tile(least, 2))
    return Joint(
        by_seed=(flat[0], flat[1]),
        faces=covariance,
        interaction=within.reshape(2 * size, 2 * size) * seeds_random,
        seeds=_between_seeds(flat, paired) if seeds_random else (),
        denominator=found[0].reshape(-1),
        effective=found[1].reshape(-1),
        freedom=np.maximum(found[2].reshape(-1), 1),
    )


def _by_person(moves: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Sum (S, N, R) over the faces of each person."""
    order = np.argsort(people, kind="stable")
    starts = np.searchsorted(people[order], np.arange(people.max(initial=-1) + 1))
    return np.add.reduceat(moves[:, order], starts, axis=1) if len(starts) else moves


def _covariances(moves: Sequence[np.ndarray], scale: np.ndarray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of one subgroup, each (2, R, 2, R): between faces, and of seeds within faces."""
    rates = moves[0].shape[-1]
    means = np.concatenate([part.mean(0) * scale for part in moves], axis=-1)
    between = (means.T @ means).reshape(2, rates, 2, rates)
    within = np.zeros((2 * rates, 2 * rates))
    deviations = [(part - part.mean(0)) * scale for part in moves]
    if paired and len(moves[0]) > 1:
        both = np.concatenate(deviations, axis=-1).reshape(-1, 2 * rates)
        seeds = len(moves[0])
        within = both.T @ both / (seeds * (seeds - 1))
    elif not paired:
        for arm, part in enumerate(deviations):
            rows, place = part.reshape(-1, rates), slice(arm * rates, (arm + 1) * rates)
            within[place, place] = rows.T @ rows / max(len(part) * (len(part) - 1), 1)
    return between, within.reshape(2, rates, 2, rates)


def _between_seeds(by_seed: Sequence[np.ndarray], paired: bool) -> tuple[tuple[np.ndarray, int], ...]:
    centred = [(rates - rates.mean(0)) / np.sqrt(max(len(rates) * (len(rates) - 1), 1)) for rates in by_seed]
    if paired:
        return ((np.concatenate(centred, axis=1), len(centred[0]) - 1),)
    parts = []
    for arm, part in enumerate(centred):
        rows = np.zeros((len(part), 2, part.shape[1]))
        rows[:, arm] = part
        parts.append((rows.reshape(len(part), -1), len(part) - 1))
    return tuple(parts)


@dataclass(frozen=True, kw_only=True)
class Contrasts:
    """C sums of signed rates: value, the parts of its variance, each (C,), and units − 1 between faces (C,).

    faces and seeds both hold the interaction. by_seeds: the parts of `seeds` with their degrees of freedom; 0 of them
    (one seed) give no interval.
    """

    value: np.ndarray
    faces: np.ndarray
    interaction: np.ndarray
    by_seeds: tuple[tuple[np.ndarray, int], ...]
    freedom: np.ndarray

    @property
    def seeds(self) -> np.ndarray:
        """Variance between seeds of the mean over seeds."""
        return np.asarray(sum((part for part, _ in self.by_seeds), np.zeros(len(self.value))))

    @property
    def variance(self) -> np.ndarray:
        """Variance of the value."""
        return np.maximum(self.faces - self.interaction, 0) + self.seeds

    def reach(self, z: float) -> np.ndarray:
        """Return half the width of an interval at the level of the normal quantile `z`; NaN with one seed."""
        tail = special.ndtr(-z)
        squared = special.stdtrit(self.freedom, tail) ** 2 * np.maximum(self.faces - self.interaction, 0)
        for part, freedom in self.by_seeds:
            squared = squared + (special.stdtrit(freedom, tail) ** 2 * part if freedom > 0 else np.nan)
        return np.asarray(np.sqrt(squared))

    def limits(self, z: float) -> Limits:
        """Return the limits at the level of the normal quantile `z`."""
        reach = self.reach(z)
        return self.value - reach, self.value + reach


def contrasts(law: Joint, index: np.ndarray, sign: np.ndarray) -> Contrasts:
    """Return the contrasts Σ sign · rate, both (C, k): `index` into the 2·E rates, arm 1 from E on; sign 0: no term."""
    rates, on = law.value.reshape(-1), sign != 0
    faces, inner = (_quadratic(part, index, sign) for part in (law.faces, law.interaction))
    between = []
    for rows, freedom in law.seeds:
        moved = np.where(on, sign * np.nan_to_num(rows)[:, index], 0).sum(-1)
        between.append(((moved**2).sum(0), freedom))
    return Contrasts(
        value=np.where(on, sign * np.where(on, rates[index], 0), 0).sum(-1),
        faces=faces,
        interaction=inner,
        by_seeds=tuple(between),
        freedom=np.where(on, np.tile(law.freedom, 2)[index], np.inf).min(-1),
    )


def _quadratic(matrix: np.ndarray, index: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Σ sign_a sign_b M[index_a, index_b] of every row."""
    total = np.zeros(len(index))
    for a in range(index.shape[1]):
        for b in range(index.shape[1]):
            total += sign[:, a] * sign[:, b] * matrix[index[:, a], index[:, b]]
    return np.maximum(total, 0.0)


def changes(law: Joint, entries: np.ndarray) -> Contrasts:
    """Return the second arm's rates minus the first's at `entries` (C,)."""
    index = np.stack([entries + law.entries, entries], axis=-1)
    return contrasts(law, index, np.tile([1.0, -1.0], (len(entries), 1)))


def levels(law: Joint, arm: int, entries: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one arm's rates at `entries` with Wilson limits at p(1 − p) / variance faces and Student's quantile."""
    found = contrasts(law, (entries + arm * law.entries)[:, None], np.ones((len(entries), 1)))
    p, effective = found.value, law.effective[entries]
    number = np.minimum(np.where(p * (1 - p) > 0, ratio(p * (1 - p), found.variance), effective), effective)
    z = z_value(confidence)
    t = np.where(found.variance > 0, ratio(found.reach(z), np.sqrt(found.variance)), z)
    sides = [wilson(*one) for one in zip(p, number, t, strict=True)]
    low, high = (np.array([float(side[end]) for side in sides]) for end in (0, 1))
    return p, low, high


def logit_levels(
    law: Joint, arm: int, entries: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one arm's values at `entries` with limits on the logit scale, for what is no share of faces: ROC AUC.

    value ± reach / (p · (1 − p)) there, as of a single model's AUC (Pepe 2003, §5.2.4); NaN at exactly 0 and 1.
    """
    found = contrasts(law, (entries + arm * law.entries)[:, None], np.ones((len(entries), 1)))
    p = np.where((found.value > 0) & (found.value < 1), found.value, np.nan)
    reach = found.reach(z_value(confidence)) / (p * (1 - p))
    return found.value, special.expit(special.logit(p) - reach), special.expit(special.logit(p) + reach)


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """The largest of C candidate sums of at most two signed rates of one arm: index (C, 2) into its entries, sign.

    With the candidates rate i − rate j of all ordered pairs it is a gap, of several rates the largest gap (equalized
    odds); with −rate of each subgroup it is minus the worst.
    """

    index: np.ndarray
    sign: np.ndarray


def largest_gap(usable: np.ndarray) -> Extreme:
    """Return the candidates of max − min over subgroups, of every rate: usable (G, R) says which rates count."""
    groups, rates = usable.shape
    i, j, r = (part.ravel() for part in np.meshgrid(*map(np.arange, (groups, groups, rates)), indexing="ij"))
    keep = (i != j) & usable[i, r] & usable[j, r]
    index = np.stack([i * rates + r, j * rates + r], axis=-1)[keep]
    return Extreme(index=index, sign=np.tile([1.0, -1.0], (len(index), 1)))


def lowest(usable: np.ndarray) -> Extreme:
    """Return the candidates of minus the lowest of the usable rates (E,)."""
    entries = np.flatnonzero(usable)
    index = np.stack([entries, entries], axis=-1)
    return Extreme(index=index, sign=np.tile([-1.0, 0.0], (len(index), 1)))


def extreme_of(rates: np.ndarray, extreme: Extreme) -> np.ndarray:
    """Return the largest candidate of rates (…, E)."""
    return np.asarray(np.where(extreme.sign != 0, extreme.sign * rates[..., extreme.index], 0).sum(-1).max(-1))


def extreme_limits(law: Joint, arm: int, extreme: Extreme, confidence: float) -> tuple[float, float, float]:
    """Return an arm's extreme of its mean rates, with limits from all candidates at once (Bonferroni)."""
    found = contrasts(law, extreme.index + arm * law.entries, extreme.sign)
    pairs = len(extreme.index) // 2 if (extreme.sign[:, 1] != 0).all() else len(extreme.index)
    low, high = found.limits(z_value(confidence, pairs))
    return float(found.value.max()), float(low.max()), float(high.max())


def extreme_change(
    law: Joint, extreme: Extreme, confidence: float, named: int | None = None, family: int = 1
) -> tuple[float, float, float]:
    """Return the change of an extreme from the first arm to the second, with limits: each side errs by half of 1 − c.

    As `paired.gap_change`, by variances of whole contrasts instead of MOVER: the second arm's extreme is *some* fixed
    candidate c, and the first arm's is at least *any* candidate k. So the largest over c of the smaller of two upper
    limits serves: of (second c − first c), and of (second c − first k) for the k that is largest under the first arm
    (Bonferroni over all k and one) or named on other faces (over two). The lower limit exchanges the arms. family: how
    many such intervals hold at once.
    """
    candidates = len(extreme.index)
    at = [np.where(extreme.sign != 0, extreme.sign * v[extreme.index], 0).sum(-1) for v in law.value]
    upper = _upper(law, extreme, (1, 0), int(at[0].argmax()) if named is None else named,
                   z_value(confidence, family * (candidates + 1 if named is None else 2)))  # fmt: skip
    lower = -_upper(law, extreme, (0, 1), int(at[1].argmax()), z_value(confidence, family * (candidates + 1)))
    return float(at[1].max() - at[0].max()), lower, upper


def _upper(law: Joint, extreme: Extreme, arms: tuple[int, int], fixed: int, z: float) -> float:
    free, other = (extreme.index + arm * law.entries for arm in arms)
    same = contrasts(law, np.hstack([free, other]), np.hstack([extreme.sign, -extreme.sign]))
    index = np.hstack([free, np.tile(other[fixed], (len(free), 1))])
    against = contrasts(law, index, np.hstack([extreme.sign, np.tile(-extreme.sign[fixed], (len(free), 1))]))
    return float(np.minimum(same.limits(z)[1], against.limits(z)[1]).max())
