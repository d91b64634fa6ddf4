"""The sections of an audit's first page. One function and one line in SECTIONS adds a section."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairaudit.report.adjusted import adjusted_data
from fairaudit.report.annex_iv import annex_data
from fairaudit.report.attribution_curves import order_view
from fairaudit.report.attributions import attribution_views
from fairaudit.report.calibration import calibration_data
from fairaudit.report.composition import composition_data
from fairaudit.report.confusions import confusions_data
from fairaudit.report.context import Context
from fairaudit.report.criteria import criteria_data, shades_data, spread_data
from fairaudit.report.crossings import crossings_data
from fairaudit.report.datasheet import datasheet_data
from fairaudit.report.findings import findings_data
from fairaudit.report.first_screen import first_screen
from fairaudit.report.heads import head_view
from fairaudit.report.impact import custom_data, impact_data
from fairaudit.report.label_noise import label_noise_data
from fairaudit.report.legal import legal_notice
from fairaudit.report.looks import check_sentences, check_table, contrast_sentences, contrast_tables
from fairaudit.report.policies import exploratory_data, plan_data, population_data
from fairaudit.report.provenance import provenance_data
from fairaudit.report.published import published_data
from fairaudit.report.rationale import rationale_data
from fairaudit.report.roc import roc_data
from fairaudit.report.scope import scope_data
from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.verdict import verdicts
from fairaudit.report.words import axis_label, count, number, sentence_case
from fairaudit.subgroups import OVERALL, parse

LONGEST = 300  # characters of a fact about model or data on the first page
_ELSEWHERE = ("classes", "tasks", "format", "description")  # what of such facts the page says in another place


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a page: its anchor and title, the template that prints it, and what that template reads."""

    key: str
    title: str
    template: str
    data: Mapping[str, Any] = field(default_factory=dict)


def answer_section(context: Context) -> Section:
    """Answer first: what is shown, who is worst off, what became of declared limits, what cannot be concluded."""
    return Section(key="answer", title="The answer", template="sections/first.html", data=first_screen(context))


def verdict_section(context: Context) -> Section:
    """Say in plain words, head by head, which gaps are shown, which are not, and who was not assessed."""
    judged = verdicts(context)
    heads = [
        {
            "task": task,
            "title": sentence_case(task),
            "overall": context.cell(task, OVERALL, OVERALL, "accuracy"),
            "single": [v for v in judged if v.task == task and len(parse(v.by)) == 1],
            "crossed": [v for v in judged if v.task == task and len(parse(v.by)) > 1],
        }
        for task in context.tasks
    ]
    level = number(1 - _confidence(context)).removesuffix(".0")
    data = {"heads": heads, "level": level, "axis_label": axis_label}
    return Section(key="verdict", title="Verdict, head by head", template="sections/verdict.html", data=data)


def findings_section(context: Context) -> Section | None:
    """List what is beyond noise, surest first, the families it was judged in, and what could have been found."""
    data = findings_data(context)
    return Section(key="findings", title="Findings", template="sections/findings.html", data=data) if data else None


def warnings_section(context: Context) -> Section | None:
    """Print what a reader must know before acting on a figure, and the legal notice of a head that infers race."""
    warnings = list(context.result.meta.get("warnings", ()))
    legal = legal_notice(list(context.tasks), context.result.meta)
    if not warnings and not legal:
        return None
    # What is said of one axis stands with that axis, too; here it must not bury what holds for everything.
    folded = [text for text in warnings if text.split(":")[0] in {by.split(":")[0] for by in context.axes}]
    data = {"warnings": [text for text in warnings if text not in folded], "folded": folded, "legal": legal}
    return Section(key="warnings", title="Read this first", template="sections/warnings.html", data=data)


def scope_section(context: Context) -> Section | None:
    """Say what the model is for and who answers for it, as it was stated."""
    return _optional("scope", "Scope and intended use", scope_data(context))


def audited_section(context: Context) -> Section:
    """Say what was audited: model, faces, labels and who made them, when."""
    meta = context.result.meta
    facts = [
        ("Audit", meta.get("name", "")),
        ("Question", meta.get("question", "")),
        ("Made", _date(meta)),
        ("Faces", count(meta.get("n"))),
        ("Heads", "; ".join(f"{task}: {', '.join(classes)}" for task, classes in context.tasks.items())),
        ("Subgroup axes", ", ".join(axis_label(by) for by in context.axes)),
        (
            "Labels",
            meta.get("label_source")
            or "Where the labels come from is not known: every claim holds on this sample and these labels only.",
        ),
        *(("Model: " + name, text) for name, text in _plain_items(meta.get("model"))),
        *(("Data: " + name, text) for name, text in _plain_items(meta.get("data"))),
        *(("Mitigation: " + name, text) for name, text in _plain_items(meta.get("mitigation"))),
    ]
    return Section(
        key="audited",
        title="What was audited",
        template="sections/audited.html",
        data={"facts": [(name, text) for name, text in facts if text]},
    )


