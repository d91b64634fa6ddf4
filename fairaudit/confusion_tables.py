"""The tables of confusions: directed ones per subgroup, what classes attract, and pairs that are not told apart."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.axes import AuditData, AxisData
from fairaudit.metrics.confusions import (
    Attraction,
    Contrasts,
    attraction,
    confused_share,
    directed_share,
    directions,
    pairwise_recall,
    strengths,
)
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.exact import two_sided
from fairaudit.metrics.intervals import mover_difference, mover_sum, z_value
from fairaudit.metrics.multiplicity import exceeded, max_t
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

DRAWS, FEWER_DRAWS = 1000, 500  # of the null; fewer where faces are weighted or persons permuted
_REST = ("rest", "n_rest", "difference", "difference_low", "difference_high")
ALONE = "no one else of known subgroup is labelled so"
ATTRACTS, LOSES = "attracts", "loses"
SEPARATED, OPEN, MIXED = "told apart", "not shown to be told apart", "worse than chance"


@dataclass(frozen=True, kw_only=True)
class _Directed:
    """One task on one axis: estimates of every direction (pools × directions), and the tested contrasts' numbers.

    index: place of each subgroup's direction in the family of its task, (G, directions), −1 where it is not tested.
    """

    axis: AxisData
    estimate: Estimate
    counts: np.ndarray
    small: np.ndarray
    index: np.ndarray
    seen: np.ndarray
    null: np.ndarray


def directed_table(data: AuditData) -> pd.DataFrame:
    """Return one row a subgroup and directed confusion that occurs in it: its share, everyone else's, and the excess.

    `low` and `high` are of the share, `difference_low` and `difference_high` of the excess (Newcombe), each by itself.
    `p_value`: subgroups exchangeable within the labelled class; `p_adjusted`: step-down max-t (Westfall & Young 1993)
    over the `family_size` distinct contrasts of the task. An axis of which the task is part repeats the axis without
    it and is left out. Rows of an axis are ranked by excess, tested ones first.
    """
    tables = []
    for task in dict.fromkeys(axis.task for axis in data.axes if _confusable(axis)):
        own = [axis for axis in data.axes if axis.task == task]
        wanted = [axis for axis in own if not _repeats(axis, [other.by for other in own])]
        start, found = 0, []
        for axis in wanted:
            found.append(_directed(axis, data.audit, data.seed, start))
            start += len(found[-1].seen)
        p_value, p_adjusted = _p_values(found)
        tables += [_directed_rows(part, data.audit, p_value, p_adjusted) for part in found]
    return _joined(tables, "directed")


def _confusable(axis: AxisData) -> bool:
    return axis.rows.labelled and len(axis.rows.classes) > 1


def _repeats(axis: AxisData, audited: Sequence[str]) -> bool:
    """Tell whether another audited axis has the same contrasts: the one without the task's own attribute."""
    if axis.by == OVERALL or axis.task not in subgroups.parse(axis.by):
        return False
    left = [part for part in subgroups.parse(axis.by) if part != axis.task]
    return ":".join(left) in audited or not left


def _directed(axis: AxisData, audit: AuditSpec, seed: int, start: int) -> _Directed:
    sample, known = axis.sample, axis.known & (axis.by != OVERALL)
    own = np.eye(len(known))
    pools = np.concatenate([own, (known.astype(float) - own)[known]])
    estimate = share(sample, pools, directed_share(sample.table))
    true, predicted = directions(sample.table.classes)
    enough = np.minimum(estimate.denominator, estimate.effective + 1e-9) >= audit.min_group_size
    tested = np.zeros((len(known), len(true)), dtype=bool)
    occurs = sample.counts[known][:, true, predicted].sum(0) > 0
    tested[known] = enough[: len(known)][known] & enough[len(known) :] & occurs
    index = np.full(tested.shape, -1)
    if known.sum() == 2:  # two subgroups against each other are one contrast
        first, second = np.flatnonzero(known)
        tested[second] = False
        index[second, tested[first]] = start + np.arange(tested[first].sum())
    group, direction = np.nonzero(tested)
    index[group, direction] = start + np.arange(len(group))
    contrasts = Contrasts(group=group, true=true[direction], predicted=predicted[direction])
    rng = np.random.default_rng([seed, *(zlib.crc32(text.encode()) for text in (axis.task, axis.by))])
    plain = sample.weight is None and sample.subject is None
    seen, null = strengths(sample, known, contrasts, min(audit.draws, DRAWS if plain else FEWER_DRAWS), rng)
    return _Directed(
        axis=axis,
        estimate=estimate,
        counts=sample.counts[:, true, predicted],
        small=~enough[: len(known)],
        index=index,
        seen=seen,
        null=null,
    )


