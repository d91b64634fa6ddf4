"""The table of findings: gaps, subgroups against the rest, pairs and intersections, each once, surest first."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.axes import AuditData
from fairaudit.axis_tests import Contrasts
from fairaudit.compared_axis import DATA, ComparedAxis, efficiency
from fairaudit.disparity_tests import FamilyTests, Intersections, disparity_tests, same_line
from fairaudit.finding_words import MARGINS, REST, sentence
from fairaudit.gap_tests import GAP, NOT_ASSESSED, Sizes, contrast_sizes, reaches
from fairaudit.metrics.contrasts import Linear, sums_of, value_of
from fairaudit.metrics.detectable import detectable_by_error
from fairaudit.metrics.estimates import mean_recall, share
from fairaudit.metrics.intervals import mover_difference, z_value
from fairaudit.metrics.rates import METRICS
from fairaudit.rest_tests import Judged
from fairaudit.results.columns import MORE_TABLES
from fairaudit.spec import AuditSpec
from fairaudit.subgroups import parse

AS_PREDICTED = "an intersection is a finding of its own only beyond what its margins predict, and this is not shown"
UNTESTED = "an intersection is a finding of its own only beyond its margins, and no such test exists for this metric"
BY_MIX = "the difference is beyond noise at these label mixes, but its own interval does not lie on that side of 0"
FOLLOWS_LABELS = ("selection_rate",)  # what differs between groups wherever their labels do, also without any error
LEAST_P = 0.001  # below it p-values are printed alike, and count alike
_Own = dict[tuple[str, str, int, int], bool]


def findings_table(data: AuditData) -> pd.DataFrame:
    """Return every distinct contrast of an audit with its p-values, what was findable, and whether it is a finding.

    Families are judged per task, kind and family of metrics (columns `family`, `family_size`). kind: "gap" (worst
    against best), "rest" (a subgroup against the rest, without those already shown to differ), "pair", "interaction"
    (a subgroup against what the margins of its attributes predict). Rows stand as `ranked` puts them.
    """
    tests = data.tests or disparity_tests(data.axes, data.audit, data.seed)
    rows: list[dict[str, Any]] = []
    for families in tests.values():
        for family in families:
            own = _own_findings(family, 1 - data.audit.confidence)
            sizes: list[Sizes] = []
            found = [row for judged in family.rest for row in _rest_rows(judged, family, data, own, sizes)]
            found += [row for judged in family.pairs for row in _pair_rows(judged, family, data, own, sizes)]
            rows += _with_reach(found, sizes, 1 - data.audit.confidence)
            rows += [row for cells in family.intersections for row in _cell_rows(cells, family, data, own)]
    rows += _beyond_margins(_gap_rows(data, tests), rows)
    for row in rows:
        row["sentence"] = sentence(row, data.audit.confidence)
    if not rows:
        return pd.DataFrame(columns=list(MORE_TABLES["findings"]))
    return ranked(pd.DataFrame(rows)[list(MORE_TABLES["findings"])])


def _own_findings(family: FamilyTests, alpha: float) -> _Own:
    """Return which subgroups of intersection axes differ from the rest, and beyond their margins."""
    beyond = {
        (*same_line(cells.contrasts), int(g)): p <= alpha
        for cells in family.intersections
        for g, p in zip(cells.members, cells.p_adjusted, strict=True)
    }
    found = {}
    for judged in family.rest:
        for g, p in zip(judged.contrasts.first, judged.p_adjusted, strict=True):
            key = (*same_line(judged.contrasts), int(g))
            if key in beyond:
                found[key] = bool(beyond[key] and p <= alpha)
    return found


def _rest_rows(
    judged: Judged, family: FamilyTests, data: AuditData, own: _Own, sizes: list[Sizes]
) -> Iterator[dict[str, Any]]:
    """Yield a row a contrast, and append what their power rests on to `sizes`."""
    block = judged.contrasts
    known = block.axis.pooled.known.astype(float)
    two = known.sum() == 2
    for out in dict.fromkeys(judged.out):
        which = np.array([i for i, left in enumerate(judged.out) if left == out])
        members = block.first[which]
        rest = np.tile(known, (len(which), 1))
        rest[:, list(out)] = 0
        rest[np.arange(len(which)), members] = 0
        sides = _sides(block.axis, block.line, np.eye(len(known))[members], rest, data, plain_rest=not out)
        sizes.append(contrast_sizes(block.axis, block.line.metric, block.line.position, members, rest))
        names = block.axis.data.sample.groups
        other = names[int(np.flatnonzero(rest[0])[0])] if two else REST
        left = f"{REST} without {', '.join(names[g] for g in out)}" if out else other
        for j, i in enumerate(which):
            row = _row(judged, int(i), "rest", names[members[j]], left, {k: v[j] for k, v in sides.items()}, family)
            row["level"] = family.levels["rest"]
            yield _decided(row, judged, int(i), data.audit, own.get((*same_line(block), int(members[j]))))


def _pair_rows(
    judged: Judged, family: FamilyTests, data: AuditData, own: _Own, sizes: list[Sizes]
) -> Iterator[dict[str, Any]]:
    """Yield a row a pair, and append what their power rests on to `sizes`."""
    block = judged.contrasts
    eye, names = np.eye(block.axis.pooled.size), block.axis.data.sample.groups
    sides = _sides(block.axis, block.line, eye[block.first], eye[block.second], data)
    sizes.append(contrast_sizes(block.axis, block.line.metric, block.line.position, block.first, eye[block.second]))
    for i, (g, h) in enumerate(zip(block.first, block.second, strict=True)):
        row = _row(judged, i, "pair", names[g], names[h], {k: v[i] for k, v in sides.items()}, family)
        row["level"] = family.levels["pair"]
        either = [own.get((*same_line(block), int(one))) for one in (g, h)]
        beyond = None if all(one is None for one in either) else any(either)
        yield _decided(row, judged, i, data.audit, beyond)


def _cell_rows(cells: Intersections, family: FamilyTests, data: AuditData, own: _Own) -> Iterator[dict[str, Any]]:
    block, z = cells.contrasts, z_value(data.audit.confidence)
    axis, alpha = block.axis, 1 - data.audit.confidence
    estimate = share(axis.data.sample, np.eye(axis.pooled.size), block.line.metric)
    size = family.sizes["interaction"]
    follows = block.line.metric.name in FOLLOWS_LABELS and axis.data.rows.labelled
    labels = share(axis.data.sample, np.eye(axis.pooled.size), METRICS["base_rate"]).value if follows else None
    for i, g in enumerate(cells.members):
        apart = float(cells.value[i] - cells.expected[i])
        row = _start(block, "interaction", axis.data.sample.groups[g], MARGINS, family.family, size)
        row |= {"value": float(cells.value[i]), "other_value": float(cells.expected[i]), "difference": apart}
        row |= {"low": apart - z * cells.error[i], "high": apart + z * cells.error[i]}
        row |= {"n": float(estimate.denominator[g, block.line.position]), "n_other": np.nan}
        row |= {"p_value": float(cells.p_value[i]), "p_adjusted": float(cells.p_adjusted[i])}
        level = alpha / max(size, 1)
        reach = [float(detectable_by_error(cells.error[i], one)) for one in (level, alpha)]
        row |= {"detectable": reach[0], "detectable_unadjusted": reach[1]}
        row |= {} if labels is None else {"labelled": float(labels[g, block.line.position])}
        row["shown"] = bool(cells.p_adjusted[i] <= alpha)
        row["finding"] = own.get((*same_line(block), int(g)), False)
        if row["shown"] and not row["finding"]:
            row["reason"] = "its difference from the rest is not shown"
        yield row


def _gap_rows(data: AuditData, tests: Any) -> list[dict[str, Any]]:
    """Return one row a distinct gap that was assessed; composition is no finding about a model."""
    if data.gaps.empty:
        return []
    counted = {
        (t.axis.data.task, t.axis.data.by, t.metric.name, t.position)
        for families in tests.values()
        for family in families
        for t in family.gaps.tests
    }
    classes = {axis.task: axis.rows.classes for axis in data.axes}
    faces = _faces(data.metrics)
    rows = []
    for gap in data.gaps.to_dict("records"):
        position = list(classes[gap["task"]]).index(gap["class"]) if gap["class"] else 0
        tested = (gap["task"], gap["by"], gap["metric"], position) in counted or "ages" in gap["family"]
        if gap["verdict"] == NOT_ASSESSED or not tested or gap["family"].endswith(DATA):
            continue
        key = (gap["task"], gap["by"], gap["metric"], gap["class"])
        ends = [faces.get((*key, gap[end]), (np.nan, np.nan)) for end in ("worst", "best")]
        row: dict[str, Any] = {name: gap[name] for name in ("task", "by", "metric", "class", "family", "reason")}
        row |= {"kind": "gap", "subgroup": gap["worst"], "other": gap["best"], "difference": gap["difference"]}
        row |= {"value": ends[0][0], "other_value": ends[1][0], "n": ends[0][1], "n_other": ends[1][1]}
        row |= {"low": gap["difference_low"], "high": gap["difference_high"], "family_size": gap["family_size"]}
        row |= {name: gap[name] for name in ("p_value", "p_adjusted")}
        row |= {"detectable": gap["detectable_gap"], "detectable_unadjusted": np.nan, "expected": gap["expected_gap"]}
        row |= {"finding": gap["verdict"] == GAP, "shown": gap["verdict"] == GAP}
        if gap["metric"] in FOLLOWS_LABELS:
            same = (gap["task"], gap["by"], "base_rate", gap["class"])
            for name, end in (("labelled", "worst"), ("other_labelled", "best")):
                row[name] = faces.get((*same, gap[end]), (np.nan,))[0]
        rows.append(row)
    return rows


def _beyond_margins(gaps: list[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the gaps; one between intersections is a finding only where one of its ends is beyond its margins."""
    cells = [row for row in others if row["kind"] == "interaction"]
    tested = {(row["task"], row["by"], row["metric"], row["class"]) for row in cells}
    beyond = {(row["task"], row["by"], row["metric"], row["class"], row["subgroup"]) for row in cells if row["finding"]}
    for row in gaps:
        line = (row["task"], row["by"], row["metric"], row["class"])
        own = any((*line, row[end]) in beyond for end in ("subgroup", "other"))
        if len(parse(row["by"])) > 1 and row["finding"] and not own:
            row["finding"] = False
            row["reason"] = "; ".join(filter(None, [row["reason"], AS_PREDICTED if line in tested else UNTESTED]))
    return gaps


