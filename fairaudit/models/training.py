"""Train a face classifier: heads on the frozen backbone's embeddings, then the upper blocks on cached maps."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor

import fairaudit
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.files import file_hash, value_hash
from fairaudit.models import feeds
from fairaudit.models.backbones import Backbone, build_backbone
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import Checkpoint, save_checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.folding import folds_exactly
from fairaudit.models.loop import Run, Stage, run_stage
from fairaudit.models.losses import Target, make_targets
from fairaudit.models.runtime import keep_freed_memory, pick_device, pick_dtype
from fairaudit.models.selection import make_judge
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.spec import Spec


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The faces of one split that training uses, with their hashes and decoded pixels."""

    name: str
    faces: FaceTable
    hashes: tuple[str, ...]
    views: feeds.Views

    def __len__(self) -> int:
        return len(self.hashes)


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

    Raises UsageError or DataError for a spec or data that cannot be trained on, before any training.
    """
    keep_freed_memory()
    device = pick_device(spec.training.device)
    dtype = pick_dtype(spec.training.precision, device)
    tasks = _tasks(faces, spec)
    weights = _checked_weights(sample_weights or {}, faces, tasks)
    backbone = build_backbone(spec.model, weights_folders)
    model, notes = _model(backbone, faces, spec, tasks)
    work = out.with_name(f"{out.name}.training")
    store = ArrayCache(folder=cache or work / "cache", progress=progress)
    parts = [_part(faces, name, model, spec, store, progress) for name in ("train", "val")]
    judge, more = make_judge(parts[1].faces, tasks, spec.training)
    notes += more
    targets = make_targets(parts[0].faces, tasks, spec.training, weights)
    _check_labels(targets)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    key = {"backbone": spec.model.backbone, "weights": backbone.weights_hash, "folded": model.folded}
    run = Run(key=_run_key(spec, parts, weights, backbone, dtype, device), path=work / "state.pt")
    notes += [note for note in [run.restore()] if note]
    for note in notes:
        progress("train", 0, 1, note)
    stages = _plan(backbone, model, spec)
    _run_stages(stages, backbone, model, parts, spec, run, targets, judge, store, key, dtype, progress)
    meta = _meta(faces, spec, parts, tasks, backbone, run, mitigation, notes, weights, device, dtype)
    history = _history(run)
    hashes = {part.name: sorted({name[:16] for name in part.hashes}) for part in parts}
    model.cpu().eval()
    checkpoint = save_checkpoint(model, spec.model, meta, history, hashes, out)
    shutil.rmtree(work, ignore_errors=True)
    return checkpoint


def _tasks(faces: FaceTable, spec: Spec) -> dict[str, tuple[str, ...]]:
    names = spec.tasks or tuple(faces.tasks)
    return {name: lookup(faces.tasks, name, "task (head)") for name in names}


def _checked_weights(
    given: Mapping[str, np.ndarray], faces: FaceTable, tasks: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    rows = len(_usable(faces.part("train")))
    for task, values in given.items():
        lookup(tasks, task, "task of sample_weights")
        if len(values) != rows or not np.isfinite(values).all() or (np.asarray(values) <= 0).any():
            raise UsageError(
                f"sample_weights[{task!r}] needs one finite weight above 0 for each of the {rows} trainable faces of the "
                f"training split; it has {len(values)} values"
            )
    return {task: np.asarray(values, dtype=np.float64) for task, values in given.items()}


def _usable(faces: FaceTable) -> FaceTable:
    """Return the faces that may be trained on, in order."""
    if "trainable" not in faces.frame:
        return faces
    keep = faces.frame["trainable"].to_numpy(dtype=bool)
    return FaceTable(**{**vars(faces), "frame": faces.frame[keep].reset_index(drop=True)})


def _part(
    faces: FaceTable, name: str, model: FaceClassifier, spec: Spec, store: ArrayCache, progress: Progress
) -> _Part:
    usable = _usable(faces.part(name))
    if not len(usable):
        raise DataError(f"the split {name!r} holds no face that may be used for training; give more faces or change [split]")
    hashes = face_hashes(usable)
    pixels = feeds.decoded(usable, model.image_size, hashes, store, name)
    views = feeds.Views(pixels=pixels, augmentation=spec.training.augmentation, seed=spec.seed)
    return _Part(name=name, faces=usable, hashes=hashes, views=views)


def face_hashes(faces: FaceTable) -> tuple[str, ...]:
    """Return the SHA-256 of each face's file: as the table knows it, else computed."""
    if "sha256" in faces.frame and faces.frame["sha256"].notna().all():
        return tuple(map(str, faces.frame["sha256"]))
    return tuple(file_hash(faces.root / name) for name in faces.frame["image"])


