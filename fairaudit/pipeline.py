"""The whole road of one spec: data → training → predictions → audits → attribution → comparison → reports.

Everything lies under one folder: `data/`, `checkpoints/`, `predictions/`, `audits/`, `attribution/`, `comparison/` and
an `index.html` that leads to all of them. A stage whose inputs are unchanged is skipped, so a run goes on where it was
stopped.
"""

from pathlib import Path
from typing import Any

from fairaudit.attribution.attribute import check_settings
from fairaudit.audit_stages import attribute_stage, audit_stage, compare_stage, report_stage, write_index
from fairaudit.data.synthetic import synthesize
from fairaudit.errors import UsageError
from fairaudit.model_stages import predict_stage, prepare_faces, train_stage, weigh
from fairaudit.probe_stages import masking_stage, robustness_stage
from fairaudit.refit_stage import plan_refit, refits_heads
from fairaudit.results import AuditResult
from fairaudit.run_checks import check_spec, choose_axes, mitigation_names
from fairaudit.spec import Spec
from fairaudit.stages import BASELINE, Run, claim_run, clear_cache


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
        attribute_stage(job, faces, name, axes)
        robustness_stage(job, faces, name)
        masking_stage(job, faces, name)
        report_stage(job, name)
    clear_cache(job)
    if len(models) > 1:
        compare_stage(job, list(models), axes)
    return write_index(job, faces, list(models))


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


def audits_of(spec: Spec, out: Path) -> dict[str, AuditResult]:
    """Return the audits that a complete run left in `out`, by the name of the model."""
    names = (BASELINE, *mitigation_names(spec.mitigations))
    return {name: AuditResult.load(out / "audits" / name) for name in names}
