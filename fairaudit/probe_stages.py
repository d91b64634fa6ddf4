"""Stages of a run that look at a model beyond its audit, only where the spec asks for them: robustness, masking."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from fairaudit.data.tables import FaceTable
from fairaudit.files import file_hash
from fairaudit.masking.measure import hide_regions
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.report.masking import write_masking_report
from fairaudit.report.robustness import write_robustness_report
from fairaudit.results import Masking, Robustness
from fairaudit.results.columns import MASKING_TABLES, ROBUSTNESS_TABLES
from fairaudit.robustness.measure import measure
from fairaudit.spec import Spec
from fairaudit.stages import Run


def robustness_stage(job: Run, faces: FaceTable, name: str) -> None:
    """Perturb the test faces and see who loses more, into robustness/<name>/, where the spec asks for it."""
    asked = job.spec.robustness
    if asked is not None:
        look = partial(measure, robustness=asked)
        files = (Robustness.MARKER, *(f"{table}.csv" for table in ROBUSTNESS_TABLES))
        _probe(job, faces, name, "robustness", asked.model_dump(mode="json"), look, write_robustness_report, files)


def masking_stage(job: Run, faces: FaceTable, name: str) -> None:
    """Hide each region of the test faces and see who needs it, into masking/<name>/, where the spec asks for it."""
    asked = job.spec.masking
    if asked is not None:
        look = partial(hide_regions, masking=asked)
        files = (Masking.MARKER, *(f"{table}.csv" for table in MASKING_TABLES))
        _probe(job, faces, name, "masking", asked.model_dump(mode="json"), look, write_masking_report, files)


def _probe(
    job: Run,
    faces: FaceTable,
    name: str,
    kind: str,
    asked: dict[str, Any],
    look: Callable[..., Any],
    write: Callable[..., Path],
    files: Iterable[str],
) -> None:
    """Let the model `name` look at the test faces changed, and write what follows into <kind>/<name>/."""
    spec, folder = job.spec, job.out / kind / name
    inputs = {
        "model": file_hash(job.out / "checkpoints" / name / "model.safetensors"),
        "faces": file_hash(job.out / "data" / "faces.parquet"),
        kind: asked,
        "audit": spec.audit.model_dump(mode="json"),
        "seed": spec.seed,
        "name": spec.name,
    }

    def work() -> None:
        found = look(
            load_checkpoint(job.out / "checkpoints" / name),
            faces.part("test"),
            folder,
            audit=spec.audit,
            tasks=spec.tasks or None,
            name=f"{spec.name}: {name}",
            seed=spec.seed,
            device=spec.training.device,
            progress=job.progress,
        )
        links = {"Run overview": "../../index.html", "Audit": f"../../audits/{name}/index.html"}
        write(found, folder, links=links)

    job.stage(f"{kind} {name}", inputs, [f"{kind}/{name}/{file}" for file in (*files, "index.html")], work)


def probe_links(spec: Spec, name: str) -> dict[str, str]:
    """Return names and addresses, from a model's audit, of the pages that the spec asks for beyond it."""
    asked = {"Robustness": spec.robustness, "Masking": spec.masking}
    return {title: f"../../{title.lower()}/{name}/index.html" for title, probe in asked.items() if probe is not None}
