"""Deletion and insertion curves: optimal on a linear model, a planted place found, chance not taken for skill."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_attribution import CLASSES, SIZE, THREE, Patch, checkpoint, classifier, face_table, small_cnn
from torch import Tensor, nn

from fairaudit.attribution import attribute as whole
from fairaudit.attribution import curves as measuring
from fairaudit.attribution.attribute import attribute
from fairaudit.attribution.curve_rows import NOT_SHOWN, curve_checks, curve_table
from fairaudit.attribution.curves import CHECKS, FILLS, ORDERS, Curves, area, curves_of
from fairaudit.attribution.maps import CELLS, cell_of, cell_sums
from fairaudit.attribution.passes import Pass
from fairaudit.attribution.sanity import FAILED, PASSED
from fairaudit.results import Attribution
from fairaudit.results.columns import CURVE_COLUMNS
from fairaudit.spec import AttributionSpec

ONE = Pass(method="integrated-gradients", baseline="blurred")
TARGET = {"gender": torch.tensor([1])}
QUICK = AttributionSpec(faces_per_head=12, steps=8, alignment="utkface")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny networks are faster in one thread."""
    torch.set_num_threads(1)


class Linear(nn.Module):
    """The logit of one of two classes is the weighted sum of a tiny picture; the other's is 0."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = weight
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits of the only head."""
        self.batches.append(len(x))
        score = (x * self.weight).flatten(1).sum(1)
        return {"gender": torch.stack([torch.zeros_like(score), score], dim=1)}


def tiny(seed: int) -> tuple[Linear, Tensor, Tensor, np.ndarray]:
    """Return a linear model, a picture of 2 × 3 pixels, a fill, and what each pixel adds: weight × distance."""
    generator = torch.Generator().manual_seed(seed)
    weight, x, fill = (torch.randn(1, 1, 2, 3, generator=generator) for _ in range(3))
    return Linear(weight), x, fill, (weight * (x - fill))[0].sum(0).numpy().astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_no_order_deletes_a_linear_model_faster_than_weight_times_distance(seed: int) -> None:
    """All 720 orders of six pixels, by closed form: at every step none gives the class a lower probability when pixels
    go, or a higher one when they come, and the curve is that closed form."""
    model, x, fill, adds = tiny(seed)
    found = curves_of(model, x, [fill], TARGET, {"gender": adds}, steps=6, seed=seed)["gender"]
    bare = float((model.weight * fill).sum())
    flat = adds.ravel()
    orders = np.array(list(itertools.permutations(range(6))))
    shown = np.concatenate([np.zeros((len(orders), 1)), np.cumsum(flat[orders], axis=1)], axis=1)
    deletion = 1 / (1 + np.exp(-(bare + flat.sum() - shown)))
    insertion = 1 / (1 + np.exp(-(bare + shown)))
    np.testing.assert_allclose(found[0, 0, 0], deletion.min(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[1, 0, 0], insertion.max(axis=0), rtol=1e-5)
    assert area(found[0, 0, 0]) == pytest.approx(area(deletion).min(), rel=1e-5)
    assert area(found[0, 0, 0]) == pytest.approx(np.trapezoid(deletion.min(axis=0), np.linspace(0, 1, 7)), rel=1e-5)
    backwards = curves_of(model, x, [fill], TARGET, {"gender": -adds}, steps=6, seed=seed)["gender"]
    np.testing.assert_allclose(backwards[0, 0, 0], deletion.max(axis=0), rtol=1e-5)
    between = found[0, 0, 1:]
    assert (between >= deletion.min(axis=0) - 1e-6).all() and (between <= deletion.max(axis=0) + 1e-6).all()
    np.testing.assert_allclose(found[0, 0, 1:], found[1, 0, 1:, ::-1])  # a random insertion is a deletion from its end


def test_a_cell_is_taken_away_whole_and_by_the_fill() -> None:
    """With one cell that matters, the probability falls at the first step, to exactly that of the picture so filled."""
    weight = torch.zeros(1, 3, SIZE, SIZE)
    weight[:, :, cell_of(SIZE) == 5, :] = 1
    weight = weight * torch.from_numpy(cell_of(SIZE) == 9)
    x, fill = torch.randn(1, 3, SIZE, SIZE).abs(), torch.zeros(1, 3, SIZE, SIZE)
    cells = cell_sums((weight * (x - fill))[0].sum(0).double().numpy())
    assert np.argwhere(cells).tolist() == [[5, 9]]
    model = Linear(weight)
    found = curves_of(model, x, [fill], TARGET, {"gender": cells}, steps=7, seed=0)["gender"]
    full = float(torch.sigmoid((weight * x).sum()))
    np.testing.assert_allclose(found[0, 0, 0], [full, *[0.5] * 7], rtol=1e-6)
    np.testing.assert_allclose(found[1, 0, 0], [0.5, *[full] * 7], rtol=1e-6)
    assert cells.shape == (CELLS, CELLS)


def test_pictures_go_through_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """No forward pass holds more than its part, and the curves do not depend on how large that is."""
    model, x, fill, adds = tiny(0)
    large = curves_of(model, x, [fill, -fill], TARGET, {"gender": adds}, steps=6, seed=0)["gender"]
    monkeypatch.setitem(measuring.rows_a_pass.__globals__["ROW_PIXELS"], "cpu", 4 * 6)
    model.batches.clear()
    small = curves_of(model, x, [fill, -fill], TARGET, {"gender": adds}, steps=6, seed=0)["gender"]
    np.testing.assert_allclose(small, large)
    assert max(model.batches) <= 4 and sum(model.batches) == 2 * (2 + 6 * 5 + 2 * 5)


def test_without_an_attribution_there_is_no_curve() -> None:
    """A head whose cells are all alike, or unknown, has no order."""
    model, x, fill, _ = tiny(0)
    for cells in (np.zeros((2, 3)), np.full((2, 3), np.nan)):
        assert curves_of(model, x, [fill], TARGET, {"gender": cells}, steps=6, seed=0) == {}


def areas_of(cells_of, faces: int = 24) -> list[Curves]:
    """Return the curves of made-up faces in a model that looks at the top left corner; `cells_of` gives the cells."""
    model = classifier(nn.Sequential(Patch()), 3 * 64).requires_grad_(False)
    head = model.heads[0]
    weight = torch.zeros(1, 3, SIZE, SIZE)
    weight[:, :, :8, :8] = 40 * (head.weight[1] - head.weight[0]).view(3, 8, 8).detach()
    with torch.no_grad():
        head.weight.mul_(40)  # sure enough that probabilities move
    found = []
    for i in range(faces):
        x = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(i))
        fills = [torch.zeros_like(x), torch.full_like(x, 0.1)]
        cells = cells_of(cell_sums((weight * (x - fills[0]))[0].sum(0).double().numpy()), i)
        values = curves_of(model, x, fills, TARGET, {"gender": cells}, steps=7, seed=i)
        found.append(Curves(row=i, values=values))
    return found


