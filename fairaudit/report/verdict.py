"""What an audit may say in plain words: a gap is a finding only where it is beyond noise among all of its family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fairaudit.findings import FOLLOWS_LABELS
from fairaudit.report.context import Context, Gap
from fairaudit.report.words import (
    axis_label,
    count,
    counted,
    difference,
    figure,
    interval,
    is_number,
    listing,
    metric_label,
    metric_words,
    p_words,
    sentence_case,
    unit,
)
from fairaudit.subgroups import UNKNOWN, parse
from fairaudit.wording import plural

State = Literal["found", "open", "none"]
# The first of these that the audit has for a head and axis is what the first page speaks about.
HEADLINES = ("accuracy", "recall_by_labelled_class", "recall")

OTHER_MEASURES = "Other measures differ between groups:"
ONLY_PREDICTED = "How often a class is predicted differs between groups, which follows the labels that they hold:"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be said of one head on one axis.

    state: "found" (the gap, or a subgroup's difference from the rest, is beyond noise in its family), "open" (neither
    difference nor equality is shown) or "none" (not assessed). `detail` says which groups differ from everyone else;
    `missing` names who is not assessed.
    """

    task: str
    by: str
    state: State
    headline: str
    sentence: str
    detail: str = ""
    missing: str = ""


def established(gap: Gap) -> bool:
    """Tell whether a gap is more than noise explains: by the audit's verdict, and its interval lies above zero."""
    above = is_number(gap.difference) and is_number(gap.low) and gap.low > 0
    return above and gap.verdict in ("gap", "")  # an audit made before there were verdicts has none


def verdicts(context: Context) -> list[Verdict]:
    """Return one verdict for each head and axis, heads and axes in the audit's order."""
    return [verdict(context, task, by) for task in context.tasks for by in context.axes]


def verdict(context: Context, task: str, by: str) -> Verdict:
    """Judge one head on one axis by its headline gap."""
    gap = headline_gap(context.gaps.get((task, by), ()))
    missing = _missing(context, task, by, gap)
    if gap is None or not is_number(gap.difference):
        reason = (gap.reason if gap else "") or _why_none(context, task, by)
        return Verdict(
            task=task,
            by=by,
            state="none",
            headline="not assessed",
            sentence=sentence_case(reason) + ".",
            missing=missing,
        )
    if not established(gap):
        if (single := _single(context, task, by, gap)) is not None:
            headline, sentence = single
            return Verdict(task=task, by=by, state="found", headline=headline, sentence=sentence, missing=missing)
        headline, sentence = _open(gap)
        other = _other_measures(context, task, by)
        return Verdict(
            task=task, by=by, state="open", headline=headline, sentence=sentence, detail=other, missing=missing
        )
    headline, sentence = _found(context, task, by, gap)
    sentence += _by_mix(context, task, by, gap) + _by_margins(context, task, by, gap)
    detail = _differing(context, task, by, gap)
    return Verdict(
        task=task, by=by, state="found", headline=headline, sentence=sentence, detail=detail, missing=missing
    )


def _single(context: Context, task: str, by: str, gap: Gap) -> tuple[str, str] | None:
    """Return what is said where no gap between the extremes is shown, but one subgroup's difference is."""
    rows = (context.shown_contrasts or {}).get((task, by), ())
    mine = [row for row in rows if (row["metric"], row["class"]) == (gap.metric, gap.class_)]
    mine.sort(key=lambda row: (row["kind"] != "rest", row["p_adjusted"]))
    if not mine:
        return None
    text = str(mine[0]["sentence"]).split(": ", 1)[-1]
    kind = metric_words(gap.metric).kind
    between = (
        f"Between the worst-off and the best-off, {difference(gap.difference, gap.low, gap.high, kind, signed=False)}"
    )
    return "a group differs", f"{sentence_case(text)} {between}, no gap is shown: the sizes are too unequal."


def _other_measures(context: Context, task: str, by: str) -> str:
    """Name the measures beside the headline in which a finding was made on this axis."""
    rows = (context.shown_contrasts or {}).get((task, by), ())
    found = [(str(row["metric"]), str(row["class"])) for row in rows if row["finding"]]
    found += [(gap.metric, gap.class_) for gap in further(context, task, by)]
    found.sort(key=lambda one: one[0] in FOLLOWS_LABELS)
    listed = listing([metric_label(*one) for one in dict.fromkeys(found)], 3)
    said = ONLY_PREDICTED if all(metric in FOLLOWS_LABELS for metric, _ in found) else OTHER_MEASURES
    return f"{said} {listed}; see Findings." if found else ""