def _check_labels(targets: Mapping[str, Target]) -> None:
    for task, target in targets.items():
        seen = torch.unique(target.codes[target.codes >= 0])
        if len(seen) < 2:
            raise DataError(
                f"task {task!r}: the training faces have {len(seen)} different labels, two are needed; "
                "leave it out of `tasks` or give more faces"
            )


def _model(
    backbone: Backbone, faces: FaceTable, spec: Spec, tasks: Mapping[str, tuple[str, ...]]
) -> tuple[FaceClassifier, list[str]]:
    """Build the classifier, seeded; a backbone without weights is trained whole."""
    scratch = not backbone.weights_hash
    if scratch and spec.model.trainable_blocks is not None:
        raise UsageError("model.trainable_blocks belongs to a pretrained backbone; without weights all blocks are trained")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        if scratch:  # built again, because the first one was drawn from whatever random state there was
            backbone = build_backbone(spec.model, pretrained=False)
        trainable = len(backbone.blocks) if scratch else spec.model.trainable_blocks
        model = FaceClassifier(
            backbone, tasks, shared=spec.model.shared, dropout=spec.model.dropout, trainable=trainable
        )
    notes = []
    if not scratch and len(backbone.blocks) == 1:
        notes.append(f"{spec.model.backbone} cannot be cut into blocks: its backbone stays frozen, only heads are trained")
    if spec.training.batch_norm == "fold" and not scratch:
        if folds_exactly(model.blocks, model.image_size):
            model.fold_batch_norm()
        else:
            notes.append("the batch norms of this backbone cannot be folded; they are kept frozen instead")
    return model, notes


def _plan(backbone: Backbone, model: FaceClassifier, spec: Spec) -> list[str]:
    """Return the stages in order: "all" trains everything; "heads" and "upper" belong to a pretrained backbone."""
    if not backbone.weights_hash:
        return ["all"]
    plan = ["heads"] if spec.training.head_epochs else []
    if spec.training.epochs and model.cut < len(model.blocks):
        plan.append("upper" if model.cut else "all")
    if not plan:
        raise UsageError("nothing to train: head_epochs = 0, and epochs or trainable_blocks is 0")
    return plan


def _run_stages(
    plan: Sequence[str], backbone: Backbone, model: FaceClassifier, parts: Sequence[_Part], spec: Spec, run: Run,
    targets: Mapping[str, Target], judge: Any, store: ArrayCache, key: Mapping[str, Any], dtype: torch.dtype,
    progress: Progress,
) -> None:  # fmt: skip
    targets = {task: target.to(model.mean.device) for task, target in targets.items()}
    maps = _maps(model, parts, spec, store, key, dtype) if "upper" in plan else None
    start = plan.index(run.stage) if run.stage in plan else 0
    for name in plan[start:]:
        if name == "heads":
            stage = _heads_stage(model, parts, maps, spec, store, key, dtype)
        elif name == "upper":
            assert maps is not None
            stage = _upper_stage(model, parts, maps, spec, dtype)
        else:
            fixed = bool(backbone.weights_hash) and spec.training.batch_norm != "train"
            stage = _whole_stage(model, parts, spec, dtype, fixed=fixed)
        run_stage(model, stage, run, targets, judge, spec.training, seed=spec.seed, progress=progress)


