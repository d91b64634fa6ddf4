"""The whole road of one spec: data → training → predictions → audits → attribution → comparison → reports.

Everything lies under one folder: `data/`, `checkpoints/`, `predictions/`, `audits/`, `attribution/`, `comparison/` and
an `index.html` that leads to all of them. A stage whose inputs are unchanged is skipped, so a run goes on where it was
stopped.
"""

import datetime
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import __version__
from fairaudit.attribution.attribute import attribute, check_settings
from fairaudit.attribution.passes import keeping
from fairaudit.audit import run_audit
from fairaudit.comparison import compare
from fairaudit.covariates import check_covariates
from fairaudit.data.predictions import read_predictions
from fairaudit.data.quality import QUALITY
from fairaudit.data.readers import READERS
from fairaudit.data.summary import composition, findings_summary
from fairaudit.data.synthetic import planted_report, synthesize
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.files import file_hash, write_json, write_text
from fairaudit.inputs import face_root, keep_history, listing_hash, load_and_split, read_histories
from fairaudit.masking.measure import check_masking
from fairaudit.mitigation import mitigation_weights
from fairaudit.models.answers import no_layers
from fairaudit.models.backbones import check_backbone
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import Checkpoint, load_checkpoint
from fairaudit.models.forest import check_keys, is_forest
from fairaudit.models.forest_training import check_forest
from fairaudit.models.inference import predict
from fairaudit.models.runtime import pick_device
from fairaudit.models.training import train
from fairaudit.policy_checks import check_names, declared
from fairaudit.probe_stages import masking_stage, probe_links, robustness_stage
from fairaudit.progress import Progress, silent
from fairaudit.refit_stage import check_method, plan_refit, refit_baseline, refits_heads, settings_of
from fairaudit.registry import lookup
from fairaudit.report.render import write_comparison_report, write_report, write_run_index
from fairaudit.results import Attribution, AuditResult, Comparison
from fairaudit.results.files import HISTORY
from fairaudit.robustness.measure import check_perturbations
from fairaudit.spec import MitigationSpec, Spec
from fairaudit.stages import claim_run, stage

