"""Results → self-contained HTML pages that open offline by double click: no outside address, no torch."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.errors import UsageError
from fairaudit.files import plain_disk_errors, write_text
from fairaudit.report.answer import make_comparison_context
from fairaudit.report.ci import write_ci_files
from fairaudit.report.comparisons import COMPARISON_SECTIONS
from fairaudit.report.context import Context, make_context
from fairaudit.report.errors import error_heads
from fairaudit.report.groups import axis_totals, group_heads
from fairaudit.report.hiding import hide_below
from fairaudit.report.methods import METHOD_SECTIONS, make_method_context
from fairaudit.report.model_card import MODEL_CARD, model_card
from fairaudit.report.overview import run_sections
from fairaudit.report.page import record_pages, render, write_page
from fairaudit.report.pictures import FacePictures
from fairaudit.report.sections import SECTIONS
from fairaudit.report.subgroup_index import index_data
from fairaudit.report.words import axis_label
from fairaudit.results import Attribution, AuditResult, Comparison, MethodComparison
from fairaudit.results.files import HISTORY

ERRORS = "errors.html"
# what else a folder may hold, by its file: none of it is an audit
_NO_AUDIT = {
    "comparison": "a comparison",
    "methods": "a comparison of methods",
    "attribution": "an attribution",
    "robustness": "a robustness",
    "masking": "a masking",
}
# What one file leaves out for its size: end tags that HTML implies, and labels that repeat a caption.
_CLOSING = re.compile(r"</(?:td|th|tr|thead|tbody)>\s*")
_CAPTION = re.compile(r'aria-label="([^"]*)">(\s*<table[^>]*>\s*)<caption>')
# Attributes are quoted by templates alone (a quote in a name is escaped), so this meets links and nothing else.
_PAGE = re.compile(r'href="groups/([a-z0-9-]+)\.html"')


def render_audit(
    folder: Path,
    out: Path,
    *,
    attribution: Path | None = None,
    faces_root: Path | None = None,
    acknowledged: str = "",
    below: int | None = None,
    single: bool = False,
) -> Path:
    """Write the report of the audit in `folder`, with its training history where it has one, into `out`.

    Returns the index. `attribution` is the folder of an attribution that is to be shown.
    `faces_root`, given only where a person asked to see faces, is the folder that image names are relative to.
    Raises DataError where a folder holds no audit or attribution, UsageError where faces are asked for and the audit
    has no predictions.parquet beside it. acknowledged: "NAME, purpose" of who has read the notice on race heads, where
    it was said after the audit. below: hide cells of fewer faces, and write the tables without them into tables/;
    UsageError where faces or an attribution are asked for, too, or `out` holds the whole audit.
    """
    other = next((name for name in _NO_AUDIT if (folder / f"{name}.json").is_file()), None)
    if other and not (folder / "audit.json").exists():
        hides = "; --hide-below is for audits alone, for counts of two models on the same faces give cells away"
        raise UsageError(
            f"{folder} holds {_NO_AUDIT[other]}, whose page is written with it: `fairaudit report` takes the folder of "
            f"an audit{hides if below is not None else ''}"
        )
    if below is not None and (attribution is not None or faces_root is not None):
        raise UsageError("--hide-below leaves out pictures: give it without --attribution and --show-faces")
    if below is not None and (out / "audit.json").exists():
        raise UsageError(f"--hide-below: {out} holds the whole audit, every figure of it; give a folder of its own")
    result = AuditResult.load(folder)
    if acknowledged:
        stated = {**result.meta.get("report", {}), "acknowledge_race_head": acknowledged}
        result = replace(result, meta={**result.meta, "report": stated})
    if below is not None:
        result = hide_below(result, below)
    found = Attribution.load(attribution) if attribution is not None else None
    history = pd.read_csv(folder / HISTORY) if (folder / HISTORY).exists() else None
    faces = _face_pictures(folder, faces_root)
    return write_report(result, out, attribution=found, history=history, faces=faces, single=single)


def write_report(
    result: AuditResult,
    out: Path | str,
    *,
    attribution: Attribution | None = None,
    history: pd.DataFrame | None = None,
    faces: FacePictures | None = None,
    links: Mapping[str, str] | None = None,
    single: bool = False,
) -> Path:
    """Write index.html and groups/*.html, one page a subgroup of every axis, into `out`; return the index.

    `single` puts every page into index.html, to be passed on as one file.

    Beside them model-card.md, and summary.md and junit.xml for CI. Their hashes stand in pages.json, by which
    `verify` checks them. Every file is whole or absent; pages of subgroups
    that an earlier report had and this one lacks are removed. `links` gives names and addresses, relative to `out`, of
    pages to lead to. No face is shown without `faces`; with them errors.html lays out the wrongly predicted
    ones, and without them an earlier one is removed.
    """
    out = Path(out)
    if faces is not None:
        links = {**(links or {}), "Wrongly predicted faces": ERRORS}
    context = make_context(result, attribution=attribution, history=history, faces=faces, links=links)
    index = {
        "title": f"Fairness audit: {result.meta.get('name') or 'audit'}",
        "sections": [section for make in SECTIONS.values() if (section := make(context)) is not None],
        "links": context.links,
        "groups": index_data(context),
        "meta": result.meta,
        "label_source": result.meta.get("label_source") or "",
    }
    written: set[str] = set()
    if single:
        _write_single(context, out, index)
        (out / ERRORS).unlink(missing_ok=True)
    else:
        written = _write_groups(context, out)
        _write_errors(context, out)
        write_page("index.html", out / "index.html", **index)
    _remove_stale(out / "groups", written)
    name = result.meta.get("name") or "audit"
    write_text(out / MODEL_CARD, model_card(context))
    documents = [MODEL_CARD, *write_ci_files(out, {name: result}), *_write_tables(result, out)]
    errors = [ERRORS] if faces is not None and not single else []
    pages = ["index.html", *errors, *(f"groups/{page}" for page in written), *documents]
    record_pages(out, pages, "audit.json")
    return out / "index.html"


def write_comparison_report(
    comparison: Comparison,
    out: Path | str,
    *,
    results: Mapping[str, AuditResult] | None = None,
    links: Mapping[str, str] | None = None,
    histories: Mapping[str, pd.DataFrame] | None = None,
    tables: Mapping[str, Predictions] | None = None,
) -> Path:
    """Write the report of models compared on the same faces into `out`; return its index.html.

    `results` are the audits of the same models by name, for their overall figures; `histories` their trainings and
    `tables` their predictions, for training and ROC curves in one chart each; `links` as in `write_report`.
    """
    context = make_comparison_context(comparison, results=results, links=links, histories=histories, tables=tables)
    sections = [section for make in COMPARISON_SECTIONS.values() if (section := make(context)) is not None]
    title = f"{_listed(comparison)} against {comparison.meta.get('baseline', 'the baseline')}"
    index = write_page(
        "comparison.html",
        Path(out) / "index.html",
        title=f"Comparison: {title}",
        sections=sections,
        links=context.links,
        meta=comparison.meta,
    )
    record_pages(Path(out), ["index.html"], "comparison.json")
    return index


def write_methods_report(found: MethodComparison, out: Path | str, *, links: Mapping[str, str] | None = None) -> Path:
    """Write the page of methods compared over seeds into `out`; return its index.html. `links` as in `write_report`."""
    context = make_method_context(found)
    sections = [section for make in METHOD_SECTIONS.values() if (section := make(context)) is not None]
    index = write_page(
        "comparison.html",
        Path(out) / "index.html",
        title=f"Methods over seeds: {', '.join(context.methods)} against {found.meta['baseline']}",
        sections=sections,
        links=dict(links or {}),
        meta={**found.meta, "n_paired": found.meta["n"]},
    )
    record_pages(Path(out), ["index.html"], "methods.json")
    return index


def write_run_index(
    out: Path,
    title: str,
    *,
    results: Mapping[str, AuditResult],
    comparison: Comparison | None = None,
    question: str = "",
    findings: pd.DataFrame | None = None,
) -> Path:
    """Write the page that leads to everything of one run: audits, comparison, checkpoints, data; return it.

    Beside it summary.md and junit.xml, of all its audits. The run's folder `out` holds audits/<name>/ for every one
    of `results`, and comparison/ where there is one.
    `findings` has the columns kind, action, count, examples: what was met in the data.
    """
    sections = run_sections(out, results, comparison, findings)
    index = write_page("run.html", out / "index.html", title=title, question=question, sections=sections, links={})
    record_pages(out, ["index.html", *write_ci_files(out, results)], None)
    return index


def _write_tables(result: AuditResult, out: Path) -> list[str]:
    """Write the tables of a report with hidden cells, for the audit's own hold every figure; return their names."""
    own = {"metrics": result.metrics, "gaps": result.gaps, "confusion": result.confusion, "rest": result.rest}
    tables = {f"{name}.csv": table for name, table in {**own, **result.more}.items()}
    names = tables if result.meta.get("hidden") else {}
    for name, table in names.items():
        write_text(out / "tables" / name, table.to_csv(index=False, lineterminator="\n"))
    with plain_disk_errors(out):
        for path in (out / "tables").glob("*.csv"):
            if path.name not in names:  # of an earlier report
                path.unlink()
    return [f"tables/{name}" for name in names]


def _listed(comparison: Comparison) -> str:
    return ", ".join(str(name) for name in comparison.meta.get("models", ()))


def _face_pictures(folder: Path, root: Path | None) -> FacePictures | None:
    if root is None:
        return None
    table = folder / "predictions.parquet"
    if not table.exists():
        raise UsageError(f"--show-faces needs the predictions of the audit: {table} does not exist; audit once more")
    base = root.resolve()

    def locate(image: str) -> Path:
        path = (base / image).resolve()
        # An image name that leads out of the data folder is never opened: it then counts as unreadable.
        return path if path.is_relative_to(base) else base / "outside-the-data-folder"

    return FacePictures(predictions=read_predictions(table), locate=locate)


def _groups(context: Context) -> Iterator[dict[str, Any]]:
    """Yield what the page of every subgroup prints, and between which two others it stands."""
    totals = axis_totals(context)
    places = list(context.slugs)
    for number, (by, group) in enumerate(places):
        around = {"previous": number - 1, "next": number + 1}
        steps = {word: places[i] for word, i in around.items() if 0 <= i < len(places)}
        yield {
            "slug": context.slugs[by, group],
            "title": group,
            "axis": axis_label(by),
            "size": context.result.meta.get("subgroups", {}).get(by, {}).get(group),
            "heads": group_heads(context, by, group, totals),
            "steps": [(word, f"{p[1]} ({axis_label(p[0])})", context.slugs[p]) for word, p in steps.items()],
        }


def _common(context: Context) -> dict[str, Any]:
    meta = context.result.meta
    return {"audit": meta.get("name") or "audit", "least": meta.get("min_group_size"), "links": {},
            "shows_faces": context.faces is not None}  # fmt: skip


def _write_groups(context: Context, out: Path) -> set[str]:
    written = set()
    for group in _groups(context):
        name = f"{group['slug']}.html"
        write_page("group.html", out / "groups" / name, title=group["title"], group=group, **_common(context))
        written.add(name)
    return written


def _write_errors(context: Context, out: Path) -> None:
    """Write the page of wrongly predicted faces, or remove that of an earlier report, which nobody asked for now."""
    if context.faces is None:
        with plain_disk_errors(out):
            (out / ERRORS).unlink(missing_ok=True)
        return
    write_page("errors.html", out / ERRORS, title="Wrongly predicted faces", heads=error_heads(context),
               **_common(context))  # fmt: skip


def _write_single(context: Context, out: Path, index: Mapping[str, Any]) -> None:
    """Write index.html with every subgroup's page in it; what leads to those pages leads to places in this one."""
    wrong = error_heads(context) if context.faces is not None else None
    text = render("single.html", **{**_common(context), **index}, members=list(_groups(context)), wrong=wrong)
    text = _PAGE.sub(r'href="#\1"', text).replace(f'href="{ERRORS}"', 'href="#errors"')
    number = count()
    text = _CAPTION.sub(lambda found: _captioned(found, f"c{next(number)}"), text)
    write_text(out / "index.html", _CLOSING.sub("", text))


def _captioned(found: re.Match[str], name: str) -> str:
    """Name a scrolling region by its caption's id: in one file the captions would stand there twice a hundred times."""
    return f'aria-labelledby="{name}">{found[2]}<caption id="{name}">'


def _remove_stale(folder: Path, keep: set[str]) -> None:
    """Remove pages of an earlier report whose subgroups are gone; nothing else in the folder is touched."""
    if not folder.is_dir():
        return
    with plain_disk_errors(folder):
        for page in folder.glob("*.html"):
            if page.name not in keep:
                page.unlink()
