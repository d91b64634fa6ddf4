"""All tests of one task: families of gaps, of subgroups against the rest, of pairs and of intersections, adjusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from fairaudit.axes import AxisData
from fairaudit.axis_tests import Contrasts, GapTest, null_of_axis
from fairaudit.compared_axis import FAMILIES, ComparedAxis, compared_axis, efficiency, family_of
from fairaudit.metrics.contrasts import sums_of
from fairaudit.metrics.exact import two_sided
from fairaudit.metrics.gap_nulls import MOST_IN_PAIRS
from fairaudit.metrics.interaction import interaction, interaction_draws, margins_design
from fairaudit.metrics.multiplicity import benjamini_hochberg, critical, exceeded, max_t, unsettled
from fairaudit.metrics.rates import METRICS
from fairaudit.rest_tests import Judged, judge_pairs, judge_rest
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import parse

MOST_RAISED = 8  # times as many draws where a verdict is not settled
LEAST_DRAWS = 499
_CELL_DRAWS = 1000  # of intersections under additive margins, which are fitted and drawn one metric at a time
_MOST_MOVED = 100_000_000  # rows permuted for one family, where faces are weighted or persons repeat
_MOST_DRAWN = 40_000_000  # strengths kept of one family
_MOST_RAISED = 3_000_000  # and drawn anew: a family with very many contrasts says that it stays unsettled


@dataclass(kw_only=True)
class JudgedGaps:
    """The gaps of one family: each one's own p and its adjusted p, (m,)."""

    tests: Sequence[GapTest]
    p_value: np.ndarray
    p_adjusted: np.ndarray
    draws: int


@dataclass(kw_only=True)
class Intersections:
    """Cells of one intersection axis for one metric and class, against what their margins predict.

    members (m,): subgroups; value and expected: rates, and what margins predict without the cell; error: standard error
    of their difference; residual: standardized, p of its score test.
    """

    contrasts: Contrasts
    members: np.ndarray
    value: np.ndarray
    expected: np.ndarray
    error: np.ndarray
    residual: np.ndarray
    null: np.ndarray
    p_value: np.ndarray
    p_adjusted: np.ndarray


@dataclass(kw_only=True)
class FamilyTests:
    """One task's tests within one family of metrics.

    levels: per kind ("rest", "pair") the level at which one contrast alone must be significant to be shown when the
    family is judged; sizes: number of tests per kind; notes: what limits the verdicts (draws).
    """

    family: str
    gaps: JudgedGaps
    rest: list[Judged]
    pairs: list[Judged]
    intersections: list[Intersections]
    levels: Mapping[str, float]
    sizes: Mapping[str, int]
    note: str


def disparity_tests(axes: Sequence[AxisData], audit: AuditSpec, seed: int) -> dict[str, list[FamilyTests]]:
    """Return the tests of every task, one entry a family of metrics; no draw depends on what else is audited."""
    tasks: dict[str, list[ComparedAxis]] = {}
    named = list(dict.fromkeys(data.by for data in axes))
    for data in axes:
        found = compared_axis(data, audit, named)
        tasks.setdefault(data.task, []).extend([found] if found is not None else [])
    return {
        task: [tests for family in FAMILIES if (tests := _family(tested, family, audit, seed)) is not None]
        for task, tested in tasks.items()
    }


def _family(axes: Sequence[ComparedAxis], family: str, audit: AuditSpec, seed: int) -> FamilyTests | None:
    """Judge one family; where a verdict is not settled, judge it anew with more draws."""
    draws = _affordable(axes, family, audit.draws, _MOST_DRAWN)
    found = _judge(axes, family, audit, seed, draws, 0)
    if found is not None and draws < audit.draws:
        found.note = f"{draws:,} draws of the null instead of {audit.draws:,}, because of the size of the family"
    if found is None or audit.multiplicity != "max-t":
        return found
    alpha = 1 - audit.confidence
    more = _affordable(axes, family, MOST_RAISED * draws, _MOST_RAISED)
    if _open_verdicts(found, alpha, draws) and more >= 2 * draws:
        found = _judge(axes, family, audit, seed, more, 1) or found
        draws = more
    if count := _open_verdicts(found, alpha, draws):
        few = f"; {found.note}" if found.note else ""
        found.note = (
            f"{count} of the adjusted p-values lie within Monte-Carlo error of {alpha:g} at {draws:,} draws{few}"
        )
    return found