BASELINE = "baseline"
CACHE = "cache"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: what is asked (`spec`), of which faces (`root`), where it goes (`out`), and whom to tell."""

    spec: Spec
    root: Path
    out: Path
    weights_folders: Sequence[Path] = ()
    progress: Progress = silent
    say: Callable[[str], None] = lambda text: None

    def stage(self, name: str, inputs: Mapping[str, Any], outputs: list[str], work: Callable[[], None]) -> None:
        """Do one stage unless it is done already (see `stages.stage`)."""
        stage(self.out, name, inputs, outputs, work, self.say)


def run(job: Run) -> Path:
    """Do every stage of `job.spec` and return the path of the run's index.html.

    Raises UsageError before any model runs where the spec names a head, axis, backbone, weights file or mitigation
    that cannot be had, or `job.out` holds another run; DataError where faces or a checkpoint are unusable.
    """
    check_spec(job.spec, job.weights_folders)
    claim_run(job.out, job.spec.name)
    if job.spec.attribution.faces_per_head:
        check_settings(job.spec.attribution)
    faces = prepare_faces(job)
    axes = choose_axes(job.spec, faces)
    if job.spec.attribution.faces_per_head:
        faces.require(job.spec.attribution.contrasts)
        check_settings(job.spec.attribution, {task: faces.tasks[task] for task in job.spec.tasks or faces.tasks})
    for entry in job.spec.mitigations:  # said now, not after the baseline is trained
        (plan_refit if refits_heads(entry) else weigh)(job.spec, faces, entry)
    models = {BASELINE: None, **mitigation_names(job.spec.mitigations)}
    for name, mitigation in models.items():
        train_stage(job, faces, name, mitigation)
    clear_cache(job)
    predict_stage(job, faces, BASELINE, "val")
    for name in models:
        predict_stage(job, faces, name, "test")
        audit_stage(job, faces, name, axes)
        _attribute(job, faces, name, axes)
        robustness_stage(job, faces, name)
        masking_stage(job, faces, name)
        report_stage(job, name)
    clear_cache(job)
    if len(models) > 1:
        _compare(job, list(models), axes)
    return _index(job, faces, list(models))


def run_demo(job: Run) -> tuple[Path, list[dict[str, Any]]]:
    """Draw the made-up faces of `job.spec` into `job.root`, run, and return index.html and the verdict on each bias."""
    made_up = job.spec.data.synthetic
    if made_up is None:
        raise UsageError(f"spec {job.spec.name!r} has no [data.synthetic] table")
    claim_run(job.out, job.spec.name)

    def work() -> None:
        synthesize(made_up, job.root, seed=job.spec.seed, progress=job.progress)

    inputs = {"synthetic": made_up.model_dump(mode="json"), "seed": job.spec.seed}
    job.stage("faces", inputs, [f"{job.root.name}/manifest.csv", f"{job.root.name}/planted.json"], work)
    index = run(job)
    return index, list(AuditResult.load(job.out / "audits" / BASELINE).meta["planted"])


def check_spec(spec: Spec, weights_folders: Sequence[Path]) -> None:
    """Raise UsageError for a data set, backbone, weights, mitigation or metric of a policy that cannot be had.

    Called before any face is read.
    """
    for source in spec.data.sources or (spec.data,):
        lookup(READERS, source.dataset, "dataset")
    check_perturbations(spec.robustness)
    check_masking(spec.masking)
    if spec.sweep:
        raise UsageError("the spec has a [sweep]: run `fairaudit sweep`, or take the table out")
    for entry in spec.mitigations:
        check_method(spec, entry)
    if is_forest(spec.model):
        check_forest(spec)
    else:
        check_keys(spec)
        check_backbone(spec.model, weights_folders)
    check_names(spec.audit)


def mitigation_names(mitigations: Sequence[MitigationSpec]) -> dict[str, MitigationSpec]:
    """Return the mitigated models by name: the method, with its axis where a method is used on several."""
    methods = [entry.method for entry in mitigations]
    names: dict[str, MitigationSpec] = {}
    for entry in mitigations:
        name = entry.method if methods.count(entry.method) == 1 else f"{entry.method}-{entry.by.replace(':', '-')}"
        if name in names:
            raise UsageError(f"mitigation {entry.method!r} by {entry.by!r} is named twice in the spec")
        names[name] = entry
    return names


def choose_axes(spec: Spec, faces: FaceTable) -> tuple[str, ...] | None:
    """Check that the data have every attribute and head that the spec names; return the axes to audit by.

    None means that the spec names none, and the audit takes its own (each attribute, then pairs, then all three).
    """
    for task in spec.tasks:
        lookup(faces.tasks, task, "head (the data have no such label)")
    chosen = [*(spec.audit.subgroups or ()), *(entry.by for entry in spec.mitigations), *spec.audit.population]
    for policy in [p for family in declared(spec.audit).values() for p in family]:
        chosen.append(policy.by)
        if policy.task is not None:
            lookup({task: task for task in spec.tasks or faces.tasks}, policy.task, f"task in policy {policy}:")
    faces.require([*chosen, spec.training.select_by] if spec.training.select_by else chosen)
    columns = [*faces.tasks, *faces.attributes, *QUALITY]
    check_covariates(columns, spec.audit.adjust_for, list(faces.tasks), spec.audit.adjust_to)
    return spec.audit.subgroups


def audits_of(spec: Spec, out: Path) -> dict[str, AuditResult]:
    """Return the audits that a complete run left in `out`, by the name of the model."""
    names = (BASELINE, *mitigation_names(spec.mitigations))
    return {name: AuditResult.load(out / "audits" / name) for name in names}


def prepare_faces(job: Run) -> FaceTable:
    """Read, check and split the faces, or take them from an earlier call with the same files on disk."""
    spec, path = job.spec, job.out / "data" / "faces.parquet"
    inputs = {
        "data": spec.data.model_dump(mode="json"),
        "split": spec.split.model_dump(mode="json"),
        "tasks": spec.tasks,
        "seed": spec.seed,
        "files": listing_hash(job.root),
    }

    def work() -> None:
        faces = load_and_split(job.root, spec, job.progress)
        faces.save(path)
        write_text(job.out / "data" / "findings.csv", faces.findings.to_csv(index=False))
        write_text(job.out / "data" / "composition.csv", composition(faces).to_csv(index=False))

    outputs = ["data/faces.parquet", "data/findings.csv", "data/composition.csv"]
    job.stage("data", inputs, outputs, work)
    faces = FaceTable.load(path, face_root(spec, job.root))
    describe_faces(faces, job.say)
    return faces


def describe_faces(faces: FaceTable, say: Callable[[str], None]) -> None:
    """Say how many faces there are in each split, the split's hash, and what was met in the data."""
    sizes = faces.frame["split"].value_counts() if "split" in faces.frame else pd.Series(dtype=int)
    parts = ", ".join(f"{split} {sizes[split]:,}" for split in ("train", "val", "test") if split in sizes)
    say(f"{len(faces):,} faces ({parts}); split {str(faces.meta.get('split_hash', ''))[:12]}")
    for row in findings_summary(faces.findings).itertuples():
        say(f"  {row.kind}: {row.count:,} {row.action} (for example {row.examples})")


