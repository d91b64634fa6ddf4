"""Attribution: exact for a linear model, right about a planted place, honest about what it does not have."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn

from fairaudit.attribution import maps
from fairaudit.attribution.attribute import attribute, draw_evenly
from fairaudit.attribution.effort import Effort
from fairaudit.attribution.methods import (
    blurred,
    class_scores,
    completeness_error,
    integrated_gradients,
    rows_a_pass,
)
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models.backbones import Backbone
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.results import Attribution
from fairaudit.results.columns import ATTRIBUTION_COLUMNS
from fairaudit.spec import AttributionSpec

SIZE = 32
CLASSES = {"gender": ("Male", "Female"), "race": ("White", "Black", "Asian")}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny networks are faster in one thread."""
    torch.set_num_threads(1)


class Patch(nn.Module):
    """Looks at the top left 8 × 8 pixels only."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the patch as an embedding."""
        return x[:, :, :8, :8].flatten(1)


def small_cnn() -> nn.Sequential:
    """Two convolutions with a batch norm between, as real backbones have."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, 2, 1))


def classifier(blocks: nn.Sequential, channels: int, shared: int = 0) -> FaceClassifier:
    """Return a FaceClassifier around tiny blocks, with random heads and batch-norm statistics."""
    torch.manual_seed(0)
    backbone = Backbone(blocks=blocks, channels=channels, image_size=SIZE, trainable=1)
    model = FaceClassifier(backbone, CLASSES, shared=shared)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
    return model.eval()


def checkpoint(model: FaceClassifier) -> Checkpoint:
    """Return a checkpoint that was never on disk."""
    return Checkpoint(folder=Path("nowhere"), model=model, meta={}, history=pd.DataFrame(), hash="abc")


def face_table(folder: Path, races: Sequence[str | None], genders: Sequence[str | None] | None = None) -> FaceTable:
    """Write one small random PNG a face and return them as a FaceTable."""
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(len(races))]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / name)
    genders = genders or [CLASSES["gender"][i % 2] for i in range(len(races))]
    frame = pd.DataFrame(
        {
            "image": names,
            "gender": pd.Categorical(genders, categories=CLASSES["gender"]),
            "race": pd.Categorical(races, categories=CLASSES["race"]),
            "split": "test",
        }
    )
    return FaceTable(frame=frame, root=folder, tasks=CLASSES, attributes=("gender", "race"))


SPEC = AttributionSpec(faces_per_head=12, steps=8)
THREE = ["White", "Black", "Asian"] * 4


def test_a_linear_model_gives_weight_times_distance() -> None:
    """Integrated gradients of a linear score are exactly weight × (face − baseline)."""
    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE)
    faces = torch.randn(2, 3, SIZE, SIZE)
    baselines = blurred(faces)
    targets = {"gender": torch.tensor([0, 1]), "race": torch.tensor([2, 0])}
    found = integrated_gradients(model, faces, baselines, targets, Effort(steps=8, rows=6))
    for head, (task, classes) in zip(model.heads, targets.items(), strict=True):
        weights = (head.weight[classes] - head.weight.mean(0)).detach().view_as(faces)
        torch.testing.assert_close(found[task], weights * (faces - baselines), rtol=1e-4, atol=1e-6)
    for errors in completeness_error(model, faces, baselines, targets, found).values():
        assert (errors < 1e-4).all()


def test_heads_that_share_a_pass_get_what_captum_gives_each_alone() -> None:
    """One forward pass for all heads, in small batches, changes no attribution."""
    from captum.attr import IntegratedGradients

    model = classifier(small_cnn(), 8, shared=5)
    faces = torch.randn(1, 3, SIZE, SIZE)
    targets = {"gender": torch.tensor([1]), "race": torch.tensor([2])}
    found = integrated_gradients(model, faces, blurred(faces), targets, Effort(steps=20, rows=7))
    for task, classes in targets.items():
        alone = IntegratedGradients(lambda x, task=task, c=classes: class_scores(model(x)[task], c.expand(len(x))))
        torch.testing.assert_close(
            found[task], alone.attribute(faces, blurred(faces), n_steps=20), rtol=1e-4, atol=1e-6
        )


def test_a_model_that_looks_at_a_corner_is_found_out(tmp_path: Path) -> None:
    """Planted truth: all attribution lies in the corner patch, so the border's share is 1 in every subgroup."""
    model = classifier(nn.Sequential(Patch()), 3 * 64)
    found = attribute(checkpoint(model), face_table(tmp_path, THREE), by=["race", "gender"], attribution=SPEC)
    border = found.shares[found.shares["region"] == "border"]
    outside = 1 - maps.centre_mask(SIZE, SIZE)[:8, :8].mean()
    assert outside > 0.9
    assert (border["share"] > 0.9).all()
    for values in found.maps.values():
        assert values.sum() == pytest.approx(1)
        assert values[:8, :8].sum() == pytest.approx(1)
    assert set(zip(border["by"], border["subgroup"], strict=True)) == {
        ("overall", "overall"),
        *(("race", name) for name in CLASSES["race"]),
        *(("gender", name) for name in CLASSES["gender"]),
    }


