"""Subgroups against the rest, the worst left out one by one: a bad group must not make innocent ones differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fairaudit.axis_tests import Contrasts
from fairaudit.metrics.contrasts import Sums, against_rest, exact_p, redrawn, rest_laws, standardized, sums_of
from fairaudit.metrics.exact import two_sided
from fairaudit.metrics.multiplicity import benjamini_hochberg, exceeded, max_t
from fairaudit.metrics.nulls import null_cubes, strata_of

MOST_ROUNDS = 50
CLOSED_TWO = "told by the other subgroup that is left: with those shown to differ left out, two make one comparison"
CLOSED_FEW = "the rest is too small once the subgroups that are shown to differ are left out"


@dataclass(kw_only=True)
class Judged:
    """Contrasts with what was concluded: p-values, the direction, and whom the rest of each leaves out (indices).

    closed: why a contrast was not tested in the end; "" where it was. Arrays (m,).
    """

    contrasts: Contrasts
    p_value: np.ndarray
    p_adjusted: np.ndarray
    sign: np.ndarray
    out: list[tuple[int, ...]]
    closed: list[str]
    draws: int


@dataclass(kw_only=True)
class _Open:
    """One metric and class on one axis while subgroups are left out one by one."""

    judged: Judged
    sums: Sums
    open: np.ndarray
    strength: np.ndarray
    null: np.ndarray
    out: list[int] = field(default_factory=list)

    @property
    def pool(self) -> np.ndarray:
        known = np.flatnonzero(self.judged.contrasts.axis.pooled.known)
        return known[~np.isin(known, self.out)]


def judge_pairs(blocks: Sequence[Contrasts]) -> list[Judged]:
    """Return all pairs of one family with step-down adjusted p-values."""
    judged = [_judged(block) for block in blocks]
    for one in judged:
        block = one.contrasts
        sums = _sums(block)
        first, second = sums.of(block.first), sums.of(block.second)
        one.sign = np.sign(standardized(block.line, first, second))
        simulated = exceeded(block.strength, block.null)
        if block.line.counted and not block.line.one and block.axis.plain:  # too many for exact laws over strata
            simulated = two_sided(block.strength.astype(float))
        one.p_value = _p_values(block, first, second, simulated) if block.line.one else simulated
    _adjust(judged, [block.strength for block in blocks], [block.null for block in blocks])
    return judged


def judge_rest(blocks: Sequence[Contrasts], alpha: float, seed: int, *, ranked: bool = False) -> list[Judged]:
    """Return all contrasts with the rest of one family, stepping down and leaving out.

    In each round the surest contrast of every metric and class whose adjusted p is at most alpha is shown; its subgroup
    leaves the rest, and the others of that metric are compared, and their null drawn, anew without it. Where nothing
    more is shown the step-down goes on over what is left. Adjusted p-values never fall from round to round.
    ranked: the rounds go by Benjamini and Hochberg's p instead, which the caller computes anew from the final ones.
    """
    open_ = [
        _Open(
            judged=_judged(block),
            sums=_sums(block),
            open=np.ones(len(block.first), dtype=bool),
            strength=block.strength.copy(),
            null=block.null,
        )
        for block in blocks
    ]
    for part in open_:
        _describe(part, np.arange(len(part.strength)))
    reached = 0.0
    for _ in range(MOST_ROUNDS):
        largest = _largest(open_)
        if largest is None:
            break
        rates = _ranked(open_) if ranked else None
        shown = []
        for part in open_:
            top = int(np.where(part.open, part.strength, -1).argmax())
            p = max(float(exceeded(part.strength[[top]], largest)[0]), part.judged.p_value[top])
            p = p if rates is None else float(rates[id(part)][top])
            if part.open[top] and p <= alpha:
                shown.append((part, top, max(p, reached)))
        if not shown:
            break
        for part, top, p in shown:
            part.judged.p_adjusted[top] = p
            _leave_out(part, top, seed)
        reached = max(p for _, _, p in shown)
    _adjust(
        [part.judged for part in open_],
        [np.where(part.open, part.strength, -1) for part in open_],
        [np.where(part.open, part.null, -1) for part in open_],
        [part.open for part in open_],
        reached,
    )
    return [part.judged for part in open_]


def _judged(block: Contrasts) -> Judged:
    m = len(block.first)
    blank = np.full(m, np.nan)
    return Judged(
        contrasts=block,
        p_value=blank,
        p_adjusted=blank.copy(),
        sign=np.zeros(m),
        out=[()] * m,
        closed=[""] * m,
        draws=len(block.null),
    )


def _sums(block: Contrasts) -> Sums:
    sample = block.axis.data.sample
    return sums_of(block.line, sample.sums.reshape(block.axis.pooled.size, -1).astype(float))


def _p_values(block: Contrasts, first: Sums, second: Sums, simulated: np.ndarray) -> np.ndarray:
    """Return the exact p for shares of whole faces, else the Monte-Carlo p of the permutation."""
    return exact_p(block.line, first, second) if block.line.counted and block.axis.plain else simulated


def _describe(part: _Open, which: np.ndarray) -> None:
    """Set p-value, direction and the rest's missing subgroups of these contrasts."""
    judged, block = part.judged, part.judged.contrasts
    own, everyone = part.sums.of(block.first[which]), part.sums.total(part.pool)
    rest = everyone - own
    judged.sign[which] = np.sign(standardized(block.line, own, rest))
    simulated = exceeded(part.strength[which], part.null[:, which])
    judged.p_value[which] = _p_values(block, own, rest, simulated)
    for i in which:
        judged.out[i] = tuple(part.out)