def _affordable(axes: Sequence[ComparedAxis], family: str, draws: int, most: int) -> int:
    """Return how many draws may be made for the contrasts of one family, so that at most about `most` are kept."""
    size, rows = 0, 0
    for axis in axes:
        rows += 0 if axis.plain else 2 * len(axis.data.sample.group)
        groups = int(axis.pooled.known.sum())
        metrics = sum(family_of(METRICS[name]) == family for name, _ in set(axis.first.values()))
        size += metrics * (groups * (groups + 1) // 2 if groups <= MOST_IN_PAIRS else groups)
    return max(min(draws, LEAST_DRAWS), min(draws, most // max(size, 1), _MOST_MOVED // max(rows, 1)))


def _judge(
    axes: Sequence[ComparedAxis], family: str, audit: AuditSpec, seed: int, draws: int, part: int
) -> FamilyTests | None:
    alpha = 1 - audit.confidence
    gaps: list[GapTest] = []
    blocks: list[Contrasts] = []
    for axis in axes:
        more_gaps, more = null_of_axis(axis, draws, seed, part, (family,))
        gaps += more_gaps
        blocks += more
    if not gaps and not blocks:
        return None
    rest, pairs = ([block for block in blocks if block.kind == kind] for kind in ("rest", "pair"))
    cells = [found for block in rest if (found := intersections_of(block, min(draws, _CELL_DRAWS), seed)) is not None]
    sizes = {
        "gap": len(gaps),
        "rest": sum(len(block.first) for block in rest),
        "pair": sum(len(block.first) for block in pairs),
        "interaction": sum(len(one.members) for one in cells),
    }
    resampled = audit.multiplicity == "max-t"
    levels = {
        kind: _level([block.null for block in some], alpha) if resampled else alpha / max(sizes[kind], 1)
        for kind, some in (("rest", rest), ("pair", pairs))
    }
    judged_rest = judge_rest(rest, alpha, seed, ranked=not resampled)
    judged_pairs = judge_pairs(pairs)
    judged_gaps = _gaps(gaps, draws)
    adjust_cells(cells)
    if not resampled:
        _rank([one.p_value for one in judged_rest], [one.p_adjusted for one in judged_rest])
        _rank([one.p_value for one in judged_pairs], [one.p_adjusted for one in judged_pairs])
        _rank([one.p_value for one in cells], [one.p_adjusted for one in cells])
        _rank([judged_gaps.p_value], [judged_gaps.p_adjusted])
    return FamilyTests(
        family=family,
        gaps=judged_gaps,
        rest=judged_rest,
        pairs=judged_pairs,
        intersections=cells,
        levels=levels,
        sizes=sizes,
        note="",
    )


def _gaps(gaps: Sequence[GapTest], draws: int) -> JudgedGaps:
    if not gaps:
        return JudgedGaps(tests=gaps, p_value=np.zeros(0), p_adjusted=np.zeros(0), draws=draws)
    observed, null = np.array([gap.strength for gap in gaps]), np.stack([gap.null for gap in gaps], axis=1)
    p_value = exceeded(observed, null)
    return JudgedGaps(tests=gaps, p_value=p_value, p_adjusted=np.maximum(max_t(observed, null), p_value), draws=draws)


def _level(nulls: Sequence[np.ndarray], alpha: float) -> float:
    """Return the two-sided level of one contrast that the single-step criterion of the whole family comes to."""
    if not nulls:
        return np.nan
    return float(2 * special.ndtr(-critical(np.max([null.max(1) for null in nulls], axis=0)[:, None], alpha)))


def _open_verdicts(found: FamilyTests, alpha: float, draws: int) -> int:
    p = [found.gaps.p_adjusted, *(one.p_adjusted for one in [*found.rest, *found.pairs])]
    joined = np.concatenate([*p, *(cells.p_adjusted for cells in found.intersections)])
    return int(unsettled(joined[~np.isnan(joined)], alpha, draws).sum())


def intersections_of(block: Contrasts, draws: int, seed: int) -> Intersections | None:
    """Return the cells of an intersection axis against its margins, not yet adjusted; None where there is no test."""
    axis, line = block.axis, block.line
    attributes = parse(axis.data.by)
    if len(attributes) < 2 or not line.one:
        return None
    sums = sums_of(line, axis.data.sample.sums.reshape(axis.pooled.size, -1).astype(float))
    counts = sums_of(line, axis.data.sample.counts.reshape(axis.pooled.size, -1).astype(float))
    used = np.flatnonzero(axis.pooled.known & (counts.n[0] > 0))
    levels = [codes[used] for codes in _codes(axis, attributes)]
    if any(len(np.unique(codes)) < 2 for codes in levels):
        return None
    levels = [np.unique(codes, return_inverse=True)[1] for codes in levels]
    n = counts.n[0, used] * _effective(block)
    fit = interaction(sums.x[0, used] / sums.n[0, used] * n, n, margins_design(levels))
    rng = axis.rng(seed, 98, line.position, *line.metric.name.encode()[:8])
    null = interaction_draws(fit, n, draws, rng, counts=axis.plain)
    tested = np.flatnonzero(np.isin(used, block.first) & ~np.isnan(fit.residual))
    if not len(tested):
        return None
    residual = fit.residual[tested]
    return Intersections(
        contrasts=block,
        members=used[tested],
        value=(sums.x[0, used] / sums.n[0, used])[tested],
        expected=fit.without[tested],
        error=fit.error[tested],
        residual=residual,
        null=np.abs(null[:, tested]).astype(np.float32),
        p_value=two_sided(residual) if axis.plain else 2 * stats.t.sf(np.abs(residual), np.maximum(n[tested] - 1, 2)),
        p_adjusted=np.full(len(tested), np.nan),
    )


def _effective(block: Contrasts) -> float:
    """Return the effective number of faces per face."""
    return float(efficiency(block.axis, block.line.metric)[block.line.position])


def _codes(axis: ComparedAxis, attributes: Sequence[str]) -> list[np.ndarray]:
    """Return the code of each subgroup's value of each attribute, (G,)."""
    sample, frame = axis.data.sample, axis.data.frame
    first = np.zeros(axis.pooled.size, dtype=np.int64)
    group, where = np.unique(sample.group, return_index=True)
    first[group] = where
    return [
        np.unique(frame[name].iloc[first].astype(object).map(str).to_numpy(), return_inverse=True)[1]
        for name in attributes
    ]


def adjust_cells(cells: Sequence[Intersections]) -> None:
    """Set the adjusted p-values of all intersections of one family."""
    if not cells:
        return
    observed = np.abs(np.concatenate([one.residual for one in cells])).astype(np.float32)
    p = max_t(observed, np.concatenate([one.null for one in cells], axis=1))
    for one, found in zip(cells, np.split(p, np.cumsum([len(c.members) for c in cells])[:-1]), strict=True):
        one.p_adjusted = np.maximum(found, one.p_value)


def _rank(p_values: Sequence[np.ndarray], adjusted: Sequence[np.ndarray]) -> None:
    """Write Benjamini & Hochberg's p-values of one family over the adjusted ones."""
    if not p_values:
        return
    found = benjamini_hochberg(np.concatenate(p_values))
    for target, part in zip(adjusted, np.split(found, np.cumsum([len(p) for p in p_values])[:-1]), strict=True):
        target[:] = part


def same_line(contrasts: Contrasts) -> tuple[str, str, int]:
    """Return axis, metric and class of contrasts: what their three kinds have in common."""
    return contrasts.axis.data.by, contrasts.line.metric.name, contrasts.line.position
