"""Faces moved to where a backbone knows them: where they land, what is kept, and what reads the network afterwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize
from torch import Tensor, nn

from fairaudit.attribution.effort import Effort
from fairaudit.attribution.methods import ATTRIBUTIONS
from fairaudit.data.frames import ALIGNMENTS, Frame
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.models.backbones import build_backbone
from fairaudit.models.checkpoint import load_checkpoint, save_checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.folding import folds_exactly
from fairaudit.models.realign import Realign, similarity, zooming
from fairaudit.models.training import _alignment_notes
from fairaudit.spec import ModelSpec

SIZE = 112
UTK, ARC = ALIGNMENTS["utkface"], ALIGNMENTS["arcface"]
SAME = Frame(origin=(0.5, 0.4), across=(0.3, 0.0), down=(0.0, 0.3))


def places(frame: Frame) -> np.ndarray:
    """Return both eyes and the mouth twice, in shares of the picture."""
    return np.array([[-0.5, 0, 1], [0.5, 0, 1], [0, 1, 1], [0, 1, 1]]) @ frame.matrix.T


def dot(x: float, y: float, width: float = 4.0) -> Tensor:
    """Return a picture (1, 3, S, S) with a soft dot at a place in shares of it."""
    across = torch.arange(SIZE) + 0.5 - x * SIZE
    down = torch.arange(SIZE) + 0.5 - y * SIZE
    spot = torch.exp(-(down[:, None] ** 2 + across[None] ** 2) / (2 * width**2))
    return spot.expand(1, 3, -1, -1)


def centre(picture: Tensor) -> np.ndarray:
    """Return where a picture's weight lies, (x, y) in shares of it."""
    weight = picture[0, 0] / picture[0, 0].sum()
    at = (torch.arange(SIZE) + 0.5) / SIZE
    return np.array([float((weight.sum(0) * at).sum()), float((weight.sum(1) * at).sum())])


def test_the_similarity_is_that_of_a_search() -> None:
    """No other scale and shift bring the points nearer (scipy's search from elsewhere)."""
    for start in ("utkface", "fairface", "avatars"):
        before, after = places(ALIGNMENTS[start]), places(ARC)
        found = optimize.minimize(
            lambda p, before=before, after=after: ((p[0] * before + p[1:] - after) ** 2).sum(),
            [1.0, 0.0, 0.0],
            tol=1e-12,
        )
        np.testing.assert_allclose(similarity(ALIGNMENTS[start], ARC), found.x, atol=1e-5)


def test_frames_that_agree_leave_the_picture_alone() -> None:
    """Scale 1, no shift: every pixel stays."""
    picture = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Realign(SIZE, SAME, SAME)(picture).contiguous(), picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.25])
def test_a_zoom_is_about_the_middle(zoom: float) -> None:
    """A dot comes nearer to the middle of the picture, or goes away from it, in proportion."""
    for place in ((0.3, 0.4), (0.5, 0.5), (0.7, 0.35)):
        moved = centre(zooming(SIZE, zoom)(dot(*place)))
        np.testing.assert_allclose(moved, zoom * (np.array(place) - 0.5) + 0.5, atol=0.05 / SIZE)


@pytest.mark.parametrize("start", ["utkface", "fairface", "avatars"])
def test_a_dot_lands_where_the_similarity_says(start: str) -> None:
    """Eyes of the data's frame come to the similarity's place within a twentieth of a pixel, and back again."""
    frame = ALIGNMENTS[start]
    block, (scale, *shift) = Realign(SIZE, frame, ARC), similarity(frame, ARC)
    for place in places(frame)[:3]:
        moved = block(dot(*place))
        np.testing.assert_allclose(centre(moved), scale * place + shift, atol=0.05 / SIZE)
        np.testing.assert_allclose(centre(block.back(moved)), place, atol=0.1 / SIZE)


