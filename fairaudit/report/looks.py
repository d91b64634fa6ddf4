"""Where the model looks, in words and tables: contrasts between subgroups, shares of regions, checks of the method."""

from collections.abc import Hashable
from typing import Any

import pandas as pd
from markupsafe import Markup

from fairaudit.report.context import Context
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import axis_label, count, counted, difference, figure, is_number, listing, sentence_case
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

MODEL, IMAGE, NONE = "model", "image content, not model", "no difference shown"  # verdicts of contrasts.csv
_SHOWN = 6  # contrasts told in a sentence each
_ERRORS = "wrong against right"
_FAILED, _PASSED, _OPEN = "failed", "passed", "not shown"
_BESIDE_RANDOM = {
    "deletion": "below 0",
    "insertion": "above 0",
}  # what is wanted of an area minus that of random orders


def contrast_sentences(context: Context) -> list[str]:
    """Return what the contrasts say, first what is the model's doing; or that, and why, there are none."""
    found = context.attribution
    if found is None:
        return []
    if found.contrasts.empty:
        return [
            "Subgroups are not compared here: that takes three baselines and a model with shuffled weights "
            "([attribution] contrasts, or fairaudit attribute --contrast). Maps side by side show no difference by "
            "themselves."
        ]
    told = _one_a_contrast(found.contrasts)
    mine = told[told["verdict"] == MODEL]
    said = [_sentence(record, found.contrasts) for record in mine.head(_SHOWN).to_dict("records")]
    if len(mine) > _SHOWN:
        said.append(f"{len(mine) - _SHOWN:,} more contrasts are the model’s doing: see the tables below.")
    image = told[told["verdict"] == IMAGE]
    if len(image):
        said.append(
            f"{plural(len(image), 'difference')} of {len(told):,} contrasts: image content, not model. Sign or "
            "significance depends on the baseline, or a model with shuffled weights shows it, too."
        )
    none, left = int((told["verdict"] == NONE).sum()), int((~told["verdict"].isin((MODEL, IMAGE, NONE))).sum())
    if none:
        said.append(f"No difference is shown in {none:,} of {len(told):,} contrasts; that does not say there is none.")
    if left:
        said.append(f"Not assessed: {plural(left, 'contrast')}, of too few matched faces.")
    return said


def check_sentences(context: Context) -> tuple[list[str], list[str]]:
    """Return the checks that failed, and a line about those that passed, that show neither, or were not made."""
    found = context.attribution
    if found is None:
        return [], []
    failed, passed, left = (found.sanity[found.sanity["outcome"] == outcome] for outcome in (_FAILED, _PASSED, _OPEN))
    said = [f"{_name(row['method'])} fails: {row['sentence']}." for row in failed.to_dict("records")]
    made = set(found.sanity["check"])
    names = _counted(passed)
    rest = [f"Passed: {listing(names)}." if names else "No check was passed."]
    if len(left):
        whose = listing(list(dict.fromkeys(f"{_name(str(row.method))} ({row.task})" for row in left.itertuples())))
        rest.append(f"Not shown to beat a random order: {listing(_counted(left))}, of {whose}. That is no pass.")
    if found.curves.empty:
        rest.append("Whether answers depend most on what is most attributed (deletion, insertion) was not checked.")
    if not any("randomization" in check for check in made):
        rest.append("Whether maps change when the model’s weights are shuffled was not checked.")
    return said, rest


def _counted(rows: pd.DataFrame) -> list[str]:
    return [f"{check} ({len(each):,})" for check, each in rows.groupby("check", sort=False)]


