"""The table of a user's own metrics: values with intervals per subgroup, and their gaps."""

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData, AxisData
from fairaudit.criteria import NO_LABELS
from fairaudit.custom_metrics import CustomMetric, load_metrics
from fairaudit.gap_tables import assessed
from fairaudit.metrics import bootstrap
from fairaudit.metrics.disparity import gap
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.intervals import Limits, wilson, z_value
from fairaudit.metrics.rates import METRICS, Metric
from fairaudit.metrics.sample import Sample
from fairaudit.named_code import current_folder_last
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

CALLS = 6000  # evaluations that the draws of one metric may take in a whole audit: each may last milliseconds
FEWEST_DRAWS = 200  # below, the jackknife
MOST_REPEATED = 2_000_000  # faces that are written out one by one for a function that takes no weights
BOOTSTRAP, JACKKNIFE = "bootstrap (BCa)", "jackknife"
UNWEIGHTED = "the faces are weighted, and this function takes no sample_weight"
NOT_CELLS = "no interval: the value depends on more than how often each label meets each prediction"
_BLANK: dict[str, Any] = dict.fromkeys(("value", "low", "high"), np.nan) | {"kind": "value"}
_BLANK |= {"n": 0, "small": False, "draws": 0}
_BLANK |= dict.fromkeys(("subgroup", "class", "method", "lowest", "highest", "not_assessed"), "")


