"""The page that leads to everything of one run: audits, comparison, data, checkpoints."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from fairaudit.report.answer import answer_section, make_comparison_context
from fairaudit.report.context import make_context
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.verdict import summary, verdicts
from fairaudit.report.words import count, figure, sentence_case
from fairaudit.results import AuditResult, Comparison
from fairaudit.subgroups import OVERALL

# What else a run leaves in its folder, and what it is.
_FILES = (
    ("spec.json", "the spec of this run"),
    ("data/composition.csv", "who the faces are labelled as, by split"),
    ("data/findings.csv", "what was met in the data, face by face"),
)


def run_sections(
    out: Path, results: Mapping[str, AuditResult], comparison: Comparison | None, findings: pd.DataFrame | None
) -> list[Section]:
    """Return the sections of a run's first page, in reading order."""
    sections = [_audits(results)]
    if comparison is not None:
        sections.append(_comparison(comparison))
    sections.append(_data(findings))
    sections.append(_files(out, list(results)))
    return sections


def _audits(results: Mapping[str, AuditResult]) -> Section:
    cards = []
    for name, result in results.items():
        context = make_context(result)
        planted = result.meta.get("planted", ())
        cards.append(
            {
                "name": name,
                "href": f"audits/{name}/index.html",
                "lines": summary(verdicts(context)),
                "heads": [_overall(context.cell(task, OVERALL, OVERALL, "accuracy"), task) for task in context.tasks],
                "planted": [entry.get("verdict") or entry.get("sentence", "") for entry in planted],
            }
        )
    return Section(key="audits", title="Audits", template="sections/run_audits.html", data={"cards": cards})


def _overall(cell: object, task: str) -> tuple[str, str, str]:
    value, low, high, n = (getattr(cell, name) for name in ("value", "low", "high", "n"))
    return sentence_case(task), figure(value, low, high), count(n)


def _comparison(comparison: Comparison) -> Section:
    answers = answer_section(make_comparison_context(comparison)).data["models"]
    said = {m["model"]: [*m["lead"], *filter(None, m["harm_open"][:1])] for m in answers}
    data = {"summary": said, "href": "comparison/index.html"}
    return Section(key="comparison", title="Comparison", template="sections/run_comparison.html", data=data)


def _data(findings: pd.DataFrame | None) -> Section:
    records = findings.to_dict("records") if findings is not None else []
    rows = [
        Row(
            str(r["kind"]).replace("_", " "),
            [Entry(str(r["action"])), Entry(count(r["count"]), css="num"), Entry(str(r["examples"]))],
        )
        for r in records
    ]
    caption = "What was met in the data, and what was done about it"
    table = Table(caption=caption, first="kind", columns=["action", "times met", "for example"], rows=rows)
    return Section(key="data", title="Data", template="sections/run_data.html", data={"table": table if rows else None})


def _files(out: Path, names: list[str]) -> Section:
    found = [(file, text) for file, text in _FILES if (out / file).exists()]
    for name in names:
        for file, text in (
            (f"checkpoints/{name}/model.json", f"the model “{name}”: architecture, classes, training"),
            (f"predictions/{name}.parquet", f"what “{name}” predicted for each test face"),
            (f"audits/{name}/metrics.csv", f"every figure of the audit of “{name}”"),
            (f"audits/{name}/gaps.csv", f"every gap of the audit of “{name}”"),
            (f"robustness/{name}/robustness.csv", f"how the accuracy of “{name}” falls as pictures get worse"),
            (f"masking/{name}/masking.csv", f"how the accuracy of “{name}” changes with a region hidden"),
        ):
            if (out / file).exists():
                found.append((file, text))
    return Section(key="files", title="Files", template="sections/run_files.html", data={"files": found})
