"""The first screen of a comparison: did the gap close, by how much, how sure is that, and at whose cost?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fairaudit.comparison_summary import harm_sentence
from fairaudit.data.tables import Predictions
from fairaudit.metrics import harm
from fairaudit.report.context import in_order
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.verdict import HEADLINES
from fairaudit.report.words import (
    DASH,
    axis_label,
    counted,
    difference,
    figure,
    is_number,
    listing,
    metric_label,
    metric_words,
    sentence_case,
    unbroken,
)
from fairaudit.results import AuditResult, Comparison
from fairaudit.subgroups import OVERALL, UNKNOWN, parse
from fairaudit.wording import plural

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ComparisonContext:
    """A comparison as its report reads it: rows of deltas and of gap changes by (model, task, axis)."""

    comparison: Comparison
    results: Mapping[str, AuditResult] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    tables: Mapping[str, Predictions] = field(default_factory=dict)
    models: Sequence[str]
    tasks: Sequence[str]
    axes: Sequence[str]
    deltas: Mapping[tuple[str, str, str], list[Record]]
    gaps: Mapping[tuple[str, str, str], list[Record]]


def make_comparison_context(
    comparison: Comparison,
    *,
    results: Mapping[str, AuditResult] | None = None,
    links: Mapping[str, str] | None = None,
    histories: Mapping[str, pd.DataFrame] | None = None,
    tables: Mapping[str, Predictions] | None = None,
) -> ComparisonContext:
    """Index the comparison's tables once; models, tasks and axes stand in the order of its rows."""
    deltas = comparison.deltas
    return ComparisonContext(
        comparison=comparison,
        results=dict(results or {}),
        links=dict(links or {}),
        histories=dict(histories or {}),
        tables=dict(tables or {}),
        models=in_order(deltas["model"]),
        tasks=in_order(deltas["task"]),
        axes=[by for by in in_order(deltas["by"]) if by != OVERALL],
        deltas=_indexed(deltas),
        gaps=_indexed(comparison.gap_changes),
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happened to the headline gap of one head on one axis; `pair` speaks of the two groups named beforehand."""

    task: str
    by: str
    crossed: bool
    state: str
    word: str
    text: str
    pair: str
    pair_state: str
    costs: str
    harm: str
    verdicts: frozenset[str]
    levelling: bool
    metric: str

    @property
    def safe(self) -> bool:
        """Whether a loss of the margin is excluded in every subgroup."""
        return self.verdicts == {harm.NOT_HARMED}

    @property
    def size(self) -> str:
        """The change of the gap with its interval, after a colon; "" where it is not assessed."""
        return f": {self.text.split('; change ')[-1].removesuffix('.')}" if self.state != "none" else ""


def answer_section(context: ComparisonContext) -> Section:
    """Answer in one sentence, then axis by axis; the comparison's own sentences stand below, whole."""
    summary = context.comparison.meta.get("summary", {})
    models = []
    for model in context.models:
        heads: list[dict[str, Any]] = [
            {
                "title": sentence_case(task),
                "cost": _all_faces(context, model, task),
                "changes": [c for by in context.axes if (c := _change(context, model, task, by)) is not None],
            }
            for task in context.tasks
        ]
        flatters = context.comparison.meta.get("named_on") != "validation"
        changes = [change for head in heads for change in head["changes"]]
        lead, harm_open = _lead(model, flatters, changes), _open_harm(changes)
        own = {"lead": lead, "harm_open": harm_open, "heads": heads, "sentences": list(summary.get(model, ()))}
        models.append({"model": model, **own})
    data = {"models": models, "axis_label": axis_label, "glance": _glance(context, models)}
    return Section(key="answer", title="Did the gap close?", template="sections/answer.html", data=data)


def _glance(context: ComparisonContext, models: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return, of several models, one table a head: a row a model, its change over all faces and on each single axis."""
    if len(models) < 2:
        return []
    tables = []
    for place, task in enumerate(context.tasks):
        by_model = [(m["model"], [c for c in m["heads"][place]["changes"] if not c.crossed]) for m in models]
        axes = list(dict.fromkeys(c.by for _, changes in by_model for c in changes))
        rows = []
        for model, changes in by_model:
            of = {change.by: change for change in changes}
            entries = [Entry(_whole_change(context, model, task), css="num")]
            for by in axes:
                change = of.get(by)
                entries.append(Entry(unbroken(change.word + change.size) if change else DASH, css=_tone(change)))
            entries.append(Entry(_who_lost(context, model, task, axes), css="t"))
            rows.append(Row(model, entries))
        columns = ["accuracy, all faces", *(f"gap by {axis_label(by)}" for by in axes), "harm"]
        n = counted(context.comparison.meta.get("n_paired"), "face")
        caption = f"{sentence_case(task)}: each model against {context.comparison.meta.get('baseline', 'the baseline')}"
        tables.append(Table(caption=f"{caption}, on {n}, with intervals", first="model", columns=columns, rows=rows))
    return tables


def _tone(change: Change | None) -> str:
    return "found" if change is not None and change.state == "larger" else "t"


def _whole_change(context: ComparisonContext, model: str, task: str) -> str:
    records = context.deltas.get((model, task, OVERALL), [])
    row = next((r for r in records if r["metric"] == "accuracy"), None)
    return DASH if row is None else difference(row["delta"], row["low"], row["high"])


def _who_lost(context: ComparisonContext, model: str, task: str, axes: Sequence[str]) -> str:
    """Say in a few words who is harmed on the single axes, or for whom that is not excluded."""
    table = context.comparison.non_inferiority
    rows = table[(table["model"] == model) & (table["task"] == task) & table["by"].isin(axes)]
    if rows.empty:
        return DASH
    harmed = [str(name) for name in rows.loc[rows["verdict"] == harm.HARMED, "subgroup"]]
    still = [str(name) for name in rows.loc[rows["verdict"] == harm.OPEN, "subgroup"]]
    parts = [f"harmed: {listing(harmed, 3)}"] if harmed else []
    parts += [f"not excluded: {listing(still, 3)}"] if still else []
    return "; ".join(parts) or f"excluded in {plural(len(rows), 'subgroup', 'subgroups, all of them')}"


def gap_change_state(record: Record) -> str:
    """Return "smaller", "larger", "open" (interval includes zero) or "none" (undefined) for a change of a gap."""
    low, high = record["low"], record["high"]
    if not is_number(record["delta"]) or not (is_number(low) and is_number(high)):
        return "none"
    return "smaller" if high < 0 else "larger" if low > 0 else "open"


def pair_change_state(record: Record) -> str:
    """Return `gap_change_state` of the named pair: by how far apart the two groups are, whichever of them is ahead."""
    changed = gap_change_state({name: record[f"pair_{name}"] for name in ("delta", "low", "high")})
    if changed in ("open", "none"):
        return changed
    return "smaller" if abs(record["pair_mitigated"]) < abs(record["pair_baseline"]) else "larger"


def _lead(model: str, flatters: bool, changes: Sequence[Change]) -> list[str]:
    """Return the answer: which gaps of single axes fell or grew beyond noise, and who was harmed."""
    single = [change for change in changes if not change.crossed and change.state != "none"]
    # harm is said wherever it is shown: also on intersections, and where the gap itself could not be compared
    harmed = [change.harm for change in changes if harm.HARMED in change.verdicts]
    if not single:
        return [f"{model}: no gap on a single axis could be compared.", *harmed]
    fell, grew = ([_name(c) for c in single if c.state == state] for state in ("smaller", "larger"))
    still = len(single) - len(fell) - len(grew)
    parts = [f"the gap fell in {listing(fell)}" if fell else "", f"it grew in {listing(grew)}" if grew else ""]
    looked_at = " in accuracy or recall" if all(change.metric in HEADLINES for change in single) else ""
    nothing = f"no gap{looked_at} on a single axis is shown to have changed"
    said = " and ".join(part for part in parts if part) or nothing
    first = f"{model}: {said}"
    first += f"; in {plural(still, 'other')} no change is shown." if still and (fell or grew) else "."
    lines = [first]
    closer, wider = (
        [f"{_name(c)} ({c.pair.removesuffix('.')})" for c in single if c.pair_state == state]
        for state in ("smaller", "larger")
    )
    if closer or wider:
        ways = [f"{word} in {listing(of, 3)}" for word, of in (("fell", closer), ("grew", wider)) if of]
        lines.append(
            f"Between the same two groups before and after, each looked at alone, the difference {' and '.join(ways)}."
        )
        lines[-1] += " They were picked on these same faces, which flatters the change." if flatters else ""
    levelled = [_name(c) for c in single if c.levelling]
    if levelled:
        lines.append(f"Levelling down in {listing(levelled)}: the best-off lost, and those to be helped did not gain.")
    costs = [f"{_name(c)}: {c.costs}" for c in single if c.costs]
    if costs or not harmed:
        said = "; ".join(costs) or "no subgroup of a single axis is shown to have lost"
        lines.append(f"At whose cost: {said}.")
    lines.extend(harmed)
    # where nobody is harmed on several axes, that is one sentence; a harm is said with its bounds
    safe = [c for c in single if c.safe]
    if len(safe) > 1:
        lines.append(
            f"No one is harmed in {listing([_name(c) for c in safe], 12)}: a loss of the margin is excluded in every "
            "subgroup of each, all of an axis at once; the bounds stand below."
        )
    lines.extend(c.harm for c in safe if len(safe) == 1)
    return lines


def _open_harm(changes: Sequence[Change]) -> tuple[str, list[str]]:
    """Return the sentence about all single axes where harm is neither shown nor excluded, and each one's own, with
    bounds, to be folded below it; alone it needs no sentence above it. ("", []) where there is none."""
    left = [
        c
        for c in changes
        if not c.crossed and c.state != "none" and c.harm and not c.safe and harm.HARMED not in c.verdicts
    ]
    if len(left) < 2:
        return "".join(c.harm for c in left), []
    names = listing([_name(c) for c in left], 12)
    said = (
        f"Harm is neither shown nor excluded in {names}: in some subgroup of each the faces are too few to rule out a "
        "loss of the margin."
    )
    return said, [c.harm for c in left]


def _name(change: Change) -> str:
    return f"{change.task} by {axis_label(change.by)}"


def _change(context: ComparisonContext, model: str, task: str, by: str) -> Change | None:
    records = context.gaps.get((model, task, by), [])
    found = [r for metric in HEADLINES for r in records if r["metric"] == metric and is_number(r["delta"])]
    chosen = found[0] if found else next(iter(records), None)
    if chosen is None:
        return None
    state = gap_change_state(chosen)
    words = {"smaller": "gap fell", "larger": "gap grew", "open": "no change shown", "none": "not assessed"}
    return Change(
        task=task,
        by=by,
        crossed=len(parse(by)) > 1,
        state=state,
        word=words[state],
        text=_change_text(chosen) if state != "none" else chosen["reason"] or "undefined; no reason is given",
        pair=_pair_text(chosen, context.comparison.meta.get("named_on", "")),
        pair_state=pair_change_state(chosen),
        costs=_lost(context, model, task, by, chosen),
        harm=_harm(context, model, task, by),
        verdicts=_verdicts(context, model, task, by),
        levelling=bool(chosen["levelling_down"]),
        metric=chosen["metric"],
    )


def _change_text(record: Record) -> str:
    kind = metric_words(record["metric"]).kind
    before, after = (difference(record[name], kind=kind, signed=False) for name in ("baseline", "mitigated"))
    change = difference(record["delta"], record["low"], record["high"], kind)
    return f"Gap in {metric_label(record['metric'], record['class'])}: {before} → {after}; change {change}."


def _pair_text(record: Record, named_on: str) -> str:
    if not record["worst"] or not is_number(record["pair_delta"]):
        return ""
    kind = metric_words(record["metric"]).kind
    before, after = (difference(record[name], kind=kind) for name in ("pair_baseline", "pair_mitigated"))
    change = difference(record["pair_delta"], record["pair_low"], record["pair_high"], kind)
    named = "the pair named on validation faces" if named_on == "validation" else "best and worst before"
    return f"{record['best']} minus {record['worst']}, {named}: {before} → {after}; change {change}."


def _lost(context: ComparisonContext, model: str, task: str, by: str, gap: Record) -> str:
    """Name the subgroups that lost beyond chance: adjusted p below .05 and the whole interval below zero."""
    lost = []
    for record in context.deltas.get((model, task, by), []):
        same = (record["metric"], record["class"]) == (gap["metric"], gap["class"])
        sure = is_number(record["p_adjusted"]) and record["p_adjusted"] < 0.05
        if same and sure and record["delta"] < 0 and record["subgroup"] != UNKNOWN:
            kind = metric_words(record["metric"]).kind
            size = difference(record["delta"], record["low"], record["high"], kind)
            lost.append(f"{record['subgroup']} lost {size.replace('−', '', 1)}")
    return listing(lost, 4)


def _harm(context: ComparisonContext, model: str, task: str, by: str) -> str:
    """Say whether a loss of the margin is excluded in every subgroup of an axis; "" in an older comparison."""
    table = context.comparison.non_inferiority
    rows = table[(table["model"] == model) & (table["task"] == task) & (table["by"] == by)]
    return sentence_case(harm_sentence(rows)) if len(rows) else ""


def _verdicts(context: ComparisonContext, model: str, task: str, by: str) -> frozenset[str]:
    table = context.comparison.non_inferiority
    rows = table[(table["model"] == model) & (table["task"] == task) & (table["by"] == by)]
    return frozenset(map(str, rows["verdict"]))


def _all_faces(context: ComparisonContext, model: str, task: str) -> str:
    records = context.deltas.get((model, task, OVERALL), [])
    chosen = next((r for r in records if r["metric"] == "accuracy"), None)
    if chosen is None or not is_number(chosen["delta"]):
        return ""
    change = difference(chosen["delta"], chosen["low"], chosen["high"])
    return f"All faces: accuracy {figure(chosen['baseline'])} → {figure(chosen['mitigated'])}; change {change}"


def _indexed(table: pd.DataFrame) -> dict[tuple[str, str, str], list[Record]]:
    indexed: dict[tuple[str, str, str], list[Record]] = {}
    for record in table.to_dict("records"):
        indexed.setdefault((record["model"], record["task"], record["by"]), []).append(record)  # type: ignore[arg-type]
    return indexed
