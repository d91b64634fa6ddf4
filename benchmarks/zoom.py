"""Does looking at each face in several sizes help? Trained checkpoints answer their test faces with and without it.

    python benchmarks/zoom.py --faces UTKFACE CHECKPOINT [CHECKPOINT …] [--zooms 0.93 1.07]

The checkpoints are those of one spec with several seeds, so a face may be a test face of more
than one. Prints the accuracy over all answers and the paired change, whose limits and p-value take a face's answers
together (normal approximation, the face as the unit).
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from fairaudit.data.predictions import read_predictions
from fairaudit.inputs import load_and_split
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.inference import predict
from fairaudit.progress import silent
from fairaudit.spec import Spec


def answers(folder: Path, faces: Path, zooms: list[float]) -> pd.DataFrame:
    """Return a row for each test face and head of one checkpoint: whether it is right as it is, and zoomed."""
    checkpoint = load_checkpoint(folder)
    spec = Spec.model_validate(checkpoint.meta["spec"])
    test = load_and_split(faces, spec, silent).part("test")
    sides = []
    for sizes in ([], zooms):
        with tempfile.TemporaryDirectory() as work:
            model = replace(checkpoint, meta={**checkpoint.meta, "zoom_test": sizes})
            sides.append(read_predictions(predict(model, test, Path(work) / "p.parquet")).frame)
    rows = []
    for task in checkpoint.classes:
        known = sides[0][f"{task}_true"].notna()
        right = [(side[f"{task}_true"].astype(str) == side[f"{task}_pred"].astype(str))[known] for side in sides]
        rows.append(
            pd.DataFrame({"task": task, "image": sides[0]["image"][known], "plain": right[0], "zoomed": right[1]})
        )
    return pd.concat(rows)


def main() -> None:
    """Print a line a head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--zooms", type=float, nargs="+", default=[0.93, 1.07])
    given = parser.parse_args()
    table = pd.concat([answers(folder, given.faces, given.zooms) for folder in given.checkpoints])
    for task, rows in table.groupby("task", sort=False):
        change = rows["zoomed"].astype(int) - rows["plain"].astype(int)
        per_face = change.groupby(rows["image"].astype(str)).sum()
        mean, error = change.mean(), float(np.sqrt((per_face**2).sum())) / len(rows)
        low, high = mean + np.array([-1, 1]) * norm.ppf(0.975) * error
        p = 2 * norm.sf(abs(mean) / error)
        print(
            f"{task}: {rows['plain'].mean():.2%} as they are, {rows['zoomed'].mean():.2%} in several sizes; change "
            f"{100 * mean:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), p {p:.3f}; {len(rows):,} answers on "
            f"{len(per_face):,} faces",
            flush=True,
        )


if __name__ == "__main__":
    main()