def _maps(
    model: FaceClassifier, parts: Sequence[_Part], spec: Spec, store: ArrayCache, key: Mapping[str, Any],
    dtype: torch.dtype,
) -> list[list[Tensor]]:  # fmt: skip
    counts = (spec.training.augmented_views, 2 if spec.training.flip_test else 1)
    return [
        feeds.lower_maps(model, part.views, count, part.hashes, key, dtype, store, part.name)
        for part, count in zip(parts, counts, strict=True)
    ]


def _heads_stage(
    model: FaceClassifier, parts: Sequence[_Part], maps: list[list[Tensor]] | None, spec: Spec, store: ArrayCache,
    key: Mapping[str, Any], dtype: torch.dtype,
) -> Stage:  # fmt: skip
    """Heads on embeddings; where fine-tuning follows, on those of the plain and the mirrored face."""
    flip = 2 if spec.training.flip_test else 1
    made = []
    for index, part in enumerate(parts):
        if maps is not None:
            few = maps[index][:2]
            made.append(feeds.embeddings_of_maps(model, few, part.views, part.hashes, key, dtype, store, part.name))
        else:
            count = flip if index else (spec.training.augmented_views if model.cut else 2)
            made.append(
                feeds.embeddings_of_faces(model, part.views, count, part.hashes, key, dtype, store, part.name)
            )
    device = model.mean.device
    loads = [lambda rows, view=view: view[rows].to(device) for view in made[1][:flip]]
    heads = [model.shared, model.heads]
    return Stage(
        name="heads",
        epochs=spec.training.head_epochs,
        inputs=feeds.cached_batches(made[0], spec.seed, device),
        forward=model.classify,
        validate=lambda: feeds.validate_on(model.classify, loads, len(parts[1]), device, torch.float32),
        learns=heads,
        groups=[_group(heads, spec.training.head_learning_rate)],
        prefixes=("shared.", "heads."),
        dtype=torch.float32,
    )


def _upper_stage(
    model: FaceClassifier, parts: Sequence[_Part], maps: list[list[Tensor]], spec: Spec, dtype: torch.dtype
) -> Stage:
    """Upper blocks and heads on cached maps of the lower blocks."""
    device = model.mean.device
    upper = model.blocks[model.cut :]
    heads = [model.shared, model.heads]
    loads = [lambda rows, view=view: feeds.as_maps(view[rows].to(device)) for view in maps[1]]
    return Stage(
        name="upper",
        epochs=spec.training.epochs,
        inputs=feeds.cached_batches(maps[0], spec.seed, device),
        forward=model.from_maps,
        validate=lambda: feeds.validate_on(model.from_maps, loads, len(parts[1]), device, dtype),
        learns=[*heads, *([upper] if spec.training.batch_norm == "train" else [])],
        groups=[_group(heads, spec.training.head_learning_rate), _group([upper], spec.training.learning_rate)],
        prefixes=("shared.", "heads.", *(f"blocks.{i}." for i in range(model.cut, len(model.blocks)))),
        dtype=dtype,
    )


def _whole_stage(model: FaceClassifier, parts: Sequence[_Part], spec: Spec, dtype: torch.dtype, *, fixed: bool) -> Stage:
    """Everything, on images that are augmented as they are read; `fixed`: batch norms are not trained."""
    device = model.mean.device
    pixels = parts[1].views.pixels
    loads = [lambda rows: model.prepare(pixels[rows])]
    if spec.training.flip_test:
        loads.append(lambda rows: model.prepare(pixels[rows].flip(2)))
    heads = [model.shared, model.heads]
    return Stage(
        name="all",
        epochs=spec.training.epochs,
        inputs=lambda epoch: parts[0].views.on_the_fly(model, epoch),
        forward=model.forward,
        validate=lambda: feeds.validate_on(model.forward, loads, len(parts[1]), device, dtype),
        learns=heads if fixed else [*heads, model.blocks],
        groups=[_group(heads, spec.training.head_learning_rate), _group([model.blocks], spec.training.learning_rate)],
        prefixes=("shared.", "heads.", "blocks."),
        dtype=dtype,
    )


