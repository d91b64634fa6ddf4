"""Stages of a run that look at a model beyond its audit, only where the spec asks for them: robustness."""

from typing import TYPE_CHECKING

from fairaudit.data.tables import FaceTable
from fairaudit.files import file_hash
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.report.robustness import write_robustness_report
from fairaudit.results import ROBUSTNESS_TABLES, Robustness
from fairaudit.robustness.measure import measure

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