def test_edges_go_on_and_what_was_not_seen_has_no_map() -> None:
    """A picture of one colour stays so; maps come back as 0 from where the network saw nothing."""
    block = Realign(SIZE, UTK, ARC)
    torch.testing.assert_close(
        block(torch.full((1, 3, SIZE, SIZE), 0.7)).contiguous(), torch.full((1, 3, SIZE, SIZE), 0.7)
    )
    back = block.back(torch.ones(1, 1, SIZE, SIZE))
    lowest = (1 - block.y) / block.scale  # what lies below left the picture
    assert lowest < 1
    assert not back[..., round(lowest * SIZE) + 1 :, :].any()
    assert back[..., SIZE // 2, SIZE // 2] == 1


def test_only_backbones_whose_faces_are_known_can_be_realigned() -> None:
    """Another backbone is refused, by name, before anything is trained."""
    with pytest.raises(UsageError, match=r"align_from.*'small_cnn'.*mobilefacenet"):
        build_backbone(ModelSpec(backbone="small_cnn", align_from="utkface"), pretrained=False)


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    """The checkpoint that is read back answers as the model that was written, and not as one without."""
    spec = ModelSpec(backbone="mobilefacenet", weights="none", align_from="utkface", shared=8)
    backbone = build_backbone(spec, pretrained=False)
    model = FaceClassifier(backbone, {"gender": ("Female", "Male")}, shared=8).eval()
    assert folds_exactly(model.blocks, SIZE)
    save_checkpoint(model, spec, {}, pd.DataFrame(), {}, tmp_path / "checkpoint")
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(x)["gender"]
        kept = load_checkpoint(tmp_path / "checkpoint")
        torch.testing.assert_close(kept.network(x)["gender"], wanted)
        torch.testing.assert_close(kept.network.blocks[0](x), model.blocks[0](x))
        assert (model.blocks[0](x) - x).abs().max() > 0.1
    assert kept.meta["architecture"]["align_from"] == "utkface"


@pytest.mark.parametrize(
    ("dataset", "sizes", "key", "said"),
    [
        ("utkface", {"200 × 200": 9}, "utkface", ""),
        ("utkface", {"200 × 200": 9}, None, ""),
        ("synthetic", {"128 × 128": 9}, "avatars", ""),
        ("merged", {"224 × 224": 9}, "utkface", ""),
        ("fairface", {"224 × 224": 9}, "utkface", "pictures of fairface"),
        ("utkface", {"816 × 816": 9}, "utkface", "816 × 816"),
        ("fairface", {"448 × 448": 9}, "fairface", "448 × 448"),
    ],
)
def test_faces_that_lie_otherwise_are_said(dataset: str, sizes: dict[str, int], key: str | None, said: str) -> None:
    """Training notes a set or a release whose faces do not lie as the spec says."""
    faces = FaceTable(
        frame=pd.DataFrame({"image": []}), root=Path(), tasks={}, attributes=(),
        meta={"dataset": dataset, "image_sizes": sizes},
    )  # fmt: skip
    notes = " ".join(_alignment_notes(faces, key))
    assert bool(notes) == bool(said)
    assert said in notes


class Maps(nn.Module):
    """The picture itself as the last maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the picture, never negative."""
        return x.relu()


@pytest.mark.parametrize("name", ["grad-cam", "guided-grad-cam", "saliency", "integrated-gradients"])
def test_attribution_lies_where_the_picture_has_it(name: str) -> None:
    """A dot in the picture is explained at its own place, not where the network saw it."""
    spec = ModelSpec(backbone="mobilefacenet", weights="none", align_from="utkface")
    whole = build_backbone(spec, pretrained=False)
    moving = whole.blocks[0]
    backbone = replace(whole, blocks=nn.Sequential(moving, nn.ReLU(), Maps()), channels=3)
    model = FaceClassifier(backbone, {"gender": ("Female", "Male")}, shared=0).eval()
    with torch.no_grad():
        model.heads[0].weight.copy_(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    place = (0.4, 0.6)
    x, nothing = dot(*place), torch.zeros(1, 3, SIZE, SIZE)
    found = ATTRIBUTIONS[name].explain(
        model.requires_grad_(False), x, nothing, {"gender": torch.tensor([1])}, _effort()
    )
    if name == "saliency":  # the slope is the same all over what is seen, and 0 where nothing is
        slope = found["gender"].abs().sum(1)[0]
        lowest = (1 - moving.y) / moving.scale
        assert slope[SIZE // 2, SIZE // 2] > 0
        assert slope[round(lowest * SIZE) + 2 :].max() == 0
        return
    np.testing.assert_allclose(
        centre(found["gender"].sum(1, keepdim=True).expand(-1, 3, -1, -1)), place, atol=0.5 / SIZE
    )


def _effort() -> Effort:
    return Effort(steps=24, samples=100, rows=32, window=0.25, segments=torch.zeros(1, 1, SIZE, SIZE).long(), noise=0.0)
