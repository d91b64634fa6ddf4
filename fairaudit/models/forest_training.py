"""Train a classical baseline: principal components of the pixels, then one weighted ensemble of trees a head."""

import importlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from sklearn.decomposition import IncrementalPCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils import gen_batches

from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.files import claim
from fairaudit.models import feeds
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import DESCRIPTION, Checkpoint, save_checkpoint
from fairaudit.models.forest import (
    BOOSTED,
    IMAGE_SIZE,
    RANDOM_FOREST,
    PixelForest,
    check_keys,
    features,
    flat,
    in_colour,
)
from fairaudit.models.losses import make_targets
from fairaudit.models.record import provenance
from fairaudit.models.selection import Verdict, make_judge
from fairaudit.models.stages import Part
from fairaudit.models.trainable import check_labels, checked_weights, face_hashes, heads_of, usable
from fairaudit.models.trees import DEEPEST, Trees, from_sklearn, from_xgboost
from fairaudit.progress import Progress, silent
from fairaudit.spec import ForestSpec, Spec

BATCH = 512  # faces whose pixels are in memory at once
DEPTH = 6  # of boosted trees, where the spec names none
SMALLEST_WEIGHT = 1e-12


def train_forest(
    faces: FaceTable,
    spec: Spec,
    out: Path,
    *,
    sample_weights: Mapping[str, np.ndarray] | None = None,
    cache: Path | None = None,
    mitigation: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Checkpoint:
    """Train a `PixelForest` on the training faces and write the checkpoint `out`; arguments as in `train`.

    A face counts in a head's trees by its sample weight times its class weight, and not at all where its label is
    masked. Pixels stream in batches, so memory does not grow with the number of faces. Validation faces choose
    nothing, as nothing is left to choose; their accuracies are written down. The same seed gives the same model.
    """
    claim(out, "checkpoint", DESCRIPTION)
    check_keys(spec)
    tasks = heads_of(faces, spec)
    weights = checked_weights(sample_weights or {}, faces, tasks)
    judge, notes = make_judge(usable(faces.part("val"), "val"), list(tasks), spec.training)
    targets = make_targets(usable(faces.part("train"), "train"), list(tasks), spec.training, weights)
    check_labels(targets)
    fit = _FITS[spec.model.backbone](spec.model.forest or ForestSpec(), spec.seed)
    work = out.with_name(f"{out.name}.training")
    store = ArrayCache(folder=cache or work / "cache", progress=progress)
    train, val = (_part(faces, name, spec, store) for name in ("train", "val"))
    began = time.perf_counter()
    mean, components, more = _principal(train, spec, progress)
    x = np.concatenate([features(rows, mean, components) for rows in _pixel_rows(train, spec)])
    trees = {}
    for number, (task, names) in enumerate(tasks.items()):
        progress(f"train {spec.model.backbone}", number, len(tasks), task)
        codes = targets[task].codes.numpy()
        known = codes >= 0
        trees[task] = fit(x[known], codes[known], targets[task].weights.double().numpy()[known], len(names))
    progress(f"train {spec.model.backbone}", len(tasks), len(tasks))
    model = PixelForest(
        backbone=spec.model.backbone,  # type: ignore[arg-type]
        image_size=_size(spec), colour=in_colour(spec.model),
        classes=tasks, mean=mean, components=components, trees=trees,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    verdict = judge.judge(_answers(model, val, flip=spec.training.flip_test))
    history = _history(verdict, seconds, len(train))
    meta = _describe(
        provenance(faces, spec, [train, val], mitigation=mitigation, weighted=list(weights), notes=[*notes, *more]),
        model, history, seconds, verdict,
    )  # fmt: skip
    hashes = {part.name: sorted({name[:16] for name in part.hashes}) for part in (train, val)}
    checkpoint = save_checkpoint(model, spec.model, meta, history, hashes, out)
    shutil.rmtree(work, ignore_errors=True)
    return checkpoint


def check_forest(spec: Spec) -> None:
    """Raise UsageError now where `train_forest` would later: a key that is not heeded, or xgboost not installed."""
    check_keys(spec)
    _FITS[spec.model.backbone](spec.model.forest or ForestSpec(), spec.seed)


def _size(spec: Spec) -> int:
    return spec.model.image_size or IMAGE_SIZE


def _part(faces: FaceTable, name: str, spec: Spec, store: ArrayCache) -> Part:
    own = usable(faces.part(name), name)
    hashes = face_hashes(own)
    pixels = feeds.decoded(own, _size(spec), hashes, store, name)
    views = feeds.Views(pixels=pixels, augmentation=spec.training.augmentation, seed=spec.seed)
    return Part(name=name, faces=own, hashes=hashes, views=views)


def _pixel_rows(part: Part, spec: Spec, least: int = 1) -> Iterator[np.ndarray]:
    """Yield the flat faces of a part, at least `least` at a time."""
    for rows in gen_batches(len(part), max(BATCH, least), min_batch_size=least):
        yield flat(part.views.pixels[rows].numpy(), colour=in_colour(spec.model))


def _principal(train: Part, spec: Spec, progress: Progress) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the mean face, the components (as float32) and notes; found batch by batch (Ross et al., IJCV 2008)."""
    wanted = (spec.model.forest or ForestSpec()).components
    count = min(wanted, len(train), _size(spec) ** 2)
    notes = [f"{count} principal components instead of {wanted}: there are no more"] if count < wanted else []
    pca, done = IncrementalPCA(n_components=count), 0
    for rows in _pixel_rows(train, spec, least=count):
        pca.partial_fit(rows)
        done += len(rows)
        progress("principal components", done, len(train))
    share = float(np.sum(pca.explained_variance_ratio_))
    notes.append(f"{count} principal components hold {share:.1%} of the pixels' variance")
    return pca.mean_.astype(np.float32), pca.components_.astype(np.float32), notes


_Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Trees]


def _random_forest(settings: ForestSpec, seed: int) -> _Fit:
    def fit(x: np.ndarray, codes: np.ndarray, weights: np.ndarray, classes: int) -> Trees:
        forest = RandomForestClassifier(
            settings.trees,
            max_depth=settings.depth or DEEPEST,
            min_samples_leaf=settings.min_leaf,
            n_jobs=os.cpu_count(),
            random_state=seed,
        )
        return from_sklearn(forest.fit(x, codes, sample_weight=weights), classes)

    return fit


def _boosted(settings: ForestSpec, seed: int) -> _Fit:
    try:
        xgboost = importlib.import_module("xgboost")
    except ImportError:
        raise UsageError(
            f"backbone {BOOSTED!r} needs xgboost, which is not installed: pip install 'fairaudit[xgboost]' (or name "
            f"{RANDOM_FOREST!r}); a checkpoint of it predicts without xgboost"
        ) from None

    def fit(x: np.ndarray, codes: np.ndarray, weights: np.ndarray, classes: int) -> Trees:
        parameters = {
            "objective": "multi:softprob",
            "num_class": classes,
            "base_score": 0.0,
            "eta": settings.learning_rate,
            "max_depth": settings.depth or DEPTH,
            "tree_method": "hist",
            "seed": seed,
            "nthread": os.cpu_count(),
            "verbosity": 0,
        }
        table = xgboost.DMatrix(x, label=codes, weight=np.maximum(weights, SMALLEST_WEIGHT))
        booster = xgboost.train(parameters, table, settings.trees)
        return from_xgboost(json.loads(booster.save_raw("json").decode()))

    return fit


def _answers(model: PixelForest, part: Part, *, flip: bool) -> dict[str, torch.Tensor]:
    batches = [model.answer(part.views.pixels[rows].numpy(), flip=flip) for rows in gen_batches(len(part), BATCH)]
    return {task: torch.from_numpy(np.concatenate([batch[task] for batch in batches])) for task in model.tasks}


def _history(verdict: Verdict, seconds: float, count: int) -> pd.DataFrame:
    """Return the one row that a training without epochs has."""
    row = {
        "stage": "trees",
        "epoch": 1,
        "seconds": seconds,
        "images_per_second": count / seconds,
        "val_loss": verdict.loss,
        "val_score": verdict.score,
        **{f"val_accuracy_{task}": value for task, value in verdict.accuracy.items()},
        "selected": True,
    }
    return pd.DataFrame([row])


def _describe(
    common: Mapping[str, Any], model: PixelForest, history: pd.DataFrame, seconds: float, verdict: Verdict
) -> dict[str, Any]:
    """Return model.json, but for the architecture and the classes."""
    row = history.iloc[0].to_dict()
    return {
        **common,
        "backbone_weights": {"file": "none", "sha256": ""},
        "preprocessing": {
            "image_size": model.image_size,
            "channels": "RGB" if model.colour else "luma (ITU-R BT.601)",
            "crop": "the whole image is resized to a square",
            "features": f"{len(model.components)} principal components of the pixels",
        },
        "trees": {task: len(trees.roots) for task, trees in model.trees.items()},
        "selected": {"stage": "trees", "epoch": 1, "score": verdict.score, "by": "nothing to choose: no epochs"},
        "validation": {name: value for name, value in row.items() if str(name).startswith("val_")},
        "seconds": seconds,
        "speed": {"images_per_second": row["images_per_second"], "device": "cpu", "precision": "float32"},
        "versions": {**common["versions"], "scikit-learn": sklearn.__version__},
    }


_FITS: dict[str, Callable[[ForestSpec, int], _Fit]] = {RANDOM_FOREST: _random_forest, BOOSTED: _boosted}