def _faces(metrics: pd.DataFrame) -> dict[tuple[str, ...], tuple[float, float]]:
    names = ("task", "by", "metric", "class", "subgroup", "value", "denominator")
    return {(*key,): (v, n) for *key, v, n in zip(*(metrics[name].tolist() for name in names), strict=True)}


def _start(block: Contrasts, kind: str, subgroup: str, other: str, family: str, size: int) -> dict[str, Any]:
    data, metric = block.axis.data, block.line.metric
    plural = {"rest": "group against the rest", "pair": "pairs", "interaction": "intersections"}[kind]
    return {
        "task": data.task,
        "by": data.by,
        "kind": kind,
        "subgroup": subgroup,
        "other": other,
        "metric": metric.name,
        "class": data.rows.classes[block.line.position] if metric.per_class else "",
        "family": f"{data.task}: {plural}, {family}",
        "family_size": size,
        "expected": np.nan,
        "shown": False,
        "reason": "",
    }


def _row(
    judged: Judged, i: int, kind: str, subgroup: str, other: str, side: dict[str, float], family: FamilyTests
) -> dict[str, Any]:
    row = _start(judged.contrasts, kind, subgroup, other, family.family, family.sizes[kind])
    return {**row, **side, "p_value": float(judged.p_value[i]), "p_adjusted": float(judged.p_adjusted[i])}


