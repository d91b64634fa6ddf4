"""The model card: Markdown with the front matter that Hugging Face reads, figures per subgroup among its results."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.report.context import Cell, Context
from fairaudit.report.data_sets import DATA_SETS, NOT_STATED, names_of, title_of
from fairaudit.report.first_screen import leading_lines
from fairaudit.report.legal import legal_notice, stated
from fairaudit.report.plain_text import markdown, table, visible, yaml_text
from fairaudit.report.provenance import hash_rows, verify_command
from fairaudit.report.scope import SPEAKS_OF, scope_facts
from fairaudit.report.verdict import summary, verdicts
from fairaudit.report.words import (
    axis_label,
    count,
    counted,
    figure,
    is_number,
    metric_label,
    metric_words,
    sentence_case,
)
from fairaudit.subgroups import OVERALL

MODEL_CARD = "model-card.md"
# what stands in the card's results, of each head and subgroup where it is defined; the rest is in metrics.csv
CARRIED = ("accuracy", "recall_by_labelled_class", "balanced_accuracy", "macro_f1", "mae_bins", "mae_years", "ece")
TYPES = {"mae_bins": "mae", "mae_years": "mae", "macro_f1": "f1", "recall_by_labelled_class": "recall"}
MOST_FINDINGS = 10
# Hugging Face's names of licences; any other is "other" with its name beside it
LICENCES = frozenset(
    (
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
        *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0"),
        *("openrail", "unlicense", "isc", "zlib", "unknown", "other"),
    )
)


def model_card(context: Context) -> str:
    """Return the whole card of the audited model."""
    return "\n".join([*_front_matter(context), "", *_body(context)]) + "\n"


def model_name(meta: Mapping[str, Any]) -> str:
    """Return what the model is called: its own name, else the audit's."""
    return visible((meta.get("model") or {}).get("name") or meta.get("name") or "audited model") or "audited model"


def _front_matter(context: Context) -> list[str]:
    meta = context.result.meta
    licence = visible(stated(meta).get("licence") or "")
    known = licence.lower() in LICENCES
    lines = ["---"]
    if licence:
        lines.append(f"license: {licence.lower() if known else 'other'}")
        lines += [] if known else [f"license_name: {yaml_text(licence)}"]
    lines += ["pipeline_tag: image-classification", "tags:", "- face", "- fairness", "- audit", "- fairaudit"]
    metrics = [m for m in CARRIED if any(_carried(context, task, OVERALL, OVERALL, m) for task in context.tasks)]
    lines += ["metrics:", *(f"- {TYPES.get(m, m)}" for m in metrics)] if metrics else []
    results = [line for task in context.tasks for line in _results(context, task)]
    if results:
        lines += ["model-index:", f"- name: {yaml_text(model_name(meta))}", "  results:", *results]
    return [*lines, "---"]


def _results(context: Context, task: str) -> list[str]:
    """Return one result an axis: the head's figures of all faces, then those of every subgroup of the axis."""
    lines: list[str] = []
    names = names_of(context.result.meta)
    data_set = " + ".join(title_of(name) for name in names) or "not stated"
    for by, groups in {OVERALL: (OVERALL,), **context.axes}.items():
        figures = [line for group in groups for line in _figures(context, task, by, group)]
        if figures:
            lines += ["  - task:", "      type: image-classification", f"      name: {yaml_text(task)}", "    dataset:"]
            lines += [f"      name: {yaml_text(f'{data_set}, by {axis_label(by)}')}", f"      type: {_slug(names)}"]
            lines += [f"      config: {yaml_text(by)}", "    metrics:", *figures]
    return lines


def _slug(names: Sequence[str]) -> str:
    """Return the data set's type, in letters that a Hub id may have; only of sets that are known."""
    known = [name for name in names if name in DATA_SETS]
    return known[0] if len(names) == 1 and known else "unknown"


def _figures(context: Context, task: str, by: str, group: str) -> list[str]:
    lines: list[str] = []
    for metric in CARRIED:
        if (cell := _carried(context, task, by, group, metric)) is None:
            continue
        who = "" if by == OVERALL else f", faces labelled {group}"
        name = f"{sentence_case(metric_label(metric))}{who} ({_certainty(context, cell, metric)})"
        lines += [f"    - type: {TYPES.get(metric, metric)}", f"      value: {_number(cell.value)}"]
        lines.append(f"      name: {yaml_text(name)}")
    return lines


def _carried(context: Context, task: str, by: str, group: str, metric: str) -> Cell | None:
    """Return a figure that is defined and shown for this head and axis; an undefined one is left out, never 0."""
    if metric != "ece" and metric not in context.shown(task, by):
        return None
    cell = context.cell(task, by, group, metric)
    return cell if is_number(cell.value) else None


