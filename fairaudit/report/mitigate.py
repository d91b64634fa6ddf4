"""The page of `fairaudit mitigate`: which method helped whom, at whose cost, how sure; a table of methods a head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit.metrics import harm
from fairaudit.report.page import record_pages, write_page
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.words import DASH, count, difference, figure, interval, is_number, listing, number, sentence_case
from fairaudit.results import MethodComparison
from fairaudit.spec import Spec
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

PUBLISHED = (
    ("domain-independent heads", "1.6", "88.7"),
    ("undersampling", "2.1", "86.8"),
    ("bias mimicking", "2.4", "90.2"),
    ("upweighting (reweighing)", "2.9", "88.2"),
    ("oversampling", "6.8", "88.4"),
    ("post-processing", "15–18", "79–89"),
    ("adversarial debiasing", "23.4", "82.0"),
)
STAGES = {"none": "none", "pre": "before training", "in": "in training", "post": "after training"}
HARM = {harm.HARMED: "shown", harm.OPEN: "open", harm.NOT_HARMED: "excluded"}
METRICS = ("equalized_odds", "worst_accuracy", "named_accuracy", "accuracy")
# metric, sentence where it improves and where it worsens, sign of an improvement
HELPS = (
    ("named_accuracy", ("Its accuracy rises", "Its accuracy falls"), 1),
    ("gap", ("The accuracy gap narrows", "The accuracy gap widens"), -1),
    ("equalized_odds", ("The equalized-odds difference falls", "The equalized-odds difference rises"), -1),
    ("accuracy", ("Accuracy over all faces rises", "Accuracy over all faces falls"), 1),
)


def write_mitigate_report(
    out: Path,
    spec: Spec,
    by: str,
    found: Mapping[str, MethodComparison],
    costs: Mapping[str, Mapping[str, Mapping[str, Any]]],
    links: Mapping[str, str],
    *,
    facts: Sequence[str],
    refused: Sequence[tuple[str, str, str]],
) -> tuple[Path, list[str]]:
    """Write `out`/index.html; return it and the sentences of its first screen.

    `found` and `links` (a page each) are by head; `costs` by head and method: stage, seconds, groups_at and
    group_when_used; `refused` has rows (task, method, reason).
    """
    lines = {task: answers(one, task, by) for task, one in found.items()}
    tables = [
        made
        for task, one in found.items()
        for made in (table_of(one, task, by, list(costs[task])), cost_table(task, by, costs[task]))
    ]
    data = {"lines": lines, "tables": tables, "links": links, "facts": facts, "refused": refused}
    sections = [
        Section(key="answer", title="What helped whom, at whose cost", template="sections/mitigate.html", data=data),
        Section(
            key="published",
            title="Published evidence, from other experiments",
            template="sections/mitigate_published.html",
            data={"table": published()},
        ),
    ]
    page = write_page("run.html", out / "index.html", title=f"Mitigations: {spec.name}", question=spec.question,
                      sections=sections, links={})  # fmt: skip
    record_pages(out, ["index.html"], None)
    return page, [line for task in lines for line in lines[task]]


def answers(found: MethodComparison, task: str, by: str) -> list[str]:
    """Return what the first screen says of a head: who is recommended, who helped and harmed whom, beyond noise."""
    rows = found.recommendations
    rows = rows[(rows["by"] == by) & (rows["claim"] == "method")]
    good = [str(text) for text in rows.loc[rows["recommended"].astype(bool), "sentence"]]
    seeds = max(len(own) for own in found.meta["seeds"].values())
    lines = good or [
        f"{sentence_case(task)}: none of {plural(len(rows), 'method')} is recommended by {by}, over "
        f"{plural(seeds, 'seed')} and {count(found.meta['n'])} test faces."
    ]
    worst = _worst(found, task, by)
    methods = list(found.meta["methods"])
    if worst:
        row = effect(found, methods[0], task, by, "named_accuracy") if methods else None
        own = own_value(found, str(found.meta["baseline"]), task, by, "named_accuracy")
        was = f": {own} with plain training, n = {count(row['n'])}" if row is not None else ""
        lines.append(f"To be helped, as the validation faces say: {worst}{was}.")
    for metric, words, sign in HELPS:
        better = [_changed(row, name) for name, row in _rows(found, methods, task, by, metric) if _beyond(row, sign)]
        worse = [_changed(row, name) for name, row in _rows(found, methods, task, by, metric) if _beyond(row, -sign)]
        if better and (worst or metric != "named_accuracy"):
            lines.append(f"{words[0]} beyond noise, each looked at alone: {listing(better, 12)}.")
        if worse and (worst or metric != "named_accuracy"):
            lines.append(f"{words[1]} beyond noise, each looked at alone: {listing(worse, 12)}.")
    harmed = found.harm[(found.harm["by"] == by) & (found.harm["verdict"] == "harmed")]
    if len(harmed):
        whom = {
            str(name): [str(group) for group in own["subgroup"]] for name, own in harmed.groupby("method", sort=False)
        }
        said = listing([f"{name} ({listing(groups)})" for name, groups in whom.items()], 12)
        margin = f"{100 * found.meta['margin']:g} points"
        lines.append(f"Shown to harm (a loss beyond noise, which may reach the margin of {margin}): {said}.")
    return lines


def _rows(
    found: MethodComparison, methods: Sequence[str], task: str, by: str, metric: str
) -> list[tuple[str, Mapping[str, Any]]]:
    made = [(name, effect(found, name, task, by, metric)) for name in methods]
    return [(name, row) for name, row in made if row is not None]


def _beyond(row: Mapping[str, Any], sign: int) -> bool:
    return bool(row["low"] > 0) if sign > 0 else bool(row["high"] < 0)


def _changed(row: Mapping[str, Any], name: str) -> str:
    return f"{name} {difference(row['delta'], row['low'], row['high'])}"


def _worst(found: MethodComparison, task: str, by: str) -> str:
    return str(found.meta["named"].get(task, {}).get(by, {}).get("worst", ""))


def table_of(found: MethodComparison, task: str, by: str, methods: Sequence[str]) -> Table:
    """Return the table of all methods of a head: value, and change against the baseline with its interval."""
    rows = [method_row(found, name, task, by) for name in methods]
    worst = _worst(found, task, by)
    heads = ["equalized-odds difference", "worst subgroup", worst or "subgroup to be helped", "all faces"]
    sizes = [_size(found, task, by, metric) for metric in METRICS]
    measured = [f"{head}, n\u00a0=\u00a0{size}" if size else head for head, size in zip(heads, sizes, strict=True)]
    columns = [*measured, "levelling down", "harm in subgroups"]
    caption = (
        f"{sentence_case(task)} by {by}, mean over seeds; below it the change against plain training (erm) in points "
        f"and its {100 * found.meta['confidence']:g} % interval, over seeds and test faces; erm’s own intervals are "
        "over test faces"
    )
    return Table(caption=caption, first="method", columns=columns, rows=rows)


def _size(found: MethodComparison, task: str, by: str, metric: str) -> str:
    rows = [row for _, row in _rows(found, found.meta["methods"][:1], task, by, metric)]
    return count(rows[0]["n"]) if rows and rows[0]["n"] else ""


def method_row(found: MethodComparison, name: str, task: str, by: str) -> Row:
    """Return one method's row."""
    baseline = name == found.meta.get("baseline")
    cells = [
        own_value(found, name, task, by, m) if baseline else text_of(effect(found, name, task, by, m)) for m in METRICS
    ]
    gap = None if baseline else effect(found, name, task, by, "gap")
    levelling = DASH if gap is None else "yes" if gap["levelling_down"] in (True, "True") else "no"
    harmed = "" if baseline else harm_words(found, name, task, by)
    told = [Entry(levelling, css="found" if levelling == "yes" else ""), Entry(harmed or DASH)]
    return Row(name, [*(Entry(text, css="two") for text in cells), *told])


