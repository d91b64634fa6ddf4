"""`--exploratory`: contrasts are discovered on one half of the faces, and only those are tested on the other half."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.axes import AuditData, AxisData
from fairaudit.errors import UsageError
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.halves import blocks, halves, holm_levels, part_of, share_tests
from fairaudit.metrics.intervals import holm, mover_difference
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.pooled import wanted_metrics
from fairaudit.subgroups import OVERALL

SCREEN = 0.05  # nominal p on the discovery half
# what is looked through: each says something that no other of them says of the same faces (recall is 1 − FNR)
_SEARCHED = ("accuracy", "recall", "fpr", "precision", "selection_rate", "off_by_one_accuracy", "prediction_rate")


def exploratory_table(data: AuditData) -> pd.DataFrame:
    """Return one row a contrast (a subgroup against everyone else) that was discovered, tested on the other half.

    Discovered: nominal p < .05 on the first half. Confirmed: Holm over all contrasts discovered (all tasks and axes
    together), and the same direction. Faces of a person, and byte-identical images where hashes are known, stay in one
    half. `low` and `high` are at the level of Holm's step. Empty unless the spec or --exploratory asks for it.
    """
    if not data.audit.exploratory:
        return pd.DataFrame()
    first = discovery_half(data)
    seen: set[tuple[Any, ...]] = set()
    kept = [c for axis in data.axes if axis.by != OVERALL for c in _discovered(axis, first, data, seen)]
    p_values = np.array([c.p for c in kept])
    levels, adjusted = holm_levels(p_values, data.audit.confidence), holm(p_values)
    return pd.DataFrame([_row(c, z, p, data) for c, z, p in zip(kept, levels, adjusted, strict=True)])


def discovery_half(data: AuditData) -> np.ndarray:
    """Return which rows of the predictions table are in the discovery half, bool (N,)."""
    frame = data.predictions.frame
    keys = [pd.factorize(frame[name])[0] for name in ("subject_id", "sha256") if name in frame]
    axes = [axis.by for axis in data.axes if axis.by != OVERALL]
    if not axes:
        raise UsageError("--exploratory needs an axis with two subgroups, and the table has none; leave it out")
    finest = max(axes, key=lambda by: len(subgroups.parse(by)))
    columns = [f"{a}_true" if f"{a}_true" in frame and a not in frame else a for a in subgroups.parse(finest)]
    columns += [f"{task}_true" for task in data.predictions.tasks if f"{task}_true" in frame]
    strata = frame.groupby(columns, dropna=False, observed=True, sort=True).ngroup().to_numpy()
    return halves(blocks(keys, len(frame)), strata, [data.seed, 2])


@dataclass(frozen=True, kw_only=True)
class _Contrast:
    """A subgroup (pool `g`) and everyone else (`rest`) in one class of a metric, on the confirmation half."""

    axis: AxisData
    metric: Metric
    g: int
    rest: int
    column: int
    estimate: Estimate
    discovered: float
    p_discovered: float
    n_discovered: float
    p: float


def _discovered(axis: AxisData, first: np.ndarray, data: AuditData, seen: set[tuple[Any, ...]]) -> list[_Contrast]:
    """Return the contrasts of one task on one axis that the first half shows at nominal p < .05, and none of `seen`."""
    side = first[axis.rows.position]
    samples = [part_of(axis.sample, mask) for mask in (side, ~side)]
    known = np.flatnonzero(axis.known)
    if len(known) < 2:
        return []
    eye = np.eye(len(axis.known))
    pools = np.concatenate([eye, (axis.known.astype(float) - eye)[known]])
    wanted = {m.name for m in wanted_metrics(axis.rows, axis.sample, axis.by, axis.degenerate)}
    found: list[_Contrast] = []
    for metric in (METRICS[name] for name in _SEARCHED if name in wanted):
        if axis.degenerate is not None and not metric.degenerate:
            continue
        one, two = (share(sample, pools, metric) for sample in samples)
        tests = [_tests(part, axis, known, data.audit.min_group_size) for part in (one, two)]
        for i, p in np.argwhere(tests[0] < SCREEN):
            g, rest = int(known[i]), len(axis.known) + int(i)
            key = _key(axis.task, (one, two), (g, rest), int(p))
            if key in seen:
                continue
            seen.add(key)
            found.append(
                _Contrast(
                    axis=axis,
                    metric=metric,
                    g=g,
                    rest=rest,
                    column=int(p),
                    estimate=two,
                    discovered=float(one.value[g, p] - one.value[rest, p]),
                    p_discovered=float(tests[0][i, p]),
                    n_discovered=float(one.denominator[g, p]),
                    p=float(tests[1][i, p]),
                )
            )
    return found


def _tests(estimate: Estimate, axis: AxisData, known: np.ndarray, least: int) -> np.ndarray:
    """Return p-values (known subgroups, classes); NaN where either side has fewer than `least` faces."""
    others = len(axis.known) + np.arange(len(known))
    sides = [(estimate.value[i], estimate.effective[i], estimate.denominator[i]) for i in (known, others)]
    exact = axis.sample.weight is None and axis.sample.subject is None
    enough = np.logical_and.reduce([np.minimum(n, effective + 1e-9) >= least for _, effective, n in sides])
    value = np.where(enough, sides[0][0], np.nan)  # not tested where undefined
    return share_tests(value, sides[0][1], sides[1][0], sides[1][1], exact)


def _key(task: str, halves_: Sequence[Estimate], pools: tuple[int, int], column: int) -> tuple[Any, ...]:
    """Name a contrast by what it counts, so that each is tested once.

    Two groups against each other are one contrast; with two classes the FPR of one is 1 − the recall of the other; and
    recall of Male among "Black" and among "Black × Male" speaks of the same faces.
    """
    n = np.array([[part.denominator[g, column] for part in halves_] for g in pools])
    share_ = np.nan_to_num(np.array([[part.value[g, column] for part in halves_] for g in pools]))
    named = [sorted(map(tuple, np.hstack([n, np.round(n * p, 6)]).tolist())) for p in (share_, 1 - share_)]
    return task, *min(named)


def _row(contrast: _Contrast, z: float, adjusted: float, data: AuditData) -> dict[str, Any]:
    axis, estimate, g, rest, p = contrast.axis, contrast.estimate, contrast.g, contrast.rest, contrast.column
    low, high = estimate.limits(z)
    sides = [(estimate.value[i, p], low[i, p], high[i, p]) for i in (g, rest)]
    down, up = mover_difference(*(tuple(map(np.asarray, side)) for side in sides))
    difference = float(estimate.value[g, p] - estimate.value[rest, p])
    same = np.sign(difference) == np.sign(contrast.discovered)
    confirmed = bool(adjusted <= 1 - data.audit.confidence and same)
    tested = not np.isnan(contrast.p)
    row = {
        "task": axis.task,
        "by": axis.by,
        "subgroup": axis.sample.groups[g],
        "metric": contrast.metric.name,
        "class": axis.rows.classes[p] if contrast.metric.per_class else "",
        "discovered": contrast.discovered,
        "value": estimate.value[g, p],
        "rest": estimate.value[rest, p],
        "difference": difference,
        "low": float(down),
        "high": float(up),
        "p_value": contrast.p,
        "p_adjusted": adjusted,
        "confirmed": confirmed,
        "n": estimate.denominator[g, p],
        "n_rest": estimate.denominator[rest, p],
        "n_discovered": contrast.n_discovered,
        "p_discovered": contrast.p_discovered,
        "sentence": "",
        "reason": "" if tested else "not tested: too few faces of one side in the confirmation half",
    }
    return row | {"sentence": _sentence(row, tested)}


def _sentence(row: dict[str, Any], tested: bool) -> str:
    what = f"{row['metric'].replace('_', ' ')} of {row['class']}" if row["class"] else row["metric"].replace("_", " ")
    who = f"{row['task']}: {what} of faces labelled as {row['subgroup']}"
    said = f"was {_points(row['discovered'])} everyone else's on the discovery half"
    if not tested:
        return f"{who} {said}; the confirmation half has too few faces to test it."
    word = "confirmed" if row["confirmed"] else "not confirmed"
    return (
        f"{who} {said}; on the other half it is {_points(row['difference'])} ({100 * row['low']:.1f} to "
        f"{100 * row['high']:.1f}, n = {row['n']:,.0f}; adjusted p = {row['p_adjusted']:.2g}): {word}."
    )


def _points(difference: float) -> str:
    return f"{abs(100 * difference):.1f} points {'above' if difference > 0 else 'below'}"