def test_folding_and_batching_leave_the_result_alone(tmp_path: Path) -> None:
    """The maps equal those of plain Captum on the untouched model, one head and one face at a time."""
    from captum.attr import IntegratedGradients

    model = classifier(small_cnn(), 8, shared=5)
    faces = face_table(tmp_path, THREE[:3])
    found = attribute(checkpoint(model), faces, by=["race"], attribution=AttributionSpec(faces_per_head=3, steps=8))
    assert not model.folded
    for row, race in enumerate(THREE[:3]):
        pixels = np.asarray(Image.open(tmp_path / f"{row}.png"))
        x = model.prepare(torch.from_numpy(pixels.copy())[None])
        label = CLASSES["race"].index(race)
        method = IntegratedGradients(lambda z, c=label: class_scores(model(z)["race"], torch.full((len(z),), c)))
        wanted = maps.face_maps(method.attribute(x, blurred(x), n_steps=8).detach().numpy())[0]
        np.testing.assert_allclose(found.maps[("race", "race", race)], wanted, rtol=1e-3, atol=1e-7)


def test_faces_are_drawn_evenly_and_said_so(tmp_path: Path) -> None:
    """Six of twelve faces: two a subgroup, none of them `unknown`, the same for the same seed, named in meta."""
    races: list[str | None] = ["White"] * 6 + ["Black"] * 3 + ["Asian"] * 2 + [None]
    faces = face_table(tmp_path, races)
    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE)
    runs = [
        attribute(checkpoint(model), faces, by=["race"], attribution=AttributionSpec(faces_per_head=6, steps=8), seed=3)
        for _ in range(2)
    ]
    shares = runs[0].shares
    centre = shares[(shares["task"] == "gender") & (shares["by"] == "race") & (shares["region"] == "centre")]
    assert dict(zip(centre["subgroup"], centre["n"], strict=True)) == {"White": 2, "Black": 2, "Asian": 2, "unknown": 0}
    assert runs[0].meta["sampled"].startswith("6 of 12 test faces, 2 a subgroup of race")
    assert any("unknown" in text for text in runs[0].meta["warnings"])
    pd.testing.assert_frame_equal(shares, runs[1].shares)
    assert runs[0].meta["faces"] == {"gender": 6, "race": 6}


def test_small_subgroups_leave_their_places_to_others() -> None:
    """Where a subgroup has fewer faces than its part, the others fill up to the limit."""
    groups = pd.Categorical(["a"] * 20 + ["b"] + ["unknown"] * 5)
    drawn = draw_evenly(groups, 8, seed=0)
    assert len(drawn) == 8 == len(set(drawn))
    assert list(groups[drawn]).count("b") == 1
    assert "unknown" not in set(groups[drawn])
    assert len(draw_evenly(groups, 0, seed=0)) == 0
    assert len(draw_evenly(pd.Categorical(["unknown"] * 3), 2, seed=0)) == 2


def test_unlabelled_faces_are_attributed_to_what_was_predicted(tmp_path: Path) -> None:
    """A masked label of a head: the predicted class takes its place, and meta says how often."""
    faces = face_table(tmp_path, THREE, genders=[None] * 12)
    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE)
    found = attribute(checkpoint(model), faces, by=["race"], attribution=SPEC)
    assert "gender (12)" in found.meta["target"]
    assert "race (" not in found.meta["target"]


def test_unreadable_faces_are_left_out_and_named(tmp_path: Path) -> None:
    """A damaged file costs one face, not the run; when none is left it is an error in plain words."""
    faces = face_table(tmp_path, THREE)
    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE)
    (tmp_path / "3.png").write_bytes(b"")
    found = attribute(checkpoint(model), faces, by=["race"], attribution=SPEC)
    assert found.meta["unreadable"] == ["3.png"]
    assert found.meta["faces"]["race"] == 11
    assert any("3.png" in text for text in found.meta["warnings"])
    for name in faces.frame["image"]:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="none of 12 faces drawn"):
        attribute(checkpoint(model), faces, by=["race"], attribution=SPEC)


def test_a_head_that_ignores_the_image_is_said_to(tmp_path: Path) -> None:
    """No gradient anywhere: no map, no share, a warning, and no made-up number."""
    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE)
    nn.init.zeros_(model.heads[0].weight)
    found = attribute(checkpoint(model), face_table(tmp_path, THREE), by=["race"], attribution=SPEC)
    gender = found.shares[found.shares["task"] == "gender"]
    assert gender["share"].isna().all()
    assert (gender["reason"] != "").all()
    assert not any(key[0] == "gender" for key in found.maps)
    assert any("no attribution at all for gender" in text for text in found.meta["warnings"])
    assert found.meta["completeness"]["gender"] is None


def test_too_few_steps_are_warned_of(tmp_path: Path) -> None:
    """A score that bends sharply along the path is not integrated by eight steps: the error is measured and said."""

    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(300 * x.flatten(1)[:, ::97])

    model = classifier(nn.Sequential(Steep()), 32)
    found = attribute(checkpoint(model), face_table(tmp_path, THREE), by=["race"], attribution=SPEC)
    assert found.meta["completeness"]["race"] > 0.05
    assert any("raise attribution.steps" in text for text in found.meta["warnings"])