def check_table(context: Context) -> Table | None:
    """Return every check with its value and what is wanted."""
    found = context.attribution
    if found is None or found.sanity.empty:
        return None
    rows = [
        Row(
            _name(row["method"]),
            [
                Entry(str(row["task"])),
                Entry(f"{row['check']}{': ' if row['part'] else ''}{row['part']}", css="t"),
                Entry(_plain(row["value"], row["low"], row["high"]), css="num"),
                Entry(_wanted(row), css="num"),
                Entry(count(row["n"]), css="num"),
                Entry(str(row["outcome"]), css="found" if row["outcome"] == _FAILED else ""),
            ],
        )
        for row in found.sanity.to_dict("records")
    ]
    columns = ["head", "check", "value", "wanted", "n", "outcome"]
    return Table(caption="Checks of the attribution itself", first="method", columns=columns, rows=rows)


def _wanted(row: dict[Hashable, Any]) -> str:
    if row["check"] in _BESIDE_RANDOM:
        return _BESIDE_RANDOM[row["check"]]
    return f"at most {row['limit']:g}" if is_number(row["limit"]) else "–"


def contrast_tables(context: Context, *, by: str = "", subgroup: str = "", task: str = "") -> list[Table]:
    """Return one table a method, head and kind of the contrasts that some baseline shows; `subgroup`: its own alone.

    Every baseline stands beside the others, and the difference net of the model with shuffled weights below it.
    """
    found = context.attribution
    if found is None or found.contrasts.empty:
        return []
    table = found.contrasts[found.contrasts["verdict"].isin((MODEL, IMAGE))]
    if subgroup:
        table = table[(table["by"] == by) & (table["subgroup"] == subgroup) & (table["task"] == task)]
    return [
        _contrast_table(rows, str(method), str(head), str(kind), with_subgroup=not subgroup)
        for (method, head, kind), rows in table.groupby(["method", "task", "kind"], sort=False)
        if head in context.tasks
    ]


def _contrast_table(rows: pd.DataFrame, method: str, task: str, kind: str, *, with_subgroup: bool) -> Table:
    baselines = list(dict.fromkeys(rows["baseline"]))
    lines = []
    for verdict in (MODEL, IMAGE):
        for _, each in rows[rows["verdict"] == verdict].groupby(["by", "subgroup", "comparison", "region"], sort=False):
            first = each.iloc[0]
            of = each.set_index("baseline")
            versus = str(first["comparison"] if first["comparison"] == _ERRORS else first["other"])
            entries = [Entry(f"{first['subgroup']}: {versus}" if with_subgroup else versus)]
            entries += [Entry(_apart(of.loc[name].to_dict(), ""), css="num") for name in baselines]
            entries.append(Entry(Markup("<br>").join(_net(of.loc[name].to_dict()) for name in baselines), css="num"))
            entries.append(Entry(f"{count(first['n'])} : {count(first['n_other'])}", css="num"))
            entries.append(Entry(verdict, css="found" if verdict == MODEL else ""))
            lines.append(Row(str(first["region"]), entries))
    columns = ["contrast", *(f"against {name}" if name else "difference" for name in baselines)]
    columns += [
        "net of shuffled weights, in this order" if len(baselines) > 1 else "net of shuffled weights",
        "n",
        "verdict",
    ]
    caption = f"{sentence_case(task)}, {_name(method).lower()}, {kind} attribution: differences that a baseline shows"
    return Table(caption=caption, first="region", columns=columns, rows=lines)


def region_tables(context: Context, task: str) -> list[Table]:
    """Return how much of the attribution of a head falls on each region, over all faces: one table a method."""
    found = context.attribution
    if found is None:
        return []
    table = found.regions[(found.regions["task"] == task) & (found.regions["by"] == OVERALL)]
    return [
        _region_table(rows, f"{sentence_case(task)}, {_name(str(method)).lower()}: share of each region, all faces")
        for method, rows in table.groupby("method", sort=False)
    ]


def group_regions(context: Context, task: str, by: str, subgroup: str) -> list[Table]:
    """Return the same of one subgroup."""
    found = context.attribution
    if found is None:
        return []
    table = found.regions
    table = table[(table["task"] == task) & (table["by"] == by) & (table["subgroup"] == subgroup) & (table["n"] > 0)]
    return [
        _region_table(rows, f"{sentence_case(task)}, {_name(str(method)).lower()}: share of each region")
        for method, rows in table.groupby("method", sort=False)
    ]