def _p_values(found: Sequence[_Directed]) -> tuple[np.ndarray, np.ndarray]:
    """Return each contrast's own p and the adjusted p of one task's family."""
    seen, null = np.concatenate([part.seen for part in found]), np.concatenate([part.null for part in found], axis=1)
    if not len(seen):
        return seen, seen
    sample = found[0].axis.sample
    plain = sample.weight is None and sample.subject is None
    own = two_sided(seen) if plain else exceeded(seen, null)
    return own, np.maximum(max_t(seen, null), own)


def _directed_rows(part: _Directed, audit: AuditSpec, p_value: np.ndarray, p_adjusted: np.ndarray) -> pd.DataFrame:
    axis, estimate, size = part.axis, part.estimate, len(part.small)
    low, high = estimate.limits(z_value(audit.confidence))
    rest = np.full((5, *part.small.shape), np.nan)  # value, n, difference with limits; of the rest of each subgroup
    known = axis.known & (axis.by != OVERALL)
    if known.any():
        sides = [(estimate.value[s], low[s], high[s]) for s in (np.flatnonzero(known), slice(size, None))]
        rest[0, known], rest[1, known] = estimate.value[size:], estimate.denominator[size:]
        rest[2, known] = sides[0][0] - sides[1][0]
        rest[3, known], rest[4, known] = mover_difference(*sides)
    true, predicted = directions(axis.sample.table.classes)
    g, d = np.nonzero(part.counts > 0)
    index = part.index[g, d]
    names = np.array(axis.rows.classes, dtype=object)
    table = pd.DataFrame(
        {
            "task": axis.task,
            "by": axis.by,
            "subgroup": np.array(axis.sample.groups, dtype=object)[g],
            "true": names[true[d]],
            "predicted": names[predicted[d]],
            "count": part.counts[g, d],
            **{name: values[g, d] for name, values in (("value", estimate.value), ("low", low), ("high", high))},
            "n": np.rint(estimate.denominator[g, d]).astype(np.int64),
            **dict(zip(_REST, rest[:, g, d], strict=True)),
            "p_value": _at(p_value, index),
            "p_adjusted": _at(p_adjusted, index),
            "family_size": len(p_value),
            "small": part.small[g, d],
            "reason": _untested(part, g, d, audit.min_group_size),
        }
    )
    order = np.lexsort((-table["count"], -table["difference"].fillna(-1), table["p_value"].isna()))
    return table.iloc[order]


def _at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.append(values, np.nan)[index]


def _untested(part: _Directed, g: np.ndarray, d: np.ndarray, least: int) -> np.ndarray:
    """Return why a directed confusion is not compared; "" where it is."""
    axis = part.axis
    if axis.by == OVERALL:
        return np.full(len(g), "", dtype=object)
    known = axis.known[g]
    position = len(part.small) + np.cumsum(axis.known) - 1
    others = np.where(known, part.estimate.denominator[np.where(known, position[g], 0), d], 0)
    reasons = np.where(
        others == 0, ALONE, f"fewer than {plural(least, 'face is', 'faces are')} labelled so in everyone else"
    ).astype(object)
    reasons[part.small[g, d]] = (
        f"fewer than {plural(least, '(effective) face is', '(effective) faces are')} labelled so"
    )
    reasons[~known] = "faces of unknown subgroup enter no comparison"
    reasons[part.index[g, d] >= 0] = ""
    return reasons


def attraction_table(data: AuditData) -> pd.DataFrame:
    """Return, per subgroup and class, how many faces are predicted as the class for each that is labelled as it.

    Above 1 the class attracts faces of others, below 1 it loses its own: `reading`, by limits that hold for all
    `family_size` rows of the task at once (Bonferroni; rows that are not small), while `low` and `high` are each row's
    own. Where the subgroup determines the label this is recall again, so these axes are left out.
    """
    tables = []
    judged = [axis for axis in data.axes if axis.rows.labelled and axis.degenerate is None]
    for own in _by_task(judged):
        found = [attraction(axis.sample, z_value(data.audit.confidence)) for axis in own]
        small = [np.minimum(f.labelled, f.effective + 1e-9) < data.audit.min_group_size for f in found]
        size = sum(int((~few & ~np.isnan(f.value)).sum()) for f, few in zip(found, small, strict=True))
        z = z_value(data.audit.confidence, max(size, 1))
        for axis, part, few in zip(own, found, small, strict=True):
            tables.append(_attraction_rows(axis, part, few, attraction(axis.sample, z), size))
    return _joined(tables, "attraction")


