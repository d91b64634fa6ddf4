"""Alignment, baselines, passes that go on where they were stopped, sanity checks, and contrasts end to end."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_attribution import CLASSES, SIZE, THREE, Patch, checkpoint, classifier, face_table, small_cnn
from torch import Tensor, nn

from fairaudit.attribution import contrasts, passes, region_table, sanity
from fairaudit.attribution.alignment import align
from fairaudit.attribution.attribute import attribute
from fairaudit.attribution.backdrops import BASELINES, Pool
from fairaudit.attribution.curves import CHECKS
from fairaudit.attribution.drawing import draw_evenly
from fairaudit.attribution.infidelity import infidelity
from fairaudit.attribution.networks import randomized
from fairaudit.attribution.passes import Explained
from fairaudit.attribution.regions import REGIONS, chip
from fairaudit.data.frames import ALIGNMENTS
from fairaudit.errors import UsageError
from fairaudit.results import Attribution
from fairaudit.results.columns import SANITY_COLUMNS
from fairaudit.spec import AttributionSpec

QUICK = AttributionSpec(faces_per_head=12, steps=8, alignment="utkface")


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread and few draws: tiny networks are faster so."""
    torch.set_num_threads(1)
    monkeypatch.setattr(contrasts, "DRAWS", 300)
    monkeypatch.setattr(region_table, "DRAWS", 300)
    monkeypatch.setattr(sanity, "_STEPS", 20)


class Mouth(nn.Module):
    """Looks at the mouth of UTKFace's alignment only."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels around the mouth as an embedding."""
        return x[:, :, 21:25, 12:20].flatten(1)


def test_frames_come_from_the_data_set(tmp_path: Path) -> None:
    """Known sets have their frame, other releases another one or none, merged sets one a face; a name decides."""
    faces = face_table(tmp_path, THREE)

    def of(meta: dict[str, object], setting: str = "auto") -> object:
        return align(replace(faces, meta=meta), None, setting, "").of(0)

    assert of({"dataset": "utkface", "image_sizes": {"200 × 200": 9}}) == ALIGNMENTS["utkface"]
    assert of({"dataset": "utkface", "image_sizes": {"640 × 480": 9}}) is None
    assert of({"dataset": "fairface", "image_sizes": {"224 × 224": 9}}) == ALIGNMENTS["fairface"]
    assert of({"dataset": "fairface", "image_sizes": {"448 × 448": 9}}) == chip(1.25)
    assert of({"dataset": "synthetic"}) == ALIGNMENTS["avatars"]
    assert of({"dataset": "manifest"}) is None
    assert of({"dataset": "manifest"}, "arcface") == ALIGNMENTS["arcface"]
    assert of({"dataset": "utkface"}, "none") is None
    merged = replace(
        faces, frame=faces.frame.assign(dataset=["utkface", "fairface", "mine"] * 4), meta={"dataset": "merged"}
    )
    found = align(merged, None, "auto", "")
    assert [found.of(row) for row in range(3)] == [ALIGNMENTS["utkface"], ALIGNMENTS["fairface"], None]
    assert "faces of mine have no known alignment" in found.said
    with pytest.raises(UsageError, match="did you mean 'landmarks'"):
        align(faces, None, "landmark", "")


def test_landmarks_place_each_face(tmp_path: Path, shared: Path) -> None:
    """dlib's landmarks on real faces lie near the set's own alignment."""
    pytest.importorskip("dlib", reason="needs fairaudit[dlib]")
    from fairaudit.models.weights import find_weights

    name = "shape_predictor_5_face_landmarks.dat"
    try:
        find_weights(name, ())
    except UsageError as error:
        pytest.skip(f"needs dlib's landmarks file: {error}")
    folder = shared / "faces" / "utkface"
    images = sorted(path.name for path in folder.glob("3?_*.jpg"))[:8]
    if not images:
        pytest.skip("needs UTKFace pictures in shared/faces")
    table = replace(face_table(tmp_path, THREE[:8]), root=folder)
    table = replace(table, frame=table.frame.assign(image=images))
    found = align(table, None, "landmarks", name)
    apart = [np.abs(found.of(row).matrix - ALIGNMENTS["utkface"].matrix).max() for row in range(8)]
    assert np.median(apart) < 0.05