def axis_regions(context: Context, task: str, by: str) -> Table | None:
    """Return absolute shares of every subgroup of an axis, by the first method: subgroups down, regions across."""
    found = context.attribution
    if found is None or found.regions.empty:
        return None
    table = found.regions
    method = table["method"].iloc[0]
    chosen = (table["method"] == method) & (table["task"] == task) & (table["by"] == by) & (table["kind"] == "absolute")
    table = table[chosen & (table["n"] > 0)]
    if table.empty:
        return None
    notes = Notes()
    rows = []
    for group, each in table.groupby("subgroup", sort=False):
        slug = context.slugs.get((by, str(group)))
        entries = [Entry(count(each["n"].iloc[0]), css="num")]
        entries += [_share(record, notes) for record in each.to_dict("records")]
        rows.append(Row(str(group), entries, f"groups/{slug}.html" if slug else ""))
    columns = ["n", *table["region"].drop_duplicates()]
    caption = f"{sentence_case(task)} by {axis_label(by)}: share of absolute attribution, with interval"
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts)


def _region_table(rows: pd.DataFrame, caption: str) -> Table:
    notes = Notes()
    signed = {record["region"]: record for record in rows[rows["kind"] == "signed"].to_dict("records")}
    lines = []
    for record in rows[rows["kind"] == "absolute"].to_dict("records"):
        entries = [
            _share(record, notes),
            Entry(figure(record["area"]), css="num"),
            _share(signed[record["region"]], notes),
            Entry(count(record["n"]), css="num"),
        ]
        lines.append(Row(str(record["region"]), entries))
    columns = ["absolute", "if spread evenly", "signed, for less against", "n"]
    return Table(caption=caption, first="region", columns=columns, rows=lines, notes=notes.texts)


def _share(record: dict[Hashable, Any], notes: Notes) -> Entry:
    without = "" if is_number(record["low"]) else str(record["reason"])
    return Entry(figure(record["share"], record["low"], record["high"]), notes.number(without), "num")


def _one_a_contrast(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a contrast (not one a baseline), the largest differences first."""
    keys = ["method", "task", "by", "subgroup", "other", "comparison", "region", "kind"]
    once = table.drop_duplicates(keys)
    return once.iloc[(-once["difference"].abs().fillna(0)).argsort(kind="stable")]


def _sentence(record: dict[Hashable, Any], table: pd.DataFrame) -> str:
    same = table
    for key in ("method", "task", "by", "subgroup", "other", "comparison", "region", "kind"):
        same = same[same[key] == record[key]]
    rows = same.to_dict("records")
    each = "; ".join(_apart(row, f"against {row['baseline']} " if row["baseline"] else "") for row in rows)
    net = "; ".join(_net(row, f"against {row['baseline']} " if row["baseline"] else "") for row in rows)
    more = "more" if record["difference"] > 0 else "less"
    whose = f"in faces labelled {record['subgroup']} than in everyone else’s"
    if record["comparison"] == _ERRORS:
        whose = f"in wrong than in right predictions of faces labelled {record['subgroup']}"
    return (
        f"The {record['task']} head (asked for {record['target']}) gives {more} {record['kind']} attribution to "
        f"{record['region']} {whose}: {each} ({_name(str(record['method'])).lower()}; {counted(record['n'], 'face')} "
        f"against {count(record['n_other'])}, matched). Net of a model with shuffled weights: {net}."
    )


def _apart(row: Any, before: str) -> str:
    return before + difference(row["difference"], row["low"], row["high"])


def _net(row: Any, before: str = "") -> str:
    return before + difference(row["net"], row["net_low"], row["net_high"])


def _plain(value: Any, low: Any, high: Any) -> str:
    bounds = f" ({low:.2f} to {high:.2f})" if is_number(low) else ""
    return f"{value:.2f}{bounds}"


def _name(method: str) -> str:
    return sentence_case(method.replace("-", " "))
