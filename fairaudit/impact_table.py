"""Impact ratios in the form of New York City's Local Law 144, where the audited output is declared a selection."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.axes import AuditData, sample_of, task_rows, with_axis_columns
from fairaudit.data.tables import Predictions
from fairaudit.errors import UsageError
from fairaudit.metrics.estimates import share
from fairaudit.metrics.intervals import koopman, z_value
from fairaudit.metrics.rates import METRICS
from fairaudit.metrics.sample import Sample
from fairaudit.registry import lookup, suggestion
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL, UNKNOWN

LEAST_SHARE = 0.02  # a smaller category may be left out of ratios: 6 RCNY § 5-301 (d)
FOUR_FIFTHS = 0.8  # 29 CFR § 1607.4 D
BELOW, ABOVE, OPEN = "below four fifths", "at least four fifths", "not decided"
_SMALL_SHARE = "under 2 % of the faces of known subgroup: left out of the ratios (2 % rule)"


def check_selection(predictions: Predictions, tasks: Sequence[str], audit: AuditSpec) -> None:
    """Raise UsageError unless the declared selection is a class of an audited task."""
    if audit.selection is None:
        return
    task, class_ = audit.selection.task, audit.selection.class_
    if task not in tasks:
        raise UsageError(
            f"audit.selection: task {task!r} is not audited{suggestion(task, tasks)} (audited: {', '.join(tasks)})"
        )
    lookup({name: name for name in predictions.tasks[task]}, class_, f"class of {task} (audit.selection)")


def impact_table(data: AuditData) -> pd.DataFrame:
    """Return one row a subgroup of each axis: applicants, selected, selection rate and impact ratio, each with limits.

    The impact ratio is the selection rate over that of the most selected subgroup; its limits (Koopman) hold for all
    pairs of the axis at once, because the data choose that subgroup. Labels play no part, so faces without one count.
    Subgroups under 2 % of the faces or under `min_group_size` keep their rate and have no ratio. Without a declared
    selection the table is empty: a label head selects nobody.
    """
    if data.audit.selection is None:
        return pd.DataFrame(columns=list(MORE_TABLES["impact"]))
    task, class_ = data.audit.selection.task, data.audit.selection.class_
    axes = list(dict.fromkeys(axis.by for axis in data.axes if axis.by != OVERALL))
    counted = data.predictions.of_task(task, axes)
    frame = with_axis_columns(counted, axes)
    rows = task_rows(replace(counted, frame=counted.frame.drop(columns=f"{task}_true", errors="ignore")), task)
    times = None if counted.times is None else counted.times[rows.position]
    column = rows.classes.index(class_)
    tables = []
    for by in axes:
        sample = sample_of(rows, frame, subgroups.assign(frame, by), times)
        table = _axis_rows(sample, column, data.audit)
        tables.append(table.assign(task=task, by=by, **{"class": class_}))
    return pd.concat(tables, ignore_index=True)[list(MORE_TABLES["impact"])]


def _axis_rows(sample: Sample, column: int, audit: AuditSpec) -> pd.DataFrame:
    groups = len(sample.groups)
    known = np.array([name != UNKNOWN for name in sample.groups], dtype=bool)
    estimate = share(sample, np.eye(groups), METRICS["selection_rate"])
    rate, n, effective = (part[:, column] for part in (estimate.value, estimate.denominator, estimate.effective))
    low, high = (side[:, column] for side in estimate.limits(z_value(audit.confidence)))
    part = np.where(known, n / max(n[known].sum(), 1), np.nan)
    small = np.minimum(n, effective + 1e-9) < audit.min_group_size
    used = np.flatnonzero(known & ~small & (part >= LEAST_SHARE))
    ratio, ratio_low, ratio_high, top = _ratios(rate, effective, used, audit.confidence)
    counts = sample.counts[:, 0]
    ratios = pd.DataFrame({"ratio": ratio, "ratio_low": ratio_low, "ratio_high": ratio_high})
    reading = np.select(
        [ratio_high < FOUR_FIFTHS, ratio_low >= FOUR_FIFTHS, ~np.isnan(ratio_low)], [BELOW, ABOVE, OPEN], ""
    )
    return ratios.assign(
        subgroup=np.array(sample.groups, dtype=object),
        applicants=n.astype(np.int64),
        selected=counts[:, column],
        no_output=counts[:, sample.table.classes :].sum(-1),
        share=part,
        value=rate,
        low=low,
        high=high,
        reference=sample.groups[top] if top is not None else "",
        reading=reading.astype(object),
        small=small,
        reason=[_reason(sample.groups[g], n[g], small[g], part[g], g, used, top, audit) for g in range(groups)],
    )


def _ratios(
    rate: np.ndarray, n: np.ndarray, used: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int | None]:
    """Return ratio and limits of each subgroup against the most selected of those `used`, and which that is."""
    ratio, low, high = np.full((3, len(rate)), np.nan)
    if len(used) < 2 or rate[used].max() <= 0:
        return ratio, low, high, None
    top = int(used[np.argmax(rate[used])])
    ratio[used] = rate[used] / rate[top]
    others = used[used != top]
    z = z_value(confidence, len(used) * (len(used) - 1) // 2)
    first, second = (rate * n)[others], np.full(len(others), (rate * n)[top])
    below, above = koopman(first, n[others], second, np.full(len(others), n[top]), z)
    low[others], high[others] = below, np.minimum(above, 1.0)
    return ratio, low, high, top


def _reason(
    name: str, n: float, small: bool, part: float, g: int, used: np.ndarray, top: int | None, audit: AuditSpec
) -> Any:
    if name == UNKNOWN:
        return "unknown subgroup: counted here, in no ratio"
    if not n:
        return "no face of this subgroup has an output"
    if part < LEAST_SHARE:
        return _SMALL_SHARE
    if small:
        return f"fewer than {audit.min_group_size} (effective) faces: left out of the ratios"
    if top is None:
        return "no ratio: fewer than two subgroups to compare" if len(used) < 2 else "no ratio: nobody is selected"
    return "the most selected subgroup" if g == top else ""
