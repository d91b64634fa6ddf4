"""`fairaudit mitigate`: methods × seeds on embeddings that are computed once, compared on test faces read last.

Every head is fitted, and every epoch and candidate chosen, before the file of the test faces is opened. Under the
folder: `data/` (pool.parquet, test.parquet), `mitigated/METHOD/SEED` (heads), `predictions/METHOD/SEED.parquet` (test
faces), `predictions/erm/SEED-val.parquet` (they name the subgroup to be helped), `comparison/`, `index.html`. A stage
whose inputs are unchanged is skipped, so a run goes on where it was stopped.
"""

import datetime
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from fairaudit.data.tables import FaceTable
from fairaudit.errors import FairauditError, UsageError
from fairaudit.files import file_hash, write_json
from fairaudit.inputs import face_root
from fairaudit.mitigate_compare import compare_all, write_page
from fairaudit.mitigate_files import READS, fitted_heads, predictions_path, reads_of_test, validation_path
from fairaudit.mitigate_plan import (
    BASELINE,
    CACHE,
    POOL,
    TEST,
    Mitigating,
    Plan,
    check_mitigate,
    divided,
    make_plan,
    prepare,
)
from fairaudit.mitigation.predicting import predictions_of
from fairaudit.mitigation.problem import Problem
from fairaudit.mitigation.refitted import load_heads, make_problem, refit, save_heads
from fairaudit.models.embeddings import embeddings_of, views_of
from fairaudit.models.refitting import pretrained_checkpoint, refitted_checkpoint
from fairaudit.registry import lookup
from fairaudit.stages import claim_run


def run_mitigate(work: Mitigating, *, keep: str | None = None) -> tuple[Path, list[str]]:
    """Do every stage and return the page, and the sentences of its first screen.

    keep: a method whose heads of the first seed are written to checkpoints/. Raises UsageError before any training for
    what cannot be had; DataError for faces or a checkpoint that cannot be used.
    """
    spec, out = work.job.spec, work.job.out
    check_mitigate(spec, work.checkpoint)
    if set(spec.mitigate.methods) == {BASELINE} and keep != BASELINE:
        raise UsageError(
            f"{BASELINE!r} is plain training, which always runs and which every method is compared with: name at least "
            "one other method (`fairaudit list mitigations`)"
        )
    claim_run(out, f"mitigate {spec.name}")
    pool = prepare(work)
    plan = make_plan(work, pool)
    if keep:
        lookup(dict.fromkeys(plan.methods), keep, "method to keep")
    for note in plan.notes:
        work.job.say(note)
    for task, method, reason in plan.refused:
        work.job.say(f"{task}: {method} is not run: {reason}")
    fit_all(work, pool, plan)
    predict_test(work, plan)
    compare_all(work, plan)
    if keep:
        keep_checkpoint(work, pool, plan, keep)
    page, lines = write_page(work, plan)
    if work.cache is None:
        shutil.rmtree(out / CACHE, ignore_errors=True)
    return page, lines


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The pool's embeddings, computed when they are first asked for."""

    work: Mitigating
    pool: FaceTable
    views_wanted: bool

    @cached_property
    def x(self) -> np.ndarray:
        """The embeddings of all faces of the pool (n, d)."""
        return embeddings_of(self.work.embedder, self.pool, self.work.store, "training and validation").numpy()

    @cached_property
    def views(self) -> list[np.ndarray]:
        """Those of augmented versions, each (n, d)."""
        if not self.views_wanted:
            return []
        spec = self.work.job.spec
        made = views_of(
            self.work.embedder,
            self.pool,
            self.work.store,
            "training and validation",
            augmentation=spec.training.augmentation,
            count=self.work.versions,
            seed=spec.seed,
        )
        return [view.numpy() for view in made]


def fit_all(work: Mitigating, pool: FaceTable, plan: Plan) -> None:
    """Fit every head × method × seed that is not fitted yet; only faces of the pool are known here."""
    embedded = Embedded(work=work, pool=pool, views_wanted=plan.views)
    done, total = 0, len(work.seeds) * len(plan.methods)
    for seed in work.seeds:
        problems = _Problems(work=work, embedded=embedded, plan=plan, seed=seed)
        for method in plan.methods:
            _fit_stage(work, problems, method)
            done += 1
            work.job.progress("fit heads", done, total)


@dataclass(frozen=True, kw_only=True)
class _Problems:
    """The problems of one seed, made when the first head is fitted and shared by all methods."""

    work: Mitigating
    embedded: Embedded
    plan: Plan
    seed: int

    @cached_property
    def of(self) -> dict[str, Problem]:
        """Each head's problem."""
        faces = divided(self.work, self.embedded.pool, self.seed)
        return {
            task: make_problem(
                faces,
                self.embedded.x,
                task,
                self.plan.by,
                seed=self.seed,
                settings=self.work.settings,
                views=self.embedded.views,
            )
            for task in self.plan.heads
        }


