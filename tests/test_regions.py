"""Regions of the face: a partition that lies where eyes, nose and mouth are, whatever the alignment or the turn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairaudit.attribution import regions
from fairaudit.attribution.regions import REGIONS
from fairaudit.data.frames import ALIGNMENTS, Frame
from fairaudit.errors import UsageError

UPRIGHT = Frame(origin=(0.5, 0.4), across=(0.3, 0.0), down=(0.0, 0.3))


def named(masks: np.ndarray, x: float, y: float) -> str:
    """Return the region at a place given in shares of the picture."""
    height, width = masks.shape[1:]
    return REGIONS[int(masks[:, int(y * height), int(x * width)].argmax())]


@pytest.mark.parametrize("name", ALIGNMENTS)
@pytest.mark.parametrize(("height", "width"), [(112, 112), (64, 96)])
def test_every_pixel_belongs_to_one_region(name: str, height: int, width: int) -> None:
    """Hard masks are 0 or 1, soft ones shares; both sum to 1 everywhere, and all nine regions are in the picture."""
    hard = regions.region_masks(name, height, width)
    soft = regions.region_masks(name, height, width, soft=True)
    assert hard.shape == soft.shape == (len(REGIONS), height, width)
    assert set(np.unique(hard)) == {0.0, 1.0}
    assert ((soft >= 0) & (soft <= 1)).all()
    for masks in (hard, soft):
        np.testing.assert_allclose(masks.sum(axis=0), 1)
    assert all(area > 0 for area in regions.region_areas(hard).values())
    assert sum(regions.region_areas(soft).values()) == pytest.approx(1)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_features_lie_where_the_frame_says(name: str) -> None:
    """Eyes at both ends of `across`, the mouth at the end of `down`, brows above, chin below, corners background."""
    frame = ALIGNMENTS[name]
    masks = regions.region_masks(frame, 200, 200)
    (x, y), a, d = frame.origin, frame.across[0], frame.down[1]
    assert named(masks, x - a / 2, y) == named(masks, x + a / 2, y) == "eyes"
    assert named(masks, x, y + d) == "mouth"
    assert named(masks, x, y + 0.55 * d) == "nose"
    assert named(masks, x - a / 2, y - (0.5 if frame.shapes == "avatar" else 0.27) * d) == "brows"
    assert named(masks, x, y + 1.35 * d) == "chin"
    assert named(masks, x - a * 0.7, y + 0.6 * d) == "cheeks"
    assert named(masks, 0.01, 0.99) == named(masks, 0.99, 0.99) == "background"


def test_known_points_of_both_data_sets_lie_in_their_regions() -> None:
    """Medians of dlib's landmarks on real faces: corners of the eyes, and the base of the nose."""
    for name, eyes, nose in (
        ("utkface", (0.76, 0.605, 0.22, 0.375), (0.49, 0.58)),
        ("fairface", (0.741, 0.598, 0.241, 0.384), (0.491, 0.57)),
    ):
        masks = regions.region_masks(name, 224, 224)
        assert {named(masks, x, 0.305) for x in eyes} == {"eyes"}
        assert named(masks, *nose) == "nose"


def test_an_avatar_is_drawn_where_its_template_says() -> None:
    """The made-up faces' own drawing: eyes, nose and mouth lie in their regions, the marks in the background."""
    from fairaudit.data.avatars import _CORNERS

    masks = regions.region_masks("avatars", 128, 128)
    for x, y in _CORNERS:
        assert named(masks, 0.5 + x / 2, 0.5 + y / 2) == "background"
    for youth in (0.2, 0.5, 0.8):
        assert named(masks, 0.4, 0.5 + (-0.12 + 0.20 * youth) / 2) == "eyes"
        assert named(masks, 0.5, 0.5 + (0.36 + 0.03 * youth) / 2) == "mouth"
        assert named(masks, 0.5, 0.5 + (0.16 + 0.05 * youth) / 2) == "nose"