def _decided(row: dict[str, Any], judged: Judged, i: int, audit: AuditSpec, beyond: bool | None) -> dict[str, Any]:
    """Say whether a contrast is a finding: adjusted p, an interval on the same side, and more than margins predict."""
    alpha = 1 - audit.confidence
    sure = bool(judged.p_adjusted[i] <= alpha)
    sign = judged.sign[i]
    aside = bool((row["low"] > 0 and sign > 0) or (row["high"] < 0 and sign < 0))
    crossed = len(parse(judged.contrasts.axis.data.by)) > 1
    row["shown"] = sure and aside
    row["finding"] = row["shown"] and (not crossed or bool(beyond))
    reasons = [judged.closed[i]]
    if sure and not aside:
        reasons.append(BY_MIX)
    if row["shown"] and not row["finding"]:
        reasons.append(UNTESTED if beyond is None else AS_PREDICTED)
    row["reason"] = "; ".join(filter(None, reasons))
    return row


def _sides(
    axis: ComparedAxis,
    line: Linear,
    first: np.ndarray,
    second: np.ndarray,
    data: AuditData,
    *,
    plain_rest: bool = False,
) -> dict[str, np.ndarray]:
    """Return value, other_value, difference, low, high, n and n_other of pools (m, G) against pools (m, G).

    Of how often a class is predicted also how often the same faces are labelled so: labelled and other_labelled.
    """
    m, z, p = len(first), z_value(data.audit.confidence), line.position
    sample, metric = axis.data.sample, line.metric
    pools = np.concatenate([first, second])
    if line.counted or line.averaged:
        if line.counted:
            estimate = share(sample, pools, metric)
        else:
            labelled = pools @ sample.counts[..., : axis.data.rows.table.classes].sum(-1).reshape(len(pools[0]), -1) > 0
            both = np.tile((labelled[:m] & labelled[m:]).astype(float), (2, 1))
            estimate = mean_recall(sample, pools, metric, both, axis.pooled.mix)
        low, high = estimate.limits(z)
        value, low, high, n = (part[:, p] for part in (estimate.value, low, high, estimate.denominator))
    else:
        value, low, high, n = _mean_limits(axis, line, pools, z)
    down, up = mover_difference((value[:m], low[:m], high[:m]), (value[m:], low[m:], high[m:]))
    found = {"value": value[:m], "other_value": value[m:], "difference": value[:m] - value[m:], "low": down, "high": up}
    found |= {"n": n[:m], "n_other": n[m:]}
    if metric.name in FOLLOWS_LABELS and axis.data.rows.labelled:
        labelled = share(sample, pools, METRICS["base_rate"]).value[:, p]
        found |= {"labelled": labelled[:m], "other_labelled": labelled[m:]}
    if plain_rest and not (line.counted or line.averaged):
        found |= _as_in_rest(axis, line, first, found, data.rest)
    return {name: np.asarray(part, dtype=float) for name, part in found.items()}


