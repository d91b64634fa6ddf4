"""The planted spurious cue of the made-up faces: attribution finds it, and not in a model trained without it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairaudit.attribution.attribute import attribute
from fairaudit.attribution.contrasts import MODEL, SUBGROUPS
from fairaudit.data.readers import load_faces
from fairaudit.data.splits import split_faces
from fairaudit.data.synthetic import synthesize
from fairaudit.data.tables import FaceTable
from fairaudit.models.training import train
from fairaudit.results import Attribution
from fairaudit.spec import AttributionSpec, Spec, SyntheticSpec

CUE = {"kind": "spurious_cue", "where": {"group": "Dune"}, "strength": 0.95, "task": "gender"}
SPEC = Spec.model_validate(
    {
        "name": "cue",
        "tasks": ["gender"],
        "data": {"dataset": "synthetic"},
        "split": {"train": 0.6, "val": 0.1},
        "model": {"backbone": "small_cnn", "weights": "none", "image_size": 64, "shared": 64},
        "training": {
            "epochs": 5,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "augmented_views": 1,
            "augmentation": {"mirror": False},
        },
    }
)


def corner(found: Attribution) -> float:
    """Return the share of absolute attribution in the corner that the mark is in: a fifth of each side."""
    values = found.maps["gender", "overall", "overall"]
    side = round(0.2 * len(values))
    return float(values[-side:, -side:].sum())


def marked(faces: FaceTable) -> FaceTable:
    """Return the faces with an attribute that says whether the mark is in the picture."""
    truth = pd.read_csv(faces.root / "truth.csv").set_index("image")
    (column,) = [name for name in truth if name.startswith("bias_1")]
    names = np.where(truth.loc[faces.frame["image"], column], "marked", "unmarked")
    frame = faces.frame.assign(mark=pd.Categorical(names))
    return replace(faces, frame=frame, attributes=(*faces.attributes, "mark"))


@pytest.mark.slow
def test_the_planted_mark_is_found_and_only_where_it_was_learned(tmp_path: Path) -> None:
    """Both models explain the same faces, asked for Female. The one trained on marked faces: a mark adds signed
    attribution to the background, against every baseline and net of shuffled weights, and no other region differs so.
    The other one: no region does."""
    settings = AttributionSpec(
        faces_per_head=40,
        steps=16,
        sanity="none",
        contrasts=("mark",),
        faces_per_subgroup=60,
        target={"gender": "Female"},
    )
    found = {}
    for name, biases in (("marked", [CUE]), ("plain", [])):
        made = SyntheticSpec.model_validate({"n": 2400, "image_size": 64, "biases": biases})
        root = synthesize(made, tmp_path / name / "faces")
        faces = split_faces(load_faces(SPEC.data, root, tasks=SPEC.tasks), SPEC.split)
        model = train(faces, SPEC, tmp_path / name / "model")
        if name == "marked":
            shown = marked(faces.part("test"))
        found[name] = attribute(model, shown, by=["mark"], attribution=settings)
    assert corner(found["marked"]) > 2 * corner(found["plain"])
    named = {
        name: {
            (row["region"], row["kind"])
            for row in result.contrasts.to_dict("records")
            if row["comparison"] == SUBGROUPS and row["verdict"] == MODEL
        }
        for name, result in found.items()
    }
    assert named == {"marked": {("background", "signed")}, "plain": set()}
