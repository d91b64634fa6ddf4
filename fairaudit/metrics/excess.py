"""Who loses more than everyone else, when the same faces are looked at under worse conditions?

A loss is a number a face, such as right before minus right after. Subgroups are compared among faces of one stratum
(one label), so that a subgroup does not look fragile because a hard class is frequent in it; the chance of any false
finding is bounded over all that is looked at (Westfall & Young's max-T), with subgroups exchanged within strata.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

_BLOCK = 4_000_000  # numbers that are drawn at a time
_SURE = 1e9  # strength of a difference without any spread


@dataclass(frozen=True, kw_only=True)
class Excess:
    """Loss of each group beyond that of all others in the same strata, of G groups, T kinds of loss and F variants.

    difference, low, high: (G, T, F), Welch's t interval, each for itself; NaN where a group or the others have fewer
    than two units or share no stratum; limits are NaN, too, where all losses are alike and nothing differs. Where one
    side's losses are all alike, its part of the limits is Clopper and Pearson's bound on units that differ: with n seen
    alike, up to 1 − (α/2)^(1/n) may lie elsewhere in the range of losses. error: the standard error. strength (G, T)
    and null (B, G, T): the least of the variants' studentized differences, as observed and with groups exchanged: a
    loss counts only as far as every variant shows it (intersection–union). NaN strength where it is not tested; its
    null is then 0.
    """

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray
    strength: np.ndarray
    null: np.ndarray


def excess_losses(
    loss: np.ndarray,
    group: np.ndarray,
    stratum: np.ndarray,
    groups: int,
    *,
    draws: int,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Excess:
    """Compare the losses (n, T, F) of n independent units (faces, or persons) between groups 0 … `groups` − 1.

    The difference is Σ c_y (mean of the group − mean of all others in stratum y) / Σ c_y with c_y = n_gy m_gy / N_y,
    the weights of Cochran's stratified score; spreads are pooled over strata within the group and within the others.
    The null exchanges groups among the units of a stratum: exact where nobody loses more, and, because differences are
    studentized by unequal spreads, right in large samples where only means are equal (Chung & Romano, Ann Stat 2013).
    """
    kinds = loss.shape[1:]
    design = _Design(group, stratum, groups)
    ordered = loss.reshape(len(loss), -1)[design.order]
    difference, error, freedom = design.compare(ordered[None])
    half = np.where(freedom > 0, stats.t.ppf((1 + confidence) / 2, np.maximum(freedom, 1)), np.nan)[:, None] * error[0]
    shape = (groups, *kinds)
    half = np.where((error[0] == 0) & (difference[0] == 0), np.nan, half)  # nobody's loss tells how far it might spread
    unseen = _unseen(loss.reshape(len(loss), -1), group, stratum, groups, confidence)
    below, above = (np.sqrt(half**2 + part) for part in unseen)
    strength = _strength(difference[0], error[0]).reshape(shape).min(-1)
    null = np.concatenate([
        _strength(*design.compare(part)[:2]).reshape(len(part), *shape).min(-1)
        for part in design.exchanged(ordered, draws, rng)
    ])  # fmt: skip
    tested = ~np.isnan(strength)
    return Excess(
        difference=difference[0].reshape(shape),
        low=(difference[0] - below).reshape(shape),
        high=(difference[0] + above).reshape(shape),
        error=error[0].reshape(shape),
        strength=strength,
        null=np.where(tested, np.nan_to_num(null), 0.0),
    )


def _unseen(
    loss: np.ndarray, group: np.ndarray, stratum: np.ndarray, groups: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the squares of what sides without any spread within strata add to the limits below and above, (G, K)."""
    codes = np.unique(stratum, return_inverse=True)[1]
    lowest, highest = loss.min(0), loss.max(0)
    out = np.zeros((2, groups, loss.shape[1]))  # below, above
    for g in range(groups):
        # of the others only those who are compared: in strata that the group has, too
        shared = np.isin(codes, codes[group == g])
        for side, turned in ((group == g, False), ((group != g) & shared, True)):
            part, of = loss[side], codes[side]
            if not len(part):
                continue
            means = np.stack([np.bincount(of, weights=column) for column in part.T], axis=-1)
            counts = np.maximum(np.bincount(of), 1)[:, None]
            alike = np.abs(part - (means / counts)[of]).max(0) < 1e-12
            room = np.where(alike, (highest - lowest) * (1 - ((1 - confidence) / 2) ** (1 / len(part))), 0.0) ** 2
            down, up = np.where(part.max(0) > lowest, room, 0.0), np.where(part.min(0) < highest, room, 0.0)
            out[0, g] += up if turned else down
            out[1, g] += down if turned else up
    return out[0], out[1]


