"""What a checkpoint says of how its model came about."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
import torchvision

import fairaudit
from fairaudit.data.tables import FaceTable
from fairaudit.files import value_hash
from fairaudit.models.backbones import Backbone
from fairaudit.models.loop import Run
from fairaudit.models.stages import Part, Setup
from fairaudit.spec import Spec


def history_table(run: Run) -> pd.DataFrame:
    """Return one row an epoch: stage, epoch, seconds, speed, losses, validation accuracies (0…1), and `selected`."""
    table = pd.DataFrame(run.history)
    table["selected"] = (table["stage"] == run.best_stage) & (table["epoch"] == run.best_epoch)
    return table


def describe(
    faces: FaceTable,
    setup: Setup,
    backbone: Backbone,
    run: Run,
    *,
    mitigation: Mapping[str, Any] | None,
    weighted: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return model.json, but for the architecture and the classes: spec, data, selection, speed, versions, notes."""
    spec = setup.spec
    chosen = next(row for row in run.history if (row["stage"], row["epoch"]) == (run.best_stage, run.best_epoch))
    return {
        **provenance(faces, spec, [setup.train, setup.val], mitigation=mitigation, weighted=weighted, notes=notes),
        **backbone_meta(backbone, spec),
        "parameters": sum(values.numel() for values in setup.model.parameters()),
        "selected": {
            "stage": run.best_stage,
            "epoch": run.best_epoch,
            "score": run.best_score,
            "by": _chosen_by(spec),
        },
        "validation": {name: value for name, value in chosen.items() if name.startswith("val_")},
        "seconds": sum(row["seconds"] for row in run.history),
        "speed": {
            "images_per_second": run.history[-1]["images_per_second"],
            "share_waiting_for_data": run.history[-1]["share_waiting"],
            "device": str(setup.device),
            "precision": str(setup.dtype).removeprefix("torch."),
            "compiled": setup.compiled and not run.uncompiled and run.history[-1]["stage"] != "heads",
        },
    }


def backbone_meta(backbone: Backbone, spec: Spec) -> dict[str, Any]:
    """Return what model.json says of the weights that a backbone started from, and of what it does to a picture."""
    matched = backbone.match.report() if backbone.match and spec.model.weights_match == "partial" else None
    weights = {"file": backbone.weights, "sha256": backbone.weights_hash}
    return {
        "backbone_weights": weights | ({"match": matched} if matched else {}),
        "preprocessing": _preprocessing(backbone, spec.model.align_from),
    }


def provenance(
    faces: FaceTable,
    spec: Spec,
    parts: Sequence[Part],
    *,
    mitigation: Mapping[str, Any] | None,
    weighted: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return what model.json says of every kind of model: spec, faces of each part, versions, notes."""
    tasks = spec.tasks or tuple(faces.tasks)
    return {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "seed": spec.seed,
        "mitigation": dict(mitigation) if mitigation else None,
        "weighted_tasks": sorted(weighted),
        "ordered": sorted(faces.ordered & set(tasks)),
        "flip_test": spec.training.flip_test,
        "zoom_test": list(spec.training.zoom_test),
        "label_source": faces.label_source,
        "split_hash": faces.meta.get("split_hash", ""),
        "data_hash": faces.meta.get("data_hash", ""),
        "data": {
            "dataset": spec.data.dataset,
            **{f"{part.name}_hash": value_hash(sorted(part.hashes)) for part in parts},
            "counts": {part.name: _counts(part, tasks) for part in parts},
        },
        "versions": {
            "fairaudit": fairaudit.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "notes": list(notes),
    }


def _preprocessing(backbone: Backbone, align_from: str | None) -> dict[str, Any]:
    moved = f"; faces that lie as in {align_from} are moved to where the backbone knows them" if align_from else ""
    return {
        "image_size": backbone.image_size,
        "channels": {"rgb": "RGB", "bgr": "BGR", "grey": "luminance (BT.601), three times"}[backbone.color],
        "crop": "the whole image is resized to a square" + moved,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
    }


def _counts(part: Part, tasks: Sequence[str]) -> dict[str, Any]:
    """Return how many faces a part has, and how many of each label (masked ones count nowhere)."""
    labels = {
        task: {str(name): int(count) for name, count in part.faces.frame[task].value_counts().items()} for task in tasks
    }
    return {"faces": len(part), "labels": labels}


def _chosen_by(spec: Spec) -> str:
    if spec.training.select == "overall":
        return "mean validation accuracy over the tasks"
    return f"mean over the tasks of the worst validation accuracy by {spec.training.select_by}"
