"""From the answers to faces with a hidden region to tables: drops with paired intervals, and who loses more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairaudit.masking.words import MISLEADS, NEEDED, reading_sentence, sentence_of
from fairaudit.metrics.excess import Excess, excess_losses
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.multiplicity import exceeded, max_t
from fairaudit.metrics.paired import Change, flips, share_change
from fairaudit.metrics.rates import METRICS
from fairaudit.results.columns import MASKING_TABLES
from fairaudit.robustness.heads import Head, HeadOnAxis
from fairaudit.robustness.words import NO_SPREAD
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL

_RIGHT = METRICS["end_to_end_accuracy"]  # a face without an answer is wrong


@dataclass(frozen=True, kw_only=True)
class _Tested:
    axis: HeadOnAxis
    chosen: np.ndarray
    excess: Excess
    sizes: np.ndarray


def masking_tables(
    heads: Mapping[str, Head], axes: Sequence[str], areas: Mapping[str, float], fills: Sequence[str], audit: AuditSpec,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Return masking.csv and masking_tests.csv (MASKING_TABLES); `areas`: region → share of the picture that is hidden.

    `heads` hold the answers to every (region, fill). The interval of a drop is Newcombe's, paired, and holds for all
    regions and compared subgroups of an axis at once (Bonferroni). A region is "needed" where the drop is above 0 with
    every fill, and "misleads" where it is below 0 with every fill: as every fill must show it, no allowance for their
    number is due. A test asks whether a subgroup loses more than everyone else among faces of the same label, as far
    as every fill shows it (the least studentized difference), adjusted together for all regions, subgroups and axes.
    """
    rows: list[dict[str, object]] = []
    tests: list[dict[str, object]] = []
    for number, head in enumerate(heads.values()):
        on_axes = [head.on(by) for by in (OVERALL, *axes)]
        for axis in on_axes:
            rows += _drop_rows(axis, areas, fills, audit)
        rng = np.random.default_rng([seed, 104729, number])
        tested = [part for axis in on_axes[1:] if (part := _tested(axis, list(areas), fills, audit, rng)) is not None]
        tests += _test_rows(tested, list(areas), fills, audit)
    found = [
        pd.DataFrame(part, columns=list(columns))
        for part, columns in zip((rows, tests), MASKING_TABLES.values(), strict=True)
    ]
    return found[0], found[1]


def _drop_rows(
    axis: HeadOnAxis, areas: Mapping[str, float], fills: Sequence[str], audit: AuditSpec
) -> list[dict[str, object]]:
    compared = max(1, len(axis.assessed(audit.min_group_size)))
    z, joint = z_value(audit.confidence), z_value(audit.confidence, compared * len(areas))
    rows: list[dict[str, object]] = []
    for region, area in areas.items():
        changes = {fill: share_change(axis.paired((region, fill)), _RIGHT) for fill in fills}
        limits = {fill: [0.0 - end for end in reversed(change.delta.limits(joint))] for fill, change in changes.items()}
        for g, group in enumerate(axis.before.groups):
            small = bool(axis.sizes[g] < audit.min_group_size) and axis.by != OVERALL
            own = {
                fill: (0.0 - changes[fill].delta.value[g, 0], *(end[g, 0] for end in limits[fill])) for fill in fills
            }
            reading = "" if small else _reading(list(own.values()))
            for fill in fills:
                row = _drop_row(axis, g, (region, fill), changes[fill], z)
                drop, low, high = own[fill]
                row |= {"area": area, "drop": drop, "drop_low": low, "drop_high": high, "small": small}
                row |= {"reading": reading, "sentence": "", "subgroup": group}
                if reading and fill == fills[0]:
                    row["sentence"] = reading_sentence({**row, "drops": own})
                rows.append(row)
    return rows


def _reading(drops: Sequence[tuple[float, float, float]]) -> str:
    """Return what all fills say together."""
    if all(low > 0 for _, low, _ in drops):
        return NEEDED
    return MISLEADS if all(high < 0 for _, _, high in drops) else ""


