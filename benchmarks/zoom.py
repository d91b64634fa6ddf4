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
        faces = rows["image"].astype(str)
        change = rows["zoomed"].astype(float) - rows["plain"].astype(float)
        plain, zoomed, moved = (mean_of(values, faces) for values in (rows["plain"], rows["zoomed"], change))
        p = 2 * norm.sf(abs(moved[0]) / _error(change, faces, about=0.0))
        print(
            f"{task}: {_words(plain, '.2f')} % as they are, {_words(zoomed, '.2f')} % in several sizes; change "
            f"{_words(moved, '+.2f')} points, p {p:.3f}; {len(rows):,} answers on {faces.nunique():,} faces",
            flush=True,
        )


def mean_of(values: pd.Series, faces: pd.Series) -> tuple[float, float, float]:
    """Return the mean of all answers and its 95 % limits, a face's answers taken together."""
    mean = float(values.mean())
    reach = norm.ppf(0.975) * _error(values.astype(float), faces, about=mean)
    return mean, mean - reach, mean + reach


def _error(values: pd.Series, faces: pd.Series, *, about: float) -> float:
    return float(np.sqrt(((values - about).groupby(faces).sum() ** 2).sum())) / len(values)


def _words(limits: tuple[float, float, float], how: str) -> str:
    value, low, high = (format(100 * each, how) for each in limits)
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
