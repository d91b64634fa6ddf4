"""A few dozen made-up pictures with labels that a tiny network can learn, for the tests of the models."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fairaudit.data.tables import FaceTable
from fairaudit.spec import Spec, parse_spec

TASKS = {"gender": ("Male", "Female"), "race": ("A", "B", "C")}


def make_faces(root: Path, count: int = 60, size: int = 40) -> FaceTable:
    """Write `count` pictures below `root`: the red or green channel shows the gender, the upper half's blue race."""
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        gender, race = index % 2, index % 3
        pixels = rng.integers(0, 60, (size, size, 3), dtype=np.uint8)
        pixels[..., gender] += 120
        pixels[: size // 2, :, 2] += race * 90
        path = root / "pictures" / f"{index:03d}.png"
        Image.fromarray(pixels).save(path)
        rows.append(
            {
                "image": f"pictures/{index:03d}.png",
                "gender": TASKS["gender"][gender],
                "race": TASKS["race"][race],
                "hair": ["short", "long"][(index // 7) % 2],
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "split": ["train", "train", "train", "val", "test"][index // 6 % 5],
                "trainable": index != 0,
            }
        )
    frame = pd.DataFrame(rows)
    for task, classes in TASKS.items():
        frame[task] = pd.Categorical(frame[task], categories=list(classes))
    return FaceTable(frame=frame, root=root, tasks=TASKS, attributes=("hair",), label_source="drawn")


def make_spec(**changes: object) -> Spec:
    """Return the spec of a tiny network, with `training__epochs=5` setting the key `training.epochs`."""
    raw: dict[str, object] = {
        "name": "tiny",
        "data": {"dataset": "manifest"},
        "model": {"backbone": "small_cnn", "image_size": 32, "shared": 16},
        "training": {"epochs": 2, "batch_size": 12, "precision": "fp32", "device": "cpu", "augmented_views": 3},
    }
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            raw[part][key] = value  # type: ignore[index]
        else:
            raw[part] = value
    return parse_spec(raw)


def small_weights(folder: Path) -> Path:
    """Write small.pt, weights that make small_cnn a pretrained backbone, into a folder; return the folder."""
    import torch

    from fairaudit.models.backbones import build_backbone
    from fairaudit.spec import ModelSpec

    torch.manual_seed(3)
    torch.save(build_backbone(ModelSpec(backbone="small_cnn")).blocks.state_dict(), folder / "small.pt")
    return folder
