"""The planted spurious cue of the made-up faces: attribution finds it and so does masking, both in the same trained
model, and neither in one trained without it."""

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
from fairaudit.masking.measure import hide_regions
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.training import train
from fairaudit.report.masking import masking_headline
from fairaudit.results import Attribution
from fairaudit.spec import AttributionSpec, AuditSpec, MaskingSpec, Spec, SyntheticSpec

CORNER = "box 0.8 0.8 1 1"  # where the mark is
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[FaceTable, Checkpoint]]:
    """Test faces and the model that was trained on the others, with the mark and without it."""
    made = {}
    for name, biases in (("marked", [CUE]), ("plain", [])):
        folder = tmp_path_factory.mktemp(name)
        asked = SyntheticSpec.model_validate({"n": 2400, "image_size": 64, "biases": biases})
        root = synthesize(asked, folder / "faces")
        faces = split_faces(load_faces(SPEC.data, root, tasks=SPEC.tasks), SPEC.split)
        made[name] = (faces.part("test"), train(faces, SPEC, folder / "model"))
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_planted_mark_is_found_and_only_where_it_was_learned(
    trained: dict[str, tuple[FaceTable, Checkpoint]],
) -> None:
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
    shown = marked(trained["marked"][0])
    found = {name: attribute(model, shown, by=["mark"], attribution=settings) for name, (_, model) in trained.items()}
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hiding_the_mark_matters_and_only_where_it_was_learned(
    trained: dict[str, tuple[FaceTable, Checkpoint]], tmp_path: Path
) -> None:
    """The mark misleads about Dune: hiding its corner helps Dune and costs the others, no other corner matters.

    Trained without the mark, no corner matters and nobody needs a region more than others.
    """
    corners = tuple(f"box {x} {y} {x + 0.2:g} {y + 0.2:g}" for x in (0, 0.8) for y in (0, 0.8))
    found = {
        name: hide_regions(
            model, faces, tmp_path / name, masking=MaskingSpec(regions=corners),
            audit=AuditSpec(subgroups=("group",), draws=1000),
        )
        for name, (faces, model) in trained.items()
    }  # fmt: skip
    table = found["marked"].table
    dune = table[(table["subgroup"] == "Dune") & (table["reading"] != "")]
    assert set(dune["region"]) == {CORNER} and set(dune["reading"]) == {"misleads"}
    whole = table[(table["by"] == "overall") & (table["reading"] != "")]
    assert set(whole["region"]) == {CORNER} and set(whole["reading"]) == {"needed"}
    assert found["marked"].tests["finding"].any()
    assert (found["plain"].table["reading"] == "").all() and not found["plain"].tests["finding"].any()
    assert masking_headline(found["plain"])[0].startswith("No region is shown to be needed")