def composition_section(context: Context) -> Section:
    """Show who the faces are labelled as, what was left out and why."""
    meta = context.result.meta
    outcomes = [
        Row(
            f"{entry['task']}, {entry['subgroup']}",
            [Entry(axis_label(entry["by"])), Entry(str(entry["status"])), Entry(count(entry["count"]), css="num")],
        )
        for entry in meta.get("outcomes", ())
        if entry["by"] != OVERALL
    ]
    unpredicted = [entry for entry in meta.get("outcomes", ()) if entry["by"] == OVERALL]
    table = Table(
        caption="Faces without a prediction: they count as an outcome, and as wrong in end-to-end accuracy",
        first="head, subgroup",
        columns=["axis", "status", "faces"],
        rows=outcomes,
    )
    excluded = [entry for entry in meta.get("excluded", ()) if entry.get("count")]
    data = {**composition_data(context), "excluded": excluded, "unpredicted": unpredicted, "count": count}
    data["outcomes"] = table if outcomes else None
    return Section(key="composition", title="Who was audited", template="sections/composition.html", data=data)


def datasheet_section(context: Context) -> Section | None:
    """Print the data sheet: origin of faces and labels, what was left out, terms of use."""
    return _optional("datasheet", "Data sheet", datasheet_data(context))


def published_section(context: Context) -> Section | None:
    """Set figures that others published beside this audit's, or say why there are none."""
    return _optional("published", "Published numbers", published_data(context))


def rationale_section(context: Context) -> Section | None:
    """Say why each metric stands in the report, and when it misleads."""
    return _optional("rationale", "Why these metrics", rationale_data(context))


def annex_section(context: Context) -> Section | None:
    """Say where the report bears on each point of Annex IV of the EU AI Act."""
    return _optional("annex", "Annex IV of the AI Act", annex_data(context))


def policies_section(context: Context) -> Section | None:
    """Set what was declared beforehand, and frozen in a plan, beside the verdict on it."""
    return _optional("policies", "Plan and policies", plan_data(context))


def exploratory_section(context: Context) -> Section | None:
    """Show what was discovered on one half of the faces and confirmed on the other."""
    return _optional("exploratory", "Discovered and confirmed", exploratory_data(context))


def criteria_section(context: Context) -> Section | None:
    """Judge the fairness criteria at the worst class, and say whether they can hold together."""
    return _topic("criteria", "Fairness criteria", criteria_data(context))


def spread_section(context: Context) -> Section | None:
    """Sum up each axis in FairFace's row, beside what noise alone gives."""
    return _topic("spread", "Spread over subgroups", spread_data(context))


def shades_section(context: Context) -> Section | None:
    """Show each gender apart by race, as Gender Shades does."""
    return _topic("shades", "Gender Shades’ table", shades_data(context))


def confusions_section(context: Context) -> Section | None:
    """Name what is taken for what, in whom more than in others."""
    return _topic("confusions", "Directed confusions", confusions_data(context))


def impact_section(context: Context) -> Section | None:
    """Give impact ratios where an output selects people, and say why not where none does."""
    return _topic("impact", "Impact ratios", impact_data(context))


def custom_section(context: Context) -> Section | None:
    """Show the metrics that the user named."""
    return _topic("custom", "Your own metrics", custom_data(context))


def _topic(key: str, title: str, data: Mapping[str, Any] | None) -> Section | None:
    return None if data is None else Section(key=key, title=title, template="sections/topic.html", data=data)


def population_section(context: Context) -> Section | None:
    """Show the overall figures re-weighted to a stated population."""
    return _optional("population", "In the stated population", population_data(context))


def _optional(key: str, title: str, data: Mapping[str, Any] | None) -> Section | None:
    """Return a section whose template bears its name, None where there is nothing to print."""
    return Section(key=key, title=title, template=f"sections/{key}.html", data=data) if data is not None else None


def planted_section(context: Context) -> Section | None:
    """For made-up faces: set each planted bias, which is known, beside what the audit found."""
    planted = context.result.meta.get("planted")
    if not planted:
        return None
    return Section(
        key="planted", title="The planted truth", template="sections/planted.html", data={"planted": planted}
    )


def heads_section(context: Context) -> Section:
    """Show every head overall and by subgroup, with its gaps and confusions."""
    data = {"heads": [head_view(context, task) for task in context.tasks]}
    return Section(key="heads", title="Each head in figures", template="sections/heads.html", data=data)


def adjusted_section(context: Context) -> Section | None:
    """Show gaps at one common mix of covariates beside the gaps as they are."""
    data = adjusted_data(context)
    if data is None:
        return None
    return Section(key="adjusted", title="Adjusted gaps", template="sections/adjusted.html", data=data)


def label_noise_section(context: Context) -> Section | None:
    """Say what the gaps could be if labels are wrong."""
    data = label_noise_data(context)
    if data is None:
        return None
    return Section(key="labels", title="If labels are wrong", template="sections/label_noise.html", data=data)


def crossings_section(context: Context) -> Section:
    """Show every intersection in one table a head, errors of ordered heads by class, and what cannot be shown."""
    return Section(
        key="crossings",
        title="Intersections, and what is not shown",
        template="sections/crossings.html",
        data=crossings_data(context),
    )


