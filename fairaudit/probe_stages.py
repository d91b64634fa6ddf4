"""Stages of a run that look at a model beyond its audit, only where the spec asks for them: robustness, masking."""

from typing import TYPE_CHECKING

from fairaudit.data.tables import FaceTable
from fairaudit.files import file_hash
from fairaudit.masking.measure import hide_regions
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.report.masking import write_masking_report
from fairaudit.report.robustness import write_robustness_report
from fairaudit.results import MASKING_TABLES, ROBUSTNESS_TABLES, Masking, Robustness
from fairaudit.robustness.measure import measure
from fairaudit.spec import Spec

if TYPE_CHECKING:
    from fairaudit.pipeline import Run


def robustness_stage(job: "Run", faces: FaceTable, name: str) -> None:
    """Perturb the test faces and see who loses more, into robustness/<name>/, where the spec asks for it."""
    spec, folder = job.spec, job.out / "robustness" / name
    if spec.robustness is None:
        return
    asked = spec.robustness
    inputs = {
        "model": file_hash(job.out / "checkpoints" / name / "model.safetensors"),
        "faces": file_hash(job.out / "data" / "faces.parquet"),
        "robustness": asked.model_dump(mode="json"),
        "audit": spec.audit.model_dump(mode="json"),
        "seed": spec.seed,
        "name": spec.name,
    }

    def work() -> None:
        found = measure(
            load_checkpoint(job.out / "checkpoints" / name),
            faces.part("test"),
            folder,
            robustness=asked,
            audit=spec.audit,
            tasks=spec.tasks or None,
            name=f"{spec.name}: {name}",
            seed=spec.seed,
            device=spec.training.device,
            progress=job.progress,
        )
        links = {"Run overview": "../../index.html", "Audit": f"../../audits/{name}/index.html"}
        write_robustness_report(found, folder, links=links)

    files = (Robustness.MARKER, *(f"{table}.csv" for table in ROBUSTNESS_TABLES), "index.html")
    job.stage(f"robustness {name}", inputs, [f"robustness/{name}/{file}" for file in files], work)


def masking_stage(job: "Run", faces: FaceTable, name: str) -> None:
    """Hide each region of the test faces and see who needs it, into masking/<name>/, where the spec asks for it."""
    spec, folder = job.spec, job.out / "masking" / name
    if spec.masking is None:
        return
    asked = spec.masking
    inputs = {
        "model": file_hash(job.out / "checkpoints" / name / "model.safetensors"),
        "faces": file_hash(job.out / "data" / "faces.parquet"),
        "masking": asked.model_dump(mode="json"),
        "audit": spec.audit.model_dump(mode="json"),
        "seed": spec.seed,
        "name": spec.name,
    }

    def work() -> None:
        found = hide_regions(
            load_checkpoint(job.out / "checkpoints" / name),
            faces.part("test"),
            folder,
            masking=asked,
            audit=spec.audit,
            tasks=spec.tasks or None,
            name=f"{spec.name}: {name}",
            seed=spec.seed,
            device=spec.training.device,
            progress=job.progress,
        )
        links = {"Run overview": "../../index.html", "Audit": f"../../audits/{name}/index.html"}
        write_masking_report(found, folder, links=links)

    files = (Masking.MARKER, *(f"{table}.csv" for table in MASKING_TABLES), "index.html")
    job.stage(f"masking {name}", inputs, [f"masking/{name}/{file}" for file in files], work)


def probe_links(spec: Spec, name: str) -> dict[str, str]:
    """Return names and addresses, from a model's audit, of the pages that the spec asks for beyond it."""
    asked = {"Robustness": spec.robustness, "Masking": spec.masking}
    return {title: f"../../{title.lower()}/{name}/index.html" for title, probe in asked.items() if probe is not None}