def test_without_an_alignment_nothing_is_said_of_regions(tmp_path: Path) -> None:
    """No region has a number; the page is told why."""
    found = attribute(
        checkpoint(classifier(small_cnn(), 8)),
        face_table(tmp_path, THREE),
        by=["race"],
        attribution=AttributionSpec(faces_per_head=6, steps=8, sanity="none"),
    )
    assert found.regions.empty
    assert found.meta["regions"] == ""
    assert "no known alignment" in found.meta["alignment"]


def test_the_region_that_the_model_looks_at_is_found(tmp_path: Path) -> None:
    """A model of the mouth alone: its region has nearly all of the attribution, in every subgroup."""
    model = classifier(nn.Sequential(Mouth()), 3 * 4 * 8)
    found = attribute(checkpoint(model), face_table(tmp_path, THREE), by=["race"], attribution=QUICK)
    absolute = found.regions[(found.regions["kind"] == "absolute") & (found.regions["n"] > 0)]
    mouth = absolute[absolute["region"] == "mouth"]
    assert len(mouth) == 2 * 4
    assert (mouth["share"] > 0.8).all()  # the template is blurred by what landmarks are uncertain by
    assert (mouth["area"] < 0.1).all()
    signed = found.regions[found.regions["kind"] == "signed"]
    assert (signed["share"].abs() <= 1).all()
    assert ("integrated-gradients", "signed", "gender", "overall", "overall") in found.pictures
    for region, area in found.regions.drop_duplicates("region").set_index("region")["area"].items():
        assert f"{region} {100 * area:.1f} %" in found.meta["regions"]  # text and table say the same


def test_one_face_of_each_person_is_drawn() -> None:
    """Faces of one person are not independent: at most one of them is drawn; faces without a person are their own."""
    groups = pd.Categorical(["a"] * 10 + ["b"] * 10)
    subjects = pd.Series(["p"] * 10 + ["q"] * 5 + [None] * 5, dtype=object)
    drawn = draw_evenly(groups, 20, 0, subjects)
    assert subjects.iloc[drawn].dropna().is_unique
    assert len(drawn) == 2 + 5


def test_baselines_are_what_they_say(tmp_path: Path) -> None:
    """The mean of the faces, noise with their centre and spread, black; the same seed gives the same noise."""
    faces = torch.randn(40, 3, SIZE, SIZE) * 0.5 + 1
    pool = Pool(
        mean=faces.mean(0, keepdim=True),
        centre=torch.full((1, 3, 1, 1), 1.0),
        spread=torch.full((1, 3, 1, 1), 0.5),
        black=torch.full((1, 3, SIZE, SIZE), -2.0),
        faces=faces,
    )
    x = faces[:2]
    torch.testing.assert_close(BASELINES["mean"].make(x, pool, 0)[1], faces.mean(0))
    noise = BASELINES["noise"].make(x, pool, 3)
    assert noise.mean().item() == pytest.approx(1, abs=0.05)
    assert noise.std().item() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(noise, BASELINES["noise"].make(x, pool, 3))
    assert not torch.equal(noise, BASELINES["noise"].make(x, pool, 4))
    assert (BASELINES["black"].make(x, pool, 0) == -2).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"baselines": ("black",)}, "dark skin"),
        ({"contrasts": ("race",), "baselines": ("blurred", "mean", "black")}, "three baselines"),
        ({"tasks": ("race",), "target": {"gender": "Female"}}, "target names gender, which tasks leaves out"),
        ({"methods": ("saliency", "saliency")}, "twice"),
    ],
)
def test_settings_that_mislead_are_refused(given: dict[str, object], said: str) -> None:
    """Black alone, contrasts against fewer than three baselines, the same method twice."""
    with pytest.raises(ValueError, match=said):
        AttributionSpec.model_validate(given)


