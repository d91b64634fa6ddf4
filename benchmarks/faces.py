"""Faces for the benchmarks: real ones where they are at hand, else made-up ones."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fairaudit.data.tables import FaceTable

CLASSES = {"gender": ("Male", "Female"), "race": ("White", "Black", "Asian", "Indian", "Others")}


def some_faces(data: Path, count: int, scratch: Path) -> FaceTable:
    """Return `count` JPEGs below `data` with labels that mean nothing, or made-up ones where that folder is absent."""
    names = sorted(path.name for path in data.glob("*.jpg"))[:count] if data.is_dir() else []
    if not names:
        print(f"{data} holds no faces: made-up ones instead")
        scratch.mkdir(exist_ok=True)
        data, names = scratch, _draw(scratch, count)
    columns = {
        task: pd.Categorical([classes[i % len(classes)] for i in range(len(names))], categories=classes)
        for task, classes in CLASSES.items()
    }
    return FaceTable(frame=pd.DataFrame({"image": names, **columns}), root=data, tasks=CLASSES, attributes=())


def _draw(folder: Path, count: int) -> list[str]:
    """Write smooth random JPEGs of 200 × 200 px and return their names."""
    rng = np.random.default_rng(0)
    names = [f"{i:05d}.jpg" for i in range(count)]
    for name in names:
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((200, 200), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    return names