def test_a_planted_place_falls_faster_than_chance_and_backwards_slower() -> None:
    """The true attribution passes both checks with both fills; its opposite fails them."""
    for sign, outcome in ((1, PASSED), (-1, FAILED)):
        rows = curve_checks(ONE, areas_of(lambda cells, i, sign=sign: sign * cells), 24)
        assert [(row["check"], row["part"]) for row in rows] == [(c, f) for c in CHECKS for f in FILLS]
        assert {row["outcome"] for row in rows} == {outcome}
        below = np.array([row["high"] < 0 if row["check"] == "deletion" else row["low"] > 0 for row in rows])
        assert below.all() if sign > 0 else not below.any()


@pytest.mark.parametrize("smooth", [False, True])
def test_a_random_attribution_rarely_passes(smooth: bool) -> None:
    """Chance, in single cells or in blobs, is not shown to beat chance: of 30 tries at most two (2.5 % each)."""
    from scipy import ndimage

    def noise(cells: np.ndarray, i: int, attempt: int) -> np.ndarray:
        field = np.random.default_rng([i, attempt]).standard_normal(cells.shape)
        return ndimage.gaussian_filter(field, 2) if smooth else field

    passed = dict.fromkeys(CHECKS, 0)
    for attempt in range(30):
        for row in curve_checks(ONE, areas_of(partial(noise, attempt=attempt), 8), 8)[::2]:
            passed[str(row["check"])] += row["outcome"] == PASSED
    assert max(passed.values()) <= 2