def cost_table(task: str, by: str, costs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what each method of a head takes and needs: CPU seconds, when it acts, when it is told the subgroups."""
    rows = [
        Row(
            name,
            [
                Entry(number(facts["seconds"], "years"), css="num"),
                Entry(STAGES[str(facts["stage"])]),
                Entry(str(facts["groups_at"]) or "never"),
            ],
        )
        for name, facts in costs.items()
    ]
    columns = ["CPU seconds a seed", "acts", "needs subgroups at"]
    return Table(
        caption=f"{sentence_case(task)} by {by}: what each takes and needs", first="method", columns=columns, rows=rows
    )


def effect(found: MethodComparison, name: str, task: str, by: str, metric: str) -> Mapping[str, Any] | None:
    """Return the row of the effects table; for the baseline any method's, whose column `baseline` has its value."""
    rows = found.effects
    rows = rows[(rows["claim"] == "method") & (rows["task"] == task) & (rows["metric"] == metric)]
    rows = rows[(rows["by"] == OVERALL) if metric == "accuracy" else (rows["by"] == by)]
    if name != found.meta.get("baseline"):
        rows = rows[rows["method"] == name]
    return dict(rows.iloc[0]) if len(rows) else None


def own_value(found: MethodComparison, name: str, task: str, by: str, metric: str) -> str:
    """Return "93.1 (91.6–94.3)" in %: the mean over seeds of a method's own value, and its interval over test faces."""
    rows = found.spread
    rows = rows[(rows["method"] == name) & (rows["task"] == task) & (rows["metric"] == metric)]
    rows = rows[rows["by"] == (OVERALL if metric == "accuracy" else by)]
    if not len(rows):
        return DASH
    row = rows.iloc[0]
    return figure(row["value"], row["low"], row["high"])


def text_of(row: Mapping[str, Any] | None) -> str:
    """Return "2.1 %" and, on a line of its own, "−1.3 (−2.0 to −0.6)": the value, and its change in points."""
    if row is None or not is_number(row["value"]):
        return DASH
    bounds = interval(row["low"], row["high"], signed=True)
    return f"{number(row['value'])} %\n{number(row['delta'], signed=True)}{f' ({bounds})' if bounds else ''}"


def harm_words(found: MethodComparison, name: str, task: str, by: str) -> str:
    """Return in how many subgroups of the axis harm is shown, is open, and is excluded."""
    rows = found.harm
    rows = rows[(rows["method"] == name) & (rows["task"] == task) & (rows["by"] == by)]
    numbers = pd.Series(rows["verdict"]).value_counts()
    return ", ".join(
        f"{words}\u00a0in\u00a0{numbers[verdict]}" for verdict, words in HARM.items() if verdict in numbers
    )


def published() -> Table:
    """Return the published table for UTKFace's gender head."""
    rows = [Row(name, [Entry(gap, css="num"), Entry(accuracy, css="num")]) for name, gap, accuracy in PUBLISHED]
    return Table(
        caption="UTKFace, gender by race, 10 repeats of other networks and divisions: not comparable in level",
        first="method",
        columns=["equalized-odds difference, points", "accuracy, %"],
        rows=rows,
    )
