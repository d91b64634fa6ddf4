"""Which faces a model is asked about: its test split, all of them, or as many as there are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairaudit.errors import DataError
from fairaudit.inputs import faces_for
from fairaudit.progress import silent


@pytest.fixture
def one_face(tmp_path: Path) -> Path:
    """A class folder with a single face."""
    (tmp_path / "Male").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "Male" / "1.png")
    return tmp_path


@pytest.mark.parametrize("known", [{}, {"split_hash": "another set"}])
def test_one_face_needs_no_split(one_face: Path, known: dict[str, str]) -> None:
    """A model that was trained elsewhere is asked about a single face like any; the sentence says why it is all."""
    faces, which = faces_for(known, one_face, "folders", None, "auto", silent)
    assert len(faces) == 1 and which.startswith("all faces: ")


def test_a_split_that_was_asked_for_must_exist(one_face: Path) -> None:
    """Asked for the test split of one face, there is none, and the error counts what there is."""
    with pytest.raises(DataError, match=r"1 face is too few for a split into three \(train: 1, val: 0, test: 0\)"):
        faces_for({}, one_face, "folders", None, "test", silent)
