"""The confusion cube: counts, sums over shards and over finer axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.errors import DataError
from fairaudit.metrics.cube import confusion_cube

CODES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), max_size=60)


@settings(max_examples=50, deadline=None)
@given(CODES, st.integers(0, 60))
def test_counts_match_a_loop_and_shards_add_up(rows: list[tuple[int, int, int]], cut: int) -> None:
    """Every cell counts its rows, and cubes of two shards sum to the cube of the whole."""
    codes = np.array(rows, dtype=np.int64).reshape(-1, 3)
    cube = confusion_cube(*codes.T, (3, 4, 4))
    expected = np.zeros((3, 4, 4), dtype=np.int64)
    for g, y, p in rows:
        expected[g, y, p] += 1
    assert cube.dtype == np.int64
    assert (cube == expected).all()
    parts = [confusion_cube(*part.T, (3, 4, 4)) for part in (codes[:cut], codes[cut:])]
    assert (parts[0] + parts[1] == cube).all()


def test_weights_sum() -> None:
    """With weights, cells hold their sums."""
    cube = confusion_cube(np.array([0, 0]), np.array([1, 1]), np.array([0, 0]), (1, 2, 2), np.array([0.5, 2.0]))
    assert cube[0, 1, 0] == 2.5


def test_a_code_outside_is_refused() -> None:
    """A code beyond the shape would land in another cell; it is an error instead."""
    with pytest.raises(DataError, match="prediction code"):
        confusion_cube(np.array([0]), np.array([0]), np.array([2]), (1, 2, 2))


@pytest.mark.parametrize("shape", [(126, 2, 5), (3, 50, 53), (900, 50, 53)])
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64])
def test_no_number_of_cells_overflows(shape: tuple[int, int, int], kind: type) -> None:
    """Whatever integers the codes are, and however many cells and stretches, the counts are those of 64-bit numbers."""
    if np.iinfo(kind).max < max(shape):
        pytest.skip("the codes do not fit")
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, size, 150_000).astype(kind) for size in shape]
    packed = np.ravel_multi_index([code.astype(np.int64) for code in codes], shape)
    assert (confusion_cube(*codes, shape).ravel() == np.bincount(packed, minlength=np.prod(shape))).all()