def test_unknown_names_are_refused_before_any_model_runs(tmp_path: Path) -> None:
    """A method, baseline, target or contrast that does not exist is wrong use, with the nearest name."""
    faces, model = face_table(tmp_path, THREE), checkpoint(classifier(small_cnn(), 8))
    for given, said in (
        ({"methods": ("salience",)}, "did you mean 'saliency'"),
        ({"baselines": ("blurry",)}, "did you mean 'blurred'"),
        ({"tasks": ("gendre",)}, "did you mean 'gender'"),
        ({"target": {"gender": "female"}}, "did you mean 'Female'"),
        ({"contrasts": ("rase",)}, "did you mean 'race'"),
    ):
        with pytest.raises(UsageError, match=said):
            attribute(model, faces, by=["race"], attribution=AttributionSpec.model_validate(given))


def test_heads_that_are_left_out_cost_nothing_and_change_nothing(tmp_path: Path) -> None:
    """One head asked for: the same figures as among all, and no row, map, contrast or check of another."""
    races = ["White", "Black"] * 6
    faces = face_table(tmp_path, races, genders=[CLASSES["gender"][i // 2 % 2] for i in range(12)])
    model = checkpoint(classifier(small_cnn(), 8))
    asked = AttributionSpec(faces_per_head=6, steps=8, alignment="utkface", contrasts=("race",), faces_per_subgroup=6)
    whole = attribute(model, faces, by=["race"], attribution=asked)
    one = attribute(model, faces, by=["race"], attribution=asked.model_copy(update={"tasks": ("gender",)}))
    for name in ("shares", "regions", "contrasts", "sanity", "curves"):
        mine, all_heads = getattr(one, name), getattr(whole, name)
        assert set(mine["task"]) == {"gender"} < set(all_heads["task"]), name
        if name == "contrasts":  # random numbers of a head's test depend on what was tested before
            keep = ["region", "kind", "baseline", "subgroup", "difference", "randomized", "n", "n_other"]
            mine, all_heads = mine[keep], all_heads[[*keep, "task"]]
        same = all_heads[all_heads["task"] == "gender"][mine.columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), same, check_dtype=False)
    assert {key[0] for key in one.maps} == {"gender"}


def test_a_stopped_attribution_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after a few faces, called again: these are read and not computed, and the result is the same."""
    (tmp_path / "faces").mkdir()
    faces = face_table(tmp_path / "faces", THREE)
    model = checkpoint(classifier(small_cnn(), 8))
    whole = attribute(model, faces, by=["race"], attribution=QUICK)
    keep, lock = tmp_path / "out.attributing", threading.Lock()
    made: list[int] = []
    explainer = passes._explainer

    def counting(limit: int):
        def make(*args):
            explain = explainer(*args)

            def work(row: int) -> Explained:
                with lock:
                    if len(made) >= limit:
                        raise KeyboardInterrupt
                    made.append(row)
                return explain(row)

            return work

        return make

    monkeypatch.setattr(passes, "_explainer", counting(5))
    with pytest.raises(KeyboardInterrupt):
        attribute(model, faces, by=["race"], attribution=QUICK, keep=keep)
    kept = list(keep.rglob("*.npz"))
    assert len(kept) == 5
    made.clear()
    kept[0].write_bytes(b"damaged")
    monkeypatch.setattr(passes, "_explainer", counting(100))
    again = attribute(model, faces, by=["race"], attribution=QUICK, keep=keep)
    assert len(made) == 12 - 4 + 6  # the rest, the damaged one, and six faces in the randomized model
    pd.testing.assert_frame_equal(again.regions, whole.regions, check_exact=False, rtol=1e-5)
    pd.testing.assert_frame_equal(again.sanity, whole.sanity, check_exact=False, rtol=1e-3)
    made.clear()
    attribute(model, faces, by=["race"], attribution=QUICK.model_copy(update={"steps": 9}), keep=keep)
    assert len(made) == 12 + 6  # other settings: nothing is taken over


def test_what_is_kept_is_removed_at_the_end_only(tmp_path: Path) -> None:
    """The folder stays where the work is stopped, and goes when it is done; a stranger's folder is not touched."""
    out = tmp_path / "maps"
    with pytest.raises(KeyboardInterrupt), passes.keeping(out) as keep:
        (keep / "0.npz").write_bytes(b"")
        raise KeyboardInterrupt
    with passes.keeping(out) as again:
        assert again == keep and (keep / "0.npz").exists()
    assert not keep.exists()
    keep.mkdir()
    (keep / "mine.txt").write_text("mine")
    with pytest.raises(UsageError), passes.keeping(out):
        pass
    assert (keep / "mine.txt").exists()


def test_shuffled_weights_keep_what_they_are_and_forget_what_they_did() -> None:
    """Each tensor holds the same values in another order; the scores change; the model itself does not."""
    model = classifier(small_cnn(), 8)
    x = torch.randn(6, 3, SIZE, SIZE)
    before = model(x)["race"].detach().clone()
    other = randomized(model, x, 0)
    for (name, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a.flatten().sort().values, b.flatten().sort().values, msg=name)
    assert not torch.allclose(other(x)["race"], before)
    torch.testing.assert_close(model(x)["race"], before)
    heads = randomized(model, x, 0, blocks=1)
    torch.testing.assert_close(heads.blocks[0].weight, model.blocks[0].weight)
    assert not torch.equal(heads.heads[1].weight, model.heads[1].weight)
    norm = next(part for part in other.modules() if isinstance(part, nn.BatchNorm2d))
    torch.testing.assert_close(norm.running_mean, other.blocks[0](x).mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_rank_correlation_tells_maps_apart() -> None:
    """The same map correlates fully, an unrelated one does not, a flat one not at all; single pixels do not count."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.random((14, 14)), np.ones((4, 4)))
    noisy = smooth + 0.2 * rng.standard_normal(smooth.shape)
    assert sanity.rank_correlation(smooth, smooth) == pytest.approx(1)
    assert sanity.rank_correlation(smooth, noisy) > 0.9
    assert abs(sanity.rank_correlation(smooth, np.kron(rng.random((14, 14)), np.ones((4, 4))))) < 0.3
    assert np.isnan(sanity.rank_correlation(smooth, np.ones_like(smooth)))


def test_infidelity_of_a_linear_model_is_zero() -> None:
    """Weight × distance foretells every loss of score of a linear model exactly; its opposite foretells nothing."""
    from captum.metrics import infidelity as captums

    from fairaudit.attribution.scores import class_scores

    model = classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE).requires_grad_(False)
    x, baseline = torch.randn(1, 3, SIZE, SIZE), torch.randn(1, 3, SIZE, SIZE)
    target = {"gender": torch.tensor([1])}
    weight = (model.heads[0].weight[1] - model.heads[0].weight.mean(0)).view_as(x)
    exact = weight * (x - baseline)
    assert infidelity(model, x, baseline, target, {"gender": exact}, seed=0)["gender"] == pytest.approx(0, abs=1e-6)
    assert infidelity(model, x, baseline, target, {"gender": -exact}, seed=0)["gender"] == pytest.approx(1)
    flat = torch.ones_like(x)
    rng = np.random.default_rng(0)
    tops, lefts = rng.integers(0, SIZE - 7, 16), rng.integers(0, SIZE - 7, 16)
    masks = torch.zeros(16, 1, SIZE, SIZE)
    for mask, top, left in zip(masks, tops, lefts, strict=True):
        mask[:, top : top + 8, left : left + 8] = 1
    masks = masks.expand(16, 3, SIZE, SIZE)

    def score(z: Tensor) -> Tensor:
        return class_scores(model(z)["gender"], torch.ones(len(z), dtype=torch.long))

    def remove(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return masks, x * (1 - masks) + baseline * masks

    mine = flat + exact
    both = [
        captums(score, remove, x, a, n_perturb_samples=16, max_examples_per_batch=16, normalize=normalize).item()
        for a, normalize in ((mine, True), (torch.zeros_like(x), False))
    ]
    got = infidelity(model, x, baseline, target, {"gender": mine}, seed=0)["gender"]
    assert got == pytest.approx(both[0] / both[1], rel=1e-3) or got == pytest.approx(1)


def test_a_map_of_edges_fails_the_sanity_checks(tmp_path: Path) -> None:
    """A head whose attribution follows the picture, whatever the weights, is shown as failed; full checks are made."""
    model = classifier(small_cnn(), 8, shared=5)
    settings = QUICK.model_copy(update={"sanity": "full", "methods": ("integrated-gradients", "grad-cam")})
    found = attribute(checkpoint(model), face_table(tmp_path, THREE), by=["race"], attribution=settings)
    table = found.sanity
    assert tuple(table.columns) == SANITY_COLUMNS
    assert set(table["check"]) == {
        "completeness",
        "infidelity",
        "model randomization",
        "cascading randomization",
        "label randomization",
        *CHECKS,
    }
    assert set(table["method"]) == {"integrated-gradients", "grad-cam"}
    own = table[(table["method"] == "integrated-gradients") & (table["check"] == "model randomization")]
    assert set(own["part"]) == {"absolute", "signed"}
    judged = table[(table["outcome"] != sanity.SHOWN) & ~table["check"].isin(CHECKS)]
    assert (judged["outcome"] == np.where(judged["value"] <= judged["limit"], "passed", "failed")).all()
    failed = table[table["outcome"] == "failed"]
    assert len(failed) == sum("fails the check" in text for text in found.meta["warnings"])
    found.save(tmp_path / "out")
    again = Attribution.load(tmp_path / "out")
    pd.testing.assert_frame_equal(again.sanity, table, check_dtype=False)
    assert set(again.pictures) == set(found.pictures)


def test_subgroups_are_compared_end_to_end(tmp_path: Path) -> None:
    """Contrasts of an axis: every baseline, region and kind, a verdict each, maps, one class in all faces."""
    races = ["White", "Black"] * 12
    faces = face_table(tmp_path, races, genders=[CLASSES["gender"][i // 2 % 2] for i in range(24)])
    model = classifier(nn.Sequential(Patch()), 3 * 64)
    settings = AttributionSpec(
        faces_per_head=6,
        steps=8,
        alignment="utkface",
        methods=("integrated-gradients", "saliency"),
        contrasts=("race",),
        faces_per_subgroup=12,
        target={"gender": "Female"},
        sanity="none",
    )
    found = attribute(checkpoint(model), faces, by=["gender"], attribution=settings)
    table = found.contrasts
    assert set(table.loc[table["method"] == "integrated-gradients", "baseline"]) == {"blurred", "mean", "noise"}
    assert set(table.loc[table["method"] == "saliency", "baseline"]) == {""}
    assert set(table["subgroup"]) == {"White", "Black"}  # Asian has no face, unknown is in no contrast
    assert set(table["region"]) == set(REGIONS)
    assert set(table.loc[table["task"] == "gender", "target"]) == {"Female"}
    # a contrast rests on every baseline, so each one's completeness is told, of the faces that are compared
    told = found.sanity[found.sanity["check"] == "completeness"]
    names = [f"faces compared, {name}" for name in ("blurred", "mean", "noise")]
    assert list(told.loc[told["task"] == "gender", "part"]) == ["", *names]
    assert (told.loc[told["part"] != "", "n"] == 24).all()
    assert "Female (gender)" in found.meta["contrasts"] and "24 faces" in found.meta["contrasts"]
    of_race = table[(table["task"] == "race") & (table["comparison"] == contrasts.SUBGROUPS)]
    assert of_race["reason"].str.contains("nothing to match|fewer than 5").all()
    assert not table.loc[table["verdict"] == contrasts.OPEN, "reason"].eq("").any()
    keys = {key[1] for key in found.pictures}
    assert {"signed", "absolute"} <= keys
    if (table.loc[table["task"] == "gender", "reason"] == "").any():
        assert {"difference", "net"} <= keys