def _strength(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / error
    return np.where((error == 0) & ~np.isnan(difference), np.sign(np.round(difference, 12)) * _SURE, z)


class _Design:
    """Units sorted by stratum and group: the groups' sums over strata are then sums over neighbours."""

    def __init__(self, group: np.ndarray, stratum: np.ndarray, groups: int) -> None:
        names, code = np.unique(stratum, return_inverse=True)
        self.strata, self.groups = len(names), groups
        self.order = np.lexsort((group, code))
        cell = code * groups + group
        count = np.bincount(cell, minlength=self.strata * groups)
        self.n = count.reshape(self.strata, groups).astype(float)
        self.total = self.n.sum(1, keepdims=True)
        self.filled = np.flatnonzero(count)
        self.starts = np.cumsum(count)[self.filled] - count[self.filled]
        self.bounds = np.cumsum([0, *self.total[:, 0].astype(int)])
        rest = self.total - self.n
        with np.errstate(divide="ignore", invalid="ignore"):
            self.share = np.where(self.total > 0, self.n * rest / self.total, 0.0)  # c_y
            self.per = [np.where(k > 0, self.share**2 / k, 0.0).sum(0) for k in (self.n, rest)]
        self.freedom = [np.maximum(k - 1, 0).sum(0) for k in (self.n, rest)]

    def compare(self, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return difference and standard error (B, G, K) of losses (B, n, K) in this order, and degrees of freedom."""
        sums, squares = self._sums(loss), self._sums(loss**2)
        whole, whole_squares = sums.sum(2, keepdims=True), squares.sum(2, keepdims=True)
        n, rest = self.n[None, :, :, None], (self.total - self.n)[None, :, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(n > 0, sums / n, 0.0)
            other = np.where(rest > 0, (whole - sums) / rest, 0.0)
            spread_own = np.maximum(squares - n * own**2, 0).sum(1)
            spread_other = np.maximum(whole_squares - squares - rest * other**2, 0).sum(1)
            weight = np.where(self.share.sum(0) > 0, self.share.sum(0), np.nan)[None, :, None]
            difference = (self.share[None, :, :, None] * (own - other)).sum(1) / weight
            variance = sum(
                spread / np.where(freedom > 0, freedom, np.nan)[None, :, None] * per[None, :, None]
                for spread, freedom, per in zip((spread_own, spread_other), self.freedom, self.per, strict=True)
            )
        error = np.sqrt(np.where(variance < 1e-14, 0.0, variance)) / weight
        return difference, error, np.minimum(*self.freedom)

    def exchanged(self, ordered: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the losses with units exchanged within strata, (b, n, K), `draws` in all, in bounded memory."""
        block = max(1, min(draws, _BLOCK // max(ordered.size, 1)))
        for start in range(0, draws, block):
            places = np.tile(np.arange(len(ordered)), (min(block, draws - start), 1))
            for low, high in zip(self.bounds[:-1], self.bounds[1:], strict=True):
                places[:, low:high] = rng.permuted(places[:, low:high], axis=1)
            yield ordered[places]

    def _sums(self, loss: np.ndarray) -> np.ndarray:
        """Return the sums of each stratum and group, (B, Y, G, K)."""
        out = np.zeros((len(loss), self.strata * self.groups, loss.shape[2]))
        out[:, self.filled] = np.add.reduceat(loss, self.starts, axis=1)
        return out.reshape(len(loss), self.strata, self.groups, loss.shape[2])
