"""Faces a second from JPEG files to predicted classes: `predict` against the usual eager loop with PIL.

    python benchmarks/predict.py [--faces 256] [--backbone mobilefacenet]

Both run the same float32 network in one thread on the same 200 × 200 JPEGs; their predicted classes must be equal.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from timing import alternate

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.models.backbones import build_backbone
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.inference import predict
from fairaudit.spec import ModelSpec

CLASSES = {"gender": ("Male", "Female"), "race": ("White", "Black", "Asian", "Indian", "Others")}
BATCH = 64


def draw_faces(folder: Path, count: int) -> FaceTable:
    """Write smooth random JPEGs of 200 × 200 px and return them as a FaceTable."""
    rng = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(count)]
    for name in names:
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((200, 200), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    columns = {
        task: pd.Categorical([classes[i % len(classes)] for i in range(count)], categories=classes)
        for task, classes in CLASSES.items()
    }
    return FaceTable(frame=pd.DataFrame({"image": names, **columns}), root=folder, tasks=CLASSES, attributes=())


def eager(model: FaceClassifier, faces: FaceTable) -> dict[str, np.ndarray]:
    """Return each task's predicted classes by a plain loop: open, resize, to tensor, normalize, stack, forward."""
    found: dict[str, list[int]] = {task: [] for task in CLASSES}
    mean, std = model.mean, model.std
    for start in range(0, len(faces), BATCH):
        images = []
        for name in faces.frame["image"][start : start + BATCH]:
            with Image.open(faces.root / name) as image:
                resized = image.convert("RGB").resize((model.image_size,) * 2, Image.Resampling.BILINEAR)
            images.append((torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255 - mean) / std)
        with torch.no_grad():
            for task, logits in model(torch.stack(images)).items():
                found[task] += logits.argmax(1).tolist()
    return {task: np.array(CLASSES[task])[indices] for task, indices in found.items()}


def main() -> None:
    """Run both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=256)
    parser.add_argument("--backbone", default="mobilefacenet")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = FaceClassifier(build_backbone(ModelSpec(backbone=given.backbone, weights="none")), CLASSES).eval()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = draw_faces(folder, given.faces)
        checkpoint = Checkpoint(folder=folder, model=model, meta={}, history=pd.DataFrame())
        out = folder / "predictions.parquet"
        # not in turn: predict asks the C library to keep freed memory, which would make the plain loop faster after it
        plain, labels = alternate({"eager loop": lambda: eager(model, faces)}, 2)
        quick, tables = alternate(
            {"predict": lambda: read_predictions(predict(checkpoint, faces, out, batch_size=BATCH)).frame}, 2
        )
    for task in CLASSES:
        same = float((tables["predict"][f"{task}_pred"].astype(str).to_numpy() == labels["eager loop"][task]).mean())
        print(f"{task}: {100 * same:.2f} % of the predicted classes are equal")
        if same < 1:
            raise SystemExit(f"the two sides disagree on {task}")
    ratio = plain["eager loop"] / quick["predict"]
    print(f"{given.faces} faces, {given.backbone}: {ratio:.2f}× the eager loop's faces a CPU second")


if __name__ == "__main__":
    main()