def custom_table(data: AuditData) -> pd.DataFrame:
    """Return one row a subgroup and metric (kind `value`), and per axis the gap's `difference` and `ratio`.

    Values: fairlearn's MetricFrame; a function that takes `pos_label` is evaluated for each class against the rest.
    Intervals: BCa bootstrap of cells (weighted faces, whole persons) within subgroups with the stated number of draws,
    or, where 200 draws for every subgroup would take more than 6,000 evaluations, the jackknife: Wilson limits at its
    effective number for a value within 0…1, else ± z standard errors. Gaps: simultaneous limits of all pairs.
    """
    rows: list[dict[str, Any]] = []
    with current_folder_last():
        for metric in load_metrics(data.audit.metrics):
            usable = [axis for axis in data.axes if not _refusal(axis, metric)]
            width = {axis.task: len(axis.rows.classes) if metric.per_class else 1 for axis in usable}
            calls = sum(width[axis.task] * int(_enough(axis, data.audit).sum()) for axis in usable)
            draws = min(data.audit.draws, CALLS // max(calls, 1))
            for axis in data.axes:
                start = {"task": axis.task, "by": axis.by, "metric": metric.name}
                if why := _refusal(axis, metric):
                    rows.append({**_BLANK, **start, "reason": why})
                    continue
                found = _axis_rows(axis, metric, data, draws if draws >= FEWEST_DRAWS else 0)
                rows += [{**_BLANK, **start, **row} for row in found]
    return pd.DataFrame(rows, columns=list(MORE_TABLES["custom"]))


def _refusal(axis: AxisData, metric: CustomMetric) -> str:
    if not axis.rows.labelled:
        return NO_LABELS
    if axis.degenerate is not None:
        return axis.degenerate
    sample = axis.sample
    if sample.weight is not None and not metric.weighted:
        return UNWEIGHTED
    if sample.times is not None and not metric.weighted and sample.counts.sum() > MOST_REPEATED:
        return f"over {MOST_REPEATED:,} faces would have to be written out: this function takes no sample_weight"
    return ""


def _accuracy(axis: AxisData) -> Estimate:
    return share(axis.sample, np.eye(len(axis.sample.groups)), METRICS["accuracy"])


def _enough(axis: AxisData, audit: AuditSpec) -> np.ndarray:
    faces = _accuracy(axis)
    return np.minimum(faces.denominator, faces.effective + 1e-9)[:, 0] >= audit.min_group_size


def _axis_rows(axis: AxisData, metric: CustomMetric, data: AuditData, draws: int) -> list[dict[str, Any]]:
    """Return the rows of one metric on one axis: every subgroup and class, then the gaps."""
    value, reason = _values(axis, metric)
    large, audit = _enough(axis, data.audit), data.audit
    spread = _Spread(value=value, draws=draws, z=z_value(audit.confidence))
    for g in np.flatnonzero(large):
        names = (zlib.crc32(text.encode()) for text in (axis.task, axis.by, metric.name))
        rng = np.random.default_rng([data.seed, *names, int(g)])
        statistic = _statistic(axis.sample, metric, np.array(axis.rows.classes))
        for p, why in enumerate(spread.add(int(g), axis.sample, statistic, audit.confidence, rng)):
            reason[g, p] = reason[g, p] or why
    for g, p in np.argwhere(~large[:, None] & ~np.isnan(value)):
        reason[g, p] = f"no interval: fewer than {audit.min_group_size} (effective) faces"
    faces = _accuracy(axis)
    estimate = Estimate(
        metric=Metric(name=metric.name, kind="composite", lacking="", signed=bool((value < 0).any())),
        value=value,
        denominator=np.broadcast_to(faces.denominator, value.shape),
        effective=np.broadcast_to(faces.effective, value.shape),
        limits=spread.limits,
        notes=reason,
    )
    low, high = estimate.limits(spread.z)
    made = BOOTSTRAP if draws else JACKKNIFE
    classes = axis.rows.classes if metric.per_class else ("",)
    rows = []
    for g, p in np.ndindex(*value.shape):
        row: dict[str, Any] = {
            "subgroup": axis.sample.groups[g],
            "class": classes[p],
            "value": value[g, p],
            "reason": reason[g, p],
        }
        row |= {"low": low[g, p], "high": high[g, p], "n": round(float(faces.denominator[g, 0])), "small": not large[g]}
        rows.append(row if np.isnan(low[g, p]) else row | {"method": made, "draws": draws})
    if axis.by != OVERALL:
        rows += [row for p, name in enumerate(classes) for row in _gap_rows(axis, estimate, p, name, audit)]
    return rows


def _values(axis: AxisData, metric: CustomMetric) -> tuple[np.ndarray, np.ndarray]:
    """Return the value of every subgroup and class by fairlearn's MetricFrame, and why one is undefined."""
    from fairlearn.metrics import MetricFrame  # takes a second to import, and only this needs it

    sample, k = axis.sample, len(axis.rows.classes)
    shape = (len(sample.groups), k if metric.per_class else 1)
    value, reason = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    reason[sample.counts[:, :, :k].sum((1, 2)) == 0] = "no face has a label and a prediction"
    rows = np.flatnonzero(sample.column < k)
    weight = sample.weight
    if sample.times is not None:
        weight = sample.times.astype(float) if metric.weighted else None
        rows = rows if metric.weighted else np.repeat(rows, sample.times[rows])
    if not len(rows):
        return value, reason
    labels = np.array(axis.rows.classes)

    def measure(true: np.ndarray, predicted: np.ndarray, *, group: np.ndarray, w: np.ndarray, p: int) -> float:
        seen = [(part == p).astype(np.int64) if metric.per_class else labels[part] for part in (true, predicted)]
        found, why = metric(seen[0], seen[1], np.asarray(w) if weight is not None else None)
        own = np.unique(np.asarray(group))
        if len(own) == 1:  # MetricFrame also asks for all rows together
            reason[own[0], p] = why
        return found

    names = [str(p) for p in range(shape[1])]
    more = {"group": sample.group[rows], "w": np.ones(len(rows)) if weight is None else weight[rows]}
    frame = MetricFrame(
        metrics={name: partial(measure, p=int(name)) for name in names},
        y_true=axis.sample.row[rows],
        y_pred=axis.sample.column[rows],
        sensitive_features=pd.Series(sample.group[rows], name="group"),
        sample_params=dict.fromkeys(names, more),
    )
    value[frame.by_group.index.to_numpy(dtype=np.int64)] = frame.by_group[names].to_numpy(dtype=float)
    return value, reason


class _Spread:
    """The limits of one metric on one axis at any z, filled subgroup by subgroup."""

    def __init__(self, *, value: np.ndarray, draws: int, z: float) -> None:
        self.value, self.draws, self.z = value, draws, z
        self.low, self.high, self.error = (np.full(value.shape, np.nan) for _ in range(3))
        self.share = np.zeros(value.shape, dtype=bool)

    def add(
        self, g: int, sample: Sample, statistic: bootstrap.Statistic, confidence: float, rng: np.random.Generator
    ) -> Sequence[str]:
        """Add the limits of one subgroup; return per class why there are none."""
        units, times = sample.units(np.eye(len(sample.groups))[g])
        if self.draws:
            drawn = bootstrap.draw_sums(units, times, self.draws, rng)
            whole, low, high, why = bootstrap.bca(units, times, statistic, drawn, confidence)
        else:
            whole = statistic((times @ units)[None])[0]
            without = statistic(bootstrap.without(times @ units, units))
            low, high, why = self._jackknife(g, times, without)
        for p in range(len(whole)):
            if not why[p] and not np.isclose(whole[p], self.value[g, p], rtol=1e-9, atol=1e-9):
                why[p] = NOT_CELLS
            if why[p]:
                low[p] = high[p] = self.error[g, p] = np.nan
        self.low[g], self.high[g] = low, high
        return ["" if np.isnan(self.value[g, p]) else text for p, text in enumerate(why)]

    def _jackknife(self, g: int, times: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Standard error from the values without one unit each (Efron & Stein 1981); limits follow in `limits`."""
        n = times.sum()
        spread = without - np.average(without, axis=0, weights=times)
        error = np.sqrt((n - 1) / n * (times[:, None] * spread**2).sum(0))
        why = np.where(np.isnan(error), "no interval: without one face it is undefined", "").astype(object)
        why[error <= 1e-12] = "no interval: leaving out any face changes nothing, so its spread is unknown"
        self.error[g] = error
        inside = (without >= 0) & (without <= 1)
        self.share[g] = inside.all(0) & (self.value[g] > 0) & (self.value[g] < 1)
        return np.full(len(error), np.nan), np.full(len(error), np.nan), list(why)

    def limits(self, z: float) -> Limits:
        """Return the limits at z: BCa distances scaled by the ratio of normal quantiles, or from standard errors."""
        v = self.value
        if self.draws:
            return v - (v - self.low) * z / self.z, v + (self.high - v) * z / self.z
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = wilson(np.where(self.share, v, np.nan), v * (1 - v) / self.error**2, z)
        wide = z * self.error
        return np.where(self.share, low, v - wide), np.where(self.share, high, v + wide)


def _statistic(sample: Sample, metric: CustomMetric, labels: np.ndarray) -> bootstrap.Statistic:
    """Return the function of cell sums (B, cells) → values (B, P) that draws and jackknife evaluate."""
    k, two = sample.table.classes, np.arange(2)

    def one(cells: np.ndarray) -> list[float]:
        table = cells.reshape(sample.table.shape)[:, :k]
        if not metric.per_class:
            return [metric.of_cells(table, labels)]
        found = []
        for p in range(k):
            hit, true, predicted = table[p, p], table[p].sum(), table[:, p].sum()
            other = table.sum() - true - predicted + hit
            square = np.array([[other, predicted - hit], [true - hit, hit]])
            found.append(metric.of_cells(np.where(square < 1e-9, 0.0, square), two))  # differences leave dust
        return found

    return lambda cells: np.array([one(part) for part in np.atleast_2d(cells)]).reshape(*cells.shape[:-1], -1)


def _gap_rows(axis: AxisData, estimate: Estimate, p: int, class_: str, audit: AuditSpec) -> list[dict[str, Any]]:
    """Return the difference and the ratio of the highest and the lowest subgroup that are known and large enough."""
    names = axis.sample.groups
    chosen = assessed(estimate, p, axis.known, audit.min_group_size)
    left = [names[g] for g in np.setdiff1d(np.flatnonzero(axis.known), chosen)]
    start = {"class": class_, "not_assessed": "; ".join(left), "n": round(float(estimate.denominator[chosen, p].sum()))}
    if len(chosen) < 2:
        why = f"fewer than two subgroups have a defined value from at least {plural(audit.min_group_size, 'face')}"
        return [{**start, "kind": kind, "reason": why} for kind in ("difference", "ratio")]
    found = gap(estimate, p, chosen, audit.confidence)
    apart = found.difference > 0
    start |= {"lowest": names[found.worst] if apart else "", "highest": names[found.best] if apart else ""}
    rows = []
    for kind in ("difference", "ratio"):
        low, high = (getattr(found, f"{kind}_{side}") for side in ("low", "high"))
        value = getattr(found, kind)
        rows.append({**start, "kind": kind, "value": value, "low": low, "high": high, "reason": found.reason})
    return rows