def _largest(parts: Sequence[_Open]) -> np.ndarray | None:
    """Return the largest strength of any open contrast in each draw, (B,)."""
    tops = [part.null[:, part.open].max(1) for part in parts if part.open.any()]
    return np.max(tops, axis=0) if tops else None


def _ranked(parts: Sequence[_Open]) -> dict[int, np.ndarray]:
    """Return Benjamini and Hochberg's p-values of all contrasts as they stand, by part."""
    found = benjamini_hochberg(np.concatenate([part.judged.p_value for part in parts]))
    splits = np.split(found, np.cumsum([len(part.strength) for part in parts])[:-1])
    return {id(part): p for part, p in zip(parts, splits, strict=True)}


def _leave_out(part: _Open, top: int, seed: int) -> None:
    block = part.judged.contrasts
    part.open[top] = False
    part.out.append(int(block.first[top]))
    which = np.flatnonzero(part.open)
    pool = part.pool
    others = part.sums.total(pool).n.sum(0) - part.sums.n[..., block.first[which]].sum(0)
    few = others < block.axis.pooled.audit.min_group_size
    for i in which[few]:
        part.judged.closed[i] = CLOSED_FEW
    which = which[~few]
    if len(pool) == 2 and len(which) == 2:
        part.judged.closed[which[1]] = CLOSED_TWO
        which = which[:1]
    closed = part.open.copy()
    closed[which] = False
    part.judged.p_value[closed] = np.nan
    part.open &= ~closed
    if not len(which):
        return
    members = block.first[which]
    exactly = block.axis.plain and block.line.counted
    laws = rest_laws(block.line, part.sums, members, pool) if exactly else None
    part.null = part.null.copy()
    drawn = _redrawn(part, pool, len(part.null), seed)
    part.null[:, which] = against_rest(block.line, drawn, members, pool, laws)
    part.strength[which] = against_rest(block.line, part.sums, members, pool, laws).astype(np.float32)
    _describe(part, which)


def _redrawn(part: _Open, pool: np.ndarray, draws: int, seed: int) -> Sums:
    """Draw the null among the subgroups that are left."""
    block = part.judged.contrasts
    axis, line = block.axis, block.line
    rng = axis.rng(seed, 99, line.position, len(part.out), *line.metric.name.encode()[:8])
    if axis.plain:
        return redrawn(line, axis.data.sample, pool, draws, rng)
    keep = np.isin(np.arange(axis.pooled.size), pool)
    strata = np.where(line.stratum >= 0, strata_of(axis.data.rows.table, line.condition), -1)
    return sums_of(line, null_cubes(axis.data.sample, keep, strata, draws, rng)[0])


def _adjust(
    judged: Sequence[Judged],
    strengths: Sequence[np.ndarray],
    nulls: Sequence[np.ndarray],
    use: Sequence[np.ndarray] | None = None,
    least: float = 0.0,
) -> None:
    """Set the step-down p-values of what is still open; never below a contrast's own p, nor below `least`."""
    if not judged:
        return
    use = use or [np.ones(len(one), dtype=bool) for one in strengths]
    observed = np.concatenate([one[on] for one, on in zip(strengths, use, strict=True)])
    null = np.concatenate([one[:, on] for one, on in zip(nulls, use, strict=True)], axis=1)
    if not len(observed):
        return
    p = np.maximum(max_t(observed, null), least)
    parts = np.split(p, np.cumsum([on.sum() for on in use])[:-1])
    for one, on, found in zip(judged, use, parts, strict=True):
        one.p_adjusted[on] = np.maximum(found, one.p_value[on])