@given(
    st.floats(-0.9, 0.9),
    st.floats(0.15, 0.4),
    st.floats(0.3, 0.7),
    st.sampled_from([5, 68]),
)
def test_landmarks_give_the_frame_that_made_them(turn: float, length: float, x: float, count: int) -> None:
    """Landmarks made from a turned frame give it back, with five points and with sixty-eight."""
    wanted = Frame(
        origin=(x, 0.4),
        across=(length * np.cos(turn), length * np.sin(turn)),
        down=(-0.3 * np.sin(turn), 0.3 * np.cos(turn)),
    )

    def place(u: float, v: float) -> np.ndarray:
        return wanted.matrix @ np.array([u, v, 1.0])

    points = np.zeros((count, 2))
    if count == 5:
        corners = [(0.8, 0), (0.2, 0), (-0.8, 0), (-0.2, 0), (0.1, regions.NOSE_BASE)]
        points[:] = [place(*corner) for corner in corners]
    else:
        points[36:42], points[42:48], points[48:68] = place(-0.5, 0), place(0.5, 0), place(0, 1)
    found = regions.frame_from_landmarks(points)
    np.testing.assert_allclose(found.matrix, wanted.matrix, atol=1e-9)


def test_landmarks_that_place_no_face_are_refused() -> None:
    """Another number of points, no distance between the eyes, a nose above them: wrong use, said in words."""
    with pytest.raises(UsageError, match="5 or 68"):
        regions.frame_from_landmarks(np.zeros((4, 2)))
    with pytest.raises(UsageError, match="between the eyes"):
        regions.frame_from_landmarks(np.zeros((5, 2)))
    upside = np.array([[0.8, 0.5], [0.6, 0.5], [0.2, 0.5], [0.4, 0.5], [0.5, 0.2]])
    with pytest.raises(UsageError, match="above the eyes"):
        regions.frame_from_landmarks(upside)
    with pytest.raises(UsageError, match="did you mean 'utkface'"):
        regions.region_masks("utkfaces", 8, 8)


def test_a_map_moves_into_common_coordinates() -> None:
    """A spot on the mouth of a turned face lands on the mouth of the upright one, with its sum."""
    turned = Frame(origin=(0.45, 0.42), across=(0.28, 0.12), down=(-0.12, 0.28))
    size = 120
    mouth_x, mouth_y = turned.matrix @ np.array([0.0, 1.0, 1.0])
    y, x = np.mgrid[:size, :size]
    spot = np.exp(-((x + 0.5 - mouth_x * size) ** 2 + (y + 0.5 - mouth_y * size) ** 2) / (2 * 3.0**2))
    spot /= spot.sum()
    moved = regions.to_frame(spot, turned, UPRIGHT)
    assert moved.sum() == pytest.approx(1, abs=0.01)
    row, column = np.unravel_index(moved.argmax(), moved.shape)
    assert (column + 0.5) / size == pytest.approx(0.5, abs=0.01)
    assert (row + 0.5) / size == pytest.approx(0.7, abs=0.01)
    assert regions.to_frame(spot, UPRIGHT, UPRIGHT) is spot
    share = (regions.region_masks(UPRIGHT, size, size)[REGIONS.index("mouth")] * moved).sum()
    assert share > 0.9


def test_cutting_out_the_middle_enlarges_the_face() -> None:
    """Half of the width cut out: everything is twice as large and twice as far from the middle."""
    near = UPRIGHT.zoomed(2)
    assert near.origin == pytest.approx((0.5, 0.3))
    assert near.across == pytest.approx((0.6, 0.0))
    assert near.down == pytest.approx((0.0, 0.6))
    assert regions.chip(regions.CHIP_PADDING) == replace(ALIGNMENTS["fairface"])
    assert regions.chip(1.25).across[0] < ALIGNMENTS["fairface"].across[0] / 2


def test_the_regions_are_described_with_their_areas() -> None:
    """The sentence names every region and its share of the picture."""
    text = regions.describe_regions("utkface", 112, 112)
    areas = regions.region_areas(regions.region_masks("utkface", 112, 112))
    for name, area in areas.items():
        assert f"{name} {100 * area:.1f} %" in text