def _certainty(context: Context, cell: Cell, metric: str) -> str:
    words = metric_words(metric)
    level = f"{100 * float(context.result.meta.get('confidence', 0.95)):g} % interval"
    bounds = f"{level} {_number(cell.low)} to {_number(cell.high)}" if is_number(cell.low) else "no interval"
    small = f", fewer than {context.result.meta.get('min_group_size')}: not assessed" if cell.small else ""
    return f"{bounds}, n = {count(cell.n)}{small}" + (f", in {words.kind}" if words.kind in ("bins", "years") else "")


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _body(context: Context) -> list[str]:
    meta = context.result.meta
    made = str(meta.get("created", ""))[:10]
    lines = [f"# {markdown(model_name(meta))}", ""]
    lines += [
        f"Audited by fairaudit {meta.get('fairaudit', '')} on {made}: {markdown(meta.get('name') or 'audit')}.",
        "",
    ]
    notice = legal_notice(list(context.tasks), meta)
    if notice:
        lines += [
            "> **Legal notice.** " + markdown(" ".join(notice.paragraphs)),
            ">",
            f"> {markdown(notice.standing)}",
            "",
        ]
    lines += ["## Intended use", "", markdown(SPEAKS_OF), ""]
    lines += [f"- {name}: {markdown(text)}" for name, text in scope_facts(meta)]
    lines += ["", "## Data", "", *_data(context), "", "## What the audit found", "", *_found(context)]
    for task in context.tasks:
        lines += ["", f"## {markdown(sentence_case(task))}: figures by subgroup", "", *_head(context, task)]
    return [*lines, "", "## Limits", "", *_limits(context), "", "## Where it comes from", "", *_provenance(meta)]


def _data(context: Context) -> list[str]:
    meta = context.result.meta
    names = names_of(meta)
    told = str(stated(meta).get("data_terms") or "")
    lines = [f"- Data set: {markdown(', '.join(map(title_of, names)) or NOT_STATED)}"]
    lines += [f"- Faces audited: {count(meta.get('n'))} ({markdown(meta.get('faces') or 'the rows of a table')})"]
    lines += [f"- Labels: {markdown(meta.get('label_source') or 'where they come from is not known')}"]
    lines += [f"- Terms of use: {markdown(told or NOT_STATED)}"]
    lines += [f"- {DATA_SETS[name].title}: {markdown(DATA_SETS[name].terms)}" for name in names if name in DATA_SETS]
    return lines


def _found(context: Context) -> list[str]:
    lines = [markdown(line) for line in summary(verdicts(context))]
    lines += leading_lines(context, MOST_FINDINGS)
    judged = context.result.table("policies")
    if len(judged):
        rows = [[markdown(r["policy"]), markdown(r["task"]), markdown(r["verdict"])] for r in judged.to_dict("records")]
        lines += ["", *table(["policy", "head", "verdict"], rows)]
    return lines


def _head(context: Context, task: str) -> list[str]:
    """Return a table of the head's main figures, with interval and n, of all faces and of every subgroup."""
    metrics = [m for m in CARRIED if any(_carried(context, task, by, g, m) for by, g in _places(context))]
    if not metrics:
        return ["Without labels nothing is measured here."]
    rows, small = [], False
    for by, group in _places(context):
        cells = [context.cell(task, by, group, metric) for metric in metrics]
        n = max((cell.n for cell in cells if is_number(cell.n)), default=float("nan"))
        mark = " ◇" if any(cell.small and is_number(cell.value) for cell in cells) else ""
        small = small or bool(mark)
        who = "all faces" if by == OVERALL else f"{markdown(axis_label(by))}: {markdown(group)}{mark}"
        texts = [figure(c.value, c.low, c.high, metric_words(m).kind) for c, m in zip(cells, metrics, strict=True)]
        rows.append([who, count(n), *texts])
    names = [markdown(metric_label(metric)) for metric in metrics]
    lines = table(["labelled as", "n", *names], rows, numbers=1 + len(names))
    least = counted(context.result.meta.get("min_group_size"), "face")
    note = f"◇ fewer than {least} in some denominator: shown, not assessed."
    return [
        *lines,
        "",
        "In brackets: the interval, where there is one. “–”: undefined. The reason of either stands in metrics.csv."
        + (f" {note}" if small else ""),
    ]


def _places(context: Context) -> list[tuple[str, str]]:
    return [(OVERALL, OVERALL), *((by, group) for by, groups in context.axes.items() for group in groups)]


def _limits(context: Context) -> list[str]:
    meta = context.result.meta
    said = [str(text) for text in meta.get("warnings", ())]
    said += [str(meta.get("independence") or "")]
    said += [
        "A label is what somebody or some algorithm wrote down, never what a person is.",
        "No finding is no proof of equal treatment.",
    ]
    return [f"- {markdown(text)}" for text in said if text]


def _provenance(meta: Mapping[str, Any]) -> list[str]:
    rows = [[markdown(name), f"`{visible(value).replace('`', '')}`"] for name, value in hash_rows(meta)]
    command = f"`{verify_command(meta)}`, in the folder of `audit.json`, makes every number again and checks each file."
    signed = f"Responsible: {markdown(stated(meta).get('responsible') or NOT_STATED)}. Date, place, signature: "
    signed += r"\_" * 12
    return [*table(["what", "value"], rows), "", command, "", signed]