def _by_mix(context: Context, task: str, by: str, gap: Gap) -> str:
    """Say so where accuracies differ, but not at one and the same label mix."""
    same = [g for g in context.gaps.get((task, by), ()) if g.metric == "accuracy_standardized"]
    if gap.metric != "accuracy" or not same or not is_number(same[0].difference) or established(same[0]):
        return ""
    size = difference(same[0].difference, same[0].low, same[0].high, signed=False)
    return f" At the label mix of all faces no gap is shown ({size}): the labels that the groups hold may explain it."


def _by_margins(context: Context, task: str, by: str, gap: Gap) -> str:
    """Say so where a gap between intersections is no finding of its own: its attributes alone may make it."""
    rows = context.result.table("findings")
    if len(parse(by)) < 2 or rows.empty:
        return ""
    line = (rows["task"] == task) & (rows["by"] == by) & (rows["metric"] == gap.metric) & (rows["class"] == gap.class_)
    own = rows.loc[line & (rows["kind"] == "gap"), "finding"].astype(bool)
    return "" if own.any() else " A gap beyond what each attribute alone predicts is not shown."


def headline_gap(gaps: Sequence[Gap]) -> Gap | None:
    """Return the gap a verdict speaks about: accuracy; where it has none, the recall that is surest to differ."""
    for metric in HEADLINES:
        defined = [gap for gap in gaps if gap.metric == metric and is_number(gap.difference)]
        if defined:
            return max(defined, key=lambda gap: (gap.low if is_number(gap.low) else -1.0, gap.difference))
    return next((gap for gap in gaps if gap.metric in HEADLINES), None)


def further(context: Context, task: str, by: str) -> list[Gap]:
    """Return the established gaps beside the headline, largest lower bound first.

    Complements are left out, and how often a class is labelled, which is no figure of the model. How often one is
    predicted stands last: it follows those labels.
    """
    gaps = context.gaps.get((task, by), ())
    headline = headline_gap(gaps)
    out = ("fnr", "tnr", "fdr", "base_rate")
    rest = [gap for gap in gaps if established(gap) and gap != headline and gap.metric not in out]
    return sorted(rest, key=lambda gap: (gap.metric in FOLLOWS_LABELS, -gap.low))


def summary(judged: Sequence[Verdict]) -> list[str]:
    """Return the sentences that stand first on the page: how many gaps are shown, and what cannot be concluded."""
    found, opened, none = ([v for v in judged if v.state == state] for state in ("found", "open", "none"))
    compared = len(found) + len(opened)
    single = [v for v in found if len(parse(v.by)) == 1]
    named = [_name(v) for v in single or found]
    more = f", and on {plural(len(found) - len(named), 'intersection')}" if len(found) > len(named) else ""
    if found:
        first = f"The model is not equally accurate for all groups: a gap beyond noise in {listing(named)}{more}."
    elif any(v.detail.startswith(OTHER_MEASURES) for v in opened):
        first = "No gap in accuracy is beyond noise, but other measures differ between groups: see Findings."
    elif any(v.detail.startswith(ONLY_PREDICTED) for v in opened):
        first = (
            "No gap in accuracy or another measure of agreement with the labels is beyond noise; only how often "
            "classes are predicted differs between groups, which follows the labels that they hold: see Findings."
        )
    elif compared:
        first = "No gap beyond noise is shown. That is not proof that the model treats all groups equally."
    else:
        first = "Nothing could be assessed: no head has a gap in accuracy or recall with an interval on any axis."
    if not compared:
        return [first]
    counts = (
        f"{plural(compared, 'comparison')} of a head on an axis: {len(found)} with a gap shown, {len(opened)} without"
    )
    return [first, counts + (f"; {len(none)} not assessed." if none else ".")]


def _name(judged: Verdict) -> str:
    if judged.task == judged.by:
        return f"recall of the {judged.task} labels"
    return f"{judged.task} by {axis_label(judged.by)}"


def _found(context: Context, task: str, by: str, gap: Gap) -> tuple[str, str]:
    kind = metric_words(gap.metric).kind
    name = sentence_case(metric_label(gap.metric, gap.class_))
    size = difference(gap.difference, gap.low, gap.high, kind, signed=False)
    worst, best = (_group_figure(context, task, by, group, gap) for group in (gap.worst, gap.best))
    sentence = f"{name} differs between groups. Worst: {worst}; best: {best}. Gap {size}."
    if (task, by) in context.degenerate:
        sentence += " The groups are split by this head’s own label: it says which labels are recognised less well."
    return f"gap of {difference(gap.difference, kind=kind, signed=False)}", sentence


