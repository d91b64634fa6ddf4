"""Train a face classifier: heads on the frozen backbone's embeddings, then the upper blocks on cached maps."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fairaudit
from fairaudit.data.frames import usual_alignment
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.files import claim, value_hash
from fairaudit.models import feeds
from fairaudit.models.backbones import Backbone, build_backbone
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import DESCRIPTION, Checkpoint, load_checkpoint, save_checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import PLAIN, why_not
from fairaudit.models.curves import Curves
from fairaudit.models.folding import folds_exactly
from fairaudit.models.forest import check_keys, is_forest
from fairaudit.models.forest_training import train_forest
from fairaudit.models.heads import check_heads
from fairaudit.models.limits import deterministic
from fairaudit.models.loop import Run, run_stage
from fairaudit.models.losses import Target, make_targets, softening_notes
from fairaudit.models.parallel import first_then_others, joined, own_device, processes, team
from fairaudit.models.record import describe, history_table
from fairaudit.models.runtime import keep_freed_memory, pick_device, pick_dtype
from fairaudit.models.selection import Judge, make_judge
from fairaudit.models.stages import Part, Setup, lower_maps, make_stage, plan
from fairaudit.models.trainable import check_labels, checked_weights, face_hashes, heads_of, usable
from fairaudit.progress import Progress, silent
from fairaudit.spec import Spec


def train(
    faces: FaceTable,
    spec: Spec,
    out: Path,
    *,
    sample_weights: Mapping[str, np.ndarray] | None = None,
    weights_folders: Sequence[Path] = (),
    cache: Path | None = None,
    mitigation: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Checkpoint:
    """Train on the faces of the splits "train" and "val" (those that are `trainable`) and write the checkpoint `out`.

    A pretrained backbone gets its heads first, on cached embeddings, then its upper blocks are fine-tuned on cached
    maps of the lower ones; one without weights is trained whole, on images augmented as they are read. `sample_weights`
    holds, per task, one weight (> 0) for each trainable row of `faces.part("train")`. `cache` keeps decoded faces and
    maps for the next model on the same faces; without it they are removed at the end. What is unfinished lies in
    `<out>.training` after each epoch, and the same call continues there. The same seed gives the same model on a CPU.
    Processes that torchrun started share the work (see `parallel`); batch norms in training (the shared
    layer has one) then see shares of a batch only, so the model is not that of one process; without them it is, to
    float32's rounding.
    The backbones pca-random-forest and pca-xgboost are no networks: see `train_forest`.

    Raises UsageError or DataError for a spec or data that cannot be trained on, before any training.
    """
    if is_forest(spec.model):
        if processes() > 1:
            raise UsageError(f"{spec.model.backbone} is no network: train it without torchrun, in one process")
        return train_forest(
            faces, spec, out, sample_weights=sample_weights, cache=cache, mitigation=mitigation, progress=progress
        )
    check_keys(spec)
    claim(out, "checkpoint", DESCRIPTION)
    keep_freed_memory()
    device = own_device(pick_device(spec.training.device))
    with joined(device):
        return _train(faces, spec, out, device, sample_weights or {}, weights_folders, cache, mitigation, progress)


def _train(
    faces: FaceTable,
    spec: Spec,
    out: Path,
    device: torch.device,
    sample_weights: Mapping[str, np.ndarray],
    weights_folders: Sequence[Path],
    cache: Path | None,
    mitigation: Mapping[str, Any] | None,
    progress: Progress,
) -> Checkpoint:
    dtype = pick_dtype(spec.training.precision, device)
    tasks = heads_of(faces, spec)
    weights = checked_weights(sample_weights, faces, tasks)
    judge, notes = make_judge(usable(faces.part("val"), "val"), list(tasks), spec.training)
    learned = usable(faces.part("train"), "train")
    check_heads(tasks, spec.model.heads)
    targets = make_targets(learned, list(tasks), spec.training, weights, spec.model.heads)
    check_labels(targets)
    compiled, found = _compiling(spec, device)
    notes += found
    backbone = build_backbone(spec.model, weights_folders)
    model, more = _model(backbone, faces, spec, tasks)
    work = out.with_name(f"{out.name}.training")
    store = ArrayCache(folder=cache or work / "cache", progress=progress, device=device)
    train_part, val_part = (_part(faces, name, model, spec, store) for name in ("train", "val"))
    setup = Setup(
        model=model.to(device),
        train=train_part,
        val=val_part,
        spec=spec,
        store=store,
        key={
            "backbone": spec.model.backbone,
            "weights": backbone.weights_hash,
            "folded": model.folded,
            "size": model.image_size,
            "pooling": spec.model.pooling,
            **({"align_from": spec.model.align_from} if spec.model.align_from else {}),
            **({"color": model.color} if model.color != "rgb" else {}),
            **({"match": "partial", "widths": spec.model.widths} if spec.model.weights_match == "partial" else {}),
        },
        dtype=dtype,
        pretrained=bool(backbone.weights_hash),
        compiled=compiled,
    )
    if compiled and plan(setup) == ["heads"]:
        notes.append("training.compile: only heads are trained, on embeddings computed once: nothing is compiled")
    run = Run(key=_run_key(setup, weights, backbone), path=work / "state.pt")
    with first_then_others():
        continued = run.restore()
    notes += [note for note in [*more, *softening_notes(learned, targets), continued] if note]
    for note in notes:
        progress("train", 0, 0, note)
    wanted = spec.training.tensorboard and team().first
    curves = Curves(out.with_name(f"{out.name}.tensorboard") if wanted else None, run.history)
    with deterministic(device, wanted=spec.training.deterministic):
        on_device = {task: target.to(device) for task, target in targets.items()}
        _run_stages(setup, run, on_device, judge, progress, curves)
    curves.close()
    notes += run.notes
    meta = describe(faces, setup, backbone, run, mitigation=mitigation, weighted=list(weights), notes=notes)
    hashes = {part.name: sorted({name[:16] for name in part.hashes}) for part in (train_part, val_part)}
    if team().first:
        save_checkpoint(model.cpu().eval(), spec.model, meta, history_table(run), hashes, out)
        shutil.rmtree(work, ignore_errors=True)
    team().wait()
    return load_checkpoint(out)


def _run_stages(
    setup: Setup, run: Run, targets: Mapping[str, Target], judge: Judge, progress: Progress, curves: Curves
) -> None:
    names = plan(setup)
    maps = lower_maps(setup) if "upper" in names else None
    setup.model.to(memory_format=torch.channels_last)
    for name in names[names.index(run.stage) if run.stage in names else 0 :]:
        stage = make_stage(setup, name, maps)
        training, seed = setup.spec.training, setup.spec.seed
        run_stage(setup.model, stage, run, targets, judge, training, seed=seed, progress=progress, curves=curves)


def _compiling(spec: Spec, device: torch.device) -> tuple[bool, list[str]]:
    """Return whether steps are compiled, and what to say where they are not although the spec asks for it."""
    if not spec.training.compile:
        return False, []
    why = why_not(device)
    if team().total(torch.tensor(float(bool(why)), device=device)):  # all processes take the same way
        return False, [f"training.compile: nothing can be compiled here ({why or 'in another process'}): {PLAIN}"]
    return True, []


def _part(faces: FaceTable, name: str, model: FaceClassifier, spec: Spec, store: ArrayCache) -> Part:
    own = usable(faces.part(name), name)
    hashes = face_hashes(own)
    pixels = feeds.decoded(own, model.image_size, hashes, store, name)
    views = feeds.Views(pixels=pixels, augmentation=spec.training.augmentation, seed=spec.seed)
    return Part(name=name, faces=own, hashes=hashes, views=views)


def _model(
    backbone: Backbone, faces: FaceTable, spec: Spec, tasks: Mapping[str, tuple[str, ...]]
) -> tuple[FaceClassifier, list[str]]:
    """Build the classifier, seeded; a backbone without weights is trained whole."""
    scratch = not backbone.weights_hash
    if scratch and spec.model.trainable_blocks is not None:
        raise UsageError(
            "model.trainable_blocks belongs to a pretrained backbone; without weights all blocks are trained"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        if scratch:  # built again, because the first one was drawn from whatever random state there was
            backbone = build_backbone(spec.model, pretrained=False)
        trainable = len(backbone.blocks) if scratch else spec.model.trainable_blocks
        model = FaceClassifier(
            backbone,
            tasks,
            shared=spec.model.shared_widths,
            dropout=spec.model.dropout,
            activation=spec.model.activation,
            heads=spec.model.heads,
            trainable=trainable,
        )
    notes = _match_notes(backbone, model.cut) if spec.model.weights_match == "partial" else []
    notes += _alignment_notes(faces, spec.model.align_from)
    if not scratch and len(backbone.blocks) == 1:
        notes.append(
            f"{spec.model.backbone} cannot be cut into blocks: its backbone stays frozen, only heads are trained"
        )
    if spec.training.batch_norm == "fold" and not scratch:
        if folds_exactly(model.blocks, model.image_size):
            model.fold_batch_norm()
        else:
            notes.append("the batch norms of this backbone cannot be folded; they are kept frozen instead")
    return model, notes


def _alignment_notes(faces: FaceTable, align_from: str | None) -> list[str]:
    """Return what speaks against `align_from`: another set's faces, or a release whose faces lie otherwise."""
    dataset, sizes = str(faces.meta.get("dataset", "")), faces.meta.get("image_sizes") or {}
    if align_from in (None, usual_alignment(dataset, sizes)) or dataset == "merged":
        return []
    return [
        f"model.align_from = {align_from!r}, but pictures of {dataset or 'an unnamed set'} "
        f"({', '.join(list(sizes)[:3]) or 'sizes unknown'}) are not known to hold faces so: they are moved as if they "
        "did; leave the key out if they do not"
    ]


