"""The stages of a run from predictions to audits, attributions, a comparison and their pages."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit import __version__
from fairaudit.attribution.attribute import attribute
from fairaudit.attribution.passes import keeping
from fairaudit.audit import run_audit
from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.data.summary import findings_summary
from fairaudit.data.synthetic import planted_report
from fairaudit.data.tables import FaceTable
from fairaudit.files import file_hash, write_json
from fairaudit.inputs import keep_history, read_histories
from fairaudit.models.answers import no_layers
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.forest import is_forest
from fairaudit.probe_stages import probe_links
from fairaudit.report.render import write_comparison_report, write_report, write_run_index
from fairaudit.results import Attribution, AuditResult, Comparison
from fairaudit.results.files import HISTORY
from fairaudit.stages import BASELINE, Run


def audit_meta(faces: FaceTable | None, checkpoint_meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the audit's first page says of the data and the model."""
    meta: dict[str, Any] = {"created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    if faces is not None:
        meta["data"] = {
            "dataset": faces.meta.get("dataset"),
            "sources": sorted(set(faces.frame["dataset"].dropna().astype(str))) if "dataset" in faces.frame else [],
            "split_hash": faces.meta.get("split_hash"),
            "data_hash": faces.meta.get("data_hash"),
            "findings": findings_summary(faces.findings).to_dict("records"),
            "splits": faces.frame["split"].value_counts().to_dict() if "split" in faces.frame else {},
        }
    if checkpoint_meta is not None:
        meta["model"] = {key: value for key, value in checkpoint_meta.items() if key not in {"spec", "mitigation"}}
        meta["mitigation"] = checkpoint_meta.get("mitigation")
    return meta


def audit_stage(job: Run, faces: FaceTable, name: str, axes: Sequence[str] | None) -> None:
    """Audit the test predictions of the model `name` into audits/, unless that is done."""
    spec, source = job.spec, job.out / "predictions" / f"{name}.parquet"
    inputs = {
        "predictions": file_hash(source),
        "audit": spec.audit.model_dump(mode="json"),
        "report": spec.report.model_dump(mode="json"),
        "seed": spec.seed,
        "name": spec.name,
    }

    def work() -> None:
        predictions = read_predictions(source)
        checkpoint = json.loads((job.out / "checkpoints" / name / "model.json").read_text(encoding="utf-8"))
        result = run_audit(
            predictions,
            tasks=spec.tasks or None,
            by=axes,
            audit=spec.audit,
            seed=spec.seed,
            name=f"{spec.name}: {name}",
            meta={
                **audit_meta(faces, checkpoint),
                "question": spec.question,
                "report": spec.report.model_dump(mode="json"),
            },
            progress=job.progress,
        )
        planted = faces.meta.get("planted")
        if planted:
            result = replace(result, meta={**result.meta, "planted": planted_report(planted, result.metrics)})
        result.save(job.out / "audits" / name, predictions)
        keep_history(job.out / "checkpoints" / name, job.out / "audits" / name)

    tables = ("metrics.csv", "gaps.csv", "confusion.csv", "rest.csv", "predictions.parquet")
    job.stage(f"audit {name}", inputs, [f"audits/{name}/{file}" for file in ("audit.json", *tables)], work)


def attribute_stage(job: Run, faces: FaceTable, name: str, axes: Sequence[str] | None) -> None:
    """Attribute the answers of the model `name` into attribution/, unless that is done or nothing can be followed."""
    spec, folder = job.spec, job.out / "attribution" / name
    reason = _attributed(job, name)
    if reason is not None:
        if reason:
            job.say(f"attribute {name}: {reason}, nothing is attributed")
        return
    by = tuple(axes or AuditResult.load(job.out / "audits" / name).meta["subgroups"])
    inputs = {
        "model": file_hash(job.out / "checkpoints" / name / "model.safetensors"),
        "faces": file_hash(job.out / "data" / "faces.parquet"),
        "attribution": spec.attribution.model_dump(mode="json"),
        "by": by,
        "seed": spec.seed,
    }

    def work() -> None:
        with keeping(folder) as keep:
            found = attribute(
                load_checkpoint(job.out / "checkpoints" / name),
                faces.part("test"),
                by=by,
                attribution=spec.attribution,
                seed=spec.seed,
                device=spec.training.device,
                keep=keep,
                progress=job.progress,
            )
            found.save(folder)

    tables = ("attribution", "regions", "contrasts", "sanity", "curves")
    files = ("attribution.json", *(f"{table}.csv" for table in tables), "maps.npz")
    job.stage(f"attribute {name}", inputs, [f"attribution/{name}/{file}" for file in files], work)


def _attributed(job: Run, name: str) -> str | None:
    """Return why the model `name` is not attributed: "" where the spec asks for none; None where it is."""
    if not job.spec.attribution.faces_per_head:
        return ""
    if is_forest(job.spec.model):
        return f"{job.spec.model.backbone} has no gradients to follow"
    return no_layers(job.out / "checkpoints" / name)


def report_stage(job: Run, name: str) -> None:
    """Write the pages of the audit of the model `name`, unless that is done."""
    folder = job.out / "audits" / name
    maps = job.out / "attribution" / name
    mapped = _attributed(job, name) is None  # maps that an earlier spec asked for belong to another model
    inputs = {
        "audit": file_hash(folder / "audit.json"),
        "attribution": file_hash(maps / "attribution.json") if mapped else None,
        "links": probe_links(job.spec, name),
    }
    links = {"Run overview": "../../index.html", **probe_links(job.spec, name)}

    def work() -> None:
        history = folder / HISTORY
        write_report(
            AuditResult.load(folder),
            folder,
            attribution=Attribution.load(maps) if mapped else None,
            history=pd.read_csv(history) if history.exists() else None,
            links=links,
        )

    job.stage(f"report {name}", inputs, [f"audits/{name}/index.html"], work)


def compare_stage(job: Run, names: list[str], axes: Sequence[str] | None) -> None:
    """Compare the models `names`, the baseline first, into comparison/, unless that is done."""
    spec, folder = job.spec, job.out / "comparison"
    tables = {name: job.out / "predictions" / f"{name}.parquet" for name in names}
    validation = job.out / "predictions" / f"{BASELINE}-val.parquet"
    inputs = {
        "predictions": {name: file_hash(path) for name, path in tables.items()},
        "validation": file_hash(validation),
        "audit": spec.audit.model_dump(mode="json"),
        "seed": spec.seed,
    }

    def work() -> None:
        models = {name: read_predictions(path) for name, path in tables.items()}
        comparison = compare(
            models[BASELINE],
            {name: table for name, table in models.items() if name != BASELINE},
            by=axes,
            tasks=spec.tasks or None,
            audit=spec.audit,
            seed=spec.seed,
            validation=read_predictions(validation),
            progress=job.progress,
        )
        comparison.save(folder)
        results = {name: AuditResult.load(job.out / "audits" / name) for name in names}
        links = {"Run overview": "../index.html", **{f"Audit of {n}": f"../audits/{n}/index.html" for n in names}}
        histories = read_histories({name: job.out / "audits" / name for name in names})
        write_comparison_report(comparison, folder, results=results, links=links, histories=histories, tables=models)

    files = ("comparison.json", "comparison.csv", "gap_changes.csv", "index.html")
    job.stage("compare", inputs, [f"comparison/{file}" for file in files], work)


def write_index(job: Run, faces: FaceTable, names: list[str]) -> Path:
    """Write the page that leads to everything of this run."""
    write_json(job.out / "spec.json", {"fairaudit": __version__, "spec": job.spec.model_dump(mode="json")})
    comparison = Comparison.load(job.out / "comparison") if len(names) > 1 else None
    return write_run_index(
        job.out,
        job.spec.name,
        results={name: AuditResult.load(job.out / "audits" / name) for name in names},
        comparison=comparison,
        question=job.spec.question,
        findings=findings_summary(faces.findings),
    )
