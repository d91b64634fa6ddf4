"""What a CI system reads beside the exit code: summary.md for people, junit.xml with a test case for each policy."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairaudit.files import write_text
from fairaudit.policy_tables import FAIL, INCONCLUSIVE, NOT_APPLICABLE, PASS, verdict_line
from fairaudit.report.context import make_context
from fairaudit.report.first_screen import leading_lines
from fairaudit.report.legal import heads_of, race_heads
from fairaudit.report.plain_text import markdown, table, visible
from fairaudit.report.verdict import summary, verdicts
from fairaudit.report.words import count, counted, figure, is_number
from fairaudit.results import AuditResult
from fairaudit.subgroups import OVERALL

SUMMARY, JUNIT = "summary.md", "junit.xml"
_MARKS = {PASS: "✅", FAIL: "❌", INCONCLUSIVE: "❔", NOT_APPLICABLE: "–"}


def write_ci_files(out: Path, results: Mapping[str, AuditResult], page: str = "index.html") -> list[str]:
    """Write summary.md and junit.xml of the named audits into `out`; return their names. page: where the report is."""
    write_text(out / SUMMARY, summary_markdown(results, page))
    write_text(out / JUNIT, junit_xml(results))
    return [SUMMARY, JUNIT]


def summary_markdown(results: Mapping[str, AuditResult], page: str = "index.html") -> str:
    """Return the audits in a few lines of Markdown: the answer, heads, policies, first findings, warnings counted."""
    lines: list[str] = []
    for name, result in results.items():
        lines += [*_audit_lines(name, result), ""]
    return "\n".join([*lines, f"The whole report: {markdown(page)}"]) + "\n"


def _audit_lines(name: str, result: AuditResult) -> list[str]:
    context, meta = make_context(result), result.meta
    made = str(meta.get("created", ""))[:10]
    lines = [
        f"## {markdown(name)}",
        "",
        f"{counted(meta.get('n'), 'face')}, audited {made} by fairaudit {meta.get('fairaudit')}.",
    ]
    first, *rest = summary(verdicts(context))
    lines += ["", f"**{markdown(first)}**", *map(markdown, rest), ""]
    heads = []
    for task in context.tasks:
        cell = context.cell(task, OVERALL, OVERALL, "accuracy")
        heads.append([markdown(task), figure(cell.value, cell.low, cell.high), count(cell.n)])
    lines += table(["head", "accuracy (interval)", "n"], heads, numbers=2)
    judged = result.table("policies").to_dict("records")
    if judged:
        rows = [[_MARKS.get(str(r["verdict"]), "") + " " + str(r["verdict"]), _policy(r)] for r in judged]
        lines += ["", *table(["verdict", "policy"], rows)]
    else:
        lines += ["", "No policy is declared, so nothing here can fail a build."]
    lines += leading_lines(context)
    if race_heads(heads_of(context.tasks, result.meta)):
        lines += ["", "A head infers race: see the legal notice in the report (EU AI Act, Art. 5(1)(g))."]
    return lines


def _policy(row: Mapping[Any, Any]) -> str:
    return markdown(verdict_line({str(key): value for key, value in row.items()}).split(": ", 1)[1])


def junit_xml(results: Mapping[str, AuditResult]) -> str:
    """Return JUnit's XML: a suite an audit, a case a policy; a failed policy fails, one that is open is skipped.

    One that could not be looked at, because nothing it needs could be computed, is an error: no figure speaks for it
    or against it. Hypotheses are no tests and stand nowhere in it. A suite without policies has no case.
    """
    root = ET.Element("testsuites", name="fairaudit")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for name, result in results.items():
        rows = [{str(key): value for key, value in row.items()} for row in result.table("policies").to_dict("records")]
        undone = partial(_undone, hidden=(result.meta.get("hidden") or {}).get("touched", ()))
        counts = {
            "tests": len(rows),
            "failures": sum(row["verdict"] == FAIL for row in rows),
            "errors": sum(map(undone, rows)),
            "skipped": sum(row["verdict"] not in (PASS, FAIL) and not undone(row) for row in rows),
        }
        totals = {key: totals[key] + n for key, n in counts.items()}
        told = {key: str(n) for key, n in counts.items()}
        stamp = str(result.meta.get("created", ""))[:19]
        stamp += "T00:00:00" if len(stamp) == 10 else ""
        suite = ET.SubElement(root, "testsuite", {"name": visible(name), "timestamp": stamp, "time": "0", **told})
        _cases(suite, name, rows, undone)
    for key, n in totals.items():
        root.set(key, str(n))
    root.set("time", "0")
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _undone(row: Mapping[str, Any], hidden: Sequence[Sequence[str]]) -> bool:
    """Tell whether a policy applies and no figure could be computed to be held against its limit.

    hidden: (task, axis) whose figures are there, and are left out of this report.
    """
    there = any((row["task"], row["by"]) == tuple(place) for place in hidden)
    return row["verdict"] == INCONCLUSIVE and not is_number(row["value"]) and not there


def _cases(
    suite: ET.Element, name: str, rows: Sequence[Mapping[str, Any]], undone: Callable[[Mapping[str, Any]], bool]
) -> None:
    for row in rows:
        where = f"{name} / {row['task']}"
        case = ET.SubElement(suite, "testcase", name=visible(row["policy"]), classname=visible(where), time="0")
        line = visible(verdict_line(row))
        if row["verdict"] == FAIL:
            ET.SubElement(case, "failure", message=line, type="policy").text = line
        elif undone(row):
            ET.SubElement(case, "error", message=line, type="not computed").text = line
        elif row["verdict"] != PASS:
            ET.SubElement(case, "skipped", message=line)
        else:
            ET.SubElement(case, "system-out").text = line