def _mean_limits(axis: ComparedAxis, line: Linear, pools: np.ndarray, z: float) -> tuple[np.ndarray, ...]:
    """Return mean, normal limits and faces of a score that is no share."""
    size = axis.pooled.size
    sums = sums_of(line, axis.data.sample.sums.reshape(size, -1).astype(float)).pools(pools)
    faces = sums_of(line, axis.data.sample.counts.reshape(size, -1).astype(float)).pools(pools).n.sum(0)
    value = value_of(line, sums)
    n = np.maximum(faces * efficiency(axis, line.metric)[line.position], 1e-9)
    spread = np.maximum(sums.q.sum(0) / np.maximum(sums.n.sum(0), 1e-9) - value**2, 0) * n / np.maximum(n - 1, 1e-9)
    half = z * np.sqrt(spread / n)
    return value, value - half, value + half, faces


def _as_in_rest(
    axis: ComparedAxis, line: Linear, first: np.ndarray, found: dict[str, np.ndarray], rest: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Return the limits that rest.csv gives for the same differences, where it has them."""
    if rest.empty:
        return {}
    mine = rest[(rest["task"] == axis.data.task) & (rest["by"] == axis.data.by) & (rest["metric"] == line.metric.name)]
    rows = {name: (low, high) for name, low, high in zip(mine["subgroup"], mine["low"], mine["high"], strict=True)}
    names = [axis.data.sample.groups[int(g)] for g in first.argmax(1)]
    limits = np.array([rows.get(name, (np.nan, np.nan)) for name in names])
    limits = np.where(np.isnan(limits), np.column_stack([found["low"], found["high"]]), limits)
    return {"low": limits[:, 0], "high": limits[:, 1]}


def _with_reach(rows: list[dict[str, Any]], sizes: list[Sizes], alpha: float) -> list[dict[str, Any]]:
    """Add to each row what would have been found at its family's level and at that of one test, in order of `sizes`."""
    levels = [rows[i]["level"] for i in np.cumsum([0, *(len(one.rate) for one in sizes)])[:-1]]
    for name, alphas in (("detectable", levels), ("detectable_unadjusted", [alpha] * len(sizes))):
        found = reaches(sizes, alphas)
        for row, value in zip(rows, np.concatenate(found) if found else (), strict=True):
            row[name] = float(value)
    return rows


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of findings.csv in the order in which they are read: findings first, and what is surest.

    How often a class is predicted (selection rate) stands after what is measured against the labels: of a classifier it
    follows the labels that the groups hold. Within each, the adjusted p, those below .001 alike (how small one gets
    depends on the number of draws and on the test), then how many half-widths of its interval the difference lies
    from 0. What has no p or no interval comes last.
    """
    apart = table["difference"].to_numpy(dtype=float)
    low, high = (table[side].to_numpy(dtype=float) for side in ("low", "high"))
    half = np.where(apart > 0, apart - low, high - apart)  # the side that faces 0
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = np.where(apart == 0, 0.0, np.abs(apart) / half)
    order = pd.DataFrame(
        {
            "finding": ~table["finding"].to_numpy(dtype=bool),
            "follows": table["metric"].isin(FOLLOWS_LABELS).to_numpy(),
            "p": np.maximum(table["p_adjusted"].to_numpy(dtype=float), LEAST_P),
            "strength": -strength,
        }
    )
    order = order.sort_values(["finding", "follows", "p", "strength"], kind="stable", na_position="last")
    return table.iloc[order.index].reset_index(drop=True)