def _drop_row(axis: HeadOnAxis, g: int, where: tuple[str, str], change: Change, z: float) -> dict[str, object]:
    gained, lost, _ = flips(axis.paired(where), _RIGHT)
    low, high = change.after.limits(z)
    return {
        "task": axis.head.rows.task, "by": axis.by, "metric": axis.metric, "region": where[0], "fill": where[1],
        "clean": change.before.value[g, 0], "value": change.after.value[g, 0], "low": low[g, 0], "high": high[g, 0],
        "n": int(axis.sizes[g]), "lost": int(lost[g, 0]), "gained": int(gained[g, 0]), "reason": "",
    }  # fmt: skip


def _tested(
    axis: HeadOnAxis, regions: Sequence[str], fills: Sequence[str], audit: AuditSpec, rng: np.random.Generator
) -> _Tested | None:
    chosen = axis.assessed(audit.min_group_size)
    if len(chosen) < 2:
        return None
    right = axis.head.right()
    losses = np.stack(
        [np.stack([right - axis.head.right((region, fill)) for fill in fills], axis=-1) for region in regions], axis=1
    )
    values, group, stratum = axis.units(losses)
    taking = axis.known[group]
    values, group, stratum = values[taking], group[taking], stratum[taking]
    groups = len(axis.before.groups)
    found = excess_losses(values, group, stratum, groups, draws=audit.draws, rng=rng, confidence=audit.confidence)
    return _Tested(axis=axis, chosen=chosen, excess=found, sizes=np.bincount(group, minlength=groups))


def _test_rows(
    tested: Sequence[_Tested], regions: Sequence[str], fills: Sequence[str], audit: AuditSpec
) -> list[dict[str, object]]:
    """Return a row a subgroup, region and fill of every axis; a p-value is of all fills together."""
    if not tested:
        return []
    strength = np.concatenate([part.excess.strength[part.chosen].ravel() for part in tested])
    null = np.concatenate([part.excess.null[:, part.chosen].reshape(audit.draws, -1) for part in tested], axis=1)
    able = ~np.isnan(strength)
    p_value, p_adjusted = np.full((2, len(strength)), np.nan)
    p_value[able], p_adjusted[able] = exceeded(strength[able], null[:, able]), max_t(strength[able], null[:, able])
    rows, at = [], 0
    for part in tested:
        for g in part.chosen:
            for t, region in enumerate(regions):
                judged = (p_value[at], p_adjusted[at], int(able.sum()))
                rows += _fill_rows(part, int(g), (t, region), fills, judged, 1 - audit.confidence)
                at += 1
    return rows


def _fill_rows(
    part: _Tested, g: int, where: tuple[int, str], fills: Sequence[str], judged: tuple[float, float, int], alpha: float
) -> list[dict[str, object]]:
    axis, excess, (t, region), (p_value, p_adjusted, family) = part.axis, part.excess, where, judged
    finding = bool(p_adjusted <= alpha and (excess.low[g, t] > 0).all())
    rows = []
    for f, fill in enumerate(fills):
        row: dict[str, object] = {
            "task": axis.head.rows.task, "by": axis.by, "subgroup": axis.before.groups[g], "region": region,
            "fill": fill, "difference": excess.difference[g, t, f], "low": excess.low[g, t, f],
            "high": excess.high[g, t, f], "n": int(part.sizes[g]), "n_rest": int(part.sizes.sum() - part.sizes[g]),
            "matched": "label" if axis.degenerate is None else "", "p_value": p_value, "p_adjusted": p_adjusted,
            "family_size": family, "finding": finding, "sentence": "", "reason": "",
        }  # fmt: skip
        if np.isnan(p_value):
            row["reason"] = "no label is shared with anyone else" if part.sizes[g] > 1 else "one unit gives no spread"
        elif np.isnan(row["low"]):  # type: ignore[call-overload]
            row["reason"] = NO_SPREAD
        rows.append(row)
    if finding:
        rows[0]["sentence"] = sentence_of(rows)
    return rows
