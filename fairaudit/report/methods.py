"""The page of methods × seeds: is any recommended, did the gap close, how sure is that, at whose cost?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairaudit.report.figures import Scale, dumbbell, strip
from fairaudit.report.pareto import pareto_chart
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table
from fairaudit.report.words import (
    DASH,
    axis_label,
    count,
    counted,
    difference,
    figure,
    is_number,
    number,
    sentence_case,
)
from fairaudit.results import MethodComparison
from fairaudit.subgroups import OVERALL, parse
from fairaudit.wording import plural

Record = Mapping[str, Any]
WORDS = {
    "accuracy": "accuracy, all faces",
    "named_accuracy": "accuracy of the subgroup to be helped",
    "worst_accuracy": "accuracy of whoever is worst",
    "gap": "accuracy gap",
    "named_gap": "named best minus named worst",
    "equalized_odds": "equalized-odds difference",
}
BESIDE = ("auc", "churn", "own_churn")  # metrics with a table of their own
LEVELS = ("accuracy", "named_accuracy", "worst_accuracy")
FRONTS = {"accuracy–worst": "accuracy of the worst subgroup, %", "accuracy–gap": "accuracy gap, points"}


@dataclass(frozen=True, kw_only=True)
class MethodContext:
    """A comparison of methods as its page reads it: the rows of each table, and (task, axis) in their order."""

    found: MethodComparison
    rows: Mapping[str, list[Any]]
    places: Sequence[tuple[str, str]]

    def of(self, table: str, **where: str) -> list[Record]:
        """Return the rows of a table whose columns have these values."""
        return [row for row in self.rows[table] if all(row[key] == value for key, value in where.items())]

    @property
    def methods(self) -> list[str]:
        """The methods, without the baseline."""
        return list(self.found.meta["methods"])


def make_method_context(found: MethodComparison) -> MethodContext:
    """Read the tables of a comparison once."""
    names = ("effects", "harm", "spread", "pareto", "recommendations")
    rows = {name: getattr(found, name).to_dict("records") for name in names}
    places = list(dict.fromkeys((r["task"], r["by"]) for r in rows["effects"] if r["by"] != OVERALL))
    return MethodContext(found=found, rows=rows, places=places)


def answer(context: MethodContext) -> Section:
    """Answer per head and axis: which methods are recommended, and for every one gap, certainty and cost."""
    heads = []
    for task, by in context.places:
        advice = context.of("recommendations", claim="method", task=task, by=by)
        chosen = [row["method"] for row in advice if row["recommended"]]
        lead = f"recommended: {', '.join(chosen)}" if chosen else "no method is recommended"
        lines = [_method_line(context, row) for row in advice]
        heads.append({"title": f"{sentence_case(task)} by {axis_label(by)}", "lead": lead, "lines": lines,
                      "crossed": len(parse(by)) > 1})  # fmt: skip
    return Section(key="answer", title="Did the gap close, and at whose cost?",
                   template="sections/methods_answer.html", data={"heads": heads})  # fmt: skip


def _method_line(context: MethodContext, advice: Record) -> dict[str, Any]:
    where = {"claim": "method", "method": advice["method"], "task": advice["task"]}
    own = {r["metric"]: r for r in context.of("effects", by=advice["by"], **where) if r["metric"] != "accuracy"}
    gap, named = own.get("gap"), own.get("named_accuracy")
    overall = context.of("effects", by=OVERALL, metric="accuracy", **where)
    state = "none" if gap is None else "smaller" if gap["high"] < 0 else "larger" if gap["low"] > 0 else "open"
    words = {"smaller": "gap fell", "larger": "gap grew", "open": "no change shown", "none": "not assessed"}
    parts = []
    for what, row in (("Gap", gap), (f"Accuracy of {named['subgroup']}" if named else "", named)):
        if row is not None and is_number(row["delta"]):
            parts.append(f"{what}: {_level(row, 'baseline')} → {_level(row, 'value')}; {_change(row)}")
    parts += [f"All faces: {_level(r, 'baseline')} → {_level(r, 'value')}; {_change(r)}" for r in overall]
    harms = context.of("harm", method=advice["method"], task=advice["task"], by=advice["by"])
    return {
        "method": advice["method"],
        "state": state,
        "word": words[state],
        "recommended": bool(advice["recommended"]),
        "parts": parts,
        "cost": _cost(harms),
        "why": advice["reason"],
        "levelling": bool(gap is not None and gap["levelling_down"]),
    }


def _cost(harms: Sequence[Record]) -> str:
    if not harms:
        return ""
    margin = difference(harms[0]["margin"], signed=False)
    harmed = [
        f"{r['subgroup']} {difference(r['delta'], r['low'], r['high'])}" for r in harms if r["verdict"] == "harmed"
    ]
    still = [r for r in harms if r["verdict"] == "harm not excluded"]
    if not harmed and not still:
        where = plural(len(harms), "subgroup", "subgroups, all at once")
        return f"No one is harmed at a margin of {margin}: excluded in {where}."
    parts = [f"Harmed: {', '.join(harmed)}."] if harmed else []
    if still:
        names = [
            f"{r['subgroup']} (at worst {difference(r['low'])})" for r in sorted(still, key=lambda r: r["low"])[:3]
        ]
        more = f" and {len(still) - 3} more" if len(still) > 3 else ""
        parts.append(f"Harm not excluded at a margin of {margin}: {', '.join(names)}{more}.")
    return " ".join(parts)


def _level(row: Record, side: str, *, limits: bool = False) -> str:
    # tables of an earlier version have no limits of levels
    ends = (row.get(f"{side}_low"), row.get(f"{side}_high")) if limits else (None, None)
    return figure(row[side], *ends) if row["metric"] in LEVELS else difference(row[side], *ends, signed=False)


def _change(row: Record) -> str:
    return f"change {difference(row['delta'], row['low'], row['high'])}" if is_number(row["low"]) else (
        f"change {difference(row['delta'])}, no interval"
    )  # fmt: skip


def warnings(context: MethodContext) -> Section:
    """Print what a reader must know before acting on a figure."""
    data = {"warnings": list(context.found.meta.get("warnings", ())), "folded": [], "legal": []}
    return Section(key="warnings", title="Read this first", template="sections/warnings.html", data=data)


def effects(context: MethodContext) -> Section:
    """Show every method's change of every figure, over seeds."""
    tables = []
    for task, by in context.places:
        notes = Notes()
        rows = [
            r
            for method in context.methods
            for r in (*context.of("effects", claim="method", method=method, task=task, by=OVERALL),
                      *context.of("effects", claim="method", method=method, task=task, by=by))
            if (r["by"] == OVERALL or r["metric"] != "accuracy") and r["metric"] not in BESIDE
        ]  # fmt: skip
        scale = Scale([r[key] for r in rows for key in ("delta", "low", "high")], zero=True)
        columns = ["figure", "before", "after", "change", scale.header(), "seeds"]
        made = [Row(r["method"], _effect(r, scale, notes)) for r in rows]
        caption = f"{sentence_case(task)} by {axis_label(by)}: each method against {context.found.meta['baseline']}"
        caption += ", means over seeds; intervals for other seeds and faces"
        tables.append((len(parse(by)) > 1, Table(caption=caption, first="method", columns=columns, rows=made,
                                                 notes=notes.texts)))  # fmt: skip
    return _tables("effects", "What each method changes, over seeds", tables)