def _attraction_rows(
    axis: AxisData, found: Attraction, small: np.ndarray, at_once: Attraction, size: int
) -> pd.DataFrame:
    g, c = (part.ravel() for part in np.indices(found.value.shape))
    columns = {name: getattr(found, name).ravel() for name in ("value", "low", "high")}
    faces = {"n_predicted": found.predicted, "n": found.labelled}
    numbers = {name: np.rint(counts).astype(np.int64).ravel() for name, counts in faces.items()}
    undefined = np.isnan(columns["value"])
    columns["high"] = np.where(np.isfinite(columns["high"]), columns["high"], np.nan)
    endless = np.where(np.isnan(columns["high"]), "no upper limit", "")
    reason = np.where(undefined, "no face is labelled so", endless)
    reading = np.select([small, at_once.low > 1, at_once.high < 1], ["", ATTRACTS, LOSES], "").astype(object).ravel()
    table = {**_where(axis, g), "class": np.array(axis.rows.classes, dtype=object)[c], **columns}
    more = {"small": small.ravel(), "reason": reason, "reading": reading, "family_size": size}
    return pd.DataFrame({**table, **numbers, **more})


def pairs_table(data: AuditData) -> pd.DataFrame:
    """Return, per subgroup and pair of classes, whether the model tells them apart.

    Only faces labelled and predicted as one of the two count. `value`: mean of the two recalls among them, .5 is chance
    (limits: MOVER over Wilson); `confused`: the share taken for the other. `low` and `high` are each row's own;
    `reading` is by limits that hold for all `family_size` rows of the task at once (Bonferroni; rows that are not
    small). Left out where the subgroup determines the label.
    """
    tables = []
    for own in _by_task([axis for axis in data.axes if _confusable(axis) and axis.degenerate is None]):
        found = [_pair_rows(axis, data.audit) for axis in own]
        size = sum(int((~table["small"] & table["value"].notna()).sum()) for table in found)
        for axis, table in zip(own, found, strict=True):
            at_once = _pair_rows(axis, data.audit, size)
            low, high = at_once["low"], at_once["high"]
            reading = np.select([low > 0.5, high < 0.5, table["value"].notna()], [SEPARATED, MIXED, OPEN], "")
            reading = np.where(table["small"], "", reading).astype(object)
            tables.append(table.assign(reading=reading, family_size=size))
    return _joined(tables, "pairs")


def _by_task(axes: Sequence[AxisData]) -> list[list[AxisData]]:
    """Return the axes of each task."""
    return [[axis for axis in axes if axis.task == task] for task in dict.fromkeys(axis.task for axis in axes)]


def _pair_rows(axis: AxisData, audit: AuditSpec, at_once: int = 1) -> pd.DataFrame:
    """Return the pairs of an axis, with limits that hold for `at_once` rows together; without a reading."""
    z, table = z_value(audit.confidence, max(at_once, 1)), axis.sample.table
    pools = np.eye(len(axis.sample.groups))
    recall, confused = (share(axis.sample, pools, metric(table)) for metric in (pairwise_recall, confused_share))
    true, other = directions(table.classes)
    place = {pair: i for i, pair in enumerate(zip(true.tolist(), other.tolist(), strict=True))}
    first, second = np.triu_indices(table.classes, 1)
    sides = [[place[pair] for pair in zip(a, b, strict=True)] for a, b in ((first, second), (second, first))]
    both = [np.stack([part[:, side] for side in sides], axis=-1) for part in (recall.value, *recall.limits(z))]
    value = both[0].mean(-1)
    low, high = (np.clip(side, 0, 1) for side in mover_sum(np.full(2, 0.5), *both))
    n = np.stack([np.minimum(recall.denominator, recall.effective + 1e-9)[:, side] for side in sides]).min(0)
    faces = np.stack([recall.denominator[:, side] for side in sides])
    apart = confused.limits(z)
    g, p = np.nonzero(faces.sum(0) > 0)
    names = np.array(axis.rows.classes, dtype=object)
    lacking = np.where(faces[0] == 0, first, second)[g, p]
    reason = np.array([f"no face labelled {c} is predicted as either" for c in names[lacking]], dtype=object)
    columns = {"value": value, "low": low, "high": high, "confused": confused.value}
    columns |= {"confused_low": apart[0], "confused_high": apart[1]}
    return pd.DataFrame(
        {
            **_where(axis, g),
            "first": names[first[p]],
            "second": names[second[p]],
            **{name: part[g, p] for name, part in columns.items()},
            "n_first": np.rint(faces[0][g, p]).astype(np.int64),
            "n_second": np.rint(faces[1][g, p]).astype(np.int64),
            "small": n[g, p] < audit.min_group_size,
            "reason": np.where(np.isnan(value[g, p]), reason, ""),
        }
    )


def _where(axis: AxisData, g: np.ndarray) -> Mapping[str, Any]:
    return {"task": axis.task, "by": axis.by, "subgroup": np.array(axis.sample.groups, dtype=object)[g]}


def _joined(tables: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    columns = list(MORE_TABLES[name])
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)
