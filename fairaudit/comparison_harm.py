"""Two tables of a comparison for one model, task and axis: whose predictions changed at all, and who was not harmed."""

from typing import Any

import numpy as np
import pandas as pd

from fairaudit.comparison_tables import PairedAxis
from fairaudit.metrics import harm
from fairaudit.metrics.intervals import wilson, z_value
from fairaudit.metrics.means import means, share_limits
from fairaudit.metrics.paired import share_change
from fairaudit.metrics.rates import METRICS
from fairaudit.pooled import BY_CLASS

FEW = "fewer faces than the smallest group that is assessed"


def churn_rows(axis: PairedAxis, model: str) -> pd.DataFrame:
    """Return churn.csv for one model, task and axis: the share of faces whose predicted class changes, and how.

    Of the faces that both models predicted. Wilson's interval at the effective number of faces (weights, subjects);
    of the changed faces, the share that went from right to wrong, with its interval.
    """
    before, after = axis.predicted.before, axis.predicted.after
    changed = (before.column != after.column).astype(float)
    was, now = (s.column == s.row for s in (before, after))
    kinds = {"harmed": was & ~now, "helped": ~was & now, "still_wrong": (changed > 0) & ~was & ~now}
    everybody = np.ones_like(changed)
    top = np.stack([changed, kinds["harmed"].astype(float)], axis=-1)
    found = means(before, None, top, np.stack([everybody, changed], axis=-1))
    single = before.weight is None and before.subject is None
    z = z_value(axis.audit.confidence)
    low, high = wilson(found.value, found.faces, z) if single else share_limits(found)(z)
    rows = []
    for g, name in enumerate(axis.groups):
        n, changed_faces = (int(number) for number in found.faces[g])
        row: dict[str, Any] = {"model": model, "task": axis.rows.task, "by": axis.by, "subgroup": name, "n": n}
        row |= {"changed": changed_faces, "churn": found.value[g, 0], "low": low[g, 0], "high": high[g, 0]}
        row |= {kind: int(flags[before.group == g].sum()) for kind, flags in kinds.items()}
        row |= {"harmed_share": found.value[g, 1], "harmed_low": low[g, 1], "harmed_high": high[g, 1]}
        if not axis.rows.labelled:
            row |= dict.fromkeys((*kinds, "harmed_share", "harmed_low", "harmed_high"), np.nan)
        row["small"] = bool(min(n, found.effective[g, 0] + 1e-9) < axis.audit.min_group_size)
        rows.append({**row, "reason": _why(n, changed_faces, labelled=axis.rows.labelled)})
    return pd.DataFrame(rows)


def _why(n: int, changed: int, *, labelled: bool) -> str:
    """Return why a share of churn.csv is undefined, "" where all are defined."""
    if not n:
        return "no face of this subgroup is predicted by both models"
    if not labelled:
        return "without labels no change is right or wrong"
    return "" if changed else "no face changed, so none from right to wrong"


def non_inferiority_rows(axis: PairedAxis, model: str, margin: float) -> pd.DataFrame:
    """Return non_inferiority.csv for one model, task and axis; no row for a task without labels.

    Measured on right predictions: accuracy (recall by labelled class where the subgroup determines the label), and
    end-to-end accuracy where some face got no prediction, so that a lost face counts as a loss. `low` and `high` are
    one-sided bounds at (1 − confidence) / 2, by Bonferroni for all subgroups of the axis at once: Newcombe's paired
    interval (method 10) at that level.
    """
    if not axis.rows.labelled:
        return pd.DataFrame()
    pair = axis.everyone
    outcomes = bool(pair.before.counts[..., axis.rows.table.classes :].any())
    outcomes |= bool(pair.after.counts[..., axis.rows.table.classes :].any())
    metric = "end_to_end_accuracy" if outcomes else "accuracy" if axis.degenerate is None else BY_CLASS
    change = share_change(pair, METRICS["end_to_end_accuracy" if outcomes else "accuracy"])
    delta, family = change.delta, int(axis.known.sum())
    z = z_value(axis.audit.confidence, family)
    low, high = delta.limits(z)
    right = [(s.column == s.row).astype(float) for s in (pair.before, pair.after)]
    disagree = pair.by_group((right[0] != right[1]).astype(float))
    rows: list[dict[str, Any]] = []
    for g in np.flatnonzero(axis.known):
        n, value = delta.denominator[g, 0], float(delta.value[g, 0])
        small = bool(min(n, delta.effective[g, 0] + 1e-9) < axis.audit.min_group_size)
        row: dict[str, Any] = {"model": model, "task": axis.rows.task, "by": axis.by, "subgroup": axis.groups[g]}
        row |= {"metric": metric, "delta": value, "low": low[g, 0], "high": high[g, 0], "margin": margin}
        row |= {"verdict": harm.OPEN, "n": round(n), "n_needed": np.nan, "family_size": family, "small": small}
        if np.isnan(value):
            rows.append({**row, "reason": "no face that both models saw has a label"})
            continue
        row["verdict"] = harm.verdict(low[g, 0], high[g, 0], margin)
        # half a face is added to both ways of changing: few faces without a change do not promise that none would
        spread = (disagree[g] + 1) / (n + 2) - value**2
        repeated = n / delta.effective[g, 0] if delta.effective[g, 0] > 0 else 1.0
        needed, why = harm.faces_to_exclude(value, max(spread, 1 / (n + 2)) * repeated / n, n, margin, z)
        if row["verdict"] == harm.NOT_HARMED:
            why = "a loss within the margin is shown" if high[g, 0] < 0 else ""
        else:
            row["n_needed"] = needed
        rows.append({**row, "reason": "; ".join(filter(None, [FEW if small else "", why]))})
    return pd.DataFrame(rows)
