"""The stages of a run from a folder of faces to the predictions of its models."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fairaudit.data.summary import composition, findings_summary
from fairaudit.data.tables import FaceTable
from fairaudit.files import file_hash, write_text
from fairaudit.inputs import face_root, listing_hash, load_and_split
from fairaudit.mitigation import mitigation_weights
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import Checkpoint, load_checkpoint
from fairaudit.models.inference import predict
from fairaudit.models.runtime import pick_device
from fairaudit.models.training import train
from fairaudit.progress import Progress, silent
from fairaudit.refit_stage import refit_baseline, refits_heads, settings_of
from fairaudit.results.files import HISTORY
from fairaudit.spec import MitigationSpec, Spec
from fairaudit.stages import BASELINE, CACHE, Run
from fairaudit.wording import plural


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
    say(f"{plural(len(faces), 'face')} ({parts}); split {str(faces.meta.get('split_hash', ''))[:12]}")
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