def test_wrong_axes_are_refused_before_any_model_runs(tmp_path: Path) -> None:
    """An axis that the faces lack, an unknown method and no axis at all are wrong use."""
    faces = face_table(tmp_path, THREE)
    broken = checkpoint(classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE))
    with pytest.raises(UsageError, match="did you mean 'race'"):
        attribute(broken, faces, by=["rase"], attribution=SPEC)
    with pytest.raises(UsageError, match="at least one"):
        attribute(broken, faces, by=[], attribution=SPEC)
    with pytest.raises(UsageError, match="integrated-gradients"):
        attribute(broken, faces, by=["race"], attribution=AttributionSpec(methods=("gradcam",)))


def test_the_result_survives_saving(tmp_path: Path) -> None:
    """What is saved is read back: the columns, the maps, and the mean map of everyone else."""
    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE)
    (tmp_path / "faces").mkdir()
    found = attribute(checkpoint(model), face_table(tmp_path / "faces", THREE), by=["race"], attribution=SPEC)
    found.save(tmp_path / "out")
    again = Attribution.load(tmp_path / "out")
    assert tuple(again.shares.columns) == ATTRIBUTION_COLUMNS
    np.testing.assert_allclose(again.shares["share"], found.shares["share"])
    rest = again.rest_map("race", "race", "White")
    assert rest is not None
    wanted = (again.maps[("race", "race", "Black")] + again.maps[("race", "race", "Asian")]) / 2
    np.testing.assert_allclose(rest, wanted, rtol=1e-5)
    assert again.rest_map("race", "overall", "overall") is None
    for damage in (b"", b"no zip"):
        (tmp_path / "out" / "maps.npz").write_bytes(damage)
        with pytest.raises(DataError, match=r"maps\.npz"):
            Attribution.load(tmp_path / "out")


def test_intervals_agree_with_scipy() -> None:
    """Shares: Student t; differences: Welch. Oracle: scipy.stats."""
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.4, 0.6, 9), rng.uniform(0.3, 0.7, 14)
    mean, low, high = maps.mean_interval(a)
    wanted = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    np.testing.assert_allclose([mean, low, high], [a.mean(), wanted.low, wanted.high], rtol=1e-12)
    difference, low, high = maps.difference_interval(a, b)
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([difference, low, high], [a.mean() - b.mean(), wanted.low, wanted.high], rtol=1e-12)


def test_intervals_that_cannot_be_had_are_nan() -> None:
    """One face has a share and no interval; no face has neither; equal shares have an interval of width 0."""
    assert np.isnan(maps.mean_interval(np.array([]))).all()
    mean, low, high = maps.mean_interval(np.array([0.4]))
    assert (mean, np.isnan(low), np.isnan(high)) == (0.4, True, True)
    assert maps.mean_interval(np.array([0.01, 0.9]))[1:] == (0.0, 1.0)
    assert np.isnan(maps.difference_interval(np.array([0.4]), np.array([0.2, 0.3]))[1:]).all()
    assert maps.difference_interval(np.full(3, 0.5), np.full(4, 0.25)) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(("height", "width"), [(112, 112), (64, 64), (40, 60)])
def test_the_centre_covers_half_of_the_image(height: int, width: int) -> None:
    """The central ellipse has half of the area, whatever the shape, and is symmetric."""
    mask = maps.centre_mask(height, width)
    assert mask.mean() == pytest.approx(0.5, abs=0.01)
    assert (mask == mask[::-1]).all()
    assert (mask == mask[:, ::-1]).all()
    assert f"{100 * mask.mean():.1f} %" in maps.describe_centre(height, width)


def test_the_blur_keeps_tone_and_removes_detail() -> None:
    """A uniform image is unchanged, noise loses its variance, the mean brightness stays; oracle: scipy's filter."""
    from scipy.ndimage import gaussian_filter

    flat = torch.full((1, 3, SIZE, SIZE), -1.3)
    torch.testing.assert_close(blurred(flat), flat)
    noise = torch.randn(1, 3, SIZE, SIZE)
    assert blurred(noise).var() < 0.05 * noise.var()
    wanted = gaussian_filter(noise.numpy(), (0, 0, 3.2, 3.2), mode="mirror", truncate=10 / 3.2)
    np.testing.assert_allclose(blurred(noise).numpy(), wanted, atol=1e-5)


def test_forward_passes_are_bounded_and_even() -> None:
    """Fifty steps at 112 px run as four passes of 13 or fewer; larger images take fewer at once, never none."""
    cpu = torch.device("cpu")
    assert rows_a_pass(50, 112, 112, cpu) == 13
    assert rows_a_pass(50, 32, 32, cpu) == 50
    assert rows_a_pass(50, 1024, 1024, cpu) == 1


def test_captum_is_quiet(tmp_path: Path) -> None:
    """No warning of the library reaches the user for a usual call."""
    model = classifier(small_cnn(), 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attribute(checkpoint(model), face_table(tmp_path, THREE[:3]), by=["race"], attribution=SPEC)
    assert len(found.shares)
