"""The page of a sweep: the ranking on validation faces, what may be concluded from it, and every training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fairaudit.report.models import curves_data, has_curve
from fairaudit.report.page import record_pages, write_page
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.words import DASH, count, difference, figure, is_number, sentence_case
from fairaudit.spec import Spec
from fairaudit.wording import plural


def write_sweep_report(
    out: Path,
    spec: Spec,
    table: pd.DataFrame,
    words: Mapping[str, str],
    histories: Mapping[str, pd.DataFrame],
    *,
    audited: str | None,
    seen: Sequence[str] = (),
) -> Path:
    """Write `out`/index.html and return it. `table` is ranked, best first; `words` says what each combination sets.

    audited: whose audit on the test faces the page leads to; seen: whose else lie in `out`, from earlier calls.
    """
    ranked = [str(name) for name in table["name"]]
    end = "_worst_accuracy"
    tasks = [column.removesuffix(end) for column in map(str, table.columns) if column.endswith(end)]
    data = {
        "lines": conclusions(table, words, spec),
        "tables": [_ranking(table, words, tasks)],
        "audited": audited,
        "seen": seen,
    }
    sections = [Section(key="ranking", title="Ranking", template="sections/sweep.html", data=data)]
    drawn = {words[name]: histories[name] for name in ranked if has_curve(histories[name])}
    if drawn:
        training = curves_data(drawn)
        sections.append(Section(key="curves", title="Training", template="sections/training.html", data=training))
    page = write_page("run.html", out / "index.html", title=f"Sweep: {spec.name}", question=spec.question,
                      sections=sections, links={})  # fmt: skip
    record_pages(out, ["index.html"], None)
    return page


def conclusions(table: pd.DataFrame, words: Mapping[str, str], spec: Spec) -> list[str]:
    """Say which combination comes first, how many cannot be told apart from it, and what the ranking does not show."""
    first = table.iloc[0]
    rest = table.iloc[1:]
    alike = int((~rest["apart"].astype(bool)).sum())
    what = "accuracy" if spec.training.select == "overall" else "accuracy of the worst subgroup"
    name = words[str(first["name"])]
    lines = [f"First of {plural(len(table), 'combination')}: {name}, by the mean over heads of the {what}."]
    if alike:
        lines.append(f"{alike} of the other {len(rest)} cannot be told apart from it in mean accuracy on these faces.")
    elif len(rest):
        lines.append("All others differ from it in mean accuracy beyond noise on these faces.")
    lines.append(
        "The first of many is flattered by having been chosen: its figures here are too good on average, and say "
        "nothing final."
    )
    return lines


def _ranking(table: pd.DataFrame, words: Mapping[str, str], tasks: list[str]) -> Table:
    rows = []
    for record in table.to_dict("records"):
        cells = []
        for task in tasks:
            low, high = record[f"{task}_low"], record[f"{task}_high"]
            own = f"{figure(record[f'{task}_accuracy'], low, high)}\nn {count(record[f'{task}_n'])}"
            cells += [Entry(own, css="two"), Entry(_worst(record, task))]  # names may be long: they wrap
        apart = "" if record["rank"] == 1 else "yes" if record["apart"] else "no"
        behind = DASH if record["rank"] == 1 else difference(
            -record["behind"], -record["behind_high"], -record["behind_low"]
        )  # fmt: skip
        first = [Entry(text, css="num") for text in (figure(record["score"]), behind, apart)]
        entries = [*first, *cells, Entry(count(round(record["seconds"])), css="num")]
        rows.append(Row(f"{record['rank']}. {words[str(record['name'])]}", entries))
    heads = [text for task in tasks for text in (sentence_case(task), f"{sentence_case(task)}: worst subgroup")]
    columns = ["score", "against the first", "told apart", *heads, "seconds"]
    caption = "Every combination on the validation faces, best first; intervals against the first hold for all at once"
    return Table(caption=caption, first="combination", columns=columns, rows=rows)


def _worst(record: Mapping[object, object], task: str) -> str:
    if not is_number(record[f"{task}_worst_accuracy"]):
        return DASH
    value, low, high = (record[f"{task}_worst_{key}"] for key in ("accuracy", "low", "high"))
    shown = figure(value, low, high)
    return f"{record[f'{task}_worst_subgroup']} {shown}, n {count(record[f'{task}_worst_n'])}"