def _effect(row: Record, scale: Scale, notes: Notes) -> list[Entry]:
    what = WORDS[row["metric"]] + (f": {row['subgroup']}" if row["metric"] in ("named_accuracy", "named_gap") else "")
    note = notes.number(row["reason"]) if row["reason"] else 0
    chart: str = strip(scale, row["delta"], row["low"], row["high"]) if is_number(row["delta"]) else ""
    levelling = ", levelling down" if row["levelling_down"] else ""
    return [
        Entry(what + levelling, css="found" if levelling else ""),
        Entry(_level(row, "baseline", limits=True), css="num"),
        Entry(_level(row, "value", limits=True), css="num"),
        Entry(difference(row["delta"], row["low"], row["high"]), note, "num"),
        Entry(chart, css="chart"),
        Entry(count(row["seeds"]), css="num"),
    ]


def ranking(context: MethodContext) -> Section:
    """Show per method and subgroup what happens to the ranking (AUC), and how many answers are other than before."""
    first, tables = str(context.found.meta["baseline"]), []
    for task, by in context.places:
        notes, made = Notes(), []
        for name in (first, *context.methods):
            for axis in (OVERALL, by):
                made += _ranking_rows(context, name, {"task": task, "by": axis}, notes)
        caption = f"{sentence_case(task)} by {axis_label(by)}: ROC AUC, and answers that differ from those of {first}, "
        caption += (
            "means over seeds; intervals for other seeds and faces, of two seeds' own differences for other faces"
        )
        columns = ["AUC", f"change against {first}", f"other answers than {first}", "n", "two of its seeds differ in"]
        tables.append((True, Table(caption=caption, first="method and subgroup", columns=columns, rows=made,
                                   notes=notes.texts)))  # fmt: skip
    return _tables("ranking", "What happens to the ranking, and how many answers change", tables)


