"""The audit's overall figures, re-weighted to a population whose shares of each subgroup are stated in the spec."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.errors import UsageError
from fairaudit.metrics.halves import part_of
from fairaudit.metrics.poststratified import Reweighted, drawn, share
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.metrics.sample import Sample
from fairaudit.pooled import wanted_metrics
from fairaudit.registry import suggestion
from fairaudit.results.columns import MORE_TABLES
from fairaudit.subgroups import OVERALL, parse
from fairaudit.wording import plural

_CLOSED = ("proportion", "f1")
_DRAWN = ("average", "composite")


def population_table(data: AuditData) -> pd.DataFrame:
    """Return one row a task, stated population, metric and class: the value in that population, and unweighted.

    `by` is the axis whose shares are stated, `covered` the share of the population that lies in subgroups with faces
    here: the figures speak of that part, and `reason` names the missing subgroups.
    """
    rows: list[dict[str, Any]] = []
    tasks = list(dict.fromkeys(axis.task for axis in data.axes))
    for step, (by, stated) in enumerate(sorted(data.audit.population.items())):
        for axis in [axis for axis in data.axes if axis.by == ":".join(parse(by))]:
            rows += _task_rows(data, axis, stated, [data.seed, 1, tasks.index(axis.task), step])
    return pd.DataFrame(rows, columns=list(MORE_TABLES["population"]) if rows else None)


def _task_rows(
    data: AuditData, axis: AxisData, stated: Mapping[str, float], seed: Sequence[int]
) -> list[dict[str, Any]]:
    sample, shares, note, covered = _stratified(axis, stated)
    chosen = [m for m in wanted_metrics(axis.rows, axis.sample, OVERALL, None) if m.kind in (*_CLOSED, *_DRAWN)]
    level = data.audit.confidence
    found = {m.name: share(sample, shares, m, level) for m in chosen if m.kind in _CLOSED}
    names = [m.name for m in chosen if m.kind in _DRAWN]
    found |= dict(zip(names, drawn(sample, shares, names, level, data.audit.draws, seed), strict=True)) if names else {}
    own = data.metrics[(data.metrics["task"] == axis.task) & (data.metrics["by"] == OVERALL)]
    plain = {(r["metric"], r["class"]): r for r in own.to_dict("records")}
    return [
        {"task": axis.task, "by": axis.by, **row, "covered": covered, "reason": row["reason"]}
        for metric in chosen
        for row in _metric_rows(axis, metric, found[metric.name], plain, note)
    ]


def _metric_rows(
    axis: AxisData, metric: Metric, found: Reweighted, plain: Mapping[Any, Mapping[Any, Any]], note: str
) -> list[dict[str, Any]]:
    rows = []
    for p, name in enumerate(axis.rows.classes if metric.per_class else ("",)):
        lacking = METRICS[metric.name].lacking.format(**{"class": name, "subgroup": "the subgroups of the population"})
        undefined = np.isnan(found.value[p])
        unweighted = plain.get((metric.name, name), {})
        rows.append(
            {
                "metric": metric.name,
                "class": name,
                "value": found.value[p],
                "low": np.nan if undefined else found.low[p],
                "high": np.nan if undefined else found.high[p],
                "n": found.denominator[p],
                "n_effective": found.effective[p],
                "unweighted": unweighted.get("value", np.nan),
                "unweighted_low": unweighted.get("low", np.nan),
                "unweighted_high": unweighted.get("high", np.nan),
                "reason": "; ".join(filter(None, [lacking if undefined else found.reason, note])),
            }
        )
    return rows


def _stratified(axis: AxisData, stated: Mapping[str, float]) -> tuple[Sample, np.ndarray, str, float]:
    """Return the faces of the population's subgroups, these subgroups' shares, what is missing, and the share covered.

    Raises UsageError where no face belongs to the stated population.
    """
    by, old = axis.by, axis.sample
    names, codes = list(old.groups), old.group
    # the order in which a population was written down must not matter to the draws
    stated = dict(sorted(stated.items(), key=lambda item: (names.index(item[0]) if item[0] in names else -1, item[0])))
    found = np.array([names.index(cell) if cell in names else -1 for cell in stated], dtype=int)
    sizes = old.counts.sum((1, 2))
    share_of = np.array(list(stated.values()))
    there = (found >= 0) & (share_of > 0)
    there[there] = sizes[found[there]] > 0
    covered = float(share_of[there].sum())
    if covered <= 0:
        raise UsageError(f"population by {by}: none of {list(stated)} has a face of {axis.task} (there are: {names})")
    number = np.full(len(names), -1)
    number[found[there]] = np.arange(there.sum())
    keep = number[codes] >= 0
    groups = tuple(name for name, on in zip(stated, there, strict=True) if on)
    sample = replace(part_of(old, keep), groups=groups, group=number[codes][keep])
    missing = [
        f"{cell} ({100 * s:.3g} %{suggestion(cell, names).replace(';', ',')})"
        for cell, s, on in zip(stated, share_of, there, strict=True)
        if not on and s > 0
    ]
    notes = [f"no face of {', '.join(missing)}: this speaks of the other {100 * covered:.4g} %"] if missing else []
    if (~keep).any():
        others = ", ".join(names[c] for c in np.unique(codes[~keep]))
        outside = int(sizes.sum() - sizes[number >= 0].sum())
        notes.append(f"{plural(outside, 'face is', 'faces are')} outside the stated population ({others})")
    return sample, share_of[there] / covered, "; ".join(notes), covered