def _group_figure(context: Context, task: str, by: str, group: str, gap: Gap) -> str:
    cell = context.cell(task, by, group, gap.metric, gap.class_)
    kind = metric_words(gap.metric).kind
    bounds = interval(cell.low, cell.high, kind)
    inside = ", ".join(part for part in (bounds, f"n\u00a0=\u00a0{count(cell.n)}") if part)
    return f"faces labelled {group} {figure(cell.value, kind=kind)} ({inside})"


def _why_none(context: Context, task: str, by: str) -> str:
    if not any(metric in HEADLINES for metric in context.shown(task, by)):
        return f"the predictions have no labels of {task}: only how often each class is predicted can be compared"
    return context.degenerate.get((task, by), "") or "no gap was computed"


def _open(gap: Gap) -> tuple[str, str]:
    kind = metric_words(gap.metric).kind
    name = metric_label(gap.metric, gap.class_)
    size = difference(gap.difference, kind=kind, signed=False)
    if not is_number(gap.high):
        return "no interval", f"The gap in {name} is {size}, but it has no interval, so it is no finding."
    bounds = interval(gap.low, gap.high, kind) + unit(kind, difference=True)
    noise = (
        f"; {difference(gap.expected, kind=kind, signed=False)} expected by noise alone"
        if is_number(gap.expected)
        else ""
    )
    if gap.low > 0:
        return (
            "no difference shown",
            f"The largest gap in {name}, {size} ({bounds}{noise}), would be one by itself, but is not beyond noise "
            f"among the {count(gap.family_size)} gaps judged together (adjusted p {p_words(gap.p_adjusted)}).",
        )
    limit = difference(gap.high, kind=kind, signed=False)
    return (
        "no difference shown",
        f"The largest gap in {name}, {size}, is compatible with no difference ({bounds}{noise}); "
        f"nor is a gap of up to {limit} excluded.",
    )


def _differing(context: Context, task: str, by: str, gap: Gap) -> str:
    """Name the groups that differ from everyone else on the bad side beyond noise; the worst first."""
    words = metric_words(gap.metric)
    sign = -1.0 if words.better == "low" else 1.0
    named = []
    if context.shown_contrasts is not None:
        for row in context.shown_contrasts.get((task, by), ()):
            same = (row["metric"], row["class"]) == (gap.metric, gap.class_) and row["kind"] == "rest"
            if same and sign * row["difference"] < 0:
                size = difference(row["difference"], row["low"], row["high"], words.kind)
                named.append((sign * row["difference"], f"{row['subgroup']} {size}"))
        named.sort()
        texts = listing([text for _, text in named], 4)
        return f"Worse than the rest, adjusted for all groups and measures of the head: {texts}." if named else ""
    for group in context.axes[by]:
        against = context.against.get((task, by, group), {}).get((gap.metric, gap.class_))
        cell = context.cell(task, by, group, gap.metric, gap.class_)
        if against is None or cell.small or group == UNKNOWN or not is_number(against.difference):
            continue
        bad_side = against.high if sign > 0 else against.low
        if is_number(bad_side) and sign * bad_side < 0:
            size = difference(against.difference, against.low, against.high, words.kind)
            named.append((sign * against.difference, f"{group} {size}"))
    named.sort()
    return f"Worse than everyone else, each compared alone: {listing([text for _, text in named], 4)}." if named else ""


def _missing(context: Context, task: str, by: str, gap: Gap | None) -> str:
    metric, class_ = (gap.metric, gap.class_) if gap else ("accuracy", "")
    small, unknown = [], ""
    for group in context.axes[by]:
        cell = context.cell(task, by, group, metric, class_)
        if group == UNKNOWN:
            unknown = "" if not cell.n else f"{counted(cell.n, 'face')} without a label on this axis"
        elif cell.small:
            small.append(f"{group} (n\u00a0=\u00a0{count(cell.n)})")
    least = context.result.meta.get("min_group_size")
    parts = [f"{listing(small, 5)}, fewer than {counted(least, 'face')}"] if small else []
    parts += [unknown] if unknown else []
    return f"Not assessed: {'; '.join(parts)}." if parts else ""
