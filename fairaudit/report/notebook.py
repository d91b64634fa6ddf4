"""What a notebook shows of a result: its answer in one compact block, without script or outside address."""

from functools import singledispatch
from typing import Any

from fairaudit.report.answer import answer_section, make_comparison_context
from fairaudit.report.context import make_context
from fairaudit.report.first_screen import first_screen
from fairaudit.report.page import render
from fairaudit.report.verdict import verdicts
from fairaudit.report.words import axis_label, count, figure, sentence_case
from fairaudit.results import AuditResult, Comparison
from fairaudit.subgroups import OVERALL, parse


@singledispatch
def notebook_html(result: Any) -> str:
    """Return HTML for a notebook's output cell. Raises TypeError for what has no such form."""
    raise TypeError(f"nothing is known about how to show {type(result).__name__} in a notebook")


@notebook_html.register
def _audit(result: AuditResult) -> str:
    context = make_context(result)
    heads = []
    for task in context.tasks:
        cell = context.cell(task, OVERALL, OVERALL, "accuracy")
        heads.append((sentence_case(task), figure(cell.value, cell.low, cell.high), count(cell.n)))
    judged = sorted(verdicts(context), key=lambda v: len(parse(v.by)))
    return render(
        "notebook_audit.html",
        name=result.meta.get("name") or "audit",
        n=result.meta.get("n"),
        screen=first_screen(context),
        heads=heads,
        verdicts=[(sentence_case(v.task), axis_label(v.by), v) for v in judged],
    )


@notebook_html.register
def _comparison(comparison: Comparison) -> str:
    models = answer_section(make_comparison_context(comparison)).data["models"]
    meta = comparison.meta
    return render(
        "notebook_comparison.html",
        baseline=meta.get("baseline", "the baseline"),
        n=meta.get("n_paired"),
        models=[
            {**model, "changes": [(h["title"], axis_label(c.by), c) for h in model["heads"] for c in h["changes"]]}
            for model in models
        ],
    )