def test_rows_are_paired_t_intervals_of_areas_and_both_fills_must_agree() -> None:
    """Each row's difference and limits by scipy, against the kind of random order that it beats by less."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 0.8, (10, 2, 2, 3, 8))
    values[:, 0, :, 0] -= 0.3  # deletion falls much faster, with both fills
    values[:, 1, 0, 0] += 0.3  # insertion with the first fill only
    found = [Curves(row=i, values={"gender": one}) for i, one in enumerate(values)]
    rows = curve_checks(ONE, found, 12)
    assert [row["outcome"] for row in rows] == [PASSED, PASSED, NOT_SHOWN, NOT_SHOWN]
    heights = np.trapezoid(values, np.linspace(0, 1, 8), axis=-1)
    for row in rows:
        c, f = CHECKS.index(row["check"]), FILLS.index(row["part"])
        each = []
        for o in (1, 2):
            apart = heights[:, c, f, 0] - heights[:, c, f, o]
            low, high = stats.t.interval(0.95, 9, apart.mean(), apart.std(ddof=1) / np.sqrt(10))
            each.append((apart.mean(), low, high))
        nearest = max(each, key=lambda e: e[2]) if c == 0 else min(each, key=lambda e: e[1])
        assert (row["value"], row["low"], row["high"]) == pytest.approx(nearest)
        assert row["n"] == 10 and "10 faces of 12, the others have no attribution" in row["sentence"]
    table = pd.DataFrame(curve_table(ONE, found), columns=list(CURVE_COLUMNS))
    one = table[(table["check"] == "insertion") & (table["fill"] == "mean") & (table["order"] == "blocks")]
    np.testing.assert_allclose(one["value"], values[:, 1, 1, 2].mean(axis=0))
    np.testing.assert_allclose(one["share"], np.linspace(0, 1, 8))
    assert len(table) == 2 * 2 * 3 * 8
    (single,) = {row["outcome"] for row in curve_checks(ONE, found[:1], 1)}
    assert single == NOT_SHOWN and "one face gives no interval" in curve_checks(ONE, found[:1], 1)[0]["sentence"]


def test_faces_that_are_all_alike_give_no_interval_and_pass_nothing() -> None:
    """What does not vary between two or more faces has no limits: neither one of no width nor a verdict by it."""
    falling = np.linspace(0.9, 0.1, 8)
    values = np.broadcast_to(falling, (len(CHECKS), len(FILLS), len(ORDERS), 8)).copy()
    values[0, :, 0] -= 0.05  # deletion by the attribution: lower by as much on every face
    found = [Curves(row=i, values={"gender": values}) for i in range(3)]
    rows = curve_checks(ONE, found, 3)
    assert {row["outcome"] for row in rows} == {NOT_SHOWN}
    assert all(np.isnan(row["low"]) and np.isnan(row["high"]) for row in rows)
    assert all("alike in all: no interval" in row["sentence"] and "nan" not in row["sentence"] for row in rows)
    table = pd.DataFrame(curve_table(ONE, found), columns=list(CURVE_COLUMNS))
    assert table[["low", "high"]].isna().all(axis=None) and table["value"].notna().all()


def test_curves_are_part_of_an_attribution_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end: as many faces as the level says, no curves without checks; what is kept is not measured again, and
    another attribution's curves are not taken over."""
    (tmp_path / "faces").mkdir()
    faces, model = face_table(tmp_path / "faces", THREE), checkpoint(classifier(small_cnn(), 8))
    found = attribute(model, faces, by=["race"], attribution=QUICK)
    assert tuple(found.curves.columns) == CURVE_COLUMNS
    assert set(found.curves["task"]) == set(CLASSES) and set(found.curves["order"]) == set(ORDERS)
    assert (found.curves["n"] == measuring.CURVED["quick"]).all()
    checked = found.sanity[found.sanity["check"].isin(CHECKS)]
    assert len(checked) == 2 * 2 * 2
    said = [text for text in found.meta["warnings"] if "check of deletion" in text or "check of insertion" in text]
    assert len(said) == (checked["outcome"] == FAILED).sum()
    found.save(tmp_path / "out")
    pd.testing.assert_frame_equal(Attribution.load(tmp_path / "out").curves, found.curves, check_dtype=False)
    none = attribute(model, faces, by=["race"], attribution=QUICK.model_copy(update={"sanity": "none"}))
    assert none.curves.empty

    keep, made = tmp_path / "out.attributing", []
    measure = measuring._of_face

    def counting(limit: int):
        def work(job, one, network, row, cells, steps):
            if len(made) >= limit:
                raise KeyboardInterrupt
            made.append(row)
            return measure(job, one, network, row, cells, steps)

        return work

    monkeypatch.setattr(measuring, "_of_face", counting(3))
    with pytest.raises(KeyboardInterrupt):
        attribute(model, faces, by=["race"], attribution=QUICK, keep=keep)
    kept = list(keep.rglob("curves*/*.npz"))
    assert len(kept) == 3
    kept[0].write_bytes(b"damaged")
    made.clear()
    monkeypatch.setattr(measuring, "_of_face", counting(100))
    again = attribute(model, faces, by=["race"], attribution=QUICK, keep=keep)
    assert len(made) == measuring.CURVED["quick"] - 2
    pd.testing.assert_frame_equal(again.curves, found.curves, check_exact=False, rtol=1e-5)
    made.clear()
    monkeypatch.setitem(whole.STEPS, "quick", 5)
    attribute(model, faces, by=["race"], attribution=QUICK, keep=keep)
    assert len(made) == measuring.CURVED["quick"]
