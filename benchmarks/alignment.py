"""Does `model.align_from` help frozen features? One logistic regression a head on embeddings with and without it.

    TORCH_HOME=… python benchmarks/alignment.py --faces UTKFACE [--spec audits/utkface.toml] [--work FOLDER]

Nothing is chosen on the faces that are tested: the penalty is fixed, and validation and test faces, which no part of a
regression has seen, are answered once. Prints accuracy with Wilson's limits, and McNemar's exact test.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from fairaudit.data.tables import FaceTable
from fairaudit.inputs import load_and_split
from fairaudit.models.cache import ArrayCache
from fairaudit.models.embeddings import embeddings_of, pretrained_embedder
from fairaudit.progress import silent
from fairaudit.spec import Spec, load_spec

PENALTY = 0.005  # scikit-learn's C, on standardized embeddings


def embedded(faces: FaceTable, spec: Spec, align_from: str | None, work: Path) -> np.ndarray:
    """Return the frozen backbone's embeddings (n, d) of all faces, those of the mirrored face averaged in."""
    model = spec.model.model_copy(update={"align_from": align_from})
    embedder = pretrained_embedder(spec.model_copy(update={"model": model}), [], "cpu")
    store = ArrayCache(folder=work, progress=silent, device=torch.device("cpu"))
    return embeddings_of(embedder, faces, store, "faces").numpy()


def right(x: np.ndarray, faces: FaceTable, task: str) -> np.ndarray:
    """Return which validation and test faces a regression on the training faces answers as they are labelled."""
    frame = faces.frame
    codes, learned = frame[task].cat.codes.to_numpy(), (frame["split"] == "train").to_numpy()
    train = learned & (codes >= 0) & frame["trainable"].to_numpy(dtype=bool)
    test = ~learned & (codes >= 0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
    return np.asarray(model.fit(x[train], codes[train]).predict(x[test]) == codes[test])


def main() -> None:
    """Print a line a head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--spec", type=Path, default=Path(__file__).resolve().parent.parent / "audits" / "utkface.toml")
    parser.add_argument("--align-from", default="utkface")
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    spec = load_spec(given.spec)
    faces = load_and_split(given.faces, spec, silent)
    with tempfile.TemporaryDirectory() as place:
        sides = [embedded(faces, spec, name, given.work or Path(place)) for name in (None, given.align_from)]
    for task in faces.tasks:
        plain, moved = (right(x, faces, task) for x in sides)
        p = mcnemar(
            [[np.sum(plain & moved), np.sum(plain & ~moved)], [np.sum(~plain & moved), np.sum(~plain & ~moved)]]
        )
        shown = []
        for each in (plain, moved):
            low, high = proportion_confint(int(each.sum()), len(each), method="wilson")
            shown.append(f"{100 * each.mean():.1f} ({100 * low:.1f}–{100 * high:.1f})")
        print(
            f"{task}: {shown[0]} as they are, {shown[1]} moved; n {len(plain):,}; McNemar p {p.pvalue:.4f}", flush=True
        )


if __name__ == "__main__":
    main()
