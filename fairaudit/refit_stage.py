"""Mitigations of a run that refit heads on the baseline's embeddings, in place of training the network again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.mitigation import MITIGATIONS
from fairaudit.mitigation.methods import METHODS, refused
from fairaudit.mitigation.refitted import RefittedHead, make_problem, refit
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import Checkpoint, load_checkpoint
from fairaudit.models.embeddings import Embedder, checkpoint_embedder, embeddings_of, views_of
from fairaudit.models.forest import is_forest
from fairaudit.models.refitting import refitted_checkpoint
from fairaudit.registry import lookup
from fairaudit.spec import MitigateSpec, MitigationSpec, Spec


def refits_heads(mitigation: MitigationSpec) -> bool:
    """Return whether a mitigation of the spec refits heads; the others weigh faces and train the network again."""
    return mitigation.method not in MITIGATIONS


def check_method(spec: Spec, mitigation: MitigationSpec) -> None:
    """Raise UsageError for an unknown method, or one of heads where the model has no embeddings."""
    lookup({**MITIGATIONS, **METHODS}, mitigation.method, "mitigation")
    if refits_heads(mitigation) and is_forest(spec.model):
        raise UsageError(
            f"mitigation {mitigation.method!r} refits heads on embeddings, and {spec.model.backbone} has none "
            f"(possible here: {', '.join(MITIGATIONS)})"
        )
    if refits_heads(mitigation) and "cap" in mitigation.model_fields_set and not METHODS[mitigation.method].caps:
        reads = [*MITIGATIONS, *(name for name, method in METHODS.items() if method.caps and name not in MITIGATIONS)]
        raise UsageError(
            f"mitigations.cap = {mitigation.cap:g} is not heeded by {mitigation.method!r}, which weighs no face: take "
            f"it out (it belongs to {', '.join(reads)})"
        )


def settings_of(spec: Spec, mitigation: MitigationSpec) -> MitigateSpec:
    """Return how heads are fitted: the spec's table `mitigate`, with the mitigation's axis, and its cap if given."""
    own = {"cap": mitigation.cap} if "cap" in mitigation.model_fields_set else {}
    return spec.mitigate.model_copy(update={"by": mitigation.by, **own})


def plan_refit(spec: Spec, faces: FaceTable, mitigation: MitigationSpec) -> tuple[tuple[str, ...], bool, list[str]]:
    """Return the heads to refit, whether augmented versions of the faces are asked for, and who is left out and why.

    Raises UsageError for a head that is named and cannot be refitted, and where none is left.
    """
    faces.require([mitigation.by])
    heads = tuple(spec.tasks or faces.tasks)
    for task in mitigation.tasks or ():
        lookup(dict.fromkeys(heads), task, "head in mitigations.tasks")
    empty = np.zeros((len(faces), 0), dtype=np.float32)
    settings = settings_of(spec, mitigation)
    kept, views, sentences = [], False, []
    for task in mitigation.tasks or heads:
        outline = make_problem(
            faces, empty, task, mitigation.by, seed=spec.seed, settings=settings, views=[empty] * versions(spec)
        )
        reason = refused(mitigation.method, outline)
        if reason and mitigation.tasks:
            raise UsageError(reason)
        if reason:
            sentences.append(f"{task}: not mitigated; {reason}.")
            continue
        kept.append(task)
        views |= bool(refused(mitigation.method, make_problem(
            faces, empty, task, mitigation.by, seed=spec.seed, settings=settings
        )))  # fmt: skip
    if not kept:
        raise UsageError(
            f"mitigation {mitigation.method!r} by {mitigation.by!r} leaves no head to mitigate: {' '.join(sentences)}"
        )
    return tuple(kept), views, sentences


def versions(spec: Spec) -> int:
    """Return how many augmented versions of a face the spec asks for, beside the face and its mirror image."""
    return max(spec.training.augmented_views - 2, 0)


def refit_on(
    base: Checkpoint,
    spec: Spec,
    faces: FaceTable,
    mitigation: MitigationSpec,
    store: ArrayCache,
    say: Callable[[str], None],
) -> list[RefittedHead]:
    """Refit the heads of a trained checkpoint on the embeddings of its training and validation faces."""
    tasks, views, sentences = plan_refit(spec, faces, mitigation)
    embedder = checkpoint_embedder(base, spec.training.device)
    pool = faces.without("test")
    x = embeddings_of(embedder, pool, store, "training and validation").numpy()
    seen = _views(embedder, spec, pool, store) if views else []
    heads = [
        refit(
            mitigation.method,
            make_problem(
                pool, x, task, mitigation.by, seed=spec.seed, settings=settings_of(spec, mitigation), views=seen
            ),
        )
        for task in tasks
    ]
    for sentence in sentences:
        say(f"  {mitigation.method}: {sentence}")
    return heads


def _views(embedder: Embedder, spec: Spec, pool: FaceTable, store: ArrayCache) -> list[np.ndarray]:
    made = views_of(
        embedder,
        pool,
        store,
        "training and validation",
        augmentation=spec.training.augmentation,
        count=versions(spec),
        seed=spec.seed,
    )
    return [view.numpy() for view in made]


def refit_baseline(
    baseline: Path,
    spec: Spec,
    faces: FaceTable,
    mitigation: MitigationSpec,
    out: Path,
    store: ArrayCache,
    say: Callable[[str], None],
) -> None:
    """Write the checkpoint `out`: the baseline's network with refitted heads."""
    base = load_checkpoint(baseline)
    refitted_checkpoint(base, refit_on(base, spec, faces, mitigation, store, say), out)