def _match_notes(backbone: Backbone, cut: int) -> list[str]:
    """Return what fitted of a weights file, and which frozen blocks are left random."""
    if backbone.match is None:
        return []
    notes = [f"{backbone.weights}: {backbone.match.sentence()}"]
    frozen = [block for block in backbone.random if block < cut]
    if frozen:
        notes.append(
            f"{len(frozen)} of the {cut} frozen blocks keep random values that {backbone.weights} did not give; "
            f"model.trainable_blocks = {len(backbone.blocks) - frozen[0]} trains them, too"
        )
    return notes


def _run_key(setup: Setup, weights: Mapping[str, np.ndarray], backbone: Backbone) -> str:
    """Return the hash of everything that the course of training depends on."""
    spec, parts = setup.spec, (setup.train, setup.val)
    return value_hash(
        {
            "spec": [
                spec.model.model_dump(mode="json"),
                spec.training.model_dump(mode="json", exclude={"tensorboard"}),
                spec.seed,
                spec.tasks,
            ],
            "faces": [part.hashes for part in parts],
            "labels": [part.faces.frame.astype(str).to_csv(index=False) for part in parts],
            "classes": setup.model.classes,
            "sample_weights": {task: values.tobytes().hex() for task, values in weights.items()},
            "backbone": backbone.weights_hash,
            "machine": [str(setup.dtype), setup.device.type, *([team().size] if team().size > 1 else [])],
            "compiled": setup.compiled,
            "version": [fairaudit.__version__, torch.__version__],
        }
    )