def _fit_stage(work: Mitigating, problems: _Problems, method: str) -> None:
    plan, seed, out = problems.plan, problems.seed, work.job.out
    stem = out / "mitigated" / method / str(seed)
    tasks = [task for task, methods in plan.heads.items() if method in methods]
    inputs = {
        "pool": file_hash(out / POOL),
        "embedder": {**work.embedder.key, "flip": work.embedder.flip},
        "by": plan.by,
        "tasks": tasks,
        "seed": [work.job.spec.seed, seed],
        "split": work.job.spec.split.model_dump(mode="json"),
        "settings": work.settings.model_dump(mode="json", exclude={"methods", "seeds", "tasks", "by", "margin"}),
        "views": [work.versions, work.job.spec.training.augmentation.model_dump(mode="json")] if plan.views else None,
    }

    def fit() -> None:
        heads, failed = [], {}
        for task in tasks:
            try:
                heads.append(refit(method, problems.of[task]))
            except FairauditError as error:
                if method == BASELINE or method in work.settings.methods:
                    raise
                failed[task] = str(error)
        save_heads(heads, stem, failed)
        if method == BASELINE:
            for_val = divided(work, problems.embedded.pool, seed)
            rows = np.flatnonzero(_usable(for_val.frame) & (for_val.frame["split"] == "val").to_numpy())
            own = replace(for_val, frame=for_val.frame.iloc[rows].reset_index(drop=True))
            predictions_of(own, heads, problems.embedded.x[rows]).save(validation_path(out, seed))

    outputs = [f"mitigated/{method}/{seed}{end}" for end in (".json", ".safetensors")]
    if method == BASELINE:
        outputs.append(str(validation_path(out, seed).relative_to(out).as_posix()))
    work.job.stage(f"fit {method} (seed {seed})", inputs, outputs, fit)


def _usable(frame: pd.DataFrame) -> np.ndarray:
    return frame["trainable"].to_numpy(dtype=bool)


def predict_test(work: Mitigating, plan: Plan) -> None:
    """Open the test faces, once for all methods and seeds, after everything is fitted; write what each head says."""
    out = work.job.out
    runs = [(method, seed) for method in plan.methods for seed in work.seeds]
    heads = [out / "mitigated" / method / f"{seed}{end}" for method, seed in runs for end in (".json", ".safetensors")]
    inputs = {"heads": [file_hash(path) for path in heads], "test": file_hash(out / TEST)}

    def predict() -> None:
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        seen = {"when": when, "methods": list(plan.methods), "seeds": len(work.seeds)}
        # before they are opened: a call that is interrupted after that has seen them, too
        write_json(out / READS, [*reads_of_test(out), seen])
        faces = FaceTable.load(out / TEST, face_root(work.job.spec, work.job.root))
        x = embeddings_of(work.embedder, faces, work.store, "test").numpy()
        for method, seed in runs:
            own = fitted_heads(out, method, seed)
            if own:
                predictions_of(faces, own, x).save(predictions_path(out, method, seed))

    outputs = [predictions_path(out, *run).relative_to(out).as_posix() for run in runs if fitted_heads(out, *run)]
    work.job.stage("predict test faces", inputs, [*outputs, READS], predict)


def keep_checkpoint(work: Mitigating, pool: FaceTable, plan: Plan, method: str) -> Path:
    """Write the heads of a method's first seed as the checkpoint checkpoints/METHOD, which predict and audit load."""
    out, target = work.job.out, work.job.out / "checkpoints" / method
    stem = out / "mitigated" / method / str(work.seeds[0])
    base = work.checkpoint
    files = [stem.with_suffix(end) for end in (".json", ".safetensors")]
    inputs = {"heads": [file_hash(path) for path in files], "embedder": dict(work.embedder.key)}

    def write() -> None:
        heads = load_heads(stem)
        if not heads:
            raise UsageError(f"{method} has no head to keep")
        if base:
            refitted_checkpoint(base, heads, target)
            return
        spec = work.job.spec
        pretrained_checkpoint(spec, work.job.weights_folders, divided(work, pool, work.seeds[0]), heads, target)

    parts = ("model.json", "model.safetensors", "heads.json", "heads.safetensors", "trained_on.json")
    work.job.stage(f"keep {method}", inputs, [f"checkpoints/{method}/{part}" for part in parts], write)
    return target
