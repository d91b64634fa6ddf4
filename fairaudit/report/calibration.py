"""The part of a report that shows whether stated probabilities come true, and what answering fewer faces would do."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fairaudit.report.context import FOLD, Context
from fairaudit.report.tables import Entry, Notes, Row, Table, entry
from fairaudit.report.words import axis_label, count, figure, is_number, metric_words, number, sentence_case
from fairaudit.subgroups import OVERALL

SHOWN = ("ece", "calibration_slope", "calibration_intercept", "log_loss", "brier", "mean_labelled_probability")
AT = (0.8, 0.5)  # shares of all faces that the table of abstention lets be answered
SIDE = 110
Record = Mapping[str, Any]


def calibration_data(context: Context) -> dict[str, Any] | None:
    """Return what "Calibration" prints for each head, on the first axis that has curves; None without probabilities."""
    bins = [row for row in _records(context, "calibration") if row["of"] == "top"]
    coverage = _records(context, "coverage")
    heads = []
    for task in context.tasks:
        own = [row for row in bins if row["task"] == task]
        if not own:
            continue
        by = next((by for by in context.axes if any(row["by"] == by for row in own)), OVERALL)
        groups = list(context.axes.get(by, ()))
        heads.append(
            {
                "title": sentence_case(task),
                "label": axis_label(by),
                "panels": _panels(context, task, by, groups, own),
                "folded": len(groups) > FOLD,
                "table": _table(context, task, by, groups),
                "abstention": _abstention(task, by, groups, [row for row in coverage if row["task"] == task]),
            }
        )
    return {"heads": heads} if heads else None


def _records(context: Context, name: str) -> list[Record]:
    return [{str(key): value for key, value in row.items()} for row in context.result.table(name).to_dict("records")]


def _panels(
    context: Context, task: str, by: str, groups: Sequence[str], bins: Sequence[Record]
) -> list[tuple[str, str, Markup]]:
    """Return (name, page, curve) of all faces together, then of each subgroup where these are few."""
    panels = [("All faces", "", _curve([row for row in bins if row["by"] == OVERALL], f"{task}, all faces"))]
    for group in groups if len(groups) <= FOLD else ():
        rows = [row for row in bins if row["by"] == by and row["subgroup"] == group]
        if rows:
            panels.append((group, f"groups/{context.slugs[by, group]}.html", _curve(rows, f"{task}, {group}")))
    return panels


def _curve(bins: Sequence[Record], name: str) -> Markup:
    """Draw one reliability curve: the share that is right over the mean stated probability, with intervals."""

    def at(value: float) -> str:
        return f"{SIDE * min(max(value, 0.0), 1.0):.1f}"

    def up(value: float) -> str:
        return at(1 - value)

    parts = [
        f'<rect class="frame" width="{SIDE}" height="{SIDE}"/>',
        f'<line class="diagonal" x1="0" y1="{SIDE}" x2="{SIDE}" y2="0"/>',
    ]
    for row in bins:
        x = at(row["mean_score"])
        if is_number(row["low"]):
            parts.append(f'<line class="bar" x1="{x}" x2="{x}" y1="{up(row["low"])}" y2="{up(row["high"])}"/>')
        parts.append(f'<circle class="dot" cx="{x}" cy="{up(row["observed"])}" r="2.6"/>')
    for value in (0, 0.5, 1):
        text = f"{value * 100:g}"
        parts.append(f'<text x="{at(value)}" y="{SIDE + 11}" text-anchor="middle">{text}</text>')
        parts.append(f'<text x="-4" y="{float(up(value)) + 3:.1f}" text-anchor="end">{text}</text>')
    points = ", ".join(f"{number(row['mean_score'])} stated {number(row['observed'])} right" for row in bins)
    label = escape(f"reliability, {name}, in %: {points}")
    box = f"-24 -6 {SIDE + 34} {SIDE + 22}"
    return Markup(f'<svg class="reliability" viewBox="{box}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _table(context: Context, task: str, by: str, groups: Sequence[str]) -> Table:
    notes = Notes()
    rows = []
    for where, group in [(OVERALL, OVERALL), *((by, group) for group in groups)]:
        cells = [context.cell(task, where, group, metric) for metric in SHOWN]
        entries = [
            Entry(count(cells[0].n), css="num"),
            *(entry(c, m, notes) for c, m in zip(cells, SHOWN, strict=True)),
        ]
        page = "" if where == OVERALL else f"groups/{context.slugs[by, group]}.html"
        rows.append(Row("all faces" if where == OVERALL else group, entries, page, cells[0].small))
    caption = f"{sentence_case(task)} by {axis_label(by)}: stated probabilities against what came true, with intervals"
    columns = ["n", *(metric_words(metric).label for metric in SHOWN)]
    return Table(caption=caption, first=axis_label(by), columns=columns, rows=rows, notes=notes.texts)


def _abstention(task: str, by: str, groups: Sequence[str], rows: Sequence[Record]) -> Table | None:
    """Return the errors at the model's own coverage, and if only the surest 80 and 50 % of all faces were answered."""
    limits = [_limit(rows, share) for share in AT]
    notes = Notes()
    lines = []
    for where, group in [(OVERALL, OVERALL), *((by, group) for group in groups)]:
        mine = [row for row in rows if row["by"] == where and row["subgroup"] == group]
        own = next((row for row in mine if row["point"] == "own"), None)
        if own is None:
            continue
        points = [next((r for r in mine if r["threshold"] == limit), None) for limit in limits if limit is not None]
        entries = [Entry(count(own["n"]), css="num"), *_point(own)]
        for point in points:
            entries += _point(point)
        area = figure(own["aurc"], own["aurc_low"], own["aurc_high"])
        entries.append(Entry(area, notes.number("" if is_number(own["aurc_low"]) else own["reason"]), "num"))
        lines.append(Row("all faces" if where == OVERALL else group, entries, "", bool(own["small"])))
    if not lines:
        return None
    names = [f"surest {share:.0%} of all" for share, limit in zip(AT, limits, strict=True) if limit is not None]
    columns = ["n", *(f"{what}, {name}" for name in ("as it is", *names) for what in ("answered", "errors"))]
    return Table(
        caption=f"{sentence_case(task)} by {axis_label(by)}: faces answered, and errors among them",
        first=axis_label(by),
        columns=[*columns, "area under risk and coverage"],
        rows=lines,
        notes=notes.texts,
    )


def _limit(rows: Sequence[Record], share: float) -> float | None:
    """Return the threshold at which about `share` of all faces would be answered."""
    points = [row for row in rows if row["by"] == OVERALL and row["point"] == "threshold"]
    near = min(points, key=lambda row: abs(row["coverage"] - share), default=None)
    return None if near is None or abs(near["coverage"] - share) > 0.1 else float(near["threshold"])


def _point(row: Record | None) -> list[Entry]:
    if row is None:
        return [Entry("–", css="num"), Entry("–", css="num")]
    return [
        Entry(figure(row["coverage"]), css="num"),
        Entry(figure(row["risk"], row["risk_low"], row["risk_high"]), css="num"),
    ]
