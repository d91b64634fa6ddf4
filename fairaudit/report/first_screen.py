"""The first screen: what is shown, surest first; who is worst off; what became of declared limits; what stays open."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.findings import FOLLOWS_LABELS, ranked
from fairaudit.report.context import Context, Gap
from fairaudit.report.plain_text import markdown
from fairaudit.report.verdict import Verdict, established, headline_gap, summary, verdicts
from fairaudit.report.words import (
    axis_label,
    count,
    counted,
    difference,
    figure,
    is_number,
    listing,
    metric_label,
    metric_words,
    sentence_case,
)
from fairaudit.subgroups import UNKNOWN, parse
from fairaudit.wording import plural

MOST = 5  # findings and policies that the first screen lists
_SEVERITY = ("fail", "contradicted", "inconclusive", "not assessed", "pass", "supported")
_MARKS = {"fail": "▲", "contradicted": "▲", "pass": "✓", "supported": "✓"}


def first_screen(context: Context) -> dict[str, Any]:
    """Return what the first section prints; each list is short, and says where the whole of it stands."""
    judged = verdicts(context)
    policies = _policies(context)
    return {
        "lines": summary(judged),
        "findings": leading(context),
        "worst": [line for task in context.tasks for line in _worst(context, task)],
        "policies": policies[:MOST],
        "more_policies": max(len(policies) - MOST, 0),
        "open": _open(context, judged),
        "marks": _MARKS,
    }


def leading(context: Context, most: int = MOST) -> list[str]:
    """Return one sentence a head, axis and subgroup: the surest of its findings, over all heads, surest first.

    A subgroup of which only how often a class is predicted differs stands after those where agreement with labels does.
    """
    table = context.result.table("findings")
    if table.empty:
        found = [v for v in verdicts(context) if v.state == "found"]
        return [f"{sentence_case(v.task)} by {axis_label(v.by)}: {v.sentence}" for v in found[:most]]
    table = ranked(table[table["finding"].astype(bool)])
    chosen: dict[tuple[str, ...], str] = {}
    follows = table["metric"].isin(FOLLOWS_LABELS)
    for part in (table[~follows], table[follows]):
        first = next((kind for kind in ("rest", "interaction", "gap", "pair") if (part["kind"] == kind).any()), "")
        for row in part[part["kind"] == first].to_dict("records"):
            group = str(row["subgroup"] or row["other"])
            chosen.setdefault((row["task"], row["by"], group), sentence_case(str(row["sentence"])))
    return list(chosen.values())[:most]


def leading_lines(context: Context, most: int = MOST) -> list[str]:
    """Return these sentences as a list in Markdown, with how many findings there are in all; [] where there is none."""
    told = [f"- {markdown(text)}" for text in leading(context, most)]
    table = context.result.table("findings")
    total = int(table["finding"].astype(bool).sum())
    of = f", of {plural(total, 'finding')} in findings.csv" if total else ""
    return ["", f"Shown, surest first, one line a subgroup{of}:", "", *told] if told else []


def _worst(context: Context, task: str) -> list[dict[str, Any]]:
    """Return the lowest subgroup of a head on its single axes, and on its intersections, and whether that is shown."""
    lines = []
    for words, crossed in (("single axis", False), ("intersection", True)):
        ends = [
            (by, gap)
            for by in context.axes
            if (len(parse(by)) > 1) == crossed
            and (gap := headline_gap(context.gaps.get((task, by), ()))) is not None
            and gap.worst
            and is_number(context.cell(task, by, gap.worst, gap.metric, gap.class_).value)
        ]
        if ends:
            by, gap = min(ends, key=lambda end: _goodness(context, task, *end))
            lines.append(_worst_line(context, task, by, gap, words))
    return lines


def _goodness(context: Context, task: str, by: str, gap: Gap) -> float:
    value = context.cell(task, by, gap.worst, gap.metric, gap.class_).value
    return -value if metric_words(gap.metric).better == "low" else value


def _worst_line(context: Context, task: str, by: str, gap: Gap, words: str) -> dict[str, Any]:
    cell = context.cell(task, by, gap.worst, gap.metric, gap.class_)
    kind = metric_words(gap.metric).kind
    shown = figure(cell.value, cell.low, cell.high, kind)
    apart = difference(gap.difference, gap.low, gap.high, kind, signed=False)
    return {
        "task": sentence_case(task),
        "words": words,
        "group": gap.worst,
        "href": f"groups/{context.slugs[by, gap.worst]}.html",
        "text": f"{metric_label(gap.metric, gap.class_)} {shown}, n\u00a0=\u00a0{count(cell.n)}",
        "reading": f"gap to {gap.best} {apart}" if established(gap) else "lowest, but no gap beyond noise",
        "shown": established(gap),
    }


def _policies(context: Context) -> list[dict[str, str]]:
    records: list[Mapping[Any, Any]] = [
        row for name in ("policies", "hypotheses") for row in context.result.table(name).to_dict("records")
    ]
    order = {verdict: place for place, verdict in enumerate(_SEVERITY)}
    records.sort(key=lambda row: order.get(str(row["verdict"]), len(order)))
    return [{"name": str(r["policy"]), "task": str(r["task"]), "verdict": str(r["verdict"])} for r in records]


def _open(context: Context, judged: Sequence[Verdict]) -> list[str]:
    """Return what may not be concluded from this audit, from the particular to the general."""
    lines = []
    opened = [v for v in judged if v.state == "open"]
    largest = [
        (gap.high, v)
        for v in opened
        if (gap := headline_gap(context.gaps.get((v.task, v.by), ()))) is not None
        and is_number(gap.high)
        and metric_words(gap.metric).kind == "percent"
    ]
    if largest:
        high, v = max(largest, key=lambda pair: pair[0])
        lines.append(
            f"That groups are treated alike: where no gap is shown ({plural(len(opened), 'comparison')}), one of up to "
            f"{difference(high, signed=False)} is not ruled out ({v.task} by {axis_label(v.by)})."
        )
    lines += _not_assessed(context)
    lines.append("Why a gap exists, and whether it holds for other faces, cameras, thresholds or labels.")
    source = context.result.meta.get("label_source")
    lines.append(
        "Whether a prediction is true: every figure is agreement with labels"
        + ("." if source else ", and who made the labels is not known.")
    )
    return lines


def _not_assessed(context: Context) -> list[str]:
    meta = context.result.meta
    sizes, least = meta.get("subgroups", {}), meta.get("min_group_size") or 0
    # a hidden size is not a number, and small
    small = {by: sum(not n >= least for g, n in groups.items() if g != UNKNOWN) for by, groups in sizes.items()}
    named = [f"{n} of {len(context.axes.get(by, ()))} by {axis_label(by)}" for by, n in small.items() if n]
    lines = [f"Anything about groups of fewer than {counted(least, 'face')}: {listing(named, 3)}."] if named else []
    unknown = [f"{count(groups[UNKNOWN])} by {axis_label(by)}" for by, groups in sizes.items() if groups.get(UNKNOWN)]
    if unknown:
        lines.append(f"Anything about faces without a label of the group: {listing(unknown, 3)}.")
    return lines
