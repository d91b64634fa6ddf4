"""The table of partially pooled shares: each subgroup's, drawn towards the mean of its axis; for the eye only."""

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData
from fairaudit.compared_axis import ComparedAxis, compared_axis
from fairaudit.frames import Block, stacked
from fairaudit.metrics.estimates import share
from fairaudit.metrics.pooling import partially_pooled
from fairaudit.results.columns import MORE_TABLES

COMPLEMENTS = ("fnr", "tnr", "fdr", "weighted_recall", "cumulative_score_1")


def pooled_table(data: AuditData) -> pd.DataFrame:
    """Return the beta-binomial estimate of every share of every known subgroup, small ones too, with its limits.

    Effective numbers serve as numbers where faces are weighted or persons repeat; n is the number of faces.
    """
    axes = [axis for one in data.axes if (axis := compared_axis(one, data.audit)) is not None]
    rows = [row for axis in axes for row in _axis_rows(axis, data.audit.confidence)]
    return stacked(rows) if rows else pd.DataFrame(columns=list(MORE_TABLES["pooled"]))


def _axis_rows(axis: ComparedAxis, confidence: float) -> list[Block]:
    known = np.flatnonzero(axis.pooled.known)
    names = np.array(axis.data.sample.groups, dtype=object)[known]
    found: list[Block] = []
    for metric in axis.metrics:
        if metric.kind != "proportion" or metric.name in COMPLEMENTS or len(known) < 2:
            continue
        estimate = share(axis.data.sample, np.eye(axis.pooled.size), metric)
        for p in range(estimate.value.shape[1]):
            value, faces, n = (part[known, p] for part in (estimate.value, estimate.denominator, estimate.effective))
            if (faces > 0).sum() < 2:
                continue
            pooled, (low, high) = partially_pooled(np.nan_to_num(value) * n, n, confidence)
            figures = {"value": value, "pooled": pooled, "low": low, "high": high, "n": faces}
            found.append(
                {
                    "task": axis.data.task,
                    "by": axis.data.by,
                    "subgroup": names[faces > 0],
                    "metric": metric.name,
                    "class": axis.data.rows.classes[p] if metric.per_class else "",
                    **{name: part[faces > 0] for name, part in figures.items()},
                }
            )
    return found