def _group(modules: Sequence[torch.nn.Module], rate: float) -> dict[str, Any]:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return {"params": parameters, "lr": rate, "height": rate}


def _run_key(
    spec: Spec, parts: Sequence[_Part], weights: Mapping[str, np.ndarray], backbone: Backbone, dtype: torch.dtype,
    device: torch.device,
) -> str:  # fmt: skip
    """Return the hash of everything that the course of training depends on."""
    return value_hash(
        {
            "spec": [spec.model.model_dump(mode="json"), spec.training.model_dump(mode="json"), spec.seed, spec.tasks],
            "faces": [part.hashes for part in parts],
            "labels": [
                part.faces.frame[list(part.faces.tasks)].astype(str).to_csv(index=False) for part in parts
            ],
            "sample_weights": {task: values.tobytes().hex() for task, values in weights.items()},
            "backbone": backbone.weights_hash,
            "machine": [str(dtype), device.type],
            "version": [fairaudit.__version__, torch.__version__],
        }
    )


def _history(run: Run) -> pd.DataFrame:
    table = pd.DataFrame(run.history)
    table["selected"] = (table["stage"] == run.best_stage) & (table["epoch"] == run.best_epoch)
    return table


def _meta(
    faces: FaceTable, spec: Spec, parts: Sequence[_Part], tasks: Mapping[str, tuple[str, ...]], backbone: Backbone,
    run: Run, mitigation: Mapping[str, Any] | None, notes: Sequence[str], weights: Mapping[str, np.ndarray],
    device: torch.device, dtype: torch.dtype,
) -> dict[str, Any]:  # fmt: skip
    """Return what model.json says of how the model came about."""
    chosen = next(row for row in run.history if (row["stage"], row["epoch"]) == (run.best_stage, run.best_epoch))
    last = run.history[-1]
    return {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "seed": spec.seed,
        "mitigation": dict(mitigation) if mitigation else None,
        "weighted_tasks": sorted(weights),
        "ordered": sorted(faces.ordered & set(tasks)),
        "flip_test": spec.training.flip_test,
        "backbone_weights": {"file": backbone.weights, "sha256": backbone.weights_hash},
        "preprocessing": {
            "image_size": backbone.image_size,
            "channels": "RGB",
            "crop": "the whole image is resized to a square",
            "mean": list(backbone.mean),
            "std": list(backbone.std),
        },
        "data": {
            "dataset": spec.data.dataset,
            "label_source": faces.label_source,
            "split_hash": faces.meta.get("split_hash", ""),
            "train_hash": value_hash(sorted(parts[0].hashes)),
            "val_hash": value_hash(sorted(parts[1].hashes)),
            "counts": {
                part.name: {
                    "faces": len(part),
                    "labels": {
                        task: {str(k): int(v) for k, v in part.faces.frame[task].value_counts().items()}
                        for task in tasks
                    },
                }
                for part in parts
            },
        },
        "selected": {
            "stage": run.best_stage,
            "epoch": run.best_epoch,
            "score": run.best_score,
            "by": spec.training.select if spec.training.select == "overall" else f"worst of {spec.training.select_by}",
        },
        "validation": {name: value for name, value in chosen.items() if name.startswith("val_")},
        "seconds": sum(row["seconds"] for row in run.history),
        "speed": {"images_per_second": last["images_per_second"], "share_waiting_for_data": last["share_waiting"]},
        "device": str(device),
        "precision": str(dtype).removeprefix("torch."),
        "versions": {
            "fairaudit": fairaudit.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "notes": list(notes),
    }