def calibration_section(context: Context) -> Section | None:
    """Show whether stated probabilities come true in every group, and what answering fewer faces would do."""
    return _optional("calibration", "Calibration", calibration_data(context))


def roc_section(context: Context) -> Section | None:
    """Show how well probabilities tell each class from all others, in every subgroup."""
    data = roc_data(context)
    if data is None:
        return None
    return Section(key="roc", title="ROC curves", template="sections/roc_curves.html", data=data)


def attribution_section(context: Context) -> Section | None:
    """Show where the model looks, per subgroup."""
    if context.attribution is None:
        return None
    failed, passed = check_sentences(context)
    data = {
        "views": attribution_views(context),
        "meta": context.attribution.meta,
        "warnings": [line for line in context.attribution.meta.get("warnings", ()) if "fails the check" not in line],
        "said": contrast_sentences(context),
        "failed": failed,
        "passed": passed,
        "checks": check_table(context),
        "contrasts": contrast_tables(context),
        "orders": order_view(context),
    }
    return Section(key="attribution", title="Where the model looks", template="sections/attribution.html", data=data)


def training_section(context: Context) -> Section | None:
    """Show how training went, epoch by epoch."""
    if context.history is None or context.history.empty:
        return None
    # Drawing with seaborn costs seconds of import; a report without a history does without it.
    from fairaudit.report.charts import history_note, history_table, training_curves

    history = context.history
    data = {"chart": training_curves(history), "table": history_table(history), "note": history_note(history)}
    return Section(key="training", title="Training", template="sections/training.html", data=data)


_PROPORTIONS = {"wilson": "Wilson", "clopper-pearson": "Clopper–Pearson (exact)"}


def method_section(context: Context) -> Section:
    """Say how figures and intervals were made, what is assumed, and what this report does not claim."""
    meta = context.result.meta
    data = {
        "confidence": number(_confidence(context)).removesuffix(".0"),
        "least": meta.get("min_group_size"),
        "proportions": _PROPORTIONS[meta.get("settings", {}).get("audit", {}).get("interval", "wilson")],
        "independence": meta.get("independence", ""),
        "degenerate": [
            f"{task}: {', '.join(axis_label(by) for head, by in context.degenerate if head == task)}"
            for task in dict.fromkeys(head for head, _ in context.degenerate)
        ],
        "draws": meta.get("draws"),
        "seed": meta.get("seed"),
    }
    return Section(key="method", title="Method and limits", template="sections/method.html", data=data)


def hashes_section(context: Context) -> Section:
    """Print versions and hashes, the command that checks every figure, and the line for a signature."""
    data = provenance_data(context)
    return Section(key="hashes", title="Versions and hashes", template="sections/provenance.html", data=data)


def _confidence(context: Context) -> float:
    return float(context.result.meta.get("confidence", 0.95))


def _date(meta: Mapping[str, Any]) -> str:
    return str(meta.get("created", ""))[:16].replace("T", " ")


def _plain_items(part: Any) -> list[tuple[str, str]]:
    """Return the short facts of a nested description, names and texts."""
    if not isinstance(part, Mapping):
        return [("", str(part))] if part else []
    facts = {key: _facts(value) if isinstance(value, Mapping) else _plain(value) for key, value in part.items()}
    return [(_name(key), text) for key, text in facts.items() if text and key not in _ELSEWHERE]


def _facts(part: Mapping[str, Any]) -> str:
    return "; ".join(f"{_name(key)} {text}" for key, value in part.items() if (text := _plain(value)))


def _name(key: object) -> str:
    return str(key).replace("_", " ")


def _plain(value: Any) -> str:
    """Return a short fact as text, figures to four digits; "" for what is too long or too deep."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (str, int)):
        return str(value) if len(str(value)) <= LONGEST else ""
    if isinstance(value, (list, tuple)) and all(isinstance(inner, (str, int, float)) for inner in value):
        texts = [_plain(inner) for inner in value]
        return (" " if all(text.endswith(".") for text in texts) else ", ").join(texts[:12])
    return ""


SECTIONS: dict[str, Callable[[Context], Section | None]] = {
    "answer": answer_section,
    "verdict": verdict_section,
    "findings": findings_section,
    "policies": policies_section,
    "warnings": warnings_section,
    "scope": scope_section,
    "planted": planted_section,
    "audited": audited_section,
    "composition": composition_section,
    "datasheet": datasheet_section,
    "heads": heads_section,
    "published": published_section,
    "crossings": crossings_section,
    "calibration": calibration_section,
    "roc": roc_section,
    "shades": shades_section,
    "criteria": criteria_section,
    "spread": spread_section,
    "confusions": confusions_section,
    "impact": impact_section,
    "custom": custom_section,
    "population": population_section,
    "exploratory": exploratory_section,
    "adjusted": adjusted_section,
    "labels": label_noise_section,
    "attribution": attribution_section,
    "training": training_section,
    "rationale": rationale_section,
    "method": method_section,
    "annex": annex_section,
    "hashes": hashes_section,
}
