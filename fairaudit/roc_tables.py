"""The tables of what a threshold on the probability would do: ROC curves by class, and rates of a two-class head."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.metrics.counted import CountedPools, pools_of
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.means import Means, means, means_of_sums, share_limits
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.roc import thinned
from fairaudit.subgroups import OVERALL, parse

THRESHOLDS = np.arange(1, 10) / 10
_RATES = ("selection_rate", "tpr", "fpr")


def roc_table(data: AuditData) -> pd.DataFrame:
    """Return one-vs-rest ROC curves: of each class the share found (tpr) and of all others the share called so (fpr).

    All faces together and the subgroups of single attributes; of a two-class head the second class alone, for the other
    one's curve is the same turned around. Of each curve at most 41 points stand here; those left out lie within 0.05
    (the two rates added) of one that does. threshold: a face is called so from this probability on; empty at (0, 0),
    where none is. Where the subgroup determines the label there is no curve, nor for a class without faces or others.
    """
    tables = [table for axis in data.axes if _asked(axis) for table in _curves(axis)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def threshold_table(data: AuditData) -> pd.DataFrame:
    """Return of every two-class head what calling a face the second class from 10, 20, … 90 % on would give.

    selection_rate, tpr and fpr of each subgroup with Wilson's limits; the thresholds are the same for all of them. Of
    scores that are counted in bins they are ends of bins.
    """
    asked = (axis for axis in data.axes if _asked(axis) and len(axis.rows.classes) == 2)
    tables = [table for axis in asked if len(table := _rates(axis, data))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _asked(axis: AxisData) -> bool:
    measures = axis.sample.measures
    scored = measures is not None and (measures.scores is not None or measures.counted is not None)
    return scored and axis.rows.labelled and axis.degenerate is None


def _curves(axis: AxisData) -> Iterator[pd.DataFrame]:
    if axis.by != OVERALL and len(parse(axis.by)) > 1:
        return
    pools = pools_of(axis.sample, np.zeros(len(axis.sample.groups), dtype=bool))
    classes = axis.rows.classes
    for c in range(1 if len(classes) == 2 else 0, len(classes)):
        for group, (score, sums) in zip(axis.sample.groups, pools.tables(pools.class_table(c)), strict=True):
            found, others, *_, faces, rest = sums
            if not (faces.sum() and rest.sum()):
                continue
            fpr, tpr, place = thinned(found, others)
            yield pd.DataFrame(
                {
                    "task": axis.task,
                    "by": axis.by,
                    "subgroup": group,
                    "class": classes[c],
                    "threshold": np.where(place < len(score), score[np.minimum(place, len(score) - 1)], np.nan),
                    "fpr": fpr,
                    "tpr": tpr,
                    "n_class": round(float(faces.sum())),
                    "n_others": round(float(rest.sum())),
                }
            )


def _rates(axis: AxisData, data: AuditData) -> pd.DataFrame:
    pools = pools_of(axis.sample, np.zeros(len(axis.sample.groups), dtype=bool))
    limits = _limits(pools)
    rates = _counted_rates(pools, limits) if isinstance(pools, CountedPools) else _face_rates(pools, limits)
    if not rates[_RATES[0]].faces.sum():
        return pd.DataFrame()  # probabilities of nobody
    z = z_value(data.audit.confidence)
    groups = np.array(axis.sample.groups, dtype=object)
    faces, of_class, others = (rates[name].faces[:, 0] for name in _RATES)
    sides = {"n": faces, "n_class": of_class, "n_others": others}
    g, v = (part.ravel() for part in np.indices((len(groups), len(limits))))
    columns = {"task": axis.task, "by": axis.by, "subgroup": groups[g], "class": axis.rows.classes[1]}
    columns["threshold"] = limits[v]
    for name, found in rates.items():
        low, high = share_limits(found)(z)
        columns |= {name: found.value.ravel(), f"{name}_low": low.ravel(), f"{name}_high": high.ravel()}
    columns |= {name: np.rint(n[g]).astype(np.int64) for name, n in sides.items()}
    columns["small"] = np.minimum(of_class, others)[g] < data.audit.min_group_size
    lacks = ["no face of it has probabilities", f"no face of it labelled {axis.rows.classes[1]}"]
    lacks.append("every face of it is labelled so")
    why = [faces[g] == 0, of_class[g] == 0, others[g] == 0]
    columns["reason"] = np.select(why, lacks, "")
    return pd.DataFrame(columns)


def _limits(pools: Pools) -> np.ndarray:
    bins = pools.store.bins if isinstance(pools, CountedPools) else None
    return THRESHOLDS if bins is None else np.floor(THRESHOLDS * bins) / bins


def _face_rates(pools: Pools, limits: np.ndarray) -> dict[str, Means]:
    """Return the rates of every subgroup at each of the limits, (G, V), from faces in memory."""
    scores, plain = pools.scores, replace(pools.sample, measures=None)
    with np.errstate(invalid="ignore"):
        called = scores.values[:, 1, None] >= limits
    sides = (scores.usable, scores.usable & (scores.label == 1), scores.usable & (scores.label == 0))
    return {
        name: means(plain, None, (called & side[:, None]).astype(float), np.repeat(side[:, None], len(limits), 1) * 1.0)
        for name, side in zip(_RATES, sides, strict=True)
    }


def _counted_rates(pools: CountedPools, limits: np.ndarray) -> dict[str, Means]:
    """Return the same from the counts of a table on disk."""
    table = pools.class_table(1)
    called = table.score[table.place][:, None] >= limits
    sides = (table.positive_faces + table.negative_faces, table.positive_faces, table.negative_faces)
    found = {}
    for name, side in zip(_RATES, sides, strict=True):
        hits = np.stack([table.sums(side * rule) for rule in called.T], axis=-1)
        found[name] = means_of_sums(hits, hits, np.repeat(table.sums(side)[:, None], len(limits), 1))
    return found