def _ranking_rows(context: MethodContext, name: str, where: Mapping[str, str], notes: Notes) -> list[Row]:
    """Return a row for all faces, or for each subgroup: the baseline's has neither a change nor other answers."""
    # the baseline's own AUC stands in every method's rows
    first = name == context.found.meta["baseline"]
    arms = {"auc": context.methods[0] if first else name, "churn": name}
    changes = {
        metric: {r["subgroup"]: r for r in context.of("effects", claim="method", method=arm, metric=metric, **where)}
        for metric, arm in arms.items()
    }
    # every arm answers the same faces; AUC is of those with probabilities
    faces = {r["subgroup"]: r["n"] for r in context.of("effects", claim="method", metric="accuracy", **where)}
    made = []
    for own in context.of("spread", method=name, metric="own_churn", **where):
        # a reason why a metric has no rows of subgroups stands in its one row, which names none
        auc, churn = (rows.get(own["subgroup"], rows.get("", {})) for rows in changes.values())
        n, ranked = faces.get(own["subgroup"]), auc.get("n")
        fewer = f"AUC of {counted(ranked, 'face')}: the others lack probabilities" if ranked and ranked != n else ""
        side = "baseline" if first else "value"
        cells = [
            Entry(
                figure(auc.get(side), auc.get(f"{side}_low"), auc.get(f"{side}_high"), "plain"),
                notes.number(auc.get("reason", "") or fewer),
                "num",
            ),
            Entry(DASH if first else difference(auc.get("delta"), auc.get("low"), auc.get("high"), "plain"), css="num"),
            Entry(
                figure(churn.get("value"), churn.get("low"), churn.get("high")),
                notes.number(churn.get("reason", "")),
                "num",
            ),
            Entry(count(n) if n else DASH, css="num"),
            Entry(figure(own["value"], own["low"], own["high"]), notes.number(own["reason"]), "num"),
        ]
        whom = "all faces" if where["by"] == OVERALL else own["subgroup"]
        made.append(Row(f"{name}: {whom}" if whom else name, cells))
    return made


def harms(context: MethodContext) -> Section:
    """Show for every subgroup whether a loss of the margin is excluded, and what would decide."""
    tables = []
    for task, by in context.places:
        rows = context.of("harm", task=task, by=by)
        scale = Scale([r[key] for r in rows for key in ("delta", "low", "high")], zero=True)
        notes = Notes()
        made = [Row(f"{r['method']}: {r['subgroup']}", _harm(r, scale, notes), small=bool(r["small"])) for r in rows]
        columns = ["n", "change", scale.header(), "verdict", "faces needed", "seeds needed"]
        caption = f"{sentence_case(task)} by {axis_label(by)}: change of accuracy, bounds for all subgroups at once"
        tables.append((len(made) > 30, Table(caption=caption, first="method and subgroup", columns=columns, rows=made,
                                             notes=notes.texts)))  # fmt: skip
    return _tables("harm", "Who pays: every subgroup’s loss", tables)


def _harm(row: Record, scale: Scale, notes: Notes) -> list[Entry]:
    return [
        Entry(count(row["n"]), css="num"),
        Entry(
            difference(row["delta"], row["low"], row["high"]),
            notes.number(row["reason"]) if row["reason"] else 0,
            "num",
        ),
        Entry(strip(scale, row["delta"], row["low"], row["high"]), css="chart"),
        Entry(row["verdict"], css="found" if row["verdict"] == "harmed" else "soft"),
        Entry(count(row["n_needed"]), css="num"),
        Entry(count(row["seeds_needed"]), css="num"),
    ]


def pareto(context: MethodContext) -> Section:
    """Draw both fronts of every head and axis beside their table."""
    charts = []
    for task, by in context.places:
        for front, versus in FRONTS.items():
            records = context.of("pareto", task=task, by=by, front=front)
            title = f"{sentence_case(task)} by {axis_label(by)}: {versus.partition(',')[0]} against accuracy"
            charts.append({"chart": pareto_chart(records, versus, title), "table": _front_table(records, title, front)})
    return Section(
        key="pareto", title="What is bought for what", template="sections/pareto.html", data={"charts": charts}
    )


