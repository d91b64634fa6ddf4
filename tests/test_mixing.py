"""Mixup and cutmix: what is blended, and that labels follow by share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.models.mixing import blend
from fairaudit.spec import TrainingSpec

torch.set_num_threads(1)


def batch(size: int = 6, side: int = 9) -> torch.Tensor:
    """Return a batch whose every value is the number of its face."""
    return torch.arange(size).float()[:, None, None, None].repeat(1, 2, side, side)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.1, 3), st.integers(2, 12))
def test_cutmix_gives_each_face_the_share_of_its_area(seed: int, beta: float, side: int) -> None:
    """Every pixel is the face's own or its partner's, one rectangle in all, and the share is the face's area."""
    x = batch(side=side)
    mixed, partner, share = blend(x, TrainingSpec(cutmix=beta), np.random.default_rng(seed))
    assert partner is not None
    assert torch.equal(x, batch(side=side))
    for row, other in enumerate(partner.tolist()):
        own, cut = mixed[row] == row, mixed[row] == other
        assert (own | cut).all()
        if other == row:
            continue
        assert own.float().mean().item() == pytest.approx(share, abs=1e-6)
        rows, columns = cut[0].any(1), cut[0].any(0)
        assert torch.equal(cut[0], rows[:, None] & columns)
        assert torch.equal(cut[0], cut[1])


def test_mixup_averages_and_nothing_is_drawn_where_neither_is_on() -> None:
    """Mixup blends values by the share; without either the batch and the draws stay as they are."""
    x, draw = batch(), np.random.default_rng(1)
    mixed, partner, share = blend(x, TrainingSpec(mixup=0.4), draw)
    assert partner is not None
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[partner])
    again = np.random.default_rng(1)
    assert share == again.beta(0.4, 0.4)
    assert partner.tolist() == again.permutation(6).tolist()
    idle = np.random.default_rng(2)
    same, none, whole = blend(x, TrainingSpec(), idle)
    assert (same is x, none, whole) == (True, None, 1.0)
    assert idle.random() == np.random.default_rng(2).random()


def test_embeddings_have_no_place_to_cut() -> None:
    """On embeddings cutmix does nothing; beside mixup, mixup is what they get, and on images both happen."""
    flat = torch.randn(4, 8)
    assert blend(flat, TrainingSpec(cutmix=1.0), np.random.default_rng(0))[1] is None
    assert blend(flat, TrainingSpec(cutmix=1.0, mixup=1.0), np.random.default_rng(0))[1] is not None
    draw = np.random.default_rng(3)
    kinds = set()
    for _ in range(20):
        mixed, _, _ = blend(batch(), TrainingSpec(cutmix=1.0, mixup=1.0), draw)
        kinds.add(bool((mixed == mixed.round()).all()))
    assert kinds == {True, False}