def weigh(spec: Spec, faces: FaceTable, mitigation: MitigationSpec) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the weights of a mitigation for the faces that are trained on, and what is to be said of them.

    Raises UsageError where the mitigation cannot be had, such as reweighing on an axis that determines the label.
    """
    rows = faces.part("train").frame
    rows = rows[rows["trainable"]].reset_index(drop=True)
    return mitigation_weights(rows, mitigation, list(spec.tasks or faces.tasks))


def train_checkpoint(
    spec: Spec,
    faces: FaceTable,
    out: Path,
    mitigation: MitigationSpec | None,
    *,
    weights_folders: Sequence[Path] = (),
    cache: Path | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Train one checkpoint on faces that are split: the baseline, or with the weights of a mitigation."""
    weights, described = None, None
    if mitigation:
        weights, sentences = weigh(spec, faces, mitigation)
        described = {**mitigation.model_dump(mode="json"), "sentences": sentences}
        for sentence in sentences:
            say(f"  {mitigation.method}: {sentence}")
    return train(
        faces,
        spec,
        out,
        sample_weights=weights,
        weights_folders=weights_folders,
        cache=cache,
        mitigation=described,
        progress=progress,
    )


def clear_cache(job: Run) -> None:
    """Remove decoded faces and maps: gigabytes, and faces have no place in what is shared."""
    shutil.rmtree(job.out / CACHE, ignore_errors=True)


def train_stage(job: Run, faces: FaceTable, name: str, mitigation: MitigationSpec | None) -> None:
    """Train the model `name` into checkpoints/, unless that is done."""
    spec, folder = job.spec, job.out / "checkpoints" / name
    if mitigation and refits_heads(mitigation):
        refit_stage(job, faces, name, mitigation)
        return
    inputs = {
        "data": faces.meta["data_hash"],
        "split": faces.meta["split_hash"],
        "model": spec.model.model_dump(mode="json"),
        "training": spec.training.model_dump(mode="json"),
        "mitigation": mitigation.model_dump(mode="json") if mitigation else None,
        "tasks": spec.tasks,
        "seed": spec.seed,
    }

    def work() -> None:
        train_checkpoint(
            spec,
            faces,
            folder,
            mitigation,
            weights_folders=job.weights_folders,
            cache=job.out / CACHE,
            progress=job.progress,
            say=job.say,
        )

    files = ("model.json", "model.safetensors", HISTORY, "trained_on.json")
    job.stage(f"train {name}", inputs, [f"checkpoints/{name}/{file}" for file in files], work)


def refit_stage(job: Run, faces: FaceTable, name: str, mitigation: MitigationSpec) -> None:
    """Refit the baseline's heads on its embeddings into checkpoints/, unless that is done."""
    spec, folder, base = job.spec, job.out / "checkpoints" / name, job.out / "checkpoints" / BASELINE
    inputs = {
        "baseline": [file_hash(base / file) for file in ("model.safetensors", "model.json")],
        "split": faces.meta["split_hash"],
        "mitigation": mitigation.model_dump(mode="json"),
        "settings": settings_of(spec, mitigation).model_dump(mode="json", exclude={"methods", "seeds", "tasks"}),
        "seed": spec.seed,
    }

    def work() -> None:
        store = ArrayCache(folder=job.out / CACHE, progress=job.progress, device=pick_device(spec.training.device))
        refit_baseline(base, spec, faces, mitigation, folder, store, job.say)

    files = ("model.json", "model.safetensors", "heads.json", "heads.safetensors", "trained_on.json")
    job.stage(f"refit {name}", inputs, [f"checkpoints/{name}/{file}" for file in files], work)


def predict_stage(job: Run, faces: FaceTable, name: str, split: str) -> None:
    """Let the model `name` predict the faces of one split into predictions/, unless that is done."""
    folder = job.out / "checkpoints" / name
    target = f"predictions/{name}.parquet" if split == "test" else f"predictions/{name}-{split}.parquet"
    training = job.spec.training
    heads = folder / "heads.safetensors"
    inputs = {
        "model": file_hash(folder / "model.safetensors"),
        "heads": file_hash(heads) if heads.exists() else None,
        "description": file_hash(folder / "model.json"),
        "faces": file_hash(job.out / "data" / "faces.parquet"),
        "device": training.device,
    }

    def work() -> None:
        checkpoint = load_checkpoint(folder)
        # the faces of the test split are decoded once for all models
        cache = job.out / CACHE if split == "test" and job.spec.mitigations else None
        part = faces.part(split)
        predict(checkpoint, part, job.out / target, device=training.device, cache=cache, progress=job.progress)

    job.stage(f"predict {name} ({split})", inputs, [target], work)


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


def _attributed(job: Run, name: str) -> str | None:
    """Return why the model `name` is not attributed: "" where the spec asks for none; None where it is."""
    if not job.spec.attribution.faces_per_head:
        return ""
    if is_forest(job.spec.model):
        return f"{job.spec.model.backbone} has no gradients to follow"
    return no_layers(job.out / "checkpoints" / name)


def _attribute(job: Run, faces: FaceTable, name: str, axes: Sequence[str] | None) -> None:
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


def _compare(job: Run, names: list[str], axes: Sequence[str] | None) -> None:
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


def _index(job: Run, faces: FaceTable, names: list[str]) -> Path:
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