def _front_table(records: Sequence[Record], title: str, front: str) -> Table:
    rows = []
    for place, r in enumerate((r for r in records if not r["seed"]), start=1):
        low = r["versus_low"], r["versus_high"]
        second = figure(r["versus"], *low) if front == "accuracy–worst" else difference(r["versus"], *low, signed=False)
        by = f" (by {r['dominated_by']})" if r["dominated_by"] else ""
        entries = [Entry(figure(r["accuracy"], r["accuracy_low"], r["accuracy_high"]), css="num")]
        rows.append(
            Row(f"{place} {r['method']}", [*entries, Entry(second, css="num"), Entry((r["standing"] or DASH) + by)])
        )
    columns = ["accuracy, all faces", "worst subgroup" if front == "accuracy–worst" else "gap", "standing"]
    return Table(caption=title, first="method", columns=columns, rows=rows)


def spread(context: MethodContext) -> Section:
    """Show the spread over seeds beside the interval from faces alone."""
    tables = []
    for task, by in context.places:
        rows = [r for r in context.of("spread", task=task) if r["by"] in (OVERALL, by)]
        rows = [r for r in rows if (r["by"] == OVERALL or r["metric"] != "accuracy") and r["metric"] not in BESIDE]
        rows.sort(key=lambda r: list(WORDS).index(r["metric"]))
        kept = [r for r in rows if is_number(r["mean"])]
        scale = Scale([r[key] for r in kept for key in ("least", "most")])
        made = [Row(r["method"], _spread(r, scale)) for r in kept]
        columns = ["figure", "of mean rates", "seeds", "mean", "sd", "least to most", scale.header()]
        caption = f"{sentence_case(task)} by {axis_label(by)}: interval from faces alone, beside the spread over seeds"
        tables.append((True, Table(caption=caption, first="method", columns=columns, rows=made)))
    return _tables("spread", "Spread over seeds beside sampling", tables)


def _spread(row: Record, scale: Scale) -> list[Entry]:
    value = figure if row["metric"] in LEVELS else lambda *a: difference(*a, signed=False)
    return [
        Entry(WORDS[row["metric"]] + (f": {row['subgroup']}" if row["metric"] == "named_accuracy" else "")),
        Entry(value(row["value"], row["low"], row["high"]), css="num"),
        Entry(count(row["seeds"]), css="num"),
        Entry(value(row["mean"]), css="num"),
        Entry(difference(row["sd"], signed=False), css="num"),
        Entry(f"{number(row['least'])} to {number(row['most'])}", css="num"),
        Entry(dumbbell(scale, row["least"], row["most"]), css="chart"),
    ]


def costs(context: MethodContext) -> Section | None:
    """Print the facts told of each method: seconds, and which labels it needs."""
    told: Mapping[str, Mapping[str, Any]] = context.found.meta.get("costs", {})
    keys = list(dict.fromkeys(key for facts in told.values() for key in facts))
    if not keys:
        return None
    rows = [Row(name, [Entry(_fact(facts.get(key))) for key in keys]) for name, facts in told.items()]
    table = Table(caption="What each method takes and needs", first="method", columns=[*map(str, keys)], rows=rows)
    return _tables("costs", "What each method costs", [(False, table)])


def _fact(value: Any) -> str:
    if value is None or value == "":
        return DASH
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def method(context: MethodContext) -> Section:
    """Say how it was computed, and give hashes."""
    meta = context.found.meta
    rows = [("fairaudit", str(meta["fairaudit"])), ("method", str(meta["method"]))]
    rows += [(f"{name}, seed {seed}", str(h)) for name, own in meta["hashes"].items() for seed, h in own.items()]
    rows += [(str(k), str(v)) for k, v in meta.get("files", {}).items()]
    return Section(
        key="hashes", title="Method, versions and hashes", template="sections/hashes.html", data={"rows": rows}
    )


def _tables(key: str, title: str, tables: Sequence[tuple[bool, Table]]) -> Section:
    return Section(key=key, title=title, template="sections/tables.html", data={"tables": list(tables)})


METHOD_SECTIONS: dict[str, Callable[[MethodContext], Section | None]] = {
    "answer": answer,
    "warnings": warnings,
    "effects": effects,
    "harm": harms,
    "ranking": ranking,
    "pareto": pareto,
    "spread": spread,
    "costs": costs,
    "hashes": method,
}
